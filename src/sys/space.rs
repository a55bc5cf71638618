//! Looking into the namespaces of others.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use super::signal::Blocked;

/// A new ipc namespace, which is there as long as somebody has the file open or is in it.
///
/// # Errors
/// EPERM and others of unshare(2).
pub fn new_ipc() -> io::Result<File> {
    let unshared = || {
        // SAFETY: a number.
        if unsafe { libc::unshare(libc::CLONE_NEWIPC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        File::open("/proc/thread-self/ns/ipc")
    };
    in_a_thread(unshared)
}

/// Does `work` in a thread of its own that is in this namespace (not one of users, mounts or pids). The
/// thread takes no signals: those are for the threads of the caller.
///
/// # Errors
/// EPERM and others of setns(2), those of `work`.
pub fn inside<R: Send>(
    namespace: &File,
    work: impl FnOnce() -> io::Result<R> + Send,
) -> io::Result<R> {
    let entered = || {
        // SAFETY: a descriptor and a number.
        if unsafe { libc::setns(namespace.as_raw_fd(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        work()
    };
    in_a_thread(entered)
}

/// Does `work` in a thread that takes no signals.
pub(super) fn in_a_thread<R: Send>(work: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let blocked = Blocked::all();
        let started = thread::Builder::new().spawn_scoped(scope, work);
        drop(blocked);
        started?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
