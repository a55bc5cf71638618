//! From tags to identities: which pid object each id of a task names.
//!
//! Comes in: the pid and task tables of an image. Goes out: [`Ids`], in which every tag has become an
//! [`Id`] and pid objects with the same number at level 0 are one. Never: a look at what the ids mean.

use crate::error::PlanError;
use crate::image::{ImageHead, PidTable, TaskIds};

/// Levels of pid namespaces that the kernel allows below the first (MAX_PID_NS_LEVEL).
const MAX_DEPTH: usize = 32;

/// What an id of a task names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

impl Id {
    /// Something outside the tree (tag 0).
    pub const OUTSIDE: Id = Id(u32::MAX);
    /// What the root task has inherited from outside (`CKPT_PID_ROOT`).
    pub const ROOT: Id = Id(u32::MAX - 1);

    /// The pid object `index`.
    pub fn of(index: u32) -> Id {
        Id(index)
    }

    /// The pid object, if it is one.
    pub fn object(self) -> Option<usize> {
        (self.0 < Id::ROOT.0).then_some(self.0 as usize)
    }
}

/// One row of the task table, resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdRow {
    /// The pid object that the task gets.
    pub object: u32,
    /// The task's identity: the first object with the same number.
    pub pid: u32,
    /// Parent.
    pub ppid: Id,
    /// Thread-group leader.
    pub tgid: u32,
    /// Process group.
    pub pgid: Id,
    /// Session.
    pub sid: Id,
}

/// The tables of an image, resolved.
pub(super) struct Ids {
    /// One for each task of the image.
    pub rows: Vec<IdRow>,
    /// For each pid object the first one with the same number at level 0; 0 is no number.
    pub same: Vec<u32>,
    /// Whether there is a pid number 0 among the ids (PIDZERO without a new pid namespace).
    pub zero: bool,
}

/// Resolves the tables of an image (`docs/tree.md`, "Validation").
///
/// # Errors
/// EINVAL where a count, an object or a tag cannot be.
pub(super) fn read(head: &ImageHead, pidns: bool) -> Result<Ids, PlanError> {
    let pids = &head.pids;
    let count = |what, value: usize| PlanError::Count { what, value: value as i64 };
    if pids.is_empty() || pids.len() >= Id::ROOT.0 as usize {
        return Err(count("number of pids", pids.len()));
    }
    // Room for ghosts and placeholders, of which there are at most four a task.
    if head.tasks.is_empty() || head.tasks.len() >= u32::MAX as usize / 8 {
        return Err(count("number of tasks", head.tasks.len()));
    }
    if pids.offset < 0 {
        return Err(PlanError::Count { what: "offset of the tags", value: pids.offset.into() });
    }
    check_objects(pids, pidns)?;
    let reader = Reader {
        count: pids.len() as i64,
        offset: pids.offset,
        shift: i64::from(pids.offset) - 1,
        same: first_with_number(pids),
    };
    let shifted = reader.parents_are_shifted(&head.tasks)?;
    let mut rows = Vec::with_capacity(head.tasks.len());
    for (index, task) in head.tasks.iter().enumerate() {
        rows.push(reader.row(index, task, shifted)?);
    }
    let number = |id: Id| id.object().and_then(|o| pids.object(o)).and_then(|o| o.first());
    let is_zero = |id| number(id).is_none_or(|&n| n == 0);
    let zero = |r: &IdRow| [Id::of(r.pid), Id::of(r.tgid), r.pgid, r.sid].into_iter().any(is_zero);
    let zero = rows.iter().any(zero);
    inherit_from_root(&mut rows);
    Ok(Ids { rows, same: reader.same, zero })
}

/// What the root task has from outside, others have from the root task.
fn inherit_from_root(rows: &mut [IdRow]) {
    let Some(root) = rows.first().copied().filter(|r| r.sid != Id::of(r.pid)) else { return };
    for row in rows {
        for id in [&mut row.pgid, &mut row.sid] {
            if *id == root.sid {
                *id = Id::ROOT;
            }
        }
    }
}

fn check_objects(pids: &PidTable, pidns: bool) -> Result<(), PlanError> {
    for index in 0..pids.len() {
        let tag = index as i64 + i64::from(pids.offset);
        let bad = |reason: String| PlanError::Object { tag, reason };
        let numbers = pids.object(index).filter(|o| !o.is_empty());
        let numbers = numbers.ok_or_else(|| bad("has no pid number".into()))?;
        if let Some(n) = numbers.iter().find(|&&n| n < 0) {
            return Err(bad(format!("has the pid number {n}")));
        }
        if numbers.len() > 1 && !pidns {
            let reason =
                format!("is nested {} deep, without a new pid namespace", numbers.len() - 1);
            return Err(bad(reason));
        }
        if numbers.len() > MAX_DEPTH + 1 {
            let reason = format!("is nested {} deep, more than {MAX_DEPTH}", numbers.len() - 1);
            return Err(bad(reason));
        }
    }
    Ok(())
}

