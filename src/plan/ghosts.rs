//! The table that a plan grows in, and the ghosts: tasks that are gone but whose pid is still the id of
//! a session, a process group or a thread group.
//!
//! Comes in: resolved ids. Goes out: a [`Forest`] of the image's tasks and the ghosts behind them, none
//! with a creator yet. Never: a decision about who forks whom.

use super::pids::{Id, Ids};
use super::{Flags, NONE, PlanOptions};
use crate::error::PlanError;
use crate::image::PidTable;

/// Placeholders get pids above this: lower ones are for daemons that a system starts first.
const FIRST_FREE: i32 = 300;

/// A task on its way into the plan.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The pid object that it gets.
    pub object: u32,
    /// How many of the object's numbers it needs.
    pub levels: u8,
    /// Its identity: the first object with the same number.
    pub pid: u32,
    /// Parent.
    pub ppid: Id,
    /// Thread-group leader.
    pub tgid: u32,
    /// Process group.
    pub pgid: Id,
    /// Session.
    pub sid: Id,
    /// How it is made.
    pub flags: Flags,
    /// Row that forks it, [`NONE`] so far.
    pub creator: u32,
    /// Row of the placeholder in the session that it leads.
    pub placeholder: u32,
}

impl Row {
    /// Whether it leads its session.
    pub fn leads(&self) -> bool {
        self.sid == Id::of(self.pid)
    }

    /// Whether it is a thread of another task's group.
    pub fn is_thread(&self) -> bool {
        self.tgid != self.pid
    }
}

/// The growing plan.
pub(super) struct Forest {
    /// Tasks of the image, ghosts, placeholders.
    pub rows: Vec<Row>,
    /// Row that has the identity, [`NONE`] without one.
    pub holder: Vec<u32>,
    /// How many rows are the image's.
    pub image: usize,
    /// Pid objects; those of placeholders come last.
    pub pids: PidTable,
    /// Rows in the order in which they got their creator.
    pub attached: Vec<u32>,
    /// How many rows and objects there were before the first placeholder.
    base: (usize, usize),
    same_as_first: u32,
    pid_max: i32,
    free: Vec<FreePids>,
}

impl Forest {
    /// The tasks of the image and their ghosts.
    ///
    /// # Errors
    /// EINVAL where two tasks have one pid.
    pub fn new(ids: &Ids, pids: &PidTable, options: &PlanOptions) -> Result<Forest, PlanError> {
        let mut forest = Forest {
            rows: Vec::with_capacity(ids.rows.len()),
            holder: vec![NONE; ids.same.len()],
            image: ids.rows.len(),
            pids: pids.clone(),
            attached: Vec::with_capacity(ids.rows.len()),
            base: (0, 0),
            same_as_first: ids.same.first().copied().unwrap_or(0),
            pid_max: options.pid_max,
            free: Vec::new(),
        };
        for row in &ids.rows {
            let other = forest.holder(Id::of(row.pid));
            let at = forest.push(row.object, row.pid, row.ppid, row.sid, Flags::default());
            let added = &mut forest.rows[at as usize];
            added.tgid = row.tgid;
            added.pgid = row.pgid;
            if other != NONE {
                return Err(forest.error(at, format!("has the pid of task #{other}")));
            }
        }
        forest.add_ghosts(ids);
        forest.base = (forest.rows.len(), forest.pids.len());
        Ok(forest)
    }

    fn add_ghosts(&mut self, ids: &Ids) {
        let root = Id::of(self.rows[0].pid);
        for row in &ids.rows {
            if let Some(pid) = self.missing(row.sid) {
                self.push(pid, pid, root, row.sid, Flags::GHOST);
            }
        }
        for row in &ids.rows {
            let parent = if row.sid.object().is_some() { row.sid } else { root };
            let sid = self.row(self.holder(parent)).map_or(row.sid, |p| p.sid);
            for id in [Id::of(row.tgid), row.pgid] {
                if let Some(pid) = self.missing(id) {
                    let at = self.push(pid, pid, parent, sid, Flags::GHOST);
                    if id == Id::of(row.tgid) {
                        self.rows[at as usize].pgid = row.pgid;
                    }
                }
            }
        }
    }

    /// The identity that `id` names, if no row has it.
    fn missing(&self, id: Id) -> Option<u32> {
        id.object().filter(|&o| self.holder[o] == NONE).map(|o| o as u32)
    }

    fn push(&mut self, object: u32, pid: u32, ppid: Id, sid: Id, flags: Flags) -> u32 {
        let at = self.rows.len() as u32;
        let levels = self.pids.object(object as usize).map_or(0, <[i32]>::len);
        self.rows.push(Row {
            object,
            levels: levels as u8,
            pid,
            ppid,
            tgid: pid,
            pgid: if flags.has(Flags::DEAD) { Id::OUTSIDE } else { Id::of(pid) },
            sid,
            flags,
            creator: NONE,
            placeholder: NONE,
        });
        if self.holder[pid as usize] == NONE {
            self.holder[pid as usize] = at;
        }
        at
    }

    /// Row with this identity, [`NONE`] without one.
    pub fn holder(&self, id: Id) -> u32 {
        id.object().map_or(NONE, |o| self.holder[o])
    }

    /// Row with the identity of tag 1, which is what the historic planner takes for the init.
    pub fn first_tag(&self) -> Id {
        Id::of(self.same_as_first)
    }

    /// The row, if there is one.
    pub fn row(&self, at: u32) -> Option<&Row> {
        self.rows.get(at as usize)
    }

    /// How deep the namespace of a row is nested.
    pub fn depth(&self, at: u32) -> usize {
        self.row(at).map_or(0, |r| usize::from(r.levels.saturating_sub(1)))
    }

