//! Asks the tasks what only they can tell: each runs a little code (`sys::remote`) in the unused end
//! of its vdso.
//!
//! Comes in: stopped threads with their registers. Goes out: their [`Answers`], the threads as they
//! were before. Never: anything that stays behind when the checkpointer dies; then the code runs on
//! by itself and puts everything back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::cpu::{Machine, settled};
use super::facts::Facts;
use super::interrupt;
use super::stop::{Thread, Tree};
use crate::error::DumpError;
use crate::sys::procfs::Mapping;
use crate::sys::ptrace::{Registers, Stop};
use crate::sys::remote::{self, ANSWERS, Answers, Job, TIMERS_MAX};
use crate::sys::vdso;

/// How long the few system calls may take in one task.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Processes that are asked at the same time: each needs a descriptor.
const BATCH: usize = 128;
/// Largest negated errno.
const LAST_ERRNO: u64 = -4095i64 as u64;

/// Everything about one live thread that the questions need.
pub(super) struct Subject<'a> {
    /// What /proc says.
    pub facts: &'a Facts,
    /// The stopped thread.
    pub thread: &'a Thread,
    /// Its registers and signal mask.
    pub machine: &'a Machine,
    /// Mappings of its process.
    pub maps: &'a [Mapping],
    /// POSIX timers of its process, where it is the leader.
    pub timers: &'a [i32],
    /// The vdso as the kernel made it.
    pub vdso: &'a [u8],
}

/// A thread that runs the code.
struct Session<'a> {
    subject: &'a Subject<'a>,
    /// The timers that it is asked about this time.
    timers: &'a [i32],
    memory: File,
    /// Where the code is.
    code: u64,
    /// What was there.
    before: Vec<u8>,
    /// The signal that makes the stops.
    signal: i32,
    /// Whether that signal also came from elsewhere, and means something to the task.
    kept_back: bool,
}

