//! A terminal with a command in it, as a terminal emulator has it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use crate::dump_common::descendants;
use crate::generations::{LIMIT, TICK, comm};

/// A command that leads the session of a terminal. All that is below it ends with it.
pub struct Outer {
    master: File,
    child: Child,
    screen: String,
    /// Bytes of the screen that were looked at.
    seen: usize,
}

impl Outer {
    pub fn start(command: &mut Command, rows: u16) -> Outer {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: rows, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two numbers to write to, no name, the usual settings, a size.
        let made = unsafe {
            let (name, line) = (std::ptr::null_mut(), std::ptr::null());
            libc::openpty(&raw mut master, &raw mut slave, name, line, &raw const size)
        };
        assert_eq!(made, 0, "a terminal");
        // SAFETY: both were just made for us.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for end in [&master.as_raw_fd(), &slave.as_raw_fd()] {
            // SAFETY: numbers only.
            unsafe { libc::fcntl(*end, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        // SAFETY: numbers only.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let end = || slave.try_clone().expect("a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        let lead = || {
            // SAFETY: system calls with plain numbers.
            unsafe {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
            }
            Ok(())
        };
        // SAFETY: only system calls are made after the fork.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().expect("the command starts");
        // The command keeps copies of the slave; here nobody may.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Outer { master, child, screen: String::new(), seen: 0 }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("it can be typed");
    }

    fn look(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.master.read(&mut bytes) {
                Ok(0) => return,
                Ok(length) => self.screen.push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Nothing there, or nobody.
                Err(_) => return,
            }
        }
    }

    /// Waits until this stands on the screen, behind what was looked at before.
    pub fn await_text(&mut self, wanted: &str) {
        let at = self.wait_for(wanted, |outer| outer.screen.get(outer.seen..)?.find(wanted));
        self.seen += at + wanted.len();
    }

    /// How often this stands on the screen, behind what was looked at before.
    pub fn count(&self, text: &str) -> usize {
        self.screen[self.seen..].matches(text).count()
    }

    pub fn wait_for<T>(&mut self, what: &str, found: impl Fn(&Outer) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.look();
            if let Some(found) = found(self) {
                return found;
            }
            let screen = &self.screen;
            assert!(Instant::now() < deadline, "waited in vain for {what}: {screen}");
            std::thread::sleep(TICK);
        }
    }

    /// Waits for a process with this name below the command, which is in one of these states.
    pub fn await_process(&mut self, name: &str, states: &[char]) -> i32 {
        self.wait_for(name, |outer| {
            let below = descendants(outer.pid());
            let is = |pid: i32| comm(pid).is_some_and(|comm| comm.trim() == name);
            let fits = |pid: i32| {
                crate::dump_common::state(pid).is_some_and(|state| states.contains(&state))
            };
            below.into_iter().find(|&pid| is(pid) && fits(pid))
        })
    }

    pub fn resize(&self, rows: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the size is valid.
        let set =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0, "the size");
    }

    /// The settings of the terminal: modes and control characters.
    pub fn settings(&self) -> ([u32; 4], [u8; 32]) {
        // SAFETY: zeros are a termios; it is valid for writing.
        let line = unsafe {
            let mut line: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.master.as_raw_fd(), &raw mut line), 0, "settings");
            line
        };
        ([line.c_iflag, line.c_oflag, line.c_cflag, line.c_lflag], line.c_cc)
    }

    /// Waits until the terminal passes everything on, or does not.
    pub fn await_raw(&mut self, raw: bool) {
        let flags = libc::ICANON | libc::ISIG | libc::ECHO;
        let is = |outer: &Outer| (outer.settings().0[3] & flags == 0) == raw;
        self.wait_for("the settings", |outer| is(outer).then_some(()));
    }

    /// Whether the command has not ended.
    pub fn is_running(&mut self) -> bool {
        self.look();
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for the end of the command.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.look();
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.screen);
            std::thread::sleep(TICK);
        }
    }

    /// What stood on the screen when it was looked at last.
    pub fn so_far(&self) -> &str {
        &self.screen
    }

    /// What stands on the screen.
    pub fn screen(&mut self) -> &str {
        self.look();
        &self.screen
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        for pid in descendants(self.pid()).into_iter().rev() {
            // SAFETY: a signal to a pid that was just seen below our child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
