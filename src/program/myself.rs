//! The program of a caller that becomes the only task of an image itself.
//!
//! Nothing is forked and nobody traces it, so it has no barriers, and its last code hands it over: that
//! lies where nothing of the program's is, in the unused end of the vdso.

use super::insn::{Insn, Layout, Op};
use super::{Compiled, Compiler, Facts, Program, assemble, attempt, call, exact};
use crate::image::{Body, ImageHead, Live, TaskState};
use crate::plan::Plan;

/// The last code of the task, and where it goes.
#[derive(Debug, Clone)]
pub struct Farewell {
    /// Position-independent, with its registers in it.
    pub code: Vec<u8>,
    /// Address in the vdso of the task.
    pub address: u64,
    /// Start and end of the mapping that the address is in; the kernel does not split it.
    pub mapping: (u64, u64),
}

/// Compiles the program; see [`super::compile`] for the arguments.
pub fn compile(
    head: &ImageHead,
    plan: &Plan,
    body: &Body,
    facts: &Facts,
    farewell: &Farewell,
) -> Compiled {
    let mut compiler = Compiler::new(head, plan, body, facts);
    let program = match body.tasks.first() {
        Some(TaskState::Live(live)) => compiler.myself(live, farewell),
        _ => Program::new(),
    };
    let mut compiled = assemble(compiler, vec![program], |_, _| Program::new());
    if let Some(end) = compiled.programs.get_mut(compiled.on_failure) {
        *end = gone(facts, compiled.layout);
    }
    compiled
}

/// After the first instructions there is no caller any more to give an error to.
fn gone(_facts: &Facts, layout: Layout) -> Program {
    let argument = std::mem::offset_of!(Insn, arg) as u64;
    vec![
        Insn { arg: [argument, layout.pid(0), 0, 0, 0, 0], ..Insn::new(Op::Copy) },
        call(libc::SYS_kill, &[0, libc::SIGKILL as u64]),
    ]
}

impl Compiler<'_> {
    fn myself(&mut self, live: &Live, farewell: &Farewell) -> Program {
        let mut p = Program::new();
        p.push(Insn { dest: self.facts.layout.pid(0), ..call(libc::SYS_getpid, &[]) });
        self.block_all(&mut p);
        self.forget_thread(&mut p);
        self.leave_memory(&mut p);
        self.leave_descriptors(&mut p);
        self.make_spaces(&mut p, 0);
        self.open_shared(&mut p);
        self.proc_settings(&mut p, live);
        self.place(&mut p, live);
        self.memory(&mut p, 0, live);
        self.descriptors(&mut p, 0, live);
        self.signal_actions(&mut p, live);
        self.group_pending(&mut p, 0, live);
        self.limits(&mut p, live);
        self.thread_state(&mut p, 0, live);
        self.seal(&mut p);
        self.close_slots(&mut p);
        self.late_files(&mut p, 0, live);
        self.timers(&mut p, live);
        self.posix_timers(&mut p, live, false);
        self.watch_paths(&mut p, 0, live, false);
        self.change_root(&mut p, live);
        self.settings(&mut p, live);
        self.prctl(&mut p, libc::PR_SET_PDEATHSIG, live.pdeath_signal as u64);
        if live.job_stop.is_some() {
            // It goes on with the rest of this program when SIGCONT comes.
            p.push(self.copy_pid(0, std::mem::offset_of!(Insn, arg)));
            p.push(call(libc::SYS_kill, &[0, libc::SIGSTOP as u64]));
        }
        self.hand_over(&mut p, live, farewell);
        p
    }

    /// What the kernel keeps for the calling thread and would use in memory that goes.
    fn forget_thread(&mut self, p: &mut Program) {
        const ROBUST_HEAD: u64 = 24;
        p.push(attempt(libc::SYS_set_robust_list, &[0, ROBUST_HEAD]));
        p.push(call(libc::SYS_set_tid_address, &[0]));
        let none = self.data.words(&[0, libc::SS_DISABLE as u64, 0]);
        p.push(call(libc::SYS_sigaltstack, &[none, 0]));
        for &timer in &self.facts.own_timers {
            p.push(attempt(libc::SYS_timer_delete, &[timer as u64]));
        }
        let off = self.data.words(&[0; 4]);
        for which in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            p.push(call(libc::SYS_setitimer, &[which as u64, off, 0]));
        }
    }

    fn hand_over(&mut self, p: &mut Program, live: &Live, farewell: &Farewell) {
        const ARCH_SET_GS: u64 = 0x1001;
        const ARCH_SET_FS: u64 = 0x1002;
        p.push(call(libc::SYS_arch_prctl, &[ARCH_SET_FS, live.cpu.fs_base]));
        p.push(call(libc::SYS_arch_prctl, &[ARCH_SET_GS, live.cpu.gs_base]));
        let length = farewell.code.len() as u64;
        let (page, pages) = (farewell.mapping.0, farewell.mapping.1 - farewell.mapping.0);
        let code = self.data.own(&farewell.code);
        let (to, from) = ([farewell.address, length], [code, length]);
        let (to, from) = (self.data.words(&to), self.data.words(&from));
        let read_execute = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let all = read_execute | libc::PROT_WRITE as u64;
        p.push(call(libc::SYS_mprotect, &[page, pages, all]));
        p.push(self.copy_pid(0, std::mem::offset_of!(Insn, arg)));
        p.push(exact(libc::SYS_process_vm_readv, &[0, to, 1, from, 1, 0], length));
        p.push(call(libc::SYS_mprotect, &[page, pages, read_execute]));
        self.deny_write_execute(p, live);
        if let Some(area) = &live.fpu {
            let area = self.data.aligned(area);
            p.push(Insn { arg: [area, 0, 0, 0, 0, 0], ..Insn::new(Op::Fpu) });
        }
        let region = self.facts.region;
        let arg = [region.0, region.1 - region.0, farewell.address, 0, 0, 0];
        p.push(Insn { arg, ..Insn::new(Op::Leave) });
    }
}
