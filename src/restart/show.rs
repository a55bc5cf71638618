//! The programs of a restart as text, for people.
//!
//! In: an image and its plan. Out: the system calls of every task, in order. No system call is made:
//! what a real restart asks the machine and the caller is replaced by `facts` that are the same
//! everywhere, so the same image gives the same text.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};

use super::Mode;
use super::facts::{self, ADDRESS_END};
use super::segments;
use crate::error::{Error, RestartError};
use crate::image::{Body, ImageHead, PAGE, TaskState, Vdso};
use crate::plan::{Flags, Plan};
use crate::program::{self, Compiled, Facts, Program, insn::Layout, task_count};

/// Where the caller's vdso shall be, at the end of what a task can have.
const VDSO: u64 = ADDRESS_END - (1 << 24);

/// What the caller's descriptors shall be.
const IMAGE: i32 = 3;
const EVENTS: i32 = 4;
const TERMINAL: i32 = 5;

/// Pid of the caller, as the listing shows it.
const CALLER: i32 = 1;

/// One program as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Whose it is.
    pub title: String,
    /// One line an instruction; jumps name the index of a line.
    pub lines: Vec<String>,
}

/// The programs of all tasks, in the order of the plan; then that of a coordinator task where there is
/// one, and those that run when something goes wrong.
///
/// # Errors
/// ENOMEM where no address range is free in all tasks.
pub fn programs(
    head: &ImageHead,
    plan: &Plan,
    body: &Body,
    mode: Mode,
) -> Result<Vec<Listing>, Error> {
    let facts = facts(head, plan, body, mode)?;
    let compiled = program::compile(head, plan, body, &facts);
    let mut listings: Vec<Listing> = compiled
        .programs
        .iter()
        .enumerate()
        .map(|(index, program)| listing(title(&compiled, plan, body, index), program, &compiled))
        .collect();
    if !compiled.epilogue.is_empty() {
        let title = "coordinator task, once the tree runs".to_owned();
        listings.push(listing(title, &compiled.epilogue, &compiled));
    }
    Ok(listings)
}

fn listing(title: String, program: &Program, compiled: &Compiled) -> Listing {
    let previous = std::iter::once(None).chain(program.iter().map(Some));
    let lines = program
        .iter()
        .zip(previous)
        .map(|(insn, last)| program::describe(insn, last, &compiled.data, compiled.data_base))
        .collect();
    Listing { title, lines }
}

fn title(compiled: &Compiled, plan: &Plan, body: &Body, index: usize) -> String {
    if let Some(task) = plan.tasks.get(index) {
        let kind = match body.tasks.get(index) {
            _ if task.flags.has(Flags::GHOST) => "ghost",
            _ if task.flags.has(Flags::DEAD) => "placeholder",
            Some(TaskState::Zombie(_)) => "zombie",
            _ if task.flags.has(Flags::THREAD) => "thread",
            _ => "task",
        };
        return format!("{kind} {index}, pid {}", task.pid);
    }
    let others = [
        (compiled.coordinator, "coordinator task, pid 1 of the new pid namespace"),
        (Some(compiled.on_failure), "any task, where a call fails"),
        (Some(compiled.on_orphan), "any task, where its parent dies"),
        (Some(compiled.on_fault), "coordinator task, on a fault"),
    ];
    let found = others.iter().find(|(program, _)| *program == Some(index));
    let reader = || format!("program {index}, of a thread that helps to read pages");
    found.map_or_else(reader, |(_, title)| (*title).to_owned())
}

/// Facts as of a caller with no limits, nothing ignored, the root task's credentials and settings, and the
/// vdso of the image.
fn facts(head: &ImageHead, plan: &Plan, body: &Body, mode: Mode) -> Result<Facts, Error> {
    let vdso = own_pages(head.extra.vdso.as_ref());
    let hole = facts::find_hole(vdso.iter().copied(), body).ok_or(RestartError::NoHole)?;
    let region = facts::place(hole, 0);
    let pidns = mode == Mode::PidNs;
    let layout = Layout { base: region.0, tasks: task_count(plan, pidns) as u64, stack: PAGE };
    let root = body.tasks.iter().find_map(|task| match task {
        TaskState::Live(live) => Some(live),
        TaskState::Zombie(_) => None,
    });
    let cred = root.and_then(|live| body.objects.creds.get(live.cred));
    let dump_filter = root.and_then(|live| body.objects.mms.get(live.mm)).map(|mm| mm.flags >> 2);
    let terminal = facts::is_wanted(body).then_some(TERMINAL);
    let spaces: BTreeSet<usize> = segments::owners(body)?.into_values().flatten().collect();
    let ipcs: Vec<(usize, i32)> = spaces.into_iter().zip(TERMINAL + 1..).collect();
    let mut handed = vec![IMAGE, EVENTS];
    handed.extend(terminal.into_iter().chain(ipcs.iter().map(|&(_, fd)| fd)));
    Ok(Facts {
        layout,
        keep_pids: mode != Mode::NewPids,
        pidns,
        image: (IMAGE, 0),
        events: EVENTS,
        debug: None,
        log: None,
        kernel_restores: false,
        staging: facts::staging(body, &handed),
        caller: CALLER,
        vdso,
        region,
        scratch: hole.0,
        privileged: true,
        address_end: ADDRESS_END,
        rseq: None,
        ignored: 0,
        rlimits: [(u64::MAX, u64::MAX); 16],
        handlers: (region.0, region.0),
        own: root.and_then(|live| live.settings.clone()).unwrap_or_default(),
        terminal,
        ptys: Vec::new(),
        timer_ids: true,
        own_timers: Vec::new(),
        dump_filter,
        segments: HashMap::new(),
        ipcs,
        cred: cred.cloned().unwrap_or_default(),
        root: None,
        mntns: false,
        devpts: None,
        strict_proc: false,
        readers: facts::readers(),
    })
}

/// The kernel's own mappings in the caller: data pages, then the code.
fn own_pages(vdso: Option<&Vdso>) -> Vec<(u64, u64)> {
    let Some(vdso) = vdso else { return Vec::new() };
    let code = VDSO.saturating_add(vdso.vvar_size);
    vec![(VDSO, code), (code, code.saturating_add(vdso.vdso_size))]
}
