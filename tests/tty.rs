//! Programs in a terminal that somebody outside of the tree holds are checkpointed with `--tty`, and go on in the
//! terminal in which `usercr restart --tty` is called.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;
mod outer_terminal;

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use dump_common::{Victim, cc};
use generations::{LIMIT, MODES, TICK, comm, is_here};
use outer_terminal::Outer;
use tempfile::TempDir;

/// What the program of these tests says when it looks around.
const AS_BEFORE: &str =
    "terminals 11111 controlling 1 foreground 1 flags 11 cloexec 10 erase 35 one 1.";

fn program() -> PathBuf {
    cc::program("tty_program", "tests/outer_terminal/program.c")
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

/// Waits until nobody has this pid.
fn await_gone(pid: i32) {
    let deadline = Instant::now() + LIMIT;
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "{pid} is still there: {:?}", comm(pid));
        std::thread::sleep(TICK);
    }
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

#[test]
fn a_shell_that_leads_the_session_of_its_terminal() {
    for mode in MODES {
        let folder = folder();
        let mut outer = shell(folder.path());
        let mut pid = outer.pid();
        outer.type_in("sleep 1000\n");
        outer.await_process("sleep", &['S']);
        outer.type_in("\u{1a}");
        outer.await_text("Stopped");
        outer.await_text("ready> ");
        outer.type_in("word=kept; cat\n");
        let mut job = outer.await_process("cat", &['S']);
        for generation in 1..=2u16 {
            save(pid, folder.path());
            if generation == 1 {
                outer.wait_for_end();
            }
            await_gone(pid);
            await_gone(job);
            let Some(next) = restart(mode, folder.path(), 30) else { return };
            outer = next;
            // A job has the terminal: it takes lines, and the interrupt, which the shell does not.
            pid = outer.await_process("bash", &['S']);
            job = outer.await_process("cat", &['S']);
            outer.type_in("line\n");
            outer.await_text("line\r\nline\r\n");
            outer.type_in("\u{3}");
            outer.await_text("ready> ");
            outer.type_in("jobs; stty size; echo $word $((40 + 2))\n");
            outer.await_text("Stopped");
            outer.await_text("sleep 1000");
            outer.await_text("30 80");
            outer.await_text("kept 42");
            outer.await_text("ready> ");
            outer.type_in("cat\n");
            job = outer.wait_for("cat", |outer| {
                let below = dump_common::descendants(outer.pid());
                let is = |pid: i32| comm(pid).is_some_and(|comm| comm == "cat\n");
                below.into_iter().find(|&pid| is(pid) && pid != job)
            });
            outer.type_in("typed before\n");
            outer.await_text("typed before\r\ntyped before\r\n");
        }
        // Job control goes on: the interrupt ends cat, and the stopped job comes to the foreground.
        outer.type_in("\u{3}");
        outer.await_text("ready> ");
        outer.type_in("fg\n");
        outer.await_text("sleep 1000");
        outer.await_process("sleep", &['S']);
        outer.type_in("\u{1a}");
        outer.await_text("Stopped");
        outer.await_text("ready> ");
        outer.type_in("fg\n");
        outer.await_process("sleep", &['S']);
        outer.type_in("\u{3}");
        outer.await_text("ready> ");
        outer.type_in("exit 9\n");
        assert_eq!(outer.wait_for_end().code(), Some(9), "{}", outer.screen());
        outer.await_raw(false);
    }
}

#[test]
fn an_editor_with_a_text_that_is_not_saved() {
    if !is_here("vim") {
        return;
    }
    for mode in MODES {
        let folder = folder();
        let mut outer = shell(folder.path());
        outer.type_in("vim -u NONE -n text\n");
        outer.await_text("[New");
        outer.type_in("ifirst line\n");
        outer.await_text("first line");
        let mut pid = outer.await_process("vim", &['S']);
        for generation in 1..=2 {
            save(pid, folder.path());
            let Some(next) = restart(mode, folder.path(), 30) else { return };
            outer = next;
            // It has drawn its screen again.
            outer.await_text("first line");
            outer.type_in(&format!("line {generation}\n"));
            outer.await_text(&format!("line {generation}"));
            pid = outer.await_process("vim", &['S']);
        }
        outer.type_in("\u{1b}:wq\n");
        assert_eq!(outer.wait_for_end().code(), Some(0), "{}", outer.screen());
        let text = fs::read_to_string(folder.path().join("text")).expect("the text");
        assert_eq!(text, "first line\nline 1\nline 2\n\n");
        outer.await_raw(false);
    }
}

