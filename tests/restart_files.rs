//! A file that is gone, or not what it was, is refused at the restart: by name, and before anything is forked.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]

mod dump_common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, cc};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

fn wait_for(path: &Path) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        assert!(Instant::now() < deadline, "waited in vain for {}", path.display());
        std::thread::yield_now();
    }
}

/// The folder of a program that was checkpointed and ended, and its pid.
fn saved() -> (TempDir, i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    let mut command = cc::cc();
    command.arg("-std=gnu11").arg("-o").arg(&program);
    cc::succeeds(command.arg(cc::top().join("tests/restart_files/program.c")));
    let victim = Victim::start(Command::new(&program).arg(folder.path()));
    wait_for(&folder.path().join("ready"));
    let done = Command::new(env!("CARGO_BIN_EXE_usercr"))
        .args(["checkpoint", "--kill", &victim.pid().to_string()])
        .arg(folder.path().join("image"))
        .output()
        .expect("usercr runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let pid = victim.pid();
    (folder, pid)
}

fn restart(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.args(["restart", "--new-pids"]).arg(folder.join("image"));
    command.stdin(Stdio::null());
    command
}

/// Does something to a file that was moved out of the way, and is put back afterwards.
fn refused(folder: &Path, name: &str, change: impl Fn(&Path, &Path), expected: &str) {
    let (path, aside) = (folder.join(name), folder.join("aside"));
    fs::rename(&path, &aside).expect("rename");
    change(&path, &aside);
    let done = restart(folder).output().expect("usercr runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success());
    assert!(said.contains(expected), "{name}: {said:?} does not say {expected:?}");
    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    fs::rename(&aside, &path).expect("rename back");
}

/// A copy with another length.
fn resized(path: &Path, aside: &Path, size: u64) {
    fs::copy(aside, path).expect("copy");
    File::options().write(true).open(path).and_then(|f| f.set_len(size)).expect("truncate");
}

#[test]
fn files_must_be_as_they_were() {
    let (place, pid) = saved();
    let folder = place.path();
    let task = |index: i32, name: &str, reason: &str| {
        format!("task {index} (pid {}): {}: {reason}", pid + index, folder.join(name).display())
    };
    let gone = "No such file or directory";
    let nothing = |_: &Path, _: &Path| ();
    let shorter = "the file is shorter than at the checkpoint (100 bytes, was 8192)";
    refused(folder, "read", nothing, &task(0, "read", gone));
    refused(folder, "read", |to, from| resized(to, from, 100), &task(0, "read", shorter));
    let folder_instead = |to: &Path, _: &Path| fs::create_dir(to).expect("mkdir");
    let other = "it is something else than at the checkpoint";
    refused(folder, "read", folder_instead, &task(0, "read", other));
    refused(folder, "mapped", |to, from| resized(to, from, 100), &task(0, "mapped", shorter));
    let no_fifo = "it is no named pipe any more";
    let file_instead = |to: &Path, _: &Path| drop(File::create(to).expect("create"));
    refused(folder, "fifo", file_instead, &task(0, "fifo", no_fifo));
    // A copy is as long, but it was written later.
    let copy = |to: &Path, from: &Path| assert!(fs::copy(from, to).is_ok());
    let code = "it has been changed since the checkpoint, and it is code";
    refused(folder, "program", copy, &task(0, "program", code));
    let anew = "it has to be made anew in its directory: No such file";
    refused(folder, "dir", nothing, &task(0, "dir/deleted", anew));
    let here = format!("{}: {gone}", folder.join("here").display());
    refused(folder, "here", nothing, &here);

    // Where it is as it must be, the same image can be restarted; what is written may have changed.
    resized(&folder.join("read"), &folder.join("write"), 8193);
    File::create(folder.join("write")).and_then(|f| f.set_len(1)).expect("truncate");
    let mut running = restart(folder).spawn().expect("usercr runs");
    fs::write(folder.join("go.1"), "").expect("write");
    assert_eq!(wait_for(&folder.join("result.1")), "ok");
    fs::write(folder.join("go.2"), "").expect("write");
    assert_eq!(wait_for(&folder.join("result.2")), "ok");
    fs::write(folder.join("end"), "").expect("write");
    assert!(running.wait().expect("wait").success());
}
