//! Lets the tasks of a stopped tree go, or ends them.

use std::time::{Duration, Instant};

use super::stop::{Process, Tree};
use crate::error::DumpError;
use crate::sys::ptrace::Stop;
use crate::sys::{process, procfs};

/// How long the end of a task that was killed may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lets all tasks go on.
pub(super) fn release(mut tree: Tree) {
    for thread in std::mem::take(&mut tree.processes).into_iter().flat_map(|p| p.threads) {
        // One that was killed meanwhile is let go when it is dropped.
        let _ = thread.tracee.detach(0);
    }
}

/// Kills all tasks and waits until they have ended. None of them runs on in between: each is stopped,
/// and SIGKILL is the first that it gets to see.
pub(super) fn end(tree: Tree) -> Result<(), DumpError> {
    let living = || tree.processes.iter().filter(|p| !p.threads.is_empty());
    for process in living() {
        match process::kill(process.pid, libc::SIGKILL) {
            Err(e) if e.errno() != libc::ESRCH => return Err(e.into()),
            _ => {}
        }
    }
    for process in living() {
        wait_for_end(process)?;
    }
    let root = tree.processes.first().map(|p| p.pid);
    let ended: Vec<i32> = living().map(|p| p.pid).collect();
    // Dropping the attachments hands the dead over to their parents.
    drop(tree);
    for pid in ended.into_iter().filter(|&pid| Some(pid) != root) {
        // Those that lost their parent may have become children of this process. The root task, if
        // it is one, is left to the caller.
        let status = procfs::read(&format!("/proc/{pid}/status"));
        let parent = status.ok().as_deref().and_then(procfs::status).map(|s| s.ppid);
        if parent == Some(process::own_pid()) {
            let _ = process::reap(pid, false);
        }
    }
    Ok(())
}

fn wait_for_end(process: &Process) -> Result<(), DumpError> {
    let deadline = Instant::now() + PATIENCE;
    for thread in process.threads.iter().rev() {
        loop {
            let tid = thread.tracee.tid();
            let stop = thread.tracee.wait_stop(deadline);
            match stop.map_err(DumpError::task(tid, "wait until it has ended"))? {
                Stop::Gone => break,
                _ => {
                    let _ = thread.tracee.resume(0);
                }
            }
        }
    }
    Ok(())
}
