//! Interactive programs in a terminal come back, twice, and take what is typed as if nothing had happened. The
//! terminal is held by a small program that is the root of the tree (`tests/terminals/driver.c`).
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dump_common::{cc, descendants, state};
use generations::{MODES, Run, comm, is_here};

fn driver() -> PathBuf {
    cc::program("driver", "tests/terminals/driver.c")
}

/// A program in a terminal.
struct Screen {
    run: Run,
    typed: u32,
    /// Bytes of the screen that were looked at.
    seen: usize,
}

impl Screen {
    fn start(command: &[&str]) -> Screen {
        let folder = tempfile::tempdir().expect("a folder");
        let mut start = Command::new(driver());
        start.arg(folder.path()).args(command);
        start.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        start.env("TERM", "xterm").env("HOME", folder.path()).env("PS1", "ready> ");
        Screen { run: Run::start_in(folder, &mut start), typed: 0, seen: 0 }
    }

    fn text(run: &Run) -> String {
        String::from_utf8_lossy(&fs::read(run.path("screen")).unwrap_or_default()).into_owned()
    }

    /// Types these characters, under their name only when they are all there.
    fn type_in(&mut self, text: &str) {
        self.typed += 1;
        let name = format!("type.{}", self.typed);
        fs::write(self.run.path("typing"), text).expect("a file");
        fs::rename(self.run.path("typing"), self.run.path(&name)).expect("a name");
    }

    /// Waits until this stands on the screen, behind what was looked at before.
    fn await_text(&mut self, wanted: &str) {
        let seen = self.seen;
        let place = |run: &Run| Screen::text(run).get(seen..)?.find(wanted);
        let at = self.run.wait_for(wanted, place);
        self.seen = seen + at + wanted.len();
    }

    /// Through one more checkpoint, when all that was printed has been read.
    fn live_on(&mut self, mode: &[&str]) -> bool {
        self.run.checkpoint();
        self.run.restart(mode)
    }

    /// Waits until a process of this name is in this state.
    fn await_process(&mut self, name: &str, wanted: char) {
        let is = |&pid: &i32| {
            comm(pid).is_some_and(|comm| comm.trim() == name) && state(pid) == Some(wanted)
        };
        self.run.wait_for(name, |run| descendants(run.pid).iter().any(is).then_some(()));
    }

    fn ends_well(mut self) {
        let ended = self.run.wait_for_end().expect("it was restarted");
        assert!(ended.success(), "{ended}: {}", Screen::text(&self.run));
    }
}

#[test]
fn bash_with_a_stopped_and_a_background_job() {
    for mode in MODES {
        let mut bash = Screen::start(&["bash", "--norc", "--noprofile", "-i"]);
        bash.await_text("ready> ");
        bash.type_in("sleep 1000\n");
        bash.await_text("sleep 1000");
        // Its job has the terminal when it sleeps.
        bash.run.wait_for("the job", |run| {
            let below = dump_common::descendants(run.pid);
            below
                .iter()
                .any(|&pid| generations::comm(pid).as_deref() == Some("sleep\n"))
                .then_some(())
        });
        bash.type_in("\u{1a}");
        bash.await_text("Stopped");
        bash.await_text("ready> ");
        bash.type_in("sleep 1001 &\n");
        bash.await_text("[2]");
        bash.await_text("ready> ");
        bash.type_in("typed before");
        bash.await_text("typed before");
        for generation in 1..=2 {
            if !bash.live_on(mode) {
                return;
            }
            // What was typed is still on the line: end it with a command of the next life.
            bash.type_in(&format!("\u{15}jobs; echo generation $(({generation} + 40))\n"));
            bash.await_text("Stopped");
            bash.await_text("sleep 1000");
            bash.await_text("Running");
            bash.await_text("sleep 1001");
            bash.await_text(&format!("generation {}", generation + 40));
            bash.await_text("ready> ");
        }
        bash.type_in("kill %2; fg %1\n");
        bash.await_text("sleep 1000\r\n");
        bash.run.wait_for("the job to go on", |run| {
            let stat =
                |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let below = dump_common::descendants(run.pid);
            let one =
                below.iter().map(|&pid| stat(pid)).filter(|s| s.contains("(sleep) S")).count();
            (one == 1).then_some(())
        });
        bash.type_in("\u{3}");
        bash.await_text("ready> ");
        bash.type_in("exit\n");
        let ended = bash.run.wait_for_end().expect("it was restarted");
        // 130: the last command was interrupted.
        assert_eq!(ended.code(), Some(130), "{}", Screen::text(&bash.run));
    }
}

