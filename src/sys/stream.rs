//! What reading and writing an image on any kind of descriptor takes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;

/// Waits until a read would not block: there is something to read, the stream's end, or an error.
/// A signal does not end the wait.
pub fn wait_readable(fd: impl AsFd) -> io::Result<()> {
    loop {
        match poll(&fd, libc::POLLIN) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until a write would not block: there is room, or an error; or until a signal comes.
pub fn wait_writable(fd: impl AsFd) -> io::Result<()> {
    match poll(&fd, libc::POLLOUT) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

fn poll(fd: impl AsFd, events: i16) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: `poll` is one valid pollfd for the whole call.
    match unsafe { libc::poll(&mut poll, 1, -1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether all writes go to the end of the file, wherever they are meant to go (O_APPEND).
pub fn appends(fd: impl AsFd) -> io::Result<bool> {
    Ok(flags(fd)? & libc::O_APPEND != 0)
}

/// Flags of the open file (F_GETFL).
pub fn flags(fd: impl AsFd) -> io::Result<i32> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours.
    match unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

/// Bytes that can be read at once (FIONREAD): from a pipe by either end, a socket (of datagrams those of the first), a terminal
/// (of lines those that are complete), an inotify file.
///
/// # Errors
/// Those of ioctl(2); EINVAL for a socket that listens, EIO for a terminal that has hung up.
pub fn waiting(fd: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Makes room for `size` bytes in a pipe, so that reader and writer take turns less often. What is no
/// pipe, or may not grow, stays as it is.
pub fn widen_pipe(fd: impl AsFd, size: i32) {
    // SAFETY: F_SETPIPE_SZ takes an int and touches no memory of ours; on anything but a pipe it fails.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETPIPE_SZ, size) };
}
