//! Sockets, and what waits in them.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::{Thing, Writer, entry, unwritable};
use crate::error::ImageError;
use crate::image::body::sockets::{
    ESTABLISHED, FLAG_OPTIONS, LINGER, LINKED, LISTEN, NAME_MOST, PASS_OPTIONS, SOCK_DEAD,
    TCP_CLOSE, number_of, placed,
};
use crate::image::{
    InetSocket, Message, Socket, SocketFamily, SocketFile, SocketKind, SocketState, UnixName,
    UnixSocket, records,
};

/// Sockets inside sockets: each is written in front of one that is connected to it.
const NESTED_MOST: usize = 8;

impl Writer<'_> {
    /// A socket and those that it is connected to.
    pub(super) fn socket(&mut self, index: usize) -> Result<i32, ImageError> {
        self.nested_socket(index, 0)
    }

    fn nested_socket(&mut self, index: usize, level: usize) -> Result<i32, ImageError> {
        let socket = entry(&self.body.objects.sockets, index, records::SOCKET)?;
        let (tag, new) = self.objref(Thing::Socket(index))?;
        if !new {
            return Ok(tag);
        }
        if level == NESTED_MOST {
            let reason =
                format!("a row of more than {NESTED_MOST} sockets, each connected to the next");
            return Err(unwritable(records::SOCKET, reason));
        }
        let peer = match &socket.family {
            SocketFamily::Unix(UnixSocket { peer: Some(peer), .. }) => {
                Some((*peer, self.nested_socket(*peer, level + 1)?))
            }
            _ => None,
        };
        self.socket_extras(socket)?;
        self.socket_record(socket)?;
        match &socket.family {
            SocketFamily::Unix(unix) => self.unix_record(unix, tag, peer)?,
            SocketFamily::Inet(inet) => self.inet_record(inet)?,
        }
        if has_buffers(socket) {
            self.waiting.push_back(index);
        }
        Ok(tag)
    }

    /// What the format has no place for.
    fn socket_extras(&mut self, socket: &Socket) -> Result<(), ImageError> {
        let (mut file, mut place) = (SocketFile { mode: 0, uid: 0, gid: 0 }, 0);
        let mut scopes = [0; 4];
        match &socket.family {
            SocketFamily::Unix(unix) => {
                place = unix.place;
                file = unix.name.as_ref().and_then(|name| name.file).unwrap_or(file);
            }
            SocketFamily::Inet(inet) => {
                let scope = |address| match address {
                    Some(SocketAddr::V6(a)) => (a.scope_id(), a.flowinfo()),
                    _ => (0, 0),
                };
                let (local, remote) = (scope(inet.local), scope(inet.remote));
                scopes = [local.0, local.1, remote.0, remote.1];
            }
        }
        let backlog = match socket.state {
            SocketState::Listening { backlog } => backlog,
            _ => 0,
        };
        self.out.record(records::SOCKET_MORE, |r| {
            r.u32(file.mode).u32(file.uid).u32(file.gid).u32(place).u32(backlog);
            for scope in scopes {
                r.u32(scope);
            }
            r.zeros(4);
        })?;
        let others = socket.settings.options.iter().filter(|o| !placed(o.level, o.name));
        if others.clone().next().is_none() {
            return Ok(());
        }
        self.out.record(records::SOCKET_OPTIONS, |r| {
            for option in others {
                r.i32(option.level).i32(option.name).i32(option.value);
            }
        })
    }

    fn socket_record(&mut self, socket: &Socket) -> Result<(), ImageError> {
        let s = &socket.settings;
        let state = match socket.state {
            SocketState::Listening { .. } => LISTEN,
            SocketState::Connected => ESTABLISHED,
            SocketState::Unconnected => TCP_CLOSE,
        };
        // SS_UNCONNECTED and SS_CONNECTED.
        let connected = if socket.state == SocketState::Connected { 3 } else { 1 };
        let backlog = match socket.state {
            SocketState::Listening { backlog } => i16::try_from(backlog).unwrap_or(i16::MAX),
            _ => 0,
        };
        let set = |name| s.option(libc::SOL_SOCKET, name).unwrap_or(0);
        let bits = |table: &[(i32, u64)]| -> u64 {
            table.iter().filter(|(name, _)| set(*name) != 0).map(|(_, bit)| bit).sum()
        };
        let closed = if socket.closed { SOCK_DEAD } else { 0 };
        let linger = s.linger.map_or(0, |_| LINGER);
        let milliseconds = |time: Option<u64>| match time {
            Some(time) => i64::try_from(time).unwrap_or(i64::MAX),
            None => i64::MAX,
        };
        let low = s.option(libc::SOL_SOCKET, libc::SO_RCVLOWAT).unwrap_or(1);
        let (family, protocol) = numbers(socket);
        self.out.record(records::SOCKET, |r| {
            r.bytes(&[has_buffers(socket).into()]).zeros(7).u64(bits(&PASS_OPTIONS));
            r.bytes(&[connected]).zeros(7);
            r.i32(set(libc::SO_BINDTOIFINDEX)).i32(set(libc::SO_REUSEADDR));
            r.u16(family).bytes(&[state]).zeros(5);
            r.u64(i64::from(low) as u64).u64(bits(&FLAG_OPTIONS) | closed | linger);
            r.u64(milliseconds(s.receive_timeout) as u64).u64(milliseconds(s.send_timeout) as u64);
            r.u32(if socket.reset { libc::ECONNRESET as u32 } else { 0 }).zeros(4);
            r.i32(set(libc::SO_PRIORITY)).i32(s.receive_buffer).i32(s.send_buffer);
            r.u16(number_of(socket.kind)).u16(backlog as u16);
            r.bytes(&[protocol, state, socket.shutdown, s.locks, 0]).zeros(3);
            r.u32(s.linger.is_some().into()).u32(s.linger.unwrap_or(0));
        })
    }

    fn unix_record(
        &mut self,
        unix: &UnixSocket,
        tag: i32,
        peer: Option<(usize, i32)>,
    ) -> Result<(), ImageError> {
        let peer_name =
            peer.and_then(|(index, _)| match &self.body.objects.sockets.get(index)?.family {
                SocketFamily::Unix(unix) => unix.name.as_ref(),
                SocketFamily::Inet(_) => None,
            });
        let (local, remote) = (sockaddr(unix.name.as_ref())?, sockaddr(peer_name)?);
        let file = unix.name.as_ref().is_some_and(|name| name.file.is_some());
        self.out.record(records::SOCKET_UNIX, |r| {
            r.i32(tag).i32(peer.map_or(0, |(_, tag)| tag)).i32(0);
            r.u32(if file { LINKED } else { 0 });
            r.u32(local.len() as u32).u32(remote.len() as u32);
            r.padded(&local, NAME_MOST + 2).padded(&remote, NAME_MOST + 2).zeros(4);
        })?;
        match unix.name.as_ref().and_then(|name| name.directory.as_ref()) {
            Some(directory) => self.out.record(records::STRING, |r| {
                r.bytes(directory).zeros(1);
            }),
            None => Ok(()),
        }
    }

    fn inet_record(&mut self, inet: &InetSocket) -> Result<(), ImageError> {
        let (mut v4, mut v6) = ([[0; 4]; 2], [[0; 16]; 2]);
        let mut ports = [0; 2];
        let mut addresses = [[0; 16]; 2];
        for (i, address) in [inet.local, inet.remote].into_iter().enumerate() {
            let Some(address) = address else { continue };
            if address.is_ipv6() != inet.v6 {
                return Err(unwritable(
                    records::SOCKET_INET,
                    format!("{address} of the other family"),
                ));
            }
            if let Some(port) = ports.get_mut(i) {
                *port = address.port();
            }
            match address {
                SocketAddr::V4(a) => {
                    if let (Some(octets), Some(bytes)) = (v4.get_mut(i), addresses.get_mut(i)) {
                        *octets = a.ip().octets();
                        *bytes = sockaddr_in(*octets, a.port());
                    }
                }
                SocketAddr::V6(a) => {
                    if let Some(octets) = v6.get_mut(i) {
                        *octets = a.ip().octets();
                    }
                }
            }
        }
        let length = |address: Option<SocketAddr>| match address {
            Some(SocketAddr::V4(_)) => 16,
            _ => 0,
        };
        let lengths = [length(inet.local), length(inet.remote)];
        self.out.record(records::SOCKET_INET, |r| {
            r.bytes(&v4[1]).bytes(&v4[0]).bytes(&v4[0]);
            r.bytes(&ports[1].to_be_bytes()).u16(ports[0]).bytes(&ports[0].to_be_bytes());
            r.zeros(240 - 26);
            r.bytes(&v6[0]).bytes(&v6[0]).bytes(&v6[1]);
            r.u32(lengths[0]).u32(lengths[1]).bytes(&addresses[0]).bytes(&addresses[1]);
        })
    }

    /// What waits in the sockets that were written since this was last done.
    pub(super) fn waiting_messages(&mut self) -> Result<(), ImageError> {
        while let Some(index) = self.waiting.pop_front() {
            let socket = entry(&self.body.objects.sockets, index, records::SOCKET)?;
            let owner = self.socket(index)?;
            let total: usize = socket.queue.iter().map(|message| message.data.len()).sum();
            let count = socket.queue.len() as u32;
            self.out.record(records::SOCKET_QUEUE, |r| {
                r.u32(count).u32(total as u32);
            })?;
            for message in &socket.queue {
                self.message(message, owner)?;
            }
            // What was sent waits at its receiver.
            self.out.record(records::SOCKET_QUEUE, |r| {
                r.zeros(8);
            })?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Message, owner: i32) -> Result<(), ImageError> {
        let from = message.from.map_or(Ok(0), |from| self.socket(from))?;
        let length = message.data.len() as u32;
        self.out.record(records::SOCKET_BUFFER, |r| {
            r.zeros(12).u32(length).u32(0).u32(length).zeros(12);
            r.i32(owner).i32(from).zeros(4);
            for id in message.cred.unwrap_or_default() {
                r.u32(id);
            }
            r.zeros(36);
        })?;
        self.out.record(records::BUFFER, |r| {
            r.bytes(&message.data);
        })
    }
}

