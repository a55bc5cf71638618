//! What can go wrong, one enum per stage, and the errno that a C caller sees for each.
#![forbid(unsafe_code)]

mod dump;
mod image;
mod plan;
mod restart;
mod sys;

pub use dump::DumpError;
pub use image::ImageError;
pub use plan::PlanError;
pub use restart::RestartError;
pub use sys::SysError;

/// What was being done when something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking at the arguments.
    Arguments,
    /// Reading or writing the image.
    Image,
    /// Planning the tree of the image.
    Plan,
    /// Making the tasks of the image.
    Restart,
    /// Reading the tasks that are to be saved.
    Checkpoint,
    /// A system call that the library made for itself.
    System,
}

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A descriptor number of a caller's that is not open (EBADF).
    #[error("image descriptor ({field}) {number} is not open")]
    Descriptor {
        /// Name of the argument.
        field: &'static str,
        /// As given.
        number: i32,
    },
    /// The image cannot be read, or is not an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The task tree of the image cannot be restarted.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The restart failed.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// The checkpoint failed.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A system call of the library's own process failed.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Error {
    /// The errno that a C caller is given for this failure; never 0.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Descriptor { .. } => libc::EBADF,
            Error::Image(e) => e.errno(),
            Error::Plan(e) => e.errno(),
            Error::Restart(e) => e.errno(),
            Error::Dump(e) => e.errno(),
            Error::Sys(e) => e.errno(),
        }
    }

    /// What was being done.
    pub fn stage(&self) -> Stage {
        match self {
            Error::Descriptor { .. } => Stage::Arguments,
            Error::Image(_) => Stage::Image,
            Error::Plan(_) => Stage::Plan,
            Error::Restart(e) => e.stage(),
            Error::Dump(e) => e.stage(),
            Error::Sys(_) => Stage::System,
        }
    }

    /// Index in the task table of the task that is the cause, the first where there are several.
    pub fn task(&self) -> Option<usize> {
        match self {
            Error::Plan(e) => e.index(),
            Error::Restart(e) => e.index(),
            Error::Dump(e) => e.index(),
            Error::Descriptor { .. } | Error::Image(_) | Error::Sys(_) => None,
        }
    }

    /// Pid of the task that is the cause: in a restart the one of the image, where that is known, in a
    /// checkpoint as the caller sees it.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Error::Plan(e) => e.pid(),
            Error::Restart(e) => e.pid(),
            Error::Dump(e) => e.pid(),
            Error::Descriptor { .. } | Error::Image(_) | Error::Sys(_) => None,
        }
    }

    /// Offset in the image of the record that is the cause, in bytes.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Error::Image(e) => e.offset(),
            _ => None,
        }
    }
}
