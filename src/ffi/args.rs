//! The structs of the C interface, and the safe options that are made of them.
//!
//! In: a pointer that a C caller gave. Out: [`restart::Options`] or [`dump::Options`]. The fields
//! that the interface says are written are written here, and no other byte of the caller's is.

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicI32;

use crate::error::{Error, RestartError};
use crate::report::Report;
use crate::{dump, restart};

/// No descriptor.
pub const CHECKPOINT_FD_NONE: c_int = -1;
/// cr_checkpoint_args.flags: a subtree, not a whole container.
pub const CHECKPOINT_SUBTREE: c_int = 1;
/// cr_checkpoint_args.flags: network namespaces too.
pub const CHECKPOINT_NETNS: c_int = 2;

/// restart(2): the caller itself.
pub const RESTART_TASKSELF: c_int = 1;
/// restart(2): leave the tasks frozen.
pub const RESTART_FROZEN: c_int = 2;
/// restart(2): a task that only lends its pid.
pub const RESTART_GHOST: c_int = 4;
/// restart(2): restore security labels.
pub const RESTART_KEEP_LSM: c_int = 8;
/// restart(2): reset connections.
pub const RESTART_CONN_RESET: c_int = 16;

/// What cr_restart is asked to do.
/// cbindgen:field-names=[self, pids, pidns, inspect, root, wait, mntns, mnt_pty, show_status, copy_status, freezer, keep_frozen, infd, klogfd, ulogfd, uerrfd, warn, debug, verbose, fail, keep_lsm]
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CrRestartArgs {
    /// Restart the caller itself from the image (single task).
    pub myself: c_int,
    /// Restore the original pid numbers.
    pub pids: c_int,
    /// Restart in a new pid namespace. cr_restart sets pids to 1.
    pub pidns: c_int,
    /// Look for error records in the image.
    pub inspect: c_int,
    /// chroot there. NULL: no.
    pub root: *mut c_char,
    /// Return only when the root task has ended.
    pub wait: c_int,
    /// Private mount namespace.
    pub mntns: c_int,
    /// Fresh devpts instance. cr_restart sets mntns to 1.
    pub mnt_pty: c_int,
    /// Say on ulogfd how the root task ended.
    pub show_status: c_int,
    /// With wait: end as the root task did, if that was a signal.
    pub copy_status: c_int,
    /// Freezer cgroup directory for the tasks. NULL: none.
    pub freezer: *mut c_char,
    /// Leave the tasks frozen.
    pub keep_frozen: c_int,
    /// The image: a file, a pipe or a socket.
    pub infd: c_int,
    /// The engine's log. Negative: none; cr_restart writes -1 back.
    pub klogfd: c_int,
    /// Messages (verbose). Negative: none.
    pub ulogfd: c_int,
    /// Errors and debug messages. Negative: none.
    pub uerrfd: c_int,
    /// CKPT_COND_* to warn about.
    pub warn: c_long,
    /// Debug messages.
    pub debug: c_int,
    /// Verbose messages.
    pub verbose: c_int,
    /// CKPT_COND_* to fail on; stronger than warn.
    pub fail: c_long,
    /// Restore security labels.
    pub keep_lsm: c_int,
}

/// What cr_checkpoint is asked to do.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CrCheckpointArgs {
    /// Where the image goes: a file, a pipe or a socket.
    pub outfd: c_int,
    /// Messages. Negative: none.
    pub logfd: c_int,
    /// Errors. Negative: none.
    pub uerrfd: c_int,
    /// pid is the init of a pid namespace, and all of it is taken.
    pub container: c_int,
    /// Verbose messages.
    pub verbose: c_int,
    /// CHECKPOINT_*. Without container cr_checkpoint adds CHECKPOINT_SUBTREE.
    pub flags: c_int,
}

const _: () = {
    assert!(size_of::<CrRestartArgs>() == 112 && size_of::<CrCheckpointArgs>() == 24);
    assert!(offset_of!(CrRestartArgs, root) == 16 && offset_of!(CrRestartArgs, freezer) == 48);
    assert!(offset_of!(CrRestartArgs, infd) == 60 && offset_of!(CrRestartArgs, warn) == 80);
    assert!(offset_of!(CrRestartArgs, fail) == 96 && offset_of!(CrRestartArgs, keep_lsm) == 104);
    assert!(offset_of!(CrCheckpointArgs, flags) == 20);
};

/// The arguments of one call of cr_restart. The descriptors and strings that the caller named stay
/// as they are for as long as this lives.
#[derive(Debug)]
pub(super) struct RestartCall {
    args: CrRestartArgs,
    root: Option<CString>,
    freezer: Option<CString>,
}

