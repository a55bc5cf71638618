//! What tasks share.
#![forbid(unsafe_code)]

use super::{FileLock, FileOwner, Pending, ProcessLock, Socket, Waiting};

/// What tasks share, each kind in a table of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Open files.
    pub files: Vec<OpenFile>,
    /// Pipes, named ones too.
    pub pipes: Vec<Pipe>,
    /// Pairs of pseudo terminals.
    pub ptys: Vec<Pty>,
    /// Regular files that no path leads to.
    pub inodes: Vec<Inode>,
    /// uts namespaces.
    pub uts: Vec<Uts>,
    /// ipc namespaces.
    pub ipcs: Vec<Ipc>,
    /// Sockets.
    pub sockets: Vec<Socket>,
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
    /// What its path led to at the checkpoint; None where that is not known.
    pub was: Option<Was>,
    /// Locks that belong to it.
    pub locks: Vec<FileLock>,
    /// Who gets signals about it.
    pub owner: Option<FileOwner>,
}

/// What a path led to at the checkpoint: a restart looks whether it still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Was {
    /// st_mode: type and permissions.
    pub mode: u32,
    /// st_rdev of a device, else 0.
    pub rdev: u64,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// When a regular file was last changed, in nanoseconds since 1970; else 0.
    pub mtime: i64,
}

/// What an open file is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// An end of a named pipe; which one, `mode` says.
    Fifo {
        /// Index in [`Objects::pipes`].
        pipe: usize,
        /// Absolute path, without NUL.
        path: Vec<u8>,
    },
    /// A regular file that no path leads to.
    Unnamed {
        /// Index in [`Objects::inodes`].
        inode: usize,
    },
    /// An end of a pair of pseudo terminals.
    Tty {
        /// Index in [`Objects::ptys`].
        pty: usize,
        /// Whether it is the master.
        master: bool,
    },
    /// A socket.
    Socket {
        /// Index in [`Objects::sockets`].
        socket: usize,
    },
    /// A counter, see eventfd(2).
    EventFd {
        /// Its value.
        count: u64,
        /// Whether a read takes 1 instead of all (EFD_SEMAPHORE).
        semaphore: bool,
    },
    /// See timerfd_create(2) (extra record).
    TimerFd(TimerFd),
    /// See signalfd(2) (extra record).
    SignalFd {
        /// Signals that it takes; bit n-1 is signal n.
        mask: u64,
    },
    /// A process or thread, see pidfd_open(2) (extra record).
    PidFd {
        /// Index in the task table: a leader, where `thread` is not set.
        task: usize,
        /// Whether it is of one thread (PIDFD_THREAD).
        thread: bool,
    },
    /// See inotify(7) (extra record). No events wait in it.
    Inotify {
        /// Ascending by number.
        watches: Vec<Watch>,
    },
    /// See epoll(7).
    Epoll {
        /// By descriptor and file no two are equal.
        items: Vec<EpollItem>,
    },
}

/// What an epoll file waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpollItem {
    /// The descriptor that it was registered with; by now that may be closed, or another file.
    pub fd: i32,
    /// Index in [`Objects::files`].
    pub file: usize,
    /// EPOLL* bits, see epoll_ctl(2).
    pub events: u32,
    /// What the waiter gets.
    pub data: u64,
}

impl EpollItem {
    /// EPOLL* bits that are no events, but say how they are reported.
    pub const MANNERS: u32 =
        (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;

    /// Whether it has had its one event (EPOLLONESHOT), and waits to be armed again.
    pub fn is_spent(&self) -> bool {
        self.events & libc::EPOLLONESHOT as u32 != 0 && self.events & !EpollItem::MANNERS == 0
    }
}

/// A file of which an inotify file tells events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Watch {
    /// Its number, 1 to [`Watch::MOST`].
    pub wd: i32,
    /// Events and manners ([`Watch::MASK`]).
    pub mask: u32,
    /// st_mode of the file: its type counts.
    pub mode: u32,
    /// Absolute path, without NUL; symbolic links are not followed at its end.
    pub path: Vec<u8>,
}

