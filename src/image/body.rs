//! Everything behind the head: the tasks, and the objects that they share.
//!
//! Every object comes once, behind an OBJREF record that gives it a tag, in front of the first record
//! that names the tag. An OBJREF may stand in front of any record, so reading one object can mean
//! reading another first; how deep is limited by [`LEVELS`], not by the image.
#![forbid(unsafe_code)]

mod creds;
mod epoll;
mod files;
mod kinds;
mod locks;
mod memory;
mod signals;
pub(super) mod sockets;
mod task;
pub(crate) mod terminals;
pub(super) mod unnamed;

use std::collections::{HashMap, VecDeque};

use super::cursor::{Cursor, Fixed, Header, Source};
use super::records::{self, FIRST_EXTRA, Kind};
use super::{Body, ImageHead, Namespaces, Objects};
use crate::error::ImageError;

pub(in crate::image) use locks::KINDS as LOCK_KINDS;

/// Objects inside objects. A writer needs five: file table, file, credentials, user, user namespace.
const LEVELS: u32 = 16;

/// Reads the body; the cursor is then behind the TAIL record.
pub(crate) fn read<S: Source>(
    cursor: &mut Cursor<S>,
    head: &ImageHead,
) -> Result<Body, ImageError> {
    check_head(head)?;
    let mut parser = Parser {
        cursor,
        head,
        tags: HashMap::new(),
        level: 0,
        out: Objects::default(),
        namespaces: Vec::new(),
        groups: Vec::new(),
        groups_in_creds: 0,
        thread_groups: HashMap::new(),
        signal_owners: Vec::new(),
        links: Vec::new(),
        waiting: VecDeque::new(),
        rows: head.tasks.iter().zip(0..).map(|(row, index)| (row.pid, index)).collect(),
    };
    let mut tasks = Vec::new();
    for ids in &head.tasks {
        tasks.push(task::read(&mut parser, ids)?);
    }
    sockets::link(&mut parser)?;
    let tail = parser.fixed::<16>(records::TAIL)?;
    let magic = tail.u64::<8>();
    if magic != records::MAGIC_TAIL {
        return Err(tail.bad(format!("magic {magic:#018x}, must be {:#018x}", records::MAGIC_TAIL)));
    }
    Ok(Body { tasks, objects: parser.out })
}

/// What the head says about the layout of the records to come.
fn check_head(head: &ImageHead) -> Result<(), ImageError> {
    let bad = |reason| ImageError::Bad { record: "HEADER", offset: 0, reason };
    if head.header.arch_id != records::ARCH_X86_64 {
        return Err(ImageError::Unsupported {
            record: "HEADER",
            offset: 0,
            what: format!("architecture {}, only 2 (x86_64) is", head.header.arch_id),
        });
    }
    let [comm, at_vector, signals, .., rlimits, _, _] = head.header.constants;
    for (name, found, wanted) in
        [("task_comm_len", comm, 16), ("signal_nsig", signals, 64), ("rlimit_nlimits", rlimits, 16)]
    {
        if found != wanted {
            return Err(bad(format!("{name} {found}, must be {wanted}")));
        }
    }
    if at_vector == 0 || at_vector % 2 != 0 || at_vector > 1024 {
        return Err(bad(format!("at_vector_size {at_vector}, must be even and at most 1024")));
    }
    Ok(())
}

/// What a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Pid,
    PipeInode,
    ShmInode,
    FileInode,
    Unnamed,
    FileTable,
    File,
    Mm,
    Fs,
    SigHand,
    Signal,
    Ns,
    Uts,
    Ipc,
    UserNs,
    Cred,
    User,
    GroupInfo,
    TtyMaster,
    TtySlave,
    Socket,
}

impl ObjectKind {
    /// As messages name it.
    fn name(self) -> &'static str {
        match self {
            ObjectKind::Pid => "PID",
            ObjectKind::PipeInode => "INODE of a pipe",
            ObjectKind::ShmInode => "INODE of shared memory",
            ObjectKind::FileInode => "INODE of a file",
            ObjectKind::Unnamed => "INODE of a file without a name",
            ObjectKind::FileTable => "FILE_TABLE",
            ObjectKind::File => "FILE",
            ObjectKind::Mm => "MM",
            ObjectKind::Fs => "FS",
            ObjectKind::SigHand => "SIGHAND",
            ObjectKind::Signal => "SIGNAL",
            ObjectKind::Ns => "NS",
            ObjectKind::Uts => "UTS_NS",
            ObjectKind::Ipc => "IPC_NS",
            ObjectKind::UserNs => "USER_NS",
            ObjectKind::Cred => "CRED",
            ObjectKind::User => "USER",
            ObjectKind::GroupInfo => "GROUPINFO",
            ObjectKind::TtyMaster => "TTY of a master",
            ObjectKind::TtySlave => "TTY of a slave",
            ObjectKind::Socket => "SOCK",
        }
    }
}

/// An object and its index in the table of its kind.
type Object = (ObjectKind, usize);

