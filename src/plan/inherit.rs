//! Who forks whom, for every tree that can have come about: from the sessions that tasks must have been
//! born in (`docs/tree.md`, "Sessions handed down").
//!
//! Comes in: a [`Forest`] without creators. Goes out: each row with a creator. Whether that makes the
//! tree of the image is for the simulator to say. Never: recursion.

use super::choose::{self, Edge};
use super::family::{Family, Kind};
use super::ghosts::Forest;
use super::pids::Id;
use super::{Flags, NONE};
use crate::error::PlanError;

/// The session that the root task was born in, where others are known by their leader's row.
const OUT: u32 = NONE - 1;

/// Gives each row a creator. With `reap`, children of ghosts and placeholders may end as children of
/// the init of their pid namespace (of the root task in the outermost).
///
/// # Errors
/// EINVAL, naming a task that could not have come about; EOVERFLOW where no pid is left.
pub(super) fn assign(forest: &mut Forest, reap: bool) -> Result<(), PlanError> {
    let family = Family::new(forest)?;
    let sessions = Sessions::find(forest, &family, reap)?;
    let Sessions { last, birth, under, reaper, .. } = sessions;
    let mut attach = Attach { forest, family: &family, reap, last, birth, under, reaper };
    attach.all()
}

/// What a row must inherit, and from where.
struct Sessions<'a> {
    forest: &'a Forest,
    family: &'a Family,
    reap: bool,
    /// The session that a process is in.
    last: Vec<u32>,
    /// The session that a session leader must have been born in; [`NONE`]: any.
    birth: Vec<u32>,
    /// Of a session leader: its parent when it was alive. Free to choose for a ghost.
    under: Vec<u32>,
    /// Of a session leader: the init that gets the orphans of its session.
    reaper: Vec<u32>,
}

impl<'a> Sessions<'a> {
    fn find(forest: &'a Forest, family: &'a Family, reap: bool) -> Result<Self, PlanError> {
        let all = || vec![NONE; forest.rows.len()];
        let (last, birth, under, reaper) = (all(), all(), all(), all());
        let mut sessions = Sessions { forest, family, reap, last, birth, under, reaper };
        sessions.find_last()?;
        let floating = sessions.forced()?;
        sessions.float(floating)?;
        for at in 0..forest.rows.len() {
            if family.kind[at] == Kind::Leader && sessions.under[at] == NONE {
                let reaper = sessions.reaper[at];
                sessions.under[at] = if reaper == NONE { 0 } else { reaper };
            }
        }
        Ok(sessions)
    }

    fn find_last(&mut self) -> Result<(), PlanError> {
        for &x in &self.family.order {
            let row = &self.forest.rows[x as usize];
            let leader = self.forest.holder(row.sid);
            self.last[x as usize] = if row.sid.object().is_none() {
                OUT
            } else if self.forest.row(leader).is_some_and(|l| l.leads() && !l.is_thread()) {
                leader
            } else {
                let reason = "is in a session whose leader is in another";
                return Err(self.forest.error(x, reason));
            };
            if row.leads() {
                self.under[x as usize] = self.family.parent[x as usize];
                self.reaper[x as usize] = self.family.init[x as usize];
            } else if leader != NONE && self.reaper[leader as usize] == NONE {
                self.reaper[leader as usize] = self.reaper_of_ghost(x, leader)?;
            }
        }
        Ok(())
    }

    /// The init of the namespace that the ghost `leader` was in, in whose session the process `x` is.
    fn reaper_of_ghost(&self, x: u32, leader: u32) -> Result<u32, PlanError> {
        if self.family.kind[leader as usize] != Kind::Leader {
            return Ok(NONE);
        }
        let depth = self.forest.depth(leader);
        let mut init = self.family.home(x);
        while self.forest.depth(init) > depth && init != 0 {
            init = self.family.home(init);
        }
        if self.forest.depth(init) != depth {
            return Err(self.forest.error(x, "has a session from a deeper pid namespace"));
        }
        Ok(init)
    }

    fn leads(&self, x: u32) -> bool {
        self.forest.rows[x as usize].leads()
    }

    /// Settles what has no alternative; returns the others as (session, parent of a member).
    fn forced(&mut self) -> Result<Vec<(u32, u32)>, PlanError> {
        let mut floating = Vec::new();
        let mut path: Vec<u32> = Vec::new();
        // How many ancestors of the current process are in the session of a ghost.
        let mut above = vec![0u32; self.last.len()];
        for at in 0..self.family.order.len() {
            let x = self.family.order[at];
            let up = self.family.up(x);
            while let Some(&top) = path.last().filter(|&&top| Some(top) != up) {
                if let Some(count) = above.get_mut(self.last[top as usize] as usize) {
                    *count -= 1;
                }
                path.pop();
            }
            let session = self.last[x as usize];
            if let Some(up) = up.filter(|&up| !self.leads(x) && self.last[up as usize] != session) {
                let ghost = self.family.kind.get(session as usize) == Some(&Kind::Leader);
                if ghost && above[session as usize] == 0 {
                    floating.push((session, up));
                } else {
                    self.climb(session, up)?;
                }
            }
            if let Some(count) = above.get_mut(session as usize) {
                *count += 1;
            }
            path.push(x);
        }
        Ok(floating)
    }

