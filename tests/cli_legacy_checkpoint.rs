//! The command linked as `checkpoint`: each option of the old program does what it says.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod dump_common;
#[path = "common/legacy.rs"]
mod legacy;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use dump_common::{Image, Victim};
use legacy::{command, end_of, text};
use tempfile::TempDir;

/// Header flag of an image that is no whole container.
const SUBTREE: u64 = 1;
/// Header flag of an image with network namespaces.
const NETNS: u64 = 2;

fn victim() -> Victim {
    let victim = Victim::start(Command::new("sleep").arg("1000"));
    victim.wait_asleep();
    victim
}

/// The old program with these options, on a process.
fn checkpoint(args: &[&str], pid: i32) -> Output {
    let mut command = command("checkpoint", args);
    command.arg(pid.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().unwrap()
}

/// As [`checkpoint`], which must fail with status 1 and put out nothing: its errors.
fn refused(args: &[&str], pid: i32) -> String {
    let done = checkpoint(args, pid);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{args:?}");
    text(&done.stderr)
}

/// As [`checkpoint`], which must succeed in silence: its output.
fn silent(args: &[&str], pid: i32) -> Vec<u8> {
    let done = checkpoint(args, pid);
    let errors = text(&done.stderr);
    assert_eq!((done.status.code(), errors.as_str()), (Some(0), ""), "{args:?}");
    done.stdout
}

fn path(place: &TempDir, name: &str) -> String {
    place.path().join(name).to_str().unwrap().to_owned()
}

fn names(place: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(place.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_image_goes_to_standard_output_and_the_tree_goes_on() {
    let mut victim = victim();
    let image = Image::parse(silent(&[], victim.pid()));
    assert_eq!(image.head.pids.numbers.first(), Some(&victim.pid()));
    assert_eq!(image.head.header.uflags, SUBTREE);
    assert!(victim.runs());
}

#[test]
fn output_is_a_new_file_of_ones_own_unless_forced() {
    let (place, victim) = (tempfile::tempdir().unwrap(), victim());
    let image = path(&place, "image");
    for option in ["-o", "--output"] {
        assert!(silent(&[option, &image], victim.pid()).is_empty(), "{option}");
        Image::parse(fs::read(&image).unwrap());
        assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&place), ["image"]);
        fs::remove_file(&image).unwrap();
    }
    fs::write(&image, "the old one").unwrap();
    let errors = refused(&["-o", &image], victim.pid());
    assert_eq!(errors, format!("checkpoint: {image}: File exists (os error 17)\n"));
    assert_eq!(fs::read_to_string(&image).unwrap(), "the old one");
    // What fails later leaves it alone even then.
    refused(&["-f", "-c", "-o", &image], victim.pid());
    assert_eq!(fs::read_to_string(&image).unwrap(), "the old one");
    assert_eq!(names(&place), ["image"]);
    for force in ["-f", "--force"] {
        silent(&[force, "-o", &image], victim.pid());
        Image::parse(fs::read(&image).unwrap());
        fs::write(&image, "the old one").unwrap();
    }
}

/// `checkpoint` with `redirection` of the shell to the file $2, of process $1.
fn with_shell(args: &str, redirection: &str, pid: i32, file: &str) -> Output {
    let script = format!("exec -a checkpoint \"$0\" {args} \"$1\" {redirection}");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_usercr"), &pid.to_string(), file]);
    end_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn output_may_be_a_descriptor() {
    let (place, victim) = (tempfile::tempdir().unwrap(), victim());
    let image = path(&place, "image");
    let done = with_shell("--output-fd=9", "9>\"$2\"", victim.pid(), &image);
    assert!(done.status.success() && done.stdout.is_empty(), "{}", text(&done.stderr));
    Image::parse(fs::read(&image).unwrap());
    let wrong = refused(&["--output-fd=99"], victim.pid());
    assert_eq!(wrong, "checkpoint: descriptor 99: Bad file descriptor (os error 9)\n");
    let both = refused(&["--output-fd=1", "-o", &path(&place, "other")], victim.pid());
    assert!(both.contains("cannot be used with"), "{both}");
    assert_eq!(names(&place), ["image"]);
    // A descriptor for reading.
    let done = with_shell("--output-fd=9", "9<\"$2\"", victim.pid(), &image);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("Bad file descriptor"), "{}", text(&done.stderr));
}

#[test]
fn the_log_has_what_is_done_and_why_it_failed() {
    let (place, victim) = (tempfile::tempdir().unwrap(), victim());
    let log = path(&place, "log");
    let read = || fs::read_to_string(&log).unwrap();
    for (option, verbose) in [("-l", "-v"), ("--logfile", "--verbose")] {
        silent(&[option, &log, verbose], victim.pid());
        assert!(read().contains("stopped 1 tasks\n"), "{verbose}: {}", read());
        fs::remove_file(&log).unwrap();
        silent(&[option, &log], victim.pid());
        assert_eq!(read(), "", "without {verbose}");
        let errors = refused(&["-l", &log], victim.pid());
        assert!(errors.contains("File exists"), "{errors}");
        let errors = refused(&["-f", "-c", option, &log], victim.pid());
        assert_eq!(read(), format!("the checkpoint failed: {errors}"));
        fs::remove_file(&log).unwrap();
    }
    let done = with_shell("-v --logfile-fd=9", "9>\"$2\" >/dev/null", victim.pid(), &log);
    assert!(done.status.success() && read().contains("stopped 1 tasks\n"), "{}", read());
    silent(&["-v"], victim.pid());
    let both = refused(&["-l", &log, "--logfile-fd=2"], victim.pid());
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn container_wants_an_init_and_netns_is_noted_in_the_image() {
    let victim = victim();
    for container in ["-c", "--container"] {
        let errors = refused(&[container], victim.pid());
        assert!(errors.contains("init"), "{container}: {errors}");
    }
    for netns in ["-N", "--netns"] {
        let image = Image::parse(silent(&[netns], victim.pid()));
        assert_eq!(image.head.header.uflags, SUBTREE | NETNS, "{netns}");
    }
}

#[test]
fn wrong_arguments_are_status_1() {
    let place = tempfile::tempdir().unwrap();
    let output = |args: &[&str]| command("checkpoint", args).output().unwrap();
    for wrong in [
        &[][..],
        &["0"],
        &["-1"],
        &["x"],
        &["1", "2"],
        &["--no-such", "1"],
        &["-x", "1"],
        &["--output-fd=-1", "1"],
        &["--logfile-fd=x", "1"],
        &["-o"],
    ] {
        let done = output(wrong);
        assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{wrong:?}");
        assert!(text(&done.stderr).starts_with("error: "), "{wrong:?}: {}", text(&done.stderr));
    }
    for option in ["-h", "--help"] {
        let done = output(&[option]);
        assert_eq!((done.status.code(), done.stderr.len()), (Some(0), 0), "{option}");
        assert!(text(&done.stdout).contains("Usage: checkpoint"), "{}", text(&done.stdout));
    }
    // Nobody has this pid; and the start of an option is enough.
    let image = path(&place, "image");
    let errors = refused(&["--forc", "-o", &image], i32::MAX);
    assert!(errors.contains(&i32::MAX.to_string()), "{errors}");
    assert!(names(&place).is_empty());
}

#[test]
fn what_checkpoint_saves_restart_brings_back() {
    let (place, victim) = (tempfile::tempdir().unwrap(), victim());
    let (image, pid) = (path(&place, "image"), victim.pid());
    silent(&["-o", &image], pid);
    drop(victim);
    let mut restart = command("restart", &["--pids", "--no-pidns", "-W", "-v", "-i", &image]);
    let done = restart.output().unwrap();
    let errors = text(&done.stderr);
    if errors.contains("not permitted") {
        eprintln!("skipped: restart: {errors}");
        return;
    }
    assert!(done.status.success(), "{errors}");
    assert_eq!(text(&done.stdout), format!("restarted 1 tasks, the first is {pid}\n"));
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    assert_eq!(name, "sleep\n");
}
