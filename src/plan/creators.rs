//! Who forks whom: DumpForest of Laadan and Nieh (USENIX ATC 2007), as the historic library has it.
//!
//! Comes in: a [`Forest`] without creators. Goes out: each row with a creator, in the lists that the
//! historic planner makes. It is a rule of thumb that is right for most trees: who calls it proves the
//! result and has [`super::inherit`] for the rest. Never: recursion; waiting rows are on a stack.

use super::ghosts::Forest;
use super::pids::Id;
use super::{Flags, NONE};
use crate::error::PlanError;

/// The rule of thumb does not cover this tree, or there is no tree.
#[derive(Debug)]
pub(super) struct Unfit;

/// What is still to be done, last thing first.
enum Work {
    /// Find the creator of a row.
    Create(u32),
    /// A row and who forks it must have this session before setsid: mark it and go on to its creator.
    Climb(u32, Id),
}

/// Gives each row a creator. A row that nobody can create is `Unfit`.
///
/// # Errors
/// Only where no pid is left for a placeholder.
pub(super) fn assign(forest: &mut Forest) -> Result<Result<(), Unfit>, PlanError> {
    let mut creators = Creators { forest, waiting: Vec::new(), work: Vec::new() };
    let mut at = 1;
    while (at as usize) < creators.forest.rows.len() {
        creators.work.push(Work::Create(at));
        if let Err(Unfit) = creators.run()? {
            return Ok(Err(Unfit));
        }
        at += 1;
    }
    Ok(Ok(()))
}

struct Creators<'a> {
    forest: &'a mut Forest,
    /// Rows that wait for the creator of their session's leader.
    waiting: Vec<bool>,
    work: Vec<Work>,
}

impl Creators<'_> {
    fn run(&mut self) -> Result<Result<(), Unfit>, PlanError> {
        self.waiting.resize(self.forest.rows.len(), false);
        while let Some(work) = self.work.pop() {
            let done = match work {
                Work::Create(at) => self.create(at)?,
                Work::Climb(at, sid) => self.climb(at, sid),
            };
            if let Err(Unfit) = done {
                return Ok(Err(Unfit));
            }
        }
        Ok(Ok(()))
    }

    /// Leader of a session; for one from outside whoever has tag 1.
    fn leader(&self, sid: Id) -> u32 {
        let id = if sid.object().is_some() { sid } else { self.forest.first_tag() };
        self.forest.holder(id)
    }

    /// Whether a row still needs a creator.
    fn lacks_creator(&self, at: u32) -> bool {
        at != 0 && self.forest.rows[at as usize].creator == NONE
    }

    fn create(&mut self, at: u32) -> Result<Result<(), Unfit>, PlanError> {
        if !self.lacks_creator(at) {
            return Ok(Ok(()));
        }
        let row = self.forest.rows[at as usize].clone();
        let parent = self.forest.holder(row.ppid);
        let leader = self.leader(row.sid);
        let (creator, mut flags) = if row.is_thread() {
            (self.forest.holder(Id::of(row.tgid)), Flags::THREAD)
        } else if parent == NONE {
            return Ok(Err(Unfit));
        } else if row.leads() {
            (parent, Flags::default())
        } else if row.flags.has(Flags::DEAD) {
            (leader, Flags::default())
        } else if self.forest.rows[parent as usize].sid == row.sid {
            (parent, Flags::default())
        } else if leader == NONE {
            return Ok(Err(Unfit));
        } else if row.ppid == self.forest.first_tag() {
            let placeholder = self.forest.placeholder(leader, row.sid, 0)?;
            self.waiting.resize(self.forest.rows.len(), false);
            if self.lacks_creator(placeholder) {
                self.work.push(Work::Create(at));
                self.work.push(Work::Create(placeholder));
                return Ok(Ok(()));
            }
            (placeholder, Flags::default())
        } else if self.lacks_creator(leader) {
            return Ok(self.wait_for(at, leader));
        } else if self.forest.rows[leader as usize].creator == parent && leader != 0 {
            (leader, Flags::SIBLING)
        } else {
            (parent, Flags::SESSION)
        };
        if creator == NONE || creator == at {
            return Ok(Err(Unfit));
        }
        if row.sid.object().is_none() {
            flags |= Flags::SESSION;
        }
        self.forest.attach(at, creator, flags);
        if flags.has(Flags::SESSION) {
            self.work.push(Work::Climb(at, row.sid));
        }
        Ok(Ok(()))
    }

    fn wait_for(&mut self, at: u32, leader: u32) -> Result<(), Unfit> {
        // Each waits for the other: a circle of sessions.
        if self.waiting[leader as usize] || leader == at {
            return Err(Unfit);
        }
        self.waiting[at as usize] = true;
        self.work.push(Work::Create(at));
        self.work.push(Work::Create(leader));
        Ok(())
    }

    fn climb(&mut self, at: u32, sid: Id) -> Result<(), Unfit> {
        self.forest.rows[at as usize].flags |= Flags::SESSION;
        let up = self.forest.rows[at as usize].creator;
        if self.lacks_creator(up) {
            if self.waiting[up as usize] {
                return Err(Unfit);
            }
            self.work.push(Work::Climb(at, sid));
            self.work.push(Work::Create(up));
            return Ok(());
        }
        let creator = &self.forest.rows[up as usize];
        let stop = up == 0
            || creator.sid == sid
            || creator.flags.has(Flags::SESSION)
            || creator.creator == self.leader(sid);
        if !stop {
            self.work.push(Work::Climb(up, sid));
        }
        Ok(())
    }
}
