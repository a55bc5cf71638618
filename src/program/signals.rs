//! Signals, credentials, limits, and the way to the last barrier.

use super::insn::{Insn, Op, Stage};
use super::{Compiler, Program, arrive, await_release, call, wake, word};
use crate::image::{Live, SigAction};

/// Signals whose action cannot be changed.
const FIXED: [i32; 2] = [libc::SIGKILL, libc::SIGSTOP];

impl Compiler<'_> {
    /// From here on the death of the coordinator kills at once, and handlers are the program's own.
    pub(super) fn signal_actions(&mut self, p: &mut Program, live: &Live) {
        // Handlers must not run before the program's memory is all there is.
        self.block_all(p);
        // Setting the default drops what the going of ghosts and zombies has left pending.
        self.set_action(p, libc::SIGCHLD, [0; 4]);
        if !self.facts.pidns {
            self.prctl(p, libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
        }
        let Some(hand) = self.body.objects.sighands.get(live.sighand) else { return };
        for (signal, action) in (1i32..).zip(&hand.actions) {
            let changed = self.facts.ignored & (1 << (signal - 1)) != 0
                || signal == libc::SIGUSR1
                || signal == libc::SIGSEGV;
            if FIXED.contains(&signal) || (*action == SigAction::default() && !changed) {
                continue;
            }
            let words = [action.handler, action.flags, action.restorer, action.mask];
            self.set_action(p, signal, words);
        }
    }

    /// Blocks all signals.
    pub(super) fn block_all(&mut self, p: &mut Program) {
        let all = self.data.words(&[!0]);
        p.push(call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK as u64, all, 0, 8]));
    }

    /// Resource limits, where they differ from what is inherited.
    pub(super) fn limits(&mut self, p: &mut Program, live: &Live) {
        let Some(signal) = self.body.objects.signals.get(live.signal) else { return };
        let mm = self.body.objects.mms.get(live.mm);
        let raised = [
            (libc::RLIMIT_NOFILE, self.raises_nofile()),
            (libc::RLIMIT_MEMLOCK, mm.is_some_and(|mm| self.raises_memlock(mm))),
        ];
        for (resource, (now, then)) in self.facts.rlimits.iter().zip(&signal.rlimits).enumerate() {
            if now == then && !raised.contains(&(resource as u32, true)) {
                continue;
            }
            let limit = self.data.words(&[then.0, then.1]);
            p.push(call(libc::SYS_prlimit64, &[0, resource as u64, limit, 0]));
        }
    }

    /// What belongs to a thread and is not in its registers.
    pub(super) fn thread_state(&mut self, p: &mut Program, task: usize, live: &Live) {
        let (address, size) = live.altstack;
        if size != 0 {
            let stack = self.data.words(&[address, 0, u64::from(size)]);
            p.push(call(libc::SYS_sigaltstack, &[stack, 0]));
        }
        if live.robust_list != 0 {
            const HEAD: u64 = 24;
            p.push(call(libc::SYS_set_robust_list, &[live.robust_list, HEAD]));
        }
        if live.clear_child_tid != 0 {
            p.push(call(libc::SYS_set_tid_address, &[live.clear_child_tid]));
            self.renew_tid(p, task, live);
        }
        if let Some(rseq) = live.rseq {
            let args = [rseq.address, u64::from(rseq.length), 0, u64::from(rseq.signature)];
            p.push(call(libc::SYS_rseq, &args));
        }
        self.thread_pending(p, task, live);
        let name = self.data.constant(&live.comm);
        self.prctl(p, libc::PR_SET_NAME, name);
    }

    /// glibc keeps a thread's own tid in the word that is cleared at its end: with a new tid, that must
    /// follow. The word has other uses elsewhere (musl: a lock), so it is changed only where it is the
    /// tid of the image.
    fn renew_tid(&mut self, p: &mut Program, task: usize, live: &Live) {
        let known = self.plan.tasks.get(task).map(|t| t.pid);
        let Some(old) = known.filter(|_| !self.facts.keep_pids) else { return };
        if !live.clear_child_tid.is_multiple_of(4)
            || !self.is_writable(live, live.clear_child_tid, 4)
        {
            return;
        }
        let mut unless = Insn::new(Op::Unless);
        unless.arg = [live.clear_child_tid, 0, 0, 0, 0, 0];
        unless.expect = old as u64;
        unless.target = (p.len() + 2) as u64;
        p.push(unless);
        let renew = Insn::call(Op::Call32, libc::SYS_gettid, &[]);
        p.push(Insn { dest: live.clear_child_tid, ..renew });
    }

    /// The last barrier, and what must not happen before it.
    pub(super) fn finish(&mut self, p: &mut Program, task: usize, live: &Live) {
        let layout = self.facts.layout;
        let last = [self.message(word::STAGE + Stage::Restore as u64)];
        arrive(p, &layout, Stage::Restore, self.live, &last);
        await_release(p, &layout, Stage::Restore);
        if self.restorer(task) == task {
            if self.restorer(0) == task {
                self.seal(p);
            }
            self.close_slots(p);
            self.late_files(p, task, live);
            self.timers(p, live);
            self.posix_timers(p, live, true);
            self.watch_paths(p, task, live, true);
            self.change_root(p, live);
        }
        self.settings(p, live);
        self.deny_write_execute(p, live);
        self.prctl(p, libc::PR_SET_PDEATHSIG, live.pdeath_signal as u64);
        if task == 0 && !self.head.extra.root_subreaper && self.adopts() {
            self.prctl(p, libc::PR_SET_CHILD_SUBREAPER, 0);
        }
        let count = self.live + u32::from(self.needs_coordinator());
        let last = [wake(layout.arrived(Stage::Ready))];
        arrive(p, &layout, Stage::Ready, count, &last);
        await_release(p, &layout, Stage::Ready);
    }
}
