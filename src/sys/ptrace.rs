//! Stopping another task and reading and setting its registers: ptrace(2), always by PTRACE_SEIZE.
//!
//! Comes in: thread ids. Goes out: a [`Tracee`] that lets its task go when it is dropped. Never: a
//! signal that the task would notice, nor PTRACE_O_EXITKILL; a task outlives its tracer.
//!
//! The kernel ties an attachment to the thread that made it, so a [`Tracee`] cannot leave its thread.

use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use libc::{c_int, c_long, c_uint, c_void, iovec, pid_t};

/// Regset of the general registers, see ptrace(2).
const NT_PRSTATUS: usize = 1;
/// Regset of the XSAVE area, from the kernel's elf.h.
const NT_X86_XSTATE: usize = 0x202;
/// The largest XSAVE area read: AMX needs about 11 KiB.
const XSTATE_MAX: usize = 64 * 1024;
/// PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13.
const GET_RSEQ_CONFIGURATION: c_uint = 0x420f;
/// PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4.
const GET_DISPATCH: c_uint = 0x4211;
/// Set in [`SigInfo`] requests for the queue of the thread group.
const PEEKSIGINFO_SHARED: u32 = 1;
/// How long an error path waits for a task to stop, so that it can be let go.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// General registers of a 64-bit task: the kernel's `struct user_regs_struct`.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the system call that the task is in; -1: none, the kernel then restarts nothing.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Registration of restartable sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RseqConfig {
    /// User address of struct rseq, 0 for none.
    pub address: u64,
    /// Length in bytes, as registered.
    pub length: u32,
    /// The signature that abort handlers carry.
    pub signature: u32,
}

/// The kernel's siginfo_t: 128 bytes whose layout depends on the signal.
pub type SigInfo = [u8; 128];

/// Why a task has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By [`Tracee::interrupt`], or a new task of a traced one at its first instruction.
    Interrupted,
    /// By this job-control signal, together with its thread group.
    Group(i32),
    /// About to take this signal; it is lost unless given to [`Tracee::resume`] or [`Tracee::detach`].
    Signal(i32),
    /// It has forked, or cloned: the new task, as the tracer's pid namespace numbers it. The new task
    /// is traced too.
    Forked(i32),
    /// Another event of PTRACE_EVENT_*.
    Event(i32),
    /// It has ended; there is nothing to trace any more.
    Gone,
}

/// What else than an interrupt stops a seized task: PTRACE_O_* bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options(u32);

impl Options {
    /// Nothing.
    pub const NONE: Options = Options(0);
    /// The task is killed when its tracer ends. For tasks that are being made, never for others.
    pub const KILL_WITH_TRACER: Options = Options(libc::PTRACE_O_EXITKILL as u32);
    /// fork, vfork and clone; the new task is traced in the same way.
    pub const FORKS: Options = Options(
        (libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE) as u32,
    );
}

/// One task (a thread) that this thread traces. Dropping it lets the task go on.
#[derive(Debug)]
pub struct Tracee {
    tid: pid_t,
    attached: bool,
    /// The kernel accepts requests only from the thread that attached.
    thread_bound: PhantomData<*const ()>,
}

impl Tracee {
    /// Attaches to thread `tid` without stopping it.
    ///
    /// # Errors
    /// ESRCH: no such task; EPERM: no permission, a kernel thread, or traced by another.
    pub fn seize(tid: i32, options: Options) -> io::Result<Tracee> {
        request(libc::PTRACE_SEIZE, tid, 0, options.0 as usize)?;
        Ok(Tracee { tid, attached: true, thread_bound: PhantomData })
    }

    /// A task that the kernel attached by itself, because its creator was seized with
    /// [`Options::FORKS`]. For any other task all requests fail with ESRCH.
    pub fn inherited(tid: i32) -> Tracee {
        Tracee { tid, attached: true, thread_bound: PhantomData }
    }

