//! The C interface as a caller uses it, for the demo of the command: C structs go through the exported
//! functions. Next to it what such a caller does about processes with libc.
//!
//! In: descriptors and numbers. Out: what the C functions return, with errno as an `io::Error`.

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CHECKPOINT_FD_NONE, CrCheckpointArgs, CrRestartArgs, boundary};
use super::{cr_checkpoint, cr_restart};

/// `CKPT_COND_MNTPROC | CKPT_COND_MNTPTY`, what callers usually warn about.
const USUAL_WARNINGS: i64 = 6;

/// Calls cr_checkpoint with the image and the descriptor for errors: the checkpoint's id.
///
/// # Errors
/// errno of the call.
pub fn checkpoint(pid: i32, image: BorrowedFd<'_>, errors: BorrowedFd<'_>) -> io::Result<i32> {
    let mut args = CrCheckpointArgs {
        outfd: image.as_raw_fd(),
        logfd: CHECKPOINT_FD_NONE,
        uerrfd: errors.as_raw_fd(),
        container: 0,
        verbose: 0,
        flags: 0,
    };
    // SAFETY: `args` is a unique reference; its descriptors are borrowed for longer than the call.
    checked(unsafe { cr_checkpoint(pid, &raw mut args) })
}

/// Calls cr_restart, with the pids of the image or with new ones: pid of the root task, which is a
/// child of the caller.
///
/// # Errors
/// errno of the call.
pub fn restart(image: BorrowedFd<'_>, pids: bool, errors: BorrowedFd<'_>) -> io::Result<i32> {
    let mut args = CrRestartArgs {
        myself: 0,
        pids: pids.into(),
        pidns: 0,
        inspect: 0,
        root: ptr::null_mut(),
        wait: 0,
        mntns: 0,
        mnt_pty: 0,
        show_status: 0,
        copy_status: 0,
        freezer: ptr::null_mut(),
        keep_frozen: 0,
        infd: image.as_raw_fd(),
        klogfd: CHECKPOINT_FD_NONE,
        ulogfd: CHECKPOINT_FD_NONE,
        uerrfd: errors.as_raw_fd(),
        warn: USUAL_WARNINGS,
        debug: 0,
        verbose: 0,
        fail: 0,
        keep_lsm: 0,
    };
    // SAFETY: `args` is a unique reference without strings; its descriptors are borrowed for longer
    // than the call.
    checked(unsafe { cr_restart(&raw mut args) })
}

/// From now on descendants whose parent has died become children of this process.
///
/// # Errors
/// Those of prctl(2).
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Programs started from now on inherit no descriptor but the first three. Best effort, as Linux 5.10 has
/// no call for it.
pub fn keep_descriptors() {
    let flags = libc::CLOSE_RANGE_CLOEXEC as c_int;
    // SAFETY: changes flags of descriptors, closes none; a kernel without this gives an error.
    unsafe { libc::close_range(3, c_uint::MAX, flags) };
}

/// Sends SIGKILL to a process group. That it is gone already is fine.
///
/// # Errors
/// Those of kill(2).
pub fn kill_group(group: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; a group that does not exist gives an error.
    match checked(unsafe { libc::kill(-group, libc::SIGKILL) }) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.map(drop),
    }
}

/// Reaps the children in a process group that have ended: whether others are left.
///
/// # Errors
/// Those of waitpid(2).
pub fn reap_group(group: i32) -> io::Result<bool> {
    loop {
        // SAFETY: a NULL status is not written to.
        match checked(unsafe { libc::waitpid(-group, ptr::null_mut(), libc::WNOHANG) }) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether somebody wants this process to end.
static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP do nothing but make [`asked_to_end`] true.
pub fn end_on_request() {
    extern "C" fn note(_signal: c_int) {
        ASKED_TO_END.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Whether one of the signals of [`end_on_request`] has come.
pub fn asked_to_end() -> bool {
    ASKED_TO_END.load(Ordering::Relaxed)
}

/// Ends this process by the signal that ended another one with `status` (format of wait(2)), as
/// cr_restart does for `copy_status`. Returns where it was no signal, or none that ends this process.
pub fn end_like(status: i32) {
    boundary::end_like(status);
}

/// The value of a C call, or errno where it is -1.
fn checked(value: c_int) -> io::Result<c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
