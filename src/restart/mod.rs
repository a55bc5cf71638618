//! Restart of the task tree of an image.
#![forbid(unsafe_code)]

pub mod source;

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicI32;

use crate::error::Error;
use crate::report::Report;

/// Which pids the tasks get, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever pids the kernel gives.
    #[default]
    NewPids,
    /// The pids of the image, in the caller's pid namespace.
    Pids,
    /// The pids of the image, in a new pid namespace.
    PidNs,
}

/// Conditions that can be tolerated, warned about, or be a failure (`abi.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions(pub i64);

impl Conditions {
    /// A pid number 0 where no new pid namespace is made.
    pub const PIDZERO: i64 = 1;
    /// The old /proc cannot be unmounted.
    pub const MNTPROC: i64 = 2;
    /// The old /dev/pts cannot be unmounted.
    pub const MNTPTY: i64 = 4;

    /// Whether `condition` is among these.
    pub fn has(self, condition: i64) -> bool {
        self.0 & condition != 0
    }
}

/// What a restart is asked to do: the safe form of `struct cr_restart_args`.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The image: a file, a pipe or a socket, read from its current position.
    pub image: BorrowedFd<'a>,
    /// Which pids.
    pub mode: Mode,
    /// Restart the caller itself from the image (single task).
    pub myself: bool,
    /// Look for error records in the image.
    pub inspect: bool,
    /// chroot there.
    pub root: Option<&'a CStr>,
    /// Return only when the root task has ended.
    pub wait: bool,
    /// Private mount namespace.
    pub mntns: bool,
    /// Fresh devpts instance.
    pub mnt_pty: bool,
    /// Say on the log how the root task ended.
    pub show_status: bool,
    /// Freezer cgroup directory for the tasks.
    pub freezer: Option<&'a CStr>,
    /// Leave the tasks frozen.
    pub keep_frozen: bool,
    /// Restore security labels.
    pub keep_lsm: bool,
    /// The engine's own log.
    pub engine_log: Option<BorrowedFd<'a>>,
    /// Conditions to warn about.
    pub warn: Conditions,
    /// Conditions to fail on; stronger than `warn`.
    pub fail: Conditions,
    /// What a SIGINT during the restart is turned into (`abi.md`, `global_send_sigint`): 0 ignores
    /// it, -1 is replaced here by the default of the mode. `None`: SIGINT is none of our business.
    pub interrupt: Option<&'a AtomicI32>,
    /// Messages.
    pub report: Report<'a>,
}

/// A tree that was restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarted {
    /// Pid of the caller's new child: the root task, or the coordinator where there is one.
    pub pid: i32,
    /// How the root task ended (format of wait(2)), where that was waited for.
    pub status: Option<i32>,
}

/// Restarts the tree of an image.
///
/// On success the tree runs on. On failure nothing of it is left.
///
/// # Errors
/// The first cause; see [`Error::errno`].
pub fn restart(options: &Options<'_>) -> Result<Restarted, Error> {
    let _ = options;
    Err(crate::error::RestartError::Arguments("not yet").into())
}
