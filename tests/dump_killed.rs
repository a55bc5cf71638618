//! A checkpointer that is killed at any moment does no harm to the tree.

mod dump_common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, checkpoint};

/// Makes this test binary checkpoint a pid instead of testing.
const PID: &str = "USERCR_TEST_CHECKPOINT";
/// Checkpointers killed.
const ROUNDS: u32 = 150;

#[test]
#[ignore = "run by the other test, in a process of its own"]
fn checkpointer() {
    let pid = std::env::var(PID).expect("a pid").parse().expect("a number");
    checkpoint(pid, false).expect("checkpoint");
}

fn start_checkpointer(pid: i32) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().expect("path of the test binary"));
    command.args(["--exact", "checkpointer", "--ignored"]).env(PID, pid.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the checkpointer starts")
}

#[test]
fn the_tree_survives_the_death_of_its_checkpointer() {
    let mut victim = Victim::program("work");
    torment(&victim);
    check(&mut victim);
}

#[test]
fn a_stopped_tree_survives_it_and_stays_stopped() {
    let mut victim = Victim::program("work");
    let mut all = dump_common::descendants(victim.pid());
    all.push(victim.pid());
    let signal = |signal: i32| {
        for &pid in &all {
            // SAFETY: a signal to a process of the victim.
            unsafe { libc::kill(pid, signal) };
        }
    };
    signal(libc::SIGSTOP);
    let all_stopped = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(pid) = all.iter().find(|&&pid| dump_common::state(pid) != Some('T')) {
            assert!(Instant::now() < deadline, "process {pid} does not stop");
            std::thread::yield_now();
        }
    };
    all_stopped();
    torment(&victim);
    all_stopped();
    signal(libc::SIGCONT);
    check(&mut victim);
}

/// Kills checkpointers of this tree at many moments.
fn torment(victim: &Victim) {
    let begin = Instant::now();
    assert!(start_checkpointer(victim.pid()).wait().expect("wait").success());
    let whole = begin.elapsed();
    let mut finished = 0;
    for round in 0..ROUNDS {
        let mut child = start_checkpointer(victim.pid());
        let limit = Instant::now() + whole * round / ROUNDS;
        while Instant::now() < limit && child.try_wait().expect("wait").is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        finished += u32::from(child.wait().expect("wait").success());
    }
    assert!(finished < ROUNDS - 10, "only {} checkpoints were killed", ROUNDS - finished);
    assert!(whole < Duration::from_secs(10), "one checkpoint took {whole:?}");
}

/// Lets the tree check itself.
fn check(victim: &mut Victim) {
    // Whoever dies between a stop and the putting right of a call that only the stop has ended leaves
    // it so; signal(7) says of which calls that is to be expected.
    let result = victim.finish();
    assert!(matches!(result.as_str(), "ok" | "ok, but for EINTR"), "{result}");
}
