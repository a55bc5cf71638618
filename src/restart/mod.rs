//! Restart of the task tree of an image.
#![forbid(unsafe_code)]

/// What is decided before a task is forked.
mod check;

/// Which engine restores the tasks.
mod engine;

/// What the compiler of programs has to know.
mod facts;

/// Feeding an image to restart(2).
mod feed;

/// The freezer cgroup of the tasks.
mod freezer;

/// Whether the files are as they were.
mod files;

/// The last munmap, registers, letting go.
mod finish;

/// Thread groups that job control had stopped.
mod jobs;

/// SIGINT, and waiting for the root task.
mod interrupt;

/// The first fork, and the owner of all tasks.
mod launch;

/// The programs of a restart as text.
pub mod show;

/// An image on a descriptor.
pub mod source;

/// System V shared memory.
mod segments;

/// Whether sockets can be bound to their paths.
mod sockets;

/// Pids of the image that somebody has.
mod taken;

/// The caller becomes the image's only task.
mod myself;

/// Where the caller itself is to live.
mod place;

/// The engine for kernels that have restart(2).
mod syscall;

/// The terminal that takes the place of one that was not the tree's own.
mod terminal;

/// Such a terminal for a command.
pub mod relay;

/// Waiting for the tasks, stage by stage.
mod watch;

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicI32;

use crate::error::{Error, RestartError, SysError};
use crate::image::ImageHead;
use crate::program::insn::Stage;
use crate::program::{self, Compiled};
use crate::report::{self, Report};
use crate::sys::events::Events;
use crate::vm::Region;
use engine::Engine;
use facts::Handed;
use freezer::Freezer;
use launch::Tree;
use segments::Segments;
pub use terminal::Given;
use watch::Watch;

/// Which pids the tasks get, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever pids the kernel gives.
    #[default]
    NewPids,
    /// The pids of the image, in the caller's pid namespace.
    Pids,
    /// The pids of the image, in a new pid namespace.
    PidNs,
}

/// Conditions that can be tolerated, warned about, or be a failure (`abi.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions(pub i64);

impl Conditions {
    /// A pid number 0 where no new pid namespace is made.
    pub const PIDZERO: i64 = 1;
    /// The old /proc cannot be unmounted.
    pub const MNTPROC: i64 = 2;
    /// The old /dev/pts cannot be unmounted.
    pub const MNTPTY: i64 = 4;
    /// What callers usually warn about.
    pub const USUAL: Conditions = Conditions(Self::MNTPROC | Self::MNTPTY);

    /// Whether `condition` is among these.
    pub fn has(self, condition: i64) -> bool {
        self.0 & condition != 0
    }
}

/// What a restart is asked to do: the safe form of `struct cr_restart_args`.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The image: a file, a pipe or a socket, read from its current position.
    pub image: BorrowedFd<'a>,
    /// Which pids.
    pub mode: Mode,
    /// Restart the caller itself from the image (single task).
    pub myself: bool,
    /// Look for error records in the image.
    pub inspect: bool,
    /// chroot there.
    pub root: Option<&'a CStr>,
    /// Return only when the root task has ended.
    pub wait: bool,
    /// Private mount namespace.
    pub mntns: bool,
    /// Fresh devpts instance.
    pub mnt_pty: bool,
    /// Say on the log how the root task ended.
    pub show_status: bool,
    /// Freezer cgroup directory for the tasks.
    pub freezer: Option<&'a CStr>,
    /// Leave the tasks frozen.
    pub keep_frozen: bool,
    /// Restore security labels.
    pub keep_lsm: bool,
    /// The engine's own log.
    pub engine_log: Option<BorrowedFd<'a>>,
    /// Conditions to warn about.
    pub warn: Conditions,
    /// Conditions to fail on; stronger than `warn`.
    pub fail: Conditions,
    /// What takes the place of a terminal that was not the tree's own. Without it images that have such are
    /// refused.
    pub terminal: Option<Given<'a>>,
    /// What a SIGINT during the restart is turned into (`abi.md`, `global_send_sigint`): 0 ignores
    /// it, -1 is replaced here by the default of the mode. `None`: SIGINT is none of our business.
    pub interrupt: Option<&'a AtomicI32>,
    /// Is told how far the restart has come.
    pub observer: Option<Observer<'a>>,
    /// Messages.
    pub report: Report<'a>,
}