/// For each object the first one with the same number at level 0.
fn first_with_number(pids: &PidTable) -> Vec<u32> {
    let number = |i: u32| pids.object(i as usize).and_then(|o| o.first().copied()).unwrap_or(0);
    let mut same: Vec<u32> = (0..pids.len() as u32).collect();
    if (1..same.len() as u32).all(|i| number(i - 1) < number(i)) {
        return same;
    }
    let mut order: Vec<(i32, u32)> = same.iter().map(|&i| (number(i), i)).collect();
    order.sort_unstable();
    let mut first = (0, 0);
    for (number, index) in order {
        if number == 0 || number != first.0 {
            first = (number, index);
        }
        if let Some(slot) = same.get_mut(index as usize) {
            *slot = first.1;
        }
    }
    same
}

/// Turns tags into ids.
struct Reader {
    count: i64,
    offset: i32,
    shift: i64,
    same: Vec<u32>,
}

impl Reader {
    /// The object that the tag names once `shift` is taken off.
    fn object(&self, tag: i32, shift: i64) -> Option<u32> {
        let index = i64::from(tag) - shift - 1;
        (0..self.count).contains(&index).then_some(index as u32)
    }

    fn same(&self, object: u32) -> u32 {
        self.same.get(object as usize).copied().unwrap_or(object)
    }

    fn row(&self, index: usize, task: &TaskIds, shifted: bool) -> Result<IdRow, PlanError> {
        let bad = |id, tag| PlanError::Tag { index, id, tag };
        let must = |id, tag| self.object(tag, self.shift).ok_or_else(|| bad(id, tag));
        let may = |id, tag, shift| match tag {
            0 => Ok(Id::OUTSIDE),
            t if t < 0 => Err(bad(id, tag)),
            _ => match self.object(tag, shift) {
                Some(object) => Ok(Id::of(self.same(object))),
                None => Err(bad(id, tag)),
            },
        };
        let object = must("pid", task.pid)?;
        Ok(IdRow {
            object,
            pid: self.same(object),
            ppid: may("ppid", task.ppid, if shifted { self.shift } else { 0 })?,
            tgid: self.same(must("tgid", task.tgid)?),
            pgid: may("pgid", task.pgid, self.shift)?,
            sid: may("sid", task.sid, self.shift)?,
        })
    }

    /// Whether the writer added the offset to parent tags too (`docs/tree.md`, "Parent tags and the
    /// offset"). A reading must put every parent in front of its children. Where neither does, the
    /// tasks are out of order; then one that makes a tree will do, if the other does not.
    fn parents_are_shifted(&self, tasks: &[TaskIds]) -> Result<bool, PlanError> {
        if self.offset <= 1 {
            return Ok(false);
        }
        let readings = [true, false];
        if let Some(shifted) = readings.into_iter().find(|&s| self.parents_are_earlier(tasks, s)) {
            return Ok(shifted);
        }
        match readings.map(|s| self.parents_make_a_tree(tasks, s)) {
            [true, false] => Ok(true),
            [false, true] => Ok(false),
            _ => Err(PlanError::ParentTags { offset: self.offset }),
        }
    }

    /// For each task the index of the task with its parent tag; of one with a parent outside the tree:
    /// none. Nothing where a tag is not in the table or no task has it.
    fn parents(&self, tasks: &[TaskIds], shifted: bool) -> Option<Vec<Option<usize>>> {
        let shift = if shifted { self.shift } else { 0 };
        let object = |tag, shift| self.object(tag, shift).map(|o| self.same(o) as usize);
        let mut holder = vec![None; self.same.len()];
        for (index, task) in tasks.iter().enumerate() {
            if let Some(slot) = object(task.pid, self.shift).and_then(|o| holder.get_mut(o)) {
                *slot = Some(index);
            }
        }
        let root_parent = tasks.first().map_or(0, |root| root.ppid);
        let parent = |(index, task): (usize, &TaskIds)| {
            if task.ppid != 0 && object(task.ppid, shift).is_none() {
                return None;
            }
            // The root task and its threads have a parent outside, whatever its tag.
            if index == 0 || (task.tgid != task.pid && task.ppid == root_parent) {
                return Some(None);
            }
            let holder = object(task.ppid, shift).and_then(|o| holder.get(o).copied().flatten());
            holder.map(Some)
        };
        tasks.iter().enumerate().map(parent).collect()
    }

    fn parents_are_earlier(&self, tasks: &[TaskIds], shifted: bool) -> bool {
        let parents = self.parents(tasks, shifted);
        let earlier = |(i, p): (usize, &Option<usize>)| p.is_none_or(|p| p < i);
        parents.is_some_and(|p| p.iter().enumerate().all(earlier))
    }

