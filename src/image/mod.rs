//! The checkpoint image: version 6 records as linux-cr wrote them (`docs/image-format.md`).
//!
//! Comes in: a stream of records, nothing in it trusted. Goes out: [`ImageHead`] (what the plan needs)
//! and [`Body`] (what each task needs), both with every reference resolved to an index that is in range.
//! Memory contents are never read here, only located: a [`PageRun`] says where in the stream they lie.
//!
//! Where the bytes come from is not this module's business: a [`Source`] gives them by offset. The one
//! over a file, pipe or socket needs system calls of its own (memfd_create, poll) and is therefore in
//! `restart::source`; a byte slice is one too.
#![forbid(unsafe_code)]

mod body;
mod cursor;
mod extra;
mod head;
mod reader;
pub mod records;
/// New pid numbers in a head.
pub mod renumber;
mod write;

pub use cursor::Source;
pub use reader::Reader;
pub use write::{Layout, PageSource, PagesOf, Room, write_head, write_image};

/// Bytes of a page, the only size that x86_64 images have.
pub const PAGE: u64 = 4096;

/// Everything in front of the first task: what a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHead {
    /// Kernel, format and constants.
    pub header: Header,
    /// The CPU that the tasks ran on.
    pub arch: Arch,
    /// Name of the security module, without padding.
    pub lsm_name: Vec<u8>,
    /// What the security module had to say; at most 200 bytes.
    pub lsm_info: Vec<u8>,
    /// The pid objects.
    pub pids: PidTable,
    /// The task table: depth first, the root task first.
    pub tasks: Vec<TaskIds>,
    /// State that version 6 has no record for (records from 10001 behind the task table).
    pub extra: HeadExtra,
}

/// The header record and the three strings behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 is x86_64.
    pub arch_id: u16,
    /// Kernel version: major, minor, patch.
    pub kernel: [u16; 3],
    /// Format version; 6.
    pub rev: u16,
    /// `ckpt_const`, in the order of the format document.
    pub constants: [u16; 12],
    /// Wall clock at the checkpoint, in seconds since 1970.
    pub time: u64,
    /// Flags that checkpoint(2) was called with.
    pub uflags: u64,
    /// Release of the kernel ("6.18.0"), without padding.
    pub release: Vec<u8>,
    /// Version of the kernel ("#1 SMP ..."), without padding.
    pub version: Vec<u8>,
    /// Machine ("x86_64"), without padding.
    pub machine: Vec<u8>,
}

/// The arch record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// Whether the CPU has FXSAVE.
    pub has_fxsr: bool,
    /// Whether the CPU has XSAVE.
    pub has_xsave: bool,
    /// Bytes of a [`Live::fpu`]. The format has 16 bits for it.
    pub xstate_size: u16,
}

/// The pid objects of an image. Object `i` (from 0) has the tag `offset + i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidTable {
    /// Tag of the first object, as in the image (0 and negative values are for the plan to judge).
    pub offset: i32,
    /// All pid numbers, object after object, outermost namespace first.
    pub numbers: Vec<i32>,
    /// Where each object starts in `numbers`; one more entry than there are objects.
    pub starts: Vec<u32>,
}

impl PidTable {
    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of object `index` (from 0), outermost namespace first; never empty.
    pub fn object(&self, index: usize) -> Option<&[i32]> {
        let (from, to) = (*self.starts.get(index)?, *self.starts.get(index + 1)?);
        self.numbers.get(from as usize..to as usize)
    }

    /// Appends an object.
    pub fn push(&mut self, numbers: &[i32]) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.numbers.extend_from_slice(numbers);
        self.starts.push(self.numbers.len() as u32);
    }
}

/// One row of the task table: tags of pid objects, exactly as in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskIds {
    /// The task's own pid.
    pub pid: i32,
    /// Its parent's; 0: from outside.
    pub ppid: i32,
    /// Its thread-group leader's.
    pub tgid: i32,
    /// Its process group's; 0: from outside; -4097: the root task's.
    pub pgid: i32,
    /// Its session's; likewise.
    pub sid: i32,
    /// Nesting depth of its pid namespace below the root task's.
    pub depth: u32,
}

/// What our own extra records in the head say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadExtra {
    /// The root task is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER).
    pub root_subreaper: bool,
    /// Size and checksum of the vdso that the tasks were mapped; a restart needs the same.
    pub vdso: Option<Vdso>,
}

/// Identity of a vdso.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vdso {
    /// Bytes of the vdso's code.
    pub vdso_size: u64,
    /// Bytes of the data pages in front of it (vvar and its kind).
    pub vvar_size: u64,
    /// FNV-1a (64 bit) of the code.
    pub checksum: u64,
}

/// Everything behind the head: the state of each task, in the order of the task table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    /// One for each row of [`ImageHead::tasks`].
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

