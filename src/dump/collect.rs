//! From stopped tasks to the contents of an image.
//!
//! Comes in: a stopped [`Tree`]. Goes out: a [`Snapshot`]: head, body, and where the pages are. What
//! cannot be saved is refused here, before a byte is written.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;

use super::cpu::{self, Machine};
use super::facts::{self, Facts};
use super::files::Files;
use super::gather::{self, Details};
use super::inject::{self, Subject};
use super::memory::{Memory, Pages};
use super::names::Names;
use super::spaces::Spaces;
use super::stop::Tree;
use super::{Options, head, ids, leftover, parallel, settings, signals, timers};
use crate::error::DumpError;
use crate::image::{
    Body, Cred, Fs, HeadExtra, ImageHead, Live, Settings, TaskIds, TaskState, Terminal, Zombie,
};
use crate::sys::kcmp::{self, Kind};
use crate::sys::procfs::Mapping;
use crate::sys::remote::Answers;
use crate::sys::sched;
use crate::sys::vdso;

/// All that an image says.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What stands before the tasks.
    pub head: ImageHead,
    /// The tasks and what they share.
    pub body: Body,
    /// Contents of the pages.
    pub pages: Pages,
}

/// Everything read from one live task before its objects are made.
struct Read<'a> {
    facts: &'a Facts,
    machine: Machine,
    answers: Answers,
    settings: Settings,
}

/// Reads the state of all tasks of the tree. They are afterwards as they were before.
pub(super) fn collect(tree: &Tree, options: &Options<'_>) -> Result<Snapshot, DumpError> {
    let &Options { flags, container, terminal, .. } = options;
    let own = vdso::own()?;
    let (all, processes) = look(tree, &own.code)?;
    if container {
        facts::check_container(tree, &all)?;
    }
    if flags & super::NETNS != 0 {
        facts::refuse_network(&all)?;
    }
    let (pids, tasks) = ids::tables(&all)?;
    refuse_shared_memory(&all)?;
    let vdso = head::vdso(&all, &processes, &own)?;
    let reads = ask(tree, &all, &processes, &own.code)?;
    let root = reads.first();
    let extra = HeadExtra { root_subreaper: root.is_some_and(|r| r.answers.subreaper), vdso };
    let xstate_size = root.map_or(0, |r| r.machine.xstate.len());
    let mut header = head::header(flags)?;
    let names = Names::new(all.iter().find(|f| !f.zombie).map_or(0, |f| f.tid))?;
    let mut builder = Builder::new(names, &all, &processes, terminal);
    let mut states = Vec::with_capacity(all.len());
    let mut reads = reads.into_iter().peekable();
    for facts in &all {
        let own = reads.next_if(|r| r.facts.index == facts.index);
        states.push(match own {
            Some(read) => {
                let job_stop = signals::job_stop(facts, &all);
                let live = builder.live(tree, &processes, read)?;
                TaskState::Live(Box::new(Live { job_stop, ..live }))
            }
            None => TaskState::Zombie(zombie(facts)),
        });
    }
    builder.files.finish(&all)?;
    let segments = builder.memory.finish()?;
    builder.spaces.finish(&all, |space, id| segments.has(space, id))?;
    builder.terminals(&all, &tasks, &states);
    let pages = builder.memory.pages(&builder.files);
    let body = Body { tasks: states, objects: builder.objects() };
    head::fit_auxv(&mut header, &body.objects.mms);
    let head = head::head(header, xstate_size, pids, tasks, extra);
    Ok(Snapshot { head, body, pages })
}

/// What is known of each process, by its pid.
pub(super) type Processes = HashMap<i32, Details>;

