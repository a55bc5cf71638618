//! The pid objects and the task table of an image.
//!
//! Comes in: the facts of all tasks. Goes out: [`PidTable`] and [`TaskIds`], with pid numbers as the
//! root task's pid namespace has them. What that namespace does not know has the tag 0.

use std::collections::HashMap;

use super::facts::Facts;
use crate::error::DumpError;
use crate::image::{PidTable, TaskIds};

/// Tag of the first pid object.
const FIRST_TAG: i32 = 1;

/// Builds both tables.
pub(super) fn tables(all: &[Facts]) -> Result<(PidTable, Vec<TaskIds>), DumpError> {
    let level = all.first().map_or(0, |root| root.status.pids.len().saturating_sub(1));
    let mut objects = Objects::new(all, level);
    let mut tasks = Vec::with_capacity(all.len());
    for facts in all {
        let status = &facts.status;
        let (pid, depth) = objects.task(facts.tid).ok_or_else(|| facts.malformed("status"))?;
        // The parent of the root, and of its threads, is outside whatever it is.
        let ppid = if facts.place.process == 0 {
            0
        } else {
            objects.task(status.ppid).ok_or_else(|| facts.malformed("status"))?.0
        };
        tasks.push(TaskIds {
            pid,
            ppid,
            tgid: objects.task(status.tgid).ok_or_else(|| facts.malformed("status"))?.0,
            pgid: objects.group(&status.pgids),
            sid: objects.group(&status.sids),
            depth,
        });
    }
    Ok((objects.table, tasks))
}

/// Objects in the order of their first use.
struct Objects<'a> {
    table: PidTable,
    /// Tags by the number in the root's namespace.
    tags: HashMap<i32, i32>,
    /// Numbers of each task from the root's namespace inwards, by the pid as the checkpointer sees it.
    numbers: HashMap<i32, &'a [i32]>,
    /// The same, by the pid in the root's namespace.
    inside: HashMap<i32, &'a [i32]>,
    level: usize,
}

impl<'a> Objects<'a> {
    fn new(all: &'a [Facts], level: usize) -> Objects<'a> {
        let own = |f: &'a Facts| f.status.pids.get(level..).unwrap_or(&[]);
        let table = PidTable { offset: FIRST_TAG, ..PidTable::default() };
        let numbers = all.iter().map(|f| (f.tid, own(f))).collect();
        let inside = all.iter().filter_map(|f| Some((*own(f).first()?, own(f)))).collect();
        Objects { table, tags: HashMap::new(), numbers, inside, level }
    }

    fn tag(&mut self, numbers: &[i32]) -> Option<i32> {
        let first = *numbers.first()?;
        Some(*self.tags.entry(first).or_insert_with(|| {
            self.table.push(numbers);
            self.table.len() as i32 - 1 + FIRST_TAG
        }))
    }

    /// Tag and depth of a task of the tree.
    fn task(&mut self, pid: i32) -> Option<(i32, u32)> {
        let numbers = *self.numbers.get(&pid)?;
        Some((self.tag(numbers)?, numbers.len().checked_sub(1)? as u32))
    }

    /// Tag of a process group or session: a task's pid, or one whose task has ended or is outside the
    /// tree; `numbers` as /proc shows them, from the checkpointer's namespace inwards.
    fn group(&mut self, numbers: &[i32]) -> i32 {
        let known = numbers.get(self.level..).unwrap_or(&[]);
        let Some(&first) = known.first().filter(|&&n| n != 0) else { return 0 };
        let own = match self.inside.get(&first) {
            Some(own) => own,
            // A namespace further in shows 0 for what it does not know.
            None => known.split(|&n| n == 0).next().unwrap_or(&[]),
        };
        self.tag(own).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::stop::Place;
    use crate::sys::procfs::Status;

    fn task(index: usize, pids: &[i32], ppid: i32, pgids: &[i32], sids: &[i32]) -> Facts {
        let status = Status {
            tgid: pids[0],
            ppid,
            pids: pids.to_vec(),
            pgids: pgids.to_vec(),
            sids: sids.to_vec(),
            ..Status::default()
        };
        let place = Place { process: index, thread: 0 };
        let mut facts = Facts::new(index, place, pids[0], Some(pids[0]));
        facts.status = status;
        facts
    }

    #[test]
    fn ghosts_get_objects_and_the_outside_gets_none() {
        let all = [
            task(0, &[100], 1, &[100], &[50]),
            task(1, &[101], 100, &[77], &[50]),
            task(2, &[102], 101, &[101], &[101]),
        ];
        let (pids, tasks) = tables(&all).expect("tables");
        assert_eq!(pids.numbers, [100, 50, 101, 77, 102]);
        let row =
            |i: usize| (tasks[i].pid, tasks[i].ppid, tasks[i].tgid, tasks[i].pgid, tasks[i].sid);
        assert_eq!(row(0), (1, 0, 1, 1, 2));
        assert_eq!(row(1), (3, 1, 3, 4, 2));
        assert_eq!(row(2), (5, 3, 5, 3, 3));
    }

    #[test]
    fn numbers_are_those_of_the_root_tasks_namespace() {
        // The root is pid 5 in a namespace below ours; its child made another one below that.
        let all = [
            task(0, &[900, 5], 800, &[900, 5], &[700, 0]),
            task(1, &[901, 6, 1], 900, &[901, 6, 1], &[700, 0, 0]),
            task(2, &[902, 7, 2], 901, &[950, 9, 0], &[901, 6, 1]),
        ];
        let (pids, tasks) = tables(&all).expect("tables");
        assert_eq!(pids.object(0), Some(&[5][..]));
        assert_eq!(pids.object(1), Some(&[6, 1][..]));
        assert_eq!(pids.object(2), Some(&[7, 2][..]));
        assert_eq!(pids.object(3), Some(&[9][..]));
        assert_eq!((tasks[0].sid, tasks[1].sid, tasks[2].sid), (0, 0, 2));
        assert_eq!((tasks[1].depth, tasks[2].depth, tasks[2].pgid), (1, 1, 4));
    }

    #[test]
    fn a_parent_outside_the_tree_is_an_error() {
        let all = [task(0, &[100], 1, &[100], &[100]), task(1, &[101], 1, &[100], &[100])];
        assert!(tables(&all).is_err());
    }
}
