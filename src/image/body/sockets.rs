//! Sockets, and what waits in them.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source, arrays};
use crate::image::{
    InetSocket, Message, SOCKET_OPTIONS, Socket, SocketFamily, SocketFile, SocketKind,
    SocketOption, SocketSettings, SocketState, UnixName, UnixSocket, records,
};

/// Most bytes of a name.
pub(in crate::image) const NAME_MOST: usize = 108;
/// Most bytes of a message: more than a socket can be made to take.
const MESSAGE_MOST: u32 = 64 << 20;
/// Bytes of page data behind a SOCKET_FRAG.
const FRAG_PAGE: usize = 4096;

/// States in SOCKET, as in tcp(7).
pub(in crate::image) const ESTABLISHED: u8 = 1;
pub(in crate::image) const TCP_CLOSE: u8 = 7;
pub(in crate::image) const LISTEN: u8 = 10;

/// Flags of SOCKET_UNIX: the path leads to the socket.
pub(in crate::image) const LINKED: u32 = 1;

/// Bits of sock.flags that stand for options, for SO_LINGER, and for a socket that nobody has open.
pub(in crate::image) const FLAG_OPTIONS: [(i32, u64); 3] =
    [(libc::SO_OOBINLINE, 1 << 2), (libc::SO_KEEPALIVE, 1 << 3), (libc::SO_BROADCAST, 1 << 6)];
pub(in crate::image) const LINGER: u64 = 1 << 4;
pub(in crate::image) const SOCK_DEAD: u64 = 1;

/// Bits of socket.flags.
pub(in crate::image) const PASS_OPTIONS: [(i32, u64); 2] =
    [(libc::SO_PASSCRED, 1 << 3), (libc::SO_PASSSEC, 1 << 4)];

/// Other options that SOCKET has a field for.
const FIELD_OPTIONS: [i32; 4] =
    [libc::SO_BINDTOIFINDEX, libc::SO_REUSEADDR, libc::SO_RCVLOWAT, libc::SO_PRIORITY];

/// Whether SOCKET has a place for an option.
pub(in crate::image) fn placed(level: i32, name: i32) -> bool {
    let mut bits = FLAG_OPTIONS.iter().chain(&PASS_OPTIONS);
    level == libc::SOL_SOCKET
        && (FIELD_OPTIONS.contains(&name) || bits.any(|(option, _)| *option == name))
}

/// The number of a type of socket.
pub(in crate::image) fn number_of(kind: SocketKind) -> u16 {
    (match kind {
        SocketKind::Stream => libc::SOCK_STREAM,
        SocketKind::Datagram => libc::SOCK_DGRAM,
        SocketKind::SeqPacket => libc::SOCK_SEQPACKET,
    }) as u16
}

/// A peer that may stand behind the socket that names it.
pub(super) struct Link {
    socket: usize,
    tag: i32,
    record: Fixed<256>,
}

/// What SOCKET_MORE says.
#[derive(Clone, Copy)]
struct More {
    file: SocketFile,
    place: u32,
    backlog: Option<u32>,
    /// Scope and flow of the local and of the remote IPv6 address.
    scopes: [u32; 4],
}

/// What an image without the record means: the file as a restart makes it.
const NO_MORE: More = More {
    file: SocketFile { mode: 0o755, uid: u32::MAX, gid: u32::MAX },
    place: 0,
    backlog: None,
    scopes: [0; 4],
};