/// Reads what /proc tells; anew when tasks had to run a little because another checkpointer died.
fn look(tree: &Tree, vdso: &[u8]) -> Result<(Vec<Facts>, Processes), DumpError> {
    loop {
        let all = facts::read(tree)?;
        let leaders: Vec<&Facts> = all.iter().filter(|f| f.leads() && !f.zombie).collect();
        let details = parallel::map(&leaders, |facts| gather::read(facts))?;
        let pids = leaders.iter().map(|f| f.pid);
        let processes: Processes = pids.zip(details).collect();
        let mut ran = false;
        for facts in &all {
            if let Some(thread) = tree.thread(facts.place) {
                ran |= leftover::run_out(facts, thread, maps_of(&processes, facts.pid), vdso)?;
            }
        }
        if !ran {
            return Ok((all, processes));
        }
    }
}

/// The mappings of a process.
pub(super) fn maps_of(processes: &Processes, pid: i32) -> &[Mapping] {
    processes.get(&pid).map_or(&[], |p| p.maps.as_slice())
}

/// Reads the registers of all live tasks and asks them what only they can tell.
fn ask<'a>(
    tree: &Tree,
    all: &'a [Facts],
    processes: &Processes,
    vdso: &[u8],
) -> Result<Vec<Read<'a>>, DumpError> {
    let mut machines = Vec::with_capacity(all.len());
    for facts in all {
        let Some(thread) = tree.thread(facts.place) else { continue };
        let path = format!("/proc/{}/mem", facts.tid);
        let memory =
            File::open(&path).map_err(DumpError::task(facts.tid, format!("open {path}")))?;
        machines.push((facts, thread, cpu::read(facts, thread, &memory)?));
    }
    let timers = timers::ids(all, processes)?;
    let none = Vec::new();
    let subjects: Vec<Subject<'_>> = machines
        .iter()
        .map(|(facts, thread, machine)| Subject {
            timers: timers.get(&facts.tid).unwrap_or(&none),
            facts,
            thread,
            machine,
            maps: maps_of(processes, facts.pid),
            vdso,
        })
        .collect();
    let answers = inject::ask(tree, &subjects)?;
    let online = sched::online();
    let asked: Vec<_> = machines.iter().map(|(facts, ..)| *facts).zip(&answers).collect();
    let settings = parallel::map(&asked, |&(facts, answers)| {
        settings::read(facts, answers, online.as_deref())
    })?;
    let known = machines.into_iter().zip(answers).zip(settings);
    let read =
        |(((facts, _, machine), answers), settings)| Read { facts, machine, answers, settings };
    Ok(known.map(read).collect())
}

/// Processes that share an address space cannot be saved. They are found by sorting, so that each is
/// compared with few others.
fn refuse_shared_memory(all: &[Facts]) -> Result<(), DumpError> {
    let mut sharing = Sharing::new(Kind::Vm);
    for facts in all.iter().filter(|f| f.leads() && !f.zombie) {
        if let Some(other) = sharing.find(facts, facts.index)? {
            let reason = format!("it is shared with task {other}, which is another process");
            return Err(facts.refuse("its memory", reason));
        }
    }
    Ok(())
}

/// Finds the tasks that share an object.
struct Sharing {
    kind: Kind,
    /// A task that has each object, and the object's index; ordered as kcmp orders them.
    known: Vec<(i32, usize)>,
}

impl Sharing {
    fn new(kind: Kind) -> Sharing {
        Sharing { kind, known: Vec::new() }
    }