/// Whether queues follow: not for sockets that listen or are closed.
fn has_buffers(socket: &Socket) -> bool {
    !socket.closed && !matches!(socket.state, SocketState::Listening { .. })
}

/// Address family and protocol.
fn numbers(socket: &Socket) -> (u16, u8) {
    match &socket.family {
        SocketFamily::Unix(_) => (libc::AF_UNIX as u16, 0),
        SocketFamily::Inet(inet) => {
            let family = if inet.v6 { libc::AF_INET6 } else { libc::AF_INET };
            let tcp = socket.kind == SocketKind::Stream;
            (family as u16, if tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP } as u8)
        }
    }
}

/// A sockaddr_un: of a path with its NUL.
fn sockaddr(name: Option<&UnixName>) -> Result<Vec<u8>, ImageError> {
    let mut bytes = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    let Some(name) = name else { return Ok(bytes) };
    let (path, len) = (name.address.first() != Some(&0), name.address.len());
    if len == 0 || len > NAME_MOST || path && name.address.contains(&0) {
        return Err(unwritable(records::SOCKET_UNIX, format!("a name of {len} bytes")));
    }
    bytes.extend_from_slice(&name.address);
    if path && len < NAME_MOST {
        bytes.push(0);
    }
    Ok(bytes)
}

fn sockaddr_in(octets: [u8; 4], port: u16) -> [u8; 16] {
    let ([f0, f1], [p0, p1]) = ((libc::AF_INET as u16).to_le_bytes(), port.to_be_bytes());
    let [a, b, c, d] = octets;
    [f0, f1, p0, p1, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}
