//! Process groups, as setpgid(2) can make them.
//!
//! Comes in: a plan. Goes out: who makes a group, and in which order those go that have left the group that
//! has their name; or why no order of calls does it. The plan itself says nothing of this: a
//! kernel with restart(2) needs no such order.

use std::collections::HashSet;

use super::{Flags, Plan};
use crate::error::PlanError;

/// How the tasks of a plan come into their process groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Of each task: whether it makes a process group of its own, be it only for others.
    pub founds: Vec<bool>,
    /// Of each task: whether it must do so before it forks, because others inherit it.
    pub early: Vec<bool>,
    /// Tasks that lead the process group of others and are in another one themselves, in the order in
    /// which they can go there once all others are where they belong.
    pub changes: Vec<usize>,
}

impl Plan {
    /// How the tasks come into their process groups.
    ///
    /// # Errors
    /// EINVAL, with the first task that no calls bring there: a session leader that is not in its own group;
    /// a task that can neither join a group nor inherit it; one that leads a group that nobody is left in.
    /// And where it could be done, but never ended: the init of a pid namespace (`pidns`: the root task may be
    /// one) waits, when it ends, until no other pid of the namespace is in use, and does so for ever where one
    /// is that of its own group (pid_namespaces(7) does not say so; seen on Linux 6.18).
    pub fn groups(&self, pidns: bool) -> Result<Groups, PlanError> {
        let mut groups = self.founders();
        let processes =
            || self.tasks.iter().enumerate().filter(|(_, t)| !t.flags.has(Flags::THREAD));
        for (index, _) in processes() {
            let Some(leader) = self.group_leader(index) else { continue };
            if self.session_leader(index) == Some(index) && leader != index {
                return Err(self.refuse(index, "leads its session, but not its process group"));
            }
            let init = self.numbers(index).last() == Some(&1) && (pidns || index != 0);
            if init && leader != index && self.sees(index, leader) {
                let reason =
                    "is an init in the process group of another task, which could never end";
                return Err(self.refuse(index, reason));
            }
            if !self.sees(index, leader)
                && let Some(slot) = groups.early.get_mut(leader)
            {
                *slot = true;
            }
        }
        let mut waiting = Vec::new();
        // How many are in the group of each task, before anybody changes.
        let mut members = vec![0u32; self.tasks.len()];
        for (index, _) in processes() {
            let leader = self.group_leader(index);
            // From outside come only session and group together, or the group does not matter.
            let inherits = match leader {
                Some(leader) => !self.sees(index, leader),
                None => self.session_leader(index).is_none(),
            };
            if inherits && self.inherits(index, &groups.early) != leader {
                let reason = "is in a process group that it can neither join nor inherit";
                return Err(self.refuse(index, reason));
            }
            let Some(leader) = leader else { continue };
            let founds = groups.founds.get(index) == Some(&true);
            if founds && leader != index {
                waiting.push(index);
            }
            if let Some(count) = members.get_mut(if founds { index } else { leader }) {
                *count += 1;
            }
        }
        groups.changes = self.order(&waiting, members)?;
        Ok(groups)
    }

    fn order(&self, waiting: &[usize], mut members: Vec<u32>) -> Result<Vec<usize>, PlanError> {
        let target = |index: usize| self.group_leader(index).unwrap_or(index);
        // How many still want to go to the group of each task.
        let mut wanted = vec![0u32; members.len()];
        for &index in waiting {
            wanted[target(index)] += 1;
        }
        // Whoever is the last of a group that others are still to join stays for now.
        let mut stays: HashSet<usize> = waiting.iter().copied().collect();
        let mut order = Vec::with_capacity(waiting.len());
        let mut candidates = waiting.to_vec();
        while let Some(index) = candidates.pop() {
            let free = wanted[index] == 0 || members[index] > 1;
            if !free || !stays.remove(&index) {
                continue;
            }
            members[index] -= 1;
            members[target(index)] += 1;
            wanted[target(index)] -= 1;
            order.push(index);
            // That may be what the one whose group it is has waited for.
            candidates.push(target(index));
        }
        match waiting.iter().find(|index| stays.contains(index)) {
            Some(&index) => {
                Err(self.refuse(index, "leads a process group that nobody is left in when it goes"))
            }
            None => Ok(order),
        }
    }

    fn founders(&self) -> Groups {
        let none = vec![false; self.tasks.len()];
        let mut groups = Groups { founds: none.clone(), early: none, changes: Vec::new() };
        for (index, task) in self.tasks.iter().enumerate() {
            let leader = self.group_leader(index).filter(|_| !task.flags.has(Flags::THREAD));
            if let Some(slot) = leader.and_then(|leader| groups.founds.get_mut(leader)) {
                *slot = true;
            }
            // setsid(2) makes one too, and what comes after it inherits that.
            if let Some(slot) = groups.early.get_mut(index) {
                *slot = self.session_leader(index) == Some(index);
            }
        }
        groups
    }

