//! Checkpoint of a task tree.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use crate::error::Error;
use crate::report::Report;

/// What a checkpoint is asked to do: the safe form of `struct cr_checkpoint_args`.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Where the image goes: a file, a pipe or a socket, written from its current position.
    pub output: BorrowedFd<'a>,
    /// The pid must be the init of a pid namespace, and all of it is taken.
    pub container: bool,
    /// Flags word that goes into the header (1 subtree, 2 network namespaces).
    pub flags: u32,
    /// End the tree with SIGKILL after the image is complete, instead of letting it go on.
    pub kill: bool,
    /// Messages.
    pub report: Report<'a>,
}

/// Writes an image of the tree whose root is `pid` (as the caller's pid namespace numbers it).
///
/// The tree is stopped before the first byte is written and goes on afterwards, unless it is to be
/// ended. On failure it always goes on, as if nothing had happened.
///
/// # Errors
/// What cannot be saved is refused before anything is written or ended; see [`Error::errno`].
pub fn checkpoint(pid: i32, options: &Options<'_>) -> Result<(), Error> {
    let _ = (pid, options);
    Err(crate::error::RestartError::Arguments("not yet").into())
}