    /// The thread id, as the tracer's pid namespace numbers it.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Asks the task to stop; [`Tracee::wait_stop`] tells when it has.
    ///
    /// # Errors
    /// ESRCH: the task has ended.
    pub fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// Waits until the task stops, at most until `deadline`. The status of a child that has ended is
    /// left for whoever waits for that child.
    ///
    /// # Errors
    /// `TimedOut` when the task does not stop, as one in an uninterruptible call.
    pub fn wait_stop(&self, deadline: Instant) -> io::Result<Stop> {
        let mut pause = Pause::default();
        loop {
            if let Some(stop) = self.poll_stop()? {
                return Ok(stop);
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            pause.take();
        }
    }

    /// Why the task has stopped, if it has; does not wait.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn poll_stop(&self) -> io::Result<Option<Stop>> {
        match wait_status(self.tid, libc::WSTOPPED) {
            Ok(Some((code, status))) if code == libc::CLD_TRAPPED => self.stop(status).map(Some),
            Ok(Some(_)) => Ok(None),
            Ok(None) => self.unannounced_stop(),
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(Some(Stop::Gone)),
            Err(e) => Err(e),
        }
    }

    /// A stop that another thread's wait(2) took from us can still be read from the task itself; an
    /// end of the task is seen without reaping it.
    fn unannounced_stop(&self) -> io::Result<Option<Stop>> {
        match wait_status(self.tid, libc::WEXITED | libc::WNOWAIT) {
            // Stops of a tracee are told whatever is asked for: it has stopped since the first look.
            Ok(Some((libc::CLD_TRAPPED, _))) => return Ok(None),
            Ok(Some(_)) => return Ok(Some(Stop::Gone)),
            Ok(None) => {}
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(Some(Stop::Gone)),
            Err(e) => return Err(e),
        }
        let Ok(info) = self.siginfo() else { return Ok(None) };
        // The task may have stopped only after the first look: then the status is still there.
        if let Ok(Some((libc::CLD_TRAPPED, status))) = wait_status(self.tid, libc::WSTOPPED) {
            return self.stop(status).map(Some);
        }
        let signal = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        let code = i32::from_ne_bytes([info[8], info[9], info[10], info[11]]);
        // Of an event the code holds the signal too, which is SIGTRAP or one that stops.
        let event = if code >> 8 > 0 && code & 0x7f == signal { code } else { signal };
        self.stop(event).map(Some)
    }

