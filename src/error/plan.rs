/// A task tree cannot be restarted as the image describes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A count or an offset that no image can have.
    #[error("{what} is {value}")]
    Count {
        /// Which one, in words.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// A pid object that cannot be.
    #[error("pid object with tag {tag}: {reason}")]
    Object {
        /// Its tag, as in the image.
        tag: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// A tag that names no pid object.
    #[error("task #{index}: {id} tag {tag} is not in the pid table")]
    Tag {
        /// Index in the task table.
        index: usize,
        /// Which of the five ids.
        id: &'static str,
        /// The tag, as in the image.
        tag: i32,
    },
    /// Neither reading of the parent tags gives a table in which parents come first.
    #[error("parent tags fit the task table neither with the offset {offset} nor without it")]
    ParentTags {
        /// Tag of the first pid object.
        offset: i32,
    },
    /// A task whose ids contradict those of other tasks, or that no order of forks can make.
    #[error("task #{index} (pid {pid}): {reason}")]
    Task {
        /// Index in the task table of the plan.
        index: usize,
        /// Its pid.
        pid: i32,
        /// What is wrong.
        reason: String,
    },
    /// More pids are needed than the system has.
    #[error("no pid left below {pid_max} for a placeholder in session {sid}")]
    NoPidLeft {
        /// The system's limit.
        pid_max: i32,
        /// Session that needs a placeholder.
        sid: i32,
    },
    /// Tasks whose children would lose their parent during the restart.
    #[error("tasks without a parent after the restart: {indices:?}")]
    Orphans {
        /// Their indices in the task table.
        indices: Vec<usize>,
    },
}

impl PlanError {
    /// Index in the task table of the task that is the cause, the first where there are several.
    pub fn index(&self) -> Option<usize> {
        match self {
            PlanError::Tag { index, .. } | PlanError::Task { index, .. } => Some(*index),
            PlanError::Orphans { indices } => indices.first().copied(),
            _ => None,
        }
    }

    /// Its pid.
    pub fn pid(&self) -> Option<i32> {
        match self {
            PlanError::Task { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            PlanError::NoPidLeft { .. } => libc::EOVERFLOW,
            _ => libc::EINVAL,
        }
    }
}
