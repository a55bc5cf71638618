//! Programs for a kernel that has restart(2): fork the tree, then each task restarts itself.
//!
//! The kernel restores what the image holds, process groups included, so these programs end early:
//! `tree.md` 5, steps 1 to 8.

use super::insn::{Insn, Op, Stage};
use super::{Compiled, Compiler, Facts, Program, assemble, await_release, call, word};
use crate::image::{Body, ImageHead};
use crate::plan::{Flags, Plan};

/// Flags of restart(2).
const GHOST: u64 = 4;

/// The system call, and what the coordinator passes to it.
#[derive(Debug, Clone, Copy)]
pub struct RestartCall {
    /// Its number.
    pub number: i64,
    /// Flags of the coordinator's call: FROZEN (2), KEEP_LSM (8).
    pub flags: u64,
}

/// Compiles the programs of all tasks.
pub fn compile(head: &ImageHead, plan: &Plan, facts: &Facts, restart: RestartCall) -> Compiled {
    let body = Body::default();
    let mut compiler = Compiler::new(head, plan, &body, facts);
    let programs = (0..plan.tasks.len()).map(|task| compiler.stub(task, restart)).collect();
    let coordinator = |compiler: &mut Compiler<'_>, index| compiler.calling(index, restart);
    assemble(compiler, programs, coordinator)
}

impl Compiler<'_> {
    fn stub(&mut self, task: usize, restart: RestartCall) -> Program {
        let mut p = Program::new();
        if task == 0 {
            self.root_prelude(&mut p);
        }
        self.watch_parent(&mut p, task);
        self.fork_children(&mut p, task);
        self.send(&mut p, word::TASK + task as u64);
        if task == 0 && self.facts.pidns && !self.needs_coordinator() {
            // From here on it is the kernel that ends the tree when the coordinator dies.
            await_release(&mut p, &self.facts.layout, Stage::Fork);
            self.prctl(&mut p, libc::PR_SET_PDEATHSIG, 0);
        }
        let row = self.plan.tasks.get(task);
        let ghost = row.is_some_and(|t| t.flags.any(Flags::GHOST | Flags::DEAD));
        let flags = if ghost { GHOST } else { 0 };
        // It comes back only where it was not a kernel that has restored the task.
        let result = self.facts.layout.ready(task);
        let args = [0, 0, flags, u64::MAX];
        p.push(Insn { dest: result, ..call(restart.number, &args) });
        let argument = std::mem::offset_of!(Insn, arg) as u64;
        p.push(Insn { arg: [argument, result, 0, 0, 0, 0], ..Insn::new(Op::Copy) });
        p.push(call(libc::SYS_exit_group, &[0]));
        p
    }

    /// The coordinator task of this engine makes the coordinator's call itself.
    fn calling(&mut self, index: usize, restart: RestartCall) -> Program {
        let layout = self.facts.layout;
        let mut p = Program::new();
        self.coordinator_prelude(&mut p, index);
        await_release(&mut p, &layout, Stage::Fork);
        let root = self.plan.tasks.first().map_or(0, |t| t.pid) as u64;
        let log = match self.slots.log() {
            Some(fd) => fd as u64,
            None => u64::MAX,
        };
        p.push(call(restart.number, &[root, self.slots.image() as u64, restart.flags, log]));
        let told = self.message(word::STAGE + Stage::Restore as u64);
        p.push(Insn { op: Op::Try, ..told });
        self.coordinator_end(&mut p);
        p
    }
}
