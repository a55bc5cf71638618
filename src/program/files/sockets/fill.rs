//! What waits in unix sockets: sent again by whoever sent it.

use super::names::Group;
use super::{Sockets, mutual, name, number};
use crate::image::{Message, Socket, SocketKind};
use crate::program::files::Model;
use crate::program::insn::{Insn, Op};
use crate::program::{Compiler, Program, attempt, exact};

/// Flags of send(2).
pub(super) const AT_ONCE: u64 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;

/// Memory that a message takes in the kernel beyond its bytes, at the most.
const OVERHEAD: u64 = 1024;

impl Compiler<'_> {
    /// Fills connections and pairs; each end sends what waits in the other.
    pub(super) fn fill_connections(&mut self, p: &mut Program, sockets: &Sockets<'_>) {
        for (index, socket) in sockets.all.iter().enumerate() {
            let peer = mutual(sockets.all, index).and_then(|peer| sockets.at.get(&peer));
            if let (Some(&sender), Some(&receiver)) = (peer, sockets.at.get(&index)) {
                self.fill(p, socket, receiver, |_| Some(sender), [0, 0]);
            }
        }
    }

    /// Sends the messages of `socket`; `sender` says who sent each.
    fn fill(
        &mut self,
        p: &mut Program,
        socket: &Socket,
        receiver: i32,
        sender: impl Fn(&Message) -> Option<i32>,
        to: [u64; 2],
    ) {
        let told = socket.queue.iter().any(|message| message.cred.is_some());
        if told {
            // Without it the kernel forgets who sent a message.
            self.set_number(p, receiver, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
        }
        let total: u64 = socket.queue.iter().map(|m| m.data.len() as u64 + OVERHEAD).sum();
        let mut enlarged = None;
        for message in &socket.queue {
            let Some(fd) = sender(message) else { continue };
            if enlarged.replace(fd) != Some(fd) {
                self.enlarge(p, fd, 2 * total);
            }
            self.send_message(p, fd, message, to);
        }
        if told {
            self.set_number(p, receiver, libc::SOL_SOCKET, libc::SO_PASSCRED, 0);
        }
    }

    /// Lets a socket send so much, as far as that is allowed. Its size is set at last.
    fn enlarge(&mut self, p: &mut Program, fd: i32, bytes: u64) {
        let size = self.data.constant(&(bytes.min(i32::MAX as u64 / 2) as u32).to_le_bytes());
        for name in [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE] {
            let args = [fd as u64, libc::SOL_SOCKET as u64, name as u64, size, 4];
            p.push(attempt(libc::SYS_setsockopt, &args));
        }
    }

    fn send_message(
        &mut self,
        p: &mut Program,
        fd: i32,
        message: &Message,
        [to, to_length]: [u64; 2],
    ) {
        let (data, length) = (self.data.own(&message.data), message.data.len() as u64);
        let plain = [fd as u64, data, length, AT_ONCE, to, to_length];
        let Some([pid, uid, gid]) = message.cred.filter(|_| self.facts.keep_pids) else {
            p.push(exact(libc::SYS_sendto, &plain, length));
            return;
        };
        // A record of ancillary data: length, level, type, then a struct ucred.
        let mut control = 28u64.to_le_bytes().to_vec();
        for word in [libc::SOL_SOCKET as u32, libc::SCM_CREDENTIALS as u32, pid, uid, gid, 0] {
            control.extend(word.to_le_bytes());
        }
        let control_length = control.len() as u64;
        let (control, vector) = (self.data.own(&control), self.data.words(&[data, length]));
        let header = [to, to_length, vector, 1, control, control_length, 0];
        let header = self.data.words(&header);
        let sent = self.data.own(&[0; 8]);
        let mut claim = attempt(libc::SYS_sendmsg, &[fd as u64, header, AT_ONCE]);
        claim.dest = sent;
        p.push(claim);
        // Who may not speak for others speaks for itself.
        let (here, mut unless, mut over) = (p.len(), Insn::new(Op::Unless), Insn::new(Op::Goto));
        unless.arg = [sent, 0, 0, 0, 0, 0];
        unless.expect = length;
        unless.target = (here + 2) as u64;
        over.target = (here + 3) as u64;
        p.push(unless);
        p.push(over);
        p.push(exact(libc::SYS_sendto, &plain, length));
    }

    /// A datagram socket with a name: what waits in it, and those that are connected to it.
    pub(super) fn datagrams(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        sockets: &mut Sockets<'_>,
        index: usize,
        group: &Group,
    ) {
        let all = sockets.all;
        let Some(socket) = all.get(index).filter(|s| s.kind == SocketKind::Datagram) else {
            return;
        };
        let (Some(name), Some(&receiver)) = (name(all, index), sockets.at.get(&index)) else {
            return;
        };
        if mutual(all, index).is_none() && !socket.queue.is_empty() {
            for sender in socket.queue.iter().filter_map(|message| message.from) {
                self.make_bound(p, model, sockets, sender);
            }
            let nobody = model.take();
            let args = [libc::AF_UNIX as u64, number(SocketKind::Datagram) | super::NEW, 0];
            p.push(exact(libc::SYS_socket, &args, nobody as u64));
            self.enter(p, name);
            let to = self.sockaddr(name);
            let from = |message: &Message| match message.from {
                Some(sender) => sockets.at.get(&sender).copied(),
                None => Some(nobody),
            };
            self.fill(p, socket, receiver, from, to);
            self.close(p, model, nobody);
        }
        for client in sockets.clients.remove(&index).unwrap_or_default() {
            self.connect(p, model, sockets, client, group.name());
        }
    }
}
