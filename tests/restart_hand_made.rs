//! Restart of images that no checkpoint has made.

use std::fs::File;
use std::os::fd::AsFd;

use usercr::error::Error;
use usercr::restart::{Mode, Options, restart};

#[path = "common/hand_made.rs"]
mod hand_made;
use hand_made::{EXIT_42, free_pids, image};

fn run(mode: Mode, file: &File) -> Result<usercr::restart::Restarted, Error> {
    restart(&Options { mode, wait: true, ..Options::new(file.as_fd()) })
}

#[test]
fn a_task_runs_its_code_in_every_mode() {
    for (mode, pid) in
        [(Mode::NewPids, 4_000), (Mode::Pids, free_pids(1)), (Mode::PidNs, 1), (Mode::PidNs, 4_000)]
    {
        let file = image(pid, EXIT_42);
        let restarted = run(mode, &file).unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert_eq!(restarted.status, Some(42 << 8), "{mode:?} pid {pid}");
        if mode == Mode::Pids {
            assert_eq!(restarted.pid, pid);
        }
    }
}

#[test]
fn a_pid_that_is_taken_is_refused_by_name() {
    let file = image(std::process::id() as i32, EXIT_42);
    let error = run(Mode::Pids, &file).unwrap_err();
    assert_eq!(error.errno(), libc::EEXIST);
    assert!(error.to_string().contains("is taken by restart_hand"), "{error}");
}
