//! Processes: pidfds, waiting, ending.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::SysError;

/// A descriptor for the process `pid`, closed on exec.
///
/// # Errors
/// ESRCH where there is none; those of pidfd_open(2).
pub fn pidfd(pid: i32) -> Result<OwnedFd, SysError> {
    // SAFETY: a bad pid gives an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(SysError::new(format!("pidfd_open {pid}"), io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Tells which pids clone3(2) could give out.
///
/// A pid is taken as long as a process, thread, session or process group has it, and a moment longer: a parent
/// may have reaped a process whose threads the kernel has not let go of. Only a call that looks the bare
/// number up, F_SETOWN_EX of fcntl(2), sees all of that.
#[derive(Debug)]
pub struct Numbers(OwnedFd);

impl Numbers {
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> Result<Numbers, SysError> {
        // SAFETY: no memory is given.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(SysError::new("eventfd", io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
        Ok(Numbers(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether nobody has `pid`, in the pid namespace of this process.
    pub fn is_free(&self, pid: i32) -> bool {
        /// F_SETOWN_EX, and F_OWNER_PID of its struct f_owner_ex.
        const SET_OWNER: i32 = 15;
        const PROCESS: i32 = 1;
        let owner = [PROCESS, pid];
        // SAFETY: the kernel reads the two numbers. Nothing is ever sent to the owner: the file is not O_ASYNC.
        let result = unsafe { libc::fcntl(self.0.as_raw_fd(), SET_OWNER, owner.as_ptr()) };
        result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }
}

/// A descriptor for one thread, which need not lead its group (Linux 6.9).
///
/// # Errors
/// ESRCH, EINVAL where the kernel has only descriptors for processes; those of pidfd_open(2).
pub fn thread_pidfd(tid: i32) -> Result<OwnedFd, SysError> {
    /// PIDFD_THREAD.
    const THREAD: i32 = libc::O_EXCL;
    // SAFETY: a bad tid gives an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, THREAD) };
    if fd < 0 {
        return Err(SysError::new(format!("pidfd_open {tid}"), io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends SIGKILL to the process behind a pidfd. That it may be gone already is fine.
pub fn kill_pidfd(pidfd: BorrowedFd<'_>) {
    // SAFETY: a stale descriptor gives an error.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0usize, 0);
    }
}

/// Sends `signal` to the process `pid` (negative: to a process group).
///
/// # Errors
/// Those of kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<(), SysError> {
    // SAFETY: bad arguments give an error.
    if unsafe { libc::kill(pid, signal) } < 0 {
        return Err(SysError::new(format!("kill {pid}"), io::Error::last_os_error()));
    }
    Ok(())
}

/// Waits until the process behind a pidfd has ended (its parent need not have reaped it), or `millis`
/// are over. Says whether it has ended.
pub fn wait_ended(pidfd: BorrowedFd<'_>, millis: i32) -> bool {
    poll_readable(&[pidfd], millis).first().copied().unwrap_or(false)
}

/// Which of the descriptors can be read without waiting, after `millis` at most (-1: no limit).
///
/// A signal that interrupts the waiting ends it early.
pub fn poll_readable(fds: &[BorrowedFd<'_>], millis: i32) -> Vec<bool> {
    let mut polls: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: the array is valid for its length.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, millis) };
    polls.iter().map(|p| p.revents != 0).collect()
}

/// Waits for the child behind a pidfd to end and reaps it: its status in the format of wait(2).
/// With `block` false, None where it has not ended.
///
/// # Errors
/// ECHILD where it is no child, or was reaped by somebody else.
pub fn reap(pid: i32, block: bool) -> Result<Option<i32>, SysError> {
    let mut status = 0;
    loop {
        let flags = if block { libc::__WALL } else { libc::__WALL | libc::WNOHANG };
        // SAFETY: status is valid for writing.
        let got = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        if got == pid {
            return Ok(Some(status));
        }
        if got == 0 {
            return Ok(None);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(SysError::new(format!("wait for {pid}"), error));
        }
    }
}

/// Pid of the calling process.
pub fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Soft and hard limit of a resource (RLIMIT_*) of the calling process; `u64::MAX` is infinity.
pub fn rlimit(resource: u32) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    // SAFETY: limit is valid for writing; an unknown resource gives an error.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Least bytes of stack that a signal frame needs on this machine (getauxval(3), AT_MINSIGSTKSZ).
pub fn signal_frame_size() -> u64 {
    // SAFETY: getauxval only looks up a number.
    let size = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    size.max(2048)
}

/// Where the calling thread has registered restartable sequences with the kernel, as its libc tells:
/// address and candidates for the length, or None. (Not with dlsym(3), which sees no symbol of a program
/// that is linked statically.)
pub fn own_rseq() -> Option<(u64, Vec<u32>)> {
    let (offset, size): (*const isize, *const u32);
    // SAFETY: both instructions load an address from the table that the linker fills, 0 where the libc
    // has no such symbol.
    unsafe {
        std::arch::asm!(
            ".weak __rseq_offset",
            ".weak __rseq_size",
            "mov {}, qword ptr [rip + __rseq_offset@GOTPCREL]",
            "mov {}, qword ptr [rip + __rseq_size@GOTPCREL]",
            out(reg) offset,
            out(reg) size,
            options(nostack, readonly)
        );
    }
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: glibc's constants of the types that its manual gives.
    let (offset, size) = unsafe { (*offset, *size) };
    if size == 0 {
        return None;
    }
    let thread: u64;
    // SAFETY: on x86_64 the thread area starts with its own address (System V ABI, TLS).
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, readonly)) };
    // Up to glibc 2.39 the length is 32 whatever __rseq_size says; later it is at least 32.
    let mut lengths = vec![32];
    if size.next_multiple_of(32) != 32 {
        lengths.push(size.next_multiple_of(32));
    }
    Some((thread.wrapping_add_signed(offset as i64), lengths))
}

/// What prctl(2) and personality(2) tell of the calling thread.
#[derive(Debug, Clone, Copy)]
pub struct OwnSettings {
    /// In nanoseconds.
    pub timer_slack: u64,
    /// personality(2).
    pub personality: u32,
    /// Whether PR_GET_DUMPABLE is 1.
    pub dumpable: bool,
    /// Whether transparent huge pages are off.
    pub thp_disabled: bool,
    /// Whether reading the time stamp counter sends SIGSEGV.
    pub no_tsc: bool,
    /// See capabilities(7).
    pub securebits: u32,
}

/// Asks the kernel about the calling thread.
pub fn own_settings() -> OwnSettings {
    // SAFETY: these options only return a number; the kernel wants the unused arguments to be 0.
    let get = |option| unsafe { libc::prctl(option, 0, 0, 0, 0) };
    // SAFETY: this value asks only.
    let personality = unsafe { libc::personality(0xffff_ffff) };
    let mut tsc: libc::c_int = 0;
    // SAFETY: this option writes one int to the address that it is given.
    unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut tsc, 0, 0, 0) };
    OwnSettings {
        timer_slack: get(libc::PR_GET_TIMERSLACK).max(0) as u64,
        personality: personality as u32,
        dumpable: get(libc::PR_GET_DUMPABLE) == 1,
        thp_disabled: get(libc::PR_GET_THP_DISABLE) == 1,
        no_tsc: tsc == libc::PR_TSC_SIGSEGV,
        securebits: get(libc::PR_GET_SECUREBITS).max(0) as u32,
    }
}

/// Whether timer_create(2) can be made to give a wanted id (prctl(2), PR_TIMER_CREATE_RESTORE_IDS;
/// Linux 6.16).
pub fn gives_timer_ids() -> bool {
    const RESTORE_IDS: libc::c_int = 77;
    const GET: libc::c_ulong = 2;
    // SAFETY: this option only returns a number.
    unsafe { libc::prctl(RESTORE_IDS, GET, 0, 0, 0) >= 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_number_is_free_when_nothing_has_it() {
        let numbers = Numbers::new().expect("an eventfd");
        assert!(!numbers.is_free(own_pid()));
        // A process group whose leader has ended.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 600 &"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut shell = shell.spawn().expect("a shell");
        let pid = shell.id() as i32;
        shell.wait().expect("its end");
        let with_member = numbers.is_free(pid);
        kill(-pid, libc::SIGKILL).expect("its group");
        let limit = Instant::now() + Duration::from_secs(20);
        while !numbers.is_free(pid) {
            assert!(Instant::now() < limit, "nobody has reaped the member of group {pid}");
            std::thread::yield_now();
        }
        assert!(!with_member);
    }
}