    /// `x` has a child in `session` that it is not in itself: so it was born in it, and so on upwards,
    /// until the session's leader can have made a child for `x`.
    fn climb(&mut self, session: u32, mut x: u32) -> Result<(), PlanError> {
        let leader = session as usize;
        let under = self.under.get(leader).copied().unwrap_or(NONE);
        let reaper = self.reaper.get(leader).copied().unwrap_or(NONE);
        let sibling = session != OUT && !(self.is_process(session) && self.family.is_init(session));
        loop {
            let done = self.last[x as usize] == session
                || self.birth[x as usize] == session
                || (x == 0 && session == OUT)
                || (sibling && under == x)
                || (self.reap && reaper == x);
            if done {
                return Ok(());
            }
            x = self.claim(session, x)?;
        }
    }

    fn is_process(&self, x: u32) -> bool {
        self.family.kind.get(x as usize) == Some(&Kind::Process)
    }

    /// Notes that `x` was born in `session`; returns its parent.
    fn claim(&mut self, session: u32, x: u32) -> Result<u32, PlanError> {
        let born = self.birth[x as usize];
        let sid = self.forest.row(session).map_or(0, |l| self.forest.number(Id::of(l.pid)));
        let up = self.family.up(x);
        match up {
            Some(up) if self.leads(x) && (born == NONE || born == session) => {
                self.birth[x as usize] = session;
                Ok(up)
            }
            _ => {
                let reason = format!("has a child in session {sid}, which it never was in");
                Err(self.forest.error(x, reason))
            }
        }
    }

    /// Settles where the ghosts of session leaders were, and what follows from that.
    fn float(&mut self, floating: Vec<(u32, u32)>) -> Result<(), PlanError> {
        let mut keyed = Vec::with_capacity(floating.len());
        for (session, x) in floating {
            let reaper = self.reaper[session as usize];
            let branch = match self.reap {
                true if x == reaper => continue,
                true => self.family.branch(x, reaper),
                false => Some(0),
            };
            let branch = branch.ok_or_else(|| {
                self.forest.error(x, "has a child in a session of another pid namespace")
            })?;
            keyed.push((session, branch, self.family.place(x), x));
        }
        keyed.sort_unstable();
        let mut edges = Vec::new();
        for group in keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let session = group[0].0;
            let at = self.meet(session, group[0].3, group[group.len() - 1].3)?;
            self.under[session as usize] = at;
            for &(_, _, _, x) in group {
                self.climb(session, x)?;
            }
            if self.reap {
                self.under[session as usize] = NONE;
                // The whole branch is in a deeper namespace: no choice.
                if at == self.reaper[session as usize] {
                    continue;
                }
                edges.push(Edge { session, branch: group[0].1, at, blocked: false });
            }
        }
        self.choose(edges)
    }

    /// The nearest common ancestor of `x` and the later `y` in the pid namespace of the ghost; those of
    /// `x` below it are claimed.
    fn meet(&mut self, session: u32, mut x: u32, y: u32) -> Result<u32, PlanError> {
        let init = self.reaper[session as usize];
        while !self.family.is_below(y, x) || self.family.init[x as usize] != init {
            x = self.claim(session, x)?;
        }
        Ok(x)
    }

    /// A ghost was in at most one of the branches that need its session; the others had it handed down
    /// from their top.
    fn choose(&mut self, mut edges: Vec<Edge>) -> Result<(), PlanError> {
        if edges.is_empty() {
            return Ok(());
        }
        let mut blocked = vec![0u32; self.last.len()];
        for &x in &self.family.order {
            let up = self.family.up(x).map_or(0, |up| blocked[up as usize]);
            let free = self.leads(x) && self.birth[x as usize] == NONE;
            blocked[x as usize] = up + u32::from(!free);
        }
        for edge in &mut edges {
            let above = self.family.up(edge.branch).map_or(0, |up| blocked[up as usize]);
            edge.blocked = blocked[edge.at as usize] > above;
        }
        let inside = choose::inside(&edges).map_err(|e: Edge| {
            let reason = "has children in sessions that cannot all have been handed down";
            self.forest.error(e.at, reason)
        })?;
        for (edge, inside) in edges.iter().zip(inside) {
            if inside {
                self.under[edge.session as usize] = edge.at;
                continue;
            }
            let mut x = edge.at;
            while self.claim(edge.session, x)? != self.reaper[edge.session as usize] {
                x = self.family.parent[x as usize];
            }
        }
        Ok(())
    }
}

