//! Open files: descriptor tables, open file descriptions and who shares them, pipes.
//!
//! Comes in: the descriptors of each process. Goes out: [`OpenFile`]s, [`FileTable`]s, [`Pipe`]s and
//! [`Socket`]s. Never: a byte taken out of a pipe or socket.

mod epoll;
mod inotify;
mod keeper;
mod locks;
mod pidfds;
mod pipes;
mod plain;
mod sockets;
mod terminals;
mod timers;
mod unnamed;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::collect::Processes;
use super::facts::Facts;
use super::gather::Seen;
use super::names::{self, Names};
use crate::error::DumpError;
use crate::image::{Descriptor, FileKind, FileTable, Inode, OpenFile, Pipe, Pty, Socket};
use crate::sys::procfs;
use crate::sys::{inspect, kcmp, process, stream, watch};
use pipes::Ends;
pub use terminals::{HELD_OUTSIDE, TERMINAL};
pub(super) use unnamed::Key;

/// Bits of the kernel's f_mode.
const MODE_READ: u32 = 1;
const MODE_WRITE: u32 = 2;
const MODE_SEEK: u32 = 4;
/// FMODE_PREAD and FMODE_PWRITE.
const MODE_POSITIONED: u32 = 0x18;
/// FMODE_PATH.
const MODE_PATH: u32 = 0x4000;
/// Devices that keep no state of their own, by (major, minor): null, zero, full, random, urandom.
const PLAIN_DEVICES: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Everything about files that was found so far.
#[derive(Debug)]
pub(super) struct Files {
    /// Open file descriptions, and files that are only mapped.
    pub objects: Vec<OpenFile>,
    /// Pipes.
    pub pipes: Vec<Pipe>,
    /// Regular files without a name.
    pub inodes: Vec<Inode>,
    /// Links of /proc by which these can be opened.
    pub sources: Vec<String>,
    /// Sockets, first those that have descriptors.
    pub sockets: Vec<Socket>,
    /// Paths.
    pub names: Names,
    /// Descriptions with the same cheap properties, ordered as kcmp orders them.
    groups: HashMap<Cheap, Vec<Known>>,
    /// Files that are only mapped, and whether writable.
    mapped: HashMap<(FileKind, bool), usize>,
    inode_index: HashMap<Key, usize>,
    /// Descriptors of files without a name: a link of /proc to each.
    links: HashMap<Key, String>,
    /// Memfds that are saved as plain shared memory.
    only_mapped: HashSet<Key>,
    ends: Vec<Ends>,
    /// Timers, with a descriptor of each.
    timers: Vec<(usize, Holder)>,
    epolls: Vec<epoll::Unresolved>,
    inotifies: Vec<inotify::Unresolved>,
    pidfds: Vec<pidfds::Unresolved>,
    /// Files that can send signals.
    senders: Vec<(usize, Holder)>,
    pipe_index: HashMap<Key, usize>,
    /// Pairs of pseudo terminals.
    pub ptys: Vec<Pty>,
    pairs: Vec<terminals::Pair>,
    /// Whether a terminal that is held outside of the tree is saved.
    outer_terminal: bool,
    found_sockets: Vec<sockets::Found>,
}

/// What equal descriptions have in common, at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cheap {
    device: u64,
    inode: u64,
    flags: u32,
    position: u64,
}

/// Whether a descriptor only looks as if it were close-on-exec. A terminal that was opened with TIOCGPTPEER and
/// O_CLOEXEC keeps that in the flags of the open file, and then /proc shows it at each descriptor. Of the standard ones it is
/// not so: they are there to be handed on.
fn only_looks_close_on_exec(facts: &Facts, seen: &Seen) -> Result<bool, DumpError> {
    if seen.fd > libc::STDERR_FILENO || !seen.link.starts_with(b"/dev/pts/") {
        return Ok(false);
    }
    let holder = Holder::new(facts, seen);
    let flags = stream::flags(holder.copy()?).map_err(holder.failed("get the flags of"))?;
    Ok(flags & libc::O_CLOEXEC != 0)
}

/// A description that has been seen, by one of its descriptors.
#[derive(Debug, Clone, Copy)]
struct Known {
    holder: (i32, i32),
    object: usize,
}

