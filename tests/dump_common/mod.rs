//! Processes to checkpoint, and the way to an image's contents.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../cc/mod.rs"]
pub mod cc;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use usercr::dump::{self, Options};
use usercr::error::Error;
use usercr::image::{Body, ImageHead, Reader, strict};
use usercr::report::Report;

/// How long anything in a test may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A tree that is killed and reaped at the end of a test.
pub struct Victim {
    child: Child,
    directory: TempDir,
}

impl Victim {
    /// Starts a program in a session of its own, with /dev/null as its only file.
    pub fn start(command: &mut Command) -> Victim {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Victim::start_with(command)
    }

    /// Starts a program in a session of its own, with no descriptors but those that `command` gives it.
    pub fn start_with(command: &mut Command) -> Victim {
        let alone = || {
            // SAFETY: two system calls with plain numbers.
            unsafe {
                libc::setsid();
                libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
            }
            Ok(())
        };
        // SAFETY: only system calls are made after the fork.
        unsafe { command.pre_exec(alone) };
        let child = command.spawn().expect("the victim starts");
        Victim { child, directory: TempDir::new().expect("a directory") }
    }

    /// Starts `victim.c` in one of its modes, and waits until it is ready.
    pub fn program(mode: &str) -> Victim {
        let directory = TempDir::new().expect("a directory");
        let mut command = Command::new(program());
        let third = if mode == "state" { "" } else { "result" };
        command.arg(mode).arg(directory.path().join("ready")).arg(directory.path().join(third));
        let mut victim = Victim::start(&mut command);
        victim.directory = directory;
        victim.wait_for("ready");
        victim
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Where it has its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the ready file says: words and values.
    pub fn told(&self) -> HashMap<String, String> {
        let text = fs::read_to_string(self.directory.path().join("ready")).expect("ready file");
        let pairs = text.lines().filter_map(|l| l.split_once(' '));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn wait_for(&mut self, name: &str) -> String {
        let path = self.directory.path().join(name);
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Ok(text) = fs::read_to_string(&path) {
                return text;
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none_or(|s| s.success()), "the victim ended: {ended:?}");
            assert!(Instant::now() < deadline, "the victim has not written {name}");
            std::thread::yield_now();
        }
    }

    /// Asks it to check itself; what it says.
    pub fn finish(&mut self) -> String {
        // SAFETY: a signal to a child that has not been reaped.
        unsafe { libc::kill(self.pid(), libc::SIGUSR1) };
        self.wait_for("result")
    }

    /// Waits until it is in a system call that sleeps.
    pub fn wait_asleep(&self) {
        let path = format!("/proc/{}/syscall", self.pid());
        let deadline = Instant::now() + LIMIT;
        let asleep = |s: String| s.starts_with(|c: char| c.is_ascii_digit());
        while !fs::read_to_string(&path).is_ok_and(asleep) {
            assert!(Instant::now() < deadline, "the victim does not sleep");
            std::thread::yield_now();
        }
    }

    /// Waits until it sleeps in pause(2) or vfork(2); the exit status of one that ends before.
    pub fn sleeps_or_ends(&mut self) -> Option<i32> {
        let path = format!("/proc/{}/syscall", self.pid());
        let deadline = Instant::now() + LIMIT;
        let numbers = [libc::SYS_pause, libc::SYS_vfork].map(|number| format!("{number} "));
        let asleep = |s: String| numbers.iter().any(|number| s.starts_with(number));
        while !fs::read_to_string(&path).is_ok_and(asleep) {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code().or(Some(-1));
            }
            assert!(Instant::now() < deadline, "the victim does not sleep");
            std::thread::yield_now();
        }
        None
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Whether it runs, and nobody traces it.
    pub fn runs(&mut self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let free = status.is_ok_and(|s| s.contains("TracerPid:\t0\n") && !s.contains("State:\tt"));
        free && self.child.try_wait().expect("wait").is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Its descendants are all in its session, or in that of a child; they have its directory.
        for pid in descendants(self.pid()).into_iter().rev() {
            // SAFETY: a signal to a pid that was just seen below our child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for this, which is about to be so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + 2 * LIMIT;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// The state letter of a process in /proc/PID/stat.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

/// All processes below `pid`.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&next) = all.get(at) {
        at += 1;
        let tasks = fs::read_dir(format!("/proc/{next}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|c| c.parse::<i32>().ok()));
        }
    }
    all.split_off(1)
}

/// The compiled `victim.c`.
fn program() -> PathBuf {
    cc::program("victim", "tests/dump_victim/victim.c")
}

/// An image that was written and read again.
#[derive(Debug)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub head: ImageHead,
    pub body: Body,
}

impl Image {
    pub fn parse(bytes: Vec<u8>) -> Image {
        // Whatever a test is about: no image may have what the format does not.
        strict::check(&bytes[..]).expect("the image is as the format says");
        let mut reader = Reader::new(&bytes[..]);
        let head = reader.head().expect("the head can be read");
        let body = reader.body(&head).expect("the body can be read");
        Image { bytes, head, body }
    }
}

/// Checkpoints a tree that is to go on, or to end.
pub fn checkpoint(pid: i32, kill: bool) -> Result<Image, Error> {
    checkpoint_as(pid, kill, false)
}

/// As [`checkpoint`]; of a whole container, if `container`.
pub fn checkpoint_as(pid: i32, kill: bool, container: bool) -> Result<Image, Error> {
    let mut file = tempfile::tempfile().expect("file");
    let report = Report { log: None, err: None, verbose: false, debug: false };
    let flags = u32::from(!container);
    let options = Options { output: file.as_fd(), container, flags, kill, terminal: false, report };
    dump::checkpoint(pid, &options)?;
    let mut bytes = Vec::new();
    file.rewind().expect("rewind");
    file.read_to_end(&mut bytes).expect("read");
    Ok(Image::parse(bytes))
}
