//! The command `usercr`, on the public interface of the library.
//!
//! In: arguments. Out: text on standard output, errors on standard error, an exit status. Nothing is
//! decided here that a program which calls the library would have to decide again.
#![forbid(unsafe_code)]

/// Arguments, help texts.
mod args;

/// `usercr completions`.
mod completions;

/// A plan as a picture.
mod draw;

/// `usercr demo`.
mod demo;

/// `usercr info`.
mod info;

/// The names of the old programs.
mod legacy;

/// Where an image goes.
mod output;

/// `usercr plan`.
mod plan;

/// `usercr checkpoint` and `usercr restart`.
mod run;

/// Values from an image as text.
mod text;

/// The tree that the demo checkpoints.
mod worker;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::error::Error;
use args::{Arguments, Command};

/// What ends the command with status 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The library's word for it.
    #[error(transparent)]
    Library(#[from] Error),
    /// The same with what may help on a line of its own.
    #[error("{error}{advice}")]
    Advised {
        /// The library's word for it.
        error: Error,
        /// Empty, or a line break and the advice.
        advice: &'static str,
    },
    /// The library has said it already, on the descriptor that it was given.
    #[error("failed")]
    Told,
    /// A file of the command's own.
    #[error("{what}: {source}")]
    File {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody reads the output any more; or it cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// For `map_err`: what was done to which file.
    fn file(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::File { what: what.to_string(), source }
    }
}

/// Name of the command.
const NAME: &str = "usercr";

/// The command line that [`main`] takes, for whoever makes help or manual pages of it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The command lines that it takes under the names of the old programs.
pub fn legacy_commands() -> [clap::Command; 3] {
    legacy::commands()
}

/// Runs the command with the arguments of this process: its exit status.
pub fn main() -> ExitCode {
    let (name, result) = legacy::run().unwrap_or_else(|| (NAME, run(Arguments::parse().command)));
    match result {
        Ok(code) => code,
        // A reader that has seen enough, like head(1), is no failure.
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(failure) => {
            complain_as(name, failure);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Checkpoint(args) => run::checkpoint(&args),
        Command::Restart(args) => run::restart(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Demo => demo::run(),
        Command::DemoWorker { count_for } => worker::run(count_for),
    }
}

/// Opens an image; - is standard input.
fn open_image(path: &Path) -> Result<OwnedFd, Failure> {
    if path.as_os_str() == "-" {
        return io::stdin().as_fd().try_clone_to_owned().map_err(Failure::file("standard input"));
    }
    Ok(File::open(path).map_err(Failure::file(path.display()))?.into())
}

/// Says something on standard error. If that is closed there is nobody to tell.
fn complain(text: impl fmt::Display) {
    complain_as(NAME, text);
}

/// [`complain`] under another name.
fn complain_as(name: &str, text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{name}: {text}");
}
