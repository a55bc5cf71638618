//! The plan: which task forks which, in which order, so that every task of the image comes up with the
//! pid, parent, session and thread group that the image says (`docs/tree.md`).
//!
//! Comes in: an [`ImageHead`], of which only the ranges of the records were checked. Goes out: an
//! immutable [`Plan`] of plain indices that [`simulate`] has proved right. Never: a system call, a
//! guess about the machine (its limits are in [`PlanOptions`]), recursion.
#![forbid(unsafe_code)]

mod attempt;
mod choose;
mod creators;
mod family;
mod ghosts;
mod groups;
mod inherit;
mod orphans;
mod pids;
pub mod simulate;

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use self::ghosts::Forest;
pub use self::groups::Groups;
use crate::error::PlanError;
use crate::image::{ImageHead, PidTable};

/// Stands for "none" in the index fields of a [`Task`].
const NONE: u32 = u32::MAX;

/// What a plan depends on besides the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// The tasks get a pid namespace of their own.
    pub pidns: bool,
    /// The system's /proc/sys/kernel/pid_max: pids are below it.
    pub pid_max: i32,
}

/// Properties of a task in a plan.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Made with CLONE_THREAD by its thread-group leader.
    pub const THREAD: Flags = Flags(1);
    /// Made with CLONE_PARENT: its parent is its creator's parent.
    pub const SIBLING: Flags = Flags(2);
    /// Forked before its creator calls setsid(2).
    pub const SESSION: Flags = Flags(4);
    /// The first task of a new pid namespace.
    pub const NEW_PIDNS: Flags = Flags(8);
    /// Not in the image, but its pid is used there: the leader of a session, process group or thread
    /// group that has ended.
    pub const GHOST: Flags = Flags(16);
    /// A placeholder: not in the image, only there to fork others and exit.
    pub const DEAD: Flags = Flags(32);

    /// Whether all of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    pub fn any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

/// The letters of the flags that are set, out of `TPSNGD`, in this order.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        "TPSNGD"
            .chars()
            .enumerate()
            .filter(|(i, _)| self.0 & 1 << i != 0)
            .try_for_each(|(_, c)| f.write_char(c))
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

/// One task to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Pid number at level 0. Below, 0 means: from outside, or (pgid, sid) the same as the root task's,
    /// which has inherited it from outside.
    pub pid: i32,
    /// Pid number of the parent that the image asks for; of a ghost or placeholder: that it is made for.
    pub ppid: i32,
    /// Pid number of the thread-group leader.
    pub tgid: i32,
    /// Pid number of the process group; a ghost leads its own, a placeholder has 0.
    pub pgid: i32,
    /// Pid number of the session.
    pub sid: i32,
    /// How it is made and whether it stays.
    pub flags: Flags,
    /// Index of the task that forks it; none for the root.
    pub creator: Option<usize>,
    /// Its pid object (from 0).
    object: u32,
    /// How many of the object's numbers it gets.
    levels: u8,
    /// Index of the leader of its process group, [`NONE`] for outside.
    group: u32,
    /// Index of the leader of its session, [`NONE`] for outside.
    session: u32,
}

/// Who forks whom, in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The image's tasks in the image's order (the root first), then ghosts, then placeholders.
    pub tasks: Vec<Task>,
    /// A pid number 0 is among the ids and there is no new pid namespace: the condition PIDZERO.
    pub pid_zero: bool,
    /// Children of ghosts and placeholders end as children of the root task or of a nested init, so
    /// that the exit of those does no harm: in a new pid namespace, and where the image says that the
    /// root task is a child subreaper. See [`Plan::leaves_orphans`].
    pub reaped: bool,
    image_tasks: usize,
    pids: PidTable,
    /// Children of task `i` are `child_list[child_starts[i]..child_starts[i + 1]]`.
    child_starts: Vec<u32>,
    child_list: Vec<u32>,
}

impl Plan {
    /// The tasks that `index` forks, in the order in which it does: before it calls setsid(2) those
    /// flagged [`Flags::SESSION`], afterwards the others.
    pub fn children(&self, index: usize) -> &[u32] {
        let range = self.child_starts.get(index).zip(self.child_starts.get(index + 1));
        range.and_then(|(&a, &b)| self.child_list.get(a as usize..b as usize)).unwrap_or(&[])
    }

    /// All pid numbers of task `index`, outermost namespace first.
    pub fn numbers(&self, index: usize) -> &[i32] {
        let numbers = |t: &Task| self.pids.object(t.object as usize)?.get(..t.levels as usize);
        self.tasks.get(index).and_then(numbers).unwrap_or(&[])
    }

    /// How many tasks the image has: they are the first of [`Plan::tasks`].
    pub fn image_tasks(&self) -> usize {
        self.image_tasks
    }

    /// The task that is the parent of `index` once it is created; none for the root task and its threads.
    pub fn real_parent(&self, index: usize) -> Option<usize> {
        let mut task = self.tasks.get(index)?;
        let mut creator = task.creator?;
        // A thread has its leader's parent, and a leader may be a sibling: two steps, no more.
        if task.flags.has(Flags::THREAD) {
            task = self.tasks.get(creator)?;
            creator = task.creator?;
        }
        if !task.flags.has(Flags::SIBLING) {
            return Some(creator);
        }
        self.sibling_parent(creator)
    }

    /// The parent of a task that was made with CLONE_PARENT by `creator`.
    fn sibling_parent(&self, mut creator: usize) -> Option<usize> {
        // Each step goes to an earlier creator; the bound is for plans that were not proved.
        for _ in 0..self.tasks.len() {
            let task = self.tasks.get(creator)?;
            let next = task.creator?;
            if !task.flags.any(Flags::SIBLING | Flags::THREAD) {
                return Some(next);
            }
            creator = next;
        }
        None
    }

