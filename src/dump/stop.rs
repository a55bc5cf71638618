//! Stops a whole task tree, and lets it go.
//!
//! Comes in: the pid of the root task. Goes out: a [`Tree`] in which every thread of every descendant
//! is in a ptrace stop, found anew until nothing more is found. Dropping it lets all of them go on.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::{cpu, interrupt};
use crate::error::DumpError;
use crate::sys::procfs;
use crate::sys::ptrace::{Options, Stop, Tracee};

/// How long a task may take to stop, in the first attempt; doubled in each further one.
const PATIENCE: Duration = Duration::from_millis(250);
/// Attempts before a task that does not stop is reported. A task that waits for its vfork child stops
/// only when the child runs on, so an attempt that fails lets all go.
const ATTEMPTS: u32 = 4;

/// One stopped thread.
#[derive(Debug)]
pub(super) struct Thread {
    /// The attachment.
    pub tracee: Tracee,
    /// Whether it is stopped by job control too, and by which signal.
    pub job_stop: Option<i32>,
    /// Whether it has stopped; always so in a finished [`Tree`].
    stopped: bool,
    /// Pids of its children.
    children: Vec<i32>,
}

/// One process; a zombie has no threads.
#[derive(Debug)]
pub(super) struct Process {
    /// Thread-group id, as the checkpointer sees it.
    pub pid: i32,
    /// The leader first, unless it has ended; empty for a zombie.
    pub threads: Vec<Thread>,
    /// Whether the first thread has ended, and perhaps others have not.
    leader_gone: bool,
}

/// [`Place::thread`] of a first thread that has ended while others of its process have not.
const GONE: usize = usize::MAX;

/// A place in the task table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index in [`Tree::processes`].
    pub process: usize,
    /// Index in [`Process::threads`]; 0 for a zombie.
    pub thread: usize,
}

/// A tree whose tasks are all stopped.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// In the order in which they were found, the root first.
    pub processes: Vec<Process>,
    /// The order of the task table: a task, the subtrees of its children, then the next thread.
    pub order: Vec<Place>,
    index: HashMap<i32, usize>,
}

impl Tree {
    /// Stops the tree whose root is `root`.
    pub fn stop(root: i32) -> Result<Tree, DumpError> {
        if root <= 0 || std::fs::metadata(format!("/proc/{root}")).is_err() {
            let none = io::Error::from_raw_os_error(libc::ESRCH);
            return Err(DumpError::task(root, "look it up")(none));
        }
        let mut patience = PATIENCE;
        for _ in 1..ATTEMPTS {
            interrupt::check()?;
            match Tree::attempt(root, patience) {
                Err(DumpError::Busy { .. }) => std::thread::sleep(patience / 8),
                other => return other,
            }
            patience *= 2;
        }
        Tree::attempt(root, patience)
    }

    fn attempt(root: i32, patience: Duration) -> Result<Tree, DumpError> {
        let mut tree = Tree::default();
        tree.add(root);
        let mut level = 0;
        loop {
            while level < tree.processes.len() {
                let end = tree.processes.len();
                tree.settle(level, patience)?;
                tree.find_children(level..end)?;
                level = end;
            }
            // Who died, or forked with CLONE_PARENT, may have given children to a task that was
            // looked at before.
            tree.find_children(0..level)?;
            if tree.processes.len() == level {
                break;
            }
        }
        tree.sort();
        match tree.processes.first() {
            Some(first) if !first.threads.is_empty() => Ok(tree),
            _ => Err(DumpError::Gone { pid: root }),
        }
    }

    fn add(&mut self, pid: i32) {
        if !self.index.contains_key(&pid) {
            self.index.insert(pid, self.processes.len());
            self.processes.push(Process { pid, threads: Vec::new(), leader_gone: false });
        }
    }

