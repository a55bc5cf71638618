use std::io;

/// A system call of the coordinator failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SysError {
    /// What was tried, with the names and numbers that a user needs.
    pub what: String,
    /// Why it failed.
    pub source: io::Error,
}

impl SysError {
    /// `what` failed because of `source`.
    pub fn new(what: impl Into<String>, source: io::Error) -> Self {
        SysError { what: what.into(), source }
    }

    /// The errno of the call, EIO where the system gave none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}
