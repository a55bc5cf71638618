use std::io;

use super::{Stage, SysError};

/// A checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The tree has state that cannot be saved.
    #[error("task {index} (pid {pid}): {object}: {reason}")]
    Unsupported {
        /// Index in the task table.
        index: usize,
        /// Its pid, as the checkpointer sees it.
        pid: i32,
        /// The thing that cannot be saved, as a user knows it ("descriptor 5 (socket:\[1234\])").
        object: String,
        /// Why not.
        reason: String,
    },
    /// The tree has state that cannot be saved, and that passes in most programs: it was looked at several
    /// times.
    #[error("task {index} (pid {pid}): {object}: {reason}")]
    Passing {
        /// Index in the task table.
        index: usize,
        /// Its pid, as the checkpointer sees it.
        pid: i32,
        /// The thing that cannot be saved now.
        object: String,
        /// Why not.
        reason: String,
    },
    /// The pid that was given names nothing that can be saved.
    #[error("pid {pid}: {reason}")]
    Argument {
        /// As given.
        pid: i32,
        /// Why not.
        reason: &'static str,
    },
    /// No process has the pid that was given, or it has ended.
    #[error("pid {pid}: no such process, or it has ended")]
    Gone {
        /// As given.
        pid: i32,
    },
    /// A task cannot be stopped now.
    #[error("pid {pid}: cannot be stopped: {reason}")]
    Busy {
        /// As the checkpointer sees it.
        pid: i32,
        /// What it is doing.
        reason: String,
    },
    /// A system call on a task failed.
    #[error("pid {pid}: {what}: {source}")]
    Task {
        /// As the checkpointer sees it.
        pid: i32,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of /proc is not as proc(5) says.
    #[error("pid {pid}: /proc/{pid}/{file} cannot be understood")]
    Malformed {
        /// As the checkpointer sees it.
        pid: i32,
        /// Name of the file in the task's directory.
        file: String,
    },
    /// A system call of the checkpointer on itself failed.
    #[error(transparent)]
    Own(#[from] SysError),
    /// Somebody wanted the checkpoint to end.
    #[error("interrupted")]
    Interrupted,
    /// The tree can be saved, but no restart could bring it back.
    #[error("the tree could not be restarted: {reason}")]
    Unrestartable {
        /// What the planner says.
        reason: String,
    },
}

impl DumpError {
    /// What was being done.
    pub fn stage(&self) -> Stage {
        match self {
            DumpError::Argument { .. } => Stage::Arguments,
            DumpError::Own(_) => Stage::System,
            DumpError::Unrestartable { .. } => Stage::Plan,
            _ => Stage::Checkpoint,
        }
    }

    /// Index in the task table of the task that is the cause.
    pub fn index(&self) -> Option<usize> {
        match self {
            DumpError::Unsupported { index, .. } | DumpError::Passing { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// Its pid, as the checkpointer sees it.
    pub fn pid(&self) -> Option<i32> {
        match self {
            DumpError::Unsupported { pid, .. }
            | DumpError::Passing { pid, .. }
            | DumpError::Argument { pid, .. }
            | DumpError::Gone { pid }
            | DumpError::Busy { pid, .. }
            | DumpError::Task { pid, .. }
            | DumpError::Malformed { pid, .. } => Some(*pid),
            DumpError::Own(_) | DumpError::Interrupted | DumpError::Unrestartable { .. } => None,
        }
    }

    /// The same refusal, of something that may be over soon.
    pub fn passing(self) -> DumpError {
        match self {
            DumpError::Unsupported { index, pid, object, reason } => {
                DumpError::Passing { index, pid, object, reason }
            }
            other => other,
        }
    }

    /// `what` failed on the task with this pid.
    pub fn task(pid: i32, what: impl Into<String>) -> impl FnOnce(io::Error) -> DumpError {
        move |source| DumpError::Task { pid, what: what.into(), source }
    }

    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            DumpError::Unsupported { .. }
            | DumpError::Passing { .. }
            | DumpError::Unrestartable { .. } => libc::ENOTSUP,
            DumpError::Argument { .. } => libc::EINVAL,
            DumpError::Gone { .. } => libc::ESRCH,
            DumpError::Busy { .. } => libc::EBUSY,
            DumpError::Task { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            DumpError::Malformed { .. } => libc::EIO,
            DumpError::Interrupted => libc::EINTR,
            DumpError::Own(e) => e.errno(),
        }
    }
}
