//! A terminal for the tree of a command: a new pseudo terminal, and a relay between it and the terminal of the
//! command, as script(1) and terminal emulators have it.
//!
//! Three processes, each of which ends with the one before. The first is the command's: it relays, and is what
//! the shell of the user sees, stops and ends. The second leads a session that the new terminal controls. The
//! third is in that session, in a process group of its own, and makes the restart (`Side::Tree`): tasks that
//! have their session from outside are in this one, and a group from outside is not an orphan in it, so that it
//! can be stopped.
#![forbid(unsafe_code)]

/// Between the two terminals.
mod passing;

/// What the processes tell each other.
mod words;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use super::{Given, Point};
use crate::error::{Error, RestartError, SysError};
use crate::sys::{process, session, terminal};
use words::Word;

/// Which process goes on.
#[derive(Debug)]
pub enum Side {
    /// The one that restarts the tree.
    Tree(Link),
    /// The one that was called, when the other has ended: how its tree has ended (format of wait(2)), or
    /// which signal has ended the relay; or the exit status of the other where that has failed.
    Caller(i32),
}

/// What the process that restarts the tree has of the others.
#[derive(Debug)]
pub struct Link {
    master: OwnedFd,
    relay: UnixStream,
    leader: UnixStream,
}

/// Makes the terminal and the processes. Only for a process with one thread, as a command is. In the process
/// that was called this returns when the tree has ended; the terminal is then as it was.
///
/// # Errors
/// ENXIO where this process has no terminal; those of fork(2) and of the calls that make terminals.
pub fn start() -> Result<Side, Error> {
    let own = own_terminal()?;
    let failed = |what: &'static str| move |e: io::Error| Error::from(SysError::new(what, e));
    let (master, slave) = terminal::pair().map_err(failed("make a terminal"))?;
    // What a tree starts with that did not have its terminal.
    let found = terminal::settings(&own).map_err(failed("read the settings of the terminal"))?;
    terminal::set_line(&slave, &found.termios).map_err(failed("set a terminal"))?;
    terminal::set_window(&slave, found.window).map_err(failed("set a terminal"))?;
    let (relay, tree) = UnixStream::pair().map_err(failed("make a socket"))?;
    let signals = passing::signals().map_err(failed("read signals"))?;
    session::reset(libc::SIGCHLD);
    match session::fork().map_err(failed("start a process"))? {
        Some(pid) => {
            drop((slave, tree));
            passing::relay(own, master, relay, signals, pid).map(Side::Caller)
        }
        None => {
            drop((own, relay, signals));
            lead(master, slave, tree).map(Side::Tree).map_err(failed("lead a session"))
        }
    }
}

/// The terminal of this process, opened anew, without waiting for what is not there.
fn own_terminal() -> Result<File, Error> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let inherited = || match terminal::device(io::stdin()) {
        Ok(_) => options.open("/proc/self/fd/0"),
        Err(e) => Err(e),
    };
    options.open("/dev/tty").or_else(|_| inherited()).map_err(|_| {
        let text = "this command has no terminal that could take the place of the tree's";
        RestartError::Terminal(text.to_owned()).into()
    })
}

/// In the second process: leads the session. Returns in the third.
fn lead(master: OwnedFd, slave: OwnedFd, relay: UnixStream) -> io::Result<Link> {
    session::lead()?;
    terminal::take(&slave)?;
    // What the terminal sends to the group of the restart is for the tree.
    session::ignore(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ]);
    let (mut own, leader) = UnixStream::pair()?;
    let Some(pid) = session::fork()? else {
        // Before anything is restarted, which may put another group there.
        session::group_of_its_own()?;
        terminal::set_foreground(&slave, session::own_group())?;
        return Ok(Link { master, relay, leader });
    };
    drop((master, relay, leader));
    while own.read_exact(&mut [0]).is_ok() {
        let result = terminal::give_up(&slave);
        let errno = result.err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
        if own.write_all(&errno.to_le_bytes()).is_err() {
            break;
        }
    }
    let status = process::reap(pid, true).ok().flatten().unwrap_or(0x100);
    session::exit(if status & 0x7f == 0 { status >> 8 & 0xff } else { 1 })
}

impl Link {
    /// The terminal for the tree, where `give_up` is [`Link::give_up`].
    pub fn given<'a>(&'a self, give_up: &'a dyn Fn() -> io::Result<()>) -> Given<'a> {
        Given { master: self.master.as_fd(), give_up }
    }

    /// Has the session of this process give the terminal up.
    ///
    /// # Errors
    /// Those of TIOCNOTTY; that the leader of the session has ended.
    pub fn give_up(&self) -> io::Result<()> {
        let mut errno = [0; 4];
        (&self.leader).write_all(&[1])?;
        (&self.leader).read_exact(&mut errno)?;
        match i32::from_le_bytes(errno) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Tells the relay how far the restart has come, for [`super::Observer`].
    pub fn observe(&self, point: Point, pids: &[i32]) {
        let root = pids.first().copied().unwrap_or(0);
        match point {
            Point::Ready => {
                let told = words::tell(&self.relay, Word::Ready);
                // It may be stopped, in the background: the programs wait until it has its terminal.
                let _ = told.and_then(|()| words::answer(&self.relay));
            }
            Point::Runs => {
                let _ = words::tell(&self.relay, Word::Runs(root));
            }
            _ => {}
        }
    }

    /// Tells the relay how the tree has ended, and waits until all that it has printed is on the screen.
    pub fn ended(self, status: i32) {
        let told = words::tell(&self.relay, Word::Ended(status));
        let _ = told.and_then(|()| words::answer(&self.relay));
    }
}
