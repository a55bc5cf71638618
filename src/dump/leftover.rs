//! What a checkpointer that died has left in a task: the code of `sys::remote`, and the task in it.
//!
//! Comes in: a stopped thread. Goes out: the same thread where it was before that code, which is run to its
//! end but not a step further: a thread that job control has stopped does not get on, and none gets into the
//! middle of a system call.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::cpu::{ERESTART_RESTARTBLOCK, SYSCALL_LENGTH};
use super::facts::Facts;
use super::inject::{PATIENCE, places, vdso};
use super::stop::Thread;
use crate::error::DumpError;
use crate::sys::procfs::Mapping;
use crate::sys::ptrace::{Registers, Stop};
use crate::sys::remote::{self, WayBack};

/// Brings a thread back that is in the code of another checkpointer; says whether it was, so that its
/// mappings have changed.
pub(super) fn run_out(
    facts: &Facts,
    thread: &Thread,
    maps: &[Mapping],
    pristine: &[u8],
) -> Result<bool, DumpError> {
    let failed = |what: &str| DumpError::task(facts.tid, what.to_owned());
    let tracee = &thread.tracee;
    // A 32-bit task is refused later.
    let Ok(mut registers) = tracee.registers() else { return Ok(false) };
    let Some(code) = code_of(registers.rip, maps, pristine) else { return Ok(false) };
    let stuck = || {
        let reason = "it does not leave what another checkpointer has left in it".to_owned();
        DumpError::Busy { pid: facts.tid, reason }
    };
    let way = way_back(facts, code, &registers)?.ok_or_else(stuck)?;
    tracee.set_signal_mask(!(1 << (way.signal - 1))).map_err(failed("block its signals"))?;
    let deadline = Instant::now() + PATIENCE;
    // Behind the last stop nothing is left of the code but its bytes.
    let (mut deliver, mut kept_back) = (0, false);
    while registers.rip < code + remote::stops().done {
        tracee.resume(deliver).map_err(failed("let it run"))?;
        let stop = tracee.wait_stop(deadline).map_err(failed("wait until it stops"))?;
        registers = tracee.registers().map_err(failed("read its registers"))?;
        // Only SIGSTOP gets through the mask, and the signal of the stops, which may come from elsewhere.
        deliver = if stop == Stop::Signal(libc::SIGSTOP) { libc::SIGSTOP } else { 0 };
        let own = [remote::stops().answered, remote::stops().done].map(|at| code + at);
        kept_back |= stop == Stop::Signal(way.signal) && !own.contains(&registers.rip);
    }
    tracee.set_registers(&interrupted(way.registers)).map_err(failed("put back its registers"))?;
    tracee.set_signal_mask(way.mask).map_err(failed("put back its signal mask"))?;
    if kept_back && facts.status.caught & 1 << (way.signal - 1) != 0 {
        let sent = crate::sys::inspect::signal_thread(facts.pid, facts.tid, way.signal);
        sent.map_err(failed("send it the signal that was kept back"))?;
    }
    Ok(true)
}

/// A call that is about to go on through restart_syscall(2), as the kernel shows one that is interrupted again.
fn interrupted(mut registers: Registers) -> Registers {
    if registers.rax == libc::SYS_restart_syscall as u64 {
        registers.orig_rax = registers.rax;
        registers.rax = ERESTART_RESTARTBLOCK;
        registers.rip = registers.rip.wrapping_add(SYSCALL_LENGTH);
    }
    registers
}

/// Where the code starts that `rip` is in, if it is in any.
fn code_of(rip: u64, maps: &[Mapping], pristine: &[u8]) -> Option<u64> {
    let vdso = vdso(maps)?;
    let at = rip.checked_sub(vdso.start)?;
    let start = places(pristine)
        .find(|&start| (start as u64..(start + remote::size()) as u64).contains(&at))?;
    Some(vdso.start + start as u64)
}

/// What that code has kept for its end; none where it is the code of another version.
fn way_back(facts: &Facts, code: u64, now: &Registers) -> Result<Option<WayBack>, DumpError> {
    let path = format!("/proc/{}/mem", facts.pid);
    let memory = File::open(&path).map_err(DumpError::task(facts.tid, format!("open {path}")))?;
    let mut job = vec![0; remote::size()];
    let read = memory.read_exact_at(&mut job, code);
    read.map_err(DumpError::task(facts.tid, "read its vdso"))?;
    Ok(WayBack::read(&job, now).filter(|way| (1..=64).contains(&way.signal)))
}
