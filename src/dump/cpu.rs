//! What a stopped thread's registers mean: where it is to go on.
//!
//! Comes in: a stopped thread. Goes out: its registers twice, as they are to be put back into the
//! original and as the image has them, with FPU state and interrupted call. Never: a change of the
//! original, but for calls that the stop itself has ended too early ([`run_again`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::facts::Facts;
use super::stop::Thread;
use crate::error::DumpError;
use crate::image::{Cpu, RestartBlock, Rseq};
use crate::sys::procfs;
use crate::sys::ptrace::{Registers, Tracee};

/// What the kernel leaves in rax when a call that was interrupted is to be run again.
const ERESTARTSYS: u64 = -512i64 as u64;
const ERESTARTNOINTR: u64 = -513i64 as u64;
const ERESTARTNOHAND: u64 = -514i64 as u64;
pub(super) const ERESTART_RESTARTBLOCK: u64 = -516i64 as u64;
const EINTR: u64 = -(libc::EINTR as i64) as u64;
/// Bytes of the `syscall` instruction.
pub(super) const SYSCALL_LENGTH: u64 = 2;
/// Code segment of a 64-bit task.
const USER64_CS: u64 = 0x33;
/// CKPT_RESTART_BLOCK_NONE and _HRTIMER_NANOSLEEP of the image format.
const BLOCK_NONE: u64 = 1;
const BLOCK_NANOSLEEP: u64 = 2;

/// Not in the libc crate for x86_64.
const SYS_IO_PGETEVENTS: i64 = 333;

/// Calls that end with EINTR when a tracer stops the task (signal(7), "interruption by stop signals",
/// and io_getevents), although no signal came. All of them can be run again.
const ENDED_BY_STOP: [i64; 18] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Calls that go on through restart_syscall(2).
const CONTINUED: [i64; 4] =
    [libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_poll, libc::SYS_futex];

/// The state of a thread's processor.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// What the original is to have when it goes on.
    pub registers: Registers,
    /// What the image says.
    pub cpu: Cpu,
    /// The XSAVE area.
    pub xstate: Vec<u8>,
    /// An interrupted call.
    pub restart_block: RestartBlock,
    /// Registration of restartable sequences.
    pub rseq: Option<Rseq>,
    /// Signals blocked.
    pub mask: u64,
}

/// Reads the state of a stopped thread. `memory` is the opened /proc/PID/mem of its process.
pub(super) fn read(facts: &Facts, thread: &Thread, memory: &File) -> Result<Machine, DumpError> {
    let tid = facts.tid;
    let tracee = &thread.tracee;
    let mut registers = tracee.registers().map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => facts.refuse("the task", "it is a 32-bit program"),
        _ => DumpError::task(tid, "read its registers")(e),
    })?;
    if registers.cs != USER64_CS {
        return Err(facts.refuse("the task", "it runs 32-bit code"));
    }
    let breakpoints = tracee.breakpoints();
    if breakpoints.map_err(DumpError::task(tid, "read its debug registers"))? != 0 {
        let reason = "a debugger has left breakpoints in its debug registers";
        return Err(facts.refuse("the task", reason));
    }
    match tracee.dispatches() {
        Ok(false) => {}
        Ok(true) => {
            let reason = "its system calls become signals (PR_SET_SYSCALL_USER_DISPATCH)";
            return Err(facts.refuse("the task", reason));
        }
        // An older kernel does not tell.
        Err(e) if e.raw_os_error() == Some(libc::EIO) => {}
        Err(e) => return Err(DumpError::task(tid, "read how it makes system calls")(e)),
    }
    let rseq = match tracee.rseq() {
        Ok(found) => found,
        // A kernel that cannot say is one whose C libraries do not use it.
        Err(e) if e.raw_os_error() == Some(libc::EIO) => None,
        Err(e) => return Err(DumpError::task(tid, "read where rseq is registered")(e)),
    };
    if let Some(area) = rseq {
        leave_critical_section(&mut registers, area.address, memory);
    }
    let (cpu, restart_block) = saved(&registers, facts, memory)?;
    Ok(Machine {
        registers,
        cpu,
        xstate: tracee.xstate().map_err(DumpError::task(tid, "read its FPU state"))?,
        restart_block,
        rseq: rseq.map(|r| Rseq { address: r.address, length: r.length, signature: r.signature }),
        mask: tracee.signal_mask().map_err(DumpError::task(tid, "read its signal mask"))?,
    })
}

