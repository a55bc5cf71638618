//! Sockets: made all together, as they know each other by their names.
//!
//! In this order: pairs that have no need of a name; then name by name, those that no path leads to any more
//! first: bind, listen, accept whom the listening socket had accepted, connect those that wait for it, fill
//! and connect datagram sockets; then what waits in connections; then closed ends are closed, and what
//! shutdown(2) ended ends; options that would disturb any of this come last.

mod fill;
mod names;
mod options;

use std::collections::{BTreeMap, BTreeSet};

use super::slots::Model;
use crate::image::{Body, Socket, SocketFamily, SocketKind, SocketState, UnixName, UnixSocket};
use crate::program::{Compiler, Program, call, exact};

pub use names::bound_names;

/// Sockets that are being made.
struct Sockets<'a> {
    all: &'a [Socket],
    /// The descriptor of each that has been made.
    at: BTreeMap<usize, i32>,
    /// Those whose name has been bound.
    bound: BTreeSet<usize>,
    /// Who is connected to a socket that is not connected back, by that socket.
    clients: BTreeMap<usize, Vec<usize>>,
}

/// Type of a socket as a number.
fn number(kind: SocketKind) -> u64 {
    (match kind {
        SocketKind::Stream => libc::SOCK_STREAM,
        SocketKind::Datagram => libc::SOCK_DGRAM,
        SocketKind::SeqPacket => libc::SOCK_SEQPACKET,
    }) as u64
}

/// Flags of a new socket: no call on it may wait during the restart.
const NEW: u64 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64;

fn unix(sockets: &[Socket], index: usize) -> Option<&UnixSocket> {
    match &sockets.get(index)?.family {
        SocketFamily::Unix(unix) => Some(unix),
        SocketFamily::Inet(_) => None,
    }
}

fn name(sockets: &[Socket], index: usize) -> Option<&UnixName> {
    unix(sockets, index)?.name.as_ref()
}

fn listens(sockets: &[Socket], index: usize) -> bool {
    sockets.get(index).is_some_and(|s| matches!(s.state, SocketState::Listening { .. }))
}

/// The peer of a socket that is connected back to it.
fn mutual(sockets: &[Socket], index: usize) -> Option<usize> {
    let peer = unix(sockets, index)?.peer?;
    (unix(sockets, peer)?.peer == Some(index) && peer != index).then_some(peer)
}

/// Whether any socket is bound to a path that is not absolute.
pub(super) fn any_relative(body: &Body) -> bool {
    let all = &body.objects.sockets;
    (0..all.len()).any(|i| name(all, i).is_some_and(|name| name.directory.is_some()))
}

impl Compiler<'_> {
    /// Makes all sockets, and gives those that are files the given numbers.
    pub(super) fn make_sockets(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        files: &[(usize, i32)],
    ) {
        let all = self.body.objects.sockets.as_slice();
        let mut clients: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in (0..all.len()).filter(|&index| mutual(all, index).is_none()) {
            if let Some(peer) = unix(all, index).and_then(|unix| unix.peer) {
                clients.entry(peer).or_default().push(index);
            }
        }
        let (at, bound) = (BTreeMap::new(), BTreeSet::new());
        let mut sockets = Sockets { all, at, bound, clients };
        let groups = names::groups(all);
        self.make_pairs(p, model, &mut sockets, &groups);
        self.unlink_old(p, &groups);
        for group in &groups {
            self.make_named(p, model, &mut sockets, group);
        }
        for index in 0..all.len() {
            self.ensure(p, model, &mut sockets, index);
        }
        self.fill_connections(p, &sockets);
        self.shut_down(p, model, &mut sockets);
        for (&index, &fd) in &sockets.at {
            self.late_options(p, all, index, fd);
        }
        for &(file, slot) in files {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let crate::image::FileKind::Socket { socket } = open.kind else { continue };
            let Some(fd) = sockets.at.remove(&socket) else { continue };
            let flags = (open.flags as i32 & libc::O_NONBLOCK) as u64;
            p.push(call(libc::SYS_fcntl, &[fd as u64, libc::F_SETFL as u64, flags]));
            self.move_to(p, model, fd, slot);
        }
        // None is left, unless the image has some that no descriptor is for.
        for (_, fd) in sockets.at {
            self.close(p, model, fd);
        }
    }

    /// Makes the pairs of which neither end was accepted by another socket.
    fn make_pairs(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        groups: &[names::Group],
    ) {
        let accepted: BTreeSet<usize> = groups.iter().flat_map(|g| g.accepted.clone()).collect();
        for (index, socket) in sockets.all.iter().enumerate() {
            let Some(peer) = mutual(sockets.all, index).filter(|&peer| peer > index) else {
                continue;
            };
            if accepted.contains(&index) || accepted.contains(&peer) {
                continue;
            }
            let (one, other) = (model.take(), model.take());
            let pair = self.data.own(&[0; 8]);
            let kind = number(socket.kind) | NEW;
            p.push(call(libc::SYS_socketpair, &[libc::AF_UNIX as u64, kind, 0, pair]));
            sockets.at.insert(index, one);
            sockets.at.insert(peer, other);
        }
    }

    /// Makes a socket that nothing else has made, and binds it if it has a name of its own; its descriptor.
    fn ensure(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        index: usize,
    ) -> Option<i32> {
        let socket = sockets.all.get(index)?;
        let fd = match sockets.at.get(&index) {
            Some(&fd) => fd,
            None => {
                let fd = self.new_socket(p, model, socket);
                sockets.at.insert(index, fd);
                if let SocketFamily::Inet(inet) = &socket.family {
                    self.inet(p, socket, inet, fd);
                }
                fd
            }
        };
        Some(fd)
    }

    fn new_socket(&mut self, p: &mut Program, model: &mut Model, socket: &Socket) -> i32 {
        let fd = model.take();
        let (family, protocol) = match &socket.family {
            SocketFamily::Unix(_) => (libc::AF_UNIX, 0),
            SocketFamily::Inet(inet) => {
                let family = if inet.v6 { libc::AF_INET6 } else { libc::AF_INET };
                let tcp = socket.kind == SocketKind::Stream;
                (family, if tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP })
            }
        };
        let args = [family as u64, number(socket.kind) | NEW, protocol as u64];
        p.push(exact(libc::SYS_socket, &args, fd as u64));
        fd
    }

    /// Closes what was closed, after giving its peers what they are to see, and ends what shutdown(2) ended.
    fn shut_down(&mut self, p: &mut Program, model: &mut Model, sockets: &mut Sockets<'_>) {
        for (index, socket) in sockets.all.iter().enumerate() {
            let Some(&fd) = sockets.at.get(&index) else { continue };
            if socket.reset {
                // A socket that is closed with something unread in it resets its peer.
                let byte = self.data.constant(&[0]);
                p.push(exact(libc::SYS_sendto, &[fd as u64, byte, 1, fill::AT_ONCE], 1));
            }
        }
        let closed: Vec<usize> = (0..sockets.all.len())
            .filter(|&i| sockets.all.get(i).is_some_and(|s| s.closed))
            .collect();
        for index in closed {
            if let Some(fd) = sockets.at.remove(&index) {
                self.close(p, model, fd);
            }
        }
        for (&index, &fd) in &sockets.at {
            let shutdown = sockets.all.get(index).map_or(0, |s| s.shutdown);
            for (bit, how) in [(1, libc::SHUT_RD), (2, libc::SHUT_WR)] {
                if shutdown & bit != 0 {
                    p.push(call(libc::SYS_shutdown, &[fd as u64, how as u64]));
                }
            }
        }
    }
}
