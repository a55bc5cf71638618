//! Programs in a terminal that somebody outside of the tree holds are checkpointed with `--tty`, and go on in the
//! terminal in which `usercr restart --tty` is called.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;
mod outer_terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Instant;

use dump_common::cc;
use generations::{LIMIT, MODES};
use outer_terminal::Outer;
use tempfile::TempDir;

/// What the program of these tests says when it looks around.
const AS_BEFORE: &str =
    "terminals 11111 controlling 1 foreground 1 flags 11 cloexec 10 erase 35 one 1.";

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = cc::build_dir().join("tty_program");
        let mut command = cc::cc();
        command.arg("-std=gnu11").arg("-o").arg(&program);
        cc::succeeds(command.arg(cc::top().join("tests/outer_terminal/program.c")));
        program
    })
}

fn usercr() -> Command {
    Command::new(env!("CARGO_BIN_EXE_usercr"))
}

/// A command with a small environment, in this folder.
fn clean(mut command: Command, folder: &Path) -> Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TERM", "xterm").env("HOME", folder).env("PS1", "ready> ").current_dir(folder);
    command
}

/// An interactive shell in a terminal of its own.
fn shell(folder: &Path) -> Outer {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-i"]);
    let mut bash = Outer::start(&mut clean(bash, folder), 24);
    bash.await_text("ready> ");
    bash
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn checkpoint(args: &[&str], pid: i32, folder: &Path) -> Output {
    let mut command = usercr();
    command.arg("checkpoint").args(args).arg(pid.to_string()).arg(folder.join("image"));
    command.output().expect("usercr runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Saves the tree of a process with its terminal, and ends it.
fn save(pid: i32, folder: &Path) {
    let output = checkpoint(&["--kill", "--tty"], pid, folder);
    assert!(output.status.success(), "{}", errors(&output));
    let bytes = fs::read(folder.join("image")).expect("the image");
    usercr::image::strict::check(&bytes[..]).expect("the image is as the format says");
}

/// Restarts the image in a new terminal; None where the kernel does not let this user do it.
fn restart(mode: &[&str], folder: &Path, rows: u16) -> Option<Outer> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut command = usercr();
        command.args(["restart", "--tty"]).args(mode).arg(folder.join("image"));
        let mut outer = Outer::start(&mut clean(command, folder), rows);
        let raw = libc::ICANON | libc::ISIG;
        let begun = outer.wait_for("the restart", |outer| {
            let state = dump_common::state(outer.pid());
            match (outer.settings().0[3] & raw == 0, state) {
                (true, _) => Some(true),
                (_, Some('Z') | None) => Some(false),
                _ => None,
            }
        });
        if begun {
            return Some(outer);
        }
        let screen = outer.screen().to_owned();
        if screen.contains("Operation not permitted") {
            eprintln!("skipped: restart {mode:?}: {screen}");
            return None;
        }
        // Other tests fork all the time: one of their processes may have had a pid for a moment.
        assert!(screen.contains(" is taken") && Instant::now() < deadline, "{screen}");
    }
}

#[test]
fn a_program_that_a_shell_has_started() {
    for mode in MODES {
        let folder = folder();
        let mut outer = shell(folder.path());
        outer.type_in(&format!("{}\n", program().display()));
        outer.await_text("begun");
        let mut pid = outer.await_process("tty_program", &['S']);
        outer.type_in("look\n");
        outer.await_text(AS_BEFORE);
        let refused = checkpoint(&["--kill"], pid, folder.path());
        let text = errors(&refused);
        assert!(!refused.status.success() && text.contains("held by a process outside"), "{text}");
        assert!(
            text.contains("\nwith --tty the terminal of restart --tty takes its place"),
            "{text}"
        );
        for generation in 1..=2u16 {
            save(pid, folder.path());
            let Some(mut next) = restart(mode, folder.path(), 30 + generation) else { return };
            if generation == 1 {
                // The old terminal is as the shell has it.
                outer.await_text("ready> ");
            }
            drop(std::mem::replace(&mut outer, next));
            next = outer;
            next.await_text(&format!("size {}", 30 + generation));
            next.type_in("look\n");
            next.await_text(AS_BEFORE);
            pid = next.await_process("tty_program", &['S']);
            // Typed with a mistake: what erases a character was set by the program.
            next.type_in("wot#rd\n");
            next.await_text("got word");
            next.type_in("\u{3}");
            next.await_text("interrupted");
            next.resize(40);
            next.await_text("size 40");
            assert_eq!(next.count("interrupted"), 0, "{}", next.screen());
            outer = next;
        }
        outer.type_in("exit 42\n");
        assert_eq!(outer.wait_for_end().code(), Some(42), "{}", outer.screen());
        outer.await_raw(false);
    }
}
