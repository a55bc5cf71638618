//! TCP and UDP sockets, so far as they are no connections.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Open;
use crate::dump::facts::Facts;
use crate::error::DumpError;
use crate::image::{InetSocket, Socket, SocketFamily, SocketKind, SocketSettings, SocketState};
use crate::sys::{inspect, socket};

/// States of TCP_INFO.
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// Reads one.
pub(super) fn socket(
    all: &[Facts],
    open: &Open,
    settings: SocketSettings,
) -> Result<Socket, DumpError> {
    let holder = open.found.holder;
    let local = socket::address(&open.copy, false).map_err(holder.failed("read the address of"))?;
    let local = parse(&local).filter(|a| a.port() != 0 || !a.ip().is_unspecified());
    let (state, remote) = match open.kind {
        SocketKind::Stream => (tcp(all, open)?, None),
        _ => match socket::address(&open.copy, true) {
            Ok(remote) => (SocketState::Connected, parse(&remote)),
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => (SocketState::Unconnected, None),
            Err(e) => return Err(holder.failed("read the peer of")(e)),
        },
    };
    let v6 = open.family == libc::AF_INET6;
    Ok(Socket {
        kind: open.kind,
        state,
        closed: false,
        reset: false,
        shutdown: 0,
        settings,
        queue: Vec::new(),
        family: SocketFamily::Inet(InetSocket { v6, local, remote }),
    })
}

fn tcp(all: &[Facts], open: &Open) -> Result<SocketState, DumpError> {
    let holder = open.found.holder;
    let failed = || holder.failed("read the state of");
    let info = socket::option::<32>(&open.copy, libc::IPPROTO_TCP, libc::TCP_INFO);
    let (info, _) = info.map_err(failed())?;
    // struct tcp_info: of a socket that listens, tcpi_unacked is how many wait, tcpi_sacked how many may.
    let [state, .., w0, w1, w2, w3, m0, m1, m2, m3] = info;
    let (waiting, most) =
        (u32::from_le_bytes([w0, w1, w2, w3]), u32::from_le_bytes([m0, m1, m2, m3]));
    match state {
        TCP_LISTEN if waiting == 0 => Ok(SocketState::Listening { backlog: most }),
        TCP_LISTEN => {
            Err(holder.refuse(all, format!("{waiting} connections wait for it to accept them")))
        }
        // Whoever was connected knows it by this.
        TCP_CLOSE
            if inspect::poll_now(&open.copy, libc::POLLRDHUP).map_err(failed())?
                & libc::POLLRDHUP
                == 0 =>
        {
            Ok(SocketState::Unconnected)
        }
        TCP_CLOSE => Err(holder.refuse(all, "TCP connections that have ended cannot be saved")),
        _ => Err(holder.refuse(all, "TCP connections cannot be saved")),
    }
}

/// A sockaddr_in or sockaddr_in6.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let [f0, f1, p0, p1, rest @ ..] = bytes else { return None };
    let port = u16::from_be_bytes([*p0, *p1]);
    match i32::from(u16::from_le_bytes([*f0, *f1])) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*rest.first_chunk()?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (ip, rest) = rest.split_first_chunk()?;
            let scope = u32::from_le_bytes(*rest.first_chunk()?);
            let ip = Ipv6Addr::from(*ip);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, u32::from_be_bytes(*flow), scope)))
        }
        _ => None,
    }
}