/// Hands out the creators.
struct Attach<'a> {
    forest: &'a mut Forest,
    family: &'a Family,
    reap: bool,
    last: Vec<u32>,
    birth: Vec<u32>,
    under: Vec<u32>,
    reaper: Vec<u32>,
}

impl Attach<'_> {
    fn all(&mut self) -> Result<(), PlanError> {
        let users = self.group_users();
        let mut at = 1u32;
        while let Some(row) = self.forest.row(at) {
            let (sid, tgid) = (row.sid, Id::of(row.tgid));
            match self.family.kind.get(at as usize) {
                Some(Kind::Process) => self.process(at)?,
                Some(Kind::Thread) => {
                    let leader = self.forest.holder(tgid);
                    self.forest.attach(at, leader, Flags::THREAD | inherited(sid));
                }
                Some(Kind::Leader) => {
                    let under = self.under[at as usize];
                    self.forest.rows[at as usize].ppid =
                        Id::of(self.forest.rows[under as usize].pid);
                    self.forest.attach(at, under, Flags::default());
                }
                Some(Kind::Group) => self.group(at, users[at as usize]),
                None => {
                    let leader = self.forest.holder(sid);
                    self.forest.attach(at, leader, Flags::default());
                }
            }
            at += 1;
        }
        Ok(())
    }

    fn process(&mut self, at: u32) -> Result<(), PlanError> {
        let x = at as usize;
        let row = &self.forest.rows[x];
        let (sid, leads) = (row.sid, row.leads());
        let up = self.family.parent[x];
        let session = if leads { self.birth[x] } else { self.last[x] };
        let under = self.under.get(session as usize).copied();
        let leader_is_init = self.family.kind.get(session as usize) == Some(&Kind::Process)
            && self.family.is_init(session);
        let born_there = self.birth[up as usize] == session || (up == 0 && session == OUT);
        let (creator, flags) = if session == NONE || self.last[up as usize] == session {
            (up, Flags::default())
        } else if born_there {
            (up, Flags::SESSION)
        } else if under == Some(up) && !leader_is_init {
            (session, Flags::SIBLING)
        } else if self.reap && self.reaper.get(session as usize) == Some(&up) {
            (self.orphan_maker(session, up)?, Flags::default())
        } else {
            return Err(self.forest.error(at, "cannot have come into its session"));
        };
        self.forest.attach(at, creator, flags | inherited(sid));
        Ok(())
    }

    /// Who can fork, in a session, and then exit, so that `reaper` gets the child: a ghost that leads
    /// the session, or a placeholder in it.
    fn orphan_maker(&mut self, leader: u32, reaper: u32) -> Result<u32, PlanError> {
        if self.family.kind[leader as usize] == Kind::Leader {
            return Ok(leader);
        }
        let sid = Id::of(self.forest.rows[leader as usize].pid);
        self.forest.placeholder(leader, sid, reaper)
    }

    /// For each ghost of a process-group leader a process of that group: the first of the most deeply
    /// nested that are not below the ghost's namespace, if there is one.
    fn group_users(&self) -> Vec<u32> {
        let mut users = vec![NONE; self.forest.rows.len()];
        for row in &self.forest.rows[..self.forest.image] {
            let user = self.forest.holder(Id::of(row.tgid));
            let ghost = self.forest.holder(row.pgid);
            let rank = |user| {
                let depth = self.forest.depth(user);
                (depth <= self.forest.depth(ghost), depth)
            };
            if let Some(best) = users.get_mut(ghost as usize)
                && (*best == NONE || rank(*best) < rank(user))
            {
                *best = user;
            }
        }
        users
    }

    /// The ghost of a process-group leader must be in the session of the group.
    fn group(&mut self, at: u32, user: u32) {
        let session = self.last[user as usize];
        // Nobody asks for its numbers in namespaces below those of its group.
        self.forest.cut_depth(at, self.forest.depth(user));
        let mut maker = user;
        while let Some(up) =
            self.family.up(maker).filter(|_| self.forest.depth(maker) > self.forest.depth(at))
        {
            maker = up;
        }
        let init = self.family.init[maker as usize];
        let (creator, flags) = if session == OUT && init == 0 {
            (0, Flags::SESSION)
        } else if self.reaper.get(session as usize) == Some(&init) {
            (session, Flags::default())
        } else if self.last[maker as usize] == session {
            (maker, Flags::default())
        } else {
            (maker, Flags::SESSION)
        };
        let (ppid, sid) =
            (self.forest.rows[creator as usize].pid, self.forest.rows[user as usize].sid);
        let row = &mut self.forest.rows[at as usize];
        (row.ppid, row.sid) = (Id::of(ppid), sid);
        self.forest.attach(at, creator, flags);
    }
}

/// What is inherited from outside is inherited before the creator can call setsid.
fn inherited(sid: Id) -> Flags {
    if sid.object().is_none() { Flags::SESSION } else { Flags::default() }
}
