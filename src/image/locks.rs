//! What tasks have asked the kernel for at an open file: locks, signals.
#![forbid(unsafe_code)]

/// A lock on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLock {
    /// Who holds it, and how it was taken.
    pub kind: LockKind,
    /// Whether nobody else may have one at the same place.
    pub exclusive: bool,
    /// First byte that is locked, at most `i64::MAX`; 0 for [`LockKind::Whole`].
    pub start: u64,
    /// How many bytes are; 0: as many as there will be. `start + length` is at most 2^63.
    pub length: u64,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// The open file, of all of it: flock(2).
    Whole,
    /// The open file: F_OFD_SETLK of fcntl(2).
    Description,
    /// A process: F_SETLK of fcntl(2).
    Process,
}

/// A lock that a process holds, by a descriptor that it was taken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLock {
    /// One of the table.
    pub fd: i32,
    /// Its kind is [`LockKind::Process`].
    pub lock: FileLock,
}

/// Who gets signals about an open file, and which: F_SETOWN_EX and F_SETSIG of fcntl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// Who; None: nobody.
    pub who: Option<Owner>,
    /// The signal, 1 to 64; 0: SIGIO.
    pub signal: i32,
}

/// Who owns an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// One thread: index in the task table.
    Thread(usize),
    /// A process: index of its leader.
    Process(usize),
    /// A process group: index of the task that has its number.
    Group(usize),
}

impl Owner {
    /// F_OWNER_* of linux/fcntl.h, and the task.
    pub fn parts(self) -> (i32, usize) {
        match self {
            Owner::Thread(task) => (0, task),
            Owner::Process(task) => (1, task),
            Owner::Group(task) => (2, task),
        }
    }

    /// From F_OWNER_* and the task.
    pub fn new(kind: i32, task: usize) -> Option<Owner> {
        match kind {
            0 => Some(Owner::Thread(task)),
            1 => Some(Owner::Process(task)),
            2 => Some(Owner::Group(task)),
            _ => None,
        }
    }
}
