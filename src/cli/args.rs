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
    /// Write an image of a process and its descendants
    Checkpoint(CheckpointArgs),
    /// Bring the tree of an image back, and end as its root task ends
    Restart(RestartArgs),
    /// Show the tree of an image: who forks whom, and why
    Plan(PlanArgs),
    /// Show what is in an image: tasks, memory, files, signals
    Info(InfoArgs),
    /// Write what a shell needs to complete the arguments
    Completions(CompletionsArgs),
    /// Show it work: start a tree that counts, checkpoint it, kill it, bring it back
    Demo,
    /// A process of the demo's tree
    #[command(hide = true)]
    DemoWorker {
        /// The process that reads what is counted; without it, a member that counts on request
        count_for: Option<u32>,
    },
}

#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// The root of the tree
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,
    /// The file to write; - is standard output
    pub image: PathBuf,
    /// End the tree once the image is complete, instead of letting it go on
    #[arg(long)]
    pub kill: bool,
    /// Save a terminal that is not the tree's own; the restart gives another in its place
    #[arg(long)]
    pub tty: bool,
    /// Say what is being done
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
pub struct RestartArgs {
    /// The image; - is standard input
    pub image: PathBuf,
    /// Print the pid of the root task and return as soon as the tree runs
    #[arg(long)]
    pub detach: bool,
    /// Give the tasks new pids, instead of those that they had
    #[arg(long, conflicts_with = "pidns")]
    pub new_pids: bool,
    /// Restart in a new pid namespace, where the pids that the tasks had are free
    #[arg(long)]
    pub pidns: bool,
    /// Give the tree the terminal of this command in place of one that was not its own
    #[arg(long, conflicts_with = "detach")]
    pub tty: bool,
    /// Say what is being done
    #[arg(short, long)]
    pub verbose: bool,
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
    /// Plan for a system whose pids are below N, instead of for this one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(301..=4_194_304))]
    pub pid_max: Option<i32>,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The image; - is standard input
    pub image: PathBuf,
    /// Print everything as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print every record with its fields
    #[arg(long, conflicts_with = "json")]
    pub records: bool,
    /// Fail where the image is not in every byte as the format says
    #[arg(long, conflicts_with = "json")]
    pub strict: bool,
    /// Draw the tree to FILE, as SVG; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "records", "strict"])]
    pub svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
    /// The command, under this or an old name
    #[arg(default_value = "usercr", value_parser = ["usercr", "restart", "checkpoint", "ckptinfo"])]
    pub name: String,
}
