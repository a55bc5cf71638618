//! Messages for a person, to the descriptors that the caller gave: `ulogfd` takes what `verbose` asks
//! for, `uerrfd` takes errors and what `debug` asks for. One line each; no descriptor, no message.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Where the messages of one call go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report<'a> {
    /// Takes verbose messages.
    pub log: Option<BorrowedFd<'a>>,
    /// Takes errors and debug messages.
    pub err: Option<BorrowedFd<'a>>,
    /// Whether verbose messages are wanted.
    pub verbose: bool,
    /// Whether debug messages are wanted.
    pub debug: bool,
}

impl Report<'_> {
    /// Something failed, or is wrong and was tolerated.
    pub fn error(&self, text: impl AsRef<str>) {
        log::error!("{}", text.as_ref());
        line(self.err, text.as_ref());
    }

    /// What failed, for those who keep a log apart from the errors.
    pub fn note(&self, text: impl AsRef<str>) {
        let number = |fd: Option<BorrowedFd<'_>>| fd.map(|fd| fd.as_raw_fd());
        if number(self.log) != number(self.err) {
            line(self.log, text.as_ref());
        }
    }

    /// What the caller asked for by itself, verbose or not.
    pub fn answer(&self, text: impl AsRef<str>) {
        log::info!("{}", text.as_ref());
        line(self.log, text.as_ref());
    }

    /// Progress, for those who asked for it.
    pub fn verbose(&self, text: impl AsRef<str>) {
        log::info!("{}", text.as_ref());
        if self.verbose {
            line(self.log, text.as_ref());
        }
    }

    /// Detail, for those who asked for it.
    pub fn debug(&self, text: impl AsRef<str>) {
        log::debug!("{}", text.as_ref());
        if self.debug {
            line(self.err, text.as_ref());
        }
    }
}

/// What an engine does, step by step, for those who gave a descriptor for its log.
pub fn engine(log: Option<BorrowedFd<'_>>, text: &str) {
    log::trace!("{text}");
    line(log, text);
}

/// A message that cannot be written is lost: there is nobody left to tell.
fn line(fd: Option<BorrowedFd<'_>>, text: &str) {
    let Some(fd) = fd else { return };
    let Ok(own) = fd.as_fd().try_clone_to_owned() else { return };
    let _ = File::from(own).write_all(format!("{text}\n").as_bytes());
}
