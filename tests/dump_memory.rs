//! Memory that a checkpoint refuses, each kind by name; the tree goes on.
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use dump_common::{Victim, cc, checkpoint};
use usercr::sys::ptrace::{self, Tracee};

fn program() -> PathBuf {
    cc::program("memory", "tests/dump_victim/memory.c")
}

/// The program in one of its modes, asleep; None where the kernel has no such memory.
fn victim(mode: &[&str]) -> Option<Victim> {
    let mut command = Command::new(program());
    command.args(mode).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut victim = Victim::start_with(&mut command);
    match victim.sleeps_or_ends() {
        None => Some(victim),
        Some(77) => {
            eprintln!("skipped: the kernel has no memory of the kind {mode:?}");
            None
        }
        Some(other) => panic!("{mode:?} ended with {other}"),
    }
}

fn refused(mode: &[&str], text: &str, errno: i32) {
    let Some(mut victim) = victim(mode) else { return };
    let error = checkpoint(victim.pid(), false).expect_err("it was saved");
    let message = error.to_string();
    assert!(message.contains(text), "{mode:?}: {message:?} does not say {text:?}");
    assert_eq!(error.errno(), errno);
    assert!(victim.runs(), "{mode:?}");
}

#[test]
fn processes_that_share_their_memory() {
    let text = "its memory: it is shared with task 0, which is another process";
    refused(&["clone"], text, libc::ENOTSUP);
    refused(&["vfork"], "it waits for a child of vfork", libc::EBUSY);
}

#[test]
fn memory_of_other_kinds() {
    for (mode, text) in [
        ("ldt", "its memory: it has entries in a local descriptor table"),
        ("aio", "asynchronous I/O (io_setup)"),
        ("sealed", "it is sealed (mseal)"),
        ("secret", "secret memory cannot be saved"),
        ("userfault", "userfaultfd"),
    ] {
        refused(&[mode], text, libc::ENOTSUP);
    }
}

#[test]
fn breakpoints_that_a_debugger_has_left() {
    let mut command = Command::new("sleep");
    let mut victim = Victim::start(command.arg("600"));
    victim.wait_asleep();
    // A breakpoint at an address that is never reached, of its own thread: the first one, for code.
    let (pid, registers) = (victim.pid(), std::mem::offset_of!(libc::user, u_debugreg));
    let set = |register: usize, value: u64| {
        // SAFETY: numbers only.
        unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid, registers + 8 * register, value) }
    };
    let tracee = Tracee::seize(pid, ptrace::Options::NONE).expect("seize");
    tracee.interrupt().expect("interrupt");
    tracee.wait_stop(std::time::Instant::now() + std::time::Duration::from_secs(20)).expect("stop");
    let done = [set(0, 0x1000), set(7, 1)];
    tracee.detach(0).expect("detach");
    if done != [0, 0] {
        eprintln!("skipped: no debug registers here: {}", std::io::Error::last_os_error());
        return;
    }
    let error = checkpoint(pid, false).expect_err("it was saved");
    assert!(error.to_string().contains("a debugger has left breakpoints"), "{error}");
    assert_eq!(error.errno(), libc::ENOTSUP);
    assert!(victim.runs());
}
