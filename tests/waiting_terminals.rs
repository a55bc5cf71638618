//! What waits in the pseudo terminals of a tree is taken out and put back by a checkpoint, whatever happens to the checkpointer,
//! or refused by name. That it comes back is in `tests/state.rs`.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod image_common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use dump_common::{Victim, cc, checkpoint, descendants, wait_until};
use image_common::{join, split};
use usercr::image::{Waiting, records};

/// Moments at which the command is killed.
const MOMENTS: u64 = 100;

fn program() -> PathBuf {
    cc::program("waiting_terminals", "tests/dump_victim/terminals.c")
}

/// The program, when something waits in its terminals.
fn start(mode: &str) -> (tempfile::TempDir, Victim) {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let mut victim = Victim::start(Command::new(program()).arg(&told).arg(mode));
    wait_until("the terminals", || {
        assert_eq!(victim.has_ended(), None, "the program has ended");
        fs::read_to_string(&told).is_ok_and(|told| told == victim.pid().to_string())
    });
    victim.wait_asleep();
    (folder, victim)
}

/// Has the program look whether all is there.
fn check(victim: &mut Victim) -> ExitStatus {
    // SAFETY: a signal to a child that has not been reaped.
    unsafe { libc::kill(victim.pid(), libc::SIGUSR1) };
    let mut ended = None;
    wait_until("its end", || {
        ended = victim.has_ended();
        ended.is_some()
    });
    ended.expect("it has ended")
}

#[test]
fn a_checkpoint_leaves_everything() {
    let (_folder, mut victim) = start("");
    for _ in 0..10 {
        let image = checkpoint(victim.pid(), false).expect("a checkpoint");
        let ptys = &image.body.objects.ptys;
        let waiting = |pty: usize| &ptys[pty].waiting;
        assert_eq!(ptys.len(), 6);
        assert_eq!(waiting(0).input, b"one\n\x03\x11\n\xff?!twothr");
        assert_eq!(waiting(0).ends, [4, 10, 13, 13]);
        assert_eq!(waiting(0).output, b"hello\r\nworld\r\n");
        assert_eq!((waiting(1).input.as_slice(), waiting(1).ends.len()), (b"half".as_slice(), 0));
        assert_eq!((waiting(2).input.len(), waiting(2).ends.as_slice()), (0, [0].as_slice()));
        assert_eq!((waiting(3).input.len(), waiting(3).output.len()), (4000, 4050));
        assert_eq!(waiting(4).output, b"packet");
        assert_eq!(waiting(5).output, b"last words");
    }
    assert!(check(&mut victim).success());
}

#[test]
fn what_cannot_be_put_back_is_refused() {
    for (mode, expected) in [
        ("stopped", "14 bytes wait in the terminal to be read, and its output is stopped (ctrl-S)"),
        ("full", "4095 bytes wait in the terminal to be read, and there may be more behind them"),
        ("async", "14 bytes wait in the terminal to be read, and signals tell of them (O_ASYNC)"),
        (
            "status",
            "6 bytes wait in the terminal to be read, and a change of its settings to be told",
        ),
        ("ends", "1 bytes wait in the terminal to be read, and too many ends of files"),
        ("locked", "14 bytes wait in the terminal to be read, and its slave is locked"),
    ] {
        let (_folder, mut victim) = start(mode);
        let error = checkpoint(victim.pid(), false).expect_err("it was saved");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("descriptor "), "{mode}: {text}");
        assert_eq!(error.errno(), libc::ENOTSUP);
        assert!(check(&mut victim).success(), "{mode}");
    }
}

fn command(victim: &Victim, image: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.arg("checkpoint").arg(victim.pid().to_string()).arg(image);
    command.stdin(Stdio::null()).spawn().expect("the command starts")
}

#[test]
fn a_command_that_is_killed_leaves_everything() {
    let (folder, mut victim) = start("");
    let image = folder.path().join("image");
    let begin = Instant::now();
    assert!(command(&victim, &image).wait().expect("wait").success());
    let whole = begin.elapsed();
    for moment in 0..MOMENTS {
        let begin = Instant::now();
        let mut child = command(&victim, &image);
        // Not in order, as one that takes long makes the next ones different.
        let moment = whole.mul_f64((moment * 37 % MOMENTS) as f64 / MOMENTS as f64);
        while begin.elapsed() < moment {
            std::hint::spin_loop();
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    // This one waits for what was left by the last.
    checkpoint(victim.pid(), false).expect("a checkpoint");
    assert!(check(&mut victim).success());
}

/// The image with contents of the largest size that the format has: lines as they are for most, bytes, output, ends of files.
fn largest(image: &[u8]) -> Vec<u8> {
    let most = Waiting::INPUT_MOST;
    let mut changed = [0; 4];
    let mut all = split(image);
    for (number, payload) in &mut all {
        let kind = |kind: records::Kind| *number == kind.number;
        if kind(records::TTY_INPUT) && payload.len() == 4000 {
            payload.resize(most, 3);
            changed[0] += 1;
        } else if kind(records::TTY_INPUT) && payload == b"half" {
            payload.resize(most, b'h');
            changed[1] += 1;
        } else if kind(records::TTY_LINES) && *payload == [0; 4] {
            payload.resize(4 * most, 0);
            changed[2] += 1;
        } else if kind(records::TTY_OUTPUT) && payload.len() == 4050 {
            payload.resize(Waiting::OUTPUT_MOST, b'z');
            changed[3] += 1;
        }
    }
    assert_eq!(changed, [1; 4]);
    join(&all)
}

/// A command that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_largest_contents_have_room() {
    let (folder, victim) = start("");
    let image = checkpoint(victim.pid(), true).expect("a checkpoint");
    drop(victim);
    let path = folder.path().join("largest");
    fs::write(&path, largest(&image.bytes)).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.args(["restart", "--new-pids"]).arg(path).stdin(Stdio::null());
    let mut command = Killed(command.spawn().expect("the command starts"));
    // It waits for its signal again.
    let waits = format!("{} ", libc::SYS_rt_sigtimedwait);
    let runs = |pid: &i32| {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
        call.is_ok_and(|call| call.starts_with(&waits))
    };
    let mut task = None;
    wait_until("the end of the restart", || {
        assert_eq!(command.0.try_wait().expect("wait"), None);
        task = descendants(command.0.id() as i32).into_iter().find(runs);
        task.is_some()
    });
    let pid = task.expect("a task");
    let again = checkpoint(pid, true).expect_err("there may be more than that");
    assert!(again.to_string().contains("and there may be more behind them"), "{again}");
    // SAFETY: a signal to a task that has just been seen below our child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    command.0.wait().expect("wait");
}
