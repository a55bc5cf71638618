//! System V shared memory that a checkpoint refuses, and what stands in the way of its restart. That it comes
//! back is in `tests/state.rs`.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dump_common::{Victim, cc, checkpoint, descendants};
use generations::Run;
use usercr::restart::{Mode, Observer, Options, Point, restart};
use usercr::sys::sysv;

/// Bytes of the segments that the program makes.
const SIZE: u64 = 4 * 4096;
/// An ordinary user.
const NOBODY: u32 = 65534;

/// The id of the next segment is chosen for all processes: no test may make one that another has chosen for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program() -> PathBuf {
    cc::program("segments", "tests/dump_victim/memory.c")
}

/// A segment that is removed at the end of the test.
struct Removed(i32);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = sysv::remove(self.0);
    }
}

/// A key that no other test has.
fn key() -> i32 {
    static NEXT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0x7d00);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (next << 16) | (std::process::id() as i32 & 0xffff)
}

/// The program with a segment that stays.
fn start() -> (Run, i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let mut command = Command::new(program());
    command.arg("segment-kept").arg(told).arg(key().to_string());
    let mut run = Run::start_in(folder, &mut command);
    let id = run.wait_for("its segment", |run| {
        let id = fs::read_to_string(run.path("told")).ok()?.parse().ok()?;
        // It has been filled when the program sleeps.
        let call = fs::read_to_string(format!("/proc/{}/syscall", run.pid)).ok()?;
        call.starts_with(&format!("{} ", libc::SYS_pause)).then_some(id)
    });
    (run, id)
}

/// What a restart says that fails.
fn refusal(run: &Run, mode: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_usercr"))
        .arg("restart")
        .args(mode)
        .arg(run.path("image"))
        .stdin(Stdio::null())
        .output()
        .expect("usercr runs");
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Whether ids can be chosen; says so where they cannot.
fn can_choose() -> bool {
    let chosen = sysv::choose_next(3).map(|()| sysv::make(0, 1).map(sysv::remove));
    if let Err(error) = &chosen {
        eprintln!("skipped: ids of segments cannot be chosen: {error}");
    }
    chosen.is_ok()
}

/// A segment with this id, which is free. Any process of the machine may take it between the choice and its use.
fn with_id(id: i32) -> Removed {
    let deadline = Instant::now() + generations::LIMIT;
    loop {
        sysv::choose_next(id).expect("choose");
        let made = Removed(sysv::make(0, 1).expect("make"));
        if made.0 == id {
            return made;
        }
        assert!(Instant::now() < deadline, "id {id} was always taken, last by {}", made.0);
    }
}

/// What is in a segment.
fn contents(id: i32) -> Vec<u8> {
    // SAFETY: the kernel chooses a free place.
    let at = unsafe { libc::shmat(id, std::ptr::null(), libc::SHM_RDONLY) };
    assert_ne!(at as isize, -1);
    // SAFETY: so many bytes are attached there, and the task that has them too sleeps.
    let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, SIZE as usize) }.to_vec();
    // SAFETY: it was attached just now.
    unsafe { libc::shmdt(at) };
    bytes
}

/// This text, and zeros.
fn filled(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.resize(SIZE as usize, 0);
    bytes
}

/// A restart that fails when the tasks exist.
fn fails_late(run: &Run) {
    let image = File::open(run.path("image")).expect("image");
    let kill = |point: Point, pids: &[i32]| {
        if point == Point::Exist {
            // SAFETY: a signal to a task of ours.
            unsafe { libc::kill(pids[0], libc::SIGKILL) };
        }
    };
    let options = Options {
        mode: Mode::Pids,
        observer: Some(Observer(&kill)),
        ..Options::new(image.as_fd())
    };
    restart(&options).expect_err("it was killed");
}

/// The first task of a restart, when it runs.
fn restarted(command: &mut Child) -> i32 {
    let deadline = Instant::now() + generations::LIMIT;
    loop {
        if let Some(pid) = descendants(command.id() as i32).first()
            && let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps"))
            && !maps.is_empty()
            && !maps.contains("/memfd:usercr-vm")
        {
            return *pid;
        }
        assert_eq!(command.try_wait().expect("wait"), None);
        assert!(Instant::now() < deadline, "no task");
        std::thread::sleep(generations::TICK);
    }
}