    fn parents_make_a_tree(&self, tasks: &[TaskIds], shifted: bool) -> bool {
        let Some(parents) = self.parents(tasks, shifted) else { return false };
        // Who was seen from which start: a start that meets itself is in a circle.
        let mut seen = vec![usize::MAX; parents.len()];
        for start in 0..parents.len() {
            let mut at = Some(start);
            while let Some(i) = at.filter(|&i| seen.get(i) == Some(&usize::MAX)) {
                if let Some(slot) = seen.get_mut(i) {
                    *slot = start;
                }
                at = parents.get(i).copied().flatten();
            }
            if at.is_some_and(|i| seen.get(i) == Some(&start)) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::head;

    /// Parents as (object, parent's object) from 0, none for outside.
    fn parents(head: &ImageHead) -> Result<Vec<Option<usize>>, PlanError> {
        read(head, false).map(|ids| ids.rows.iter().map(|r| r.ppid.object()).collect())
    }

    /// Root 100 with child 101 and grandchild 102, tags from `offset`, parent tags from `parents`.
    fn family(offset: i32, parents: i32) -> ImageHead {
        let (a, b, c) = (offset, offset + 1, offset + 2);
        let rows = [[a, 0, a, a, a], [b, parents, b, a, a], [c, parents + 1, c, a, a]];
        head(offset, &[&[100], &[101], &[102]], &rows)
    }

    #[test]
    fn parent_tags_with_and_without_the_offset() {
        for (offset, first) in [(1, 1), (2, 2), (2, 1), (9, 9), (9, 1)] {
            let family = family(offset, first);
            assert_eq!(parents(&family), Ok(vec![None, Some(0), Some(1)]), "{offset} {first}");
        }
    }

    #[test]
    fn a_parent_must_be_in_the_table_in_either_reading() {
        let error = Err(PlanError::ParentTags { offset: 9 });
        assert_eq!(parents(&family(9, 4)), error);
        assert_eq!(parents(&family(9, 2)), error, "a task as its own parent, or a parent unknown");
    }

    #[test]
    fn the_shifted_reading_is_tried_first() {
        // Shifted the parents are 0, 0; as they are 1, 1: a task that is its own parent.
        let rows = [[2, 0, 2, 2, 2], [3, 2, 3, 2, 2], [4, 2, 4, 2, 2]];
        let both = head(2, &[&[100], &[101], &[102]], &rows);
        assert_eq!(parents(&both), Ok(vec![None, Some(0), Some(0)]));
    }

    #[test]
    fn tasks_out_of_order_need_a_reading_that_is_a_tree() {
        let rows = [[7, 0, 7, 7, 7], [9, 2, 9, 7, 7], [8, 1, 8, 7, 7]];
        let unshifted = head(7, &[&[100], &[101], &[102]], &rows);
        assert_eq!(parents(&unshifted), Ok(vec![None, Some(1), Some(0)]));
    }

    #[test]
    fn a_parent_of_the_root_outside_is_no_obstacle() {
        let rows = [[5, 7, 5, 5, 5], [6, 7, 5, 5, 5]];
        let outside = head(5, &[&[100], &[101], &[77]], &rows);
        assert_eq!(parents(&outside), Ok(vec![Some(2), Some(2)]));
    }

    #[test]
    fn tags_are_shifted_but_for_those_from_outside() {
        let rows = [[5, 0, 5, 5, 5], [6, 5, 6, 0, 0]];
        let ids = read(&head(5, &[&[100], &[101]], &rows), false).unwrap();
        assert_eq!((ids.rows[1].pid, ids.rows[1].tgid), (1, 1));
        assert_eq!((ids.rows[1].pgid, ids.rows[1].sid), (Id::OUTSIDE, Id::OUTSIDE));
        assert!(ids.zero);
    }

    #[test]
    fn what_the_root_has_from_outside_others_have_from_the_root() {
        let rows = [[1, 0, 1, 3, 3], [2, 1, 2, 3, 2]];
        let ids = read(&head(1, &[&[100], &[101], &[50]], &rows), false).unwrap();
        assert_eq!((ids.rows[0].pgid, ids.rows[0].sid), (Id::ROOT, Id::ROOT));
        assert_eq!((ids.rows[1].pgid, ids.rows[1].sid), (Id::ROOT, Id::of(1)));
        assert!(!ids.zero);
    }

    #[test]
    fn bad_tags_name_the_task_and_the_id() {
        for (at, id) in ["pid", "ppid", "tgid", "pgid", "sid"].into_iter().enumerate() {
            for tag in [-4097, -1, 3, i32::MIN, i32::MAX] {
                let mut rows = [[1, 0, 1, 1, 1], [2, 1, 2, 1, 1]];
                rows[1][at] = tag;
                let error = read(&head(1, &[&[100], &[101]], &rows), false).err();
                assert_eq!(error, Some(PlanError::Tag { index: 1, id, tag }));
            }
        }
    }

    #[test]
    fn objects_that_cannot_be() {
        let bad = |object: &[i32], pidns| {
            let rows = [[1, 0, 1, 1, 1]];
            matches!(
                read(&head(1, &[&[100], object], &rows), pidns),
                Err(PlanError::Object { tag: 2, .. })
            )
        };
        assert!(bad(&[-1], false) && bad(&[], false) && bad(&[5, 1], false));
        assert!(!bad(&[5, 1], true) && bad(&[5, -1], true) && bad(&[5; 34], true));
    }
}
