//! A file that is gone, or not what it was, is refused at the restart: by name, and before anything is forked.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]

mod dump_common;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
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
    refused(folder, "watched", nothing, &task(0, "watched", gone));
    let watched = "it is watched, and is something else than at the checkpoint";
    refused(folder, "watched", file_instead, &task(0, "watched", watched));
    let here = format!("{}: {gone}", folder.join("here").display());
    refused(folder, "here", nothing, &here);

    // Where it is as it must be, the same image can be restarted; what is written may have changed.
    comes_back(folder, restart(folder));
}

/// Restarts the program, with some files longer and shorter than they were, and lets it look.
fn comes_back(folder: &Path, mut restart: Command) {
    resized(&folder.join("read"), &folder.join("write"), 8193);
    File::create(folder.join("write")).and_then(|f| f.set_len(1)).expect("truncate");
    let mut running = restart.spawn().expect("usercr runs");
    for generation in 1..=2 {
        fs::write(folder.join(format!("go.{generation}")), "").expect("write");
        assert_eq!(wait_for(&folder.join(format!("result.{generation}"))), "ok");
    }
    fs::write(folder.join("end"), "").expect("write");
    assert!(running.wait().expect("wait").success());
}

/// Makes openat(2) fail as on a file system without O_TMPFILE, for the calling process from now on.
fn deny_o_tmpfile() -> std::io::Result<()> {
    /// BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JSET | BPF_K, BPF_RET | BPF_K.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Offsets in struct seccomp_data.
    const NUMBER: u32 = 0;
    const FLAGS: u32 = 16 + 2 * 8;
    let only = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        insn(LOAD, 0, 0, NUMBER),
        insn(EQUAL, 0, 3, libc::SYS_openat as u32),
        insn(LOAD, 0, 0, FLAGS),
        insn(SET, 0, 1, only),
        insn(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32),
        insn(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: two system calls; the kernel copies the filter.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_deleted_file_comes_back_without_o_tmpfile() {
    let (place, _) = saved();
    let folder = place.path();
    let mut restart = restart(folder);
    // SAFETY: only system calls are made after the fork.
    unsafe { restart.pre_exec(deny_o_tmpfile) };
    comes_back(folder, restart);
    let left = fs::read_dir(folder.join("dir")).expect("the folder").count();
    assert_eq!(left, 0, "a file without a name has one");
}