impl RestartCall {
    /// Takes the arguments over and writes back `pids`, `mntns` and `klogfd`. NULL gives `None`.
    ///
    /// # Safety
    /// `args` is as for [`super::cr_restart`], until the value returned is dropped.
    pub(super) unsafe fn take(args: *mut CrRestartArgs) -> Option<RestartCall> {
        // SAFETY: NULL gives None; otherwise valid for reads and writes and not used by others.
        let theirs = unsafe { args.as_mut() }?;
        if theirs.pidns != 0 {
            theirs.pids = 1;
        }
        if theirs.mnt_pty != 0 {
            theirs.mntns = 1;
        }
        if theirs.klogfd < 0 {
            theirs.klogfd = CHECKPOINT_FD_NONE;
        }
        // SAFETY: NULL or a string with an end that does not change during the call.
        let root = unsafe { copy(theirs.root) };
        // SAFETY: as above.
        let freezer = unsafe { copy(theirs.freezer) };
        Some(RestartCall { args: *theirs, root, freezer })
    }

    /// Where this call's messages go. A number that is no open descriptor counts as none.
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            log: self.fd(self.args.ulogfd),
            err: self.fd(self.args.uerrfd),
            verbose: self.args.verbose != 0,
            debug: self.args.debug != 0,
        }
    }

    /// Whether the caller wants to end as the root task did.
    pub(super) fn copies_status(&self) -> bool {
        self.args.copy_status != 0
    }

    /// The safe form of the arguments.
    ///
    /// # Errors
    /// EBADF for an image descriptor that is not open, EINVAL for `self` with what it excludes.
    pub(super) fn options<'a>(
        &'a self,
        interrupt: &'a AtomicI32,
    ) -> Result<restart::Options<'a>, Error> {
        let a = &self.args;
        let image = self.fd(a.infd).ok_or(Error::Descriptor { field: "infd", number: a.infd })?;
        let excluded = [a.pids, a.pidns, a.show_status, a.copy_status].iter().any(|&v| v != 0);
        if a.myself != 0 && (excluded || self.freezer.is_some()) {
            let text = "self excludes pids, pidns, show_status, copy_status and freezer";
            return Err(RestartError::Arguments(text).into());
        }
        let mode = match (a.pidns != 0, a.pids != 0) {
            (true, _) => restart::Mode::PidNs,
            (false, true) => restart::Mode::Pids,
            (false, false) => restart::Mode::NewPids,
        };
        Ok(restart::Options {
            image,
            mode,
            myself: a.myself != 0,
            inspect: a.inspect != 0,
            root: self.root.as_deref(),
            wait: a.wait != 0,
            mntns: a.mntns != 0,
            mnt_pty: a.mnt_pty != 0,
            show_status: a.show_status != 0,
            freezer: self.freezer.as_deref(),
            keep_frozen: a.keep_frozen != 0,
            keep_lsm: a.keep_lsm != 0,
            engine_log: self.fd(a.klogfd),
            warn: restart::Conditions(a.warn),
            fail: restart::Conditions(a.fail),
            terminal: None,
            interrupt: Some(interrupt),
            observer: None,
            report: self.report(),
        })
    }

    fn fd(&self, number: c_int) -> Option<BorrowedFd<'_>> {
        // SAFETY: the caller keeps its descriptors open during the call (contract of `take`).
        unsafe { borrow(number) }
    }
}

/// The arguments of one call of cr_checkpoint, like [`RestartCall`].
#[derive(Debug)]
pub(super) struct CheckpointCall {
    args: CrCheckpointArgs,
}

impl CheckpointCall {
    /// Takes the arguments over and writes back `flags`. NULL gives `None`.
    ///
    /// # Safety
    /// `args` is as for [`super::cr_checkpoint`], until the value returned is dropped.
    pub(super) unsafe fn take(args: *mut CrCheckpointArgs) -> Option<CheckpointCall> {
        // SAFETY: NULL gives None; otherwise valid for reads and writes and not used by others.
        let theirs = unsafe { args.as_mut() }?;
        if theirs.container == 0 {
            theirs.flags |= CHECKPOINT_SUBTREE;
        }
        Some(CheckpointCall { args: *theirs })
    }

    /// Where this call's messages go. A number that is no open descriptor counts as none.
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            log: self.fd(self.args.logfd),
            err: self.fd(self.args.uerrfd),
            verbose: self.args.verbose != 0,
            debug: false,
        }
    }

    /// The safe form of the arguments.
    ///
    /// # Errors
    /// EBADF for an image descriptor that is not open.
    pub(super) fn options(&self) -> Result<dump::Options<'_>, Error> {
        let a = &self.args;
        let output =
            self.fd(a.outfd).ok_or(Error::Descriptor { field: "outfd", number: a.outfd })?;
        Ok(dump::Options {
            output,
            container: a.container != 0,
            flags: a.flags as u32,
            kill: false,
            terminal: false,
            report: self.report(),
        })
    }

    fn fd(&self, number: c_int) -> Option<BorrowedFd<'_>> {
        // SAFETY: the caller keeps its descriptors open during the call (contract of `take`).
        unsafe { borrow(number) }
    }
}