    /// Stops all threads of the processes from `level` on, and of those that they fork meanwhile.
    fn settle(&mut self, level: usize, patience: Duration) -> Result<(), DumpError> {
        loop {
            let mut changed = false;
            for at in level..self.processes.len() {
                interrupt::check()?;
                changed |= self.seize_threads(at)?;
            }
            if !changed {
                return Ok(());
            }
            // Each new task that is reported on the way is put at the end of these lists.
            let mut at = level;
            while at < self.processes.len() {
                let mut thread = 0;
                while thread < self.processes.get(at).map_or(0, |p| p.threads.len()) {
                    if self.wait(Place { process: at, thread }, patience)? {
                        thread += 1;
                    }
                }
                at += 1;
            }
        }
    }

    /// Attaches to the threads that are not yet known; says whether there were any.
    fn seize_threads(&mut self, at: usize) -> Result<bool, DumpError> {
        let Some(process) = self.processes.get_mut(at) else { return Ok(false) };
        let directory = format!("/proc/{}/task", process.pid);
        // The directory has one link a thread, and two of its own.
        let links =
            std::fs::metadata(&directory).map_or(0, |m| std::os::unix::fs::MetadataExt::nlink(&m));
        let known = process.threads.len() + usize::from(process.leader_gone);
        if links == known as u64 + 2 {
            return Ok(false);
        }
        let mut new = false;
        let alone = links == 3 && process.threads.is_empty();
        let tids = if alone { vec![process.pid] } else { thread_ids(&directory) };
        for tid in tids {
            if process.threads.iter().any(|t| t.tracee.tid() == tid) {
                continue;
            }
            match seize(process.pid, tid)? {
                Some(tracee) => {
                    process.threads.push(Thread::new(tracee));
                    new = true;
                }
                None if tid == process.pid => process.leader_gone = true,
                None => {}
            }
        }
        Ok(new)
    }