#[test]
fn vim_with_a_text_that_is_not_saved() {
    if !is_here("vim") {
        return;
    }
    for mode in MODES {
        let mut vim = Screen::start(&["vim", "-u", "NONE", "-n", "text"]);
        vim.await_text("\"text\" [New");
        vim.type_in("ifirst line\n");
        vim.await_text("first line");
        for generation in 1..=2 {
            if !vim.live_on(mode) {
                return;
            }
            vim.type_in(&format!("line {generation}\n"));
            vim.await_text(&format!("line {generation}"));
        }
        vim.type_in("\u{1b}:wq\n");
        let folder = vim.run.path("text");
        vim.run.wait_for("the text", |_| fs::metadata(&folder).ok());
        let text = |run: &Run| fs::read_to_string(run.path("text")).ok().filter(|t| !t.is_empty());
        let text = vim.run.wait_for("the text", text);
        assert_eq!(text, "first line\nline 1\nline 2\n\n");
        vim.ends_well();
    }
}

#[test]
fn nano_with_a_text_that_is_not_saved() {
    if !is_here("nano") {
        return;
    }
    for mode in MODES {
        let mut nano = Screen::start(&["nano", "--ignorercfiles", "text"]);
        nano.await_text("Exit");
        nano.type_in("first line\r");
        nano.await_text("first line");
        for generation in 1..=2 {
            if !nano.live_on(mode) {
                return;
            }
            nano.type_in(&format!("line {generation}\r"));
            nano.await_text(&format!("line {generation}"));
        }
        // Write out, under the name that it has; exit.
        nano.type_in("\u{f}");
        nano.await_text("File Name to Write");
        nano.type_in("\r");
        nano.await_text("Wrote");
        nano.type_in("\u{18}");
        let text = fs::read_to_string(nano.run.path("text")).expect("the text");
        assert_eq!(text, "first line\nline 1\nline 2\n\n");
        nano.ends_well();
    }
}

#[test]
fn a_job_that_has_the_terminal() {
    for mode in MODES {
        let mut bash = Screen::start(&["bash", "--norc", "--noprofile", "-i"]);
        bash.await_text("ready> ");
        bash.type_in("cat\n");
        bash.await_process("cat", 'S');
        for line in ["one", "two"] {
            if !bash.live_on(mode) {
                return;
            }
            // Once as the echo of the terminal, once from cat.
            bash.type_in(&format!("{line}\n"));
            bash.await_text(&format!("{line}\r\n{line}\r\n"));
        }
        // The interrupt goes to the foreground group: the shell stays.
        bash.type_in("\u{3}");
        bash.await_text("ready> ");
        bash.type_in("echo status $?\n");
        bash.await_text("status 130");
        bash.type_in("exit 0\n");
        bash.ends_well();
    }
}

#[test]
fn a_stopped_vim_that_is_a_job_of_a_shell() {
    if !is_here("vim") {
        return;
    }
    for mode in MODES {
        let mut bash = Screen::start(&["bash", "--norc", "--noprofile", "-i"]);
        bash.await_text("ready> ");
        bash.type_in("vim -u NONE -n text\n");
        bash.await_text("[New");
        bash.type_in("iunsaved");
        bash.await_text("unsaved");
        bash.type_in("\u{1b}");
        bash.type_in("\u{1a}");
        bash.await_text("Stopped");
        bash.await_text("ready> ");
        for _ in 0..2 {
            if !bash.live_on(mode) {
                return;
            }
            bash.await_process("vim", 'T');
            bash.type_in("jobs\n");
            bash.await_text("[1]+  Stopped                 vim -u NONE -n text");
            bash.await_text("ready> ");
        }
        bash.type_in("fg\n");
        bash.await_text("unsaved");
        bash.type_in(":wq\n");
        bash.await_text("ready> ");
        let text = fs::read_to_string(bash.run.path("text")).expect("the text");
        assert_eq!(text, "unsaved\n");
        bash.type_in("exit 0\n");
        bash.ends_well();
    }
}