/// A copy of a C string; NULL gives `None`.
///
/// # Safety
/// `text` is NULL, or a string with an end that does not change during the call.
unsafe fn copy(text: *const c_char) -> Option<CString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, so a string with an end; the borrow ends with the copy.
    Some(unsafe { CStr::from_ptr(text) }.to_owned())
}

/// The descriptor `number` if it is open.
///
/// # Safety
/// If `number` is open now, it stays so during `'a`.
unsafe fn borrow<'a>(number: c_int) -> Option<BorrowedFd<'a>> {
    // SAFETY: takes no pointer; a number that is no descriptor gives EBADF.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: open, as was just asked, and not -1; it stays open during 'a.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::ptr;

    fn restart_args() -> CrRestartArgs {
        CrRestartArgs {
            myself: 0,
            pids: 0,
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
            infd: -1,
            klogfd: -7,
            ulogfd: -1,
            uerrfd: -1,
            warn: 0,
            debug: 0,
            verbose: 0,
            fail: 0,
            keep_lsm: 0,
        }
    }

    fn take(args: &mut CrRestartArgs) -> RestartCall {
        // SAFETY: a unique reference; the descriptors in it are -1 or outlive the call.
        unsafe { RestartCall::take(args) }.expect("not NULL")
    }

    #[test]
    fn documented_fields_are_written_back() {
        let mut args = CrRestartArgs { pidns: 1, mnt_pty: 1, ..restart_args() };
        take(&mut args);
        assert_eq!((args.pids, args.mntns, args.klogfd), (1, 1, -1));
    }

    #[test]
    fn options_follow_the_arguments() {
        let file = tempfile::tempfile().expect("a file");
        let mut path = *b"/some/where\0";
        let mut args = CrRestartArgs {
            infd: file.as_raw_fd(),
            pids: 1,
            wait: 1,
            warn: 6,
            root: path.as_mut_ptr().cast(),
            ..restart_args()
        };
        let call = take(&mut args);
        let interrupt = AtomicI32::new(-1);
        let options = call.options(&interrupt).expect("good arguments");
        assert_eq!(options.mode, restart::Mode::Pids);
        assert_eq!(options.image.as_raw_fd(), file.as_raw_fd());
        assert!(options.wait && !options.inspect && options.engine_log.is_none());
        assert!(options.warn.has(restart::Conditions::MNTPTY));
        assert_eq!(options.root, Some(c"/some/where"));
    }

    #[test]
    fn bad_descriptors_and_combinations_are_refused() {
        let interrupt = AtomicI32::new(-1);
        for infd in [-1, i32::MIN, i32::MAX] {
            let call = take(&mut CrRestartArgs { infd, ..restart_args() });
            assert_eq!(call.options(&interrupt).expect_err("not open").errno(), libc::EBADF);
        }
        let file = tempfile::tempfile().expect("a file");
        let base = CrRestartArgs { infd: file.as_raw_fd(), myself: 1, ..restart_args() };
        for mut args in [
            CrRestartArgs { pids: 1, ..base },
            CrRestartArgs { pidns: 1, ..base },
            CrRestartArgs { show_status: 1, ..base },
            CrRestartArgs { copy_status: 1, ..base },
        ] {
            let call = take(&mut args);
            assert_eq!(call.options(&interrupt).expect_err("excluded").errno(), libc::EINVAL);
        }
        let call = take(&mut CrRestartArgs { wait: 1, inspect: 1, ..base });
        assert!(call.options(&interrupt).is_ok_and(|o| o.myself));
    }

    #[test]
    fn a_subtree_is_flagged_and_a_container_is_not() {
        let base = CrCheckpointArgs {
            outfd: -1,
            logfd: -1,
            uerrfd: -1,
            container: 0,
            verbose: 0,
            flags: 2,
        };
        for (container, flags) in [(0, 3), (1, 2)] {
            let mut args = CrCheckpointArgs { container, ..base };
            // SAFETY: a unique reference, and no descriptors.
            let call = unsafe { CheckpointCall::take(&mut args) }.expect("not NULL");
            assert_eq!(args.flags, flags);
            assert_eq!(call.options().expect_err("not open").errno(), libc::EBADF);
        }
    }
}
