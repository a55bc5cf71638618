//! The end of a restart: the vm is taken away, and the tasks go on where they were.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::freezer::Freezer;
use super::jobs;
use super::launch::Tree;
use super::watch::Watch;
use crate::error::{Error, RestartError};
use crate::image::{Cpu, Live, TaskState};
use crate::program::restorers;
use crate::sys::ptrace::{Options, Registers, Stop, Tracee};
use crate::sys::vdso;

/// How long a task may take to do one thing that the kernel does at once.
const LIMIT: Duration = Duration::from_secs(10);

/// Selectors of a 64-bit task.
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;

/// Results that the kernel never shows to a program: the call is to be made again
/// (include/linux/errno.h).
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// CKPT_RESTART_BLOCK_HRTIMER_NANOSLEEP.
const NANOSLEEP: u64 = 2;

/// A live task, traced.
pub(super) struct Traced<'a> {
    /// Index in the task table.
    pub index: usize,
    /// Its state in the image.
    pub live: &'a Live,
    /// Whether it is the one of its thread group that unmaps the vm.
    pub leads: bool,
    /// Address of a `syscall` instruction in it.
    pub syscall: u64,
    /// Whether it slept, and the time is over.
    woken: bool,
    /// Its attachment.
    pub tracee: &'a Tracee,
}

/// Traces all tasks that go on. From now on they die with this thread.
///
/// # Errors
/// That a task has ended.
pub fn seize(watch: &Watch<'_>, tree: &mut Tree) -> Result<(), Error> {
    for (index, state) in watch.body.tasks.iter().enumerate() {
        if let TaskState::Live(_) = state {
            let tid = tree.pids.get(index).copied().unwrap_or(0);
            let tracee = Tracee::seize(tid, Options::KILL_WITH_TRACER)
                .map_err(failed(watch, index, "attach"))?;
            tree.tracees.push(tracee);
        }
    }
    Ok(())
}

/// Takes the vm out of every task, gives it its registers, and lets all go: the pid of the first task.
///
/// # Errors
/// That a task has ended or does not stop, or that the freezer does not freeze. Then all tasks are ended.
pub fn finish(watch: &Watch<'_>, tree: Tree, freezer: Option<&Freezer>) -> Result<i32, Error> {
    hand_over(watch, &tree)?;
    // All tasks are stopped: none runs before somebody thaws them.
    freezer.map_or(Ok(()), Freezer::freeze)?;
    let pid = tree.leave();
    freezer.inspect(|freezer| freezer.settle());
    Ok(pid)
}

fn hand_over(watch: &Watch<'_>, tree: &Tree) -> Result<(), Error> {
    let vdso = vdso::own()?;
    let deadline = Instant::now() + LIMIT;
    let mut tasks = traced(watch, tree, vdso.syscall_offset().unwrap_or(0));
    let fail = |task: &Traced<'_>, what: &'static str| failed(watch, task.index, what);
    for task in &tasks {
        task.tracee.interrupt().map_err(fail(task, "stop"))?;
    }
    for task in &tasks {
        stopped(task, deadline).map_err(fail(task, "stop"))?;
    }
    for task in &mut tasks {
        task.woken = sleep_again(tree, task, deadline).map_err(fail(task, "go on sleeping"))?;
    }
    jobs::stop(watch, tree, &tasks, deadline)?;
    for task in tasks.iter().filter(|task| task.leads) {
        unmap(tree, task).map_err(fail(task, "unmap the vm"))?;
    }
    for task in &tasks {
        if task.leads {
            unmapped(task, deadline).map_err(fail(task, "unmap the vm"))?;
        }
        set_state(task).map_err(fail(task, "set registers"))?;
    }
    Ok(())
}

