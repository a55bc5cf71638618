/// A task tree cannot be restarted as the image describes it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Tasks whose parent would exit during the restart (`tree.md` 4).
    #[error("tasks without a parent after the restart: {indices:?}")]
    Orphans {
        /// Their indices in the task table.
        indices: Vec<usize>,
    },
}

impl PlanError {
    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        libc::EINVAL
    }
}
