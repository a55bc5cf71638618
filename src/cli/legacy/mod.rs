//! The command under a name of the old programs, with the options of that program.
//!
//! In: the arguments of the process. Out: what the old program put out, and its exit status.
#![forbid(unsafe_code)]

/// `ckptinfo`.
mod ckptinfo;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use super::Failure;

/// Runs the old program by whose name this one was called; `None` where it has a name of its own.
pub fn run() -> Option<Result<ExitCode, Failure>> {
    let name = env::args_os().next()?;
    match Path::new(&name).file_name()?.to_str()? {
        "ckptinfo" => Some(ckptinfo::run()),
        _ => None,
    }
}