    /// `status` is a signal number, or (event << 8 | signal).
    fn stop(&self, status: c_int) -> io::Result<Stop> {
        let signal = status & 0x7f;
        Ok(match status >> 8 {
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupted,
            libc::PTRACE_EVENT_STOP => Stop::Group(signal),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                Stop::Forked(self.event_message()? as i32)
            }
            event => Stop::Event(event),
        })
    }

    fn event_message(&self) -> io::Result<u64> {
        let mut message: libc::c_ulong = 0;
        request(libc::PTRACE_GETEVENTMSG, self.tid, 0, (&raw mut message) as usize)?;
        Ok(message)
    }

    /// Lets the stopped task run; it stays traced. `signal` is delivered to it, 0 for none.
    ///
    /// # Errors
    /// ESRCH: the task is not stopped, or has ended.
    pub fn resume(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.tid, 0, signal as usize).map(drop)
    }

    /// As [`Tracee::resume`], up to the start or the end of the next system call: the next stop is
    /// `Signal(SIGTRAP)`.
    ///
    /// # Errors
    /// ESRCH: the task is not stopped, or has ended.
    pub fn resume_to_call(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_SYSCALL, self.tid, 0, signal as usize).map(drop)
    }

    /// As [`Tracee::resume`], for one instruction: the next stop is `Signal(SIGTRAP)`.
    ///
    /// # Errors
    /// ESRCH: the task is not stopped, or has ended.
    pub fn step(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_SINGLESTEP, self.tid, 0, signal as usize).map(drop)
    }

    /// Lets the stopped task go for good, with `signal` delivered to it (0 for none).
    ///
    /// # Errors
    /// ESRCH: the task is not stopped, or has ended. It is still let go when this value is dropped.
    pub fn detach(mut self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_DETACH, self.tid, 0, signal as usize)?;
        self.attached = false;
        Ok(())
    }

    /// General registers of the stopped task.
    ///
    /// # Errors
    /// ESRCH: not stopped; `InvalidData` for a 32-bit task, whose regset is shorter.
    pub fn registers(&self) -> io::Result<Registers> {
        let mut registers = Registers::default();
        let size = size_of::<Registers>();
        let mut io = iovec { iov_base: (&raw mut registers).cast(), iov_len: size };
        request(libc::PTRACE_GETREGSET, self.tid, NT_PRSTATUS, (&raw mut io) as usize)?;
        if io.iov_len != size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit task"));
        }
        Ok(registers)
    }

    /// Sets the general registers of the stopped task.
    ///
    /// # Errors
    /// ESRCH: not stopped; EIO or EINVAL for values that the kernel does not allow.
    pub fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut io = iovec {
            iov_base: std::ptr::from_ref(registers).cast_mut().cast(),
            iov_len: size_of::<Registers>(),
        };
        request(libc::PTRACE_SETREGSET, self.tid, NT_PRSTATUS, (&raw mut io) as usize).map(drop)
    }

    /// The XSAVE area of the stopped task, in the non-compacted format.
    ///
    /// # Errors
    /// ESRCH: not stopped; ENODEV: a CPU without XSAVE.
    pub fn xstate(&self) -> io::Result<Vec<u8>> {
        let mut area = vec![0u8; XSTATE_MAX];
        let mut io = iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
        request(libc::PTRACE_GETREGSET, self.tid, NT_X86_XSTATE, (&raw mut io) as usize)?;
        area.truncate(io.iov_len);
        area.shrink_to_fit();
        Ok(area)
    }

    /// Sets the XSAVE area of the stopped task.
    ///
    /// # Errors
    /// ESRCH: not stopped; EFAULT or EINVAL for an area that this kernel and CPU do not take.
    pub fn set_xstate(&self, area: &[u8]) -> io::Result<()> {
        let mut io = iovec { iov_base: area.as_ptr().cast_mut().cast(), iov_len: area.len() };
        request(libc::PTRACE_SETREGSET, self.tid, NT_X86_XSTATE, (&raw mut io) as usize).map(drop)
    }

    /// Debug register 7 of the stopped task: two bits for each breakpoint that is on, lowest first.
    ///
    /// # Errors
    /// ESRCH: not stopped.
    pub fn breakpoints(&self) -> io::Result<u64> {
        let offset = std::mem::offset_of!(libc::user, u_debugreg) + 7 * 8;
        let mut value = 0u64;
        // SAFETY: the call itself, unlike the function of the C library, writes one word.
        let result = unsafe {
            libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKUSER, self.tid, offset, &raw mut value)
        };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(value & 0xff) }
    }

    /// Signals blocked by the stopped task; bit n-1 is signal n. In a call such as sigsuspend(2) it
    /// is the mask that the call puts back when it returns.
    ///
    /// # Errors
    /// ESRCH: not stopped.
    pub fn signal_mask(&self) -> io::Result<u64> {
        let mut mask = 0u64;
        request(libc::PTRACE_GETSIGMASK, self.tid, 8, (&raw mut mask) as usize)?;
        Ok(mask)
    }

    /// Sets the signals that the stopped task blocks.
    ///
    /// # Errors
    /// ESRCH: not stopped.
    pub fn set_signal_mask(&self, mask: u64) -> io::Result<()> {
        request(libc::PTRACE_SETSIGMASK, self.tid, 8, (&raw const mask) as usize).map(drop)
    }

    /// Where the task has registered restartable sequences; `None` if it has not.
    ///
    /// # Errors
    /// ESRCH: not stopped; EIO: a kernel before 5.13.
    pub fn rseq(&self) -> io::Result<Option<RseqConfig>> {
        #[repr(C)]
        #[derive(Default)]
        struct Raw {
            address: u64,
            length: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        let mut raw = Raw::default();
        let (size, address) = (size_of::<Raw>(), (&raw mut raw) as usize);
        request(GET_RSEQ_CONFIGURATION, self.tid, size, address)?;
        let Raw { address, length, signature, .. } = raw;
        Ok((address != 0).then_some(RseqConfig { address, length, signature }))
    }

    /// Whether the task gets a signal instead of some of its system calls (prctl(2), PR_SET_SYSCALL_USER_DISPATCH).
    ///
    /// # Errors
    /// ESRCH: not stopped; EIO: a kernel before 6.4.
    pub fn dispatches(&self) -> io::Result<bool> {
        // Mode, address of the selector, offset, length.
        let mut config = [0u64; 4];
        let (size, address) = (size_of_val(&config), config.as_mut_ptr() as usize);
        request(GET_DISPATCH, self.tid, size, address)?;
        Ok(config[0] != 0)
    }

    /// The siginfo of the signal that the task has stopped for.
    ///
    /// # Errors
    /// ESRCH: not stopped; EINVAL in some group stops.
    pub fn siginfo(&self) -> io::Result<SigInfo> {
        let mut info = [0u8; 128];
        request(libc::PTRACE_GETSIGINFO, self.tid, 0, info.as_mut_ptr() as usize)?;
        Ok(info)
    }

    /// Queued signals of the stopped thread, or of its thread group, oldest first.
    ///
    /// # Errors
    /// ESRCH: not stopped.
    pub fn queued_signals(&self, of_group: bool) -> io::Result<Vec<SigInfo>> {
        #[repr(C)]
        struct Args {
            offset: u64,
            flags: u32,
            count: i32,
        }
        const BATCH: usize = 32;
        let mut found: Vec<SigInfo> = Vec::new();
        loop {
            let mut batch = [[0u8; 128]; BATCH];
            let flags = if of_group { PEEKSIGINFO_SHARED } else { 0 };
            let args = Args { offset: found.len() as u64, flags, count: BATCH as i32 };
            let got = request(
                libc::PTRACE_PEEKSIGINFO,
                self.tid,
                (&raw const args) as usize,
                batch.as_mut_ptr() as usize,
            )? as usize;
            found.extend(batch.iter().take(got));
            if got < BATCH {
                return Ok(found);
            }
        }
    }

    /// Lets go of a task in whatever state it is.
    fn release(&self) {
        let detach = || request(libc::PTRACE_DETACH, self.tid, 0, 0);
        if detach().is_ok() {
            return;
        }
        let _ = self.interrupt();
        match self.wait_stop(Instant::now() + RELEASE_LIMIT) {
            Ok(Stop::Signal(signal)) => {
                let _ = request(libc::PTRACE_DETACH, self.tid, 0, signal as usize);
            }
            Ok(Stop::Gone) => reap_traced(self.tid),
            Ok(Stop::Forked(new)) => {
                drop(Tracee::inherited(new));
                let _ = detach();
            }
            _ => {
                let _ = detach();
            }
        }
    }
}