/// The live tasks with their tracees, which are in the same order.
fn traced<'a>(watch: &Watch<'a>, tree: &'a Tree, syscall: u64) -> Vec<Traced<'a>> {
    let live = watch.body.tasks.iter().enumerate().filter_map(|(index, state)| match state {
        TaskState::Live(live) => Some((index, live)),
        TaskState::Zombie(_) => None,
    });
    let restorers = restorers(watch.plan, watch.body);
    live.zip(&tree.tracees)
        .map(|((index, live), tracee)| {
            let leads = restorers.get(index) == Some(&index);
            let vdso = watch.body.objects.mms.get(live.mm).map_or(0, |mm| mm.vdso);
            Traced { index, live, leads, syscall: vdso + syscall, woken: false, tracee }
        })
        .collect()
}

/// Waits until a task stops, for whatever reason.
pub(super) fn stopped(task: &Traced<'_>, deadline: Instant) -> std::io::Result<Stop> {
    match task.tracee.wait_stop(deadline)? {
        Stop::Gone => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
        stop => Ok(stop),
    }
}

/// Sets the registers of a stopped task so that it makes a system call.
fn set_call(task: &Traced<'_>, number: libc::c_long, arguments: [u64; 4]) -> std::io::Result<()> {
    let mut registers = task.tracee.registers()?;
    registers.rip = task.syscall;
    registers.rax = number as u64;
    registers.orig_rax = u64::MAX;
    [registers.rdi, registers.rsi, registers.rdx, registers.r10] = arguments;
    task.tracee.set_registers(&registers)
}

/// Waits until a task that was let run to a system call stops at the start of it.
fn reach_call(task: &Traced<'_>, deadline: Instant) -> std::io::Result<()> {
    loop {
        stopped(task, deadline)?;
        if task.tracee.registers()?.rip != task.syscall {
            return Ok(());
        }
        // A stop that was still due comes before it.
        in_time(deadline)?;
        task.tracee.resume_to_call(0)?;
    }
}

/// From the start of a system call to its end: the result, negative for an error.
fn end_call(task: &Traced<'_>, deadline: Instant) -> std::io::Result<i64> {
    task.tracee.resume_to_call(0)?;
    stopped(task, deadline)?;
    Ok(task.tracee.registers()?.rax as i64)
}

/// Has a stopped task make a system call that does not wait; it is then stopped at its end. The result,
/// negative for an error.
pub(super) fn make_call(
    task: &Traced<'_>,
    number: libc::c_long,
    arguments: [u64; 4],
    deadline: Instant,
) -> std::io::Result<i64> {
    set_call(task, number, arguments)?;
    task.tracee.resume_to_call(0)?;
    reach_call(task, deadline)?;
    end_call(task, deadline)
}

/// A task that slept goes on for the time that was left. Only the kernel can remember that: so the task
/// is made to sleep, and is interrupted at once; what the kernel notes then is what it goes on with.
/// Says whether the time is over already.
fn sleep_again(tree: &Tree, task: &Traced<'_>, deadline: Instant) -> std::io::Result<bool> {
    let block = task.live.restart_block;
    if !sleeps(task.live) {
        return Ok(false);
    }
    let time =
        tree.region.scratch(task.index, [block.left / 1_000_000_000, block.left % 1_000_000_000]);
    let [clock, remaining, ..] = block.args;
    set_call(task, libc::SYS_clock_nanosleep, [clock, 0, time, remaining])?;
    task.tracee.resume_to_call(0)?;
    reach_call(task, deadline)?;
    // To its end, which a short time may bring before the interrupt does: nothing behind it must run.
    task.tracee.resume_to_call(0)?;
    task.tracee.interrupt()?;
    stopped(task, deadline)?;
    let over = task.tracee.registers()?.rax == 0;
    // Any stop takes away an interrupt that is due, and only from the stop of an interrupt the kernel goes
    // on with what it has noted.
    task.tracee.interrupt()?;
    task.tracee.resume(0)?;
    stopped(task, deadline)?;
    Ok(over)
}

/// Fails where the time is over.
pub(super) fn in_time(deadline: Instant) -> std::io::Result<()> {
    if Instant::now() > deadline { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) }
}

