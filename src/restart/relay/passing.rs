//! The relay: what is typed goes to the tree, what the tree prints to the screen, and so do sizes, stops, ends.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::words::{self, Word};
use crate::error::{Error, SysError};
use crate::sys::session::{Signals, own_group, poll};
use crate::sys::terminal::{self, TERMIOS_WORDS};
use crate::sys::{process, procfs};

/// Milliseconds between two looks at whether the root task is stopped.
const TICK: i32 = 100;
/// Most bytes that are under way in each direction.
const MOST: usize = 16384;
/// More bytes than a terminal can hold that nobody has read.
const HELD_MOST: usize = 256 << 10;
/// Signals that end the relay, once the terminal is as it was.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Blocks what the relay has to do something about, and reads it instead.
///
/// # Errors
/// Those of signalfd(2).
pub fn signals() -> io::Result<Signals> {
    let [a, b, c, d] = ENDING;
    Signals::read(&[a, b, c, d, libc::SIGWINCH, libc::SIGTSTP])
}

/// The terminal of the command while it is raw; dropped, it is as it was.
struct Raw<'a> {
    own: &'a File,
    before: [u32; TERMIOS_WORDS],
}

impl<'a> Raw<'a> {
    /// In the background this stops the command, until it is in the foreground.
    fn new(own: &'a File) -> io::Result<Raw<'a>> {
        let before = terminal::settings(own)?.termios;
        terminal::set_line(own, &terminal::raw(&before))?;
        Ok(Raw { own, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // In the background the terminal is somebody else's, who has set it by now.
        if terminal::foreground(self.own).is_ok_and(|group| group != own_group()) {
            return;
        }
        let _ = terminal::set_line(self.own, &self.before);
    }
}

struct Relay<'a> {
    own: &'a File,
    master: File,
    tree: UnixStream,
    signals: Signals,
    raw: Option<Raw<'a>>,
    /// The root task, once it runs.
    root: Option<i32>,
    typed: Vec<u8>,
    printed: Vec<u8>,
}

/// Relays until the tree has ended: its status; or the signal that has ended the relay. `pid` is the child
/// that all others are below.
///
/// # Errors
/// Those of the terminal.
pub fn relay(
    own: File,
    master: OwnedFd,
    tree: UnixStream,
    signals: Signals,
    pid: i32,
) -> Result<i32, Error> {
    let master = File::from(master);
    let mut relay = Relay {
        own: &own,
        master,
        tree,
        signals,
        raw: None,
        root: None,
        typed: Vec::new(),
        printed: Vec::new(),
    };
    let result = relay.run();
    let hung_up = !matches!(result, Ok(End::Tree(_) | End::Failed));
    // The terminal is as it was, and the tree's has hung up, before anybody is told.
    drop(relay);
    if hung_up {
        let _ = process::kill(pid, libc::SIGKILL);
    }
    let status = process::reap(pid, true)?.unwrap_or(0);
    match result.map_err(|e| SysError::new("relay between terminals", e))? {
        End::Tree(status) => Ok(status),
        End::Failed => Ok(status),
        End::Signal(signal) => Ok(signal),
    }
}

/// Why the relay ends.
enum End {
    /// The tree has ended, with this status.
    Tree(i32),
    /// The process that restarts has ended, and said why.
    Failed,
    /// This signal has come.
    Signal(i32),
}

impl Relay<'_> {
    fn run(&mut self) -> io::Result<End> {
        loop {
            let types = self.root.is_some() && self.typed.is_empty();
            let ready = poll(
                &[
                    (self.signals.as_fd(), true, false),
                    (self.tree.as_fd(), true, false),
                    (self.master.as_fd(), self.printed.is_empty(), !self.typed.is_empty()),
                    (self.own.as_fd(), types, !self.printed.is_empty()),
                ],
                TICK,
            );
            let [_, tree, master, own] = ready.try_into().unwrap_or([(false, false); 4]);
            while let Some(signal) = self.signals.next() {
                match signal {
                    libc::SIGWINCH => self.size()?,
                    libc::SIGTSTP => self.stop()?,
                    signal => return Ok(End::Signal(signal)),
                }
            }
            if tree.0
                && let Some(end) = self.hear()?
            {
                return Ok(end);
            }
            if master.0 {
                self.read_printed();
            }
            if own.1 && !self.show()? || own.0 && !self.read_typed()? {
                return Ok(End::Signal(libc::SIGHUP));
            }
            if master.1 {
                self.pass_typed();
            }
            if self.root.is_some_and(is_stopped) {
                self.stop()?;
            }
        }
    }

    /// What the process that restarts has to say.
    fn hear(&mut self) -> io::Result<Option<End>> {
        match words::hear(&self.tree) {
            Ok(Word::Ready) => {
                self.raw = Some(Raw::new(self.own)?);
                let _ = words::give_answer(&self.tree);
                Ok(None)
            }
            Ok(Word::Runs(root)) => {
                self.root = Some(root);
                self.draw_again()?;
                Ok(None)
            }
            Ok(Word::Ended(status)) => {
                self.finish()?;
                let _ = words::give_answer(&self.tree);
                Ok(Some(End::Tree(status)))
            }
            Err(_) => Ok(Some(End::Failed)),
        }
    }

    /// Shows all that was printed up to now. Reading tells truly that there is no more, also of what is under
    /// way; others of the tree may print on.
    fn finish(&mut self) -> io::Result<()> {
        let mut left = HELD_MOST;
        loop {
            while !self.printed.is_empty() {
                poll(&[(self.signals.as_fd(), true, false), (self.own.as_fd(), false, true)], -1);
                if self.signals.next().is_some_and(|signal| ENDING.contains(&signal)) {
                    return Ok(());
                }
                if !self.show()? {
                    return Ok(());
                }
            }
            self.read_printed();
            if self.printed.is_empty() || left == 0 {
                return Ok(());
            }
            left = left.saturating_sub(self.printed.len());
        }
    }

    fn read_printed(&mut self) {
        self.printed.resize(MOST, 0);
        // The leader of the session has the other end open too, whatever the tree does: an error is that there is
        // nothing more.
        let length = self.master.read(&mut self.printed).unwrap_or(0);
        self.printed.truncate(length);
    }

    /// False where the terminal of the command has hung up.
    fn show(&mut self) -> io::Result<bool> {
        let mut own = self.own;
        let result = own.write(&self.printed);
        self.printed.drain(..result.as_ref().map_or(0, |&length| length.min(self.printed.len())));
        goes_on(result)
    }

    /// False where the terminal of the command has hung up.
    fn read_typed(&mut self) -> io::Result<bool> {
        let mut own = self.own;
        self.typed.resize(MOST, 0);
        let result = own.read(&mut self.typed);
        self.typed.truncate(result.as_ref().copied().unwrap_or(0));
        goes_on(result)
    }

    fn pass_typed(&mut self) {
        match self.master.write(&self.typed) {
            Ok(length) => drop(self.typed.drain(..length.min(self.typed.len()))),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Nobody is there to take it.
            Err(_) => self.typed.clear(),
        }
    }

    /// Gives the terminal of the tree the size of that of the command.
    fn size(&self) -> io::Result<()> {
        if self.root.is_some() {
            terminal::set_window(&self.master, terminal::settings(self.own)?.window)?;
        }
        Ok(())
    }

    /// The screen shows something else: whoever draws on it does so again.
    fn draw_again(&self) -> io::Result<()> {
        let before = terminal::settings(&self.master)?.window;
        self.size()?;
        if terminal::settings(&self.master)?.window == before {
            self.signal_foreground(libc::SIGWINCH);
        }
        Ok(())
    }

    /// Best effort: a group of another user's is left alone.
    fn signal_foreground(&self, signal: i32) {
        if let Ok(group @ 2..) = terminal::foreground(&self.master) {
            let _ = process::kill(-group, signal);
        }
    }

    /// Stops the command, as the tree is; and has the tree go on when the command does.
    fn stop(&mut self) -> io::Result<()> {
        let was_raw = self.raw.take().is_some();
        self.signals.stop_group();
        if was_raw {
            self.raw = Some(Raw::new(self.own)?);
        }
        self.draw_again()?;
        self.signal_foreground(libc::SIGCONT);
        if let Some(root) = self.root {
            let _ = process::kill(root, libc::SIGCONT);
        }
        Ok(())
    }
}

/// Whether a terminal has not hung up, by the result of reading or writing.
fn goes_on(result: io::Result<usize>) -> io::Result<bool> {
    match result {
        Ok(length) => Ok(length != 0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether job control has stopped a process.
fn is_stopped(pid: i32) -> bool {
    let stat = procfs::read(&format!("/proc/{pid}/stat")).ok();
    stat.as_deref().and_then(procfs::stat).is_some_and(|stat| stat.state == b'T')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_has_hung_up_is_no_fault() {
        let (gone, own) = terminal::pair().expect("a terminal");
        let (master, _slave) = terminal::pair().expect("a terminal");
        let (tree, _other) = UnixStream::pair().expect("sockets");
        let own = File::from(own);
        let mut relay = Relay {
            own: &own,
            master: File::from(master),
            tree,
            signals: Signals::read(&[]).expect("signals"),
            raw: None,
            root: None,
            typed: Vec::new(),
            printed: b"text".to_vec(),
        };
        assert!(relay.show().expect("it is shown") && relay.printed.is_empty());
        drop(gone);
        relay.printed = b"more".to_vec();
        assert!(!relay.show().expect("nobody sees it"));
        assert!(!relay.read_typed().expect("nobody types"));
        // What the tree has ended with is told nevertheless.
        relay.finish().expect("an end");
    }
}
