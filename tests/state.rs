//! Each kind of state comes back: a program makes it, and looks at it itself, in two generations: checkpoint,
//! kill, restart, look, checkpoint again, kill, restart again, look again. With the pids of the image, and in a
//! pid namespace. The programs are in `tests/state/`.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dump_common::cc;
use generations::{MODES, Run};

/// One test for each program of `tests/state/`, in order.
macro_rules! states {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { come_back(stringify!($name)); })*
    };
}

states! {
    alarms,
    credentials,
    deleted,
    descriptors,
    async_signals,
    epoll,
    eventfd,
    futexes,
    gone_leader,
    inet,
    inotify,
    limits,
    locked,
    locks,
    memfd,
    memory,
    much_memory,
    names,
    only_paths,
    orphans,
    pending_threads,
    pidfds,
    pidfds_nested,
    pipes,
    place,
    socketpair,
    posix_timers,
    restartable,
    settings,
    shared_memory,
    signalfd,
    spaces,
    signals,
    stopped,
    sysv_memory,
    terminal,
    terminal_contents,
    threads,
    unix_names,
    timerfd,
    upgraded,
    zombies,
}

/// Programs that remember no pid, and look whether they come back with new ones too.
const ANY_PIDS: [&str; 2] = ["orphans", "pidfds"];

/// Programs with pid namespaces of their own, which come back in one only.
const NESTED: [&str; 1] = ["pidfds_nested"];

/// Programs that make pseudo terminals: `terminal` looks whether its own has its number again, which another must not have taken.
fn terminals_alone(name: &str) -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let has = name.starts_with("terminal");
    has.then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn come_back(name: &str) {
    let _alone = terminals_alone(name);
    let program = build(name);
    let modes = if NESTED.contains(&name) { &MODES[1..] } else { &MODES[..] };
    let new_pids = ANY_PIDS.contains(&name).then_some(&["--new-pids"][..]);
    for mode in modes.iter().copied().chain(new_pids) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(&program);
        command.arg(folder.path());
        let mut run = Run::start_in(folder, &mut command);
        wait_for_file(&mut run, "ready");
        if let Ok(what) = fs::read_to_string(run.path("skipped")) {
            eprintln!("skipped: {what}");
        }
        let _segment = Segment::of(&run);
        for generation in 1..=2 {
            run.checkpoint();
            if !run.restart(mode) {
                break;
            }
            look(&mut run, generation);
        }
        end(run);
    }
}

/// The System V shared memory whose id a program has written to the file `segment`; removed where the program
/// has not come to that.
struct Segment(Option<i32>);

impl Segment {
    fn of(run: &Run) -> Segment {
        Segment(fs::read_to_string(run.path("segment")).ok().and_then(|id| id.parse().ok()))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // SAFETY: no struct is needed.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

fn build(name: &str) -> PathBuf {
    cc::program(name, &format!("tests/state/{name}.c"))
}

/// Waits for a file of the program, and gives its text.
fn wait_for_file(run: &mut Run, name: &str) -> String {
    run.wait_for(name, |run| {
        if let Ok(text) = fs::read_to_string(run.path("result.0")) {
            panic!("setup: {text}");
        }
        fs::read_to_string(run.path(name)).ok()
    })
}

/// Lets the program check itself.
fn look(run: &mut Run, generation: u32) {
    File::create(run.path(&format!("go.{generation}"))).expect("a file");
    let said = wait_for_file(run, &format!("result.{generation}"));
    assert_eq!(said, "ok", "generation {generation}");
}

/// Lets the program end, and looks whether it ends well.
fn end(mut run: Run) {
    File::create(run.path("end")).expect("a file");
    if let Some(ended) = run.wait_for_end()
        && run.pid != 0
    {
        assert!(ended.success(), "{ended}: {}", run.messages());
    }
}
