//! Looking at sockets: options, addresses, and what waits in them.
//!
//! Comes in: descriptors of sockets that others use too. Never: a byte taken out of a socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Room for ancillary data: credentials, and as many descriptors as one message can carry (253).
const CONTROL: usize = 2048;
/// SCM_RIGHTS and its kind stand behind a header of so many bytes.
const CONTROL_HEADER: usize = 16;

/// A new socket.
///
/// # Errors
/// Those of socket(2).
pub fn new(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: three numbers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes sockets of the calling thread in this network namespace from now on.
///
/// # Errors
/// EPERM; see setns(2).
pub fn enter_network(namespace: &File) -> io::Result<()> {
    // SAFETY: a descriptor and a number.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// An option of at most `N` bytes, and how many it has.
///
/// # Errors
/// ENOPROTOOPT and others of getsockopt(2).
pub fn option<const N: usize>(
    socket: impl AsFd,
    level: i32,
    name: i32,
) -> io::Result<([u8; N], usize)> {
    let mut value = [0; N];
    let mut length = N as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` has room for `length` bytes.
    check(unsafe {
        libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length)
    })?;
    Ok((value, length as usize))
}

/// An option that is a number; some of one byte are among them.
///
/// # Errors
/// Those of [`option`].
pub fn number(socket: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    option::<4>(socket, level, name).map(|(value, _)| i32::from_le_bytes(value))
}

/// Sets how far recv(2) with MSG_PEEK skips (SO_PEEK_OFF); -1: not at all, and it stays so.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_peek_offset(socket: impl AsFd, offset: i32) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option is one int.
    check(unsafe {
        let value = (&raw const offset).cast();
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, value, size)
    })
    .map(drop)
}

/// The address of a socket as the kernel writes it (a sockaddr), or that of its peer.
///
/// # Errors
/// ENOTCONN; see getsockname(2), getpeername(2).
pub fn address(socket: impl AsFd, peer: bool) -> io::Result<Vec<u8>> {
    let mut bytes = [0u8; 128];
    let mut length = bytes.len() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    let room = bytes.as_mut_ptr().cast();
    // SAFETY: `bytes` has room for `length` bytes.
    check(unsafe {
        match peer {
            true => libc::getpeername(fd, room, &raw mut length),
            false => libc::getsockname(fd, room, &raw mut length),
        }
    })?;
    Ok(bytes.get(..length as usize).unwrap_or(&bytes).to_vec())
}

/// What MSG_PEEK showed.
#[derive(Debug, Default)]
pub struct Peeked {
    /// Bytes of it; more than there was room for where it did not fit.
    pub length: usize,
    /// The address of the sender, a sockaddr; empty for none.
    pub from: Vec<u8>,
    /// pid, uid and gid of the sender, where the socket asks for them (SO_PASSCRED).
    pub cred: Option<[u32; 3]>,
    /// Descriptors come with it. These copies are closed with this.
    pub descriptors: Vec<OwnedFd>,
}

/// Looks at what is next in a socket, which stays there. `None`: there is nothing.
///
/// # Errors
/// Those of recvmsg(2) but EAGAIN. An error that waits in the socket is taken out of it by some kinds of
/// sockets: look with poll(2) first.
pub fn peek(socket: impl AsFd, room: &mut [u8]) -> io::Result<Option<Peeked>> {
    let mut name = [0u8; 128];
    let mut control = [0u64; CONTROL / 8];
    let mut vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: msghdr is numbers and pointers, for which all zeros is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: all that the message points to lives as long as the call, with the sizes it says.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    if got == -1 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let mut peeked = Peeked {
        length: got as usize,
        from: name.get(..message.msg_namelen as usize).unwrap_or_default().to_vec(),
        ..Peeked::default()
    };
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_le_bytes()).collect();
    ancillary(bytes.get(..message.msg_controllen).unwrap_or_default(), &mut peeked);
    Ok(Some(peeked))
}

/// Takes ancillary data apart: records of length (64 bits), level, type, data, padded to 8 bytes.
fn ancillary(mut bytes: &[u8], peeked: &mut Peeked) {
    fn word(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
    }
    while let Some(length) = bytes.first_chunk().map(|&length| u64::from_le_bytes(length) as usize)
    {
        let Some(data) = bytes.get(CONTROL_HEADER..length) else { break };
        let level_and_type = (word(bytes, 8), word(bytes, 12));
        if level_and_type == (Some(libc::SOL_SOCKET as u32), Some(libc::SCM_RIGHTS as u32)) {
            let numbers = data.chunks_exact(4).filter_map(|fd| word(fd, 0));
            // SAFETY: the kernel has just made these descriptors for us.
            peeked.descriptors.extend(numbers.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }));
        } else if level_and_type
            == (Some(libc::SOL_SOCKET as u32), Some(libc::SCM_CREDENTIALS as u32))
            && let (Some(pid), Some(uid), Some(gid)) = (word(data, 0), word(data, 4), word(data, 8))
        {
            peeked.cred = Some([pid, uid, gid]);
        }
        bytes = bytes.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn a_stream_is_looked_at_and_keeps_what_it_has() {
        let (mut one, mut other) = UnixStream::pair().expect("pair");
        other.write_all(b"some").expect("write");
        other.write_all(b" bytes").expect("write");
        assert_eq!(super::super::stream::waiting(&one).expect("count"), 10);
        let mut room = [0; 10];
        let peeked = peek(&one, &mut room).expect("peek").expect("something");
        assert_eq!((peeked.length, &room), (10, b"some bytes"));
        let mut read = [0; 10];
        one.read_exact(&mut read).expect("read");
        assert_eq!(read, room);
        assert!(peek(&one, &mut room).expect("peek").is_none());
    }

    #[test]
    fn credentials_come_with_a_message() {
        let (one, other) = UnixDatagram::pair().expect("pair");
        let on = 1i32;
        // SAFETY: the option is one int.
        let set = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(one.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, value, 4)
        };
        assert_eq!(set, 0);
        other.send(b"x").expect("send");
        let peeked = peek(&one, &mut [0; 4]).expect("peek").expect("something");
        assert_eq!(peeked.cred.expect("credentials")[0], std::process::id());
        assert!(peeked.from.is_empty() && peeked.descriptors.is_empty());
    }
}
