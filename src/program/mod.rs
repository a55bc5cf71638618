//! Programs: what each task has to do, as data.
//!
//! In: a plan, the state of the tasks, and facts about the machine and the caller. Out: for each task a
//! flat list of system calls that forks its children, waits for the others, and restores its state. This
//! module makes no system call: the lists are run by the vm, or printed.
#![forbid(unsafe_code)]

/// Instructions and the layout of the shared memory.
pub mod insn;

/// The bytes that system calls refer to.
mod data;

/// Which descriptor numbers are open, and the files behind them.
mod files;

/// Forking, sessions, process groups, the way to the first barriers.
mod fork;

/// Address spaces.
pub(crate) mod memory;

/// A caller that becomes the only task itself.
pub mod myself;

/// The task that is pid 1 of a new namespace without being of the image; mounts.
mod namespace;

/// Programs as text.
mod print;

/// Signals that wait to be delivered, and interval timers.
mod pending;

/// uts and ipc namespaces.
pub mod spaces;

/// Programs for a kernel that has restart(2).
pub mod stubs;

/// Threads that help to read pages.
mod readers;

/// POSIX timers.
pub(crate) mod timers;

/// Credentials and the settings of a task.
mod settings;

/// Signals, limits, and the way to the last barrier.
mod signals;

pub use files::bound_names;

use std::collections::HashMap;

use crate::image::{Body, Cred, ImageHead, Live, Namespaces, Settings, TaskState};
use crate::plan::{Flags, Groups, Plan, Task};
use data::Data;
use insn::{Insn, Layout, Op, Stage};
use spaces::Misplaced;

pub use print::describe;

/// One task's instructions.
pub type Program = Vec<Insn>;

/// What the compiler has to know about the machine and the caller.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where things are in shared memory.
    pub layout: Layout,
    /// The tasks keep the pids of the image.
    pub keep_pids: bool,
    /// They live in a new pid namespace.
    pub pidns: bool,
    /// Descriptor of the image in the caller, and where the image starts in it.
    pub image: (i32, u64),
    /// Descriptor of the tasks' end of the event channel in the caller.
    pub events: i32,
    /// Descriptor for debug messages in the caller.
    pub debug: Option<i32>,
    /// Descriptor for the log of restart(2) in the caller, where that is used.
    pub log: Option<i32>,
    /// The tasks are restored by restart(2): what it does is left to it.
    pub kernel_restores: bool,
    /// First descriptor number that neither the caller uses for the above nor a task of the image uses.
    pub staging: i32,
    /// Pid of the caller, which is the root task's parent.
    pub caller: i32,
    /// The kernel's own mappings in the caller, ascending: data pages, then the code (the vdso).
    pub vdso: Vec<(u64, u64)>,
    /// Start and end of the hole that the shared memory lies in; nothing else is mapped there.
    pub region: (u64, u64),
    /// Start of another hole, large enough for the vdso.
    pub scratch: u64,
    /// Whether the caller may set the executable of a process (CAP_CHECKPOINT_RESTORE).
    pub privileged: bool,
    /// Address behind the last that a task can have.
    pub address_end: u64,
    /// Where the calling thread's restartable sequences are registered, with possible lengths.
    pub rseq: Option<(u64, Vec<u32>)>,
    /// Signals that the caller ignores; bit n-1 is signal n.
    pub ignored: u64,
    /// Resource limits of the caller, which the tasks inherit.
    pub rlimits: [(u64, u64); 16],
    /// Addresses of the vm's handlers of SIGUSR1 and SIGSEGV.
    pub handlers: (u64, u64),
    /// Settings of the caller, which the tasks inherit.
    pub own: Settings,
    /// Credentials of the caller, likewise.
    pub cred: Cred,
    /// Descriptor in the caller of the master whose slave takes the place of the terminal from outside.
    pub terminal: Option<i32>,
    /// Numbers in /dev/pts that are taken.
    pub ptys: Vec<u32>,
    /// Whether the kernel can give a POSIX timer a wanted id.
    pub timer_ids: bool,
    /// POSIX timers of the caller, for the case that it becomes the task itself.
    pub own_timers: Vec<i32>,
    /// Core dump filter of the caller, likewise; None where the kernel has none.
    pub dump_filter: Option<u64>,
    /// Ids of the System V shared memory that has been made, by index in the table of shared memory; of others
    /// the id is that of the image.
    pub segments: HashMap<usize, i32>,
    /// ipc namespaces that have been made, by index in their table, and a descriptor of each in the caller.
    pub ipcs: Vec<(usize, i32)>,
    /// Directory to chroot to.
    pub root: Option<Vec<u8>>,
    /// A mount namespace of its own for the tree.
    pub mntns: bool,
    /// A devpts instance of its own; the value says whether a failing unmount of the old one is fatal.
    pub devpts: Option<bool>,
    /// Whether a failing unmount of the old /proc is fatal.
    pub strict_proc: bool,
    /// How many threads may help a task to read its pages.
    pub readers: usize,
}

