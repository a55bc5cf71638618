//! Arguments and help texts. The manual page `man/usercr.1` has the same words; a test compares them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Checkpoint and restart process trees
#[derive(Debug, Parser)]
#[command(name = "usercr", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the tree of an image: who forks whom, and why
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The image; - is standard input
    pub image: PathBuf,
    /// Print the plan as JSON, from the head of the image alone
    #[arg(long)]
    pub json: bool,
    /// Print the system calls that each task makes
    #[arg(long, conflicts_with = "json")]
    pub syscalls: bool,
    /// Plan for a new pid namespace
    #[arg(long)]
    pub pidns: bool,
    /// Plan for a system whose pids are below N [default: this system's limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(301..=4_194_304))]
    pub pid_max: Option<i32>,
}
