//! Who descends from whom, as the image says it.
//!
//! Comes in: a [`Forest`]. Goes out: a [`Family`], in which every task has a parent that is a task, and
//! which is one tree. Never: a thought about sessions.

use super::NONE;
use super::ghosts::Forest;
use super::pids::Id;
use crate::error::PlanError;

/// What a row is, as far as descent goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process: a thread-group leader of the image, or the ghost of one whose threads live.
    Process,
    /// A thread of another task's group.
    Thread,
    /// The ghost of a session leader: it may have been anybody's child.
    Leader,
    /// The ghost of a process-group leader.
    Group,
}

/// The processes of an image as a tree.
pub(super) struct Family {
    /// What each row is.
    pub kind: Vec<Kind>,
    /// Of a process: its parent; [`NONE`] for the root task and for all that are no processes.
    pub parent: Vec<u32>,
    /// The processes, each in front of its descendants.
    pub order: Vec<u32>,
    /// Of a process: the init of the pid namespace that it is in (the root task for the outermost).
    pub init: Vec<u32>,
    /// Where a process is in `order`.
    place: Vec<u32>,
    /// How many processes it and its descendants are.
    size: Vec<u32>,
    /// Its ancestor (or itself) that is a child of the init of its home.
    branch: Vec<u32>,
}

impl Family {
    /// Sorts out the rows. A ghost with living threads gets the parent and session that those have.
    ///
    /// # Errors
    /// EINVAL where a parent or thread-group leader cannot be one, and where parents form a circle.
    pub fn new(forest: &mut Forest) -> Result<Family, PlanError> {
        let n = forest.rows.len();
        let all = || vec![NONE; n];
        let kind = kinds(forest)?;
        let mut family = Family {
            kind,
            parent: all(),
            order: Vec::with_capacity(n),
            init: all(),
            place: all(),
            size: vec![0; n],
            branch: all(),
        };
        family.find_parents(forest)?;
        family.sort(forest)?;
        for at in 0..family.order.len() {
            family.settle(forest, at)?;
        }
        for &x in family.order.iter().rev() {
            family.size[x as usize] += 1;
            if let Some(above) = family.size.get(x as usize).copied().zip(family.up(x)) {
                family.size[above.1 as usize] += above.0;
            }
        }
        Ok(family)
    }

    fn find_parents(&mut self, forest: &Forest) -> Result<(), PlanError> {
        let root_parent = forest.holder(forest.rows[0].ppid);
        if root_parent != NONE {
            return Err(
                forest.error(0, format!("is the root task, but a child of task #{root_parent}"))
            );
        }
        for at in 1..forest.rows.len() {
            if self.kind[at] != Kind::Process {
                continue;
            }
            let parent = forest.holder(forest.rows[at].ppid);
            let reason = match self.kind.get(parent as usize) {
                Some(Kind::Process) => {
                    self.parent[at] = parent;
                    continue;
                }
                Some(Kind::Thread) => "has a thread as parent",
                Some(Kind::Leader | Kind::Group) => "has a parent that has ended",
                None => "has no parent in the tree",
            };
            return Err(forest.error(at as u32, reason));
        }
        Ok(())
    }

    /// Puts the processes in an order with each in front of its descendants.
    fn sort(&mut self, forest: &Forest) -> Result<(), PlanError> {
        let n = self.parent.len();
        let (mut first, mut next) = (vec![NONE; n], vec![NONE; n]);
        for (at, next) in next.iter_mut().enumerate() {
            if let Some(up) = self.up(at as u32) {
                *next = std::mem::replace(&mut first[up as usize], at as u32);
            }
        }
        let mut stack = vec![0u32];
        while let Some(x) = stack.pop() {
            self.place[x as usize] = self.order.len() as u32;
            self.order.push(x);
            let mut child = first[x as usize];
            while child != NONE {
                stack.push(child);
                child = next[child as usize];
            }
        }
        let lost = |&at: &usize| self.kind[at] == Kind::Process && self.place[at] == NONE;
        match (0..n).find(lost) {
            Some(at) => Err(forest.error(at as u32, "is a descendant of itself")),
            None => Ok(()),
        }
    }

    /// Finds the pid namespace and the branch of the process at a place whose parent is settled.
    fn settle(&mut self, forest: &Forest, at: usize) -> Result<(), PlanError> {
        let x = self.order[at];
        let Some(up) = self.up(x) else {
            self.init[x as usize] = x;
            return Ok(());
        };
        let home = self.init[up as usize];
        self.branch[x as usize] = if up == home { x } else { self.branch[up as usize] };
        self.init[x as usize] = match forest.depth(x).checked_sub(forest.depth(up)) {
            Some(0) => home,
            Some(1) => x,
            _ => return Err(forest.error(x, "is not in its parent's pid namespace or one below")),
        };
        Ok(())
    }

    /// The parent of a process.
    pub fn up(&self, x: u32) -> Option<u32> {
        self.parent.get(x as usize).copied().filter(|&p| p != NONE)
    }

    /// Whether `x` is the first task of its pid namespace.
    pub fn is_init(&self, x: u32) -> bool {
        self.init[x as usize] == x
    }

    /// The init of the pid namespace that a process was created from.
    pub fn home(&self, x: u32) -> u32 {
        self.up(x).map_or(x, |up| self.init[up as usize])
    }

    /// Whether `x` is `of` or a descendant.
    pub fn is_below(&self, x: u32, of: u32) -> bool {
        let (x, from) = (self.place[x as usize], self.place[of as usize]);
        x >= from && x - from < self.size[of as usize]
    }

    /// Where a process is among all.
    pub fn place(&self, x: u32) -> u32 {
        self.place[x as usize]
    }

    /// The child of the init `reaper` from which `x` descends.
    pub fn branch(&self, mut x: u32, reaper: u32) -> Option<u32> {
        loop {
            let home = self.home(x);
            if home == reaper {
                return Some(self.branch[x as usize]).filter(|&b| b != NONE);
            }
            // At most as many steps as namespaces are nested.
            self.up(x)?;
            x = home;
        }
    }
}

fn kinds(forest: &mut Forest) -> Result<Vec<Kind>, PlanError> {
    let mut kind = Vec::with_capacity(forest.rows.len());
    for (at, row) in forest.rows.iter().enumerate() {
        kind.push(match (at < forest.image, row.is_thread(), row.leads()) {
            (true, true, _) => Kind::Thread,
            (true, false, _) => Kind::Process,
            (false, _, true) => Kind::Leader,
            (false, _, false) => Kind::Group,
        });
    }
    if kind.first() == Some(&Kind::Thread) {
        return Err(forest.error(0, "is the root task, but a thread of another"));
    }
    for at in 0..forest.image {
        if kind[at] != Kind::Thread {
            continue;
        }
        let thread = forest.rows[at].clone();
        let leader = forest.holder(Id::of(thread.tgid));
        match kind.get(leader as usize) {
            Some(Kind::Process) => {}
            Some(Kind::Leader | Kind::Group) => {
                kind[leader as usize] = Kind::Process;
                let ghost = &mut forest.rows[leader as usize];
                (ghost.ppid, ghost.sid) = (thread.ppid, thread.sid);
            }
            Some(Kind::Thread) | None => {
                return Err(forest.error(at as u32, "has a thread as leader of its thread group"));
            }
        }
    }
    Ok(kind)
}
