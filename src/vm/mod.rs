//! The interpreter that runs a program, and the memory that it shares with the coordinator.
//!
//! In: programs and their data, as `program` compiled them for a [`Layout`]. Out: a [`Region`] in which
//! forked tasks run them, with their status words. The tasks never run Rust, allocate, lock, or touch
//! any memory but this region and what their program maps.

mod x86_64;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::SysError;
use crate::program::insn::{EPILOGUE, INSN_SIZE, Insn, Layout, Op, Stage, Status};
use crate::sys::memory::{Mapping, Protection};

pub use x86_64::{farewell, handlers as handler_offsets};

/// Shared memory with the vm's code, the status blocks, and the programs and data of all tasks.
#[derive(Debug)]
pub struct Region {
    layout: Layout,
    file: File,
    map: Mapping,
    /// Address of the first instruction of each program.
    programs: Vec<u64>,
    /// All instructions, to find a failed one again.
    code_start: u64,
}

/// What a task that failed left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Which task.
    pub task: usize,
    /// Which program the instruction belongs to (that of the task, or of its creator before a fork).
    pub program: usize,
    /// Which instruction of it.
    pub insn: usize,
    /// What the system call returned: an errno negated, or a value other than expected.
    pub result: i64,
}

/// Which programs run when something happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handlers {
    /// A system call failed.
    pub failure: usize,
    /// The parent died (SIGUSR1).
    pub orphan: usize,
    /// A fault (SIGSEGV).
    pub fault: usize,
}

impl Region {
    /// How many bytes a region needs for these programs and this data.
    pub fn size(layout: &Layout, data: u64, insns: u64) -> u64 {
        let code = (layout.data() - layout.base + data).next_multiple_of(64);
        (code + insns * INSN_SIZE).next_multiple_of(4096)
    }

    /// Maps a region at `layout.base` and loads everything into it.
    ///
    /// `epilogue` is the program that goes to the shared page ([`Layout::EPILOGUE`]); it outlives the rest.
    ///
    /// # Errors
    /// ENOMEM and its kind; EEXIST where something was mapped at the address in the meantime.
    pub fn load(
        layout: Layout,
        data: &[u8],
        programs: &[Vec<Insn>],
        handlers: Handlers,
        epilogue: &[Insn],
    ) -> Result<Region, SysError> {
        let insns: usize = programs.iter().map(Vec::len).sum();
        let size = Self::size(&layout, data.len() as u64, insns as u64);
        // The name shows in /proc/PID/maps of the tasks: it tells whose they are.
        let name = format!("usercr-vm.{}", crate::sys::process::own_pid());
        let name = std::ffi::CString::new(name).unwrap_or_default();
        let file = crate::sys::memory::memfd(&name, size)?;
        let map = Mapping::shared(file.as_fd(), layout.base, size, Protection::ReadWrite)?;
        let code_start = (layout.data() + data.len() as u64).next_multiple_of(64);

        let mut starts = Vec::with_capacity(programs.len());
        let mut at = code_start;
        for program in programs {
            starts.push(at);
            at += program.len() as u64 * INSN_SIZE;
        }
        let region = Region { layout, file, map, programs: starts, code_start };
        region.write(layout.base + Layout::CODE, x86_64::code());
        region.write(layout.data(), data);
        for (program, &start) in programs.iter().zip(&region.programs) {
            region.write_insns(start, program);
        }
        region.write_insns(layout.base + Layout::SHARED + Layout::EPILOGUE, epilogue);
        for task in 0..layout.tasks as usize {
            let block = layout.block(task);
            for (field, program) in [
                (Status::ON_FAILURE, handlers.failure),
                (Status::ON_ORPHAN, handlers.orphan),
                (Status::ON_FAULT, handlers.fault),
            ] {
                let start = region.programs.get(program).copied().unwrap_or(0);
                region.word(block + field).store(start, Ordering::Relaxed);
            }
        }
        region.map.protect(layout.base, 4096, Protection::ReadExecute)?;
        Ok(region)
    }

    /// Where things are in this region.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of the region.
    pub fn len(&self) -> u64 {
        self.map.len()
    }

    /// Never: a region holds at least the vm's code.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Forks the first task, which runs the program `program`; see clone3(2) for `clone_args`.
    ///
    /// Signals must be blocked: the child takes over the caller's mask, and runs no handler of it.
    ///
    /// # Errors
    /// Those of clone3(2).
    pub fn launch(&self, clone_args: &[u8], program: usize, task: usize) -> Result<i32, SysError> {
        let (insn, block) =
            (self.programs.get(program).copied().unwrap_or(0), self.layout.block(task));
        let stack = self.layout.stack_top(task);
        // SAFETY: clone_args is a valid struct clone_args of its length, without CLONE_VM: the child has
        // a copy of this memory and leaves it at once for the vm's code in the shared mapping, with a
        // stack and a status block of its own there; it never returns here.
        let result = unsafe {
            x86_64::usercr_vm_launch(
                clone_args.as_ptr(),
                clone_args.len(),
                insn,
                block,
                stack,
                self.layout.base + Layout::CODE,
            )
        };
        match i32::try_from(result) {
            Ok(pid) if pid > 0 => Ok(pid),
            _ => Err(SysError::new("clone3", std::io::Error::from_raw_os_error(-result as i32))),
        }
    }

