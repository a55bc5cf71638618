//! Options and addresses that are numbers.

use std::net::SocketAddr;

use crate::image::{InetSocket, Socket, SocketFamily, SocketState};
use crate::program::insn::{Insn, Op};
use crate::program::{Compiler, Program, attempt, call};

/// SO_BUF_LOCK, Linux 5.14.
const SO_BUF_LOCK: i32 = 72;

impl Compiler<'_> {
    /// Sets an option that is a number.
    pub(super) fn set_number(
        &mut self,
        p: &mut Program,
        fd: i32,
        level: i32,
        option: i32,
        value: i32,
    ) {
        let value = self.data.constant(&value.to_le_bytes());
        let args = [fd as u64, level as u64, option as u64, value, 4];
        p.push(call(libc::SYS_setsockopt, &args));
    }

    fn set_all(&mut self, p: &mut Program, socket: &Socket, fd: i32) {
        for option in &socket.settings.options {
            self.set_number(p, fd, option.level, option.name, option.value);
        }
        let milliseconds = [
            (libc::SO_RCVTIMEO, socket.settings.receive_timeout),
            (libc::SO_SNDTIMEO, socket.settings.send_timeout),
        ];
        for (option, time) in milliseconds {
            let Some(time) = time else { continue };
            let time = self.data.words(&[time / 1000, time % 1000 * 1000]);
            let args = [fd as u64, libc::SOL_SOCKET as u64, option as u64, time, 16];
            p.push(call(libc::SYS_setsockopt, &args));
        }
        if let Some(seconds) = socket.settings.linger {
            let linger = self.data.constant(&(u64::from(seconds) << 32 | 1).to_le_bytes());
            let option = libc::SO_LINGER as u64;
            p.push(call(
                libc::SYS_setsockopt,
                &[fd as u64, libc::SOL_SOCKET as u64, option, linger, 8],
            ));
        }
    }

    /// Gives a buffer its size, by force where that is needed and allowed. The kernel doubles what it is told.
    fn buffer(&mut self, p: &mut Program, fd: i32, [set, force]: [i32; 2], size: i32) {
        let half = self.data.constant(&(size / 2).to_le_bytes());
        let level = libc::SOL_SOCKET as u64;
        p.push(call(libc::SYS_setsockopt, &[fd as u64, level, set as u64, half, 4]));
        let (found, length) = (self.data.own(&[0; 8]), self.data.own(&4u64.to_le_bytes()));
        p.push(call(libc::SYS_getsockopt, &[fd as u64, level, set as u64, found, length]));
        let (here, mut unless, mut over) = (p.len(), Insn::new(Op::Unless), Insn::new(Op::Goto));
        unless.arg = [found, 0, 0, 0, 0, 0];
        unless.expect = size as u64;
        unless.target = (here + 2) as u64;
        over.target = (here + 3) as u64;
        p.push(unless);
        p.push(over);
        p.push(call(libc::SYS_setsockopt, &[fd as u64, level, force as u64, half, 4]));
    }

    /// Sets what a TCP or UDP socket has, and binds and connects it, or lets it listen.
    pub(super) fn inet(&mut self, p: &mut Program, socket: &Socket, inet: &InetSocket, fd: i32) {
        self.set_all(p, socket, fd);
        let settings = &socket.settings;
        if settings.locks & 1 != 0 {
            let names = [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE];
            self.buffer(p, fd, names, settings.send_buffer);
        }
        if settings.locks & 2 != 0 {
            let names = [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE];
            self.buffer(p, fd, names, settings.receive_buffer);
        }
        for (number, address) in [(libc::SYS_bind, inet.local), (libc::SYS_connect, inet.remote)] {
            let Some(address) = address else { continue };
            let bytes = sockaddr(address);
            let at = self.data.constant(&bytes);
            p.push(call(number, &[fd as u64, at, bytes.len() as u64]));
        }
        if let SocketState::Listening { backlog } = socket.state {
            p.push(call(libc::SYS_listen, &[fd as u64, backlog.into()]));
        }
    }

    /// Sets what a unix socket has: until now it would have disturbed others, or itself.
    pub(super) fn late_options(&mut self, p: &mut Program, all: &[Socket], index: usize, fd: i32) {
        let Some(socket) = all.get(index) else { return };
        if let SocketFamily::Inet(_) = socket.family {
            return;
        }
        let settings = &socket.settings;
        let sizes = [
            ([libc::SO_SNDBUF, libc::SO_SNDBUFFORCE], settings.send_buffer),
            ([libc::SO_RCVBUF, libc::SO_RCVBUFFORCE], settings.receive_buffer),
        ];
        for (names, size) in sizes {
            self.buffer(p, fd, names, size);
        }
        let locks = self.data.constant(&u32::from(settings.locks).to_le_bytes());
        let level = libc::SOL_SOCKET as u64;
        p.push(attempt(libc::SYS_setsockopt, &[fd as u64, level, SO_BUF_LOCK as u64, locks, 4]));
        self.set_all(p, socket, fd);
    }
}

/// A sockaddr_in or sockaddr_in6.
fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(a) => {
            bytes.extend((libc::AF_INET as u16).to_le_bytes());
            bytes.extend(a.port().to_be_bytes());
            bytes.extend(a.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(a) => {
            bytes.extend((libc::AF_INET6 as u16).to_le_bytes());
            bytes.extend(a.port().to_be_bytes());
            bytes.extend(a.flowinfo().to_be_bytes());
            bytes.extend(a.ip().octets());
            bytes.extend(a.scope_id().to_le_bytes());
        }
    }
    bytes
}