    /// Waits until this thread has stopped; false where it has ended instead, and was removed.
    fn wait(&mut self, place: Place, patience: Duration) -> Result<bool, DumpError> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(process) = self.processes.get_mut(place.process) else { return Ok(true) };
            let Some(thread) = process.threads.get_mut(place.thread) else { return Ok(true) };
            if thread.stopped {
                return Ok(true);
            }
            let tid = thread.tracee.tid();
            interrupt::check()?;
            let stop = thread.tracee.wait_stop(deadline).map_err(|e| busy(tid, e))?;
            match stop {
                Stop::Group(signal) => {
                    // What its call returns is the work of that signal, not ours.
                    thread.stopped = true;
                    thread.job_stop = Some(signal);
                }
                Stop::Interrupted => {
                    thread.stopped = true;
                    let done = cpu::run_again(&thread.tracee);
                    done.map_err(DumpError::task(tid, "let its system call go on"))?;
                }
                Stop::Gone => {
                    process.threads.remove(place.thread);
                    return Ok(false);
                }
                // Any stop forgets the interrupt that has not yet taken place.
                Stop::Signal(signal) => {
                    let _ = thread.tracee.interrupt();
                    let _ = thread.tracee.resume(signal);
                }
                Stop::Event(_) => {
                    let _ = thread.tracee.interrupt();
                    let _ = thread.tracee.resume(0);
                }
                Stop::Forked(new) => {
                    let _ = thread.tracee.interrupt();
                    let _ = thread.tracee.resume(0);
                    self.adopt(new)?;
                }
            }
        }
    }

    /// A new task that the kernel has attached by itself.
    fn adopt(&mut self, tid: i32) -> Result<(), DumpError> {
        let known = self.processes.iter().any(|p| p.threads.iter().any(|t| t.tracee.tid() == tid));
        if known {
            return Ok(());
        }
        let tracee = Tracee::inherited(tid);
        // If it has ended already, dropping the attachment is all there is to do.
        let Ok(data) = procfs::read(&format!("/proc/{tid}/status")) else { return Ok(()) };
        let Some(status) = procfs::status(&data) else {
            return Err(DumpError::Malformed { pid: tid, file: "status".to_owned() });
        };
        self.add(status.tgid);
        let at = self.index.get(&status.tgid).copied();
        if let Some(process) = at.and_then(|at| self.processes.get_mut(at)) {
            process.threads.push(Thread::new(tracee));
        }
        Ok(())
    }

    /// Notes the children of each of these processes, and adds those that are new.
    fn find_children(&mut self, range: std::ops::Range<usize>) -> Result<(), DumpError> {
        for at in range {
            let Some(process) = self.processes.get_mut(at) else { continue };
            let mut found = Vec::new();
            for thread in &mut process.threads {
                let file = format!("task/{}/children", thread.tracee.tid());
                let data = procfs::read(&format!("/proc/{}/{file}", process.pid))
                    .map_err(DumpError::task(process.pid, "read its list of children"))?;
                thread.children = procfs::numbers(&data)
                    .ok_or(DumpError::Malformed { pid: process.pid, file })?;
                found.extend_from_slice(&thread.children);
            }
            for pid in found {
                self.add(pid);
            }
        }
        Ok(())
    }

    /// Finds the order of the task table, and lets go of processes that have left the tree.
    fn sort(&mut self) {
        let mut order = Vec::with_capacity(self.processes.len());
        let mut seen = vec![false; self.processes.len()];
        // What is still to do, the next on top: a task with its subtrees, then its next thread.
        let mut todo = vec![Place { process: 0, thread: 0 }];
        while let Some(place) = todo.pop() {
            let Some(process) = self.processes.get(place.process) else { continue };
            if place.thread == 0 {
                match seen.get_mut(place.process) {
                    Some(seen) if !*seen => *seen = true,
                    _ => continue,
                }
            }
            if place.thread == 0 && process.leader_gone && !process.threads.is_empty() {
                order.push(Place { thread: GONE, ..place });
            }
            order.push(place);
            if place.thread + 1 < process.threads.len() {
                todo.push(Place { thread: place.thread + 1, ..place });
            }
            let Some(thread) = process.threads.get(place.thread) else { continue };
            let children = thread.children.iter().rev().filter_map(|c| self.index.get(c));
            todo.extend(children.map(|&process| Place { process, thread: 0 }));
        }
        for (process, _) in self.processes.iter_mut().zip(&seen).filter(|(_, seen)| !**seen) {
            process.threads.clear();
        }
        self.order = order;
    }

    /// The thread at a place; none for a zombie.
    pub fn thread(&self, place: Place) -> Option<&Thread> {
        self.processes.get(place.process)?.threads.get(place.thread)
    }

    /// The process at a place.
    pub fn process(&self, place: Place) -> Option<&Process> {
        self.processes.get(place.process)
    }
}

impl Drop for Tree {
    /// Lets all tasks go on. Who was asked to stop and has not been looked at may have a system call
    /// that only this has ended.
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.processes).into_iter().flat_map(|p| p.threads);
        let (stopped, others): (Vec<Thread>, Vec<Thread>) = threads.partition(|t| t.stopped);
        // First, as who waits for its vfork child stops only when that runs on.
        drop(stopped);
        let deadline = Instant::now() + 4 * PATIENCE;
        for Thread { tracee, .. } in others {
            match tracee.wait_stop(deadline) {
                Ok(Stop::Interrupted) => {
                    let _ = cpu::run_again(&tracee);
                }
                // It has come before the stop, and is still to be delivered.
                Ok(Stop::Signal(signal)) => {
                    let _ = tracee.detach(signal);
                }
                Ok(Stop::Forked(new)) => {
                    drop(Tracee::inherited(new));
                    let _ = tracee.detach(0);
                }
                // The rest is what the drop of the attachment does.
                _ => {}
            }
        }
    }
}

impl Thread {
    fn new(tracee: Tracee) -> Thread {
        Thread { tracee, job_stop: None, stopped: false, children: Vec::new() }
    }
}

