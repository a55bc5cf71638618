//! `restart`: cr_restart for shells.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicI32;

use clap::Parser;

use super::super::Failure;
use super::super::run::end_as;
use super::conditions::Chosen;
use super::{Outcome, inherited, open_image, open_log, signals};
use crate::ffi::call;
use crate::report::Report;
use crate::restart::{Mode, Options};

/// Restart the process tree of an image
#[derive(Debug, Parser)]
#[command(name = "restart", version, max_term_width = 100)]
#[command(infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// Restart in a new pid namespace, with the pids of the image
    #[arg(short, long)]
    pidns: bool,
    /// Restart in this pid namespace (default)
    #[arg(short = 'P', long)]
    no_pidns: bool,
    /// Give the tasks the pids of the image, in a new pid namespace unless there is --no-pidns
    #[arg(long)]
    pids: bool,
    /// Become the only task of the image, instead of forking it
    #[arg(long = "self", conflicts_with = "no_pidns")]
    myself: bool,
    /// Change the root directory of the tasks to DIR
    #[arg(short, long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Send the tree SIG on SIGINT: a name without SIG, a number, or 0 for none
    #[arg(long, value_name = "SIG", value_parser = signals::parse)]
    signal: Option<i32>,
    /// Restart in a new mount namespace
    #[arg(long)]
    mntns: bool,
    /// Mount a new instance of devpts, in a new mount namespace
    #[arg(long)]
    mount_pty: bool,
    /// Wait until the root task has ended (default)
    #[arg(short, long)]
    wait: bool,
    /// Say how the root task ended
    #[arg(long)]
    show_status: bool,
    /// End as the root task ends
    #[arg(long)]
    copy_status: bool,
    /// End as soon as the tree runs
    #[arg(short = 'W', long, overrides_with_all = ["wait", "show_status", "copy_status"])]
    no_wait: bool,
    /// Restore security labels
    #[arg(short, long)]
    keeplsm: bool,
    /// Put the tasks into the freezer cgroup with this folder, and leave them frozen
    #[arg(short = 'F', long, value_name = "CGROUP")]
    freezer: Option<PathBuf>,
    /// Read the image from FILE instead of from standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "input_fd")]
    input: Option<PathBuf>,
    /// Read the image from this descriptor
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    input_fd: Option<i32>,
    /// Write to FILE, which is a new one, what is done step by step, and why it failed
    #[arg(short, long, value_name = "FILE", conflicts_with = "logfile_fd")]
    logfile: Option<PathBuf>,
    /// Write that to this descriptor
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    logfile_fd: Option<i32>,
    /// Write over a log file that exists
    #[arg(short, long)]
    force: bool,
    /// Look for error records in the image before restart(2) gets it
    #[arg(long)]
    inspect: bool,
    /// Say what is being done
    #[arg(short, long)]
    verbose: bool,
    /// Tell details, on standard error
    #[arg(short, long)]
    debug: bool,
    #[command(flatten)]
    conditions: Chosen,
}

pub fn run(args: &Arguments) -> Outcome {
    let (input, log) = (inherited(args.input_fd)?, inherited(args.logfile_fd)?);
    let image = match input {
        Some(fd) => fd,
        None => open_image(args.input.as_ref())?,
    };
    let log = open_log(args.logfile.as_ref(), args.force)?.or(log);
    let (root, freezer) = (text(args.root.as_ref())?, text(args.freezer.as_ref())?);
    let (out, err) = (io::stdout(), io::stderr());
    let interrupt = AtomicI32::new(args.signal.unwrap_or(-1));
    let options = Options {
        mode: mode(args),
        myself: args.myself,
        inspect: args.inspect,
        root: root.as_deref(),
        wait: !args.no_wait,
        mntns: args.mntns,
        mnt_pty: args.mount_pty,
        show_status: args.show_status,
        freezer: freezer.as_deref(),
        keep_frozen: args.freezer.is_some(),
        keep_lsm: args.keeplsm,
        engine_log: log.as_ref().map(AsFd::as_fd),
        warn: args.conditions.warn,
        fail: args.conditions.fail,
        interrupt: Some(&interrupt),
        report: Report {
            log: Some(out.as_fd()),
            err: Some(err.as_fd()),
            verbose: args.verbose,
            debug: args.debug,
        },
        ..Options::new(image.as_fd())
    };
    let restarted = call::restart(&options, args.copy_status).map_err(|_| Failure::Told)?;
    Ok(match restarted.status.filter(|_| args.copy_status) {
        Some(status) => end_as(status),
        None => ExitCode::SUCCESS,
    })
}

fn mode(args: &Arguments) -> Mode {
    match (args.pids, args.pidns) {
        (true, _) if args.no_pidns => Mode::Pids,
        (false, true) if args.no_pidns => Mode::NewPids,
        (false, false) => Mode::NewPids,
        _ => Mode::PidNs,
    }
}

/// As C has it.
fn text(path: Option<&PathBuf>) -> Result<Option<CString>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let text = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    text.map(Some).map_err(Failure::file(path.display()))
}