fn sleeps(live: &Live) -> bool {
    live.restart_block.function == NANOSLEEP && live.cpu.ax as i64 == ERESTART_RESTARTBLOCK
}

/// Starts the one munmap that takes the vm away: only code outside of it can do that. Not with single
/// steps: their SIGTRAP, which is blocked, would take a handler of it away.
fn unmap(tree: &Tree, task: &Traced<'_>) -> std::io::Result<()> {
    let (base, length) = (tree.region.layout().base, tree.region.len());
    set_call(task, libc::SYS_munmap, [base, length, 0, 0])?;
    task.tracee.resume_to_call(0)
}

fn unmapped(task: &Traced<'_>, deadline: Instant) -> std::io::Result<()> {
    reach_call(task, deadline)?;
    match end_call(task, deadline)? {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(-error as i32)),
    }
}

fn set_state(task: &Traced<'_>) -> std::io::Result<()> {
    let mut registers = interrupted(task.live);
    if task.woken {
        (registers.rax, registers.orig_rax) = (0, u64::MAX);
    }
    task.tracee.set_registers(&registers)?;
    if let Some(area) = &task.live.fpu {
        task.tracee.set_xstate(area)?;
    }
    task.tracee.set_signal_mask(task.live.blocked)
}

/// The registers of a task for which the kernel decides, when it goes on, whether the system call that was
/// interrupted is made again, or ends because a handler has run.
fn interrupted(live: &Live) -> Registers {
    let cpu = &live.cpu;
    let mut registers = registers(live);
    if registers.rip != cpu.ip {
        (registers.rip, registers.rax, registers.orig_rax) = (cpu.ip, cpu.ax, cpu.orig_ax);
        (registers.rdi, registers.rdx) = (cpu.di, cpu.dx);
        // What sleep_again has made the kernel note it goes on with.
        if registers.rax as i64 == ERESTART_RESTARTBLOCK && !sleeps(live) {
            // The kernel has noted nothing to go on with: from the start.
            registers.rax = ERESTARTNOHAND as u64;
        }
    }
    registers
}

/// The registers with which a task goes on that the kernel does not help: an interrupted system call is
/// made again, a sleep for the time that is left.
pub fn registers(live: &Live) -> Registers {
    let cpu: &Cpu = &live.cpu;
    let mut registers = Registers {
        r15: cpu.r15,
        r14: cpu.r14,
        r13: cpu.r13,
        r12: cpu.r12,
        rbp: cpu.bp,
        rbx: cpu.bx,
        r11: cpu.r11,
        r10: cpu.r10,
        r9: cpu.r9,
        r8: cpu.r8,
        rax: cpu.ax,
        rcx: cpu.cx,
        rdx: cpu.dx,
        rsi: cpu.si,
        rdi: cpu.di,
        orig_rax: u64::MAX,
        rip: cpu.ip,
        cs: USER_CS,
        eflags: cpu.flags,
        rsp: cpu.sp,
        ss: USER_SS,
        fs_base: cpu.fs_base,
        gs_base: cpu.gs_base,
        ..Registers::default()
    };
    if cpu.orig_ax as i64 == -1 {
        return registers;
    }
    match cpu.ax as i64 {
        ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND | ERESTART_RESTARTBLOCK => {
            const SYSCALL_BYTES: u64 = 2;
            registers.rax = cpu.orig_ax;
            registers.rip = cpu.ip.wrapping_sub(SYSCALL_BYTES);
        }
        _ => {}
    }
    if sleeps(live) {
        // The kernel has written it where the program wants to read it.
        let [_, left, ..] = live.restart_block.args;
        match cpu.orig_ax as i64 {
            libc::SYS_nanosleep => registers.rdi = left,
            _ => registers.rdx = left,
        }
    }
    registers
}

/// The error of doing `what` to a task.
pub(super) fn failed(
    watch: &Watch<'_>,
    index: usize,
    what: &'static str,
) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let pid = watch.plan.tasks.get(index).map_or(0, |t| t.pid);
    move |source| RestartError::Finish { index, pid, what, source }.into()
}
