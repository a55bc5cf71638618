//! `checkpoint`: cr_checkpoint for shells.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::super::run::end_as;
use super::super::{Failure, output};
use super::{Outcome, inherited, open_log};
use crate::ffi::{CHECKPOINT_NETNS, call, guard};
use crate::report::Report;

/// Write an image of a process and its descendants
#[derive(Debug, Parser)]
#[command(name = "checkpoint", version, max_term_width = 100)]
#[command(infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// Write the image to FILE, which is a new one, instead of to standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "output_fd")]
    output: Option<PathBuf>,
    /// Write the image to this descriptor
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    output_fd: Option<i32>,
    /// Write to FILE, which is a new one, what is being done and why it failed
    #[arg(short, long, value_name = "FILE", conflicts_with = "logfile_fd")]
    logfile: Option<PathBuf>,
    /// Write that to this descriptor
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    logfile_fd: Option<i32>,
    /// Write over an image and a log file that exist
    #[arg(short, long)]
    force: bool,
    /// The process must be the init of a pid namespace
    #[arg(short, long)]
    container: bool,
    /// Ask for network namespaces to be saved too
    #[arg(short = 'N', long)]
    netns: bool,
    /// Say in the log file what is being done
    #[arg(short, long)]
    verbose: bool,
    /// The root of the tree
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
}

pub fn run(args: &Arguments) -> Outcome {
    if let Some(status) = guard::guarded().map_err(Failure::file("start a process"))? {
        return Ok(end_as(status));
    }
    let (output, log) = (inherited(args.output_fd)?, inherited(args.logfile_fd)?);
    let log = open_log(args.logfile.as_ref(), args.force)?.or(log);
    let err = io::stderr();
    let report = Report {
        log: log.as_ref().map(AsFd::as_fd),
        err: Some(err.as_fd()),
        verbose: args.verbose,
        debug: false,
    };
    let flags = if args.netns { CHECKPOINT_NETNS } else { 0 };
    let write = |image: BorrowedFd<'_>| {
        let saved = call::checkpoint(args.pid, image, args.container, flags, &report);
        saved.map(drop).map_err(|_| Failure::Told)
    };
    match (&args.output, &output) {
        (Some(path), _) => output::to_file(path, args.force, write),
        (None, Some(fd)) => write(fd.as_fd()),
        (None, None) => output::to_stdout(write),
    }?;
    Ok(ExitCode::SUCCESS)
}
