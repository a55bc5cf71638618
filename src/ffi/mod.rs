//! The C boundary: what `include/checkpoint.h` declares, and nothing else is exported.
//!
//! In: structs, descriptor numbers and strings of a C caller. Out: a pid or an id, or -1 and errno.
//! Each function has one shape: take the arguments over (`args`), call [`crate::restart`] or
//! [`crate::dump`], turn the outcome into a C one (`boundary`). No decision about a restart or a
//! checkpoint is made here, and nothing that goes wrong here ends the caller's process.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::{dump, restart};

mod args;
mod boundary;
#[cfg(feature = "cli")]
pub mod call;
#[cfg(feature = "cli")]
pub mod guard;
mod last;

pub use args::{
    CHECKPOINT_FD_NONE, CHECKPOINT_NETNS, CHECKPOINT_SUBTREE, CrCheckpointArgs, CrRestartArgs,
    RESTART_CONN_RESET, RESTART_FROZEN, RESTART_GHOST, RESTART_KEEP_LSM, RESTART_TASKSELF,
};
use args::{CheckpointCall, RestartCall};
pub use last::{
    USERCR_STAGE_ARGUMENTS, USERCR_STAGE_CHECKPOINT, USERCR_STAGE_IMAGE, USERCR_STAGE_INTERNAL,
    USERCR_STAGE_PLAN, USERCR_STAGE_RESTART, USERCR_STAGE_SYSTEM, UsercrError, usercr_last_error,
};

/// What a SIGINT that comes while a restart is under way is turned into: that signal goes to the
/// restarted tree. 0: SIGINT is ignored. -1: set by cr_restart, to SIGKILL where the root task is
/// the init of a new pid namespace, to SIGINT otherwise. Set it before cr_restart.
#[allow(non_upper_case_globals, reason = "the name is part of the C interface")]
#[unsafe(no_mangle)]
pub static mut global_send_sigint: c_int = -1;

/// The last id that [`cr_checkpoint`] gave out.
static LAST_ID: AtomicI32 = AtomicI32::new(0);

/// Restarts the tree of the image that is read from args->infd.
///
/// Returns the pid of the root task (or of the coordinator, where there is one) as a child of the
/// caller. Returns -1 with errno set when the restart failed; then nothing of the tree is left.
///
/// # Safety
/// * `args`: NULL (EFAULT), or valid for reads and writes and not used by others during the call.
/// * `args->root`, `args->freezer`: each NULL, or a string that ends in NUL and does not change
///   during the call.
/// * The descriptors in `args` are not closed by others during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cr_restart(args: *mut CrRestartArgs) -> c_int {
    // SAFETY: the caller keeps the conditions above.
    unsafe { restart_into(args, &mut None) }
}

/// [`cr_restart`], which also says how the root task ended (format of wait(2)), where that was waited for.
///
/// # Safety
/// As for [`cr_restart`].
unsafe fn restart_into(args: *mut CrRestartArgs, ended: &mut Option<c_int>) -> c_int {
    // SAFETY: the caller keeps the conditions above, which are those of `take`.
    let Some(call) = (unsafe { RestartCall::take(args) }) else {
        return boundary::no_arguments();
    };
    boundary::call(call.report(), || {
        let restarted = restart::restart(&call.options(interrupt())?)?;
        if let (true, Some(status)) = (call.copies_status(), restarted.status) {
            boundary::end_like(status);
        }
        *ended = restarted.status;
        Ok(restarted.pid)
    })
}

/// Writes an image of the tree whose root is pid to args->outfd. The tree goes on afterwards.
///
/// Returns an id > 0 that no other checkpoint of this process has. Returns -1 with errno set when
/// the checkpoint failed.
///
/// # Safety
/// * `args`: NULL (EFAULT), or valid for reads and writes and not used by others during the call.
/// * The descriptors in `args` are not closed by others during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cr_checkpoint(pid: c_int, args: *mut CrCheckpointArgs) -> c_int {
    // SAFETY: the caller keeps the conditions above, which are those of `take`.
    let Some(call) = (unsafe { CheckpointCall::take(args) }) else {
        return boundary::no_arguments();
    };
    boundary::call(call.report(), || {
        dump::checkpoint(pid, &call.options()?)?;
        Ok(next_id())
    })
}

/// [`global_send_sigint`] as callers in other threads, and handlers, may use it.
fn interrupt() -> &'static AtomicI32 {
    // SAFETY: the pointer is to a static, so it is aligned and valid for ever; Rust code reads and
    // writes it only through this atomic.
    unsafe { AtomicI32::from_ptr(&raw mut global_send_sigint) }
}

/// The next id: counts from 1, and starts again there rather than become negative.
fn next_id() -> c_int {
    let step = |id: i32| Some(id.checked_add(1).unwrap_or(1));
    let before = LAST_ID.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    before.unwrap_or(0).checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_differ() {
        let first = next_id();
        let second = next_id();
        assert!(first > 0 && second > 0 && first != second);
        LAST_ID.store(i32::MAX, Ordering::Relaxed);
        assert_eq!(next_id(), 1);
        assert_eq!(next_id(), 2);
    }
}
