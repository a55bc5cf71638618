//! `usercr checkpoint`, `restart` and `demo`, on a small tree that counts.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, cc};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// The three ways to restart.
const MODES: [&[&str]; 3] = [&[], &["--pidns"], &["--new-pids"]];

/// The exit status that the tree's root ends with.
const STATUS: i32 = 7;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn usercr(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    usercr(args).output().expect("usercr runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program that counts, built on first use.
fn program() -> PathBuf {
    cc::program("count", "c-tests/workloads/count.c")
}

/// A folder with the numbers that the tree writes, and with its image.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// Starts a tree that counts to `limit`, and waits until it does.
    fn start(&self, limit: u32) -> Victim {
        let numbers = File::create(self.path("numbers")).expect("a file");
        let mut command = Command::new(program());
        command.args([limit.to_string(), STATUS.to_string()]).current_dir(self.0.path());
        let victim =
            Victim::start_with(command.stdin(Stdio::null()).stdout(numbers).stderr(Stdio::null()));
        self.wait_for(3);
        victim
    }

    /// The last number; each was one more than the one before.
    fn last(&self) -> u32 {
        let text = fs::read_to_string(self.path("numbers")).expect("the numbers");
        let lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        lines.lines().fold(0, |last, line| {
            assert_eq!(line, (last + 1).to_string(), "after {last}");
            last + 1
        })
    }

    fn wait_for(&self, number: u32) {
        wait_until("the count to go on", || self.last() >= number);
    }

    /// A tree that counts to `limit`, checkpointed and killed: its pid.
    fn saved(&self, limit: u32) -> i32 {
        let victim = self.start(limit);
        let pid = victim.pid();
        let done = output(&["checkpoint", &pid.to_string(), &self.path("image"), "--kill"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let image = fs::read(self.path("image")).expect("the image");
        usercr::image::strict::check(&image[..]).expect("the image is as the format says");
        pid
    }
}

/// `usercr restart` under way; killed with its tree where a test fails.
struct Restart(Child);

impl Restart {
    fn start(place: &Place, args: &[&str]) -> Restart {
        let mut command = usercr(&["restart", &place.path("image")]);
        let child = command.args(args).stderr(Stdio::piped()).process_group(0).spawn();
        Restart(child.expect("usercr runs"))
    }

    /// Waits for its end; None where the kernel does not let this user do it.
    fn end(mut self, mode: &[&str]) -> Option<ExitStatus> {
        let mut status = None;
        wait_until("the end of the restart", || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        let mut errors = String::new();
        if let Some(mut pipe) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut pipe, &mut errors).expect("its messages");
        }
        if errors.contains("Operation not permitted") {
            eprintln!("skipped: restart {mode:?}: {errors}");
            return None;
        }
        assert!(errors.is_empty(), "{errors}");
        status
    }
}

impl Drop for Restart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: i32, number: i32) {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0, "signal {number} to {pid}");
}

/// Whether a process is there and has not ended.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_restart_ends_with_the_exit_status_of_the_root() {
    for mode in MODES {
        let place = Place::new();
        place.saved(50);
        let before = place.last();
        assert!(before < 50, "the tree had already ended");
        let Some(status) = Restart::start(&place, mode).end(mode) else { continue };
        assert_eq!(status.code(), Some(STATUS), "{mode:?}");
        assert_eq!(place.last(), 50, "{mode:?}, saved at {before}");
    }
}