    /// Whether `viewer` has a number for `other` in its own pid namespace.
    pub fn sees(&self, viewer: usize, other: usize) -> bool {
        self.numbers(other).len() >= self.numbers(viewer).len()
    }

    /// The leader of the process group that a task has from the one that forks it.
    fn inherits(&self, mut index: usize, early: &[bool]) -> Option<usize> {
        // Each step goes to an earlier creator; the bound is for plans that were not proved.
        for _ in 0..self.tasks.len() {
            let task = self.tasks.get(index)?;
            let creator = task.creator?;
            // Those of the old session are forked before the creator makes its group.
            if early.get(creator) == Some(&true) && !task.flags.has(Flags::SESSION) {
                return Some(creator);
            }
            index = creator;
        }
        None
    }

    fn refuse(&self, index: usize, reason: &str) -> PlanError {
        let pid = self.tasks.get(index).map_or(0, |t| t.pid);
        PlanError::Task { index, pid, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlanOptions, build, tests::head};

    /// The changes for tasks with pids from 100 that are all in the session of the first, by tags of parent
    /// and group.
    fn changes(rows: &[(i32, i32)]) -> Result<Vec<usize>, PlanError> {
        let numbers: Vec<[i32; 1]> = (0..rows.len() as i32).map(|i| [100 + i]).collect();
        let objects: Vec<&[i32]> = numbers.iter().map(|n| n.as_slice()).collect();
        let row = |(i, &(parent, group)): (usize, &(i32, i32))| {
            let pid = i as i32 + 1;
            [pid, parent, pid, group, 1]
        };
        let rows: Vec<[i32; 5]> = rows.iter().enumerate().map(row).collect();
        let head = head(1, &objects, &rows);
        Ok(build(&head, &PlanOptions { pidns: false, pid_max: 32768 })?.groups(false)?.changes)
    }

    #[test]
    fn leaders_go_after_those_that_join_them() {
        // 101 is in the group of 100 and has left its own, which 102 is in.
        assert_eq!(changes(&[(0, 1), (1, 1), (1, 2)]), Ok(vec![1]));
        // 101 goes to the group that 102 leaves for that of 100: not after it.
        assert_eq!(changes(&[(0, 1), (1, 3), (1, 1), (1, 2)]), Ok(vec![1, 2]));
    }

    #[test]
    fn two_cannot_change_places() {
        let error = changes(&[(0, 1), (1, 3), (1, 2)]).expect_err("accepted");
        assert!(error.to_string().contains("nobody is left in"), "{error}");
        assert_eq!(error.errno(), libc::EINVAL);
        // With somebody in one of the two groups they can.
        assert_eq!(changes(&[(0, 1), (1, 3), (1, 2), (1, 3)]), Ok(vec![2, 1]));
    }

    #[test]
    fn a_session_leader_cannot_leave_its_group() {
        let error = changes(&[(0, 2), (1, 2)]).expect_err("accepted");
        assert!(error.to_string().contains("leads its session"), "{error}");
    }

    #[test]
    fn an_init_stays_in_its_own_group() {
        let options = |pidns| PlanOptions { pidns, pid_max: 32768 };
        let head = head(1, &[&[1], &[7], &[9]], &[[1, 0, 1, 2, 3], [2, 1, 2, 2, 3]]);
        let plan = |pidns| build(&head, &options(pidns)).expect("a plan").groups(pidns);
        let error = plan(true).expect_err("accepted");
        assert!(error.to_string().contains("could never end"), "{error}");
        assert_eq!(plan(false).map(|g| g.founds), Ok(vec![false, true]));
    }

    #[test]
    fn who_does_not_see_its_group_must_inherit_it() {
        let objects: [&[i32]; 3] = [&[1], &[101, 1], &[102]];
        let options = PlanOptions { pidns: true, pid_max: 32768 };
        let plan = |rows: &[[i32; 5]]| build(&head(1, &objects, rows), &options).expect("a plan");
        let inherited = plan(&[[1, 0, 1, 1, 1], [2, 1, 2, 1, 1]]);
        assert_eq!(inherited.groups(true).map(|g| g.changes), Ok(Vec::new()));
        // 102 makes its group before it forks 101.
        let made = plan(&[[1, 0, 1, 1, 1], [3, 1, 3, 3, 1], [2, 3, 2, 3, 1]]).groups(true);
        assert_eq!(made.map(|g| g.early), Ok(vec![true, true, false]));
        let other = plan(&[[1, 0, 1, 1, 1], [3, 1, 3, 3, 1], [2, 1, 2, 3, 1]]);
        let error = other.groups(true).expect_err("accepted");
        assert!(error.to_string().contains("neither join nor inherit"), "{error}");
    }
}
