//! Sockets: their options, who is connected to whom, and what waits in them.
//!
//! Comes in: all sockets of the tree. Goes out: [`Socket`]s. Never: a connection to somebody outside,
//! and a byte or a message taken out of a socket.

mod inet;
mod queue;
mod settings;
mod unix;

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::{FileKind, SocketKind};
use crate::sys::socket;

/// A socket that was found among the descriptors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    holder: Holder,
    /// Its inode number, of which the kernel uses 32 bits.
    inode: u32,
}

/// A socket that is being read.
struct Open {
    found: Found,
    /// A descriptor of ours for it.
    copy: OwnedFd,
    family: i32,
    kind: SocketKind,
    protocol: i32,
}

/// Address families that are refused by name, from socket(2).
const FAMILIES: [(i32, &str); 8] = [
    (libc::AF_NETLINK, "netlink"),
    (libc::AF_PACKET, "packet"),
    (libc::AF_VSOCK, "vsock"),
    (libc::AF_ALG, "AF_ALG"),
    (libc::AF_XDP, "XDP"),
    (libc::AF_KEY, "key"),
    (libc::AF_CAN, "CAN"),
    (libc::AF_BLUETOOTH, "Bluetooth"),
];

impl Files {
    /// What an open file is that is a socket.
    pub(super) fn socket(&mut self, facts: &Facts, seen: &Seen) -> FileKind {
        let found = Found { holder: Holder::new(facts, seen), inode: seen.meta.ino() as u32 };
        self.found_sockets.push(found);
        FileKind::Socket { socket: self.found_sockets.len() - 1 }
    }

    /// Reads the sockets, and refuses those with a peer elsewhere.
    pub(super) fn read_sockets(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        if self.found_sockets.is_empty() {
            return Ok(());
        }
        let open: Vec<Open> =
            self.found_sockets.iter().map(|&found| open(all, found)).collect::<Result<_, _>>()?;
        let mut fresh = settings::Fresh::default();
        let settings: Vec<_> =
            open.iter().map(|open| fresh.settings(all, open)).collect::<Result<_, _>>()?;
        let infos = unix::infos(all, &open)?;
        let mut reader = unix::Reader::new(all, &open, &infos, &mut self.names);
        let mut sockets = Vec::with_capacity(open.len());
        for (index, (open, settings)) in open.iter().zip(settings).enumerate() {
            sockets.push(match open.family {
                libc::AF_UNIX => reader.socket(index, settings)?,
                _ => inet::socket(all, open, settings)?,
            });
        }
        self.sockets = reader.finish(sockets)?;
        Ok(())
    }
}

/// What kind of socket it is.
fn open(all: &[Facts], found: Found) -> Result<Open, DumpError> {
    let holder = found.holder;
    let copy = holder.copy()?;
    let number = |name| {
        let value = socket::number(&copy, libc::SOL_SOCKET, name);
        value.map_err(holder.failed("read the options of"))
    };
    let (family, protocol) = (number(libc::SO_DOMAIN)?, number(libc::SO_PROTOCOL)?);
    let kind = number(libc::SO_TYPE)?;
    let refuse = |reason: String| Err(holder.refuse(all, reason));
    let known = match family {
        libc::AF_UNIX => true,
        libc::AF_INET | libc::AF_INET6 => {
            let pair = (kind, protocol);
            pair == (libc::SOCK_STREAM, libc::IPPROTO_TCP)
                || pair == (libc::SOCK_DGRAM, libc::IPPROTO_UDP)
        }
        _ => {
            let name = FAMILIES.iter().find(|(number, _)| *number == family);
            return refuse(match name {
                Some((_, name)) => format!("{name} sockets cannot be saved"),
                None => format!("sockets of address family {family} cannot be saved"),
            });
        }
    };
    let kind = match kind {
        libc::SOCK_STREAM if known => SocketKind::Stream,
        libc::SOCK_DGRAM if known => SocketKind::Datagram,
        libc::SOCK_SEQPACKET if known => SocketKind::SeqPacket,
        libc::SOCK_RAW => return refuse("raw sockets cannot be saved".to_owned()),
        _ => return refuse(format!("sockets of protocol {protocol} cannot be saved")),
    };
    Ok(Open { found, copy, family, kind, protocol })
}
