use super::Stage;

/// A restart failed.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// A combination of arguments that makes no sense.
    #[error("{0}")]
    Arguments(&'static str),
    /// Security labels were asked for (`keep_lsm`) and cannot be restored.
    #[error("security labels cannot be restored (keep_lsm): {0}")]
    Labels(&'static str),
    /// The caller has threads besides the calling one.
    #[error("the caller has {0} threads: with self it must have one")]
    Threads(usize),
    /// The image needs something that this machine does not have.
    #[error("{0}")]
    Machine(String),
    /// The tasks ran with credentials that the caller does not have.
    #[error("{0}")]
    Credentials(String),
    /// The path of a socket leads to something that must not be taken away.
    #[error("{0}")]
    Taken(String),
    /// System V shared memory cannot come back.
    #[error("System V segment {id}: {reason}")]
    Segment {
        /// Its id in the image.
        id: i32,
        /// Why not.
        reason: String,
        /// The errno that a C caller is given.
        errno: i32,
    },
    /// There is no terminal to take the place of one that was not the tree's own.
    #[error("{0}")]
    Terminal(String),
    /// A file that a task needs is gone, cannot be opened, or is not what it was.
    #[error("task {index} (pid {pid}): {path}: {reason}")]
    File {
        /// Index in the task table.
        index: usize,
        /// Pid of the task in the image.
        pid: i32,
        /// Its path, as the task knows it.
        path: String,
        /// What is wrong.
        reason: String,
        /// The errno that a C caller is given.
        errno: i32,
    },
    /// No address range is free both here and in all tasks.
    #[error("no address range is free in the caller and in all tasks of the image")]
    NoHole,
    /// A task ended while the restart was under way: somebody killed it.
    #[error("{what} (pid {pid}) ended during the restart")]
    Ended {
        /// Which task.
        what: &'static str,
        /// Its pid, as the caller sees it.
        pid: i32,
    },
    /// A task could not be handed over to its program.
    #[error("task {index} (pid {pid}): {what}: {source}")]
    Finish {
        /// Index in the task table of the plan.
        index: usize,
        /// Pid of the task in the image.
        pid: i32,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
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
    /// What was being done.
    pub fn stage(&self) -> Stage {
        match self {
            RestartError::Arguments(_) | RestartError::Labels(_) => Stage::Arguments,
            _ => Stage::Restart,
        }
    }

    /// Index in the task table of the task that is the cause.
    pub fn index(&self) -> Option<usize> {
        match self {
            RestartError::Finish { index, .. }
            | RestartError::File { index, .. }
            | RestartError::Task { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// Its pid.
    pub fn pid(&self) -> Option<i32> {
        match self {
            RestartError::Ended { pid, .. }
            | RestartError::File { pid, .. }
            | RestartError::Finish { pid, .. }
            | RestartError::Task { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            RestartError::Arguments(_) => libc::EINVAL,
            RestartError::Labels(_) => libc::EOPNOTSUPP,
            RestartError::Threads(_) => libc::EBUSY,
            RestartError::Machine(_) => libc::EINVAL,
            RestartError::Credentials(_) => libc::EPERM,
            RestartError::Taken(_) => libc::EADDRINUSE,
            RestartError::Terminal(_) => libc::ENXIO,
            RestartError::NoHole => libc::ENOMEM,
            RestartError::File { errno, .. } | RestartError::Segment { errno, .. } => *errno,
            RestartError::Ended { .. } => libc::ESRCH,
            RestartError::Finish { source, .. } | RestartError::Task { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
        }
    }
}