/// A socket.
pub(super) fn socket<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let (mut more, mut options) = (NO_MORE, Vec::new());
    let mut header = parser.next(records::SOCKET.name)?;
    if header.kind == records::SOCKET_MORE.number {
        more = read_more(&parser.fixed::<48>(records::SOCKET_MORE)?)?;
        header = parser.next(records::SOCKET.name)?;
    }
    if header.kind == records::SOCKET_OPTIONS.number {
        options = read_options(parser)?;
    }
    let record = parser.fixed::<120>(records::SOCKET)?;
    let [has_buffers] = record.bytes::<8, 1>();
    if has_buffers > 1 {
        return Err(record.bad(format!("has buffers: {has_buffers}, must be 0 or 1")));
    }
    let kind = match i32::from(record.u16::<100>()) {
        libc::SOCK_STREAM => SocketKind::Stream,
        libc::SOCK_DGRAM => SocketKind::Datagram,
        libc::SOCK_SEQPACKET => SocketKind::SeqPacket,
        other => return Err(record.unsupported(format!("socket of type {other}"))),
    };
    let settings = settings(&record, options)?;
    let [shutdown] = record.bytes::<106, 1>();
    if shutdown > 3 {
        return Err(record.bad(format!("shutdown {shutdown}, at most 3")));
    }
    let reset = match record.i32::<80>() {
        0 => false,
        libc::ECONNRESET => true,
        error => return Err(record.unsupported(format!("a socket with error {error}"))),
    };
    let [state] = record.bytes::<42, 1>();
    let backlog = more.backlog.unwrap_or(record.u16::<102>().into());
    let mut link = None;
    let (family, state) = match i32::from(record.u16::<40>()) {
        libc::AF_UNIX => {
            let (unix, peer) = unix(parser, more)?;
            let connected = peer.is_some();
            link = peer;
            let state = match (state, connected) {
                (LISTEN, false) => SocketState::Listening { backlog },
                (LISTEN, true) => return Err(record.bad("it listens, and has a peer")),
                (_, true) => SocketState::Connected,
                (_, false) => SocketState::Unconnected,
            };
            (SocketFamily::Unix(unix), state)
        }
        family @ (libc::AF_INET | libc::AF_INET6) => {
            let [protocol] = record.bytes::<104, 1>();
            match (kind, i32::from(protocol)) {
                (SocketKind::Stream, libc::IPPROTO_TCP) => {}
                (SocketKind::Datagram, libc::IPPROTO_UDP) => {}
                (_, other) => {
                    return Err(record.unsupported(format!("a socket of protocol {other}")));
                }
            }
            let inet = inet(parser, family == libc::AF_INET6, more)?;
            let state = match (state, kind) {
                (LISTEN, SocketKind::Stream) => SocketState::Listening { backlog },
                (TCP_CLOSE, _) => SocketState::Unconnected,
                (ESTABLISHED, SocketKind::Datagram) => SocketState::Connected,
                (other, _) => {
                    return Err(record.unsupported(format!("a connection in state {other}")));
                }
            };
            if (state == SocketState::Connected) != inet.remote.is_some() {
                return Err(record.bad("its state does not go with its remote address"));
            }
            (SocketFamily::Inet(inet), state)
        }
        other => return Err(record.unsupported(format!("socket of address family {other}"))),
    };
    let closed = record.u64::<56>() & SOCK_DEAD != 0;
    let queue = Vec::new();
    let socket = Socket { kind, state, closed, reset, shutdown, settings, queue, family };
    let object = add(&mut parser.out.sockets, ObjectKind::Socket, socket);
    if let Some((tag, record)) = link {
        parser.links.push(Link { socket: object.1, tag, record });
    }
    if has_buffers == 1 {
        parser.waiting.push_back(object.1);
    }
    Ok(object)
}

fn read_more(record: &Fixed<48>) -> Result<More, ImageError> {
    let mode = record.u32::<8>();
    if mode > 0o7777 {
        return Err(record.bad(format!("mode {mode:#o}, at most 0o7777")));
    }
    Ok(More {
        file: SocketFile { mode, uid: record.u32::<12>(), gid: record.u32::<16>() },
        place: record.u32::<20>(),
        backlog: Some(record.u32::<24>()),
        scopes: [record.u32::<28>(), record.u32::<32>(), record.u32::<36>(), record.u32::<40>()],
    })
}

/// The options of SOCKET_OPTIONS: those that SOCKET has no place for.
fn read_options<S: Source>(parser: &mut Parser<'_, S>) -> Result<Vec<SocketOption>, ImageError> {
    let header = parser.expect(records::SOCKET_OPTIONS)?;
    let name = records::SOCKET_OPTIONS.name;
    let most = 12 * SOCKET_OPTIONS.len() as u32;
    let bytes = parser.cursor.payload(&header, name, most)?;
    if bytes.len() % 12 != 0 {
        return Err(header.bad(name, "must be whole entries of 12 bytes"));
    }
    let mut words = arrays::<4>(&bytes).map(|&word| i32::from_le_bytes(word));
    let mut options: Vec<SocketOption> = Vec::new();
    while let (Some(level), Some(option), Some(value)) = (words.next(), words.next(), words.next())
    {
        if !SOCKET_OPTIONS.contains(&(level, option)) || placed(level, option) {
            return Err(header.bad(name, format!("option {option} of level {level}")));
        }
        if options.last().is_some_and(|last| (last.level, last.name) >= (level, option)) {
            return Err(header.bad(name, "must ascend by level and option"));
        }
        options.push(SocketOption { level, name: option, value });
    }
    Ok(options)
}

