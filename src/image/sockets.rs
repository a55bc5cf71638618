//! Sockets.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

/// A socket. One that nobody has open any more is here too where another was connected to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// How it sends.
    pub kind: SocketKind,
    /// What it is connected to, if anything.
    pub state: SocketState,
    /// Nobody has it open any more.
    pub closed: bool,
    /// The next call on it fails with ECONNRESET.
    pub reset: bool,
    /// What shutdown(2) has ended: 1 receiving, 2 sending.
    pub shutdown: u8,
    /// What programs can set.
    pub settings: SocketSettings,
    /// What has arrived and was not yet received.
    pub queue: Vec<Message>,
    /// Addresses.
    pub family: SocketFamily,
}

/// SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// Bytes in a row.
    Stream,
    /// Messages.
    Datagram,
    /// Messages on a connection.
    SeqPacket,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// Neither of the others.
    Unconnected,
    /// It has a peer. A peer that listens has not accepted it yet.
    Connected,
    /// It takes connections.
    Listening {
        /// How many may wait.
        backlog: u32,
    },
}

/// The addresses of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketFamily {
    /// unix(7).
    Unix(UnixSocket),
    /// ip(7), ipv6(7).
    Inet(InetSocket),
}

/// What only unix sockets have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its address, if it has one. Sockets that accept(2) made have that of the listening one.
    pub name: Option<UnixName>,
    /// Index in [`super::Objects::sockets`] of the peer.
    pub peer: Option<usize>,
    /// Its place among those that wait for a listening peer.
    pub place: u32,
}

/// Address of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixName {
    /// What bind(2) was given, 1 to 108 bytes; an abstract name begins with a NUL, a path has none.
    pub address: Vec<u8>,
    /// Of a path that is not absolute: the directory that it starts from.
    pub directory: Option<Vec<u8>>,
    /// The file that the path leads to, if it still leads to the socket.
    pub file: Option<SocketFile>,
}

/// The file of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFile {
    /// Permissions, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What only TCP and UDP sockets have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InetSocket {
    /// Whether its family is AF_INET6.
    pub v6: bool,
    /// Where it is bound to.
    pub local: Option<SocketAddr>,
    /// Where it sends to; UDP only.
    pub remote: Option<SocketAddr>,
}

/// What has arrived at a socket. A stream has as few as possible of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Any number of bytes.
    pub data: Vec<u8>,
    /// Index in [`super::Objects::sockets`] of the socket that it came from; none: from one without a name.
    pub from: Option<usize>,
    /// pid, uid, gid of who sent it, where the receiver asked for that.
    pub cred: Option<[u32; 3]>,
}

/// What setsockopt(2) sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketSettings {
    /// SO_RCVBUF as getsockopt(2) tells it, in bytes.
    pub receive_buffer: i32,
    /// SO_SNDBUF, likewise.
    pub send_buffer: i32,
    /// SO_BUF_LOCK: which of the two the kernel must not change: 1 sending, 2 receiving.
    pub locks: u8,
    /// SO_RCVTIMEO, in milliseconds.
    pub receive_timeout: Option<u64>,
    /// SO_SNDTIMEO, likewise.
    pub send_timeout: Option<u64>,
    /// SO_LINGER, in seconds.
    pub linger: Option<u32>,
    /// Options whose value is one number, where it is not that of a new socket; strictly ascending by
    /// level and name, all of them in [`SOCKET_OPTIONS`].
    pub options: Vec<SocketOption>,
}

/// An option that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketOption {
    /// SOL_SOCKET, IPPROTO_IP, ...
    pub level: i32,
    /// SO_REUSEADDR, ...
    pub name: i32,
    /// What it is set to.
    pub value: i32,
}

impl SocketSettings {
    /// The value of an option that is set.
    pub fn option(&self, level: i32, name: i32) -> Option<i32> {
        self.options.iter().find(|o| (o.level, o.name) == (level, name)).map(|o| o.value)
    }
}

/// SO_PASSPIDFD, Linux 6.5; libc does not have it everywhere.
const SO_PASSPIDFD: i32 = 76;
/// SO_PASSRIGHTS, Linux 6.16.
const SO_PASSRIGHTS: i32 = 83;
/// IPV6_FREEBIND, linux/in6.h.
const IPV6_FREEBIND: i32 = 78;
/// IP_MULTICAST_ALL and IPV6_MULTICAST_ALL.
const IP_MULTICAST_ALL: i32 = 49;
const IPV6_MULTICAST_ALL: i32 = 29;
/// UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, linux/udp.h.
const UDP_NO_CHECK6: [i32; 2] = [101, 102];
/// IPPROTO_UDP as a level.
const UDP: i32 = libc::IPPROTO_UDP;

/// The options that are kept, level and name: those of socket(7), unix(7), ip(7), ipv6(7), tcp(7) and
/// udp(7) that can be read and set as one number and are no command.
pub const SOCKET_OPTIONS: &[(i32, i32)] = &[
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_RECVOPTS),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
    (libc::IPPROTO_IP, libc::IP_MINTTL),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IP, IP_MULTICAST_ALL),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_NO_CHECK),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_PASSSEC),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    (libc::SOL_SOCKET, libc::SO_PEEK_OFF),
    (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX),
    (libc::SOL_SOCKET, SO_PASSPIDFD),
    (libc::SOL_SOCKET, SO_PASSRIGHTS),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (UDP, libc::UDP_CORK),
    (UDP, UDP_NO_CHECK6[0]),
    (UDP, UDP_NO_CHECK6[1]),
    (UDP, libc::UDP_SEGMENT),
    (UDP, libc::UDP_GRO),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL),
    (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    (libc::IPPROTO_IPV6, IPV6_FREEBIND),
];
