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
        /// The thing that cannot be saved, as a user knows it ("descriptor 5 (socket:[1234])").
        object: String,
        /// Why not.
        reason: String,
    },
}

impl DumpError {
    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            DumpError::Unsupported { .. } => libc::ENOTSUP,
        }
    }
}
