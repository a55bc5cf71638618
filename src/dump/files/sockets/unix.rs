//! Unix sockets: names, peers, and those that wait to be accepted.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::queue::{self, Arrived};
use super::{Found, Open};
use crate::dump::facts::Facts;
use crate::dump::names::{self, Names};
use crate::error::{DumpError, SysError};
use crate::image::{
    Message, Socket, SocketFamily, SocketFile, SocketKind, SocketSettings, SocketState, UnixName,
    UnixSocket,
};
use crate::sys::inspect;
use crate::sys::sockdiag::{Diag, UnixInfo};
use crate::sys::socket;

const OUTSIDE: &str = "the other end of the socket is held by a process outside the tree";

/// What the kernel says about each socket; of those that are no unix sockets nothing.
pub(super) fn infos(all: &[Facts], open: &[Open]) -> Result<Vec<UnixInfo>, DumpError> {
    if open.iter().all(|open| open.family != libc::AF_UNIX) {
        return Ok(vec![UnixInfo::default(); open.len()]);
    }
    let failed = |e| SysError::new("ask about sockets (sock_diag)", e);
    let namespace = all.first().map(namespace).transpose()?.flatten();
    let diag = Diag::open(namespace).map_err(failed)?;
    let mut infos = Vec::with_capacity(open.len());
    for open in open {
        if open.family != libc::AF_UNIX {
            infos.push(UnixInfo::default());
            continue;
        }
        let info = diag.unix(open.found.inode).map_err(failed)?;
        let reason = "it belongs to another network namespace than the tree";
        infos.push(info.ok_or_else(|| open.found.holder.refuse(all, reason))?);
    }
    Ok(infos)
}

/// The network namespace of the tree, if it is not ours.
fn namespace(root: &Facts) -> Result<Option<std::fs::File>, DumpError> {
    let path = root.path("ns/net");
    let failed = || DumpError::task(root.tid, format!("open {path}"));
    let own = std::fs::metadata("/proc/self/ns/net").ok().map(|m| m.ino());
    let theirs = std::fs::metadata(&path).map_err(failed())?.ino();
    if own == Some(theirs) {
        return Ok(None);
    }
    std::fs::File::open(&path).map(Some).map_err(failed())
}