#[test]
fn what_is_not_the_trees_own() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a folder");
    let told = directory.path().join("told");
    let mut command = Command::new(program());
    let mut victim = Victim::start(command.arg("segment").arg(&told));
    assert_eq!(victim.sleeps_or_ends(), None);
    let id: i32 = fs::read_to_string(told).expect("told").parse().expect("an id");
    let attached = sysv::attach(id, SIZE).expect("attach");
    let error = checkpoint(victim.pid(), false).expect_err("it was saved");
    let pid = victim.pid();
    let text = format!(
        "task 0 (pid {pid}): System V segment {id}: attached by a process outside the tree"
    );
    assert_eq!((error.to_string(), error.errno()), (text, libc::ENOTSUP));
    assert!(victim.runs());
    drop(attached);
    let image = checkpoint(victim.pid(), false).expect("a checkpoint");
    let segment = image.body.objects.shms[0].segment.expect("a segment");
    assert_eq!((segment.id, segment.size, segment.removed), (id, SIZE, true));
}

#[test]
fn what_is_mapped_in_other_ways() {
    let _alone = alone();
    for (mode, expected) in [
        ("segment-opened", ": it is mapped otherwise than with shmat(2)"),
        ("segment-private", "): a private mapping of System V shared memory cannot be saved"),
        ("segment-long", "): it reaches beyond the end of the segment"),
        ("segment-alone", "ipc namespace: System V segment 0 is in it, which no task has attached"),
        ("semaphores-alone", "ipc namespace: there are semaphores or message queues of System V"),
        ("segment-huge", "): huge pages of hugetlbfs cannot be saved"),
        ("segment-left", " that is not in the task's ipc namespace"),
    ] {
        let mut victim = Victim::start(Command::new(program()).arg(mode));
        match victim.sleeps_or_ends() {
            None => {}
            Some(77) => {
                eprintln!("skipped: {mode} needs more rights");
                continue;
            }
            Some(other) => panic!("{mode}: {other}"),
        }
        let error = checkpoint(victim.pid(), false).expect_err("it was saved");
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains("SYSV") | text.contains("System V"),
            "{mode}: {text}"
        );
        assert_eq!(error.errno(), libc::ENOTSUP);
        assert!(victim.runs());
    }
}

/// One that was not removed, and is there at the restart.
#[test]
fn what_is_still_there() {
    let _alone = alone();
    let (mut run, id) = start();
    let _removed = Removed(id);
    run.checkpoint();
    // Somebody has it.
    let attached = sysv::attach(id, SIZE).expect("attach");
    let text_of = |reason: &str| format!("System V segment {id}: {reason}");
    let said = refusal(&run, &[]);
    let expected = text_of("it is still there, and some process has it attached");
    assert!(said.contains(&expected), "{said}");
    drop(attached);
    // It has another owner.
    let was = sysv::look(id).expect("look").expect("a segment");
    if sysv::own(id, [NOBODY, was.owner[1]], was.mode).is_ok() {
        let said = refusal(&run, &[]);
        assert!(said.contains(&text_of("another segment has its id")), "{said}");
        sysv::own(id, was.owner, was.mode).expect("own");
    }
    // It has other contents: those of the image come back, and nothing else.
    let attached = sysv::attach(id, SIZE).expect("attach");
    let image = File::open(run.path("image")).expect("image");
    attached.fill(0, SIZE, image.as_fd(), 0).expect("fill");
    drop(attached);
    let other = contents(id);
    assert_ne!(other, filled(b"kept"));
    fails_late(&run);
    assert_eq!(contents(id), other);
    if run.restart(&[]) {
        assert_eq!(contents(id), filled(b"kept"));
        assert_eq!(sysv::look(id).expect("look"), Some(sysv::Segment { attached: 1, ..was }));
    }
}

