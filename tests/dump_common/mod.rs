//! Processes to checkpoint, and the way to an image's contents.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use usercr::dump::{self, Options};
use usercr::error::Error;
use usercr::image::{Body, ImageHead, Reader};
use usercr::report::Report;

/// A child that is killed and reaped at the end of a test.
pub struct Victim(Child);

impl Victim {
    /// Starts it in a session of its own, with no descriptors but those that `command` gives it.
    pub fn start(command: &mut Command) -> Victim {
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
        Victim(command.spawn().expect("the victim starts"))
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Waits until it is in a system call that sleeps.
    pub fn wait_asleep(&self) {
        let path = format!("/proc/{}/syscall", self.pid());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&path)
            .is_ok_and(|s| s.starts_with(|c: char| c.is_ascii_digit()))
        {
            assert!(Instant::now() < deadline, "the victim does not sleep");
            std::thread::yield_now();
        }
    }

    /// Whether it runs, and nobody traces it.
    pub fn runs(&mut self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let free = status.is_ok_and(|s| s.contains("TracerPid:\t0\n") && !s.contains("State:\tt"));
        free && self.0.try_wait().expect("wait").is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
        let mut reader = Reader::new(&bytes[..]);
        let head = reader.head().expect("the head can be read");
        let body = reader.body(&head).expect("the body can be read");
        Image { bytes, head, body }
    }
}

/// Checkpoints a tree that is to go on, or to end.
pub fn checkpoint(pid: i32, kill: bool) -> Result<Image, Error> {
    let mut file = tempfile::tempfile().expect("file");
    let report = Report { log: None, err: None, verbose: false, debug: false };
    let options = Options { output: file.as_fd(), container: false, flags: 1, kill, report };
    dump::checkpoint(pid, &options)?;
    let mut bytes = Vec::new();
    file.rewind().expect("rewind");
    file.read_to_end(&mut bytes).expect("read");
    Ok(Image::parse(bytes))
}
