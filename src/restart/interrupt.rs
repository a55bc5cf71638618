//! SIGINT while a restart is under way, and waiting for the root task to end (`abi.md`).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::launch::Tree;
use super::{Mode, Options};
use crate::error::Error;
use crate::plan::Plan;
use crate::sys::signal::Interrupts;
use crate::sys::{process, procfs};

/// Milliseconds between two looks at whether a SIGINT has come to another thread.
const TICK: i32 = 100;

/// Turns a SIGINT of the caller into the signal that the caller has chosen for the tree.
#[derive(Debug)]
pub struct Forward<'a> {
    options: &'a Options<'a>,
    interrupts: Option<Interrupts>,
    /// The root task below a coordinator task, while it lives. The init of a namespace takes no signal
    /// that it has no handler for, so the root task is told too.
    root: Option<(i32, OwnedFd)>,
}

impl<'a> Forward<'a> {
    /// Starts, where the caller wants it; sets the caller's choice where it has made none.
    pub fn new(options: &'a Options<'a>, plan: &Plan) -> Forward<'a> {
        if let Some(choice) = options.interrupt {
            let init = plan.tasks.first().is_some_and(|root| root.pid == 1);
            let kills = options.mode == Mode::PidNs && init;
            let signal = if kills { libc::SIGKILL } else { libc::SIGINT };
            let _ = choice.compare_exchange(-1, signal, Ordering::Relaxed, Ordering::Relaxed);
        }
        let interrupts = options.interrupt.map(|_| Interrupts::count());
        Forward { options, interrupts, root: None }
    }

    /// Looks where the tree's root task is, while that cannot have ended.
    pub fn aim(&mut self, tree: &Tree) {
        let root = tree.pids.first().copied().filter(|&pid| pid != 0 && pid != tree.pid());
        self.root = root.and_then(|pid| Some((pid, process::pidfd(pid).ok()?)));
    }

    /// Passes on what has come.
    pub fn pass(&mut self, pid: i32) {
        let (Some(interrupts), Some(choice)) = (&mut self.interrupts, self.options.interrupt)
        else {
            return;
        };
        if !interrupts.again() {
            return;
        }
        match choice.load(Ordering::Relaxed) {
            0 => self.options.report.verbose("interrupted: ignored"),
            signal => {
                self.options.report.verbose(format!("interrupted: signal {signal} to {pid}"));
                let root = self.root.as_ref();
                let root = root.filter(|(_, pidfd)| !process::wait_ended(pidfd.as_fd(), 0));
                for pid in [Some(pid), root.map(|(root, _)| *root)].into_iter().flatten() {
                    let _ = process::kill(-pid, signal);
                    let _ = process::kill(pid, signal);
                }
            }
        }
    }

    /// Waits for the child `pid` to end: its status in the format of wait(2).
    ///
    /// # Errors
    /// ECHILD where somebody else has reaped it.
    pub fn wait(&mut self, pid: i32) -> Result<i32, Error> {
        let pidfd = process::pidfd(pid)?;
        while !process::wait_ended(pidfd.as_fd(), TICK) {
            self.pass(pid);
        }
        let name = procfs::read(&format!("/proc/{pid}/comm")).unwrap_or_default();
        Ok(told(process::reap(pid, true)?.unwrap_or(0), &name))
    }
}

/// How the root task ended, from the end of a coordinator task (its name says whether that was by a
/// signal), or of the root task itself.
fn told(status: i32, name: &[u8]) -> i32 {
    match *name {
        [signal, b'\n'] if status == (128 | i32::from(signal)) << 8 => i32::from(signal),
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_coordinator_tells_a_signal_from_an_exit_status() {
        assert_eq!(told((128 | 15) << 8, b"\x0f\n"), 15);
        assert_eq!(told((128 | 15) << 8, b"usercr-init\n"), (128 | 15) << 8);
        assert_eq!(told(7 << 8, b"\x07\n"), 7 << 8);
        assert_eq!(told(15, b"program\n"), 15);
    }
}
