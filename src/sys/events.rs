//! The channel on which tasks tell their coordinator that they exist, or have failed.
//!
//! A message is eight bytes; at most one is answered. The kernel adds the sender's pid, translated to the
//! coordinator's pid namespace (unix(7), SCM_CREDENTIALS): that is how the coordinator knows tasks of a
//! new namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::SysError;

/// A message and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What was said.
    pub word: u64,
    /// Pid of the sender's thread group in the receiver's pid namespace.
    pub pid: i32,
}

/// Both ends of the channel.
#[derive(Debug)]
pub struct Events {
    receiver: OwnedFd,
    sender: Option<OwnedFd>,
}

impl Events {
    /// A new channel; both ends are closed on exec.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn new() -> Result<Events, SysError> {
        let mut fds = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: fds is valid for two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) } < 0 {
            return Err(SysError::new("socketpair", io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given us these descriptors, nobody else owns them.
        let [receiver, sender] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let on = 1i32;
        // SAFETY: the option's value is valid for its length.
        let done = unsafe {
            libc::setsockopt(
                receiver.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PASSCRED,
                (&raw const on).cast(),
                size_of::<i32>() as u32,
            )
        };
        if done < 0 {
            return Err(SysError::new("setsockopt SO_PASSCRED", io::Error::last_os_error()));
        }
        Ok(Events { receiver, sender: Some(sender) })
    }

    /// The end that tasks send on, until it is closed here.
    pub fn sender(&self) -> Option<BorrowedFd<'_>> {
        self.sender.as_ref().map(AsFd::as_fd)
    }

    /// Closes the coordinator's copy of the tasks' end.
    pub fn close_sender(&mut self) {
        self.sender = None;
    }

    /// The end to wait on.
    pub fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Answers the task that has asked whether the coordinator is alive. That it may have ended is fine.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn answer(&self) -> Result<(), SysError> {
        let word = [0u8; 8];
        // SAFETY: the message is valid for its length.
        let sent = unsafe {
            libc::send(
                self.receiver.as_raw_fd(),
                word.as_ptr().cast(),
                word.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        let error = io::Error::last_os_error();
        if sent < 0 && error.raw_os_error() != Some(libc::EPIPE) {
            return Err(SysError::new("answer the first task", error));
        }
        Ok(())
    }

    /// The next message, None where none has come.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn next(&self) -> Result<Option<Event>, SysError> {
        let mut word = [0u8; 8];
        let mut control = [0u64; 8];
        let mut io = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: word.len() };
        // SAFETY: an all-zero msghdr is valid: no name, no buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut io;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message's buffers are valid for their lengths during the call.
        let got = unsafe { libc::recvmsg(self.receiver.as_raw_fd(), &raw mut message, flags) };
        if got < 0 {
            let error = io::Error::last_os_error();
            let kind = error.kind();
            return match kind {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(SysError::new("receive from the tasks", error)),
            };
        }
        if got != word.len() as isize {
            return Ok(None);
        }
        // SAFETY: the kernel has filled in the control buffer; CMSG_FIRSTHDR gives NULL or a header in it.
        let pid = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() || (*header).cmsg_type != libc::SCM_CREDENTIALS {
                return Ok(None);
            }
            libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned().pid
        };
        Ok(Some(Event { word: u64::from_le_bytes(word), pid }))
    }
}
