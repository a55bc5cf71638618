//! The C interface as a caller uses it, for the demo of the command and for the old names: C structs go
//! through the exported functions. Next to it what such a caller does about processes with libc.
//!
//! In: options, descriptors and numbers. Out: what the C functions return, with errno as an `io::Error`.

use std::ffi::{CStr, c_int, c_uint};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering;

use super::{CHECKPOINT_FD_NONE, CrCheckpointArgs, CrRestartArgs, boundary, cr_checkpoint};
use crate::dump::interrupt;
use crate::report::Report;
use crate::restart::{Mode, Options, Restarted};

/// Calls cr_checkpoint: the checkpoint's id.
///
/// # Errors
/// errno of the call. What went wrong has been written to the descriptors of `report`.
pub fn checkpoint(
    pid: i32,
    image: BorrowedFd<'_>,
    container: bool,
    flags: c_int,
    report: &Report<'_>,
) -> io::Result<i32> {
    let mut args = CrCheckpointArgs {
        outfd: image.as_raw_fd(),
        logfd: number(report.log),
        uerrfd: number(report.err),
        container: container.into(),
        verbose: report.verbose.into(),
        flags,
    };
    // SAFETY: `args` is a unique reference; its descriptors are borrowed for longer than the call.
    checked(unsafe { cr_checkpoint(pid, &raw mut args) })
}

/// Calls cr_restart with these options; the observer among them, which C does not have, is not called.
/// With `copy_status` the call does not come back where a signal ended the root task.
///
/// # Errors
/// errno of the call. What went wrong has been written to the descriptors of the options' report.
pub fn restart(options: &Options<'_>, copy_status: bool) -> io::Result<Restarted> {
    let text = |text: Option<&CStr>| text.map_or(ptr::null_mut(), |t| t.as_ptr().cast_mut());
    let mut args = CrRestartArgs {
        myself: options.myself.into(),
        pids: (options.mode == Mode::Pids).into(),
        pidns: (options.mode == Mode::PidNs).into(),
        inspect: options.inspect.into(),
        root: text(options.root),
        wait: options.wait.into(),
        mntns: options.mntns.into(),
        mnt_pty: options.mnt_pty.into(),
        show_status: options.show_status.into(),
        copy_status: copy_status.into(),
        freezer: text(options.freezer),
        keep_frozen: options.keep_frozen.into(),
        infd: options.image.as_raw_fd(),
        klogfd: number(options.engine_log),
        ulogfd: number(options.report.log),
        uerrfd: number(options.report.err),
        warn: options.warn.0,
        debug: options.report.debug.into(),
        verbose: options.report.verbose.into(),
        fail: options.fail.0,
        keep_lsm: options.keep_lsm.into(),
    };
    if let Some(choice) = options.interrupt {
        super::interrupt().store(choice.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let mut status = None;
    // SAFETY: `args` is a unique reference; its strings, which are only read, and its descriptors are
    // borrowed for longer than the call.
    let pid = checked(unsafe { super::restart_into(&raw mut args, &mut status) })?;
    Ok(Restarted { pid, status })
}

/// As C has it: -1 for none.
fn number(fd: Option<BorrowedFd<'_>>) -> c_int {
    fd.map_or(CHECKPOINT_FD_NONE, |fd| fd.as_raw_fd())
}

/// A duplicate of a descriptor that whoever started this process has left open for it, by its number.
/// To be asked for before this process opens descriptors of its own: those cannot be told apart.
///
/// # Errors
/// EBADF where there is none with this number.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; one that is no descriptor gives EBADF.
    let own = checked(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
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

/// From now on SIGINT, SIGTERM and SIGHUP do nothing but make [`asked_to_end`] true.
pub fn end_on_request() {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().for_each(end_on);
}

/// The same for one signal. It also ends system calls that wait.
pub(super) fn end_on(signal: c_int) {
    extern "C" fn note(_signal: c_int) {
        interrupt::request();
    }
    // SAFETY: zeros are an action without flags and with an empty mask; the handler only stores to an
    // atomic, which is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// Whether one of the signals of [`end_on_request`] has come.
pub fn asked_to_end() -> bool {
    interrupt::requested()
}

/// Ends this process by the signal that ended another one with `status` (format of wait(2)), as
/// cr_restart does for `copy_status`. Returns where it was no signal, or none that ends this process.
pub fn end_like(status: i32) {
    boundary::end_like(status);
}

/// The value of a C call, or errno where it is -1.
pub(super) fn checked(value: c_int) -> io::Result<c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