/// The state of reading a body.
struct Parser<'a, S> {
    cursor: &'a mut Cursor<S>,
    head: &'a ImageHead,
    tags: HashMap<i32, Object>,
    level: u32,
    out: Objects,
    /// The NS objects.
    namespaces: Vec<Namespaces>,
    /// The GROUPINFO objects.
    groups: Vec<Vec<u32>>,
    /// Groups that the credentials hold copies of.
    groups_in_creds: usize,
    /// What the threads of a group must share, by the tag of the group.
    thread_groups: HashMap<i32, task::Shared>,
    /// Tag of the thread group of each SIGNAL object.
    signal_owners: Vec<i32>,
    /// Peers of sockets that have been read.
    links: Vec<sockets::Link>,
    /// Sockets whose contents stand behind the descriptor table.
    waiting: VecDeque<usize>,
    /// Index of each task in the task table, by the tag of its pid.
    rows: HashMap<i32, usize>,
}

impl<S: Source> Parser<'_, S> {
    /// The header of the next record that is neither an object (which is read), nor items of an epoll
    /// file (which come when all files that these refer to are known; they are read), nor a foreign extra
    /// record (which is passed over), nor the message of a failed checkpoint.
    fn next(&mut self, expected: &'static str) -> Result<Header, ImageError> {
        loop {
            let header = self.cursor.header(expected)?;
            if header.kind == records::OBJREF.number {
                self.object(&header)?;
            } else if header.kind == records::ERROR.number {
                return Err(super::reader::failed(self.cursor, &header));
            } else if header.kind == records::EPOLL_ITEMS.number {
                epoll::items(self, &header)?;
            } else if header.kind >= FIRST_EXTRA && records::kind(header.kind).is_none() {
                self.cursor.skip_payload(&header, "unknown")?;
            } else {
                return Ok(header);
            }
        }
    }

    /// The header of the next record, which must be of this kind.
    fn expect(&mut self, kind: Kind) -> Result<Header, ImageError> {
        let header = self.next(kind.name)?;
        self.must_be(&header, kind)?;
        Ok(header)
    }

    /// Fails where a record is of another kind.
    fn must_be(&self, header: &Header, kind: Kind) -> Result<(), ImageError> {
        if header.kind != kind.number {
            let found = records::name(header.kind);
            let number = kind.number;
            return Err(header.bad(
                kind.name,
                format!("record of type {} ({found}), must be {number}", header.kind),
            ));
        }
        Ok(())
    }

    /// The next record, which must be of this kind and `N` bytes long.
    fn fixed<const N: usize>(&mut self, kind: Kind) -> Result<Fixed<N>, ImageError> {
        let header = self.expect(kind)?;
        self.cursor.fixed::<N>(&header, kind.name)
    }

    /// Reads the object behind this OBJREF.
    fn object(&mut self, header: &Header) -> Result<(), ImageError> {
        let objref = self.cursor.fixed::<16>(header, records::OBJREF.name)?;
        let (kind, tag) = (objref.u32::<8>(), objref.i32::<12>());
        if tag <= 0 {
            return Err(objref.bad(format!("tag {tag}, must be positive")));
        }
        if self.level == LEVELS {
            return Err(objref.bad(format!("objects inside objects, more than {LEVELS} deep")));
        }
        self.level += 1;
        let object = match records::object_name(kind) {
            "FILE_TABLE" => files::table(self)?,
            "FILE" => files::file(self)?,
            "MM" => memory::read(self)?,
            "FS" => files::fs(self)?,
            "SOCK" => sockets::socket(self)?,
            "SIGHAND" => signals::actions(self)?,
            "TTY" => terminals::read(self)?,
            "NS" => creds::ns(self)?,
            "UTS_NS" => creds::uts(self)?,
            "IPC_NS" => creds::ipc(self)?,
            "USER_NS" => creds::user_ns(self)?,
            "CRED" => creds::cred(self)?,
            "USER" => creds::user(self)?,
            "GROUPINFO" => creds::groups(self)?,
            name @ ("IGNORE" | "PID" | "INODE" | "SIGNAL" | "SECURITY_PTR" | "unknown") => {
                return Err(objref.bad(format!("object of type {kind} ({name}) has no records")));
            }
            name => return Err(objref.unsupported(format!("object of type {kind} ({name})"))),
        };
        self.level -= 1;
        self.define(&objref, tag, object)
    }

    /// Gives a tag to an object.
    fn define<const N: usize>(
        &mut self,
        at: &Fixed<N>,
        tag: i32,
        object: Object,
    ) -> Result<(), ImageError> {
        if let Some((kind, _)) = self.find(tag) {
            return Err(at.bad(format!("tag {tag} is a {} already", kind.name())));
        }
        self.tags.insert(tag, object);
        Ok(())
    }

    /// What a tag stands for.
    fn find(&self, tag: i32) -> Option<Object> {
        let pid = i64::from(tag) - i64::from(self.head.pids.offset);
        if usize::try_from(pid).is_ok_and(|pid| pid < self.head.pids.len()) {
            return Some((ObjectKind::Pid, pid as usize));
        }
        self.tags.get(&tag).copied()
    }

    /// The index of an object that must be of this kind.
    fn index<const N: usize>(
        &self,
        at: &Fixed<N>,
        tag: i32,
        wanted: ObjectKind,
    ) -> Result<usize, ImageError> {
        match self.find(tag) {
            Some((kind, index)) if kind == wanted => Ok(index),
            Some((kind, _)) => Err(at.wrong_object(tag, kind.name(), wanted.name())),
            None => Err(at.bad(format!("tag {tag} ({}) is not known", wanted.name()))),
        }
    }
}

/// Appends an object to the table of its kind.
fn add<T>(table: &mut Vec<T>, kind: ObjectKind, object: T) -> Object {
    table.push(object);
    (kind, table.len() - 1)
}