impl Watch {
    /// Largest number: a restart has to count up to it.
    pub const MOST: i32 = 65536;
    /// Bits that a mask can have: IN_* of inotify(7).
    pub const MASK: u32 = libc::IN_ALL_EVENTS | libc::IN_EXCL_UNLINK | libc::IN_ONESHOT;
}

/// A timer that is read as a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TimerFd {
    /// CLOCK_* number.
    pub clock: u32,
    /// The flags of timerfd_settime(2): TFD_TIMER_*.
    pub flags: u32,
    /// Nanoseconds left, 0 where it does not run; of one that was set to a wall-clock time (see
    /// [`TimerFd::is_wall_clock`]) that time, in nanoseconds since 1970.
    pub value: u64,
    /// Nanoseconds between expirations, 0 for one only.
    pub interval: u64,
    /// Expirations that have not been read.
    pub ticks: u64,
}

impl TimerFd {
    /// CLOCK_* numbers that there can be.
    pub const CLOCKS: [i32; 5] = [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME,
        libc::CLOCK_REALTIME_ALARM,
        libc::CLOCK_BOOTTIME_ALARM,
    ];

    /// Whether it waits for a moment of the wall clock, however long the time between checkpoint and
    /// restart. All others go on with the time that was left.
    pub fn is_wall_clock(&self) -> bool {
        let clocks = [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_ALARM];
        let absolute = self.flags & libc::TFD_TIMER_ABSTIME as u32 != 0;
        absolute && clocks.iter().any(|&clock| self.clock == clock as u32)
    }

    /// Whether only a caller with CAP_WAKE_ALARM can make it.
    pub fn is_alarm(&self) -> bool {
        let clocks = [libc::CLOCK_REALTIME_ALARM, libc::CLOCK_BOOTTIME_ALARM];
        clocks.iter().any(|&clock| self.clock == clock as u32)
    }
}

/// A pair of pseudo terminals, see pty(7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pty {
    /// The number of the slave in /dev/pts.
    pub index: u32,
    /// Settings of the line, as struct termios2 has them: c_iflag, c_oflag, c_cflag, c_lflag.
    pub modes: [u32; 4],
    /// Input and output speed.
    pub speeds: [u32; 2],
    /// Line discipline; 0 is N_TTY.
    pub line: u8,
    /// Control characters.
    pub characters: [u8; 19],
    /// Rows, columns, and their size in pixels.
    pub window: [u16; 4],
    /// The master reads packets (TIOCPKT).
    pub packet: bool,
    /// The slave cannot be opened (TIOCSPTLCK).
    pub locked: bool,
    /// The slave cannot be opened again (TIOCEXCL).
    pub exclusive: bool,
    /// Its other end was held outside of the tree (extra record). Only slaves of it are open.
    pub outside: Option<Outside>,
    /// What waits in it to be read (extra record).
    pub waiting: Waiting,
}

/// A terminal whose other end was held outside of the tree: that of the shell that had started the
/// tree, or a console. After a restart the caller's own takes its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outside {
    /// Its device number, as the kernel packs it into 32 bits; 0 where that is not known.
    pub device: u32,
    /// It was the controlling terminal of a session whose leader was not in the tree.
    pub controls: bool,
    /// Where it was: tag of the pid object of the foreground process group, 0 where that was none of
    /// the tree's.
    pub foreground: i32,
}

impl Outside {
    /// Whether others than the tree had the terminal, who have set it as they wanted: a shell at its prompt, for one.
    pub fn is_lent(&self) -> bool {
        self.controls && self.foreground == 0
    }
}

/// The controlling terminal of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Index in [`Objects::ptys`].
    pub pty: usize,
    /// Tag of the pid object of the foreground process group, 0 where there is none.
    pub foreground: i32,
}