/// What SOCKET says of options; `options` are those that it has no place for.
fn settings(
    record: &Fixed<120>,
    mut options: Vec<SocketOption>,
) -> Result<SocketSettings, ImageError> {
    let timeout = |time: u64| match time as i64 {
        i64::MAX => Ok(None),
        time @ 0.. => Ok(Some(time as u64)),
        time => Err(record.bad(format!("time limit {time}"))),
    };
    let low = record.u64::<48>() as i64;
    let low = i32::try_from(low).map_err(|_| record.bad(format!("low water mark {low}")))?;
    let mut set = |name, value, default| {
        if value != default {
            options.push(SocketOption { level: libc::SOL_SOCKET, name, value });
        }
    };
    set(libc::SO_BINDTOIFINDEX, record.i32::<32>(), 0);
    set(libc::SO_REUSEADDR, record.i32::<36>(), 0);
    set(libc::SO_RCVLOWAT, low, 1);
    set(libc::SO_PRIORITY, record.i32::<88>(), 0);
    let flags = [(&FLAG_OPTIONS[..], record.u64::<56>()), (&PASS_OPTIONS[..], record.u64::<16>())];
    for (table, bits) in flags {
        for (name, bit) in table {
            set(*name, i32::from(bits & bit != 0), 0);
        }
    }
    options.sort_unstable();
    let (receive_buffer, send_buffer) = (record.i32::<92>(), record.i32::<96>());
    if receive_buffer < 0 || send_buffer < 0 {
        let reason = format!("buffers of {receive_buffer} and {send_buffer} bytes");
        return Err(record.bad(reason));
    }
    let [locks] = record.bytes::<107, 1>();
    let linger = (record.u64::<56>() & LINGER != 0).then(|| record.u32::<116>());
    Ok(SocketSettings {
        receive_buffer,
        send_buffer,
        // SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK; others concern addresses.
        locks: locks & 3,
        receive_timeout: timeout(record.u64::<64>())?,
        send_timeout: timeout(record.u64::<72>())?,
        linger,
        options,
    })
}

/// SOCKET_UNIX, and the tag of the peer with the record that says it.
fn unix<S: Source>(
    parser: &mut Parser<'_, S>,
    more: More,
) -> Result<(UnixSocket, Option<(i32, Fixed<256>)>), ImageError> {
    let record = parser.fixed::<256>(records::SOCKET_UNIX)?;
    let address = record.bytes::<32, 110>();
    let length = record.u32::<24>() as usize;
    let given =
        address.get(..length).ok_or_else(|| record.bad(format!("name of {length} bytes")))?;
    let mut name = None;
    if let Some(([f0, f1], bytes @ [first, ..])) = given.split_first_chunk::<2>() {
        if u16::from_le_bytes([*f0, *f1]) != libc::AF_UNIX as u16 {
            return Err(record.bad("its name is of another address family"));
        }
        let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let address = if *first == 0 { bytes } else { path }.to_vec();
        let file = (record.u32::<20>() & LINKED != 0 && *first != 0).then_some(more.file);
        let directory = match *first {
            0 | b'/' => None,
            _ => Some(super::files::absolute(parser, records::STRING)?),
        };
        name = Some(UnixName { address, directory, file });
    }
    let tag = record.i32::<12>();
    let link = (tag != 0).then_some((tag, record));
    Ok((UnixSocket { name, peer: None, place: more.place }, link))
}

fn inet<S: Source>(
    parser: &mut Parser<'_, S>,
    v6: bool,
    more: More,
) -> Result<InetSocket, ImageError> {
    let record = parser.fixed::<328>(records::SOCKET_INET)?;
    let address = |v4: [u8; 4], v4_port: [u8; 2], v6_octets: [u8; 16], port: u16, scope, flow| {
        let address = if v6 {
            let ip = Ipv6Addr::from(v6_octets);
            SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope))
        } else {
            let port = u16::from_be_bytes(v4_port);
            SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(v4), port))
        };
        (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
    };
    let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
    let [local_scope, local_flow, remote_scope, remote_flow] = more.scopes;
    let local = address(
        record.bytes::<300, 4>(),
        record.bytes::<298, 2>(),
        record.bytes::<256, 16>(),
        port(record.bytes::<24, 2>()),
        local_scope,
        local_flow,
    );
    let remote = address(
        record.bytes::<316, 4>(),
        record.bytes::<314, 2>(),
        record.bytes::<272, 16>(),
        port(record.bytes::<20, 2>()),
        remote_scope,
        remote_flow,
    );
    Ok(InetSocket { v6, local, remote })
}

