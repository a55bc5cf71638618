//! The orphan check (`docs/tree.md`, "The orphan check").
//!
//! Comes in: a plan. Goes out: the ghosts and placeholders whose exit would take somebody's parent.

use super::{Flags, Plan};

impl Plan {
    /// Ghosts and placeholders whose exit would take the parent of a task that is to stay. A restart
    /// must report each and refuse the plan unless there are none.
    pub fn orphans(&self) -> Vec<usize> {
        match self.reaped {
            true => Vec::new(),
            false => self.parents_that_go().collect(),
        }
    }

    /// Whether tasks become orphans on the way and count on being handed to the root task, or to the
    /// init of a nested pid namespace. Where the root task is not pid 1 of its namespace, it must be a
    /// child subreaper (prctl(2)) until the ghosts and placeholders have gone.
    pub fn leaves_orphans(&self) -> bool {
        self.parents_that_go().next().is_some()
    }

    /// Ghosts and placeholders with a child of their own.
    fn parents_that_go(&self) -> impl Iterator<Item = usize> + '_ {
        let extra = Flags::GHOST | Flags::DEAD;
        let plain = |&child: &u32| {
            let task = self.tasks.get(child as usize);
            // The parent of a thread or a sibling is another task.
            task.is_some_and(|t| !t.flags.any(Flags::THREAD | Flags::SIBLING))
        };
        let has_plain = move |&i: &usize| self.children(i).iter().any(plain);
        let tasks = self.tasks.iter().enumerate();
        tasks.filter(move |(_, t)| t.flags.any(extra)).map(|(i, _)| i).filter(has_plain)
    }
}
