//! What reading an image from any kind of descriptor takes.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::error::SysError;

/// An anonymous file in memory, closed at exec. `name` shows up in /proc/PID/fd only.
pub fn memfd(name: &CStr) -> Result<File, SysError> {
    // SAFETY: `name` is a string with a NUL for the whole call; the kernel only reads it.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::new("memfd_create", io::Error::last_os_error()));
    }
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Waits until a read would not block: there is something to read, the stream's end, or an error.
/// A signal does not end the wait.
pub fn wait_readable(fd: impl AsFd) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: `poll` is one valid pollfd for the whole call.
        if unsafe { libc::poll(&mut poll, 1, -1) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes room for `size` bytes in a pipe, so that reader and writer take turns less often. What is no
/// pipe, or may not grow, stays as it is.
pub fn widen_pipe(fd: impl AsFd, size: i32) {
    // SAFETY: F_SETPIPE_SZ takes an int and touches no memory of ours; on anything but a pipe it fails.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETPIPE_SZ, size) };
}