/// What waits in the sockets that were read since this was last done.
pub(super) fn waiting<S: Source>(parser: &mut Parser<'_, S>) -> Result<(), ImageError> {
    while let Some(index) = parser.waiting.pop_front() {
        let received = queue(parser)?;
        let sent = queue(parser)?;
        if !sent.is_empty() && parser.out.sockets.get(index).is_some_and(is_unix) {
            // A unix socket has nothing there: what it sent is at the receiver.
            let at = parser.cursor.position();
            let reason = "a unix socket with something to send".into();
            return Err(ImageError::Bad { record: records::SOCKET_QUEUE.name, offset: at, reason });
        }
        if let Some(socket) = parser.out.sockets.get_mut(index) {
            socket.queue = received;
        }
    }
    Ok(())
}

fn is_unix(socket: &Socket) -> bool {
    matches!(socket.family, SocketFamily::Unix(_))
}

fn queue<S: Source>(parser: &mut Parser<'_, S>) -> Result<Vec<Message>, ImageError> {
    let record = parser.fixed::<16>(records::SOCKET_QUEUE)?;
    let mut messages = Vec::new();
    for _ in 0..record.u32::<8>() {
        messages.push(message(parser)?);
    }
    Ok(messages)
}

fn message<S: Source>(parser: &mut Parser<'_, S>) -> Result<Message, ImageError> {
    let record = parser.fixed::<104>(records::SOCKET_BUFFER)?;
    let (linear, fragments) = (record.u32::<20>(), record.u16::<54>());
    let from = match record.i32::<48>() {
        0 => None,
        tag => Some(parser.index(&record, tag, ObjectKind::Socket)?),
    };
    let cred = [record.u32::<56>(), record.u32::<60>(), record.u32::<64>()];
    let header = parser.expect(records::BUFFER)?;
    let name = records::BUFFER.name;
    let mut data = parser.cursor.payload(&header, name, MESSAGE_MOST)?;
    if data.len() != linear as usize {
        return Err(header.bad(name, format!("{} bytes, must be {linear}", data.len())));
    }
    for _ in 0..fragments {
        let header = parser.expect(records::SOCKET_FRAG)?;
        let name = records::SOCKET_FRAG.name;
        let fragment = parser.cursor.fixed::<16>(&header, name)?;
        let (size, offset) = (fragment.u32::<8>() as usize, fragment.u32::<12>() as usize);
        let mut page = Vec::new();
        parser.cursor.read(FRAG_PAGE, &header, name, |bytes| {
            page.extend_from_slice(bytes);
            Ok(())
        })?;
        let piece = page.get(offset..offset.saturating_add(size));
        data.extend_from_slice(piece.ok_or_else(|| fragment.bad("it does not lie in its page"))?);
    }
    Ok(Message { data, from, cred: (cred[0] != 0).then_some(cred) })
}

/// Resolves what sockets say of their peers, which may stand behind them.
pub(super) fn link<S: Source>(parser: &mut Parser<'_, S>) -> Result<(), ImageError> {
    for Link { socket, tag, record } in std::mem::take(&mut parser.links) {
        let index = parser.index(&record, tag, ObjectKind::Socket)?;
        if let Some(Socket { family: SocketFamily::Unix(unix), .. }) =
            parser.out.sockets.get_mut(socket)
        {
            unix.peer = Some(index);
        }
    }
    let sockets = &parser.out.sockets;
    for (index, socket) in sockets.iter().enumerate() {
        if let Err(reason) = check(sockets, index, socket) {
            let reason = format!("socket {index}: {reason}");
            return Err(ImageError::Bad { record: records::SOCKET_UNIX.name, offset: 0, reason });
        }
    }
    Ok(())
}

/// Whether a unix socket and its peer go together.
fn check(sockets: &[Socket], index: usize, socket: &Socket) -> Result<(), &'static str> {
    let SocketFamily::Unix(unix) = &socket.family else { return Ok(()) };
    let Some(peer) = unix.peer else { return Ok(()) };
    let Some(Socket { family: SocketFamily::Unix(other), kind, state, .. }) = sockets.get(peer)
    else {
        return Err("its peer is no unix socket");
    };
    if *kind != socket.kind {
        return Err("its peer is of another type");
    }
    match (kind, state) {
        (SocketKind::Datagram, _) => Ok(()),
        (_, SocketState::Listening { .. }) if !socket.closed => Ok(()),
        _ if other.peer == Some(index) && peer != index => Ok(()),
        _ => Err("its peer is connected to another socket"),
    }
}