/// One that was not removed, and is gone at the restart.
#[test]
fn what_is_gone() {
    let _alone = alone();
    if !can_choose() {
        return;
    }
    let (mut run, id) = start();
    let _removed = Removed(id);
    if sysv::own(id, [5, 6], 0o604).is_err() {
        eprintln!("skipped: owners of segments cannot be changed");
        return;
    }
    let was = sysv::look(id).expect("look").expect("a segment");
    run.checkpoint();
    sysv::remove(id).expect("remove");
    // Its key is another's.
    let other = Removed(sysv::make(was.key, 1).expect("make"));
    let said = refusal(&run, &[]);
    let reason = format!("segment {} has its key {:#010x}", other.0, was.key);
    assert!(said.contains(&format!("System V segment {id}: {reason}")), "{said}");
    drop(other);
    // Its number is another's; its place in the kernel's table is.
    for (number, reason) in [
        (id, "another segment has its id".to_owned()),
        (id ^ 1 << 20, format!("segment {} is where it was in the kernel's table", id ^ 1 << 20)),
    ] {
        let _other = with_id(number);
        let said = refusal(&run, &[]);
        assert!(said.contains(&format!("System V segment {id}: {reason}")), "{said}");
    }
    // A restart that fails later leaves nothing.
    fails_late(&run);
    assert_eq!(sysv::look(id).expect("look"), None);
    for mode in generations::MODES {
        if !run.restart(mode) {
            continue;
        }
        let now = sysv::look(id).expect("look").expect("a segment");
        assert_eq!(now, sysv::Segment { attached: 1, ..was });
        assert_eq!(contents(id), filled(b"kept"));
        run.checkpoint();
        sysv::remove(id).expect("remove");
    }
}

/// Without rights: the checkpointer sees the memory of the tasks only, and the restarter cannot choose ids.
#[test]
fn an_ordinary_user() {
    let _alone = alone();
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for (mode, removed) in [("segment", true), ("segment-kept", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), everybody).expect("permissions");
        let (told, image) = (folder.path().join("told"), folder.path().join("image"));
        let mut command = Command::new(program());
        command.arg(mode).arg(&told).arg(key().to_string()).uid(NOBODY).gid(NOBODY);
        let mut victim = Victim::start(command.current_dir(folder.path()));
        assert_eq!(victim.sleeps_or_ends(), None);
        let id: i32 = fs::read_to_string(told).expect("told").parse().expect("an id");
        let _removed = Removed(id);
        let usercr = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
            command.args(arguments).arg(&image).stdin(Stdio::null());
            command.uid(NOBODY).gid(NOBODY);
            command
        };
        let pid = victim.pid().to_string();
        let out = usercr(&["checkpoint", "--kill", &pid]).output().expect("usercr runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        drop(victim);
        if !removed {
            sysv::remove(id).expect("remove");
            let out = usercr(&["restart", "--new-pids"]).output().expect("usercr runs");
            let said = String::from_utf8_lossy(&out.stderr);
            let expected = format!("System V segment {id}: choose its id");
            assert!(!out.status.success() && said.contains(&expected), "{said}");
            if !can_choose() {
                continue;
            }
            // Root can, and makes it as the user who made it.
            let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
            command.args(["restart", "--new-pids"]).arg(&image).stdin(Stdio::null());
            let mut restart = command.spawn().expect("usercr runs");
            let pid = restarted(&mut restart);
            let now = sysv::look(id).expect("look").expect("a segment");
            assert_eq!((now.owner, now.creator, now.mode), ([NOBODY; 2], [NOBODY; 2], 0o640));
            assert_eq!(contents(id), filled(b"kept"));
            // SAFETY: a signal to a task that was just seen below our child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            restart.wait().expect("wait");
            continue;
        }
        let mut restart = usercr(&["restart", "--new-pids"]).spawn().expect("usercr runs");
        let pid = restarted(&mut restart);
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        let line = maps.lines().find(|line| line.contains("/SYSV")).expect("a segment");
        let new = line.split_ascii_whitespace().nth(4).expect("an inode").parse().expect("an id");
        assert_eq!(contents(new), filled(b"went"));
        let now = sysv::look(new).expect("look").expect("a segment");
        assert_eq!((now.removed, now.attached, now.creator), (true, 1, [NOBODY; 2]));
        // SAFETY: a signal to a task that was just seen below our child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        restart.wait().expect("wait");
        assert_ne!(sysv::look(new).expect("look").map(|seen| seen.id), Some(new));
    }
}
