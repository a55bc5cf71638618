//! The engine for kernels that have restart(2): fork the tree, feed the image, let the kernel restore.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::facts::{self, Handed};
use super::freezer::Freezer;
use super::launch::{self, Tree};
use super::segments::Segments;
use super::watch::Watch;
use super::{Mode, Options, Point, Restarted, check, feed, freezer, interrupt, source, taken};
use crate::error::{Error, RestartError};
use crate::image::{Body, ImageHead};
use crate::plan::Plan;
use crate::program::Compiled;
use crate::program::insn::Stage;
use crate::program::stubs::{self, RestartCall};
use crate::sys::events::Events;
use crate::sys::signal::Blocked;
use crate::sys::{process, restart2};
use crate::vm::Region;

/// Flags of the coordinator's restart(2).
const TASKSELF: u64 = 1;
const FROZEN: u64 = 2;
const KEEP_LSM: u64 = 8;

/// Restarts the tree of an image with restart(2), whose number is `number`.
///
/// # Errors
/// The first cause. Then nothing of the tree is left.
pub fn restart(options: &Options<'_>, number: i64) -> Result<Restarted, Error> {
    if options.terminal.is_some() {
        let text = "restart(2) knows no terminal that takes the place of another";
        return Err(RestartError::Arguments(text).into());
    }
    if options.myself {
        return myself(options, number);
    }
    let freezer = freezer::open(options)?;
    let mut reader = source::open(options.image)?;
    let head = reader.head()?;
    let plan = check::plan(&head, options)?;
    let head_end = reader.head_end();
    if options.inspect {
        feed::inspect(reader.source_mut(), head_end)?;
    }
    let call = RestartCall { number, flags: flags(options) };
    let (pipe, mut writer) = restart2::pipe()?;
    let mut events = Events::new()?;
    let (compiled, region) = compile(options, &head, &plan, call, pipe.as_fd(), &events)?;
    let mut interrupts = interrupt::Forward::new(options, &plan);
    if options.mode == Mode::Pids {
        taken::wait_until_free(&plan);
    }
    let mut tree = launch::launch(region, &compiled, &plan)?;
    events.close_sender();
    let body = Body::default();
    let watch = Watch { plan: &plan, body: &body, compiled: &compiled, events: &events };
    gather(&watch, &mut tree, options, freezer.as_ref())?;

    let new = new_pids(&plan, &tree, options);
    let source = reader.source_mut();
    // A reader that goes away must be an error here, not a signal.
    let blocked = Blocked::all();
    let pid = std::thread::scope(|scope| {
        scope.spawn(move || {
            // What the kernel did not get, it says by itself.
            let _ = feed::feed(source, head_end, &new, &mut writer);
        });
        let result = run(&watch, tree, pipe.as_fd(), call, options);
        // Nobody reads any more: so the feeder ends too.
        drop(pipe);
        result
    })?;
    drop(blocked);
    options.report.verbose(format!("restarted {} tasks, the first is {pid}", plan.image_tasks()));
    super::conclude(options, &mut interrupts, pid)
}

fn flags(options: &Options<'_>) -> u64 {
    let frozen = if options.keep_frozen { FROZEN } else { 0 };
    frozen | if options.keep_lsm { KEEP_LSM } else { 0 }
}

fn compile(
    options: &Options<'_>,
    head: &ImageHead,
    plan: &Plan,
    call: RestartCall,
    pipe: BorrowedFd<'_>,
    events: &Events,
) -> Result<(Compiled, Region), Error> {
    let sender = events.sender().ok_or(RestartError::Arguments("no event channel"))?;
    super::load(|| {
        let segments = &Segments::default();
        let handed = Handed { image: pipe, base: 0, events: sender, segments };
        let mut facts = facts::gather(options, plan, &Body::default(), &handed)?;
        facts.kernel_restores = true;
        facts.log = options.engine_log.map(|fd| fd.as_raw_fd());
        Ok(stubs::compile(head, plan, &facts, call))
    })
}

/// Waits until every task has reported.
fn gather(
    watch: &Watch<'_>,
    tree: &mut Tree,
    options: &Options<'_>,
    freezer: Option<&Freezer>,
) -> Result<(), Error> {
    tree.know_first(watch.compiled);
    options.observe(Point::Launched, &tree.pids);
    watch.all_exist(tree)?;
    check::notes(tree, options);
    options.observe(Point::Exist, &tree.pids);
    freezer.map_or(Ok(()), |freezer| freezer.join(&tree.pids))?;
    tree.region.release(Stage::Fork);
    Ok(())
}

/// The pid that each task has got, where that is not the image's.
fn new_pids(plan: &Plan, tree: &Tree, options: &Options<'_>) -> HashMap<i32, i32> {
    if options.mode != Mode::NewPids {
        return HashMap::new();
    }
    plan.tasks.iter().map(|t| t.pid).zip(tree.pids.iter().copied()).collect()
}

/// The coordinator's part: made here, or by the coordinator task.
fn run(
    watch: &Watch<'_>,
    mut tree: Tree,
    pipe: BorrowedFd<'_>,
    call: RestartCall,
    options: &Options<'_>,
) -> Result<i32, Error> {
    if watch.compiled.coordinator.is_some() {
        watch.all_arrive(&mut tree, Stage::Restore)?;
    } else {
        restart2::restart(call.number, tree.pid(), pipe, call.flags, options.engine_log)?;
    }
    Ok(tree.leave_to_kernel())
}

/// The caller itself becomes the image's only task. Comes back only where that has failed.
fn myself(options: &Options<'_>, number: i64) -> Result<Restarted, Error> {
    super::place::enter(options)?;
    let flags = TASKSELF | flags(options);
    restart2::restart(number, process::own_pid(), options.image, flags, options.engine_log)?;
    Ok(Restarted { pid: process::own_pid(), status: None })
}