/// Asks all of `subjects`, which are in the order of the task table, and returns the answers in the
/// same order. Threads of one process are asked one after the other, processes at the same time; a task
/// with more POSIX timers than fit in its answers, again and again behind all others.
pub(super) fn ask(tree: &Tree, subjects: &[Subject<'_>]) -> Result<Vec<Answers>, DumpError> {
    let mut answers: Vec<Option<Answers>> = subjects.iter().map(|_| None).collect();
    let rounds = tree.processes.iter().map(|p| p.threads.len()).max().unwrap_or(0);
    let parts = |subject: &Subject<'_>| subject.timers.len().div_ceil(TIMERS_MAX).max(1);
    let more = subjects.iter().map(parts).max().unwrap_or(1) - 1;
    let mut by_round: Vec<Vec<(usize, usize)>> = vec![Vec::new(); rounds + more];
    for (at, subject) in subjects.iter().enumerate() {
        for part in 0..parts(subject) {
            let round = if part == 0 { subject.facts.place.thread } else { rounds + part - 1 };
            if let Some(round) = by_round.get_mut(round) {
                round.push((at, part));
            }
        }
    }
    for batch in by_round.iter().flat_map(|round| round.chunks(BATCH)) {
        interrupt::check()?;
        let mut sessions = Vec::with_capacity(batch.len());
        for &(at, part) in batch {
            if let Some(subject) = subjects.get(at) {
                let timers = subject.timers.chunks(TIMERS_MAX).nth(part).unwrap_or_default();
                sessions.push((at, begin(subject, timers)?));
            }
        }
        for (at, session) in &mut sessions {
            let told = session.answers()?;
            match answers.get_mut(*at) {
                Some(Some(answers)) => answers.timers.extend(told.timers),
                Some(slot) => *slot = Some(told),
                None => {}
            }
        }
        for (_, session) in sessions {
            session.end()?;
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// The mapping of the vdso.
pub(super) fn vdso(maps: &[Mapping]) -> Option<&Mapping> {
    maps.iter().find(|m| m.name == b"[vdso]")
}

/// Starts the code in one thread.
fn begin<'a>(subject: &'a Subject<'a>, timers: &'a [i32]) -> Result<Session<'a>, DumpError> {
    let facts = subject.facts;
    let tid = facts.tid;
    let path = format!("/proc/{}/mem", facts.tid);
    let memory = OpenOptions::new().read(true).write(true).open(&path);
    let memory = memory.map_err(DumpError::task(tid, format!("open {path}")))?;
    let (code, before) = find_place(subject, &memory)?;
    let signal = stop_signal(facts);
    let registers = settled(&subject.machine.registers);
    let last = |numbers: &[i32]| numbers.last().copied().unwrap_or(tid);
    let leads = facts.leads();
    let sigchld = 1u64 << (libc::SIGCHLD - 1);
    let job = Job {
        registers,
        mask: subject.machine.mask,
        actions: if leads { facts.status.caught | sigchld } else { 0 },
        timers,
        tgid: last(&facts.status.tgids),
        tid: last(&facts.status.pids),
        signal,
    };
    let failed = |what: &str| DumpError::task(tid, what.to_owned());
    let tracee = &subject.thread.tracee;
    memory.write_all_at(&job.bytes(), code).map_err(failed("write to its vdso"))?;
    // In this order, and in the reverse one at the end: the code puts back a mask, nothing else would.
    let start = Registers { rip: code, orig_rax: u64::MAX, ..registers };
    tracee.set_registers(&start).map_err(failed("set its registers"))?;
    tracee.set_signal_mask(!(1 << (signal - 1))).map_err(failed("block its signals"))?;
    tracee.resume(0).map_err(failed("let it run"))?;
    Ok(Session { subject, timers, memory, code, before, signal, kept_back: false })
}

/// Where the code can go in a task's vdso, and the bytes that belong there.
///
/// A task whose checkpointer has died may still have the code in its vdso, and even return to it from
/// a signal handler. So a place that is as the kernel made it is preferred.
fn find_place(subject: &Subject<'_>, memory: &File) -> Result<(u64, Vec<u8>), DumpError> {
    let refuse = |reason: &str| subject.facts.refuse("vdso", reason);
    let mapping = vdso(subject.maps).ok_or_else(|| refuse("the task has none"))?;
    let pristine = subject.vdso;
    let mut image = vec![0u8; pristine.len()];
    memory
        .read_exact_at(&mut image, mapping.start)
        .map_err(DumpError::task(subject.facts.tid, "read its vdso"))?;
    let mut chosen = None;
    for at in places(pristine) {
        let range = at..at + remote::size();
        let clean = image.get(range.clone()) == pristine.get(range);
        if clean || chosen.is_none() {
            chosen = Some(at);
        }
        if clean {
            break;
        }
    }
    let at = chosen.ok_or_else(|| refuse("it has no room behind its contents"))?;
    let before = pristine.get(at..at + remote::size()).unwrap_or_default().to_vec();
    Ok((mapping.start + at as u64, before))
}

/// Offsets in a vdso at which the code may be placed.
pub(super) fn places(pristine: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let size = remote::size().next_multiple_of(16);
    let first = vdso::contents_end(pristine).map_or(usize::MAX, |end| end as usize);
    let (first, length) = (first.min(pristine.len()).next_multiple_of(16), pristine.len());
    (first..length).step_by(size).filter(move |at| at + size <= length)
}

/// A signal that stops a traced task but does nothing to an untraced one: not caught, not blocked, and
/// ignored, if only by default. Where a program catches all of these, SIGURG, which programs have to
/// expect at any time.
fn stop_signal(facts: &Facts) -> i32 {
    let status = &facts.status;
    let ignored_by_default = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];
    let free = |signal: i32| (status.caught | status.blocked) & 1 << (signal - 1) == 0;
    let ignored = (1..=31).filter(|s| status.ignored & 1 << (s - 1) != 0);
    let usable = ignored_by_default.into_iter().chain(ignored).find(|&s| free(s));
    usable.unwrap_or(libc::SIGURG)
}

impl Session<'_> {
    fn failed(&self, what: &str) -> impl FnOnce(std::io::Error) -> DumpError + use<> {
        DumpError::task(self.subject.facts.tid, what.to_owned())
    }

    /// Waits until the code stops at `place`; returns the registers.
    fn wait(&mut self, place: u64) -> Result<Registers, DumpError> {
        let facts = self.subject.facts;
        let tid = facts.tid;
        let tracee = &self.subject.thread.tracee;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stop = tracee.wait_stop(deadline).map_err(self.failed("wait for its answers"))?;
            let deliver = match stop {
                Stop::Gone => {
                    let reason = "it has been killed".to_owned();
                    return Err(DumpError::Busy { pid: tid, reason });
                }
                Stop::Signal(signal) if signal == self.signal => {
                    let registers = tracee.registers();
                    let registers = registers.map_err(self.failed("read its registers"))?;
                    if registers.rip == self.code + place {
                        return Ok(registers);
                    }
                    self.kept_back = facts.status.caught & 1 << (signal - 1) != 0;
                    0
                }
                // Only SIGSTOP and what a fault forces get through the mask.
                Stop::Signal(libc::SIGSTOP) => libc::SIGSTOP,
                Stop::Signal(signal) => {
                    self.put_back()?;
                    let reason = format!("signal {signal} while it was asked for its state");
                    return Err(DumpError::Busy { pid: tid, reason });
                }
                _ => 0,
            };
            tracee.resume(deliver).map_err(self.failed("let it run"))?;
        }
    }

    /// The answers; afterwards the code runs to its end.
    fn answers(&mut self) -> Result<Answers, DumpError> {
        let registers = self.wait(remote::stops().answered)?;
        if registers.r12 >= LAST_ERRNO {
            let cause = std::io::Error::from_raw_os_error(registers.r12.wrapping_neg() as i32);
            return Err(self.failed("map a page in it")(cause));
        }
        let mut page = [0u8; ANSWERS];
        let read = self.memory.read_exact_at(&mut page, registers.r12);
        read.map_err(self.failed("read its answers"))?;
        self.subject.thread.tracee.resume(0).map_err(self.failed("let it run"))?;
        let refused = || self.subject.facts.refuse("the task", "it could not tell its state");
        Answers::parse(&page, self.timers.len()).ok_or_else(refused)
    }

    /// Waits for the end of the code and makes the thread what it was.
    fn end(mut self) -> Result<(), DumpError> {
        self.wait(remote::stops().done)?;
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), DumpError> {
        let machine = self.subject.machine;
        let tracee = &self.subject.thread.tracee;
        let failed = |what: &str| self.failed(what);
        tracee.set_signal_mask(machine.mask).map_err(failed("put back its signal mask"))?;
        tracee.set_registers(&machine.registers).map_err(failed("put back its registers"))?;
        self.memory.write_all_at(&self.before, self.code).map_err(failed("put back its vdso"))?;
        if self.kept_back {
            crate::sys::inspect::signal_thread(
                self.subject.facts.pid,
                self.subject.facts.tid,
                self.signal,
            )
            .map_err(failed("send it the signal that was kept back"))?;
        }
        Ok(())
    }
}