/// The programs of a tree.
#[derive(Debug)]
pub struct Compiled {
    /// One for each task of the plan, then that of the coordinator task where there is one, then the
    /// three that run when something happens, then those of the threads that help to read pages.
    pub programs: Vec<Program>,
    /// Index of the program of the coordinator task.
    pub coordinator: Option<usize>,
    /// Index of the program that reports a failure.
    pub on_failure: usize,
    /// Index of the program that runs when the parent has died.
    pub on_orphan: usize,
    /// Index of the program that runs on a fault.
    pub on_fault: usize,
    /// What a coordinator task does once the tree runs.
    pub epilogue: Program,
    /// What the instructions refer to.
    pub data: Vec<u8>,
    /// Address of its first byte.
    pub data_base: u64,
    /// Where things are in shared memory.
    pub layout: Layout,
    /// Flags for clone3(2) of the first task.
    pub clone_flags: u64,
    /// Pids for the first task, innermost namespace first; empty: any.
    pub set_tid: Vec<i32>,
    /// How many tasks arrive at the end of [`Stage::Ready`].
    pub ready: u32,
    /// Whether tasks go away before the end of [`Stage::Ghosts`].
    pub ghosts: bool,
}

/// How many status blocks and stacks a tree needs.
pub fn task_count(plan: &Plan, pidns: bool) -> usize {
    plan.tasks.len() + usize::from(needs_coordinator(plan, pidns))
}

/// Whether an extra task must be pid 1 of the new namespace.
pub fn needs_coordinator(plan: &Plan, pidns: bool) -> bool {
    pidns && plan.tasks.first().is_some_and(|root| root.pid != 1)
}

/// For each task the one that restores what its thread group shares: the leader, or where that has ended
/// the first thread that lives.
pub fn restorers(plan: &Plan, body: &Body) -> Vec<usize> {
    let lives = |task: usize| matches!(body.tasks.get(task), Some(TaskState::Live(_)));
    let threads = || {
        let leader = |(task, row): (usize, &Task)| Some((task, row.creator?));
        let threads = plan.tasks.iter().enumerate().filter(|(_, row)| row.flags.has(Flags::THREAD));
        threads.filter_map(leader)
    };
    let mut restorers: Vec<usize> = (0..plan.tasks.len()).collect();
    for (thread, leader) in threads().filter(|&(thread, leader)| lives(thread) && !lives(leader)) {
        if let Some(first) = restorers.get_mut(leader).filter(|r| **r == leader) {
            *first = thread;
        }
    }
    for (thread, leader) in threads() {
        if let Some(restorer) = restorers.get(leader).copied()
            && let Some(slot) = restorers.get_mut(thread)
        {
            *slot = restorer;
        }
    }
    restorers
}

/// What is compiled from, and what has been made so far.
pub(crate) struct Compiler<'a> {
    head: &'a ImageHead,
    plan: &'a Plan,
    body: &'a Body,
    facts: &'a Facts,
    data: Data,
    /// Descriptors under which the root task has opened what several tasks share.
    slots: files::Slots,
    /// Tasks that the image does not hold or holds as dead, whose parent sees them go, by parent.
    leaving: HashMap<usize, Vec<usize>>,
    /// See [`restorers`].
    restorers: Vec<usize>,
    /// Who makes which namespaces.
    makers: Result<Vec<(usize, Namespaces)>, Misplaced>,
    groups: Groups,
    live: u32,
    ghosts: bool,
    /// Programs of the threads that help to read pages.
    readers: Vec<Program>,
}