/// An image of the program, which a shell had started; its pid.
fn saved_program(folder: &Path) -> i32 {
    let mut outer = shell(folder);
    outer.type_in(&format!("{}\n", program().display()));
    outer.await_text("begun");
    let pid = outer.await_process("tty_program", &['S']);
    save(pid, folder);
    outer.await_text("ready> ");
    pid
}

/// The command that restarts the image, as a shell takes it.
fn restart_line(folder: &Path) -> String {
    let image = folder.join("image");
    format!("{} restart --tty --new-pids {}\n", env!("CARGO_BIN_EXE_usercr"), image.display())
}

#[test]
fn a_job_of_a_shell_stops_and_goes_on_with_its_tree() {
    let folder = folder();
    saved_program(folder.path());
    let mut outer = shell(folder.path());
    let before = outer.settings();
    outer.type_in(&restart_line(folder.path()));
    outer.await_text("size 24");
    outer.type_in("one\n");
    outer.await_text("got one");
    outer.type_in("\u{1a}");
    outer.await_process("tty_program", &['T']);
    outer.await_text("Stopped");
    outer.await_text("ready> ");
    outer.type_in("echo still $((40 + 2))\n");
    outer.await_text("still 42");
    outer.await_text("ready> ");
    outer.resize(50);
    outer.type_in("fg\n");
    outer.await_text("size 50");
    outer.await_process("tty_program", &['S']);
    outer.type_in("two\n");
    outer.await_text("got two");
    outer.type_in("exit 5\n");
    outer.await_text("ready> ");
    outer.type_in("echo status $?\n");
    outer.await_text("status 5");
    outer.await_text("ready> ");
    assert_eq!(outer.settings(), before);
    // In the background it waits until it has the terminal.
    outer.type_in(&format!("{} &\n", restart_line(folder.path()).trim_end()));
    outer.await_process("usercr", &['T']);
    outer.await_text("ready> ");
    outer.type_in("\n");
    outer.await_text("Stopped");
    outer.await_text("ready> ");
    outer.type_in("fg\n");
    outer.await_text("size 50");
    outer.type_in("three\n");
    outer.await_text("got three");
    outer.type_in("exit 0\n");
    outer.await_text("ready> ");
}

#[test]
fn a_tree_that_was_stopped_goes_on_with_fg() {
    let folder = folder();
    let mut outer = shell(folder.path());
    outer.type_in(&format!("{}\n", program().display()));
    outer.await_text("begun");
    outer.type_in("\u{1a}");
    let pid = outer.await_process("tty_program", &['T']);
    outer.await_text("Stopped");
    save(pid, folder.path());
    outer.await_text("ready> ");
    outer.type_in(&restart_line(folder.path()));
    outer.await_text("Stopped");
    outer.await_process("tty_program", &['T']);
    outer.type_in("fg\n");
    outer.await_process("tty_program", &['S']);
    outer.type_in("look\n");
    // With an echo, which the shell did not have at its prompt; nor is that erase the program's.
    outer.await_text("look\r\n");
    outer.await_text(&AS_BEFORE.replace("erase 35", "erase 127"));
    outer.type_in("exit 0\n");
    outer.await_text("ready> ");
}

#[test]
fn a_program_in_the_process_group_of_others() {
    for mode in MODES {
        let folder = folder();
        // The shell is not interactive: what it starts is in its own group, which leads the session.
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(format!("trap : INT; {}; exit 3", program().display()));
        let mut outer = Outer::start(&mut clean(sh, folder.path()), 24);
        outer.await_text("begun");
        let pid = outer.await_process("tty_program", &['S']);
        save(pid, folder.path());
        let Some(mut outer) = restart(mode, folder.path(), 30) else { return };
        outer.await_text("size 30");
        outer.type_in("look\n");
        outer.await_text(AS_BEFORE);
        // One interrupt, not also one that the command passes on.
        outer.type_in("\u{3}");
        outer.await_text("interrupted");
        outer.type_in("one\n");
        outer.await_text("got one");
        assert_eq!(outer.count("interrupted"), 0, "{}", outer.screen());
        assert_eq!(outer.screen().matches("interrupted").count(), 1);
        // Nobody could continue the command, so it does not stop, and neither does the tree.
        outer.type_in("\u{1a}");
        outer.type_in("two\n");
        outer.await_text("got two");
        outer.type_in("exit 0\n");
        assert_eq!(outer.wait_for_end().code(), Some(0), "{}", outer.screen());
    }
}

