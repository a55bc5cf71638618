//! Waiting for the tasks, stage by stage; the first thing that goes wrong ends the waiting.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::launch::Tree;
use super::taken::{self, holder};
use crate::error::{Error, RestartError};
use crate::image::{Body, TaskState};
use crate::plan::{Flags, Plan};
use crate::program::insn::{Op, Stage};
use crate::program::{Compiled, describe, word};
use crate::sys::{events::Events, process};
use crate::vm::Failure;

/// Milliseconds without an event after which the tasks are looked at one by one.
const TICK: i32 = 100;

/// What is watched, and what is needed to say what went wrong.
pub struct Watch<'a> {
    /// The plan that the tasks follow.
    pub plan: &'a Plan,
    /// Their state.
    pub body: &'a Body,
    /// Their programs.
    pub compiled: &'a Compiled,
    /// Where they tell.
    pub events: &'a Events,
}

impl Watch<'_> {
    /// Waits until every task has said that it exists.
    ///
    /// # Errors
    /// The first failure of a task, or that one has ended.
    pub fn all_exist(&self, tree: &mut Tree) -> Result<(), Error> {
        for _ in 0..self.plan.tasks.len() {
            let event = self.next(tree, Stage::Fork)?;
            let task = event.word as usize;
            let pid =
                if self.is_thread(task) { tree.thread_id(task, event.pid)? } else { event.pid };
            if let Some(slot) = tree.pids.get_mut(task) {
                *slot = pid;
            }
        }
        Ok(())
    }

    fn is_thread(&self, task: usize) -> bool {
        self.plan.tasks.get(task).is_some_and(|t| t.flags.has(Flags::THREAD))
    }

    /// Waits until all tasks have arrived at the end of `stage`.
    ///
    /// # Errors
    /// The first failure of a task, or that one has ended.
    pub fn all_arrive(&self, tree: &mut Tree, stage: Stage) -> Result<(), Error> {
        while self.next(tree, stage)?.word != word::STAGE + stage as u64 {}
        Ok(())
    }

    /// As [`Watch::all_arrive`] for the last stage, when the tasks have closed the event channel.
    ///
    /// # Errors
    /// That a task has ended.
    pub fn all_ready(&self, tree: &mut Tree) -> Result<(), Error> {
        loop {
            let seen = tree.region.arrived(Stage::Ready);
            if seen >= self.compiled.ready {
                return Ok(());
            }
            tree.region.wait_arrival(Stage::Ready, seen, TICK as u32);
            if tree.region.arrived(Stage::Ready) == seen {
                self.look(tree, Stage::Ready)?;
            }
        }
    }

    /// The next message that is no failure.
    fn next(&self, tree: &Tree, stage: Stage) -> Result<crate::sys::events::Event, Error> {
        loop {
            if let Some(event) = self.events.next()? {
                match event.word {
                    word::ARMED => {
                        self.events.answer()?;
                        continue;
                    }
                    word::FAILED => self.look(tree, stage)?,
                    _ => {}
                }
                return Ok(event);
            }
            let fds = [self.events.receiver(), tree.pidfd()];
            let ready = process::poll_readable(&fds, TICK);
            if ready.get(1) == Some(&true) || !ready.contains(&true) {
                self.look(tree, stage)?;
            }
        }
    }

    /// Looks for a task that has failed or ended.
    fn look(&self, tree: &Tree, stage: Stage) -> Result<(), Error> {
        let blocks = self.plan.tasks.len() + usize::from(self.compiled.coordinator.is_some());
        if let Some(failure) = (0..blocks).find_map(|task| tree.region.failure(task)) {
            return Err(self.explain(&failure));
        }
        if process::wait_ended(tree.pidfd(), 0) {
            return Err(RestartError::Ended { what: "the first task", pid: tree.pid() }.into());
        }
        match self.ended(tree, stage) {
            Some(pid) => Err(RestartError::Ended { what: "a task", pid }.into()),
            None => Ok(()),
        }
    }

    /// A descendant of the first task that has ended and should not have.
    fn ended(&self, tree: &Tree, stage: Stage) -> Option<i32> {
        let allowed: HashSet<i32> = (tree.pids.iter().enumerate())
            .filter(|(task, _)| stage > Stage::Groups && !self.stays(*task))
            .map(|(_, &pid)| pid)
            .collect();
        let all = processes();
        let mut family = HashSet::from([tree.pid()]);
        // Each round finds the children of those found before: as many rounds as generations.
        loop {
            let before = family.len();
            family.extend(
                all.iter().filter(|p| family.contains(&p.1)).map(|p| p.0).collect::<Vec<_>>(),
            );
            if family.len() == before {
                break;
            }
        }
        let known = tree.pids.iter().enumerate().filter(|(task, _)| !self.is_thread(*task));
        let known = known.map(|(_, pid)| pid).filter(|&pid| *pid != 0 && !allowed.contains(pid));
        let gone = |pid: &i32| !all.iter().any(|p| p.0 == *pid && p.2 != b'Z' && p.2 != b'X');
        let zombie = |p: &&(i32, i32, u8)| {
            family.contains(&p.0) && !allowed.contains(&p.0) && matches!(p.2, b'Z' | b'X')
        };
        all.iter().find(zombie).map(|p| p.0).or_else(|| known.copied().find(gone))
    }

    /// Whether a task runs on after the restart.
    fn stays(&self, task: usize) -> bool {
        matches!(self.body.tasks.get(task), Some(TaskState::Live(_)))
    }

    /// A failed instruction in words, with its true errno.
    fn explain(&self, failure: &Failure) -> Error {
        let program = self.compiled.programs.get(failure.program);
        let at = |index: usize| program.and_then(|p| p.get(index));
        let (insn, previous) = (at(failure.insn), failure.insn.checked_sub(1).and_then(at));
        let pid = self.plan.tasks.get(failure.task).map_or(1, |t| t.pid);
        let errno = if failure.result < 0 { -failure.result as i32 } else { libc::EIO };
        let mut what = insn.map_or_else(String::new, |insn| self.words(insn, previous));
        if failure.result >= 0 {
            what = format!("{what}, but gave {}", failure.result);
        }
        if let Some(insn) = insn.filter(|i| i.op == Op::Fork) {
            what = self.clone_words(insn.target as usize, errno);
        }
        let source = std::io::Error::from_raw_os_error(errno);
        RestartError::Task { index: failure.task, pid, what, source }.into()
    }

    fn words(
        &self,
        insn: &crate::program::insn::Insn,
        previous: Option<&crate::program::insn::Insn>,
    ) -> String {
        describe(insn, previous, &self.compiled.data, self.compiled.data_base)
    }

    fn clone_words(&self, child: usize, errno: i32) -> String {
        let pid = self.plan.tasks.get(child).map_or(0, |t| t.pid);
        if errno == libc::EEXIST {
            return format!("fork of task {child}: pid {pid} is taken{}", holder(pid));
        }
        format!("fork of task {child} (pid {pid})")
    }
}

/// All processes that can be seen: pid, parent, state.
fn processes() -> Vec<(i32, i32, u8)> {
    let seen = taken::processes().filter_map(|pid| Some((pid, taken::stat(pid)?)));
    seen.map(|(pid, stat)| (pid, stat.ppid, stat.state)).collect()
}
