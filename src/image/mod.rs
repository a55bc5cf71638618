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
pub mod fields;
mod head;
mod locks;
mod objects;
mod reader;
pub mod records;
/// New pid numbers in a head.
pub mod renumber;
mod sockets;
pub mod strict;
mod task;
mod typing;
mod write;

pub use cursor::Source;
pub use locks::*;
pub use objects::*;
pub use reader::Reader;
pub use sockets::*;
pub use task::*;
pub use typing::*;
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