impl<'a> Options<'a> {
    /// Restart of `image` with all options as [`Default`] has them elsewhere: new pids, no waiting, no
    /// messages, nothing warned about.
    pub fn new(image: BorrowedFd<'a>) -> Self {
        Options {
            image,
            mode: Mode::default(),
            myself: false,
            inspect: false,
            root: None,
            wait: false,
            mntns: false,
            mnt_pty: false,
            show_status: false,
            freezer: None,
            keep_frozen: false,
            keep_lsm: false,
            engine_log: None,
            warn: Conditions(0),
            fail: Conditions(0),
            terminal: None,
            interrupt: None,
            observer: None,
            report: Report::default(),
        }
    }
}

impl Options<'_> {
    /// Tells the observer, where there is one, and whoever wants details.
    fn observe(&self, point: Point, pids: &[i32]) {
        self.report.debug(point.text());
        if let Some(Observer(observe)) = self.observer {
            observe(point, pids);
        }
    }
}

/// How far a restart has come. Up to [`Point::Ready`] the tree ends with its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The first task has been forked.
    Launched,
    /// Every task exists, in its session.
    Exist,
    /// Every task is in its process group.
    Grouped,
    /// Ghosts and placeholders are gone.
    Settled,
    /// Memory, files and signals of all tasks are in place.
    Restored,
    /// All tasks are traced and wait to be handed over to their programs.
    Ready,
    /// The programs run. What comes now is about waiting for them.
    Runs,
}

impl Point {
    /// All points up to which the tree ends with its coordinator, in order.
    pub const ALL: [Point; 6] = [
        Point::Launched,
        Point::Exist,
        Point::Grouped,
        Point::Settled,
        Point::Restored,
        Point::Ready,
    ];

    /// What has been done, in words.
    fn text(self) -> &'static str {
        match self {
            Point::Launched => "the first task was forked",
            Point::Exist => "all tasks exist, in their sessions",
            Point::Grouped => "all tasks are in their process groups",
            Point::Settled => "ghosts and placeholders are gone",
            Point::Restored => "memory, files and signals are in place",
            Point::Ready => "all tasks wait to be handed over to their programs",
            Point::Runs => "the programs run",
        }
    }
}

/// A function that is called at each point, with the pids of the tasks by index in the plan (as the
/// caller's namespace numbers them; 0: not known yet). The restart goes on when it returns.
#[derive(Clone, Copy)]
pub struct Observer<'a>(pub &'a dyn Fn(Point, &[i32]));

impl std::fmt::Debug for Observer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// A tree that was restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarted {
    /// Pid of the caller's new child: the root task, or the coordinator where there is one.
    pub pid: i32,
    /// How the root task ended (format of wait(2)), where that was waited for.
    pub status: Option<i32>,
}

/// Restarts the tree of an image.
///
/// On success the tree runs on. On failure nothing of it is left.
///
/// # Errors
/// The first cause; see [`Error::errno`].
pub fn restart(options: &Options<'_>) -> Result<Restarted, Error> {
    match engine::choose()? {
        Engine::Native => {
            let restarted = if options.myself { myself::restart(options) } else { native(options) };
            restarted.inspect_err(|error| {
                report::engine(options.engine_log, &format!("the restart failed: {error}"));
            })
        }
        Engine::Syscall(number) => syscall::restart(options, number),
    }
}

