/// A restart failed.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// A combination of arguments that makes no sense.
    #[error("{0}")]
    Arguments(&'static str),
    /// A system call of a task failed.
    #[error("task {index} (pid {pid}): {what}: {source}")]
    Task {
        /// Index in the task table of the plan.
        index: usize,
        /// Pid of the task in the image.
        pid: i32,
        /// The system call, with its arguments in words.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl RestartError {
    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            RestartError::Arguments(_) => libc::EINVAL,
            RestartError::Task { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}