/// A descriptor of a task.
#[derive(Debug, Clone, Copy)]
struct Holder {
    tid: i32,
    fd: i32,
    /// Index in the task table.
    task: usize,
}

impl Holder {
    fn new(facts: &Facts, seen: &Seen) -> Holder {
        Holder { tid: facts.tid, fd: seen.fd, task: facts.index }
    }

    /// A descriptor of ours for the same open file description.
    fn copy(self) -> Result<OwnedFd, DumpError> {
        let holder = process::thread_pidfd(self.tid)
            .or_else(|_| process::pidfd(thread_group(self.tid)))
            .map_err(DumpError::from)?;
        inspect::copy_descriptor(holder, self.fd).map_err(self.failed("copy"))
    }

    /// An error of a system call on it.
    fn failed(self, what: &str) -> impl FnOnce(std::io::Error) -> DumpError + use<> {
        DumpError::task(self.tid, format!("{what} descriptor {}", self.fd))
    }

    /// Says that it cannot be saved; `all` are the facts of all tasks.
    fn refuse(self, all: &[Facts], reason: impl Into<String>) -> DumpError {
        let link = names::link(&format!("/proc/{}/fd/{}", self.tid, self.fd)).unwrap_or_default();
        let object = format!("descriptor {} ({})", self.fd, String::from_utf8_lossy(&link));
        match all.get(self.task) {
            Some(facts) => facts.refuse(object, reason),
            None => {
                let (index, pid, reason) = (self.task, self.tid, reason.into());
                DumpError::Unsupported { index, pid, object, reason }
            }
        }
    }
}

/// Before Linux 6.9 pidfd_open(2) takes leaders only.
fn thread_group(tid: i32) -> i32 {
    let status = procfs::read(&format!("/proc/{tid}/status"));
    status.ok().as_deref().and_then(procfs::status).map_or(tid, |s| s.tgid)
}

impl Seen {
    fn object(&self) -> String {
        format!("descriptor {} ({})", self.fd, String::from_utf8_lossy(&self.link))
    }
}

impl Files {
    /// Nothing yet.
    pub fn new(names: Names, all: &[Facts], processes: &Processes, outer_terminal: bool) -> Files {
        let leaders = all.iter().filter(|f| f.leads());
        let links = leaders.filter_map(|facts| Some((facts, processes.get(&facts.pid)?)));
        let links = links.flat_map(|(facts, process)| {
            let nameless = process.descriptors.iter();
            let nameless = nameless.filter(|s| s.meta.is_file() && s.meta.nlink() == 0);
            nameless.map(|s| ((s.meta.dev(), s.meta.ino()), facts.path(&format!("fd/{}", s.fd))))
        });
        Files {
            inodes: Vec::new(),
            sources: Vec::new(),
            inode_index: HashMap::new(),
            links: links.collect(),
            only_mapped: HashSet::new(),
            objects: Vec::new(),
            pipes: Vec::new(),
            sockets: Vec::new(),
            names,
            groups: HashMap::new(),
            mapped: HashMap::new(),
            ends: Vec::new(),
            timers: Vec::new(),
            epolls: Vec::new(),
            inotifies: Vec::new(),
            pidfds: Vec::new(),
            senders: Vec::new(),
            pipe_index: HashMap::new(),
            ptys: Vec::new(),
            pairs: Vec::new(),
            outer_terminal,
            found_sockets: Vec::new(),
        }
    }

    /// The descriptor table of a task; `cred` is the index of its credentials.
    pub fn table(
        &mut self,
        facts: &Facts,
        seen: &[Seen],
        cred: usize,
    ) -> Result<FileTable, DumpError> {
        let mut descriptors = Vec::with_capacity(seen.len());
        let (mut locks, mut known) = (Vec::new(), HashSet::new());
        for seen in seen {
            let cloexec = seen.info.flags & libc::O_CLOEXEC as u32 != 0
                && !only_looks_close_on_exec(facts, seen)?;
            let file = self.description(facts, seen, cred)?;
            descriptors.push(Descriptor { fd: seen.fd, file, cloexec });
            if known.insert(file) {
                locks.extend(Files::process_locks(facts, seen)?);
            }
        }
        Ok(FileTable { descriptors, locks })
    }

