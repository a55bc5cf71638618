//! `usercr completions`: what a shell needs to complete the arguments.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;

use super::args::CompletionsArgs;
use super::{Failure, command, legacy_commands};

pub fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut known = legacy_commands().into_iter().chain([shown(&command())]);
    let mut text = Vec::new();
    if let Some(mut command) = known.find(|command| command.get_name() == args.name) {
        clap_complete::generate(args.shell, &mut command, &args.name, &mut text);
    }
    io::stdout().lock().write_all(&text).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// The command without its hidden subcommands, which completions would tell.
fn shown(command: &Command) -> Command {
    let subcommands = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    Command::new("usercr").version(env!("CARGO_PKG_VERSION")).subcommands(subcommands)
}
