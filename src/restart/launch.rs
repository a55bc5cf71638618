//! The first fork, and the guard that owns all tasks until the restart is over.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::taken::holder;
use crate::error::{Error, SysError};
use crate::plan::Plan;
use crate::program::Compiled;
use crate::program::insn::Stage;
use crate::sys::ptrace::Tracee;
use crate::sys::signal::Blocked;
use crate::sys::{process, procfs};
use crate::vm::{Handlers, Region};

/// Milliseconds between two looks at whether the coordinator task still lives.
const FREE_TICK: u32 = 20;

/// Milliseconds that the kernel is given to end a killed task.
const KILL_LIMIT: i32 = 10_000;

/// clone3(2), struct clone_args: bytes of its second version, which has set_tid.
const CLONE_ARGS: usize = 80;

/// The tasks of a restart. Until it is [`Tree::release`]d, dropping it ends all of them, and waits until
/// they are gone.
#[derive(Debug)]
pub struct Tree {
    /// Where the tasks run.
    pub region: Region,
    pid: i32,
    pidfd: OwnedFd,
    /// Whether the first task is the init of a new pid namespace.
    init: bool,
    /// Whether the first task is a coordinator task.
    coordinator: bool,
    /// Pids of the tasks by index, as this process numbers them; 0: not known (yet).
    pub pids: Vec<i32>,
    /// The live tasks, by index, once they are traced.
    pub tracees: Vec<Tracee>,
    released: bool,
}

/// Loads the programs into memory that the tasks will share.
///
/// # Errors
/// EEXIST where another thread has mapped something at their place meanwhile.
pub fn load(compiled: &Compiled) -> Result<Region, SysError> {
    let handlers = Handlers {
        failure: compiled.on_failure,
        orphan: compiled.on_orphan,
        fault: compiled.on_fault,
    };
    let (data, programs) = (&compiled.data, &compiled.programs);
    Region::load(compiled.layout, data, programs, handlers, &compiled.epilogue)
}

/// Forks the first task.
///
/// # Errors
/// Those of clone3(2); EEXIST says who has the pid.
pub fn launch(region: Region, compiled: &Compiled, plan: &Plan) -> Result<Tree, Error> {
    let init = compiled.clone_flags & libc::CLONE_NEWPID as u64 != 0;
    let set_tid: Vec<u8> = compiled.set_tid.iter().flat_map(|pid| pid.to_le_bytes()).collect();
    let mut args = [0u8; CLONE_ARGS];
    let mut put = |offset: usize, value: u64| {
        if let Some(field) = args.get_mut(offset..offset + 8) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    };
    put(0, compiled.clone_flags);
    put(32, libc::SIGCHLD as u64);
    if !set_tid.is_empty() {
        put(64, set_tid.as_ptr() as u64);
        put(72, compiled.set_tid.len() as u64);
    }
    let first = compiled.coordinator.unwrap_or(0);
    let pid = {
        let _blocked = Blocked::all();
        region.launch(&args, first, first)
    };
    let pid = pid.map_err(|e| explain_clone(e, compiled.set_tid.last().copied()))?;
    let pidfd = process::pidfd(pid).inspect_err(|_| {
        // Without a handle there is no safe way on; the pid is still ours, as nobody has reaped it.
        let _ = process::kill(pid, libc::SIGKILL);
        let _ = process::reap(pid, true);
    })?;
    Ok(Tree {
        region,
        pid,
        pidfd,
        init,
        coordinator: compiled.coordinator.is_some(),
        pids: vec![0; plan.tasks.len()],
        tracees: Vec::new(),
        released: false,
    })
}

/// A pid that is taken is the most common failure: say by whom.
fn explain_clone(error: SysError, wanted: Option<i32>) -> SysError {
    match wanted {
        Some(pid) if error.errno() == libc::EEXIST => {
            SysError::new(format!("pid {pid} is taken{}", holder(pid)), error.source)
        }
        Some(pid) => SysError::new(format!("clone3 of pid {pid}"), error.source),
        None => error,
    }
}