    /// Index of the open file description behind a descriptor.
    fn description(&mut self, facts: &Facts, seen: &Seen, cred: usize) -> Result<usize, DumpError> {
        let key = Cheap {
            device: seen.meta.dev(),
            inode: seen.meta.ino(),
            flags: seen.info.flags & !(libc::O_CLOEXEC as u32),
            position: seen.info.position,
        };
        let holder = (facts.tid, seen.fd);
        let group = self.groups.entry(key).or_default();
        let place = match find(group, |known| kcmp::compare_files(known, holder)) {
            Ok(Ok(at)) => return Ok(group.get(at).map_or(0, |k| k.object)),
            Ok(Err(place)) => place,
            Err(e) => return Err(DumpError::task(facts.tid, "compare its descriptors")(e)),
        };
        let object = self.objects.len();
        group.insert(place, Known { holder, object });
        let file = self.open_file(facts, seen, key.flags, cred)?;
        let holder = Holder::new(facts, seen);
        if sends_signals(seen) {
            self.senders.push((object, holder));
        }
        match file.kind {
            FileKind::TimerFd(_) => self.timers.push((object, holder)),
            FileKind::Inotify { .. } => {
                let lines = watch::lines(&seen.info);
                let lines = lines.ok_or_else(|| facts.malformed(&format!("fdinfo/{}", seen.fd)))?;
                self.inotifies.push(inotify::Unresolved { object, holder, lines });
            }
            FileKind::PidFd { .. } => {
                let pid = pidfds::pid(seen);
                let pid = pid.ok_or_else(|| facts.malformed(&format!("fdinfo/{}", seen.fd)))?;
                self.pidfds.push(pidfds::Unresolved { object, holder, pid });
            }
            FileKind::Epoll { .. } => {
                let lines = epoll::lines(&seen.info);
                let lines = lines.ok_or_else(|| facts.malformed(&format!("fdinfo/{}", seen.fd)))?;
                self.epolls.push(epoll::Unresolved { object, holder, lines });
            }
            _ => {}
        }
        self.objects.push(file);
        Ok(object)
    }

    fn open_file(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        flags: u32,
        cred: usize,
    ) -> Result<OpenFile, DumpError> {
        let refuse = |reason: &str| facts.refuse(seen.object(), reason);
        let mut locks = locks::read(seen).map_err(|reason| refuse(&reason))?;
        locks.retain(|lock| !locks::of_process(lock));
        if flags & libc::O_PATH as u32 != 0 {
            let kind = self.only_named(seen).map_err(refuse)?;
            let (mode, pos, was, owner) = (MODE_PATH, 0, None, None);
            return Ok(OpenFile { kind, mode, flags, pos, cred, was, locks, owner });
        }
        let mut mode = match flags & libc::O_ACCMODE as u32 {
            0 => MODE_READ,
            1 => MODE_WRITE,
            _ => MODE_READ | MODE_WRITE,
        };
        let kind = match seen.meta.mode() & libc::S_IFMT {
            _ if seen.link.starts_with(b"anon_inode:") => {
                plain::kind(seen).map_err(|reason| refuse(&reason))?
            }
            libc::S_IFREG => {
                mode |= MODE_SEEK | MODE_POSITIONED;
                let source = facts.path(&format!("fd/{}", seen.fd));
                let key = (seen.meta.dev(), seen.meta.ino());
                self.regular(&source, &seen.link, key).map_err(|reason| refuse(&reason))?
            }
            libc::S_IFDIR => {
                mode |= MODE_SEEK;
                self.named(seen).map_err(|reason| refuse(&reason))?
            }
            libc::S_IFCHR => {
                let device = (libc::major(seen.meta.rdev()), libc::minor(seen.meta.rdev()));
                if let Some(kind) = self.terminal(facts, seen)? {
                    kind
                } else if PLAIN_DEVICES.contains(&device) {
                    mode |= MODE_SEEK | MODE_POSITIONED;
                    self.named(seen).map_err(|reason| refuse(&reason))?
                } else {
                    return Err(refuse(device_reason(device)));
                }
            }
            libc::S_IFIFO => self.pipe(facts, seen, flags).map_err(|reason| refuse(&reason))?,
            libc::S_IFSOCK => self.socket(facts, seen),
            libc::S_IFBLK => return Err(refuse("block devices cannot be saved")),
            _ => return Err(refuse("descriptors of this kind cannot be saved")),
        };
        let was = matches!(kind, FileKind::Named { .. }).then(|| names::was(&seen.meta));
        let pos = seen.info.position;
        // Of a pidfd it means something else, which its kind says.
        let exclusive = matches!(kind, FileKind::PidFd { .. });
        let flags = if exclusive { flags & !(pidfds::PIDFD_THREAD as u32) } else { flags };
        Ok(OpenFile { kind, mode, flags, pos, cred, was, locks, owner: None })
    }