/// A call that only our stop has ended is set to run again, in the stopped thread itself. A signal
/// that has a handler and waits to be delivered would have ended it too: then nothing is changed.
pub(super) fn run_again(tracee: &Tracee) -> io::Result<()> {
    // A 32-bit task is refused later.
    let Ok(mut registers) = tracee.registers() else { return Ok(()) };
    if registers.rax != EINTR || !ENDED_BY_STOP.contains(&(registers.orig_rax as i64)) {
        return Ok(());
    }
    let status = procfs::read(&format!("/proc/{}/status", tracee.tid()))?;
    let status = procfs::status(&status).unwrap_or_default();
    if (status.pending | status.shared_pending) & !status.blocked & status.caught != 0 {
        return Ok(());
    }
    registers.rax = registers.orig_rax;
    registers.rip = registers.rip.wrapping_sub(SYSCALL_LENGTH);
    registers.orig_rax = u64::MAX;
    tracee.set_registers(&registers)
}

/// Where a task goes on in user space when nobody traces it any more and no signal comes: the
/// kernel's arch_do_signal_or_restart.
pub(super) fn settled(registers: &Registers) -> Registers {
    let mut settled = *registers;
    settled.orig_rax = u64::MAX;
    if (registers.orig_rax as i64) < 0 {
        return settled;
    }
    settled.rax = match registers.rax {
        ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => registers.orig_rax,
        ERESTART_RESTARTBLOCK => libc::SYS_restart_syscall as u64,
        _ => return settled,
    };
    settled.rip = registers.rip.wrapping_sub(SYSCALL_LENGTH);
    settled
}

/// A thread that was stopped inside a restartable sequence must start it anew: the kernel would send
/// it to the abort handler. See `struct rseq_cs` in linux/rseq.h.
fn leave_critical_section(registers: &mut Registers, area: u64, memory: &File) {
    let Some(section) = word(memory, area.wrapping_add(8)).filter(|&s| s != 0) else { return };
    let field = |at: u64| word(memory, section.wrapping_add(at));
    let (Some(start), Some(length), Some(abort)) = (field(8), field(16), field(24)) else { return };
    if registers.rip.wrapping_sub(start) < length {
        registers.rip = abort;
    }
}

fn word(memory: &File, address: u64) -> Option<u64> {
    let mut bytes = [0u8; 8];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Registers as the image has them, and what is known of the interrupted call.
fn saved(
    registers: &Registers,
    facts: &Facts,
    memory: &File,
) -> Result<(Cpu, RestartBlock), DumpError> {
    let mut cpu = cpu(registers);
    let mut block = RestartBlock { function: BLOCK_NONE, ..RestartBlock::default() };
    if registers.rax != ERESTART_RESTARTBLOCK || (registers.orig_rax as i64) < 0 {
        return Ok((cpu, block));
    }
    if registers.orig_rax == libc::SYS_restart_syscall as u64 {
        // It was interrupted before. Its arguments are still in the registers, its number no more.
        cpu.orig_ax = continued_call(memory, registers).ok_or_else(|| {
            let reason = "it has been interrupted twice, and which call it is cannot be told";
            facts.refuse("the system call that it is in", reason)
        })?;
    }
    let (clock, rest) = match cpu.orig_ax as i64 {
        libc::SYS_nanosleep => (libc::CLOCK_MONOTONIC as u64, registers.rsi),
        libc::SYS_clock_nanosleep => (registers.rdi, registers.r10),
        _ => return Ok((cpu, block)),
    };
    // The kernel has written the time that is left, where the caller wanted to know.
    let left =
        rest.checked_add(8).and_then(|nanos| Some((word(memory, rest)?, word(memory, nanos)?)));
    if let Some((seconds, nanos)) = left.filter(|_| rest != 0) {
        block.function = BLOCK_NANOSLEEP;
        block.args = [clock, rest, 0, 0];
        block.left = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    }
    Ok((cpu, block))
}

/// Number of the call before rip: from the `mov $number, %eax` that C libraries have in front of
/// `syscall`, or, where that is in syscall(2), from the `mov $number, %edi` in front of its call.
fn continued_call(memory: &File, registers: &Registers) -> Option<u64> {
    let code = code_before(memory, registers.rip)?;
    let body = code.strip_suffix(&[0x0f, 0x05])?;
    let number = last_immediate(body, MOV_EAX);
    if number.is_some() || !body.ends_with(&SYSCALL_WRAPPER_END) {
        return number;
    }
    let caller = code_before(memory, word(memory, registers.rsp)?)?;
    last_immediate(&caller, MOV_EDI)
}

/// `mov $imm32, %eax` and `mov $imm32, %edi`.
const MOV_EAX: u8 = 0xb8;
const MOV_EDI: u8 = 0xbf;
/// The last argument of syscall(2) comes from the stack: `mov 8(%rsp), %r9`.
const SYSCALL_WRAPPER_END: [u8; 5] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];