impl Tree {
    /// Pid of the first task, a child of this process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The first task's pidfd: readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Id of a thread of the process `pid`, as this process numbers it.
    ///
    /// # Errors
    /// ESRCH where the process has no such thread.
    pub fn thread_id(&self, task: usize, pid: i32) -> Result<i32, Error> {
        let own = self.region.pid(task);
        if !self.init {
            return Ok(own);
        }
        // Its own number is that of the new namespace: look which thread has it.
        let path = format!("/proc/{pid}/task");
        let threads = std::fs::read_dir(&path).map_err(|e| SysError::new(&path, e))?;
        threads
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|tid: &i32| {
                let status = procfs::read(&format!("{path}/{tid}/status")).unwrap_or_default();
                procfs::status(&status).is_some_and(|s| s.pids.last() == Some(&own))
            })
            .ok_or_else(|| {
                SysError::new(path, std::io::Error::from_raw_os_error(libc::ESRCH)).into()
            })
    }

    /// Notes the pid of the first task, where that is a task of the plan.
    pub fn know_first(&mut self, compiled: &Compiled) {
        if let (None, Some(first)) = (compiled.coordinator, self.pids.first_mut()) {
            *first = self.pid;
        }
    }

    /// Lets all tasks go, tells a coordinator task that the tree is its own now, and gives up the shared
    /// memory: the pid of the first task.
    pub fn leave(mut self) -> i32 {
        self.released = true;
        for tracee in self.tracees.drain(..) {
            // A task that was killed meanwhile was killed after its restart.
            let _ = tracee.detach(0);
        }
        self.set_free();
        // What cannot be given up now goes with the last task that has it.
        let _ = self.region.shrink();
        self.pid
    }

    /// Tells a coordinator task that the tree is its own, and waits until it no longer dies with this
    /// process.
    fn set_free(&self) {
        self.region.release(Stage::Ready);
        while self.coordinator
            && self.region.arrived(Stage::Alone) == 0
            && !process::wait_ended(self.pidfd(), 0)
        {
            self.region.wait_arrival(Stage::Alone, 0, FREE_TICK);
        }
    }

    /// The kernel has restored the tasks: the pid of the first. The shared memory goes with the last task
    /// that still has it.
    pub fn leave_to_kernel(mut self) -> i32 {
        self.released = true;
        self.set_free();
        self.pid
    }

    /// Pids of the tasks that may exist, each with the pid that is known of it.
    fn known_pids(&self) -> Vec<i32> {
        let created = |task: usize| if self.init { 0 } else { self.region.pid(task) };
        let pids = self.pids.iter().enumerate();
        pids.map(|(task, &pid)| if pid != 0 { pid } else { created(task) })
            .filter(|&pid| pid != 0 && pid != self.pid)
            .collect()
    }

    /// Ends all tasks. Descendants first: as long as their parent does not reap them, their pids are
    /// theirs. A task that was just being forked sees that its parent is gone, and ends by itself.
    fn destroy(&mut self) {
        let pids = if self.init { Vec::new() } else { self.known_pids() };
        for &pid in pids.iter().rev() {
            let _ = process::kill(pid, libc::SIGKILL);
        }
        process::kill_pidfd(self.pidfd());
        // Threads before their leader, and a namespace ends only after its last task has been seen go.
        let deadline = Instant::now() + Duration::from_millis(KILL_LIMIT as u64);
        for tracee in self.tracees.drain(..).rev() {
            tracee.wait_end(deadline);
        }
        let ended = process::wait_ended(self.pidfd(), KILL_LIMIT);
        let _ = process::reap(self.pid, ended);
        for &pid in &pids {
            if let Ok(pidfd) = process::pidfd(pid) {
                process::wait_ended(pidfd.as_fd(), KILL_LIMIT);
            }
            // Where this process is the reaper of orphans, they are its to reap.
            let _ = process::reap(pid, false);
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.released {
            self.destroy();
        }
    }
}