    /// When all descriptors are known: what one look at a descriptor does not tell.
    pub fn finish(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        self.read_pipes(all)?;
        self.read_terminals(all)?;
        self.read_sockets(all)?;
        self.resolve_epolls(all)?;
        self.resolve_pidfds(all)?;
        self.resolve_inotifies(all)?;
        self.read_owners(all)?;
        for &(object, holder) in &self.timers {
            let timer = timers::read(all, holder)?;
            if let Some(file) = self.objects.get_mut(object) {
                file.kind = FileKind::TimerFd(timer);
            }
        }
        Ok(())
    }

    fn named(&mut self, seen: &Seen) -> Result<FileKind, String> {
        match self.names.mismatch(&seen.link, seen.meta.dev(), seen.meta.ino()) {
            None => Ok(FileKind::Named { path: seen.link.clone() }),
            Some(reason) => Err(reason.to_string()),
        }
    }

    /// What is only named (O_PATH): anything that has a path, links too.
    fn only_named(&mut self, seen: &Seen) -> Result<FileKind, &'static str> {
        if self.names.is_of_proc(seen.meta.dev()) {
            return Err("it is a file of /proc");
        }
        if !seen.link.starts_with(b"/") {
            return Err("it has no path");
        }
        let found = self.names.link_metadata(&seen.link);
        match found.map(|meta| (meta.dev(), meta.ino()) == (seen.meta.dev(), seen.meta.ino())) {
            Some(true) => Ok(FileKind::Named { path: seen.link.clone() }),
            Some(false) => Err("it only names a path (O_PATH), which now leads to another file"),
            None => Err("it only names a path (O_PATH), which leads nowhere any more"),
        }
    }

    /// Index of a file that is mapped, or the program of a process.
    pub fn mapped(&mut self, kind: &FileKind, writable: bool, cred: usize) -> usize {
        let was = match kind {
            FileKind::Named { path } => self.names.look_up(path).map(|found| found.was),
            _ => None,
        };
        *self.mapped.entry((kind.clone(), writable)).or_insert_with(|| {
            let access = if writable { libc::O_RDWR } else { libc::O_RDONLY } as u32;
            let write = if writable { MODE_WRITE } else { 0 };
            self.objects.push(OpenFile {
                kind: kind.clone(),
                mode: MODE_READ | MODE_SEEK | MODE_POSITIONED | write,
                flags: access,
                pos: 0,
                cred,
                was,
                locks: Vec::new(),
                owner: None,
            });
            self.objects.len() - 1
        })
    }
}

/// Where a description is in a group, or where it belongs; `compare` orders one by a descriptor of it.
fn find(
    group: &[Known],
    compare: impl Fn((i32, i32)) -> std::io::Result<Ordering>,
) -> std::io::Result<Result<usize, usize>> {
    let (mut low, mut high) = (0, group.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let Some(known) = group.get(middle) else { break };
        match compare(known.holder)? {
            Ordering::Equal => return Ok(Ok(middle)),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(Err(low))
}

/// Whether signals may tell of it: O_ASYNC, out-of-band data, F_NOTIFY for directories.
fn sends_signals(seen: &Seen) -> bool {
    if seen.info.flags & libc::O_PATH as u32 != 0 {
        return false;
    }
    match seen.meta.mode() & libc::S_IFMT {
        libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFDIR => true,
        libc::S_IFCHR => {
            !PLAIN_DEVICES.contains(&(libc::major(seen.meta.rdev()), libc::minor(seen.meta.rdev())))
        }
        _ => seen.link.starts_with(b"anon_inode:"),
    }
}

/// Majors of terminals: 4 and 5 (console, tty), 136 to 143 (pseudo terminals).
fn device_reason((major, _): (u32, u32)) -> &'static str {
    match major {
        4 | 5 | 136..=143 => TERMINAL,
        _ => "devices of this kind cannot be saved",
    }
}
