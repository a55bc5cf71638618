//! Signal state: actions, queues, timers, limits.
//!
//! Comes in: facts and answers of a task. Goes out: [`SigHand`], [`Signal`], [`Pending`].

use super::facts::Facts;
use super::gather::Details;
use super::stop::Thread;
use crate::error::DumpError;
use crate::image::{JobStop, Pending, SigAction, SigHand, Signal};
use crate::sys::procfs;
use crate::sys::ptrace::SigInfo;
use crate::sys::remote::Answers;

/// si_code of signals that POSIX timers send.
const SI_TIMER: i32 = -2;
/// si_code of signals that the kernel sends for no reason that siginfo tells.
const SI_KERNEL: i32 = 0x80;
const IGNORE: u64 = 1;

/// Actions of all signals. /proc tells which are ignored or caught, the task itself how.
pub(super) fn actions(facts: &Facts, answers: &Answers) -> SigHand {
    let mut actions = [SigAction::default(); 64];
    for (i, (action, told)) in actions.iter_mut().zip(answers.actions).enumerate() {
        let [handler, flags, restorer, mask] = told;
        *action = SigAction { handler, flags, restorer, mask };
        if facts.status.ignored & 1 << i != 0 {
            action.handler = IGNORE;
        }
    }
    SigHand { actions }
}

/// What the threads of a group share.
pub(super) fn group(
    facts: &Facts,
    thread: &Thread,
    answers: &Answers,
    details: &Details,
) -> Result<Signal, DumpError> {
    let nanos = |micros: u64| micros.saturating_mul(1000);
    Ok(Signal {
        rlimits: details.limits,
        itimers: answers.itimers.map(|(interval, left)| (nanos(left), nanos(interval))),
        pending: pending(facts, thread, true)?,
        terminal: None,
    })
}

/// Whether job control has stopped the group that this task leads, or has led since its first thread
/// ended. `all` are the facts of all tasks.
pub(super) fn job_stop(facts: &Facts, all: &[Facts]) -> Option<JobStop> {
    if !facts.leads() {
        return None;
    }
    let members = || all.iter().filter(|f| f.pid == facts.pid && !f.zombie);
    // Most groups have one thread: nobody else need be looked for.
    let alone = facts.stat.threads == 1;
    let signal = match facts.job_stop {
        Some(signal) => signal,
        None if alone => return None,
        None => members().find_map(|f| f.job_stop)?,
    };
    let continued = 1u64 << (libc::SIGCONT - 1);
    let pending = |f: &Facts| f.status.pending | f.status.shared_pending;
    if members().any(|f| pending(f) & continued != 0) {
        // It has come since we stopped the tree, and has ended this stop.
        return None;
    }
    // From Linux 5.18 on, the exit code of a stopped group is what waitpid(2) has not yet told. Before
    // that, it is taken for told, as a shell would have seen to it.
    let group = procfs::read(&format!("/proc/{}/stat", facts.pid)).ok();
    let untold = group.as_deref().and_then(procfs::stat).is_some_and(|s| s.exit_code == signal);
    let complete = members().all(|f| f.job_stop.is_some());
    Some(JobStop { signal, untold: untold || !complete })
}

/// Signals that wait for the thread, or for its group.
pub(super) fn pending(
    facts: &Facts,
    thread: &Thread,
    of_group: bool,
) -> Result<Pending, DumpError> {
    let status = &facts.status;
    let set = if of_group { status.shared_pending } else { status.pending };
    if set == 0 {
        return Ok(Pending::default());
    }
    let queue = thread.tracee.queued_signals(of_group);
    let queue = queue.map_err(DumpError::task(facts.tid, "read its pending signals"))?;
    Ok(Pending { set, queue: queue.iter().map(entry).collect() })
}

/// The kernel's siginfo as the image has it (format document 2.15).
fn entry(info: &SigInfo) -> [u8; 88] {
    let word = |at: usize| -> [u8; 4] { [info[at], info[at + 1], info[at + 2], info[at + 3]] };
    let mut entry = [0u8; 88];
    let mut put = |to: usize, from: usize, length: usize| {
        for i in 0..length {
            if let (Some(slot), Some(byte)) = (entry.get_mut(to + i), info.get(from + i)) {
                *slot = *byte;
            }
        }
    };
    let (signal, code) = (i32::from_ne_bytes(word(0)), i32::from_ne_bytes(word(8)));
    // Signal, errno, code.
    put(0, 0, 12);
    if code == SI_TIMER {
        // Timer, overruns; the value.
        put(24, 16, 4);
        put(32, 20, 4);
        put(44, 24, 4);
        put(48, 24, 8);
        return entry;
    }
    if code <= 0 || code >= SI_KERNEL {
        // Sender's pid and uid; the value of sigqueue(3).
        put(12, 16, 8);
        put(44, 24, 4);
        put(48, 24, 8);
        return entry;
    }
    match signal {
        libc::SIGCHLD => {
            // pid, uid; status; utime, stime.
            put(12, 16, 8);
            put(40, 24, 4);
            put(56, 32, 16);
        }
        libc::SIGILL | libc::SIGFPE | libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP => {
            put(72, 16, 8);
        }
        libc::SIGPOLL => {
            put(28, 16, 4);
            put(20, 24, 4);
        }
        _ => {
            put(12, 16, 8);
            put(44, 24, 4);
            put(48, 24, 8);
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: i32, code: i32, words: &[(usize, i32)]) -> SigInfo {
        let mut info = [0u8; 128];
        let mut put = |at: usize, v: i32| info[at..at + 4].copy_from_slice(&v.to_ne_bytes());
        put(0, signal);
        put(8, code);
        words.iter().for_each(|&(at, v)| put(at, v));
        info
    }

    fn at(entry: &[u8; 88], offset: usize) -> i32 {
        i32::from_ne_bytes(entry[offset..offset + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn each_kind_of_siginfo_lands_in_its_fields() {
        let queued = entry(&info(34, -1, &[(16, 7), (20, 8), (24, 9)]));
        assert_eq!([0, 8, 12, 16, 44, 48].map(|o| at(&queued, o)), [34, -1, 7, 8, 9, 9]);
        let child = entry(&info(17, 1, &[(16, 7), (24, 3), (32, 5), (40, 6)]));
        assert_eq!([12, 40, 56, 64].map(|o| at(&child, o)), [7, 3, 5, 6]);
        let fault = entry(&info(11, 1, &[(16, 77)]));
        assert_eq!((at(&fault, 72), at(&fault, 12)), (77, 0));
        let timer = entry(&info(14, SI_TIMER, &[(16, 7), (20, 8), (24, 9)]));
        assert_eq!([24, 32, 44, 48, 12].map(|o| at(&timer, o)), [7, 8, 9, 9, 0]);
    }
}
