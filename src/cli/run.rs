//! `usercr checkpoint` and `usercr restart`.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::atomic::AtomicI32;

use super::args::{CheckpointArgs, RestartArgs};
use super::{Failure, open_image, output};
use crate::error::{DumpError, Error, PlanError, RestartError};
use crate::ffi::{call, guard};
use crate::report::Report;
use crate::restart::relay::{self, Link, Side};
use crate::restart::{Conditions, Mode, Observer};
use crate::{dump, restart};

pub fn checkpoint(args: &CheckpointArgs) -> Result<ExitCode, Failure> {
    if let Some(status) = guard::guarded().map_err(Failure::file("start a process"))? {
        return Ok(end_as(status));
    }
    let messages = io::stderr();
    let write = |output: BorrowedFd<'_>| {
        let report = report(messages.as_fd(), args.verbose);
        let options = dump::Options {
            output,
            container: false,
            flags: dump::SUBTREE,
            kill: args.kill,
            terminal: args.tty,
            report,
        };
        dump::checkpoint(args.pid, &options).map_err(|error| {
            let advice = checkpoint_advice(&error, args.tty);
            Failure::Advised { error, advice }
        })
    };
    if args.image.as_os_str() == "-" {
        output::to_stdout(write)?;
    } else {
        output::to_file(&args.image, true, write)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn restart(args: &RestartArgs) -> Result<ExitCode, Failure> {
    let messages = io::stderr();
    let image = open_image(&args.image)?;
    let link = match args.tty.then(relay::start).transpose()? {
        Some(Side::Caller(status)) => return Ok(end_as(status)),
        Some(Side::Tree(link)) => Some(link),
        None => None,
    };
    let give_up = || link.as_ref().map_or(Ok(()), Link::give_up);
    let observe = |point, pids: &[i32]| {
        if let Some(link) = &link {
            link.observe(point, pids);
        }
    };
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
        warn: Conditions::USUAL,
        terminal: link.as_ref().map(|link| link.given(&give_up)),
        interrupt: Some(&interrupt),
        observer: Some(Observer(&observe)),
        report: report(messages.as_fd(), args.verbose),
        ..restart::Options::new(image.as_fd())
    };
    let restarted = restart::restart(&options)
        .map_err(|error| Failure::Advised { advice: advice(&error, mode, args.tty), error })?;
    let Some(status) = restarted.status else {
        writeln!(io::stdout().lock(), "{}", restarted.pid).map_err(Failure::Output)?;
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(link) = link {
        link.ended(status);
        return Ok(ExitCode::SUCCESS);
    }
    Ok(end_as(status))
}

/// What may help, where a checkpoint has failed.
fn checkpoint_advice(error: &Error, tty: bool) -> &'static str {
    match error {
        Error::Dump(DumpError::Unsupported { reason, .. })
            if !tty && [dump::TERMINAL_OUTSIDE, dump::TERMINAL].contains(&reason.as_str()) =>
        {
            "\nwith --tty the terminal of restart --tty takes its place"
        }
        _ => "",
    }
}

/// What may help, where a restart of this kind has failed.
fn advice(error: &Error, mode: Mode, tty: bool) -> &'static str {
    match error {
        Error::Restart(RestartError::Terminal(_)) if !tty => {
            "\nwith --tty the terminal of this command takes its place"
        }
        Error::Plan(PlanError::Orphans { .. }) => "\nwith --pidns they get another parent in time",
        Error::Restart(
            RestartError::Credentials(_) | RestartError::Terminal(_) | RestartError::File { .. },
        ) => "",
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
pub fn end_as(status: i32) -> ExitCode {
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