    /// Index of the task that leads the process group of `index`; none where the group is from outside.
    pub fn group_leader(&self, index: usize) -> Option<usize> {
        self.tasks.get(index).map(|t| t.group).filter(|&g| g != NONE).map(|g| g as usize)
    }

    /// Index of the task that leads the session of `index`; none where the session is from outside.
    pub fn session_leader(&self, index: usize) -> Option<usize> {
        self.tasks.get(index).map(|t| t.session).filter(|&s| s != NONE).map(|s| s as usize)
    }
}

/// Makes the plan for the tree of an image and proves it.
///
/// # Errors
/// EINVAL: ids that contradict each other, or a tree that no order of forks can make; EOVERFLOW: no
/// pid is left for a placeholder. Orphans are no error here, see [`Plan::orphans`].
pub fn build(head: &ImageHead, options: &PlanOptions) -> Result<Plan, PlanError> {
    let ids = pids::read(head, options.pidns)?;
    let mut forest = Forest::new(&ids, &head.pids, options)?;
    let mut plan = attempt::first_right(&mut forest, &ids, &head.pids)?;
    plan.pid_zero = ids.zero && !options.pidns;
    plan.reaped = options.pidns || head.extra.root_subreaper;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Arch, HeadExtra, Header, TaskIds};

    /// A head with these pid objects and rows (pid, ppid, tgid, pgid, sid tags).
    pub(super) fn head(offset: i32, objects: &[&[i32]], rows: &[[i32; 5]]) -> ImageHead {
        let mut pids = PidTable { offset, ..PidTable::default() };
        objects.iter().for_each(|object| pids.push(object));
        let task = |&[pid, ppid, tgid, pgid, sid]: &[i32; 5]| TaskIds {
            pid,
            ppid,
            tgid,
            pgid,
            sid,
            depth: 0,
        };
        ImageHead {
            header: Header {
                arch_id: 2,
                kernel: [6, 18, 0],
                rev: 6,
                constants: [0; 12],
                time: 0,
                uflags: 0,
                release: Vec::new(),
                version: Vec::new(),
                machine: Vec::new(),
            },
            arch: Arch { has_fxsr: true, has_xsave: true, xstate_size: 832 },
            lsm_name: Vec::new(),
            lsm_info: Vec::new(),
            pids,
            tasks: rows.iter().map(task).collect(),
            extra: HeadExtra::default(),
        }
    }

    fn plan(objects: &[&[i32]], rows: &[[i32; 5]], pidns: bool) -> Result<Plan, PlanError> {
        build(&head(1, objects, rows), &PlanOptions { pidns, pid_max: 32768 })
    }

    #[test]
    fn flags_are_shown_in_a_fixed_order() {
        let all = [Flags::DEAD, Flags::THREAD, Flags::GHOST, Flags::SIBLING, Flags::NEW_PIDNS];
        let all = all.into_iter().fold(Flags::SESSION, |a, b| a | b);
        assert_eq!(all.to_string(), "TPSNGD");
        assert_eq!((Flags::DEAD | Flags::SIBLING).to_string(), "PD");
        assert_eq!(Flags::default().to_string(), "");
    }

    #[test]
    fn real_parents_of_siblings_and_threads() {
        let objects: [&[i32]; 5] = [&[100], &[101], &[102], &[103], &[104]];
        let rows =
            [[1, 0, 1, 1, 1], [2, 1, 2, 1, 1], [3, 2, 3, 3, 3], [4, 2, 4, 3, 3], [5, 2, 4, 3, 3]];
        let plan = plan(&objects, &rows, false).unwrap();
        let flags: Vec<String> = plan.tasks.iter().map(|t| t.flags.to_string()).collect();
        assert_eq!(flags, ["", "", "", "P", "T"]);
        let parents: Vec<_> = (0..5).map(|i| plan.real_parent(i)).collect();
        assert_eq!(parents, [None, Some(0), Some(1), Some(1), Some(1)]);
        assert_eq!(plan.children(2), [3]);
        assert_eq!((plan.session_leader(4), plan.group_leader(4)), (Some(2), Some(2)));
        assert_eq!(plan.real_parent(5), None);
    }

    #[test]
    fn a_group_that_ended_in_a_nested_namespace() {
        // 102 leads a group that only its parent's other child, in the outer namespace, is left in.
        let objects: [&[i32]; 4] = [&[1], &[101, 1], &[102, 2], &[103]];
        let rows = [[1, 0, 1, 1, 1], [2, 1, 2, 1, 1], [4, 1, 4, 3, 1]];
        let plan = plan(&objects, &rows, true).unwrap();
        assert_eq!(plan.numbers(3), [102]);
        assert_eq!(plan.numbers(1), [101, 1]);
        assert_eq!(plan.group_leader(2), Some(3));
    }

    #[test]
    fn placeholders_run_out() {
        let objects: [&[i32]; 3] = [&[1], &[300], &[301]];
        let rows = [[1, 0, 1, 1, 1], [2, 1, 2, 2, 2], [3, 1, 3, 2, 2]];
        let head = head(1, &objects, &rows);
        let error = build(&head, &PlanOptions { pidns: true, pid_max: 302 }).unwrap_err();
        assert_eq!(error, PlanError::NoPidLeft { pid_max: 302, sid: 300 });
        assert_eq!(error.errno(), libc::EOVERFLOW);
    }

    #[test]
    fn a_pid_zero_is_told() {
        let rows = [[1, 0, 1, 1, 1], [2, 1, 2, 0, 1]];
        let objects: [&[i32]; 2] = [&[100], &[101]];
        assert!(plan(&objects, &rows, false).unwrap().pid_zero);
        assert!(!plan(&objects, &rows, true).unwrap().pid_zero);
    }
}
