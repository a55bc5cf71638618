//! What each task has for itself.
#![forbid(unsafe_code)]

use super::{Namespaces, Objects};

/// Everything behind the head: the state of each task, in the order of the task table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    /// One for each row of [`super::ImageHead::tasks`].
    pub tasks: Vec<TaskState>,
    /// What tasks share.
    pub objects: Objects,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// It has ended and its parent has not yet asked how.
    Zombie(Zombie),
    /// It runs.
    Live(Box<Live>),
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zombie {
    /// Command name, NUL padded.
    pub comm: [u8; 16],
    /// Status in the format of wait(2).
    pub exit_code: u32,
    /// Signal that its parent gets; -1 for a thread that does not lead its group.
    pub exit_signal: i32,
    /// Parent-death signal, 0 for none.
    pub pdeath_signal: i32,
}

/// A task that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Command name, NUL padded.
    pub comm: [u8; 16],
    /// Signal that its parent gets when it ends; -1 for a thread that does not lead its group.
    pub exit_signal: i32,
    /// Parent-death signal, 0 for none.
    pub pdeath_signal: i32,
    /// User address of set_child_tid, 0 for none.
    pub set_child_tid: u64,
    /// User address of the word that is cleared when the thread ends, 0 for none.
    pub clear_child_tid: u64,
    /// Alternate signal stack: address and bytes, both 0 for none.
    pub altstack: (u64, u32),
    /// User address of the robust futex list, 0 for none.
    pub robust_list: u64,
    /// A system call that was interrupted and must go on.
    pub restart_block: RestartBlock,
    /// Registers.
    pub cpu: Cpu,
    /// The XSAVE area in the kernel's (non-compacted) format, where the FPU was used.
    pub fpu: Option<Vec<u8>>,
    /// Index in [`Objects::creds`].
    pub cred: usize,
    /// uts and ipc namespace.
    pub namespaces: Namespaces,
    /// Index in [`Objects::file_tables`].
    pub files: usize,
    /// Index in [`Objects::mms`].
    pub mm: usize,
    /// Index in [`Objects::fss`].
    pub fs: usize,
    /// Index in [`Objects::sighands`].
    pub sighand: usize,
    /// Index in [`Objects::signals`]; the same for all threads of a group.
    pub signal: usize,
    /// Signals pending for this thread.
    pub pending: Pending,
    /// Signals blocked; bit n-1 is signal n.
    pub blocked: u64,
    /// Restartable sequences area (extra record), where registered.
    pub rseq: Option<Rseq>,
    /// What else the kernel keeps for it (extra record).
    pub settings: Option<Settings>,
    /// POSIX timers of the process (extra records), ascending by id; none but in the leader.
    pub timers: Vec<PosixTimer>,
    /// Whether job control has stopped its thread group (extra record); of one thread of it.
    pub job_stop: Option<JobStop>,
}

/// A timer as timer_create(2) makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosixTimer {
    /// Its id in the process, 0 or more.
    pub id: i32,
    /// The clock, 0 or more.
    pub clock: i32,
    /// Signal that it sends.
    pub signal: i32,
    /// SIGEV_SIGNAL (0), SIGEV_NONE (1) or SIGEV_THREAD (2).
    pub notify: i32,
    /// Value that the signal carries.
    pub value: u64,
    /// Index in the task table of the thread that gets the signal; None: any thread of the process.
    pub thread: Option<usize>,
    /// Nanoseconds until it expires, 0: it is off.
    pub left: u64,
    /// Nanoseconds between later expirations, 0: there are none.
    pub interval: u64,
}

/// A thread group that a signal has stopped, until SIGCONT comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobStop {
    /// SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU.
    pub signal: i32,
    /// Whether its parent can still learn of it by waitpid(2) with WUNTRACED.
    pub untold: bool,
}

impl JobStop {
    /// The signals that stop.
    pub const SIGNALS: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
}

/// Settings of a task that version 6 has no place for. Those of a process are the same in all its threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Policy, niceness and priorities: struct sched_attr of sched_setattr(2), its first 48 bytes.
    pub sched: [u64; 6],
    /// CPUs that it may run on, 64 in each word, lowest first; empty: all.
    pub affinity: Vec<u64>,
    /// ioprio_set(2); 0: by its niceness.
    pub io_priority: u32,
    /// Timer slack in nanoseconds.
    pub timer_slack: u64,
    /// personality(2).
    pub personality: u32,
    /// -1000 to 1000; of the process.
    pub oom_score_adj: i32,
    /// prctl(2), PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// prctl(2), PR_SET_CHILD_SUBREAPER; of the process.
    pub subreaper: bool,
    /// prctl(2), PR_SET_DUMPABLE; of the process.
    pub dumpable: bool,
    /// Whether transparent huge pages are off for it; of the process.
    pub thp_disabled: bool,
    /// Whether what can be written can never be executed (PR_SET_MDWE); of the process.
    pub mdwe: bool,
    /// Whether its children do not get that from it (PR_MDWE_NO_INHERIT); of the process.
    pub mdwe_alone: bool,
    /// Whether reading the time stamp counter sends it SIGSEGV (PR_SET_TSC).
    pub no_tsc: bool,
    /// Ambient capabilities.
    pub ambient: u64,
}

/// Registration of restartable sequences, see rseq(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rseq {
    /// User address of struct rseq.
    pub address: u64,
    /// Its length in bytes, as registered.
    pub length: u32,
    /// The signature that abort handlers carry.
    pub signature: u32,
}

/// An interrupted system call: the kernel's restart block (format document 2.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestartBlock {
    /// CKPT_RESTART_BLOCK_*; 1 is none.
    pub function: u64,
    /// Depend on the function.
    pub args: [u64; 4],
    /// Nanoseconds left until it expires.
    pub left: u64,
}

/// General registers of a 64-bit task, as ptrace(2) has them.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub bp: u64,
    pub bx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub ax: u64,
    pub cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    /// Number of the system call that the task is in, -1 for none.
    pub orig_ax: u64,
    pub ip: u64,
    pub sp: u64,
    pub flags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// Signals that wait to be delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// Which; bit n-1 is signal n.
    pub set: u64,
    /// Queued entries, oldest first, as 88-byte `ckpt_siginfo` (format document 2.15).
    pub queue: Vec<[u8; 88]>,
}
