//! Processes and sessions that a command makes of itself: forking, job control, signals as events.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{fs::File, ptr};

use super::check;

/// fork(2): the pid of the child, None in the child. It dies with its parent, by SIGKILL.
///
/// # Errors
/// EBUSY where the process has other threads, whose locks a child could wait for for ever; those of fork(2).
pub fn fork() -> io::Result<Option<i32>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: this is the only thread, so the child may do whatever the parent may.
    let child = check(unsafe { libc::fork() })?;
    if child != 0 {
        return Ok(Some(child));
    }
    // SAFETY: numbers only.
    let orphaned = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid() != parent
    };
    if orphaned {
        exit(1);
    }
    Ok(None)
}

/// Ends this process at once: nothing of a parent's that was copied by a fork is flushed or dropped.
pub fn exit(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// setsid(2).
///
/// # Errors
/// EPERM where this process leads a process group.
pub fn lead() -> io::Result<()> {
    // SAFETY: no preconditions.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Gives this process a process group of its own.
///
/// # Errors
/// EPERM where it leads a session.
pub fn group_of_its_own() -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// The process group of this process.
pub fn own_group() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::getpgrp() }
}

/// Ignores these signals.
pub fn ignore(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: takes numbers only; a signal that cannot be ignored gives an error.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Gives a signal its default action. For SIGCHLD: so that children of this process wait to be reaped.
pub fn reset(signal: i32) {
    // SAFETY: takes numbers only.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Signals that are read instead of delivered, until it is dropped.
#[derive(Debug)]
pub struct Signals {
    file: File,
    before: libc::sigset_t,
}

impl Signals {
    /// These signals, but for those that the process ignores.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn read(signals: &[i32]) -> io::Result<Signals> {
        let ignored = super::signal::ignored();
        let mut set = MaybeUninit::zeroed();
        // SAFETY: sigemptyset initialises `set` before the others use it.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals.iter().filter(|&&signal| ignored & 1 << (signal - 1) == 0) {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is valid.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut before = MaybeUninit::zeroed();
        // SAFETY: the set is valid, and so is a mask of zeros.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr());
            before.assume_init()
        };
        Ok(Signals { file, before })
    }

    /// One that has come.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        (&self.file).read_exact(&mut info).ok()?;
        let [a, b, c, d, ..] = info;
        Some(i32::from_ne_bytes([a, b, c, d]))
    }

    /// Stops the process group of this process, this process included, as ctrl-z does; returns when it goes
    /// on, or at once where nobody could make it go on.
    pub fn stop_group(&self) {
        // SAFETY: numbers, and the mask that was there before.
        unsafe {
            libc::kill(0, libc::SIGTSTP);
            let mut blocked = MaybeUninit::zeroed();
            // The signal is taken here.
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, blocked.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), ptr::null_mut());
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that the kernel gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

/// Which of the descriptors can be read and which can be written without waiting, of those for which that
/// is asked, after `millis` at most. A hang-up counts as both.
pub fn poll(wanted: &[(BorrowedFd<'_>, bool, bool)], millis: i32) -> Vec<(bool, bool)> {
    let mut polls: Vec<libc::pollfd> = Vec::with_capacity(wanted.len());
    for &(fd, read, write) in wanted {
        let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        // A negative one is passed over.
        let fd = if read || write { fd.as_raw_fd() } else { -1 };
        polls.push(libc::pollfd { fd, events, revents: 0 });
    }
    // SAFETY: the array is valid for its length.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, millis) };
    let ready = |poll: &libc::pollfd, asked: i16, other: i16| {
        poll.events & asked != 0 && poll.revents & !other != 0
    };
    let both = |poll: &libc::pollfd| {
        (ready(poll, libc::POLLIN, libc::POLLOUT), ready(poll, libc::POLLOUT, libc::POLLIN))
    };
    polls.iter().map(both).collect()
}
