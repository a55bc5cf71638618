//! SIGKILL to the coordinator, to the root and to every other task, at every point of a restart: nothing
//! is left, and a caller that lives on has its answer within a second.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use usercr::restart::{Mode, Observer, Options, Point, restart};

#[path = "common/family.rs"]
mod family;
#[path = "common/hand_made.rs"]
mod hand_made;
use family::{assert_nothing_left, family, leftovers};

/// Restarts of this program must not be taken for leftovers of each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const MODES: [Mode; 3] = [Mode::NewPids, Mode::Pids, Mode::PidNs];

fn descriptors() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|e| Some(std::fs::read_link(e.path()).ok()?.display().to_string()))
        .filter(|name| !name.contains("/proc/"))
        .collect();
    names.sort();
    names
}

#[test]
fn killing_any_task_fails_the_restart_and_leaves_nothing() {
    let _one = ONE_AT_A_TIME.lock();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = descriptors();
    for mode in MODES {
        for point in Point::ALL {
            // The sixth task of the plan is the ghost, which is to end after that point.
            for victim in 0..if point >= Point::Grouped { 5 } else { 6 } {
                let what = format!("{mode:?}, {point:?}, task {victim}");
                let image = family();
                let killed = Cell::new(None);
                let observe = |at: Point, pids: &[i32]| {
                    if at == point && pids.get(victim).is_some_and(|&pid| pid != 0) {
                        // SAFETY: a signal to a task of this test, which has not been reaped.
                        unsafe { libc::kill(pids[victim], libc::SIGKILL) };
                        killed.set(Some(Instant::now()));
                    }
                };
                let options = Options {
                    mode,
                    observer: Some(Observer(&observe)),
                    ..Options::new(image.as_fd())
                };
                let result = restart(&options);
                let Some(at) = killed.get() else {
                    // Nobody to kill yet: that restart is a good one, and is ended here.
                    let pid = result.unwrap_or_else(|e| panic!("{what}: {e}")).pid;
                    end(pid);
                    assert_nothing_left(std::process::id(), &what);
                    continue;
                };
                let error = result.map(|_| ()).expect_err(&what);
                assert!(at.elapsed() < Duration::from_secs(1), "{what}: took {:?}", at.elapsed());
                assert!(error.errno() > 0, "{what}: {error}");
                assert_nothing_left(std::process::id(), &what);
            }
        }
    }
    assert_eq!(descriptors(), before);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
}

/// Ends a tree whose root is our child: all in its namespace, or all that are found to run its code.
fn end(pid: i32) {
    let mut pids = vec![pid];
    for stat in leftovers(std::process::id()) {
        pids.extend(stat.split(' ').next().and_then(|p| p.parse::<i32>().ok()));
    }
    for pid in pids {
        // SAFETY: signals to tasks of this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    // SAFETY: a NULL status is allowed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
}

#[test]
fn killing_the_coordinator_leaves_nothing() {
    let _one = ONE_AT_A_TIME.lock();
    for mode in MODES {
        for point in Point::ALL {
            let what = format!("{mode:?}, {point:?}");
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "coordinator_that_stops", "--nocapture"])
                .env("USERCR_TEST_PID", std::process::id().to_string())
                .env("USERCR_TEST_MODE", format!("{mode:?}"))
                .env("USERCR_TEST_POINT", format!("{point:?}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let reached = lines.any(|line| line.unwrap().contains("reached"));
            assert!(reached, "{what}: the coordinator has not come so far");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_nothing_left(child.id(), &what);
        }
    }
}

/// The coordinator of the test above: runs only when that asks for it.
#[test]
fn coordinator_that_stops() {
    let (Ok(mode), Ok(point)) =
        (std::env::var("USERCR_TEST_MODE"), std::env::var("USERCR_TEST_POINT"))
    else {
        return;
    };
    let mode = MODES.into_iter().find(|m| format!("{m:?}") == mode).unwrap();
    let point = Point::ALL.into_iter().find(|p| format!("{p:?}") == point).unwrap();
    let image = family();
    let observe = |at: Point, _: &[i32]| {
        if at == point {
            println!("reached");
            std::io::stdout().flush().unwrap();
            let _ = std::io::stdin().read(&mut [0]);
        }
    };
    let options =
        Options { mode, observer: Some(Observer(&observe)), ..Options::new(image.as_fd()) };
    let _ = restart(&options);
}

#[test]
fn a_restarted_tree_outlives_its_coordinator() {
    let _one = ONE_AT_A_TIME.lock();
    for mode in MODES {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "coordinator_that_ends", "--nocapture"])
            .env("USERCR_TEST_PID", std::process::id().to_string())
            .env("USERCR_TEST_MODE", format!("{mode:?}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        let line = text.lines().find_map(|line| line.split_once("restarted "));
        let (_, pid) = line.unwrap_or_else(|| panic!("{mode:?}: {text}"));
        let alive = leftovers(0).len();
        // A SIGKILL on its way would be seen here: the coordinator has been reaped.
        let dying = leftovers(0).iter().filter(|stat| is_dying(stat)).count();
        end(pid.trim().parse().unwrap());
        assert_eq!((alive, dying), (5, 0), "{mode:?}");
        assert_nothing_left(0, &format!("{mode:?}"));
    }
}

fn is_dying(stat: &str) -> bool {
    let pid = stat.split(' ').next().unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = pending.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    pending.is_none_or(|set| set & (1 << (libc::SIGKILL - 1)) != 0)
}

/// The coordinator of the test above.
#[test]
fn coordinator_that_ends() {
    let Ok(mode) = std::env::var("USERCR_TEST_MODE") else { return };
    if std::env::var("USERCR_TEST_POINT").is_ok() {
        return;
    }
    let mode = MODES.into_iter().find(|m| format!("{m:?}") == mode).unwrap();
    let image = family();
    let options = Options { mode, ..Options::new(image.as_fd()) };
    println!("restarted {}", restart(&options).unwrap().pid);
}