    /// Pid number at level 0 of what `id` names.
    pub fn number(&self, id: Id) -> i32 {
        let numbers = id.object().and_then(|o| self.pids.object(o));
        numbers.and_then(|n| n.first().copied()).unwrap_or(0)
    }

    /// Says what is wrong with a row.
    pub fn error(&self, at: u32, reason: impl Into<String>) -> PlanError {
        let pid = self.row(at).map_or(0, |r| self.number(Id::of(r.pid)));
        PlanError::Task { index: at as usize, pid, reason: reason.into() }
    }

    /// Makes `creator` fork `row`, in front of those that it forks so far.
    pub fn attach(&mut self, row: u32, creator: u32, flags: Flags) {
        self.attached.push(row);
        let row = &mut self.rows[row as usize];
        row.creator = creator;
        row.flags |= flags;
    }

    /// The placeholder in the session that `leader` leads, made if need be, to be reaped by `parent`.
    ///
    /// # Errors
    /// EOVERFLOW where no pid is left.
    pub fn placeholder(&mut self, leader: u32, sid: Id, parent: u32) -> Result<u32, PlanError> {
        let known = self.rows[leader as usize].placeholder;
        if known != NONE {
            return Ok(known);
        }
        let numbers = self.free_numbers(self.depth(leader) + 1, sid)?;
        let object = self.pids.len() as u32;
        self.pids.push(&numbers);
        self.holder.push(NONE);
        let parent = Id::of(self.rows[parent as usize].pid);
        let at = self.push(object, object, parent, sid, Flags::DEAD);
        self.rows[leader as usize].placeholder = at;
        Ok(at)
    }

    /// Takes from a row the pid numbers of namespaces nested deeper than `depth`.
    pub fn cut_depth(&mut self, at: u32, depth: usize) {
        if let Some(row) = self.rows.get_mut(at as usize) {
            row.levels = row.levels.min(depth as u8 + 1);
        }
    }

    fn free_numbers(&mut self, levels: usize, sid: Id) -> Result<Vec<i32>, PlanError> {
        let mut numbers = Vec::with_capacity(levels);
        for level in 0..levels {
            if self.free.len() <= level {
                self.free.push(FreePids::new(&self.pids, level, self.pid_max));
            }
            numbers.extend(self.free[level].take());
        }
        if numbers.len() < levels {
            let sid = self.number(sid);
            return Err(PlanError::NoPidLeft { pid_max: self.pid_max, sid });
        }
        Ok(numbers)
    }

    /// Forgets every creator and placeholder.
    pub fn reset(&mut self) {
        let (rows, objects) = self.base;
        self.rows.truncate(rows);
        self.holder.truncate(objects);
        self.pids.starts.truncate(objects + 1);
        let numbers = self.pids.starts.last().copied().unwrap_or(0) as usize;
        self.pids.numbers.truncate(numbers);
        self.free.clear();
        self.attached.clear();
        for row in &mut self.rows {
            row.flags = if row.flags.has(Flags::GHOST) { Flags::GHOST } else { Flags::default() };
            (row.creator, row.placeholder) = (NONE, NONE);
        }
    }
}

/// Unused pids of one level: upwards from the largest one used, then once around.
struct FreePids {
    last: i32,
    largest: i32,
    pid_max: i32,
    /// Used numbers that are still ahead, largest first; filled at the turn.
    ahead: Option<Vec<i32>>,
    used: Vec<i32>,
}

impl FreePids {
    fn new(pids: &PidTable, level: usize, pid_max: i32) -> FreePids {
        let numbers = (0..pids.len()).filter_map(|i| pids.object(i)?.get(level).copied());
        let used: Vec<i32> = numbers.filter(|&n| n >= FIRST_FREE).collect();
        let largest = used.iter().copied().max().unwrap_or(FIRST_FREE);
        FreePids { last: largest, largest, pid_max, ahead: None, used }
    }

    fn take(&mut self) -> Option<i32> {
        loop {
            let mut next = self.last.checked_add(1).filter(|&n| n < self.pid_max);
            if next.is_none() && self.ahead.is_none() {
                let mut ahead = std::mem::take(&mut self.used);
                ahead.sort_unstable_by(|a, b| b.cmp(a));
                self.ahead = Some(ahead);
                next = Some(FIRST_FREE).filter(|&n| n < self.pid_max);
            }
            self.last = next?;
            let Some(ahead) = &mut self.ahead else { return next };
            if self.last > self.largest {
                return None;
            }
            while ahead.last().is_some_and(|&n| n < self.last) {
                ahead.pop();
            }
            if ahead.last() != Some(&self.last) {
                return next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(numbers: &[i32], pid_max: i32) -> Vec<i32> {
        let mut pids = PidTable::default();
        for &n in numbers {
            pids.push(&[n]);
        }
        let mut free = FreePids::new(&pids, 0, pid_max);
        std::iter::from_fn(|| free.take()).take(4).collect()
    }

    #[test]
    fn placeholders_get_the_numbers_above_the_largest() {
        assert_eq!(taken(&[1, 2], 32768), [301, 302, 303, 304]);
        assert_eq!(taken(&[500, 400], 32768), [501, 502, 503, 504]);
    }

    #[test]
    fn at_pid_max_they_go_on_at_300() {
        assert_eq!(taken(&[32767, 301], 32768), [300, 302, 303, 304]);
        assert_eq!(taken(&[32766], 32768), [32767, 300, 301, 302]);
        assert_eq!(taken(&[40000], 32768), [300, 301, 302, 303]);
    }

    #[test]
    fn they_run_out() {
        assert_eq!(taken(&[301, 303], 304), [300, 302]);
        assert_eq!(taken(&[303], 304), [300, 301, 302]);
        assert!(taken(&[9], 300).is_empty());
    }
}
