//! Each kind of state comes back: a program makes it, and looks at it itself, in two generations: checkpoint,
//! kill, restart, look, checkpoint again, kill, restart again, look again. With the pids of the image, and in a
//! pid namespace. The programs are in `tests/state/`.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, cc, descendants};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks for an event.
const TICK: Duration = Duration::from_millis(1);

/// One test for each program of `tests/state/`, in order.
macro_rules! states {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { come_back(stringify!($name)); })*
    };
}

states! {
    credentials,
    deleted,
    eventfd,
    gone_leader,
    limits,
    memfd,
    pipes,
    posix_timers,
    settings,
    signalfd,
    signals,
    threads,
    timerfd,
    upgraded,
    zombies,
}

/// How to restart.
const MODES: [&[&str]; 2] = [&[], &["--pidns"]];

fn come_back(name: &str) {
    let program = build(name);
    for mode in MODES {
        let mut run = Run::start(&program);
        for generation in 1..=2 {
            run.checkpoint();
            if !run.restart(mode) {
                break;
            }
            run.look(generation);
        }
        run.end();
    }
}

fn build(name: &str) -> PathBuf {
    let sources = cc::top().join("tests/state");
    let program = cc::build_dir().join(name);
    let mut command = cc::cc();
    command.args(["-std=gnu11", "-pthread"]).arg("-o").arg(&program);
    cc::succeeds(command.arg(sources.join(name).with_extension("c")));
    program
}

/// A program of these, wherever it runs just now.
struct Run {
    folder: TempDir,
    victim: Option<Victim>,
    restart: Option<Child>,
    /// The root task.
    pid: i32,
}

impl Run {
    fn start(program: &PathBuf) -> Run {
        let folder = tempfile::tempdir().expect("a folder");
        let victim = Victim::start(Command::new(program).arg(folder.path()));
        let pid = victim.pid();
        let mut run = Run { folder, victim: Some(victim), restart: None, pid };
        run.wait_for("ready");
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits for a file of the program, and gives its text.
    fn wait_for(&mut self, name: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Ok(text) = fs::read_to_string(self.path(name)) {
                return text;
            }
            if let Ok(text) = fs::read_to_string(self.path("result.0")) {
                panic!("setup: {text}");
            }
            assert!(Instant::now() < deadline, "waited in vain for {name}{}", self.messages());
            std::thread::sleep(TICK);
        }
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.path("messages")).unwrap_or_default()
    }

    /// Checkpoints the tree and ends it.
    fn checkpoint(&mut self) {
        let image = self.path("image");
        let out = Command::new(env!("CARGO_BIN_EXE_usercr"))
            .args(["checkpoint", "--kill", &self.pid.to_string()])
            .arg(&image)
            .output();
        let out = out.expect("usercr runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let bytes = fs::read(&image).expect("the image");
        usercr::image::strict::check(&bytes[..]).expect("the image is as the format says");
        self.victim = None;
        self.wait_for_end();
    }

    /// Waits for the end of the restart command, if there is one.
    fn wait_for_end(&mut self) -> Option<ExitStatus> {
        let restart = self.restart.as_mut()?;
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = restart.try_wait().expect("wait") {
                break status;
            }
            assert!(Instant::now() < deadline, "the restart does not end");
            std::thread::sleep(TICK);
        };
        self.restart = None;
        Some(status)
    }

    /// Restarts it; false where the kernel does not let this user do it.
    fn restart(&mut self, mode: &[&str]) -> bool {
        let messages = File::create(self.path("messages")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
        command.arg("restart").args(mode).arg(self.path("image")).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        let mut child = command.spawn().expect("usercr runs");
        let deadline = Instant::now() + LIMIT;
        // In a namespace of its own the root task is the child of the init. All have the name of the command,
        // or of that init, until they are restored.
        let place = usize::from(mode.contains(&"--pidns"));
        let below = |child: &Child| {
            let pid = *descendants(child.id() as i32).get(place)?;
            comm(pid).is_some_and(|name| !name.starts_with("usercr")).then_some(pid)
        };
        let found = loop {
            if let Some(pid) = below(&child) {
                break Some(pid);
            }
            if let Some(status) = child.try_wait().expect("wait") {
                let messages = self.messages();
                if messages.contains("Operation not permitted") {
                    eprintln!("skipped: restart {mode:?}: {messages}");
                    break None;
                }
                panic!("restart {mode:?}: {status}: {messages}");
            }
            assert!(Instant::now() < deadline, "no task after the restart {mode:?}");
            std::thread::sleep(TICK);
        };
        self.restart = Some(child);
        self.pid = found.unwrap_or(0);
        found.is_some()
    }

    /// Lets the program check itself.
    fn look(&mut self, generation: u32) {
        File::create(self.path(&format!("go.{generation}"))).expect("a file");
        let said = self.wait_for(&format!("result.{generation}"));
        assert_eq!(said, "ok", "generation {generation}");
    }

    /// Lets the program end, and looks whether it ends well.
    fn end(mut self) {
        File::create(self.path("end")).expect("a file");
        if let Some(ended) = self.wait_for_end()
            && self.pid != 0
        {
            assert!(ended.success(), "{ended}: {}", self.messages());
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(mut restart) = self.restart.take() else { return };
        for pid in descendants(restart.id() as i32).into_iter().rev() {
            // SAFETY: a signal to a pid that was just seen below our child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = restart.kill();
        let _ = restart.wait();
    }
}

/// The command name of a process.
fn comm(pid: i32) -> Option<String> {
    let mut name = String::new();
    File::open(format!("/proc/{pid}/comm")).ok()?.read_to_string(&mut name).ok()?;
    Some(name)
}
