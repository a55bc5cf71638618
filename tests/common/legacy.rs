//! The command under an old name, and what the tests of those names share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// The command as it is when it was called by the name `name`.
pub fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.arg0(name).args(args).stdin(Stdio::null());
    command
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that must end within the limit has put out. It is killed where it does not.
pub fn end_of(child: Child) -> Output {
    let mut child = Killed(child);
    wait_until("the end of the command", || child.0.try_wait().expect("wait").is_some());
    let mut output =
        Output { status: child.0.wait().expect("wait"), stdout: Vec::new(), stderr: Vec::new() };
    if let Some(mut pipe) = child.0.stdout.take() {
        pipe.read_to_end(&mut output.stdout).expect("its output");
    }
    if let Some(mut pipe) = child.0.stderr.take() {
        pipe.read_to_end(&mut output.stderr).expect("its errors");
    }
    output
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
