//! The terminal that takes the place of one that was not the tree's own.
//!
//! Comes in: an image with descriptors of such a terminal, and a pseudo terminal of the caller's. Goes out:
//! tasks whose descriptors are of its slave, in the foreground where their session is the caller's.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::{fmt, io};

use super::launch::Tree;
use super::watch::Watch;
use super::{Options, facts};
use crate::error::{Error, RestartError, SysError};
use crate::image::{Body, FileKind, ImageHead, TaskState};
use crate::plan::Plan;
use crate::sys::{session, signal, terminal};

/// A pseudo terminal of the caller's.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Its master; the lock must be open.
    pub master: BorrowedFd<'a>,
    /// Is called before anything is forked where a session of the tree is to be controlled by it: then it
    /// must not be the controlling terminal of another session, such as the caller's. Otherwise it best is
    /// that of the caller's session, which tasks that do not lead one are in.
    pub give_up: &'a dyn Fn() -> io::Result<()>,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("master", &self.master).finish_non_exhaustive()
    }
}

/// Refuses an image with a terminal from outside where none is given, and what cannot go together.
///
/// # Errors
/// ENXIO, with a task that has the terminal; EINVAL for `myself` and, where it is needed, `mnt_pty`.
pub fn check(plan: &Plan, body: &Body, options: &Options<'_>) -> Result<(), Error> {
    if options.terminal.is_some() && options.myself {
        let text = "a terminal cannot be given to the caller itself";
        return Err(RestartError::Arguments(text).into());
    }
    if !facts::is_wanted(body) {
        return Ok(());
    }
    if body.objects.ptys.iter().filter(|pty| pty.outside.is_some()).count() > 1 {
        let text = "the image has several terminals that were not the tree's own".to_owned();
        return Err(RestartError::Terminal(text).into());
    }
    match options.terminal {
        Some(_) if options.mnt_pty => {
            let text = "the terminal that is given is of no devpts that the tree would have";
            Err(RestartError::Arguments(text).into())
        }
        Some(_) => Ok(()),
        None => {
            let holder = holder(plan, body).unwrap_or_default();
            let text = format!("{holder}the terminal was not the tree's own, and none is given");
            Err(RestartError::Terminal(text).into())
        }
    }
}

/// The first task with a descriptor of the terminal, in words.
fn holder(plan: &Plan, body: &Body) -> Option<String> {
    let is_outer = |file: usize| match body.objects.files.get(file).map(|file| &file.kind) {
        Some(&FileKind::Tty { pty, .. }) => outer(body) == Some(pty),
        _ => false,
    };
    body.tasks.iter().enumerate().find_map(|(index, task)| {
        let TaskState::Live(live) = task else { return None };
        let table = body.objects.file_tables.get(live.files)?;
        let fd = table.descriptors.iter().find(|descriptor| is_outer(descriptor.file))?.fd;
        let pid = plan.tasks.get(index)?.pid;
        Some(format!("task {index} (pid {pid}): descriptor {fd}: "))
    })
}

/// The terminal from outside.
fn outer(body: &Body) -> Option<usize> {
    body.objects.ptys.iter().position(|pty| pty.outside.is_some())
}

/// Whether a session of the tree is controlled by it.
fn is_taken(body: &Body) -> bool {
    let of_session = |signal: &crate::image::Signal| signal.terminal.map(|t| t.pty);
    outer(body).is_some_and(|pty| body.objects.signals.iter().any(|s| of_session(s) == Some(pty)))
}

/// Has the terminal free for a session of the tree, where one is to be controlled by it.
///
/// # Errors
/// Those of [`Given::give_up`].
pub fn hand_over(body: &Body, options: &Options<'_>) -> Result<(), Error> {
    match options.terminal.filter(|_| is_taken(body)) {
        Some(given) => {
            let result = (given.give_up)();
            result.map_err(|e| SysError::new("give up the terminal for the tree", e).into())
        }
        None => Ok(()),
    }
}

/// Brings a tree that is in the caller's session to the foreground: the group that was there, or else that of
/// the root task. Where this is the caller's own group, interrupts of the terminal reach the tree without
/// the caller's help.
pub fn set_foreground(head: &ImageHead, watch: &Watch<'_>, tree: &Tree, options: &Options<'_>) {
    let Some(given) = options.terminal else { return };
    let outside = outer(watch.body).and_then(|pty| watch.body.objects.ptys.get(pty)?.outside);
    let Some(outside) = outside.filter(|_| !is_taken(watch.body)) else { return };
    let wanted = |pgid: i32| pgid != 0 && pgid == outside.foreground;
    let member = head.tasks.iter().position(|row| wanted(row.pgid)).unwrap_or(0);
    let leader = watch.plan.group_leader(member);
    let group = leader.and_then(|leader| tree.pids.get(leader).copied());
    // In the background, which is where the caller may be, this would stop it.
    let blocked = signal::Blocked::all();
    // A group of another session cannot be there: that of the caller stays.
    let own = || terminal::set_foreground(given.master, session::own_group());
    let _ = group.map_or_else(own, |group| terminal::set_foreground(given.master, group));
    drop(blocked);
    if let (None, Some(interrupt)) = (leader, options.interrupt) {
        interrupt.store(0, Ordering::Relaxed);
    }
}