    /// The index of the object of this task if it was seen before; else notes it as `index`.
    fn find(&mut self, facts: &Facts, index: usize) -> Result<Option<usize>, DumpError> {
        let (mut low, mut high) = (0, self.known.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let Some(&(other, object)) = self.known.get(middle) else { break };
            let order = kcmp::compare(self.kind, other, facts.tid);
            match order.map_err(DumpError::task(facts.tid, "compare it with other tasks"))? {
                Ordering::Equal => return Ok(Some(object)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        self.known.insert(low, (facts.tid, index));
        Ok(None)
    }
}

/// Objects made so far, and which task has which.
struct Builder {
    files: Files,
    memory: Memory,
    spaces: Spaces,
    body: Body,
    table_sharing: Sharing,
    fs_sharing: Sharing,
    creds: Vec<Cred>,
    /// Index in the task table of each thread.
    tasks: HashMap<i32, usize>,
    /// Address space, signal actions and signal state of each thread group, by its pid.
    groups: HashMap<i32, (usize, usize, usize)>,
}

impl Builder {
    fn new(names: Names, all: &[Facts], processes: &Processes, terminal: bool) -> Builder {
        Builder {
            files: Files::new(names, all, processes, terminal),
            memory: Memory::default(),
            spaces: Spaces::default(),
            body: Body::default(),
            table_sharing: Sharing::new(Kind::Files),
            fs_sharing: Sharing::new(Kind::Fs),
            creds: Vec::new(),
            tasks: all.iter().map(|f| (f.tid, f.index)).collect(),
            groups: HashMap::new(),
        }
    }

    fn live(
        &mut self,
        tree: &Tree,
        processes: &Processes,
        read: Read<'_>,
    ) -> Result<Live, DumpError> {
        let Read { facts, machine, answers, settings } = read;
        let thread = tree.thread(facts.place);
        let thread = thread.ok_or_else(|| facts.refuse("the task", "it has ended"))?;
        let cred = self.cred(facts, &answers);
        let details = processes.get(&facts.pid);
        let details = details.ok_or_else(|| facts.refuse("the task", "it has ended"))?;
        let files = self.table(facts, details, cred)?;
        let (mm, sighand, signal) = match self.groups.get(&facts.pid) {
            Some(&known) => known,
            None => {
                let mm = self.memory.add(facts, details, &answers, &mut self.files, cred)?;
                self.body.objects.sighands.push(signals::actions(facts, &answers));
                self.body.objects.signals.push(signals::group(facts, thread, &answers, details)?);
                let made = self.body.objects.signals.len() - 1;
                *self.groups.entry(facts.pid).or_insert((mm, made, made))
            }
        };
        let timers = if facts.leads() {
            timers::read(facts, &details.timers, &answers, &self.tasks)?
        } else {
            Vec::new()
        };
        let (address, flags, size) = answers.altstack;
        let disabled = flags & libc::SS_DISABLE != 0;
        if flags & !(libc::SS_DISABLE | libc::SS_ONSTACK) != 0 {
            return Err(facts.refuse("alternate signal stack", format!("flags {flags:#x}")));
        }
        let altstack = if disabled { (0, 0) } else { (address, size.min(u32::MAX.into()) as u32) };
        let robust_list = crate::sys::inspect::robust_list(facts.tid);
        Ok(Live {
            comm: comm(&facts.stat.comm),
            exit_signal: facts.stat.exit_signal,
            pdeath_signal: answers.pdeath_signal,
            set_child_tid: 0,
            clear_child_tid: answers.clear_child_tid.unwrap_or(0),
            altstack,
            robust_list: robust_list.map_err(DumpError::task(facts.tid, "get its robust list"))?,
            restart_block: machine.restart_block,
            cpu: machine.cpu,
            fpu: Some(machine.xstate),
            cred,
            namespaces: self.spaces.of(facts)?,
            files,
            mm,
            fs: self.fs(facts, details)?,
            sighand,
            signal,
            pending: signals::pending(facts, thread, false)?,
            blocked: machine.mask,
            rseq: machine.rseq,
            settings: Some(settings),
            timers,
            job_stop: None,
        })
    }

    fn cred(&mut self, facts: &Facts, answers: &Answers) -> usize {
        let status = &facts.status;
        // /proc has real, effective, saved; the image has real, saved, effective.
        let order = |[real, effective, saved, fs]: [u32; 4]| [real, saved, effective, fs];
        let mut groups = status.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        let [inheritable, permitted, effective, bounding, _] = status.caps;
        let cred = Cred {
            uids: order(status.uids),
            gids: order(status.gids),
            groups,
            caps: [inheritable, permitted, effective, bounding],
            securebits: answers.securebits,
        };
        // Trees have few different ones.
        self.creds.iter().position(|c| *c == cred).unwrap_or_else(|| {
            self.creds.push(cred);
            self.creds.len() - 1
        })
    }

    /// A thread that does not share its leader's is looked at itself.
    fn table(&mut self, facts: &Facts, details: &Details, cred: usize) -> Result<usize, DumpError> {
        let tables = &mut self.body.objects.file_tables;
        if let Some(known) = self.table_sharing.find(facts, tables.len())? {
            return Ok(known);
        }
        let table = if facts.leads() {
            self.files.table(facts, &details.descriptors, cred)?
        } else {
            self.files.table(facts, &gather::descriptors(facts)?, cred)?
        };
        tables.push(table);
        Ok(tables.len() - 1)
    }

    fn fs(&mut self, facts: &Facts, details: &Details) -> Result<usize, DumpError> {
        let fss = &mut self.body.objects.fss;
        if let Some(known) = self.fs_sharing.find(facts, fss.len())? {
            return Ok(known);
        }
        let (cwd, root) = if facts.leads() {
            (details.cwd.clone(), details.root.clone())
        } else {
            (gather::link(facts, "cwd")?, gather::link(facts, "root")?)
        };
        for (what, place) in [("root", &root), ("current", &cwd)] {
            let names = &mut self.files.names;
            if let Some(reason) = names.mismatch(&place.path, place.device, place.inode) {
                let object = format!("{what} directory {}", String::from_utf8_lossy(&place.path));
                return Err(facts.refuse(object, reason.to_string()));
            }
        }
        let umask = facts.status.umask.unwrap_or(0o022);
        fss.push(Fs { umask, cwd: cwd.path, root: root.path });
        Ok(fss.len() - 1)
    }

    /// The controlling terminals of the sessions, where a task has them open.
    fn terminals(&mut self, all: &[Facts], tasks: &[TaskIds], states: &[TaskState]) {
        for (facts, state) in all.iter().zip(states) {
            let TaskState::Live(live) = state else { continue };
            let Some(pty) = self.files.controlling(facts.stat.terminal) else { continue };
            let mut members = all.iter().zip(tasks);
            let member = members.find(|(f, _)| f.stat.group == facts.stat.foreground);
            let foreground = member.map_or(0, |(_, row)| row.pgid);
            if all.iter().all(|f| f.pid != facts.stat.session) {
                let outside = self.files.ptys.get_mut(pty).and_then(|pty| pty.outside.as_mut());
                if let Some(outside) = outside {
                    (outside.controls, outside.foreground) = (true, foreground);
                }
            }
            if facts.stat.session != facts.pid || !facts.leads() {
                continue;
            }
            if let Some(signal) = self.body.objects.signals.get_mut(live.signal) {
                signal.terminal = Some(Terminal { pty, foreground });
            }
        }
    }

    fn objects(self) -> crate::image::Objects {
        let mut objects = self.body.objects;
        objects.files = self.files.objects;
        objects.pipes = self.files.pipes;
        objects.ptys = self.files.ptys;
        objects.inodes = self.files.inodes;
        objects.sockets = self.files.sockets;
        objects.uts = self.spaces.uts;
        objects.ipcs = self.spaces.ipcs.into_iter().map(|found| found.ipc).collect();
        objects.mms = self.memory.mms;
        objects.shms = self.memory.shms;
        objects.creds = self.creds;
        objects
    }
}

fn zombie(facts: &Facts) -> Zombie {
    Zombie {
        comm: comm(&facts.stat.comm),
        exit_code: facts.stat.exit_code as u32,
        exit_signal: facts.stat.exit_signal,
        pdeath_signal: 0,
    }
}

/// Sixteen bytes, the last of which is NUL.
fn comm(name: &[u8]) -> [u8; 16] {
    let mut comm = [0u8; 16];
    for (slot, byte) in comm.iter_mut().take(15).zip(name) {
        *slot = *byte;
    }
    comm
}