impl Tracee {
    /// Waits until the task, which was killed, has ended. Its parent (which may be this process) is
    /// told only then; only the leader of a thread group keeps its status for it.
    pub fn wait_end(mut self, deadline: Instant) {
        let mut pause = Pause::default();
        loop {
            match wait_status(self.tid, libc::WEXITED | libc::WNOWAIT) {
                Ok(Some((libc::CLD_TRAPPED, _)) | None) => {}
                Ok(Some(_)) => break reap_traced(self.tid),
                Err(_) => break,
            }
            if Instant::now() >= deadline {
                break;
            }
            pause.take();
        }
        self.attached = false;
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.attached {
            self.release();
        }
    }
}

/// Thread id of the caller: what the tasks that it traces have as their tracer.
pub fn own_tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// A task that ended while it was traced is shown to its parent only after the tracer has waited for
/// it. Not where the tracer's process is the parent: there the status is the parent's to collect.
fn reap_traced(tid: pid_t) {
    // SAFETY: getpid has no preconditions.
    let own = unsafe { libc::getpid() };
    let leader_of_ours = std::fs::read_to_string(format!("/proc/{tid}/status"))
        .map(|status| {
            let field = |name: &str| -> Option<i32> {
                status.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok())
            };
            field("Tgid:") == Some(tid) && field("PPid:") == Some(own)
        })
        .unwrap_or(true);
    if !leader_of_ours {
        let _ = wait_status(tid, libc::WEXITED);
    }
}