/// Makes sockets of what was found.
pub(super) struct Reader<'a> {
    all: &'a [Facts],
    open: &'a [Open],
    infos: &'a [UnixInfo],
    names: &'a mut Names,
    /// Index of each socket by its inode number.
    by_inode: HashMap<u32, usize>,
    /// For those that wait to be accepted: the socket that listens, and the place.
    waiting: HashMap<u32, (usize, u32)>,
    /// Inode numbers of the files that sockets of the tree are bound to.
    files: HashSet<u32>,
    /// What has arrived at each socket.
    arrived: Vec<Vec<Arrived>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        all: &'a [Facts],
        open: &'a [Open],
        infos: &'a [UnixInfo],
        names: &'a mut Names,
    ) -> Reader<'a> {
        let mut waiting = HashMap::new();
        for (listener, info) in infos.iter().enumerate() {
            for (place, &inode) in (0..).zip(&info.waiting) {
                waiting.insert(inode, (listener, place));
            }
        }
        let by_inode = open.iter().enumerate().map(|(i, open)| (open.found.inode, i)).collect();
        let files = infos.iter().filter_map(|info| info.file).collect();
        let arrived = open.iter().map(|_| Vec::new()).collect();
        Reader { all, open, infos, names, by_inode, waiting, files, arrived }
    }

    /// Reads one, but for who sent what waits in it.
    pub(super) fn socket(
        &mut self,
        index: usize,
        settings: SocketSettings,
    ) -> Result<Socket, DumpError> {
        let (Some(open), Some(info)) = (self.open.get(index), self.infos.get(index)) else {
            return Err(SysError::new("read sockets", std::io::ErrorKind::NotFound.into()).into());
        };
        let holder = open.found.holder;
        let address = socket::address(&open.copy, false);
        let address = address.map_err(holder.failed("read the address of"))?;
        let name = self.name(&open.found, &address, info)?;
        let mut unix = UnixSocket { name, peer: None, place: 0 };
        let state = if info.listens {
            self.check_waiting(open, info)?;
            SocketState::Listening { backlog: info.sent }
        } else {
            self.peer(open, info, &mut unix)?
        };
        let polled = inspect::poll_now(&open.copy, 0).map_err(holder.failed("poll"))?;
        let reset = polled & libc::POLLERR != 0;
        if reset && !(unix.peer == Some(CLOSED) && open.kind != SocketKind::Datagram) {
            return Err(holder.refuse(self.all, "an error waits in it to be told"));
        }
        if !info.listens {
            // To look into anything but a stream would take the error out.
            if reset && open.kind != SocketKind::Stream && info.received > 0 {
                return Err(holder.refuse(self.all, "an error waits in it behind a message"));
            }
            if !reset || open.kind == SocketKind::Stream {
                let option = settings.option(libc::SOL_SOCKET, libc::SO_PEEK_OFF);
                let arrived =
                    queue::read(self.all, open, option.unwrap_or(-1), info.shutdown & 1 != 0)?;
                if let Some(slot) = self.arrived.get_mut(index) {
                    *slot = arrived;
                }
            }
        }
        Ok(Socket {
            kind: open.kind,
            state,
            closed: false,
            reset,
            shutdown: info.shutdown,
            settings,
            queue: Vec::new(),
            family: SocketFamily::Unix(unix),
        })
    }

    /// All who wait for this socket must be in the tree.
    fn check_waiting(&self, open: &Open, info: &UnixInfo) -> Result<(), DumpError> {
        let refuse = |reason: &str| Err(open.found.holder.refuse(self.all, reason));
        for inode in &info.waiting {
            if *inode == 0 {
                return refuse("a connection waits to be accepted whose other end has been closed");
            }
            if !self.by_inode.contains_key(inode) {
                return refuse("a connection of a process outside the tree waits to be accepted");
            }
        }
        Ok(())
    }

    /// Whom it is connected to.
    fn peer(
        &self,
        open: &Open,
        info: &UnixInfo,
        unix: &mut UnixSocket,
    ) -> Result<SocketState, DumpError> {
        let refuse = |reason: &str| Err(open.found.holder.refuse(self.all, reason));
        let Some(peer) = info.peer else { return Ok(SocketState::Unconnected) };
        if let Some(&(listener, place)) = self.waiting.get(&open.found.inode) {
            if info.sent != 0 {
                return refuse("data waits in a connection that has not been accepted yet");
            }
            (unix.peer, unix.place) = (Some(listener), place);
        } else if peer != 0 {
            let Some(&peer) = self.by_inode.get(&peer) else { return refuse(OUTSIDE) };
            unix.peer = Some(peer);
        } else if open.kind == SocketKind::Datagram || info.shutdown == 3 {
            unix.peer = Some(CLOSED);
        } else {
            // It waits for somebody outside.
            return refuse(OUTSIDE);
        }
        Ok(SocketState::Connected)
    }

    /// The name in a sockaddr_un, if there is one, and where its path leads.
    fn name(
        &mut self,
        found: &Found,
        address: &[u8],
        info: &UnixInfo,
    ) -> Result<Option<UnixName>, DumpError> {
        let Some([first, ..]) = address.get(2..) else { return Ok(None) };
        let bytes = address.get(2..).unwrap_or_default();
        if *first == 0 {
            return Ok(Some(UnixName { address: bytes.to_vec(), directory: None, file: None }));
        }
        let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if *first == b'/' {
            let file = self.file(found, &path, info)?;
            return Ok(Some(UnixName { address: path, directory: None, file }));
        }
        // Where a relative path began was the directory of whoever bound it: mostly one of the tree.
        let tids = std::iter::once(found.holder.tid).chain(self.all.iter().map(|f| f.tid));
        let mut directories: Vec<Vec<u8>> = Vec::new();
        for tid in tids {
            match names::link(&format!("/proc/{tid}/cwd")) {
                Ok(directory) if !directories.contains(&directory) => directories.push(directory),
                _ => {}
            }
        }
        let full = |directory: &[u8]| [directory, b"/", &path].concat();
        let leads = |names: &Names, directory: &[u8]| {
            let inode = names.link_metadata(&full(directory)).map(|m| m.ino() as u32);
            inode.is_some() && inode == info.file
        };
        let right = directories.iter().find(|d| leads(self.names, d));
        let Some(directory) = right.or(directories.first()).cloned() else {
            return Err(found.holder.refuse(self.all, "its path cannot be found"));
        };
        let file = self.file(found, &full(&directory), info)?;
        Ok(Some(UnixName { address: path, directory: Some(directory), file }))
    }

    /// The file that a path leads to, if it is that of this socket.
    fn file(
        &mut self,
        found: &Found,
        path: &[u8],
        info: &UnixInfo,
    ) -> Result<Option<SocketFile>, DumpError> {
        let meta = self.names.link_metadata(path);
        let leads = meta.as_ref().is_some_and(|meta| Some(meta.ino() as u32) == info.file);
        let root = names::link(&format!("/proc/{}/root", found.holder.tid));
        if !leads && root.is_ok_and(|root| root != b"/") {
            let path = String::from_utf8_lossy(path);
            let reason =
                format!("its path {path} does not lead to it, or only in a root directory");
            return Err(found.holder.refuse(self.all, reason));
        }
        let Some(meta) = meta else { return Ok(None) };
        let inode = Some(meta.ino() as u32);
        if meta.file_type().is_socket() && inode == info.file {
            let (uid, gid) = (meta.uid(), meta.gid());
            return Ok(Some(SocketFile { mode: meta.mode() & 0o7777, uid, gid }));
        }
        if inode.is_some_and(|inode| self.files.contains(&inode)) {
            // Another socket of the tree has been bound there since.
            return Ok(None);
        }
        let path = String::from_utf8_lossy(path);
        Err(found.holder.refuse(self.all, format!("its path {path} now leads to another file")))
    }

    /// Adds those that are closed, and says who sent what.
    pub(super) fn finish(self, mut sockets: Vec<Socket>) -> Result<Vec<Socket>, DumpError> {
        for (index, open) in self.open.iter().enumerate() {
            let made = sockets.len();
            let closed = match sockets.get_mut(index).map(|socket| &mut socket.family) {
                Some(SocketFamily::Unix(unix)) if unix.peer == Some(CLOSED) => {
                    unix.peer = Some(made);
                    true
                }
                _ => false,
            };
            if closed {
                let name = closed_name(&sockets, open);
                let peer = Some(index);
                sockets.push(Socket {
                    kind: open.kind,
                    state: SocketState::Connected,
                    closed: true,
                    reset: false,
                    shutdown: 0,
                    settings: SocketSettings::default(),
                    queue: Vec::new(),
                    family: SocketFamily::Unix(UnixSocket { name, peer, place: 0 }),
                });
            }
        }
        for (index, (open, arrived)) in self.open.iter().zip(self.arrived).enumerate() {
            check_connection(self.all, open, &sockets, index)?;
            let mut queue = Vec::with_capacity(arrived.len());
            for Arrived { data, from, cred } in arrived {
                let from = sender(&sockets, index, &from)
                    .map_err(|reason| open.found.holder.refuse(self.all, reason))?;
                queue.push(Message { data, from, cred: cred.and_then(|c| inside(self.all, c)) });
            }
            if let Some(socket) = sockets.get_mut(index) {
                socket.queue = queue;
            }
        }
        Ok(sockets)
    }
}