/// A pipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pipe {
    /// What has been written and not yet read.
    pub data: Vec<u8>,
    /// Bytes that fit into it; 0: as many as into a new one.
    pub size: u32,
    /// Bytes of each packet in `data`, where it is to be read packet by packet (O_DIRECT); else empty.
    pub packets: Vec<u32>,
    /// Its readers have never had a writer: nobody hung up (named pipes only).
    pub waiting: bool,
}

/// A regular file that no path leads to: whoever has it open or mapped must get the same one again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it came from.
    pub origin: Origin,
    /// Permissions, with set-uid, set-gid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last access and last change of the contents, in nanoseconds since 1970.
    pub times: [i64; 2],
    /// Pages that are not holes, by offset. The last one may reach beyond the end.
    pub pages: Vec<PageRun>,
}

/// What a file without a name came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It has been deleted.
    Deleted {
        /// Absolute path: a directory that there was at the checkpoint, and what its last name was.
        path: Vec<u8>,
    },
    /// memfd_create(2).
    Memfd {
        /// As it was given.
        name: Vec<u8>,
        /// F_SEAL_*, see fcntl(2).
        seals: u32,
    },
}

/// The namespaces of a task that are not the restart's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Namespaces {
    /// Index in [`Objects::uts`].
    pub uts: Option<usize>,
    /// Index in [`Objects::ipcs`].
    pub ipc: Option<usize>,
}

/// What a uts namespace has for itself; at most 64 bytes each, without NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uts {
    /// Name of the host.
    pub node: Vec<u8>,
    /// Name of its NIS domain.
    pub domain: Vec<u8>,
}

/// An ipc namespace without objects: the limits of its sysctls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipc {
    /// kernel.shmmax and kernel.shmall.
    pub shm: [u64; 2],
    /// kernel.shmmni, msgmax, msgmnb, msgmni, and the four numbers of kernel.sem.
    pub others: [i32; 8],
}

impl Default for Ipc {
    /// What the kernel gives a new one (include/uapi/linux/shm.h, msg.h, sem.h).
    fn default() -> Ipc {
        let most = u64::MAX - (1 << 24);
        Ipc {
            shm: [most, most],
            others: [4096, 8192, 16384, 32000, 32000, 1_024_000_000, 500, 32000],
        }
    }
}

/// A descriptor table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTable {
    /// Ascending by descriptor.
    pub descriptors: Vec<Descriptor>,
    /// Locks that belong to the process.
    pub locks: Vec<ProcessLock>,
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
    /// Default flags for new mappings: VM_LOCKED (0x2000), with it VM_LOCKONFAULT (0x80000), or none.
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
    /// Guard regions (madvise(2), MADV_GUARD_INSTALL; extra record), ascending, not touching.
    pub guards: Vec<Guard>,
    /// Name of private anonymous memory (prctl(2), PR_SET_VMA_ANON_NAME; extra record).
    pub name: Option<Vec<u8>>,
}

/// Pages that nobody can touch, inside a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Address of the first page.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
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
    /// What it is besides, where it was made with shmget(2). All that map it are in one ipc namespace.
    pub segment: Option<Segment>,
}

/// System V shared memory (extra record).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// Number by which shmat(2) knows it.
    pub id: i32,
    /// Key by which shmget(2) finds it; 0: none.
    pub key: i32,
    /// Permissions.
    pub mode: u32,
    /// User and group of the owner.
    pub owner: [u32; 2],
    /// User and group of who made it.
    pub creator: [u32; 2],
    /// Bytes; [`Shm::size`] is that in whole pages.
    pub size: u64,
    /// It goes when nobody has it attached any more (IPC_RMID).
    pub removed: bool,
    /// It stays in memory (SHM_LOCK).
    pub locked: bool,
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
    /// The controlling terminal, of a session leader.
    pub terminal: Option<Terminal>,
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
