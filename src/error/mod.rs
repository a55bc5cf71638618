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

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
            Error::Image(e) => e.errno(),
            Error::Plan(e) => e.errno(),
            Error::Restart(e) => e.errno(),
            Error::Dump(e) => e.errno(),
            Error::Sys(e) => e.errno(),
        }
    }
}
