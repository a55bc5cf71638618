//! Pids of the image that somebody has.
//!
//! In: a plan. Out: nothing but time, or words. Never: a decision. Whether a pid can be had is for
//! clone3(2) to say; here those that are about to become free are waited for, and who has one is told.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::sys::process::{self, Numbers};
use crate::sys::procfs::{self, Stat};

/// How long what is left of ended processes is waited for: some inits reap only now and then.
const DEAD: Duration = Duration::from_secs(10);

/// How long processes that run are waited for: they may be about to end, by a SIGKILL just sent.
const ALIVE: Duration = Duration::from_millis(300);

/// Between two looks.
const TICK: Duration = Duration::from_millis(5);

/// Waits until nobody has the pids of the plan, as long as that may be soon.
///
/// A tree that was killed a moment ago has them until its last process has been reaped, even those of
/// its sessions and process groups.
pub fn wait_until_free(plan: &Plan) {
    // Without it clone3 says what it says.
    let Ok(numbers) = Numbers::new() else { return };
    let start = Instant::now();
    for pid in plan.tasks.iter().map(|task| task.pid) {
        while !numbers.is_free(pid) {
            let has = stat(pid).or_else(|| Some(member(pid)?.1));
            let limit = match has {
                // Nobody but this process can reap it, and it does not as long as it is in here.
                Some(stat) if is_dead(&stat) && stat.ppid == process::own_pid() => return,
                Some(stat) if !is_dead(&stat) => ALIVE,
                _ => DEAD,
            };
            if start.elapsed() > limit {
                return;
            }
            thread::sleep(TICK);
        }
    }
}

/// Who has a pid, in words; empty where it cannot be told.
pub fn holder(pid: i32) -> String {
    if let Some(stat) = stat(pid) {
        return format!(" by {}", words(&stat));
    }
    let Some((other, stat)) = member(pid) else {
        return " by a process that cannot be seen".to_owned();
    };
    let what = if stat.session == pid { "session" } else { "process group" };
    format!(" by the {what} of pid {other}, {}", words(&stat))
}

/// A process whose session or process group has the number `pid`: one that runs, where there is one.
fn member(pid: i32) -> Option<(i32, Stat)> {
    let all = processes().filter_map(|other| Some((other, stat(other)?)));
    let members = all.filter(|(_, stat)| stat.session == pid || stat.group == pid);
    members.min_by_key(|(_, stat)| is_dead(stat))
}

fn is_dead(stat: &Stat) -> bool {
    matches!(stat.state, b'Z' | b'X')
}

fn words(stat: &Stat) -> String {
    let name = String::from_utf8_lossy(&stat.comm).into_owned();
    format!("{name} (state {}, parent {})", char::from(stat.state), stat.ppid)
}

/// What /proc says about a process or thread; none where there is none.
pub fn stat(pid: i32) -> Option<Stat> {
    procfs::stat(&procfs::read(&format!("/proc/{pid}/stat")).ok()?)
}

/// Pids of the processes that can be seen.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
