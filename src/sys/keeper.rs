//! Work that must not be left half done: a child process does it, which neither a signal to this process nor its
//! end takes along.

use std::io;
use std::ptr::{self, NonNull};

use super::{check, process};

/// Memory that this process shares with its children.
struct Shared {
    start: NonNull<libc::c_void>,
    len: usize,
}

impl Shared {
    fn new(len: usize) -> io::Result<Shared> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Shared { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// # Safety
    /// No other process may use the memory meanwhile.
    unsafe fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are mapped for reading and writing as long as `self` lives; nobody else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is our own, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

/// Ends the child where the work panics: it must not unwind into what is the parent's.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        super::session::exit(1);
    }
}

/// Has a child do `work` with `len` bytes of zeros, and gives back what it has left in them. The child leads a session of its own,
/// has all descriptors of this process, and goes on when this process has ended.
///
/// `work` runs in a copy of a process that may have had other threads: it may not allocate or take a lock, such as that of
/// the standard output. Signals are blocked in it where they are in the calling thread.
///
/// # Errors
/// Those of mmap(2), clone(2) and waitpid(2); ECHILD where the child did not come to its end.
pub fn run(len: usize, work: impl FnOnce(&mut [u8])) -> io::Result<Vec<u8>> {
    let mut shared = Shared::new(len)?;
    // No signal tells of its end: handlers and waits of the caller are for children of its own.
    // SAFETY: like fork(2), the call gives the child a copy of this memory.
    let child = check(unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) })?;
    if child == 0 {
        let ends = Ends;
        // The new process leads no group, so this cannot fail.
        let _ = super::session::lead();
        // SAFETY: the parent looks at it when this process has ended.
        work(unsafe { shared.bytes() });
        std::mem::forget(ends);
        super::session::exit(0);
    }
    let status = process::reap(child as i32, true).map_err(|error| error.source)?;
    if status != Some(0) {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    // SAFETY: the child has ended.
    Ok(unsafe { shared.bytes() }.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_leaves() {
        let own = process::own_pid();
        let left = run(5000, |bytes| {
            // SAFETY: no arguments.
            let leads = unsafe { libc::getsid(0) == libc::getpid() && libc::getppid() == own };
            bytes[4999] = u8::from(leads);
        });
        let left = left.expect("a child");
        assert_eq!((left.len(), left[0], left[4999]), (5000, 0, 1));
    }

    #[test]
    fn a_child_that_does_not_come_to_its_end() {
        // SAFETY: ends the child.
        let error = run(1, |_| unsafe { libc::_exit(3) }).expect_err("it was believed");
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    }
}
