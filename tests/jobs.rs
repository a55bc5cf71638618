//! Trees that job control has stopped: a checkpoint leaves them so, and they come back so.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::process::Command;
use std::time::Instant;

use dump_common::{Victim, checkpoint, state};
use generations::{LIMIT, MODES, Run};
use usercr::image::{JobStop, TaskState};

fn send(pid: i32, signal: i32) {
    // SAFETY: a signal to a process of the test.
    unsafe { libc::kill(pid, signal) };
}

fn await_state(pid: i32, wanted: char) {
    let deadline = Instant::now() + LIMIT;
    while state(pid) != Some(wanted) {
        assert!(Instant::now() < deadline, "it is in state {:?}, not {wanted}", state(pid));
        std::thread::yield_now();
    }
}

#[test]
fn a_checkpoint_leaves_a_stopped_task_stopped() {
    let mut command = Command::new("sleep");
    let mut victim = Victim::start(command.arg("600"));
    victim.wait_asleep();
    send(victim.pid(), libc::SIGSTOP);
    await_state(victim.pid(), 'T');
    let image = checkpoint(victim.pid(), false).expect("checkpoint");
    assert_eq!(state(victim.pid()), Some('T'));
    let Some(TaskState::Live(live)) = image.body.tasks.first() else { panic!("no live task") };
    assert_eq!(live.job_stop.map(|stop| stop.signal), Some(libc::SIGSTOP));
    send(victim.pid(), libc::SIGCONT);
    await_state(victim.pid(), 'S');
    assert!(victim.runs());
}

#[test]
fn what_the_parent_was_told_is_in_the_image() {
    let mut command = Command::new("sleep");
    let victim = Victim::start(command.arg("600"));
    victim.wait_asleep();
    let stop = || {
        let image = checkpoint(victim.pid(), false).expect("checkpoint");
        match image.body.tasks.into_iter().next() {
            Some(TaskState::Live(live)) => live.job_stop,
            _ => panic!("no live task"),
        }
    };
    assert_eq!(stop(), None);
    send(victim.pid(), libc::SIGSTOP);
    await_state(victim.pid(), 'T');
    assert_eq!(stop(), Some(JobStop { signal: libc::SIGSTOP, untold: true }));
    // SAFETY: waits for a child; no status is wanted.
    let told = unsafe { libc::waitpid(victim.pid(), std::ptr::null_mut(), libc::WUNTRACED) };
    assert_eq!(told, victim.pid());
    assert_eq!(stop(), Some(JobStop { signal: libc::SIGSTOP, untold: false }));
}

/// The root leads its session: its group is an orphan, which only SIGSTOP stops.
#[test]
fn a_stopped_root_comes_back_stopped_and_goes_on() {
    for mode in MODES {
        let script = "echo begun; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
        let mut run = Run::start(Command::new("bash").args(["-c", script]));
        let lines = |run: &Run| run.output().lines().count();
        run.wait_for("output", |run| (lines(run) > 3).then_some(()));
        for _ in 0..2 {
            send(run.pid, libc::SIGSTOP);
            await_state(run.pid, 'T');
            run.checkpoint();
            if !run.restart(mode) {
                return;
            }
            await_state(run.pid, 'T');
            let before = lines(&run);
            send(run.pid, libc::SIGCONT);
            run.wait_for("more output", |run| (lines(run) > before + 3).then_some(()));
        }
        send(run.pid, libc::SIGKILL);
        run.wait_for_end();
        let output = run.output();
        let numbers = output.lines().skip(1).map(|line| line.parse::<usize>());
        for (expected, number) in (1..).zip(numbers) {
            assert_eq!(number, Ok(expected), "{output}");
        }
    }
}

/// The caller itself becomes the stopped task.
#[test]
fn a_caller_that_becomes_a_stopped_task_stops() {
    let mut command = Command::new("sleep");
    let victim = Victim::start(command.arg("600"));
    victim.wait_asleep();
    send(victim.pid(), libc::SIGSTOP);
    await_state(victim.pid(), 'T');
    let image = checkpoint(victim.pid(), true).expect("checkpoint");
    let path = victim.directory().join("image");
    std::fs::write(&path, &image.bytes).expect("write");
    let restart = victim.directory().join("restart");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_usercr"), &restart).expect("a link");
    let mut command = Command::new(&restart);
    command.arg("--self").stdin(std::fs::File::open(&path).expect("the image"));
    let mut child = command.spawn().expect("restart runs");
    let pid = child.id() as i32;
    await_state(pid, 'T');
    assert_eq!(generations::comm(pid).as_deref(), Some("sleep\n"));
    send(pid, libc::SIGCONT);
    await_state(pid, 'S');
    assert!(child.try_wait().expect("wait").is_none(), "it has ended");
    child.kill().expect("kill");
    child.wait().expect("wait");
}
