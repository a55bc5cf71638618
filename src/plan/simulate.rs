//! The proof: forks a plan on paper and compares what comes up with the image.
//!
//! Comes in: an image and a plan for it. Goes out: nothing, or the first task that comes up wrong. It
//! knows what fork, clone with CLONE_PARENT, setsid and exit do, and nothing of how plans are made.
//! Never: recursion; linear time.

use super::pids::{self, Id, Ids};
use super::{Flags, NONE, Plan, Task};
use crate::error::PlanError;
use crate::image::{ImageHead, PidTable};

/// Proves that `plan` makes the tree of `head`: each task exactly once, with the pid, parent, thread
/// group and session of the image once ghosts and placeholders have gone. `pidns`: in a new pid
/// namespace, where the root task or an init gets the children of those that went.
///
/// # Errors
/// EINVAL, with the first task that is wrong.
pub fn check(head: &ImageHead, plan: &Plan, pidns: bool) -> Result<(), PlanError> {
    let ids = pids::read(head, pidns)?;
    prove(&ids, &head.pids, plan, pidns || head.extra.root_subreaper)
}

/// The proof itself; `reaped`: children of a parent that is gone get the root task or their namespace's
/// init as parent, otherwise one outside the tree.
pub(super) fn prove(
    ids: &Ids,
    pids: &PidTable,
    plan: &Plan,
    reaped: bool,
) -> Result<(), PlanError> {
    let mut world = World::new(ids, pids, plan)?;
    world.fork_all()?;
    world.exits();
    world.compare(reaped)
}

/// What is known about a task. All that forking needs is here, close together.
#[derive(Clone)]
struct Life {
    /// Who is to create it; [`NONE`]: nobody.
    creator: u32,
    /// Leader of its thread group; [`NONE`]: not created yet.
    group: u32,
    /// Of a group leader: the group that is its parent; [`NONE`]: outside.
    parent: u32,
    /// Of a group leader: the leader of its session; [`NONE`]: inherited from outside.
    session: u32,
    /// Of a group leader: the init of its pid namespace.
    init: u32,
    /// How it is to be made.
    flags: Flags,
    /// In how many pid namespaces it has a number.
    levels: u8,
    /// Whether it leads its session, so that it calls setsid.
    leads: bool,
    /// Of a group leader: while it forks, whether setsid is behind it; then whether a task of the group
    /// stays.
    mark: bool,
}

/// The tasks of the plan and what became of them.
struct World<'a> {
    ids: &'a Ids,
    pids: &'a PidTable,
    plan: &'a Plan,
    lives: Vec<Life>,
}