#[test]
fn a_restart_ends_by_the_signal_that_ends_the_root() {
    let place = Place::new();
    let pid = place.saved(100_000);
    let before = place.last();
    let restart = Restart::start(&place, &[]);
    wait_until("the restarted tree", || lives(pid) || !lives(restart.0.id() as i32));
    if lives(pid) {
        place.wait_for(before + 3);
        signal(pid, libc::SIGTERM);
    }
    let Some(status) = restart.end(&[]) else { return };
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

#[test]
fn an_interrupt_goes_to_the_tree() {
    for mode in MODES {
        let place = Place::new();
        place.saved(100_000);
        let before = place.last();
        let restart = Restart::start(&place, mode);
        let own = restart.0.id() as i32;
        wait_until("the count to go on", || place.last() >= before + 3 || !lives(own));
        if lives(own) {
            signal(own, libc::SIGINT);
        }
        let Some(status) = restart.end(mode) else { continue };
        // A coordinator task can only tell by its exit status how the root ended.
        let ended = status.signal().or(status.code().map(|code| code - 0x80));
        assert_eq!(ended, Some(libc::SIGINT), "{mode:?}: {status}");
        let last = place.last();
        assert!(last >= before + 3, "{mode:?}: {before}, {last}");
    }
}

#[test]
fn a_detached_tree_goes_on() {
    let place = Place::new();
    place.saved(100_000);
    let before = place.last();
    let done = output(&["restart", "--detach", "--new-pids", &place.path("image")]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let pid: i32 = text(&done.stdout).trim().parse().expect("a pid");
    place.wait_for(before + 3);
    signal(pid, libc::SIGKILL);
    wait_until("the end of the tree", || !lives(pid));
}

#[test]
fn without_kill_the_tree_goes_on() {
    let place = Place::new();
    let mut victim = place.start(100_000);
    let pid = victim.pid().to_string();
    let done = output(&["checkpoint", &pid, &place.path("image")]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(victim.runs());
    place.wait_for(place.last() + 3);
    // Its pids are taken, and the restart says by whom.
    let again = output(&["restart", &place.path("image")]);
    assert_eq!(again.status.code(), Some(1));
    let errors = text(&again.stderr);
    let allowed = !errors.contains("not permitted");
    assert!(errors.contains("is taken by count (state ") || !allowed, "{errors}");
    assert!(errors.contains("--new-pids"), "{errors}");
}

#[test]
fn a_lock_that_another_holds_ends_the_restart() {
    let place = Place::new();
    let file = File::create(place.path("locked")).expect("a file");
    file.try_lock().expect("a lock");
    let mut command = Command::new("sleep");
    command.arg("600").stdin(file).stdout(Stdio::null()).stderr(Stdio::null());
    let victim = Victim::start_with(&mut command);
    drop(command);
    victim.wait_asleep();
    let (pid, image) = (victim.pid().to_string(), place.path("image"));
    let out = output(&["checkpoint", &pid, &image]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = output(&["restart", "--new-pids", &image]);
    let said = text(&out.stderr);
    assert!(said.contains("flock(0, 0x6): Resource temporarily unavailable"), "{said}");
    assert!(!out.status.success());
}

#[test]
fn an_image_goes_through_pipes() {
    let place = Place::new();
    let victim = place.start(60);
    let pid = victim.pid().to_string();
    let mut writer = usercr(&["checkpoint", "--kill", &pid, "-"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("usercr runs");
    let pipe = writer.stdout.take().expect("a pipe");
    let reader = usercr(&["restart", "--new-pids", "-"]).stdin(pipe).output();
    assert!(writer.wait().expect("wait").success());
    let done = reader.expect("usercr runs");
    assert_eq!(done.status.code(), Some(STATUS), "{}", text(&done.stderr));
    assert_eq!(place.last(), 60);
}

#[test]
fn an_image_is_not_written_to_a_terminal() {
    let place = Place::new();
    let victim = place.start(100_000);
    let terminal =
        fs::File::options().read(true).write(true).open("/dev/ptmx").expect("a terminal");
    let mut command = usercr(&["checkpoint", &victim.pid().to_string(), "-"]);
    let output = command.stdout(terminal).output().expect("run usercr");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("not written to a terminal"), "{}", text(&output.stderr));
}

#[test]
fn a_failed_checkpoint_leaves_the_old_image_alone() {
    let place = Place::new();
    fs::write(place.path("image"), "the old one").expect("a file");
    let victim = place.start(100_000);
    let pid = victim.pid();
    drop(victim);
    let done = output(&["checkpoint", &pid.to_string(), &place.path("image"), "--kill"]);
    assert_eq!(done.status.code(), Some(1));
    let errors = text(&done.stderr);
    assert!(errors.starts_with("usercr: ") && errors.contains(&pid.to_string()), "{errors}");
    assert_eq!(fs::read_to_string(place.path("image")).expect("a file"), "the old one");
    let mut names: Vec<_> = fs::read_dir(place.0.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["image", "numbers"]);
}

#[test]
fn a_bad_image_is_named_with_record_and_offset() {
    let place = Place::new();
    fs::write(place.path("image"), [0u8; 100]).expect("a file");
    let done = output(&["restart", &place.path("image")]);
    assert_eq!(done.status.code(), Some(1));
    let errors = text(&done.stderr);
    assert!(errors.starts_with("usercr: image, offset 0: "), "{errors}");
}

#[test]
fn syscalls_of_every_task_are_listed() {
    let place = Place::new();
    let pid = place.saved(100_000);
    let image = place.path("image");
    for mode in [&[][..], &["--pidns"]] {
        let args = [&["plan", "--syscalls", &image], mode].concat();
        let (done, again) = (output(&args), output(&args));
        let listing = text(&done.stdout);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(listing.starts_with(&format!("task 0, pid {pid}:\n")), "{listing}");
        for words in ["\ntask 1, pid ", "clone3 of task 1\n", "/numbers\"", "pread64(", "count\""] {
            assert!(listing.contains(words), "no {words:?} in:\n{listing}");
        }
        let coordinator = listing.contains("\ncoordinator task, pid 1 ");
        assert_eq!(coordinator, !mode.is_empty(), "{listing}");
        assert_eq!(done.stdout, again.stdout, "the same image gives the same text");
    }
}

#[test]
fn the_demo_tells_its_story_and_leaves_nothing() {
    let place = Place::new();
    let done = usercr(&["demo"]).env("TMPDIR", place.0.path()).output().expect("usercr runs");
    let story = text(&done.stdout);
    assert!(done.status.success(), "{story}{}", text(&done.stderr));
    let last = story.lines().last().unwrap_or_default();
    let numbers: Vec<u32> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    let &[from, to] = numbers.as_slice() else { panic!("{story}") };
    assert_eq!(last, format!("the tree went on counting from {from} to {to}"));
    assert!(from >= 7 && to >= from + 5, "{story}");
    assert_eq!(fs::read_dir(place.0.path()).expect("the folder").count(), 0);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let place = Place::new();
    let mut demo = usercr(&["demo"])
        .env("TMPDIR", place.0.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("usercr runs");
    let dir = place.0.path().join(format!("usercr-demo-{}", demo.id()));
    let root = || -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", demo.id());
        fs::read_to_string(children).ok()?.trim().parse().ok()
    };
    wait_until("the demo's tree", || dir.join("numbers").exists() && root().is_some());
    let root = root();
    signal(demo.id() as i32, libc::SIGINT);
    let status = demo.wait().expect("wait");
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(!dir.exists());
    assert!(!root.is_some_and(lives));
}

#[test]
fn credentials_that_the_caller_cannot_give_are_refused_before_anything_is_forked() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let place = Place::new();
    place.saved(1_000_000);
    let image = File::open(place.path("image")).expect("the image");
    let mut command = usercr(&["restart", "-", "--new-pids"]);
    let out = command.stdin(image).uid(65534).gid(65534).output().expect("usercr runs");
    let said = text(&out.stderr);
    assert!(!out.status.success());
    assert!(said.contains("task 0: it ran as uid 0: the caller is another user"), "{said}");
    let last = place.last();
    assert_eq!(place.last(), last);
}

/// Longer than the restart waits for a task to stop, so that a sleep which goes on unseen is noticed.
#[test]
fn a_long_sleep_goes_on_and_a_short_one_for_the_time_that_is_left() {
    for (seconds, ends) in [("1000", false), ("2", true)] {
        let place = Place::new();
        let image = place.path("image");
        let victim = Victim::start(Command::new("sleep").arg(seconds));
        let start = Instant::now();
        victim.wait_asleep();
        let pid = victim.pid().to_string();
        let done = output(&["checkpoint", "--kill", &pid, &image]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let slept = start.elapsed();
        drop(victim);
        let start = Instant::now();
        let restart = ["restart", "--new-pids", &image];
        if ends {
            let done = output(&restart);
            assert!(done.status.success(), "{}", text(&done.stderr));
            assert!(start.elapsed() + slept >= Duration::from_secs(2), "{slept:?}, {start:?}");
        } else {
            let done = output(&[&restart[..], &["--detach"]].concat());
            assert!(done.status.success(), "{}", text(&done.stderr));
            let pid: i32 = text(&done.stdout).trim().parse().expect("a pid");
            let asleep = || fs::read_to_string(format!("/proc/{pid}/syscall"));
            // restart_syscall(2): the kernel goes on with what it has noted.
            wait_until("the sleep to go on", || asleep().is_ok_and(|s| s.starts_with("219 ")));
            signal(pid, libc::SIGKILL);
        }
    }
}