/// What tasks share, each kind in a table of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Open files.
    pub files: Vec<OpenFile>,
    /// Pipes.
    pub pipes: Vec<Pipe>,
    /// Descriptor tables.
    pub file_tables: Vec<FileTable>,
    /// Address spaces.
    pub mms: Vec<Mm>,
    /// Shared anonymous memory.
    pub shms: Vec<Shm>,
    /// Current directories.
    pub fss: Vec<Fs>,
    /// Signal actions.
    pub sighands: Vec<SigHand>,
    /// Thread groups.
    pub signals: Vec<Signal>,
    /// Credentials.
    pub creds: Vec<Cred>,
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// What is open.
    pub kind: FileKind,
    /// The kernel's f_mode: 1 read, 2 write, 4 lseek, 8 pread, 0x10 pwrite.
    pub mode: u32,
    /// Flags of open(2), O_CLOEXEC not among them.
    pub flags: u32,
    /// File position in bytes.
    pub pos: u64,
    /// Index in [`Objects::creds`]: who opened it.
    pub cred: usize,
}

/// What an open file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, a directory, or a device that keeps no state: found by its path.
    Named {
        /// Absolute path, without NUL.
        path: Vec<u8>,
    },
    /// An end of a pipe; which one, `mode` says.
    Pipe {
        /// Index in [`Objects::pipes`].
        pipe: usize,
    },
}

/// A pipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pipe {
    /// What has been written and not yet read.
    pub data: Vec<u8>,
}

/// A descriptor table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTable {
    /// Ascending by descriptor.
    pub descriptors: Vec<Descriptor>,
}

/// One descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The number.
    pub fd: i32,
    /// Index in [`Objects::files`].
    pub file: usize,
    /// Whether exec closes it.
    pub cloexec: bool,
}

/// An address space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mm {
    /// Index in [`Objects::files`] of the executable.
    pub exe: Option<usize>,
    /// Default flags for new mappings; only VM_LOCKED (0x2000) may be set.
    pub def_flags: u64,
    /// Core dump filter.
    pub flags: u64,
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end,
    /// env_start, env_end: the order of the record.
    pub fields: [u64; 11],
    /// The auxiliary vector, pairs of type and value, up to and with the AT_NULL pair.
    pub auxv: Vec<u64>,
    /// Ascending by address, not overlapping.
    pub vmas: Vec<Vma>,
    /// Address of the vdso.
    pub vdso: u64,
}

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// VM_* bits of the kernel (format document 2.10).
    pub flags: u64,
    /// What is mapped.
    pub kind: VmaKind,
    /// Offset in what is mapped, in pages.
    pub pgoff: u64,
    /// Size in bytes of the file behind it, 0 without one (shared anonymous memory: see [`Shm::size`]).
    pub file_size: u64,
    /// Private pages that differ from what is mapped, ascending by address.
    pub pages: Vec<PageRun>,
}

/// What a mapping maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmaKind {
    /// The kernel's own pages: vdso, and vvar in front of it.
    Vdso,
    /// Private memory.
    Anon,
    /// A private mapping of a file: index in [`Objects::files`].
    File(usize),
    /// Shared anonymous memory: index in [`Objects::shms`].
    ShmAnon(usize),
    /// A shared mapping of a file: index in [`Objects::files`].
    ShmFile(usize),
}

/// Consecutive pages whose contents lie one after the other in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// Address of the first page; in shared memory its offset, in bytes.
    pub address: u64,
    /// How many pages.
    pub count: u64,
    /// Where the contents start, as an offset in the image's own stream (0 while it is written).
    pub offset: u64,
}

/// Shared anonymous memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shm {
    /// Bytes.
    pub size: u64,
    /// Pages that were ever touched, by offset.
    pub pages: Vec<PageRun>,
}

/// Current directory and its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fs {
    /// File mode mask.
    pub umask: u32,
    /// Absolute path of the current directory, without NUL.
    pub cwd: Vec<u8>,
    /// Absolute path of the root directory, without NUL.
    pub root: Vec<u8>,
}

/// Actions of the signals 1 to 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigHand {
    /// Action of signal `i + 1`.
    pub actions: [SigAction; 64],
}

/// What a signal does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SigAction {
    /// 0 default, 1 ignore, else the handler's address.
    pub handler: u64,
    /// SA_*, SA_RESTORER included.
    pub flags: u64,
    /// Address of the code that returns from the handler.
    pub restorer: u64,
    /// Signals blocked while the handler runs; bit n-1 is signal n.
    pub mask: u64,
}

/// What the threads of a group share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signal {
    /// Soft and hard limits by RLIMIT_* number; `u64::MAX` is infinity.
    pub rlimits: [(u64, u64); 16],
    /// ITIMER_REAL, _VIRTUAL, _PROF: nanoseconds left (0: off) and interval.
    pub itimers: [(u64, u64); 3],
    /// Signals pending for the whole group.
    pub pending: Pending,
}

/// Credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cred {
    /// uid, saved, effective, file system uid.
    pub uids: [u32; 4],
    /// gid, saved, effective, file system gid.
    pub gids: [u32; 4],
    /// Supplementary groups, strictly ascending.
    pub groups: Vec<u32>,
    /// Capability sets: inheritable, permitted, effective, bounding.
    pub caps: [u64; 4],
    /// Securebits.
    pub securebits: u32,
}
