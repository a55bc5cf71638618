//! The command under a name of the old programs, with the options of that program.
//!
//! In: the arguments of the process. Out: what the old program put out, and its exit status: 0, or 1
//! for whatever went wrong, wrong arguments included.
#![forbid(unsafe_code)]

/// `checkpoint`.
mod checkpoint;

/// `ckptinfo`.
mod ckptinfo;

/// `--warn-COND` and the like.
mod conditions;

/// `restart`.
mod restart;

/// Names of signals.
mod signals;

use std::env;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use super::Failure;
use crate::ffi::call;

/// What a run of the command comes to.
type Outcome = Result<ExitCode, Failure>;

/// Runs the old program by whose name this one was called, and tells that name; `None` where it has a
/// name of its own.
pub fn run() -> Option<(&'static str, Outcome)> {
    let name = env::args_os().next()?;
    match Path::new(&name).file_name()?.to_str()? {
        "restart" => Some(("restart", with_arguments(restart::run))),
        "checkpoint" => Some(("checkpoint", with_arguments(checkpoint::run))),
        "ckptinfo" => Some(("ckptinfo", with_arguments(ckptinfo::run))),
        _ => None,
    }
}

/// The command lines.
pub fn commands() -> [clap::Command; 3] {
    [
        restart::Arguments::command(),
        checkpoint::Arguments::command(),
        ckptinfo::Arguments::command(),
    ]
}

/// Hands the arguments of this process to `run`. Those that are wrong are told here.
fn with_arguments<T: Parser>(run: impl FnOnce(&T) -> Outcome) -> Outcome {
    match T::try_parse() {
        Ok(args) => run(&args),
        Err(told) => {
            // A failure to tell it can be told to nobody.
            let _ = told.print();
            Ok(if told.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

/// The descriptor that an option names by its number, if there is such an option. To be asked for before
/// any file is opened.
fn inherited(number: Option<i32>) -> Result<Option<OwnedFd>, Failure> {
    let Some(number) = number else { return Ok(None) };
    let fd = call::inherited(number);
    fd.map(Some).map_err(Failure::file(format_args!("descriptor {number}")))
}

/// A log file, if there is to be one; it may only take the place of another with `force`.
fn open_log(path: Option<&PathBuf>, force: bool) -> Result<Option<OwnedFd>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o644);
    let file = if force {
        options.create(true).truncate(true).open(path)
    } else {
        options.create_new(true).open(path)
    };
    Ok(Some(file.map_err(Failure::file(path.display()))?.into()))
}

/// The image: a file, or standard input.
fn open_image(path: Option<&PathBuf>) -> Result<OwnedFd, Failure> {
    super::open_image(path.map_or(Path::new("-"), PathBuf::as_path))
}
