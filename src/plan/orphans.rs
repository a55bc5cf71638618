//! The orphan check (`docs/tree.md`, "The orphan check").
//!
//! Comes in: a plan. Goes out: the ghosts and placeholders whose exit would take somebody's parent.

use super::{Flags, Plan};

impl Plan {
    /// Ghosts and placeholders whose exit would take the parent of a task that is to stay. A restart
    /// must report each and refuse the plan unless there are none.
    pub fn orphans(&self) -> Vec<usize> {
        if self.reaped {
            return Vec::new();
        }
        let extra = Flags::GHOST | Flags::DEAD;
        let plain = |&child: &u32| {
            let task = self.tasks.get(child as usize);
            // The parent of a thread or a sibling is another task.
            task.is_some_and(|t| !t.flags.any(Flags::THREAD | Flags::SIBLING))
        };
        let has_plain = |&i: &usize| self.children(i).iter().any(plain);
        let tasks = self.tasks.iter().enumerate();
        tasks.filter(|(_, t)| t.flags.any(extra)).map(|(i, _)| i).filter(has_plain).collect()
    }
}