fn code_before(memory: &File, address: u64) -> Option<[u8; 64]> {
    const LENGTH: usize = 64;
    let mut code = [0u8; LENGTH];
    memory.read_exact_at(&mut code, address.checked_sub(LENGTH as u64)?).ok()?;
    Some(code)
}

/// The last number of a call that goes on through restart_syscall(2), in an instruction with this code.
fn last_immediate(code: &[u8], instruction: u8) -> Option<u64> {
    let candidates = code.windows(5).rev().filter_map(|w| match w {
        [first, a, b, c, d] if *first == instruction => Some(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    });
    candidates.map(u64::from).find(|&number| CONTINUED.contains(&(number as i64)))
}

fn cpu(r: &Registers) -> Cpu {
    Cpu {
        r15: r.r15,
        r14: r.r14,
        r13: r.r13,
        r12: r.r12,
        bp: r.rbp,
        bx: r.rbx,
        r11: r.r11,
        r10: r.r10,
        r9: r.r9,
        r8: r.r8,
        ax: r.rax,
        cx: r.rcx,
        dx: r.rdx,
        si: r.rsi,
        di: r.rdi,
        orig_ax: if (r.orig_rax as i64) < 0 { u64::MAX } else { r.orig_rax },
        ip: r.rip,
        sp: r.rsp,
        flags: r.eflags,
        fs_base: r.fs_base,
        gs_base: r.gs_base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_settles_where_the_kernel_would_run_it_again() {
        let at = |rax, orig_rax| Registers { rax, orig_rax, rip: 100, ..Registers::default() };
        let read = libc::SYS_read as u64;
        for rax in [ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND] {
            let settled = settled(&at(rax, read));
            assert_eq!((settled.rax, settled.rip, settled.orig_rax), (read, 98, u64::MAX));
        }
        let continued = settled(&at(ERESTART_RESTARTBLOCK, 35));
        assert_eq!((continued.rax, continued.rip), (219, 98));
        let finished = settled(&at(7, read));
        assert_eq!((finished.rax, finished.rip), (7, 100));
        let computing = settled(&at(ERESTARTSYS, u64::MAX));
        assert_eq!((computing.rax, computing.rip), (ERESTARTSYS, 100));
    }

    #[test]
    fn the_number_in_front_of_a_syscall_instruction() {
        let file = tempfile::tempfile().expect("file");
        let mut code = vec![0x90u8; 300];
        code[80..85].copy_from_slice(&[0xb8, 230, 0, 0, 0]);
        code[98..100].copy_from_slice(&[0x0f, 0x05]);
        // A call of syscall(2), whose address to return to is 260, on a stack at 290.
        code[193..198].copy_from_slice(&SYSCALL_WRAPPER_END);
        code[198..200].copy_from_slice(&[0x0f, 0x05]);
        code[240..245].copy_from_slice(&[0xbf, 202, 0, 0, 0]);
        code[290..298].copy_from_slice(&260u64.to_ne_bytes());
        file.write_all_at(&code, 0).expect("write");
        let at = |rip| Registers { rip, rsp: 290, ..Registers::default() };
        assert_eq!(continued_call(&file, &at(100)), Some(230));
        assert_eq!(continued_call(&file, &at(200)), Some(202));
        assert_eq!(continued_call(&file, &at(90)), None);
        assert_eq!(continued_call(&file, &at(10)), None);
    }
}
