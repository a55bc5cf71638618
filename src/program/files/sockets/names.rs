//! Names of unix sockets: binding them, and what is done by them.

use std::collections::BTreeMap;

use super::{Sockets, listens, mutual, name, unix};
use crate::image::{Body, Socket, SocketKind, SocketState, UnixName};
use crate::program::files::Model;
use crate::program::{Compiler, Program, attempt, call, exact};

/// What has the same name.
#[derive(Debug)]
pub(super) struct Group {
    name: UnixName,
    /// The socket that listens.
    listener: Option<usize>,
    /// Those that it has accepted, or that a socket that is gone has.
    pub accepted: Vec<usize>,
    /// Those that were bound themselves, and do not listen.
    direct: Vec<usize>,
}

impl Group {
    /// The name.
    pub(super) fn name(&self) -> &UnixName {
        &self.name
    }
}

/// What tells names apart: a path that has been bound again is another name.
type Key<'a> = (bool, &'a [u8], Option<&'a [u8]>);

fn key(name: &UnixName) -> Key<'_> {
    (name.file.is_some(), &name.address, name.directory.as_deref())
}

/// All names, those that no path leads to any more first.
pub(super) fn groups(all: &[Socket]) -> Vec<Group> {
    let mut by_name: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for index in 0..all.len() {
        if let Some(name) = name(all, index) {
            by_name.entry(key(name)).or_default().push(index);
        }
    }
    let connection = |&index: &usize| {
        all.get(index).is_some_and(|s| s.kind != SocketKind::Datagram)
            && mutual(all, index).is_some()
    };
    let group = |members: Vec<usize>| {
        let name = members.first().and_then(|&first| name(all, first))?.clone();
        let listener = members.iter().copied().find(|&index| listens(all, index));
        let (connected, mut direct): (Vec<usize>, Vec<usize>) =
            members.into_iter().filter(|index| Some(*index) != listener).partition(connection);
        let mut accepted = connected;
        if listener.is_none() && accepted.len() == 1 {
            direct.append(&mut accepted);
        }
        Some(Group { name, listener, accepted, direct })
    };
    by_name.into_values().filter_map(group).collect()
}

/// Each name that a restart binds, once.
pub fn bound_names(body: &Body) -> Vec<UnixName> {
    groups(&body.objects.sockets).into_iter().map(|group| group.name).collect()
}

/// A sockaddr_un.
fn sockaddr(name: &UnixName) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(&name.address);
    bytes
}

fn is_path(name: &UnixName) -> bool {
    name.address.first().is_some_and(|&first| first != 0)
}

impl Compiler<'_> {
    /// Address and length of a sockaddr_un.
    pub(super) fn sockaddr(&mut self, name: &UnixName) -> [u64; 2] {
        let bytes = sockaddr(name);
        [self.data.constant(&bytes), bytes.len() as u64]
    }

    /// Goes to where the path of a name begins.
    pub(super) fn enter(&mut self, p: &mut Program, name: &UnixName) {
        if let Some(directory) = &name.directory {
            let directory = self.data.text(directory);
            p.push(call(libc::SYS_chdir, &[directory]));
        }
    }

    /// Takes away the files that the sockets were bound to. That they are nothing else, and nobody's, has
    /// been checked before.
    pub(super) fn unlink_old(&mut self, p: &mut Program, groups: &[Group]) {
        for group in groups.iter().filter(|group| group.name.file.is_some()) {
            self.enter(p, &group.name);
            let path = self.data.text(&group.name.address);
            p.push(attempt(libc::SYS_unlinkat, &[libc::AT_FDCWD as u64, path, 0]));
        }
    }

    /// Binds a socket to its name, and gives the file its owner and permissions.
    fn bind(&mut self, p: &mut Program, fd: i32, name: &UnixName) {
        self.enter(p, name);
        let [address, length] = self.sockaddr(name);
        p.push(call(libc::SYS_bind, &[fd as u64, address, length]));
        let Some(file) = name.file else { return };
        let (path, cwd) = (self.data.text(&name.address), libc::AT_FDCWD as u64);
        // -1 is "as it is".
        let owner = [file.uid, file.gid].map(|id| id as i32 as u64);
        p.push(call(libc::SYS_fchownat, &[cwd, path, owner[0], owner[1], 0]));
        p.push(call(libc::SYS_fchmodat, &[cwd, path, file.mode.into()]));
    }

    fn bind_once(&mut self, p: &mut Program, sockets: &mut Sockets<'_>, index: usize, fd: i32) {
        if let Some(name) = name(sockets.all, index).filter(|_| sockets.bound.insert(index)) {
            self.bind(p, fd, name);
        }
    }

    /// Makes a socket and binds it to its name.
    pub(super) fn make_bound(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        index: usize,
    ) {
        if let Some(fd) = self.ensure(p, model, sockets, index) {
            self.bind_once(p, sockets, index, fd);
        }
    }

    /// Makes all that has one name, and all that is done by this name.
    pub(super) fn make_named(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        group: &Group,
    ) {
        for &index in &group.direct {
            self.make_bound(p, model, sockets, index);
        }
        self.connections(p, model, sockets, group);
        for &index in &group.direct {
            self.datagrams(p, model, sockets, index, group);
        }
        if is_path(&group.name) && group.name.file.is_none() && bound_somebody(group) {
            let path = self.data.text(&group.name.address);
            self.enter(p, &group.name);
            p.push(call(libc::SYS_unlinkat, &[libc::AT_FDCWD as u64, path, 0]));
        }
    }

    /// The socket that listens, those that it has accepted, and those that wait for it.
    fn connections(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        group: &Group,
    ) {
        let first = group.listener.or(group.accepted.first().copied());
        let Some(like) = first.and_then(|index| sockets.all.get(index)) else { return };
        let backlog = match like.state {
            SocketState::Listening { backlog } => backlog,
            // One that takes the place of a listening socket that is gone.
            _ => 1,
        };
        let fd = self.new_socket(p, model, like);
        self.bind(p, fd, &group.name);
        p.push(call(libc::SYS_listen, &[fd as u64, backlog.into()]));
        for &index in &group.accepted {
            let Some(client) = mutual(sockets.all, index) else { continue };
            self.connect(p, model, sockets, client, &group.name);
            let made = model.take();
            let args = [fd as u64, 0, 0, (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64];
            p.push(exact(libc::SYS_accept4, &args, made as u64));
            sockets.at.insert(index, made);
            sockets.bound.insert(index);
        }
        let Some(listener) = group.listener else {
            self.close(p, model, fd);
            return;
        };
        sockets.at.insert(listener, fd);
        sockets.bound.insert(listener);
        let mut waiting = sockets.clients.remove(&listener).unwrap_or_default();
        waiting.sort_by_key(|&client| unix(sockets.all, client).map(|unix| unix.place));
        for client in waiting {
            self.connect(p, model, sockets, client, &group.name);
        }
    }

    /// Connects a socket, which first gets its own name.
    pub(super) fn connect(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        client: usize,
        to: &UnixName,
    ) {
        let Some(fd) = self.ensure(p, model, sockets, client) else { return };
        self.bind_once(p, sockets, client, fd);
        self.enter(p, to);
        let [address, length] = self.sockaddr(to);
        p.push(call(libc::SYS_connect, &[fd as u64, address, length]));
    }
}

/// Whether making a group has bound its name.
fn bound_somebody(group: &Group) -> bool {
    group.listener.is_some() || !group.accepted.is_empty() || !group.direct.is_empty()
}
