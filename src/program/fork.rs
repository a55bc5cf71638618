//! Forking, sessions, process groups, the way to the first barriers.

use super::insn::{Insn, Op, Stage};
use super::{Compiler, Program, arrive, attempt, await_release, call, exact, wait_for, wake, word};
use crate::image::TaskState;
use crate::plan::Flags;

/// clone3(2), struct clone_args: the fields that are used, as 64-bit words.
pub(super) const CLONE_ARGS_WORDS: usize = 11;
pub(super) const FLAGS: usize = 0;
const EXIT_SIGNAL: usize = 4;
const SET_TID: usize = 8;
const SET_TID_SIZE: usize = 9;

/// What any thread has in common with its group, and what all but those that restart(2) restores have besides.
pub(super) const THREAD: i32 = libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM;
pub(super) const SHARED: i32 = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM;

/// Resets handlers to the default in the child, so that none of the caller's runs there (Linux 5.5).
pub(super) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

impl Compiler<'_> {
    /// clone3 flags and pids of the first task of the tree: the root, or the coordinator task.
    pub(super) fn first_clone(&self) -> (u64, Vec<i32>) {
        let mut flags = CLONE_CLEAR_SIGHAND;
        if self.facts.pidns {
            return (flags | (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64, Vec::new());
        }
        if self.facts.mntns {
            flags |= libc::CLONE_NEWNS as u64;
        }
        (flags, if self.facts.keep_pids { self.set_tid(0) } else { Vec::new() })
    }

    /// Pids that a task must get, innermost namespace first.
    pub(super) fn set_tid(&self, task: usize) -> Vec<i32> {
        self.plan.numbers(task).iter().rev().copied().collect()
    }

    /// Gives up the caller's memory and descriptors, and sets up what all tasks inherit.
    pub(super) fn root_prelude(&mut self, p: &mut Program) {
        if !self.needs_coordinator() {
            self.leave_caller(p);
            self.mounts(p);
        }
        if self.head.extra.root_subreaper || self.adopts() {
            p.push(call(libc::SYS_prctl, &[libc::PR_SET_CHILD_SUBREAPER as u64, 1]));
        }
        self.open_shared(p);
    }

    /// Whether the root task is a child subreaper for the time of the restart: it is to be the parent of
    /// those whose parent goes.
    pub(super) fn adopts(&self) -> bool {
        self.plan.reaped && self.plan.leaves_orphans()
    }

    /// The first things that the first task does.
    pub(super) fn leave_caller(&mut self, p: &mut Program) {
        self.leave_memory(p);
        self.leave_descriptors(p);
        // Our own children must not be reaped behind our back where the caller ignores SIGCHLD.
        self.set_action(p, libc::SIGCHLD, [0; 4]);
        let mut open = 1u64 << (libc::SIGSEGV - 1);
        if self.facts.pidns {
            self.prctl(p, libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
            self.expect_coordinator(p);
            if self.needs_coordinator() {
                self.set_action(p, libc::SIGSEGV, self.handler(self.facts.handlers.1));
            }
        } else {
            open |= 1 << (libc::SIGUSR1 - 1);
            self.set_action(p, libc::SIGUSR1, self.handler(self.facts.handlers.0));
            // `watch_parent` asks for it too, and sees whether the coordinator was gone before: but what is made first may wait.
            self.prctl(p, libc::PR_SET_PDEATHSIG, libc::SIGUSR1 as u64);
        }
        let mask = self.data.words(&[!open]);
        p.push(call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK as u64, mask, 0, 8]));
    }

    /// Fails where the coordinator was gone before its death would have been a signal. getppid(2) cannot
    /// tell that in a new namespace, and the other end of the event channel may stay open for a moment when the
    /// thread that is our parent has ended: that thread itself has to answer.
    fn expect_coordinator(&mut self, p: &mut Program) {
        self.send(p, word::ARMED);
        let answer = self.data.own(&[0; 8]);
        p.push(exact(libc::SYS_read, &[self.slots.events() as u64, answer, 8], 8));
    }

    fn handler(&self, address: u64) -> [u64; 4] {
        // SA_RESTORER: x86_64 knows no other form. The handlers never return.
        [address, 0x0400_0000, address, !0]
    }

    /// rt_sigaction(2) with the words of the kernel's struct: handler, flags, restorer, mask.
    pub(super) fn set_action(&mut self, p: &mut Program, signal: i32, action: [u64; 4]) {
        let at = self.data.words(&action);
        p.push(call(libc::SYS_rt_sigaction, &[signal as u64, at, 0, 8]));
    }

    pub(super) fn prctl(&mut self, p: &mut Program, option: i32, value: u64) {
        p.push(call(libc::SYS_prctl, &[option as u64, value]));
    }

    /// Asks for a signal when the parent dies, and checks that it has not died already.
    pub(super) fn watch_parent(&mut self, p: &mut Program, task: usize) {
        let layout = self.facts.layout;
        let own = if self.is_thread(task) { libc::SYS_gettid } else { libc::SYS_getpid };
        p.push(Insn { dest: layout.pid(task), ..call(own, &[]) });
        if self.is_thread(task) && self.restorer(task) != task && !self.facts.kernel_restores {
            // It must not take the signals that wait for its group: they are queued while it waits.
            self.block_all(p);
        }
        if self.facts.pidns || self.is_thread(task) && !self.facts.kernel_restores {
            return;
        }
        self.prctl(p, libc::PR_SET_PDEATHSIG, libc::SIGUSR1 as u64);
        match self.plan.real_parent(task) {
            None => p.push(exact(libc::SYS_getppid, &[], self.facts.caller as u64)),
            Some(parent) => {
                p.push(self.copy_pid(parent, std::mem::offset_of!(Insn, expect)));
                p.push(exact(libc::SYS_getppid, &[], 0));
            }
        }
    }

    /// Forks the children of the session that is left, changes session, forks the others.
    pub(super) fn fork_children(&mut self, p: &mut Program, task: usize) {
        let children = self.plan.children(task).to_vec();
        for &child in &children {
            if self.has(child as usize, Flags::SESSION) {
                self.fork(p, child as usize);
            }
        }
        // Children join groups themselves; where one cannot, it has to inherit.
        let is = |list: &[bool]| list.get(task) == Some(&true) && !self.facts.kernel_restores;
        let (founds, early) = (is(&self.groups.founds), is(&self.groups.early));
        let found = call(libc::SYS_setpgid, &[0, 0]);
        let leads = self.plan.session_leader(task) == Some(task);
        if leads {
            p.push(call(libc::SYS_setsid, &[]));
            self.take_terminal(p, task);
        } else if founds && early {
            p.push(found);
        }
        for &child in &children {
            if !self.has(child as usize, Flags::SESSION) {
                self.fork(p, child as usize);
            }
        }
        if founds && !early && !leads {
            p.push(found);
        }
    }

    fn has(&self, task: usize, flag: Flags) -> bool {
        self.plan.tasks.get(task).is_some_and(|t| t.flags.has(flag))
    }

    /// The clone3 of one child.
    pub(super) fn fork(&mut self, p: &mut Program, child: usize) {
        let Some(row) = self.plan.tasks.get(child) else { return };
        let mut args = [0u64; CLONE_ARGS_WORDS];
        if row.flags.has(Flags::THREAD) {
            args[FLAGS] = if self.facts.kernel_restores { THREAD } else { THREAD | SHARED } as u64;
        } else if row.flags.has(Flags::SIBLING) {
            args[FLAGS] = libc::CLONE_PARENT as u64;
        } else {
            args[EXIT_SIGNAL] = match self.body.tasks.get(child) {
                Some(TaskState::Live(live)) => live.exit_signal as u64,
                Some(TaskState::Zombie(zombie)) => zombie.exit_signal as u64,
                None => libc::SIGCHLD as u64,
            };
        }
        if row.flags.has(Flags::NEW_PIDNS) {
            args[FLAGS] |= libc::CLONE_NEWPID as u64;
        }
        if self.facts.keep_pids {
            let pids = self.set_tid(child);
            let bytes: Vec<u8> = pids.iter().flat_map(|pid| pid.to_le_bytes()).collect();
            args[SET_TID] = self.data.constant(&bytes);
            args[SET_TID_SIZE] = pids.len() as u64;
        }
        let layout = self.facts.layout;
        let at = self.data.words(&args);
        let mut insn = Insn::call(
            Op::Fork,
            libc::SYS_clone3,
            &[at, 8 * CLONE_ARGS_WORDS as u64, layout.stack_top(child), layout.block(child)],
        );
        insn.target = child as u64;
        p.push(insn);
    }

    /// Tells the coordinator that this task exists, and waits until all do.
    pub(super) fn check_in(&mut self, p: &mut Program, task: usize) {
        self.send(p, word::TASK + task as u64);
        await_release(p, &self.facts.layout, Stage::Fork);
    }

    pub(super) fn send(&mut self, p: &mut Program, word: u64) {
        let insn = self.message(word);
        p.push(insn);
    }

    pub(super) fn message(&mut self, word: u64) -> Insn {
        let at = self.data.words(&[word]);
        let flags = libc::MSG_NOSIGNAL as u64;
        exact(libc::SYS_sendto, &[self.slots.events() as u64, at, 8, flags], 8)
    }

    /// Joins the process group, and waits until all have.
    pub(super) fn join_group(&mut self, p: &mut Program, task: usize) {
        if self.groups.changes.is_empty() {
            self.set_group(p, task);
        } else {
            self.set_group_in_turn(p, task);
        }
        if self.plan.reaped && !self.facts.pidns && self.loses_parent(task) {
            // The parent's exit is part of the plan: the subreaper takes over.
            self.prctl(p, libc::PR_SET_PDEATHSIG, 0);
        }
        let last = [self.message(word::STAGE + Stage::Groups as u64)];
        let count = self.plan.tasks.len() as u32;
        arrive(p, &self.facts.layout, Stage::Groups, count, &last);
        await_release(p, &self.facts.layout, Stage::Groups);
        self.set_foreground(p, task);
    }

    fn set_group(&mut self, p: &mut Program, task: usize) {
        if !self.is_thread(task)
            && let Some(leader) = self.plan.group_leader(task)
            && leader != task
            // Otherwise it has its group from its creator.
            && self.plan.sees(task, leader)
        {
            self.call_on_pid(p, call(libc::SYS_setpgid, &[0, 0]), 1, leader, task);
        }
    }

    /// A group lasts as long as somebody is in it: its leader leaves it only when all others have come.
    fn set_group_in_turn(&mut self, p: &mut Program, task: usize) {
        let joined = self.facts.layout.arrived(Stage::Joined);
        let others = self.plan.tasks.len() - self.groups.changes.len();
        if let Some(turn) = self.groups.changes.iter().position(|&index| index == task) {
            p.push(wait_for(joined, (others + turn) as u64));
        }
        self.set_group(p, task);
        // Whoever waits looks at the count itself.
        arrive(p, &self.facts.layout, Stage::Joined, 0, &[]);
        p.push(wake(joined));
    }

    fn loses_parent(&self, task: usize) -> bool {
        let parent = self.plan.real_parent(task).and_then(|parent| self.plan.tasks.get(parent));
        parent.is_some_and(|parent| parent.flags.any(Flags::GHOST | Flags::DEAD))
    }

    /// Ghosts, placeholders and zombies end here. All see those go whose parent they are: otherwise these would
    /// be left, as zombies, to an init that does not know them.
    pub(super) fn leave_or_stay(&mut self, p: &mut Program, task: usize) {
        for gone in self.leaving.get(&task).cloned().unwrap_or_default() {
            let seen = match self.body.tasks.get(gone) {
                Some(_) => {
                    let options = (libc::WEXITED | libc::WNOWAIT | libc::__WALL) as u64;
                    call(libc::SYS_waitid, &[libc::P_PID as u64, 0, 0, options])
                }
                None => call(libc::SYS_wait4, &[0, 0, libc::__WALL as u64, 0]),
            };
            let index = usize::from(self.body.tasks.get(gone).is_some());
            self.call_on_pid(p, seen, index, gone, task);
        }
        match self.body.tasks.get(task) {
            Some(TaskState::Live(_)) => {}
            Some(TaskState::Zombie(zombie)) => {
                let name = self.data.constant(&zombie.comm);
                self.prctl(p, libc::PR_SET_NAME, name);
                return self.die(p, task, zombie.exit_code);
            }
            None => {
                // A leader without its threads is a zombie as long as they live: with their name.
                if let Some(live) = self.state(self.restorer(task)) {
                    let name = self.data.constant(&live.comm);
                    self.prctl(p, libc::PR_SET_NAME, name);
                }
                return p.push(call(self.exit_call(task), &[0]));
            }
        }
        if self.ghosts {
            let last = [self.message(word::STAGE + Stage::Ghosts as u64)];
            arrive(p, &self.facts.layout, Stage::Ghosts, self.live, &last);
            await_release(p, &self.facts.layout, Stage::Ghosts);
        }
    }

    /// How a task ends: alone where it is a leader whose threads live on, else with its thread group.
    fn exit_call(&self, task: usize) -> libc::c_long {
        if self.restorer(task) == task { libc::SYS_exit_group } else { libc::SYS_exit }
    }

    /// Ends as a zombie of the image has ended: `status` is in the format of wait(2).
    fn die(&mut self, p: &mut Program, task: usize, status: u32) {
        let signal = status & 0x7f;
        // No signal ends a leader alone.
        if signal != 0 && self.restorer(task) == task {
            // Core files are about how it died the first time.
            self.prctl(p, libc::PR_SET_DUMPABLE, 0);
            if signal as i32 != libc::SIGKILL {
                self.set_action(p, signal as i32, [0; 4]);
            }
            let mask = self.data.words(&[!(1u64 << (signal - 1))]);
            p.push(self.copy_pid(task, std::mem::offset_of!(Insn, arg)));
            p.push(call(libc::SYS_kill, &[0, u64::from(signal)]));
            p.push(call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK as u64, mask, 0, 8]));
        }
        p.push(call(self.exit_call(task), &[u64::from(status >> 8)]));
    }

    /// A thread waits until its group's memory and files are in place.
    pub(super) fn await_group(&mut self, p: &mut Program, task: usize) {
        p.push(wait_for(self.facts.layout.ready(self.restorer(task)), 1));
    }

    /// What a task does whose system call has failed: tell, and end.
    pub(super) fn on_failure(&mut self) -> Program {
        let tell = Insn { op: Op::Try, ..self.message(word::FAILED) };
        vec![tell, call(libc::SYS_exit_group, &[1])]
    }

    /// What a task does on a signal that ends it: say so where debug messages are wanted, and end.
    pub(super) fn on_event(&mut self, text: &str) -> Program {
        let mut p = Program::new();
        if let Some(fd) = self.slots.debug() {
            let at = self.data.constant(text.as_bytes());
            p.push(attempt(libc::SYS_write, &[fd as u64, at, text.len() as u64]));
        }
        p.push(call(libc::SYS_exit_group, &[1]));
        p
    }
}