#[test]
fn raw_bytes_pass_as_they_are_and_settings_are_those_of_the_image() {
    for mode in MODES {
        let folder = folder();
        let mut outer = shell(folder.path());
        outer.type_in(&format!("{}\n", program().display()));
        outer.await_text("begun");
        outer.type_in("raw\n");
        outer.await_text("raw\r\n");
        outer.type_in("a");
        outer.await_text("<97>");
        let pid = outer.await_process("tty_program", &['S']);
        save(pid, folder.path());
        let Some(mut outer) = restart(mode, folder.path(), 30) else { return };
        outer.await_text("size 30");
        outer.type_in("\u{3}\u{1a}\u{1c}\u{4}\r\u{13}\u{11}\u{7f}");
        outer.await_text("<3><26><28><4><13><19><17><127>");
        outer.type_in("q");
        outer.await_text("cooked\r\n");
        outer.type_in("look\n");
        outer.await_text(AS_BEFORE);
        outer.type_in("\u{4}");
        // The end of its input.
        assert_eq!(outer.wait_for_end().code(), Some(7), "{}", outer.screen());
    }
}

#[test]
fn a_signal_to_the_command_puts_the_terminal_back() {
    let folder = folder();
    saved_program(folder.path());
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let mut command = usercr();
        command.args(["restart", "--tty", "--new-pids"]).arg(folder.path().join("image"));
        let mut outer = Outer::start(&mut clean(command, folder.path()), 30);
        let before = outer.settings();
        outer.await_text("size 30");
        assert_ne!(outer.settings(), before);
        let below = dump_common::descendants(outer.pid());
        let program = outer.await_process("tty_program", &['S']);
        // SAFETY: a signal to a child that has not been reaped.
        unsafe { libc::kill(outer.pid(), signal) };
        let status = outer.wait_for_end();
        assert_eq!(status.signal(), Some(signal), "{status}: {}", outer.screen());
        assert_eq!(outer.settings(), before);
        // The tree's terminal has hung up, as if a window had been closed.
        await_gone(program);
        below.into_iter().for_each(await_gone);
    }
}

#[test]
fn who_is_ended_by_a_signal_ends_the_command_by_it() {
    let folder = folder();
    saved_program(folder.path());
    let mut outer = restart(&["--new-pids"], folder.path(), 30).expect("that needs no rights");
    let before = libc::ICANON | libc::ISIG;
    outer.await_text("size 30");
    outer.type_in("\u{1c}");
    assert_eq!(outer.wait_for_end().signal(), Some(libc::SIGQUIT), "{}", outer.screen());
    assert_eq!(outer.settings().0[3] & before, before);
}

