//! A PostgreSQL server comes back with all its processes, twice, with the pids of the image and in a pid
//! namespace. All its shared memory is that of System V, some of it gone when it comes back.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use dump_common::descendants;
use generations::{MODES, Run, is_here};
use usercr::sys::sysv;

/// An ordinary user: the server does not run as root.
const NOBODY: u32 = 65534;

fn as_root() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() == 0 }
}

/// A program of PostgreSQL, as a user that it runs as.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    if as_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The segments of the server, which are removed at the end of the test where the server has not done so.
struct Segments(BTreeSet<i32>);

impl Drop for Segments {
    fn drop(&mut self) {
        for &id in &self.0 {
            let _ = sysv::remove(id);
        }
    }
}

/// The segments that the server's processes have attached just now.
fn attached(run: &Run) -> BTreeSet<i32> {
    let mut ids = BTreeSet::new();
    for pid in descendants(run.pid) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let lines = maps.lines().filter(|line| line.contains(" /SYSV"));
        let found =
            lines.filter_map(|line| line.split_ascii_whitespace().nth(4)?.parse::<i32>().ok());
        ids.extend(found);
    }
    ids
}

/// Has the server do something, as soon as it does.
fn ask(run: &mut Run, query: &str) -> String {
    run.wait_for("an answer", |run| {
        let folder = run.path("");
        let mut command = program("psql");
        command.args(["-U", "me", "-d", "postgres", "-Atqc", query]).arg("-h").arg(folder);
        let out = command.output().expect("psql runs");
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    })
}

#[test]
fn a_server() {
    if !["initdb", "postgres", "psql"].into_iter().all(is_here) {
        return;
    }
    for mode in MODES {
        let folder = tempfile::tempdir().expect("a folder");
        if as_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("chown");
        }
        let data = folder.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["-U", "me", "-A", "trust", "--no-sync", "-D"]).arg(&data);
        let out = initdb.current_dir(folder.path()).output().expect("initdb runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut server = program("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "shared_buffers=16MB",
            "shared_memory_type=sysv",
            "dynamic_shared_memory_type=sysv",
        ] {
            server.args(["-c", setting]);
        }
        let mut run = Run::start_in(folder, &mut server);
        ask(&mut run, "create table t(a int); insert into t values (0)");
        let segments = Segments(attached(&run));
        assert!(segments.0.len() >= 2, "{:?}", segments.0);
        for generation in 1..=2 {
            run.checkpoint();
            // Where an id can be chosen at all, they need not be there.
            let first = segments.0.first();
            if generation == 2 && first.is_some_and(|&id| sysv::choose_next(id).is_ok()) {
                for &id in &segments.0 {
                    sysv::remove(id).expect("remove");
                }
            }
            if !run.restart(mode) {
                return;
            }
            assert!(attached(&run).is_superset(&segments.0));
            ask(&mut run, &format!("insert into t values ({generation})"));
            let numbers = ask(&mut run, "select string_agg(a::text, ' ' order by a) from t");
            assert_eq!(numbers, ["0 1", "0 1 2"][generation - 1]);
            let seen = segments.0.iter().map(|&id| sysv::look(id).expect("look"));
            let creators: BTreeSet<u32> = seen.flatten().map(|seen| seen.creator[0]).collect();
            assert_eq!(creators.len(), 1);
            assert!(!as_root() || creators.contains(&NOBODY));
        }
        // SAFETY: a signal to the root task, which our command waits for.
        unsafe { libc::kill(run.pid, libc::SIGTERM) };
        let ended = run.wait_for_end().expect("it was restarted");
        assert!(ended.success(), "{mode:?} {ended}: {}{}", run.messages(), run.output());
        // It has found them all to be its own.
        for &id in &segments.0 {
            let left = sysv::look(id).expect("look").filter(|seen| seen.id == id);
            assert_eq!(left, None);
        }
        let log = run.output();
        assert!(log.contains("database system is shut down"), "{log}");
    }
}
