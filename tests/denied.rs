//! Each system call that a restart makes is denied in turn, in the coordinator and in all tasks: the
//! restart fails and says so, or does without; whatever happens, nothing is left.
#![allow(missing_docs)]

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use usercr::restart::{Mode, Options, restart};

#[path = "common/family.rs"]
mod family;
#[path = "common/hand_made.rs"]
mod hand_made;
use family::{assert_nothing_left, family, leftovers};

/// What programs and coordinator call. Without close, read or write no test could say anything.
const CALLS: &[libc::c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_pread64,
    libc::SYS_dup3,
    libc::SYS_close_range,
    libc::SYS_openat,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_socketpair,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_poll,
    libc::SYS_futex,
    libc::SYS_clone3,
    libc::SYS_pidfd_open,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_getppid,
    libc::SYS_prctl,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_chdir,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_prlimit64,
    libc::SYS_ptrace,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
];

#[test]
fn whatever_is_denied_nothing_is_left() {
    let mut failed = 0;
    for mode in ["Pids", "PidNs"] {
        for call in CALLS {
            let what = format!("{mode}, call {call}");
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "caller_that_is_denied", "--nocapture"])
                .env("USERCR_TEST_PID", std::process::id().to_string())
                .env("USERCR_TEST_MODE", mode)
                .env("USERCR_TEST_CALL", call.to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let id = child.id();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if let Some((_, pid)) = text.lines().find_map(|line| line.split_once("restarted ")) {
                end(pid.trim().parse().unwrap());
            } else {
                failed += 1;
            }
            assert_nothing_left(id, &what);
        }
    }
    // Most of these calls are needed.
    assert!(failed > CALLS.len(), "only {failed} restarts have failed");
}

/// Ends a tree that was restarted although something was denied.
fn end(pid: i32) {
    let of = |stat: &String| stat.split(' ').next().and_then(|pid| pid.parse::<i32>().ok());
    for pid in leftovers(0).iter().filter_map(of).chain([pid]) {
        // SAFETY: a signal to a task of this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// The coordinator of the test above.
#[test]
fn caller_that_is_denied() {
    let Ok(call) = std::env::var("USERCR_TEST_CALL") else { return };
    let mode =
        if std::env::var("USERCR_TEST_MODE").unwrap() == "Pids" { Mode::Pids } else { Mode::PidNs };
    let image = family();
    deny(call.parse().unwrap());
    match restart(&Options { mode, ..Options::new(image.as_fd()) }) {
        Ok(restarted) => println!("restarted {}", restarted.pid),
        Err(error) => println!("refused {}: {error}", error.errno()),
    }
    // The test harness may need what is denied.
    // SAFETY: _exit has no conditions.
    unsafe { libc::_exit(0) };
}

/// Makes a system call fail with EIO in this thread and all that it forks, see seccomp(2).
fn deny(call: u32) {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        insn(LOAD, 0, 0, 0),
        insn(JUMP_IF_EQUAL, 0, 1, call),
        insn(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EIO as u32),
        insn(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            0
        );
    }
}
