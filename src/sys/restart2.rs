//! restart(2), on kernels that have it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::SysError;

/// Calls restart(2) under its number: `pid` is the root task, `fd` gives the image, `log` takes the
/// kernel's messages. See the format document, section 3, for flags and errors.
///
/// # Errors
/// Those of restart(2).
pub fn restart(
    number: i64,
    pid: i32,
    fd: BorrowedFd<'_>,
    flags: u64,
    log: Option<BorrowedFd<'_>>,
) -> Result<(), SysError> {
    let log = log.map_or(-1, |fd| fd.as_raw_fd());
    // SAFETY: the caller has chosen the number of restart(2), which takes no pointers; bad arguments
    // give an error. With TASKSELF it returns only where it has failed.
    let result = unsafe { libc::syscall(number, pid, fd.as_raw_fd(), flags, log) };
    if result < 0 {
        return Err(SysError::new("restart", io::Error::last_os_error()));
    }
    Ok(())
}

/// A pipe, both ends closed on exec: reader, writer.
///
/// # Errors
/// Those of pipe2(2).
pub fn pipe() -> Result<(io::PipeReader, io::PipeWriter), SysError> {
    io::pipe().map_err(|e| SysError::new("pipe", e))
}
