//! Whether somebody wants the checkpoints of this process to end.
//!
//! Comes in: [`request`], which a signal handler may call. Goes out: [`DumpError::Interrupted`] at the
//! next point at which the tree can be let go as it was.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::DumpError;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on each checkpoint of this process ends at the next point at which it can, unless its image
/// is complete by then. Async-signal-safe.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether that has been asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error where it has.
pub(super) fn check() -> Result<(), DumpError> {
    if requested() { Err(DumpError::Interrupted) } else { Ok(()) }
}