/// Compiles the programs of all tasks.
///
/// `body` has one state for each of the plan's first tasks, in the same order.
pub fn compile(head: &ImageHead, plan: &Plan, body: &Body, facts: &Facts) -> Compiled {
    let mut compiler = Compiler::new(head, plan, body, facts);
    let programs = (0..plan.tasks.len()).map(|task| compiler.task(task)).collect();
    assemble(compiler, programs, Compiler::coordinator)
}

/// Adds what is not the program of a task of the plan.
fn assemble<'a>(
    mut compiler: Compiler<'a>,
    mut programs: Vec<Program>,
    coordinator_program: impl Fn(&mut Compiler<'a>, usize) -> Program,
) -> Compiled {
    let coordinator = compiler.needs_coordinator().then_some(programs.len());
    let mut epilogue = Vec::new();
    if let Some(index) = coordinator {
        programs.push(coordinator_program(&mut compiler, index));
        epilogue = compiler.epilogue();
    }
    let on_failure = programs.len();
    programs.push(compiler.on_failure());
    programs.push(compiler.on_event("the parent of this task died: it would become an orphan\n"));
    programs.push(compiler.on_event("the coordinator task has faulted (SIGSEGV)\n"));
    compiler.add_readers(&mut programs);
    let (clone_flags, set_tid) = compiler.first_clone();
    Compiled {
        programs,
        coordinator,
        on_failure,
        on_orphan: on_failure + 1,
        on_fault: on_failure + 2,
        epilogue,
        data: compiler.data.bytes().to_vec(),
        data_base: compiler.facts.layout.data(),
        layout: compiler.facts.layout,
        clone_flags,
        set_tid,
        ready: compiler.live + u32::from(coordinator.is_some()),
        ghosts: compiler.ghosts,
    }
}

impl<'a> Compiler<'a> {
    fn new(head: &'a ImageHead, plan: &'a Plan, body: &'a Body, facts: &'a Facts) -> Self {
        let mut leaving: HashMap<usize, Vec<usize>> = HashMap::new();
        let (mut live, mut ghosts) = (0, false);
        let restorers = restorers(plan, body);
        for (task, row) in plan.tasks.iter().enumerate() {
            match body.tasks.get(task) {
                Some(TaskState::Live(_)) => live += 1,
                Some(TaskState::Zombie(_)) | None => {
                    ghosts = true;
                    // A group whose threads live on does not go with its leader.
                    if let Some(parent) = plan.real_parent(task)
                        && !row.flags.has(Flags::THREAD)
                        && restorers.get(task) == Some(&task)
                    {
                        leaving.entry(parent).or_default().push(task);
                    }
                }
            }
        }
        let slots = files::Slots::new(plan, body, facts);
        let data = Data::new(facts.layout.data());
        // Plans without were refused before.
        let groups = plan.groups(facts.pidns).unwrap_or_default();
        Compiler {
            head,
            plan,
            body,
            facts,
            data,
            slots,
            leaving,
            restorers,
            makers: spaces::makers(plan, body),
            groups,
            live,
            ghosts,
            readers: Vec::new(),
        }
    }

