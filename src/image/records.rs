//! Names, numbers and sizes of the records, and a walk over them that looks no further than their
//! headers. Source: the published headers of user-cr (`docs/image-format.md`).
#![forbid(unsafe_code)]

use super::cursor::{Cursor, Header, Source};
use crate::error::ImageError;

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The number in the record's header.
    pub number: u32,
    /// The name in the format document.
    pub name: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Kind = Kind { number: $number, name: stringify!($name) };)*
        /// Every record that the format has, by number.
        pub const KINDS: &[Kind] = &[$($name),*];
    };
}

#[allow(missing_docs)]
mod kinds {
    use super::Kind;
    kinds! {
        HEADER = 1; HEADER_ARCH = 2; CONTAINER = 3; BUFFER = 4; STRING = 5; OBJREF = 6; LSM_INFO = 7;
        SECURITY = 8;
        PIDS = 101; TREE = 102; TASK = 103; TASK_NS = 104; TASK_OBJS = 105; RESTART_BLOCK = 106;
        THREAD = 107; CPU = 108; NS = 109; UTS_NS = 110; IPC_NS = 111; MNT_NS = 112;
        CAPABILITIES = 113; USER_NS = 114; CRED = 115; USER = 116; GROUPINFO = 117; TASK_CREDS = 118;
        CPU_FPU = 201; MM_CONTEXT_LDT = 202;
        FILE_TABLE = 301; FILE_DESC = 302; FILE_NAME = 303; FILE = 304; PIPE_BUF = 305; TTY = 306;
        TTY_LDISC = 307; EPOLL_ITEMS = 308;
        MM = 401; VMA = 402; PGARR = 403; HPAGE = 404; MM_CONTEXT = 405; FS = 451;
        IPC = 501; IPC_SHM = 502; IPC_MSG = 503; IPC_MSG_MSG = 504; IPC_SEM = 505;
        TASK_SEM_UNDO_LIST = 506; TASK_SEM_UNDO = 507;
        SIGHAND = 601; SIGNAL = 602; SIGNAL_TASK = 603; SIGPENDING = 604;
        SOCKET = 701; SOCKET_QUEUE = 702; SOCKET_BUFFER = 703; SOCKET_FRAG = 704; SOCKET_UNIX = 705;
        SOCKET_INET = 706; NET_NS = 707; NETDEV = 708; NETDEV_ADDR = 709;
        TAIL = 9001; ERROR = 9999;
        SUBREAPER = 10001; VDSO = 10002; RSEQ = 10011; SETTINGS = 10012; AFFINITY = 10013;
        TIMERFD = 10021; SIGNALFD = 10022; FILE_LOCK = 10024; FILE_OWNER = 10025;
        UNNAMED = 10031; INODE = 10032; FILE_WAS = 10033; PIPE_STATE = 10034; PIPE_PACKETS = 10035;
        SOCKET_MORE = 10041; SOCKET_OPTIONS = 10042;
        JOB_STOP = 10051;
        POSIX_TIMER = 10061; GUARDS = 10062; SEGMENT = 10063;
        PIDFD = 10071; INOTIFY = 10072; WATCH = 10073;
        TTY_OUTSIDE = 10081; TTY_INPUT = 10085; TTY_LINES = 10086; TTY_OUTPUT = 10087;
        VMA_NAME = 10090;
    }

    /// The type with this number, if the format or we have one.
    pub fn kind(number: u32) -> Option<Kind> {
        KINDS
            .binary_search_by_key(&number, |kind| kind.number)
            .ok()
            .and_then(|i| KINDS.get(i).copied())
    }
}
pub use kinds::*;

/// Records from here on are our own; a reader skips those that it does not know.
pub const FIRST_EXTRA: u32 = 10001;

/// Bytes of a record's header: type and length, 32 bits each.
pub const HEADER_LEN: u32 = 8;

/// First field of the HEADER record.
pub const MAGIC_HEAD: u64 = 0x00fe_ed0c_c0a2_d200;

/// Only field of the TAIL record.
pub const MAGIC_TAIL: u64 = 0x002d_2a0c_c0de_ef00;