#[test]
fn standard_input_will_do_where_the_command_has_no_terminal() {
    let folder = folder();
    saved_program(folder.path());
    let mut command = Command::new("setsid");
    command.args(["--wait", env!("CARGO_BIN_EXE_usercr"), "restart", "--tty", "--new-pids"]);
    command.arg(folder.path().join("image"));
    let mut outer = Outer::start(&mut clean(command, folder.path()), 30);
    outer.await_text("size 30");
    outer.type_in("look\n");
    outer.await_text(AS_BEFORE);
    outer.type_in("exit 6\n");
    assert_eq!(outer.wait_for_end().code(), Some(6), "{}", outer.screen());
    outer.await_raw(false);
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = folder();
    let pid = saved_program(folder.path());
    let image = folder.path().join("image");
    let run = |args: &[&str]| {
        let mut command = usercr();
        command.arg("restart").args(args).arg(&image).stdin(Stdio::null());
        let lead = || {
            // SAFETY: a system call without arguments.
            unsafe { libc::setsid() };
            Ok(())
        };
        // SAFETY: only a system call is made after the fork.
        unsafe { command.pre_exec(lead) };
        let output = command.output().expect("usercr runs");
        (output.status.code(), errors(&output))
    };
    let (status, text) = run(&["--new-pids"]);
    let wanted = format!(
        "usercr: task 0 (pid {pid}): descriptor 0: the terminal was not the tree's own, and none is \
         given\nwith --tty the terminal of this command takes its place\n"
    );
    assert_eq!((status, text), (Some(1), wanted));
    let (status, text) = run(&["--tty", "--new-pids"]);
    let wanted = "usercr: this command has no terminal that could take the place of the tree's\n";
    assert_eq!((status, text.as_str()), (Some(1), wanted));
    let (status, text) = run(&["--tty", "--detach"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("'--tty' cannot be used with '--detach'"), "{text}");
}

#[test]
fn a_failure_of_the_restart_is_told_in_a_terminal_that_is_as_it_was() {
    let folder = folder();
    let image = folder.path().join("image");
    fs::write(&image, "no image").expect("a file");
    let mut command = usercr();
    command.args(["restart", "--tty"]).arg(&image);
    let mut outer = Outer::start(&mut clean(command, folder.path()), 24);
    let before = outer.settings();
    assert_eq!(outer.wait_for_end().code(), Some(1));
    assert!(outer.screen().starts_with("usercr: image"), "{}", outer.screen());
    assert_eq!(outer.settings(), before);
}

#[test]
fn a_second_terminal_is_refused_by_name() {
    let folder = folder();
    let mut other = shell(folder.path());
    other.type_in("tty\n");
    let name = other.wait_for("its name", |outer| {
        let text = outer.so_far().split("/dev/pts/").nth(1)?.split_once(char::is_whitespace)?.0;
        Some(format!("/dev/pts/{text}"))
    });
    let mut outer = shell(folder.path());
    outer.type_in(&format!("{} 5<{name}\n", program().display()));
    outer.await_text("begun");
    let pid = outer.await_process("tty_program", &['S']);
    let output = checkpoint(&["--tty"], pid, folder.path());
    let text = errors(&output);
    let wanted = "its terminal is held by a process outside the tree, and so is that of descriptor";
    assert!(!output.status.success() && text.contains(wanted), "{text}");
    assert!(!text.contains("with --tty"), "{text}");
}

#[test]
fn a_console_that_controls_nobody() {
    const CONSOLE: &str = "/dev/tty10";
    let mut options = fs::File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let console = match options.open(CONSOLE) {
        Ok(console) if console.is_terminal() => console,
        other => return eprintln!("skipped: {CONSOLE}: {other:?}"),
    };
    drop(console);
    for mode in MODES {
        let folder = folder();
        let console = fs::File::options().read(true).write(true).open(CONSOLE).expect("a console");
        let mut cat = Command::new("cat");
        cat.stdin(console.try_clone().expect("a descriptor")).stdout(console);
        let victim = Victim::start_with(clean(cat, folder.path()).stderr(Stdio::null()));
        victim.wait_asleep();
        let refused = errors(&checkpoint(&[], victim.pid(), folder.path()));
        assert!(refused.contains("(/dev/tty10): terminals cannot be saved"), "{refused}");
        assert!(refused.contains("\nwith --tty the terminal"), "{refused}");
        save(victim.pid(), folder.path());
        drop(victim);
        let Some(mut outer) = restart(mode, folder.path(), 24) else { return };
        outer.type_in("line\n");
        outer.await_text("line\r\nline\r\n");
        outer.await_process("cat", &['S']);
        let info = usercr().arg("info").arg(folder.path().join("image")).output();
        let info = info.expect("usercr runs").stdout;
        assert!(String::from_utf8_lossy(&info).contains("terminal 0, from outside"));
        // It is in no group of that terminal: the command passes this on.
        outer.type_in("\u{3}");
        assert_eq!(outer.wait_for_end().signal(), Some(libc::SIGINT), "{}", outer.screen());
    }
}

#[test]
fn a_session_below_the_root_has_the_terminal_and_ends() {
    for mode in MODES {
        let folder = folder();
        let mut host = Command::new(program());
        host.arg("host");
        let mut outer = Outer::start(&mut clean(host, folder.path()), 24);
        outer.await_text("begun");
        save(outer.pid(), folder.path());
        outer.wait_for_end();
        let Some(mut outer) = restart(mode, folder.path(), 30) else { return };
        outer.await_text("size 30");
        outer.type_in("look\n");
        outer.await_text(AS_BEFORE);
        outer.type_in("exit 0\n");
        // The root task sleeps for a second after that, with a terminal that has hung up: the relay waits.
        let relay = outer.pid();
        let mut used = 0;
        while outer.is_running() {
            let stat = fs::read_to_string(format!("/proc/{relay}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
            let ticks =
                |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
            used = used.max(ticks(11) + ticks(12));
            std::thread::sleep(TICK);
        }
        assert!(used < 15, "{used} ticks");
        assert_eq!(outer.wait_for_end().code(), Some(11), "{}", outer.screen());
        outer.await_raw(false);
    }
}

#[test]
fn others_may_print_on_when_the_root_task_has_ended() {
    let folder = folder();
    let mut outer = shell(folder.path());
    let script = "while :; do echo on; done & read line; echo last; exit 4";
    outer.type_in(&format!("sh -c '{script}'\n"));
    outer.await_text("on\r\non\r\n");
    let pid = outer.wait_for("sh", |outer| {
        dump_common::descendants(outer.pid())
            .into_iter()
            .find(|&pid| comm(pid) == Some("sh\n".into()))
    });
    save(pid, folder.path());
    drop(outer);
    let mut outer = restart(&["--new-pids"], folder.path(), 30).expect("that needs no rights");
    outer.await_text("on\r\non\r\n");
    let below = dump_common::descendants(outer.pid());
    outer.type_in("\n");
    outer.await_text("last");
    assert_eq!(outer.wait_for_end().code(), Some(4));
    outer.await_raw(false);
    // The other has lost its terminal, and ends.
    below.into_iter().for_each(await_gone);
}
