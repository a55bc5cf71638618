//! The records of a task.
#![forbid(unsafe_code)]

use super::{Thing, Writer, entry, unwritable};
use crate::error::ImageError;
use crate::image::extra::flag;
use crate::image::records;
use crate::image::{Live, Pending, PosixTimer, Settings, Signal, TaskState, Zombie};

/// State and exit state of a task that has ended.
const TASK_DEAD: u32 = 64;
const EXIT_ZOMBIE: u32 = 16;
/// Bytes of the head of a robust futex list: of a 64-bit task, of a 32-bit task.
const ROBUST_HEAD: u32 = 24;
const ROBUST_HEAD_32: u32 = 12;

impl Writer<'_> {
    /// Writes the records of a task, and of the objects that come with it.
    pub(super) fn task(&mut self, task: &TaskState) -> Result<(), ImageError> {
        match task {
            TaskState::Zombie(zombie) => self.zombie(zombie),
            TaskState::Live(live) => self.live(live),
        }
    }

    fn zombie(&mut self, zombie: &Zombie) -> Result<(), ImageError> {
        self.out.record(records::TASK, |r| {
            r.u32(0).u32(TASK_DEAD).u32(EXIT_ZOMBIE).u32(zombie.exit_code);
            r.i32(zombie.exit_signal).i32(zombie.pdeath_signal).zeros(48);
        })?;
        self.comm(&zombie.comm)
    }

    fn comm(&mut self, comm: &[u8; 16]) -> Result<(), ImageError> {
        self.out.record(records::STRING, |r| {
            r.bytes(comm);
        })
    }

    fn live(&mut self, live: &Live) -> Result<(), ImageError> {
        self.out.record(records::TASK, |r| {
            r.zeros(16).i32(live.exit_signal).i32(live.pdeath_signal);
            r.u64(live.set_child_tid).u64(live.clear_child_tid);
            r.u64(live.altstack.0).u32(live.altstack.1);
            r.u32(ROBUST_HEAD_32).u32(0).u32(ROBUST_HEAD).u64(live.robust_list);
        })?;
        self.comm(&live.comm)?;
        self.registers(live)?;
        let cred = self.cred(live.cred)?;
        self.out.record(records::TASK_CREDS, |r| {
            r.i32(cred).i32(cred);
        })?;
        let ns = self.ns(live.namespaces)?;
        self.out.record(records::TASK_NS, |r| {
            r.i32(ns).zeros(4);
        })?;
        self.objects(live)?;
        self.pending(&live.pending)?;
        self.out.record(records::SIGNAL_TASK, |r| {
            r.u64(live.blocked);
        })?;
        if let Some(rseq) = live.rseq {
            self.out.record(records::RSEQ, |r| {
                r.u64(rseq.address).u32(rseq.length).u32(rseq.signature);
            })?;
        }
        if let Some(settings) = &live.settings {
            self.settings(settings)?;
        }
        for timer in &live.timers {
            self.timer(timer)?;
        }
        if let Some(stop) = live.job_stop {
            self.out.record(records::JOB_STOP, |r| {
                r.i32(stop.signal).u32(stop.untold.into());
            })?;
        }
        Ok(())
    }

    fn timer(&mut self, timer: &PosixTimer) -> Result<(), ImageError> {
        let thread = match timer.thread {
            Some(index) => entry(&self.head.tasks, index, records::POSIX_TIMER)?.pid,
            None => 0,
        };
        self.out.record(records::POSIX_TIMER, |r| {
            r.i32(timer.id).i32(timer.clock).i32(timer.signal).i32(timer.notify);
            r.u64(timer.value).i32(thread).zeros(4).u64(timer.left).u64(timer.interval);
        })
    }

    fn settings(&mut self, settings: &Settings) -> Result<(), ImageError> {
        let flags = [
            (settings.no_new_privs, flag::NO_NEW_PRIVS),
            (settings.subreaper, flag::SUBREAPER),
            (settings.dumpable, flag::DUMPABLE),
            (settings.thp_disabled, flag::THP_DISABLED),
            (settings.mdwe, flag::MDWE),
            (settings.mdwe_alone, flag::MDWE_ALONE),
            (settings.no_tsc, flag::NO_TSC),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        self.out.record(records::SETTINGS, |r| {
            for word in settings.sched {
                r.u64(word);
            }
            r.u32(settings.io_priority).u32(settings.personality);
            r.u64(settings.timer_slack).i32(settings.oom_score_adj).u32(flags);
            r.u64(settings.ambient);
        })?;
        if settings.affinity.is_empty() {
            return Ok(());
        }
        self.out.record(records::AFFINITY, |r| {
            for &word in &settings.affinity {
                r.u64(word);
            }
        })
    }

    /// THREAD, RESTART_BLOCK, CPU and CPU_FPU.
    fn registers(&mut self, live: &Live) -> Result<(), ImageError> {
        self.out.record(records::THREAD, |r| {
            r.zeros(12).u16(3).u16(24).zeros(24);
        })?;
        let block = &live.restart_block;
        self.out.record(records::RESTART_BLOCK, |r| {
            r.u64(block.function);
            for arg in block.args {
                r.u64(arg);
            }
            r.u64(block.left);
        })?;
        let c = &live.cpu;
        self.out.record(records::CPU, |r| {
            for register in [
                c.r15, c.r14, c.r13, c.r12, c.bp, c.bx, c.r11, c.r10, c.r9, c.r8, c.ax, c.cx, c.dx,
                c.si, c.di, c.orig_ax, c.ip, c.sp, c.flags, c.fs_base, c.gs_base,
            ] {
                r.u64(register);
            }
            // Segments fs, gs, cs, ss, ds, es of a 64-bit task.
            r.u16(0).u16(0).u16(3).u16(4).u16(0).u16(0).u32(live.fpu.is_some().into());
        })?;
        let Some(fpu) = &live.fpu else { return Ok(()) };
        if fpu.len() != usize::from(self.head.arch.xstate_size) {
            let size = self.head.arch.xstate_size;
            return Err(unwritable(
                records::CPU_FPU,
                format!("{} bytes of state, the head says {size}", fpu.len()),
            ));
        }
        self.out.record(records::CPU_FPU, |r| {
            r.bytes(fpu);
        })
    }

    /// The shared objects, TASK_OBJS, and the SIGNAL object where it is new.
    fn objects(&mut self, live: &Live) -> Result<(), ImageError> {
        let files = self.file_table(live.files)?;
        let mm = self.mm(live.mm)?;
        let fs = self.fs(live.fs)?;
        let sighand = self.sighand(live.sighand)?;
        let signal = entry(&self.body.objects.signals, live.signal, records::SIGNAL)?;
        let (tag, new) = self.tags.get(Thing::Signal(live.signal))?;
        self.out.record(records::TASK_OBJS, |r| {
            r.i32(files).i32(mm).i32(fs).i32(0).i32(sighand).i32(tag);
        })?;
        if new {
            self.signal(signal)?;
        }
        Ok(())
    }

    fn signal(&mut self, signal: &Signal) -> Result<(), ImageError> {
        let terminal = match signal.terminal {
            Some(terminal) => (self.tty(terminal.pty, false)?, terminal.foreground),
            None => (0, 0),
        };
        self.out.record(records::SIGNAL, |r| {
            for &(first, second) in signal.rlimits.iter().chain(&signal.itimers) {
                r.u64(first).u64(second);
            }
            r.i32(terminal.0).i32(terminal.1).zeros(8);
        })?;
        self.pending(&signal.pending)
    }

    fn pending(&mut self, pending: &Pending) -> Result<(), ImageError> {
        let Ok(count) = u32::try_from(pending.queue.len()) else {
            let count = pending.queue.len();
            return Err(unwritable(records::SIGPENDING, format!("{count} queued signals")));
        };
        self.out.record(records::SIGPENDING, |r| {
            r.u32(count).zeros(4).u64(pending.set);
            for entry in &pending.queue {
                r.bytes(entry);
            }
        })
    }
}
