//! Trees that go through several lives: checkpoint, kill, restart, and again.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::dump_common::{Victim, descendants};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks for an event.
pub const TICK: Duration = Duration::from_millis(1);

/// How to restart: with the pids of the image, and in a pid namespace.
pub const MODES: [&[&str]; 2] = [&[], &["--pidns"]];

/// A tree of processes that is checkpointed, ended and restarted; wherever it runs just now.
pub struct Run {
    folder: TempDir,
    victim: Option<Victim>,
    restart: Option<Child>,
    /// The root task; 0 where it could not be restarted.
    pub pid: i32,
}

impl Run {
    /// Starts a program in a session and a folder of its own; its output goes to the file `output`.
    pub fn start(command: &mut Command) -> Run {
        let folder = tempfile::tempdir().expect("a folder");
        Run::start_in(folder, command)
    }

    /// The same in this folder.
    pub fn start_in(folder: TempDir, command: &mut Command) -> Run {
        let output = File::create(folder.path().join("output")).expect("a file");
        let errors = output.try_clone().expect("a descriptor");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).current_dir(folder.path());
        let victim = Victim::start_with(command);
        let pid = victim.pid();
        Run { folder, victim: Some(victim), restart: None, pid }
    }

    /// Path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the program has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// Waits until `found` finds something.
    pub fn wait_for<T>(&mut self, what: &str, mut found: impl FnMut(&Run) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let end = self.has_ended();
            let (messages, output) = (self.messages(), self.output());
            // It may have been the last thing it did.
            if let Some(found) = found(self) {
                return found;
            }
            assert!(end.is_none(), "waited for {what}: {end:?}: {messages}{output}");
            assert!(Instant::now() < deadline, "waited in vain for {what}: {messages}{output}");
            std::thread::sleep(TICK);
        }
    }

    /// How the tree has ended, if it has.
    fn has_ended(&mut self) -> Option<ExitStatus> {
        match (&mut self.restart, &mut self.victim) {
            (Some(restart), _) => restart.try_wait().expect("wait"),
            (None, Some(victim)) => victim.has_ended(),
            (None, None) => None,
        }
    }

    /// What the restart had to say.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.path("messages")).unwrap_or_default()
    }

    /// Checkpoints the tree and ends it.
    pub fn checkpoint(&mut self) {
        let (done, errors) = self.try_checkpoint();
        assert!(done, "{errors}");
    }

    /// Whether the tree was checkpointed and ended, and what was said.
    fn try_checkpoint(&mut self) -> (bool, String) {
        let image = self.path("image");
        let out = Command::new(env!("CARGO_BIN_EXE_usercr"))
            .args(["checkpoint", "--kill", &self.pid.to_string()])
            .arg(&image)
            .output();
        let out = out.expect("usercr runs");
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        if !out.status.success() {
            return (false, errors);
        }
        let bytes = fs::read(&image).expect("the image");
        usercr::image::strict::check(&bytes[..]).expect("the image is as the format says");
        self.victim = None;
        self.wait_for_end();
        (true, errors)
    }

    /// Waits for the end of the restart command, if there is one.
    pub fn wait_for_end(&mut self) -> Option<ExitStatus> {
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
    pub fn restart(&mut self, mode: &[&str]) -> bool {
        let start = || {
            let messages = File::create(self.path("messages")).expect("a file");
            let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
            command.arg("restart").args(mode).arg(self.path("image")).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
            command.spawn().expect("usercr runs")
        };
        let mut child = start();
        let deadline = Instant::now() + LIMIT;
        // In a namespace of its own the root task is the child of the init. What restores it is still in its
        // memory until it goes on, and traces the tasks until all can.
        let place = usize::from(mode.contains(&"--pidns"));
        let below = |child: &Child| {
            let tree = descendants(child.id() as i32);
            let tasks = tree.get(place..)?;
            let pid = *tasks.first()?;
            let runs =
                fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| !maps.is_empty());
            (runs && tasks.iter().all(|&task| is_itself(task))).then_some(pid)
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
                // Other tests fork all the time: one of their processes may have had a pid for a moment.
                if messages.contains(" is taken") && Instant::now() < deadline {
                    child = start();
                    continue;
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

/// Whether a restarted process is nobody's any more; one that has ended is not either.
fn is_itself(pid: i32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut texts =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    !maps.contains("/memfd:usercr-vm")
        && texts.all(|text| !text.contains("TracerPid:") || text.contains("TracerPid:\t0\n"))
}

/// The command name of a process.
pub fn comm(pid: i32) -> Option<String> {
    let mut name = String::new();
    File::open(format!("/proc/{pid}/comm")).ok()?.read_to_string(&mut name).ok()?;
    Some(name)
}

/// Whether a program is there; says so where it is not.
pub fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