/// The engine of this library: read the head, plan, check, read the bodies, compile, launch, watch,
/// finish, wait.
fn native(options: &Options<'_>) -> Result<Restarted, Error> {
    check::options(options)?;
    let freezer = freezer::open(options)?;
    let mut reader = source::open(options.image)?;
    let head = reader.head()?;
    let plan = check::plan(&head, options)?;
    options.report.debug(format!(
        "{} tasks in the image, {} to be made in all",
        plan.image_tasks(),
        plan.tasks.len()
    ));
    // Process groups that no setpgid(2) makes are refused here.
    plan.groups(options.mode == Mode::PidNs)?;
    let body = reader.body(&head)?;
    check::machine(&head, &body)?;
    terminal::check(&plan, &body, options)?;
    check::timers(&body, false)?;
    sockets::check(&body, options)?;
    check::spaces(&plan, &body)?;
    files::check(&plan, &body, options)?;

    let mut segments = Segments::make(&body)?;
    let mut events = Events::new()?;
    let (compiled, region) = {
        let (image, base) = reader
            .source_mut()
            .pages_file()
            .map_err(|e| SysError::new("copy the image to memory", e))?;
        let sender = events.sender().ok_or(RestartError::Arguments("no event channel"))?;
        load(|| {
            let handed = Handed { image, base, events: sender, segments: &segments };
            let facts = facts::gather(options, &plan, &body, &handed)?;
            Ok(program::compile(&head, &plan, &body, &facts))
        })?
    };
    let mut interrupts = interrupt::Forward::new(options, &plan);
    if options.mode == Mode::Pids {
        taken::wait_until_free(&plan);
    }
    terminal::hand_over(&body, options)?;
    let mut tree = launch::launch(region, &compiled, &plan)?;
    events.close_sender();
    let watch = Watch { plan: &plan, body: &body, compiled: &compiled, events: &events };
    build(&head, &watch, &mut tree, options, freezer.as_ref())?;
    interrupts.aim(&tree);
    segments.settle(&body, &mut reader)?;
    let pids = tree.pids.clone();
    let pid = finish::finish(&watch, tree, freezer.as_ref())?;
    segments.keep();
    options.observe(Point::Runs, &pids);
    report::engine(options.engine_log, &format!("the tree runs, the first task is {pid}"));
    options.report.verbose(format!("restarted {} tasks, the first is {pid}", plan.image_tasks()));
    conclude(options, &mut interrupts, pid)
}

/// Waits for the root task, where that is asked for, and says how it ended.
fn conclude(
    options: &Options<'_>,
    interrupts: &mut interrupt::Forward<'_>,
    pid: i32,
) -> Result<Restarted, Error> {
    interrupts.pass(pid);
    let status = if options.wait { Some(interrupts.wait(pid)?) } else { None };
    if let Some(status) = status.filter(|_| options.show_status) {
        options.report.answer(ended(status));
    }
    Ok(Restarted { pid, status })
}

/// Makes the programs and loads them. Another thread may take the chosen addresses meanwhile: then
/// others are tried.
fn load(compile: impl Fn() -> Result<Compiled, Error>) -> Result<(Compiled, Region), Error> {
    const TRIES: usize = 16;
    for _ in 1..TRIES {
        let compiled = compile()?;
        match launch::load(&compiled) {
            Err(e) if e.errno() == libc::EEXIST => {}
            region => return Ok((compiled, region?)),
        }
    }
    Err(RestartError::NoHole.into())
}

/// Takes the tasks through all stages up to the last barrier, traced.
fn build(
    head: &ImageHead,
    watch: &Watch<'_>,
    tree: &mut Tree,
    options: &Options<'_>,
    freezer: Option<&Freezer>,
) -> Result<(), Error> {
    let at = |point: Point, tree: &Tree| {
        report::engine(options.engine_log, point.text());
        options.observe(point, &tree.pids);
    };
    tree.know_first(watch.compiled);
    at(Point::Launched, tree);
    watch.all_exist(tree)?;
    check::notes(tree, options);
    at(Point::Exist, tree);
    freezer.map_or(Ok(()), |freezer| freezer.join(&tree.pids))?;
    tree.region.release(Stage::Fork);
    watch.all_arrive(tree, Stage::Groups)?;
    at(Point::Grouped, tree);
    terminal::set_foreground(head, watch, tree, options);
    tree.region.release(Stage::Groups);
    if watch.compiled.ghosts {
        watch.all_arrive(tree, Stage::Ghosts)?;
        at(Point::Settled, tree);
        tree.region.release(Stage::Ghosts);
    }
    watch.all_arrive(tree, Stage::Restore)?;
    at(Point::Restored, tree);
    finish::seize(watch, tree)?;
    tree.region.release(Stage::Restore);
    watch.all_ready(tree)?;
    at(Point::Ready, tree);
    Ok(())
}

/// How a task ended, in words; `status` is in the format of wait(2).
fn ended(status: i32) -> String {
    match status & 0x7f {
        0 => format!("the root task exited with status {}", status >> 8 & 0xff),
        signal => format!("the root task was killed by signal {signal}"),
    }
}