/// The threads in a /proc/PID/task directory, the leader first; none if the process has ended.
fn thread_ids(directory: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Attaches to one thread and asks it to stop; `None` where it has ended.
fn seize(pid: i32, tid: i32) -> Result<Option<Tracee>, DumpError> {
    let mut attempt = Tracee::seize(tid, Options::FORKS);
    if matches!(&attempt, Err(e) if e.raw_os_error() == Some(libc::EPERM))
        && has_no_tracer(pid, tid)
    {
        // It has been let go of since: a tracer, or a restart, has just ended.
        attempt = Tracee::seize(tid, Options::FORKS);
    }
    let tracee = match attempt {
        Ok(tracee) => tracee,
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(e) => return refused(pid, tid, e),
    };
    match tracee.interrupt() {
        Ok(()) => Ok(Some(tracee)),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(e) => Err(DumpError::task(tid, "interrupt")(e)),
    }
}

fn has_no_tracer(pid: i32, tid: i32) -> bool {
    let status = procfs::read(&format!("/proc/{pid}/task/{tid}/status")).ok();
    status.as_deref().and_then(procfs::status).is_some_and(|status| status.tracer == 0)
}

/// Why a task cannot be attached to; it may also have been attached by the kernel already.
fn refused(pid: i32, tid: i32, cause: io::Error) -> Result<Option<Tracee>, DumpError> {
    let status = procfs::read(&format!("/proc/{pid}/task/{tid}/status"));
    let stat = procfs::read(&format!("/proc/{pid}/task/{tid}/stat"));
    let status = status.ok().as_deref().and_then(procfs::status);
    let (Some(status), Some(stat)) = (status, stat.ok().as_deref().and_then(procfs::stat)) else {
        return Ok(None);
    };
    if matches!(stat.state, b'Z' | b'X') {
        return Ok(None);
    }
    if status.tgid == std::process::id() as i32 {
        let reason = "the tree contains the process that makes the checkpoint";
        return Err(DumpError::Argument { pid, reason });
    }
    if status.tracer == crate::sys::ptrace::own_tid() {
        return Ok(Some(Tracee::inherited(tid)));
    }
    if status.tracer != 0 {
        let reason = format!("it is traced by pid {}", status.tracer);
        return Err(DumpError::Busy { pid, reason });
    }
    Err(DumpError::task(tid, "attach with ptrace")(cause))
}

/// Whether a task is in vfork(2), or in clone(2) with the same effect.
fn waits_for_vfork(tid: i32) -> bool {
    let data = procfs::read(&format!("/proc/{tid}/syscall")).unwrap_or_default();
    let text = String::from_utf8_lossy(&data);
    let mut words = text.split_ascii_whitespace();
    let number: Option<i64> = words.next().and_then(|word| word.parse().ok());
    let flags = words.next().and_then(|word| word.strip_prefix("0x"));
    let flags = flags.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    number == Some(libc::SYS_vfork)
        || number == Some(libc::SYS_clone) && flags & libc::CLONE_VFORK as u64 != 0
}

fn busy(tid: i32, cause: io::Error) -> DumpError {
    if cause.kind() != io::ErrorKind::TimedOut {
        return DumpError::task(tid, "wait until it stops")(cause);
    }
    let stat = procfs::read(&format!("/proc/{tid}/stat"));
    let state = stat.ok().as_deref().and_then(procfs::stat).map_or('?', |s| char::from(s.state));
    let reason = match state {
        'D' if waits_for_vfork(tid) => {
            "it waits for a child of vfork, which still uses its memory".to_owned()
        }
        'D' => "it is in an uninterruptible system call (state D)".to_owned(),
        // The next attempt finds it so.
        'Z' => "its first thread has just ended".to_owned(),
        other => format!("it does not react (state {other})"),
    };
    DumpError::Busy { pid: tid, reason }
}