    /// The state of a task that runs after the restart; None for ghosts, placeholders and zombies.
    fn state(&self, task: usize) -> Option<&'a Live> {
        match self.body.tasks.get(task) {
            Some(TaskState::Live(live)) => Some(live),
            _ => None,
        }
    }

    fn needs_coordinator(&self) -> bool {
        needs_coordinator(self.plan, self.facts.pidns)
    }

    fn is_thread(&self, task: usize) -> bool {
        self.plan.tasks.get(task).is_some_and(|t| t.flags.has(Flags::THREAD))
    }

    /// The task that leads the thread group of `task`.
    fn leader(&self, task: usize) -> usize {
        let row = self.plan.tasks.get(task).filter(|t| t.flags.has(Flags::THREAD));
        row.and_then(|t| t.creator).unwrap_or(task)
    }

    /// The task that restores what the thread group of `task` shares.
    fn restorer(&self, task: usize) -> usize {
        self.restorers.get(task).copied().unwrap_or(task)
    }

    /// The whole program of one task, in the order of `tree.md` 5.
    fn task(&mut self, task: usize) -> Program {
        let mut p = Program::new();
        if task == 0 {
            self.root_prelude(&mut p);
        }
        self.watch_parent(&mut p, task);
        self.make_spaces(&mut p, task);
        self.fork_children(&mut p, task);
        self.check_in(&mut p, task);
        self.join_group(&mut p, task);
        self.leave_or_stay(&mut p, task);
        if let Some(live) = self.state(task) {
            if self.restorer(task) != task {
                self.await_group(&mut p, task);
            } else {
                self.proc_settings(&mut p, live);
                self.place(&mut p, live);
                self.memory(&mut p, task, live);
                self.descriptors(&mut p, task, live);
                self.signal_actions(&mut p, live);
                self.group_pending(&mut p, task, live);
                self.limits(&mut p, live);
                p.push(store(self.facts.layout.ready(task), 1));
                p.push(wake(self.facts.layout.ready(task)));
            }
            self.thread_state(&mut p, task, live);
            self.finish(&mut p, task, live);
        }
        p
    }

    /// The word that holds the pid of `of`, as a value for the next instruction's field at `offset`.
    fn copy_pid(&self, of: usize, offset: usize) -> Insn {
        let mut insn = Insn::new(Op::Copy);
        insn.arg = [offset as u64, self.facts.layout.pid(of), 0, 0, 0, 0];
        insn
    }

    /// Pid number of `of` as `viewer` sees it, where that is known before they exist.
    fn known_pid(&self, of: usize, viewer: usize) -> Option<u64> {
        if !self.facts.keep_pids {
            return None;
        }
        let level = self.plan.numbers(viewer).len().checked_sub(1)?;
        self.plan.numbers(of).get(level).map(|&pid| pid as u64)
    }

    /// Appends a call whose argument `index` is the pid of `of`.
    fn call_on_pid(&self, p: &mut Program, mut call: Insn, index: usize, of: usize, viewer: usize) {
        match self.known_pid(of, viewer) {
            Some(pid) => {
                if let Some(slot) = call.arg.get_mut(index) {
                    *slot = pid;
                }
            }
            None => {
                p.push(self.copy_pid(of, std::mem::offset_of!(Insn, arg) + 8 * index));
            }
        }
        p.push(call);
    }
}

/// A system call that must succeed.
fn call(nr: libc::c_long, args: &[u64]) -> Insn {
    Insn::call(Op::Call, nr, args)
}

/// A system call that may fail.
fn attempt(nr: libc::c_long, args: &[u64]) -> Insn {
    Insn::call(Op::Try, nr, args)
}

/// A system call with a known result.
fn exact(nr: libc::c_long, args: &[u64], expect: u64) -> Insn {
    Insn { expect, ..Insn::call(Op::Exact, nr, args) }
}

fn store(address: u64, value: u64) -> Insn {
    let mut insn = Insn::new(Op::Store);
    insn.arg = [address, value, 0, 0, 0, 0];
    insn
}

fn wake(address: u64) -> Insn {
    attempt(libc::SYS_futex, &[address, libc::FUTEX_WAKE as u64, i32::MAX as u64])
}

fn wait_for(address: u64, value: u64) -> Insn {
    let mut insn = Insn::new(Op::Wait);
    insn.arg = [address, 0, 0, 0, 0, 0];
    insn.expect = value;
    insn
}

/// Counts one more task at the end of `stage`; the last one runs `last`.
fn arrive(p: &mut Program, layout: &Layout, stage: Stage, of: u32, last: &[Insn]) {
    let mut insn = Insn::new(Op::Arrive);
    insn.arg = [layout.arrived(stage), 0, 0, 0, 0, 0];
    insn.expect = u64::from(of);
    insn.target = (p.len() + 1 + last.len()) as u64;
    p.push(insn);
    p.extend_from_slice(last);
}

/// Waits until the coordinator has released `stage`.
fn await_release(p: &mut Program, layout: &Layout, stage: Stage) {
    p.push(wait_for(layout.go(), stage as u64));
}

/// Words that tasks send to their coordinator.
pub mod word {
    /// Task `n` exists: `n`.
    pub const TASK: u64 = 0;
    /// All have arrived at the end of a stage: this plus the stage's number.
    pub const STAGE: u64 = 1 << 32;
    /// Some task has failed.
    pub const FAILED: u64 = 2 << 32;
    /// The first task of a new pid namespace dies with its parent from now on, and waits for an answer.
    pub const ARMED: u64 = 3 << 32;
}
