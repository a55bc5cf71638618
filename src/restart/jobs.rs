//! Thread groups that job control had stopped are stopped again, before anything of their programs runs.
//!
//! Comes in: all tasks, traced and stopped at their last barrier, with all signals blocked. Goes out: the
//! same, with the groups in question in a group stop, which outlives the tracing. Their parents know of it or
//! not, as before, and have no signal that they had not.
#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use super::finish::{Traced, failed, in_time, make_call, stopped};
use super::launch::Tree;
use super::watch::Watch;
use crate::error::Error;
use crate::image::{JobStop, Live};
use crate::plan::Flags;
use crate::program::restorers;
use crate::sys::ptrace::Stop;

/// Stops the groups, and tells their parents what they knew.
///
/// # Errors
/// That a task has ended or does not stop.
pub fn stop(
    watch: &Watch<'_>,
    tree: &Tree,
    tasks: &[Traced<'_>],
    deadline: Instant,
) -> Result<(), Error> {
    let restorers = restorers(watch.plan, watch.body);
    for (at, leader) in tasks.iter().enumerate().filter(|(_, task)| task.leads) {
        let Some(job) = job_stop(watch, leader.live) else { continue };
        // The threads of a group follow their leader somewhere in the table.
        let others = || tasks.iter().skip(at + 1).filter(|t| t.live.signal == leader.live.signal);
        let fail = |index| failed(watch, index, "stop it as job control had");
        stop_group(watch, leader, job.signal, deadline).map_err(fail(leader.index))?;
        for thread in others() {
            join(thread, deadline).map_err(fail(thread.index))?;
        }
        // Where the first thread of the parent has ended, another of its group will do.
        let Some(parent) = watch.plan.real_parent(leader.index) else { continue };
        let parent = restorers.get(parent).copied().unwrap_or(parent);
        let Some(parent) = tasks.iter().find(|t| t.index == parent) else { continue };
        let row = watch.plan.tasks.get(leader.index).filter(|t| t.flags.has(Flags::THREAD));
        let child = row.and_then(|thread| thread.creator).unwrap_or(leader.index);
        let fail = failed(watch, parent.index, "tell it that a child is stopped");
        tell(watch, tree, parent, child, job, deadline).map_err(fail)?;
    }
    Ok(())
}

/// How the group of this task is to be stopped: as it was, or by a SIGSTOP that was on its way.
fn job_stop(watch: &Watch<'_>, live: &Live) -> Option<JobStop> {
    let group = watch.body.objects.signals.get(live.signal);
    let pending = live.pending.set | group.map_or(0, |group| group.pending.set);
    let due = pending & bit(libc::SIGSTOP) != 0;
    live.job_stop.or(due.then_some(JobStop { signal: libc::SIGSTOP, untold: true }))
}

/// Bit of a signal in a set.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Stops a group by its leader. SIGSTOP is sent, and taken for `signal` on its delivery. That does not
/// stop a program that catches `signal` by now, nor a group that has become an orphan; SIGSTOP does.
fn stop_group(
    watch: &Watch<'_>,
    leader: &Traced<'_>,
    signal: i32,
    deadline: Instant,
) -> io::Result<()> {
    const DEFAULT: u64 = 0;
    let hand = watch.body.objects.sighands.get(leader.live.sighand);
    let action = hand.and_then(|hand| hand.actions.get(signal as usize - 1));
    if action.is_none_or(|action| action.handler == DEFAULT) && stop_by(leader, signal, deadline)? {
        return Ok(());
    }
    match stop_by(leader, libc::SIGSTOP, deadline)? {
        true => Ok(()),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether the group of this task is stopped by `signal` now. Nothing of the program runs either way.
fn stop_by(leader: &Traced<'_>, signal: i32, deadline: Instant) -> io::Result<bool> {
    let tracee = leader.tracee;
    tracee.set_signal_mask(!bit(signal))?;
    make_call(leader, libc::SYS_getpid, [0; 4], deadline)?;
    // A signal that goes with the end of a call is sent by the kernel itself: no permission is needed.
    tracee.resume(libc::SIGSTOP)?;
    let mut taken = false;
    loop {
        match stopped(leader, deadline)? {
            Stop::Signal(libc::SIGSTOP) if !taken => {
                taken = true;
                // So that it stops here where the signal does not do it.
                tracee.interrupt()?;
                tracee.resume(signal)?;
            }
            Stop::Group(_) if taken => return Ok(true),
            _ if taken => return Ok(false),
            _ => tracee.resume(0)?,
        }
        in_time(deadline)?;
    }
}

/// Waits until a further thread of a group that stops has done so.
fn join(thread: &Traced<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        thread.tracee.resume(0)?;
        if let Stop::Group(_) = stopped(thread, deadline)? {
            return Ok(());
        }
        in_time(deadline)?;
    }
}

/// Has a parent wait for the stop of a child if it had done so before, and takes away the SIGCHLD that
/// this stop has sent.
fn tell(
    watch: &Watch<'_>,
    tree: &Tree,
    parent: &Traced<'_>,
    child: usize,
    job: JobStop,
    deadline: Instant,
) -> io::Result<()> {
    if !job.untold {
        let pid = pid_for(watch, tree, child, parent.index);
        let options = (libc::WUNTRACED | libc::WNOHANG) as u64;
        let found = make_call(parent, libc::SYS_wait4, [pid as u64, 0, options, 0], deadline)?;
        if found != i64::from(pid) {
            return Err(match found {
                0.. => io::ErrorKind::NotFound.into(),
                error => io::Error::from_raw_os_error(-error as i32),
            });
        }
    }
    let group = watch.body.objects.signals.get(parent.live.signal);
    let had = parent.live.pending.set | group.map_or(0, |group| group.pending.set);
    if had & bit(libc::SIGCHLD) == 0 {
        let words = tree.region.scratch(parent.index, [bit(libc::SIGCHLD), 0, 0]);
        let call = [words, 0, words + 8, 8];
        make_call(parent, libc::SYS_rt_sigtimedwait, call, deadline)?;
    }
    Ok(())
}

/// Pid of a task as another one sees it.
fn pid_for(watch: &Watch<'_>, tree: &Tree, of: usize, viewer: usize) -> i32 {
    let (numbers, seen) = (watch.plan.numbers(of), watch.plan.numbers(viewer).len());
    if numbers.len() == seen {
        return tree.region.pid(of);
    }
    // Nested namespaces are made anew, so that all pids are those of the image.
    seen.checked_sub(1).and_then(|level| numbers.get(level).copied()).unwrap_or(0)
}
