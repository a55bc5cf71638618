//! POSIX timers.
//!
//! Comes in: what /proc lists, and what the task has told of each. Goes out: [`PosixTimer`]s.

use std::collections::HashMap;

use super::collect::Processes;
use super::facts::Facts;
use crate::error::DumpError;
use crate::image::PosixTimer;
use crate::sys::procfs::Timer;
use crate::sys::remote::Answers;

/// The ids of the timers that each leader is to be asked about, by its pid. Timers that no image can
/// have are refused.
pub(super) fn ids(
    all: &[Facts],
    processes: &Processes,
) -> Result<HashMap<i32, Vec<i32>>, DumpError> {
    let mut found = HashMap::new();
    for facts in all.iter().filter(|f| f.leads() && !f.zombie) {
        let timers = processes.get(&facts.pid).map_or(&[][..], |p| &p.timers);
        if timers.is_empty() {
            continue;
        }
        for timer in timers {
            check(facts, timer)?;
        }
        found.insert(facts.pid, timers.iter().map(|t| t.id).collect());
    }
    Ok(found)
}

fn check(facts: &Facts, timer: &Timer) -> Result<(), DumpError> {
    let refuse = |reason: &str| facts.refuse(format!("POSIX timer {}", timer.id), reason);
    match clock(timer.clock) {
        None => Err(refuse("it measures the processor time of a task by its pid")),
        Some(libc::CLOCK_THREAD_CPUTIME_ID) if facts.stat.threads > 1 => {
            Err(refuse("it measures the processor time of one thread, and which cannot be told"))
        }
        Some(_) => Ok(()),
    }
}

/// The clock for timer_create(2). Processor time of the process or thread itself is told as that of pid 0.
fn clock(told: i32) -> Option<i32> {
    const OWN_PROCESS: i32 = -6;
    const OWN_THREAD: i32 = -2;
    match told {
        OWN_PROCESS => Some(libc::CLOCK_PROCESS_CPUTIME_ID),
        OWN_THREAD => Some(libc::CLOCK_THREAD_CPUTIME_ID),
        _ => (told >= 0).then_some(told),
    }
}

/// The timers of a process; `tasks` has the index in the task table of each thread.
pub(super) fn read(
    facts: &Facts,
    timers: &[Timer],
    answers: &Answers,
    tasks: &HashMap<i32, usize>,
) -> Result<Vec<PosixTimer>, DumpError> {
    let timer = |(timer, &(left, interval)): (&Timer, &(u64, u64))| {
        let thread = match timer.thread {
            None => None,
            Some(tid) => Some(*tasks.get(&tid).ok_or_else(|| {
                let object = format!("POSIX timer {}", timer.id);
                facts.refuse(object, "the thread that it signals has ended")
            })?),
        };
        let Timer { id, signal, notify, value, .. } = *timer;
        let clock = clock(timer.clock).unwrap_or(timer.clock);
        Ok(PosixTimer { id, clock, signal, notify, value, thread, left, interval })
    };
    timers.iter().zip(&answers.timers).map(timer).collect()
}
