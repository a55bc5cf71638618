//! `usercr checkpoint` and `usercr restart`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::AtomicI32;

use super::args::{CheckpointArgs, RestartArgs};
use super::{Failure, open_image};
use crate::error::{Error, PlanError, RestartError};
use crate::ffi::call;
use crate::report::Report;
use crate::restart::{Conditions, Mode};
use crate::{dump, restart};

/// `cr_checkpoint_args.flags`: a subtree.
const SUBTREE: u32 = 1;

pub fn checkpoint(args: &CheckpointArgs) -> Result<ExitCode, Failure> {
    let messages = io::stderr();
    let write = |output: BorrowedFd<'_>| {
        let report = report(messages.as_fd(), args.verbose);
        let options =
            dump::Options { output, container: false, flags: SUBTREE, kill: args.kill, report };
        dump::checkpoint(args.pid, &options).map_err(Failure::from)
    };
    if args.image.as_os_str() == "-" {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            let refused = io::Error::other("an image is not written to a terminal");
            return Err(Failure::file("standard output")(refused));
        }
        write(stdout.as_fd())?;
    } else {
        NewFile::create(&args.image)?.fill(write)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file that takes its name when it is complete, so that a failure neither leaves half an image nor
/// costs the one that was there.
struct NewFile<'a> {
    file: File,
    name: &'a Path,
    /// Its name until then; none where `name` is no regular file, which is written to in place.
    unfinished: Option<PathBuf>,
}

impl<'a> NewFile<'a> {
    fn create(name: &'a Path) -> Result<NewFile<'a>, Failure> {
        if fs::metadata(name).is_ok_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(name);
            let file = file.map_err(Failure::file(name.display()))?;
            return Ok(NewFile { file, name, unfinished: None });
        }
        let mut unfinished = OsString::from(name);
        unfinished.push(format!(".{}.part", process::id()));
        let unfinished = PathBuf::from(unfinished);
        // An image holds all that the tasks had in memory: it is nobody else's business.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(Failure::file(unfinished.display()))?;
        Ok(NewFile { file, name, unfinished: Some(unfinished) })
    }

    fn fill(
        mut self,
        write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        write(self.file.as_fd())?;
        // From here on the unfinished file may be all that is left of a tree: it is never removed.
        match self.unfinished.take() {
            Some(path) => {
                let what = format!("rename {} to {}", path.display(), self.name.display());
                fs::rename(&path, self.name).map_err(Failure::file(what))
            }
            None => Ok(()),
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            // That it stays is not worth another message than the one about the failure.
            let _ = fs::remove_file(path);
        }
    }
}

pub fn restart(args: &RestartArgs) -> Result<ExitCode, Failure> {
    let messages = io::stderr();
    let image = open_image(&args.image)?;
    let interrupt = AtomicI32::new(-1);
    let mode = match (args.new_pids, args.pidns) {
        (true, _) => Mode::NewPids,
        (_, true) => Mode::PidNs,
        _ => Mode::Pids,
    };
    let options = restart::Options {
        mode,
        inspect: true,
        wait: !args.detach,
        warn: Conditions(Conditions::MNTPROC | Conditions::MNTPTY),
        interrupt: Some(&interrupt),
        report: report(messages.as_fd(), args.verbose),
        ..restart::Options::new(image.as_fd())
    };
    let restarted = restart::restart(&options)
        .map_err(|error| Failure::Restart { advice: advice(&error, mode), error })?;
    let Some(status) = restarted.status else {
        writeln!(io::stdout().lock(), "{}", restarted.pid).map_err(Failure::Output)?;
        return Ok(ExitCode::SUCCESS);
    };
    Ok(end_as(status))
}

/// What may help, where a restart of this kind has failed.
fn advice(error: &Error, mode: Mode) -> &'static str {
    match error {
        Error::Plan(PlanError::Orphans { .. }) => "\nwith --pidns they get another parent in time",
        Error::Restart(RestartError::Credentials(_)) => "",
        _ if mode != Mode::Pids => "",
        error if error.errno() == libc::EEXIST => {
            "\nwith --pidns the pids are free, with --new-pids they are not needed"
        }
        error if error.errno() == libc::EPERM => {
            "\nto choose pids CAP_CHECKPOINT_RESTORE is needed; --new-pids does without"
        }
        _ => "",
    }
}

/// Ends as the root task did: by the same signal at once, or with the exit status returned.
fn end_as(status: i32) -> ExitCode {
    call::end_like(status);
    match status & 0x7f {
        0 => ExitCode::from((status >> 8 & 0xff) as u8),
        // Ended by a signal that does not end this process: as shells put it.
        signal => ExitCode::from((0x80 + signal) as u8),
    }
}

fn report(messages: BorrowedFd<'_>, verbose: bool) -> Report<'_> {
    Report { log: Some(messages), err: Some(messages), verbose, debug: false }
}