impl<'a> World<'a> {
    fn new(ids: &'a Ids, pids: &'a PidTable, plan: &'a Plan) -> Result<World<'a>, PlanError> {
        let n = plan.tasks.len();
        if plan.image_tasks() != ids.rows.len() || n < ids.rows.len() || n >= NONE as usize {
            return Err(PlanError::Count { what: "number of tasks in the plan", value: n as i64 });
        }
        let life = |(i, task): (usize, &Task)| Life {
            creator: task.creator.and_then(|c| u32::try_from(c).ok()).unwrap_or(NONE),
            group: NONE,
            parent: NONE,
            session: NONE,
            init: NONE,
            flags: task.flags,
            levels: task.levels,
            leads: task.session as usize == i,
            mark: false,
        };
        Ok(World { ids, pids, plan, lives: plan.tasks.iter().enumerate().map(life).collect() })
    }

    fn error(&self, index: usize, reason: impl Into<String>) -> PlanError {
        let pid = self.plan.tasks.get(index).map_or(0, |t| t.pid);
        PlanError::Task { index, pid, reason: reason.into() }
    }

    /// Who a task is in the tables of the image; a placeholder is nobody there.
    fn identity(&self, index: u32) -> Option<Id> {
        let object = self.plan.tasks.get(index as usize)?.object;
        self.ids.same.get(object as usize).map(|&same| Id::of(same))
    }

    fn fork_all(&mut self) -> Result<(), PlanError> {
        (self.lives[0].group, self.lives[0].init) = (0, 0);
        // Who runs, and how many it has forked: a child runs before its parent goes on.
        let mut running = vec![(0u32, 0usize)];
        let mut created = 1;
        while let Some((at, forked)) = running.last_mut() {
            let children = self.plan.children(*at as usize);
            let Some(&child) = children.get(*forked) else {
                let done = *at;
                self.setsid(done);
                running.pop();
                continue;
            };
            let at = *at;
            *forked += 1;
            created += 1;
            let late = self.lives[at as usize].mark;
            let session = self.fork(at, child)?;
            if session && late {
                return Err(self.error(child as usize, "would be forked after setsid"));
            }
            self.lives[at as usize].mark = !session;
            running.push((child, 0));
        }
        match self.lives.iter().position(|l| l.group == NONE) {
            Some(lost) => Err(self.error(lost, "is never created")),
            None if created == self.plan.tasks.len() => Ok(()),
            None => Err(self.error(0, "is created twice")),
        }
    }

    fn setsid(&mut self, at: u32) {
        let life = &mut self.lives[at as usize];
        if life.leads && life.group == at {
            life.session = at;
        }
    }

    /// `at` creates `child`; says whether that is before `at` calls setsid.
    fn fork(&mut self, at: u32, child: u32) -> Result<bool, PlanError> {
        let (a, c) = (at as usize, child as usize);
        let creator = self.lives[a].clone();
        let Some(task) = self.lives.get(c).filter(|l| l.group == NONE) else {
            return Err(self.error(c, "is created twice"));
        };
        if task.creator != at {
            return Err(self.error(c, "is forked by another task than its creator"));
        }
        let early = task.flags.has(Flags::SESSION);
        let new_pidns = task.flags.has(Flags::NEW_PIDNS);
        if task.levels != creator.levels + u8::from(new_pidns) {
            return Err(self.error(c, "has no pid in each namespace of its creator, or too many"));
        }
        if task.flags.has(Flags::THREAD) {
            if creator.group != at || new_pidns {
                return Err(self.error(c, "is a thread, but not made by the leader of its group"));
            }
            self.lives[c].group = at;
            return Ok(early);
        }
        if creator.group != at {
            return Err(self.error(a, "is a thread and has children of its own"));
        }
        let mut parent = at;
        if task.flags.has(Flags::SIBLING) {
            parent = creator.parent;
            // An init cannot clone with CLONE_PARENT, and the root task's parent is outside.
            if parent == NONE || creator.init == at {
                return Err(self.error(a, "cannot make siblings"));
            }
        }
        if new_pidns && self.plan.numbers(c).last() != Some(&1) {
            return Err(self.error(c, "is the first task of a pid namespace, but not pid 1 there"));
        }
        let life = &mut self.lives[c];
        (life.group, life.parent) = (child, parent);
        life.init = if new_pidns { child } else { creator.init };
        life.session = if creator.leads && !early { at } else { creator.session };
        Ok(early)
    }

    /// Ghosts and placeholders go; a group goes with its last task.
    fn exits(&mut self) {
        self.lives.iter_mut().for_each(|life| life.mark = false);
        for i in 0..self.lives.len() {
            if !self.lives[i].flags.any(Flags::GHOST | Flags::DEAD) {
                let group = self.lives[i].group;
                self.lives[group as usize].mark = true;
            }
        }
    }

    /// The parent of a group when all is done.
    fn last_parent(&self, group: u32, reaped: bool) -> u32 {
        match self.lives[group as usize].parent {
            NONE => NONE,
            parent if self.lives[parent as usize].mark => parent,
            parent if reaped => self.lives[parent as usize].init,
            _ => NONE,
        }
    }

    fn compare(&self, reaped: bool) -> Result<(), PlanError> {
        self.no_pid_twice()?;
        let root_parent = self.ids.rows.first().map_or(Id::OUTSIDE, |r| r.ppid);
        let of_root = |r: &pids::IdRow| Id::of(r.pid) == root_parent;
        let root_outside = !self.ids.rows.iter().any(of_root);
        for (i, (want, task)) in self.ids.rows.iter().zip(&self.plan.tasks).enumerate() {
            let numbers = self.pids.object(want.object as usize).unwrap_or(&[]);
            let is_extra = task.flags.any(Flags::GHOST | Flags::DEAD);
            if is_extra || self.plan.numbers(i) != numbers || task.object != want.object {
                return Err(self.error(i, "has another pid in the plan"));
            }
            let group = self.lives[i].group;
            if self.identity(group) != Some(Id::of(want.tgid)) {
                return Err(self.error(i, "would come up in another thread group"));
            }
            let parent = self.last_parent(group, reaped);
            // The parent of a group whose leader has ended is a matter of taste: no kernel writes such
            // an image, and the historic planner takes the session's leader.
            let right = match self.identity(parent) {
                _ if group as usize >= self.ids.rows.len() => true,
                Some(parent) => parent == want.ppid,
                None => group == 0 && want.ppid == root_parent && root_outside,
            };
            if !right {
                return Err(self.error(i, self.wrong("parent", parent)));
            }
            self.compare_session(i, group, want)?;
        }
        Ok(())
    }

    fn no_pid_twice(&self) -> Result<(), PlanError> {
        let mut taken = vec![false; self.ids.same.len()];
        for i in 0..self.plan.tasks.len() {
            if let Some(identity) = self.identity(i as u32).and_then(Id::object)
                && let Some(taken) = taken.get_mut(identity)
                && std::mem::replace(taken, true)
            {
                return Err(self.error(i, "has the pid of another task"));
            }
        }
        Ok(())
    }

    /// The session, and that the leader of the process group is in it too: setpgid(2) needs that.
    fn compare_session(&self, i: usize, group: u32, want: &pids::IdRow) -> Result<(), PlanError> {
        let session = self.lives[group as usize].session;
        let right = match self.identity(session) {
            Some(session) => session == want.sid,
            None => session == NONE && want.sid.object().is_none(),
        };
        if !right {
            return Err(self.error(i, self.wrong("session", session)));
        }
        if want.pgid.object().is_none() {
            return Ok(());
        }
        let leader = self.plan.group_leader(i).and_then(|l| self.lives.get(l)).map(|l| l.group);
        let in_session = |l: u32| self.lives.get(l as usize).is_some_and(|l| l.session == session);
        let right = |&l: &u32| self.identity(l) == Some(want.pgid) && in_session(l);
        match leader.filter(right) {
            Some(_) => Ok(()),
            None => Err(self.error(i, "has a process group that is not in its session")),
        }
    }

    fn wrong(&self, what: &str, found: u32) -> String {
        match self.plan.tasks.get(found as usize) {
            Some(task) => format!("would come up with the {what} {}", task.pid),
            None => format!("would come up with a {what} from outside"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlanOptions, build, tests::head};

    /// 100 forks 110 before setsid is called by 110, which hands its first session, that of the dead
    /// 109, to 111; 112 is a thread of 111.
    fn sample() -> (ImageHead, Plan) {
        let rows =
            [[1, 0, 1, 1, 1], [2, 1, 2, 2, 2], [3, 2, 3, 3, 6], [4, 2, 3, 3, 6], [5, 1, 5, 5, 6]];
        let head = head(1, &[&[100], &[110], &[111], &[112], &[113], &[109]], &rows);
        let plan = build(&head, &PlanOptions { pidns: false, pid_max: 32768 }).unwrap();
        (head, plan)
    }

    fn reason(change: impl FnOnce(&mut Plan)) -> String {
        let (head, mut plan) = sample();
        assert_eq!(check(&head, &plan, false), Ok(()));
        change(&mut plan);
        check(&head, &plan, false).map_err(|e| e.to_string()).expect_err("accepted")
    }

    #[test]
    fn a_right_plan_is_right_in_both_modes() {
        let (head, plan) = sample();
        assert!(plan.orphans().is_empty());
        assert_eq!(check(&head, &plan, true), Ok(()));
    }

    #[test]
    fn the_wrong_session() {
        let late = reason(|p| p.tasks[2].flags = Flags::default());
        assert_eq!(late, "task #2 (pid 111): would come up with the session 110");
    }

    #[test]
    fn the_wrong_parent() {
        let child = reason(|p| p.tasks[4].flags = Flags::default());
        assert_eq!(child, "task #4 (pid 113): would come up with a parent from outside");
    }

    #[test]
    fn the_wrong_thread_group() {
        let process = reason(|p| p.tasks[3].flags = Flags::default());
        assert_eq!(process, "task #3 (pid 112): would come up in another thread group");
    }

    #[test]
    fn lost_and_double_tasks() {
        let lost = reason(|p| {
            p.child_list.clear();
            p.child_starts = vec![0; p.tasks.len() + 1];
        });
        assert_eq!(lost, "task #1 (pid 110): is never created");
        let twice = reason(|p| {
            let again = p.child_list[0];
            p.child_list[1] = again;
        });
        assert!(twice.ends_with("is created twice"), "{twice}");
        let beyond = reason(|p| p.child_list[0] = 99);
        assert!(beyond.starts_with("task #99"), "{beyond}");
    }

    #[test]
    fn the_root_task_makes_no_siblings() {
        let sibling = reason(|p| p.tasks[5].flags = Flags::GHOST | Flags::SIBLING);
        assert!(sibling.ends_with("cannot make siblings"), "{sibling}");
    }

    #[test]
    fn the_wrong_pid() {
        let swapped = reason(|p| p.tasks[1].object = 2);
        assert!(swapped.contains("pid"), "{swapped}");
    }

    #[test]
    fn orphans_are_reaped_by_the_root_or_lost() {
        let rows = [[1, 0, 1, 1, 1], [2, 1, 2, 2, 2], [3, 1, 3, 2, 2]];
        let mut head = head(1, &[&[100], &[101], &[102]], &rows);
        let options = PlanOptions { pidns: false, pid_max: 32768 };
        let plan = build(&head, &options).unwrap();
        assert_eq!(plan.orphans(), [3]);
        assert!(check(&head, &plan, false).is_err());
        assert_eq!(check(&head, &plan, true), Ok(()));
        head.extra.root_subreaper = true;
        let plan = build(&head, &options).unwrap();
        assert!(plan.orphans().is_empty());
        assert!(plan.reaped);
        assert_eq!(check(&head, &plan, false), Ok(()));
    }
}
