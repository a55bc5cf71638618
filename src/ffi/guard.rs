//! A checkpoint that outlives the death of its command.
//!
//! Whoever kills the command kills a process that only waits. The checkpoint is made by its child, which
//! sees that, lets the tree go as it was, and takes half an image away.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::call::{checked, end_on};
use crate::dump::interrupt;

/// What asks the command to end.
const REQUESTS: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Forks. In the child: None at once; SIGINT, SIGTERM, SIGHUP and the death of the parent interrupt the
/// checkpoint that it makes ([`interrupt`]). In the parent: the status of the child (format of wait(2)) when
/// it has ended; or the signal that has interrupted it. Only for a process with one thread, as a command is.
///
/// # Errors
/// Those of fork(2) and waitpid(2).
pub fn guarded() -> io::Result<Option<c_int>> {
    let requests = REQUESTS.into_iter().filter(|&signal| !is_ignored(signal));
    let requests: Vec<c_int> = requests.collect();
    // SAFETY: takes numbers only. Without this a caller that ignores SIGCHLD would cost us the status.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut wanted = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises `wanted` before the others use it; the mask call writes `before`.
    let (wanted, before) = unsafe {
        libc::sigemptyset(wanted.as_mut_ptr());
        for &signal in requests.iter().chain(&[libc::SIGCHLD]) {
            libc::sigaddset(wanted.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, wanted.as_ptr(), before.as_mut_ptr());
        (wanted.assume_init(), before.assume_init())
    };
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let child = checked(unsafe { libc::fork() })?;
    if child != 0 {
        return wait(child, &wanted, &requests).map(Some);
    }
    requests.iter().for_each(|&signal| end_on(signal));
    end_on(libc::SIGTERM);
    // SAFETY: numbers, and the mask that was there before.
    let orphaned = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        libc::getppid() != parent
    };
    if orphaned {
        interrupt::request();
    }
    Ok(None)
}

/// Waits for the child, and passes on what asks this process to end.
fn wait(child: c_int, wanted: &libc::sigset_t, requests: &[c_int]) -> io::Result<c_int> {
    let mut passed_on = None;
    loop {
        // SAFETY: the set is valid, and nothing is asked for about the signal.
        let signal = unsafe { libc::sigwaitinfo(wanted, ptr::null_mut()) };
        if requests.contains(&signal) {
            passed_on = Some(signal);
            // SAFETY: a signal to a child that has not been reaped.
            unsafe { libc::kill(child, signal) };
        }
        let mut status = 0;
        // SAFETY: the status is valid for writing.
        if checked(unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) })? == 0 {
            continue;
        }
        // Who was asked to end by a signal, and does, ends by that signal.
        return Ok(passed_on.filter(|_| status != 0).unwrap_or(status));
    }
}

/// Whether whoever started this process wants it to take no notice of a signal, as nohup(1) does.
fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a NULL action only asks; the kernel fills the struct, for which zeros are a value too.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