    /// The caller itself becomes task `task` and runs the program `program`. It never comes back.
    ///
    /// Only for a process with one thread, which gives up all its memory: nothing of it is dropped.
    pub fn enter(self, program: usize, task: usize) -> ! {
        let insn = self.programs.get(program).copied().unwrap_or(0);
        let (block, stack) = (self.layout.block(task), self.layout.stack_top(task));
        let code = self.layout.base + Layout::CODE;
        std::mem::forget(self);
        // SAFETY: insn, block, stack and code lie in the shared mapping, which stays mapped (it is
        // forgotten above); the code never returns, so what it does to this memory is seen by nobody.
        unsafe { x86_64::usercr_vm_enter(insn, block, stack, code) }
    }

    /// Lets all tasks pass the barrier at the end of `stage`.
    pub fn release(&self, stage: Stage) {
        let go = self.half(self.layout.go());
        go.store(stage as u32, Ordering::Release);
        crate::sys::futex::wake_all(go);
    }

    /// How many tasks have arrived at the end of `stage`.
    pub fn arrived(&self, stage: Stage) -> u32 {
        self.half(self.layout.arrived(stage)).load(Ordering::Acquire)
    }

    /// Waits until the count of tasks at the end of `stage` is no longer `seen`, or `millis` are over.
    pub fn wait_arrival(&self, stage: Stage, seen: u32, millis: u32) {
        crate::sys::futex::wait(self.half(self.layout.arrived(stage)), seen, millis);
    }

    /// The pid that a task has in its own namespace; 0 before it exists.
    pub fn pid(&self, task: usize) -> i32 {
        self.word(self.layout.pid(task)).load(Ordering::Acquire) as i32
    }

    /// Puts up to five words where a task can read them, in place of its failure and of what it does
    /// on one: their address. Only for a task that has passed the last barrier.
    pub fn scratch<const N: usize>(&self, task: usize, words: [u64; N]) -> u64 {
        const { assert!(8 * N as u64 <= Status::PID) };
        let at = self.layout.block(task);
        for (offset, word) in (0u64..).step_by(8).zip(words) {
            self.word(at + offset).store(word, Ordering::Release);
        }
        at
    }

    /// The result that was kept as note `index` (see [`Layout::note`]); negative: an errno.
    pub fn note(&self, index: u64) -> i64 {
        self.word(self.layout.note(index)).load(Ordering::Acquire) as i64
    }

    /// The failure that a task has left, if it has.
    pub fn failure(&self, task: usize) -> Option<Failure> {
        let block = self.layout.block(task);
        let at = self.word(block + Status::FAILED).load(Ordering::Acquire);
        let result = self.word(block + Status::RESULT).load(Ordering::Acquire) as i64;
        if at < self.code_start {
            return None;
        }
        let program = self.programs.partition_point(|&start| start <= at).checked_sub(1)?;
        let insn = ((at - self.programs.get(program)?) / INSN_SIZE) as usize;
        Some(Failure { task, program, insn, result })
    }

    /// Gives up all pages but those of the code and the shared words: the tasks are done with them.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    pub fn shrink(&self) -> Result<(), SysError> {
        self.file.set_len(Layout::BLOCKS).map_err(|e| SysError::new("shrink the vm", e))
    }

    fn write_insns(&self, at: u64, insns: &[Insn]) {
        for (i, insn) in insns.iter().enumerate() {
            let mut insn = *insn;
            if insn.op == Op::Copy {
                insn.arg[0] += at + (i as u64 + 1) * INSN_SIZE;
            }
            insn.target = match insn.op {
                Op::Goto if insn.target == EPILOGUE => {
                    self.layout.base + Layout::SHARED + Layout::EPILOGUE
                }
                Op::Fork | Op::TryFork => {
                    self.programs.get(insn.target as usize).copied().unwrap_or(0)
                }
                Op::Arrive | Op::Unless | Op::Goto => at + insn.target * INSN_SIZE,
                _ => 0,
            };
            self.map.write_pod(at + i as u64 * INSN_SIZE, &insn);
        }
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        self.map.write(address, bytes);
    }

    fn word(&self, address: u64) -> &AtomicU64 {
        self.map.word(address)
    }

    fn half(&self, address: u64) -> &AtomicU32 {
        self.map.half(address)
    }
}
