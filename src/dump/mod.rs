//! Checkpoint of a task tree.
//!
//! Comes in: the pid of a root task. Goes out: an image on the caller's descriptor. The whole tree is
//! stopped before the first byte is written, and what cannot be saved or restarted is refused before
//! that too. Never: a change that the tree could notice, also when the checkpointer is killed.
#![forbid(unsafe_code)]

mod collect;
mod cpu;
mod facts;
mod files;
mod gather;
mod head;
mod ids;
mod inject;
pub mod interrupt;
mod leftover;
mod memory;
mod names;
pub mod output;
mod parallel;
mod resume;
mod segments;
mod settings;
mod signals;
mod spaces;
mod stop;
mod timers;
mod zeros;

pub use files::{HELD_OUTSIDE as TERMINAL_OUTSIDE, TERMINAL};

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{DumpError, Error};
use crate::image::{Body, ImageHead, Layout};
use crate::plan::{self, Plan, PlanOptions};
use crate::program::spaces::makers;
use crate::report::Report;
use crate::sys::procfs;
use crate::sys::signal::Blocked;

/// [`Options::flags`]: a subtree, not a whole container.
pub const SUBTREE: u32 = 1;
/// [`Options::flags`]: network namespaces too. None can be saved, so the tree must be in the caller's.
pub const NETNS: u32 = 2;

/// What a checkpoint is asked to do: the safe form of `struct cr_checkpoint_args`.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Where the image goes: a file, a pipe or a socket, written from its current position.
    pub output: BorrowedFd<'a>,
    /// The pid must be the init of a pid namespace, and all of it is taken.
    pub container: bool,
    /// Flags word that goes into the header: [`SUBTREE`], [`NETNS`]; no others.
    pub flags: u32,
    /// End the tree with SIGKILL after the image is complete, instead of letting it go on.
    pub kill: bool,
    /// A terminal that is held outside of the tree is no obstacle: its descriptors are saved as those of the
    /// terminal that the restart's caller has ([`crate::restart::Options::terminal`]).
    pub terminal: bool,
    /// Messages.
    pub report: Report<'a>,
}

/// Milliseconds between two looks at a tree that has state which cannot be saved but may pass.
const PAUSES: [u64; 8] = [5, 10, 20, 40, 80, 160, 160, 160];

/// Writes an image of the tree whose root is `pid` (as the caller's pid namespace numbers it).
///
/// The tree is stopped before the first byte is written and goes on afterwards, unless it is to be
/// ended. On failure it always goes on, as if nothing had happened.
///
/// # Errors
/// What cannot be saved is refused before anything is written or ended; see [`Error::errno`].
pub fn checkpoint(pid: i32, options: &Options<'_>) -> Result<(), Error> {
    let report = &options.report;
    in_a_thread(|| save(pid, options))
        .inspect_err(|error| report.note(format!("the checkpoint failed: {error}")))
}

/// Does the work in a thread that ends: a task that could not be stopped, as it waits for the child of
/// its vfork(2), cannot be let go either, but by the end of the thread that traces it.
///
/// It takes no signals: those are for the threads of the caller.
fn in_a_thread(work: impl Fn() -> Result<(), Error> + Sync) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let blocked = Blocked::all();
        let started = std::thread::Builder::new().spawn_scoped(scope, &work);
        drop(blocked);
        match started.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => work(),
        }
    })
}

/// [`checkpoint`], whose failure is yet to be logged.
fn save(pid: i32, options: &Options<'_>) -> Result<(), Error> {
    let report = &options.report;
    if options.flags & !(SUBTREE | NETNS) != 0 {
        let reason = "its checkpoint was asked for with unknown flags";
        return Err(DumpError::Argument { pid, reason }.into());
    }
    let (tree, snapshot) = look(pid, options)?;
    let plan = prove(&snapshot.head)?;
    refuse_misplaced(&tree, &plan, &snapshot.body)?;
    report.debug("the tree can be restarted, writing the image");
    let layout = Layout::new(&snapshot.head, &snapshot.body).map_err(Error::from)?;
    output::write(options.output, &layout, || snapshot.pages.another())?;
    if options.kill {
        resume::end(tree)?;
        report.verbose("ended the tasks");
    } else {
        resume::release(tree);
    }
    Ok(())
}

/// Stops the tree and reads its state. What may pass is given time to, with the tree let go meanwhile.
fn look(pid: i32, options: &Options<'_>) -> Result<(stop::Tree, collect::Snapshot), DumpError> {
    let mut pauses = PAUSES.iter();
    loop {
        let tree = stop::Tree::stop(pid)?;
        options.report.verbose(format!("stopped {} tasks", tree.order.len()));
        match (collect::collect(&tree, options), pauses.next()) {
            (Err(DumpError::Passing { .. }), Some(pause)) => {
                resume::release(tree);
                std::thread::sleep(Duration::from_millis(*pause));
            }
            (snapshot, _) => return Ok((tree, snapshot?)),
        }
    }
}

/// Whether at least one way of restarting gives every task the ids that it has.
fn prove(head: &ImageHead) -> Result<Plan, Error> {
    let pid_max = procfs::pid_max()?;
    let outside = plan::build(head, &PlanOptions { pidns: false, pid_max });
    let outside = outside.map_err(|e| e.to_string()).and_then(|plan| match plan.orphans() {
        orphans if orphans.is_empty() => Ok(plan),
        orphans => Err(format!("tasks {orphans:?} would lose their parent")),
    });
    let reason = match outside {
        Ok(plan) => return Ok(plan),
        Err(reason) => reason,
    };
    match plan::build(head, &PlanOptions { pidns: true, pid_max }) {
        Ok(plan) => Ok(plan),
        Err(inside) => {
            let reason = format!("{reason}; in a pid namespace of its own: {inside}");
            Err(DumpError::Unrestartable { reason }.into())
        }
    }
}

/// Refuses tasks whose uts or ipc namespace no restart could make.
fn refuse_misplaced(tree: &stop::Tree, plan: &Plan, body: &Body) -> Result<(), Error> {
    makers(plan, body).map(drop).map_err(|misplaced| {
        let thread = tree.order.get(misplaced.task).and_then(|&place| tree.thread(place));
        let unsupported = DumpError::Unsupported {
            index: misplaced.task,
            pid: thread.map_or(0, |thread| thread.tracee.tid()),
            object: format!("{} namespace", misplaced.kind),
            reason: "it is neither that of the task that forks it nor new with it".to_owned(),
        };
        unsupported.into()
    })
}