/// Format version.
pub const REV: u16 = 6;

/// Architecture number of x86_64.
pub const ARCH_X86_64: u16 = 2;

/// The name of a record type, "unknown" where there is none.
pub fn name(number: u32) -> &'static str {
    kind(number).map_or("unknown", |kind| kind.name)
}

/// Types of objects, in the order of their numbers.
const OBJECTS: [&str; 24] = [
    "IGNORE",
    "PID",
    "INODE",
    "FILE_TABLE",
    "FILE",
    "MM",
    "FS",
    "SIGHAND",
    "SIGNAL",
    "NS",
    "UTS_NS",
    "IPC_NS",
    "MNT_NS",
    "USER_NS",
    "CRED",
    "USER",
    "GROUPINFO",
    "SOCK",
    "TTY",
    "SECURITY_PTR",
    "SECURITY",
    "NET_NS",
    "NETDEV",
    "SEM_UNDO",
];

/// The name of an object type, "unknown" where there is none.
pub fn object_name(number: u32) -> &'static str {
    usize::try_from(number).ok().and_then(|n| OBJECTS.get(n).copied()).unwrap_or("unknown")
}

/// What the header of a record says, and of an OBJREF its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordInfo {
    /// Offset in the stream, in bytes.
    pub offset: u64,
    /// Number of its type.
    pub kind: u32,
    /// Name of its type, "unknown" where there is none.
    pub name: &'static str,
    /// Bytes, header included.
    pub len: u32,
    /// Of an OBJREF: number of the object type, and tag.
    pub objref: Option<(u32, i32)>,
}

/// Goes from record to record, up to and with the TAIL record. Only the framing is checked.
pub fn walk<S: Source>(source: S) -> Walk<S> {
    Walk { cursor: Cursor::new(source), done: false }
}

/// See [`walk`]. After an error, and after the TAIL, there is nothing more.
#[derive(Debug)]
pub struct Walk<S> {
    cursor: Cursor<S>,
    done: bool,
}

impl<S: Source> Walk<S> {
    /// The first `most` bytes of a record that was passed, or all if it has fewer; its header too.
    ///
    /// # Errors
    /// Those of reading; the record is there as far as the walk has seen it.
    pub fn contents(&mut self, record: &RecordInfo, most: u32) -> Result<Vec<u8>, ImageError> {
        let behind = self.cursor.position();
        let header = Header { offset: record.offset, kind: record.kind, len: record.len };
        let mut bytes = Vec::new();
        self.cursor.seek(record.offset);
        let read = self.cursor.read(record.len.min(most) as usize, &header, record.name, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        });
        self.cursor.seek(behind);
        read.map(|()| bytes)
    }

    fn step(&mut self) -> Result<RecordInfo, ImageError> {
        let header = self.cursor.header("record")?;
        let mut info = RecordInfo {
            offset: header.offset,
            kind: header.kind,
            name: name(header.kind),
            len: header.len,
            objref: None,
        };
        if header.kind == OBJREF.number && header.len == 16 {
            let record = self.cursor.fixed::<16>(&header, OBJREF.name)?;
            info.objref = Some((record.u32::<8>(), record.i32::<12>()));
            return Ok(info);
        }
        self.cursor.skip_payload(&header, info.name)?;
        if header.kind == SOCKET_FRAG.number {
            // The one place where bytes stand between records: a page of socket data.
            self.cursor.skip(super::PAGE, &header, info.name)?;
        }
        Ok(info)
    }
}

impl<S: Source> Iterator for Walk<S> {
    type Item = Result<RecordInfo, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done = !matches!(&step, Ok(info) if info.kind != TAIL.number);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_number() {
        for number in [1, 8, 101, 405, 9001, 9999, 10001, 10011] {
            assert_eq!(kind(number).map(|k| k.number), Some(number));
        }
        assert_eq!(kind(0), None);
        assert_eq!(name(77), "unknown");
        assert_eq!(object_name(14), "CRED");
        assert_eq!(object_name(24), "unknown");
    }
}