/// waitid(2) on one task without blocking: si_code and si_status, if there is something to tell.
fn wait_status(tid: pid_t, what: c_int) -> io::Result<Option<(c_int, c_int)>> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = what | libc::WNOHANG | libc::__WALL;
    // SAFETY: `info` is a valid siginfo_t for the time of the call.
    let result = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, &mut info, flags) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves the zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some((info.si_code, status)))
}

/// Waiting in steps that grow: first the processor is offered to others, then it sleeps.
#[derive(Default)]
struct Pause {
    taken: u32,
}

impl Pause {
    fn take(&mut self) {
        self.taken += 1;
        match self.taken {
            0..20 => std::thread::yield_now(),
            20..100 => std::thread::sleep(Duration::from_micros(50)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// ptrace(2) with the error in the result. Not for PTRACE_PEEK*, whose libc wrapper differs.
fn request(what: c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: every caller in this file passes either plain numbers or pointers to its own live
    // variables of the size that the request reads or writes; a bad tid gives an error.
    let result = unsafe { libc::ptrace(what, tid, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Killed and reaped at the end of a test.
    struct Victim(Child);

    impl Victim {
        fn start() -> (Victim, i32) {
            let mut command = Command::new("sleep");
            let child = command.arg("600").stdin(Stdio::null()).spawn().expect("sleep starts");
            let pid = child.id() as i32;
            (Victim(child), pid)
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn stops_reads_and_lets_go() {
        let (mut victim, pid) = Victim::start();
        let tracee = Tracee::seize(pid, Options::FORKS).expect("seize");
        tracee.interrupt().expect("interrupt");
        assert_eq!(tracee.wait_stop(soon()).expect("stop"), Stop::Interrupted);
        let before = tracee.registers().expect("registers");
        assert_ne!(before.rip, 0);
        tracee.set_registers(&before).expect("set registers");
        assert_eq!(tracee.registers().expect("registers"), before);
        let xstate = tracee.xstate().expect("xstate");
        assert!(xstate.len() >= 512);
        tracee.set_xstate(&xstate).expect("set xstate");
        assert_eq!(tracee.signal_mask().expect("mask"), 0);
        tracee.set_signal_mask(1 << 9).expect("set mask");
        assert_eq!(tracee.signal_mask().expect("mask"), 1 << 9);
        tracee.set_signal_mask(0).expect("set mask");
        assert!(tracee.queued_signals(true).expect("queue").is_empty());
        tracee.rseq().expect("rseq");
        tracee.detach(0).expect("detach");
        assert!(victim.0.try_wait().expect("wait").is_none(), "the task ended");
    }

    #[test]
    fn dropping_lets_a_running_task_go() {
        let (victim, pid) = Victim::start();
        drop(Tracee::seize(pid, Options::NONE).expect("seize"));
        let again = Tracee::seize(pid, Options::NONE).expect("seize again");
        again.interrupt().expect("interrupt");
        assert_eq!(again.wait_stop(soon()).expect("stop"), Stop::Interrupted);
        drop(again);
        drop(victim);
    }

    #[test]
    fn an_end_is_seen_and_left_to_the_parent() {
        let (mut victim, pid) = Victim::start();
        let tracee = Tracee::seize(pid, Options::NONE).expect("seize");
        victim.0.kill().expect("kill");
        assert_eq!(tracee.wait_stop(soon()).expect("stop"), Stop::Gone);
        drop(tracee);
        assert!(!victim.0.wait().expect("the status is still there").success());
    }
}