/// Stands for a peer that nobody has open any more, until all are known.
const CLOSED: usize = usize::MAX;

fn unix(sockets: &[Socket], index: usize) -> Option<&UnixSocket> {
    match &sockets.get(index)?.family {
        SocketFamily::Unix(unix) => Some(unix),
        SocketFamily::Inet(_) => None,
    }
}

/// The socket of the tree that has this sockaddr.
fn named<'a>(sockets: &'a [Socket], address: &[u8]) -> Option<(usize, &'a UnixName)> {
    let bytes = address.get(2..).filter(|bytes| !bytes.is_empty())?;
    let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let bytes = if path.is_empty() { bytes } else { path };
    let all = sockets.iter().enumerate();
    let mut with_names = all.filter_map(|(i, _)| Some((i, unix(sockets, i)?.name.as_ref()?)));
    with_names.find(|(_, name)| name.address == bytes)
}

/// The name of a closed peer, where a socket of the tree that may have accepted it still has it.
fn closed_name(sockets: &[Socket], open: &Open) -> Option<UnixName> {
    let address = socket::address(&open.copy, true).ok()?;
    let (index, name) = named(sockets, &address)?;
    let socket = sockets.get(index)?;
    (socket.kind == open.kind && matches!(socket.state, SocketState::Listening { .. }))
        .then(|| name.clone())
}

/// Connections that no restart could make.
fn check_connection(
    all: &[Facts],
    open: &Open,
    sockets: &[Socket],
    index: usize,
) -> Result<(), DumpError> {
    let Some(UnixSocket { peer: Some(peer), .. }) = unix(sockets, index) else { return Ok(()) };
    let other = unix(sockets, *peer);
    let back = other.is_some_and(|other| other.peer == Some(index));
    let has_name = other.is_some_and(|other| other.name.is_some());
    if open.kind == SocketKind::Datagram && !back && !has_name {
        let reason = "it is connected to a socket that has no name and is not connected to it";
        return Err(open.found.holder.refuse(all, reason));
    }
    Ok(())
}

/// Who sent a message to a socket: its peer, or the socket with the name that the message has.
fn sender(sockets: &[Socket], index: usize, from: &[u8]) -> Result<Option<usize>, &'static str> {
    let own = unix(sockets, index);
    let peer = own.and_then(|unix| unix.peer);
    let back = peer.filter(|&peer| unix(sockets, peer).is_some_and(|p| p.peer == Some(index)));
    if back.is_some() {
        return Ok(back);
    }
    if own.is_none_or(|unix| unix.name.is_none()) {
        return Err("a message waits in it, and it has no name to send it to again");
    }
    if from.len() <= 2 {
        return Ok(None);
    }
    match named(sockets, from) {
        Some((sender, _)) => Ok(Some(sender)),
        None => Err("a message waits in it from a socket that is not in the tree"),
    }
}

/// Credentials with the pid as the root task's pid namespace numbers it.
fn inside(all: &[Facts], [pid, uid, gid]: [u32; 3]) -> Option<[u32; 3]> {
    let level = all.first()?.status.pids.len().checked_sub(1)?;
    match all.iter().find(|facts| facts.pid as u32 == pid) {
        Some(facts) => Some([*facts.status.pids.get(level)? as u32, uid, gid]),
        // Somebody else, who has the same number here and there, or none that could be told.
        None => (level == 0 && pid != 0).then_some([pid, uid, gid]),
    }
}
