//! The task that is pid 1 of a new namespace without being of the image; mounts.

use super::insn::{EPILOGUE, Insn, Layout, Op, Stage};
use super::{Compiler, Program, attempt, await_release, call, wait_for, wake};

impl Compiler<'_> {
    /// Root directory, /proc and devpts, in the first task of the tree.
    pub(super) fn mounts(&mut self, p: &mut Program) {
        let facts = self.facts;
        if facts.pidns || facts.mntns {
            let (slash, none) = (self.data.text(b"/"), self.data.text(b"none"));
            // What is mounted here from now on must not appear outside.
            let flags = libc::MS_REC | libc::MS_SLAVE;
            p.push(call(libc::SYS_mount, &[none, slash, 0, flags, 0]));
        }
        if let Some(root) = &facts.root {
            let root = self.data.text(root);
            p.push(call(libc::SYS_chroot, &[root]));
        }
        if facts.pidns {
            let (proc, place) = (self.data.text(b"proc"), self.data.text(b"/proc"));
            self.unmount(p, place, facts.strict_proc, 0);
            let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            p.push(call(libc::SYS_mount, &[proc, place, proc, flags, 0]));
        }
        if let Some(strict) = facts.devpts {
            let (devpts, place) = (self.data.text(b"devpts"), self.data.text(b"/dev/pts"));
            self.unmount(p, place, strict, 1);
            let options = self.data.text(b"ptmxmode=666,newinstance");
            p.push(call(libc::SYS_mount, &[devpts, place, devpts, 0, options]));
        }
    }

    /// Lazily unmounts what is at `place`. Where failing is tolerated, the result is kept for the
    /// coordinator as note `note`.
    fn unmount(&mut self, p: &mut Program, place: u64, strict: bool, note: u64) {
        let args = [place, libc::MNT_DETACH as u64];
        if strict {
            p.push(call(libc::SYS_umount2, &args));
        } else {
            let dest = self.facts.layout.note(note);
            p.push(Insn { dest, ..attempt(libc::SYS_umount2, &args) });
        }
    }

    /// The program of the coordinator task: it forks the root task and then goes to the epilogue.
    pub(super) fn coordinator(&mut self, index: usize) -> Program {
        let mut p = Program::new();
        self.coordinator_prelude(&mut p, index);
        await_release(&mut p, &self.facts.layout, Stage::Restore);
        self.coordinator_end(&mut p);
        p
    }

    /// Leaves the caller behind, sets up the namespace and forks the root task.
    pub(super) fn coordinator_prelude(&mut self, p: &mut Program, index: usize) {
        self.leave_caller(p);
        let name = self.data.text(b"usercr-init");
        self.prctl(p, libc::PR_SET_NAME, name);
        self.mounts(p);
        p.push(Insn { dest: self.facts.layout.pid(index), ..call(libc::SYS_getpid, &[]) });
        self.fork(p, 0);
    }

    /// From here on it only reaps.
    pub(super) fn coordinator_end(&mut self, p: &mut Program) {
        p.push(call(libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]));
        p.push(Insn { target: EPILOGUE, ..Insn::new(Op::Goto) });
    }

    /// What the coordinator task does once the tree runs: reap until nobody is left, then end as the
    /// root task has ended. Where that was a signal: with 128 and its number, since an init cannot kill
    /// itself, and with a name (PR_SET_NAME) of one byte, that number, for who can tell them apart so.
    pub(super) fn epilogue(&mut self) -> Program {
        /// siginfo_t of SIGCHLD: offsets of si_code, si_pid, si_status.
        const CODE: u64 = 8;
        const PID: u64 = 16;
        const STATUS: u64 = 24;
        let layout = self.facts.layout;
        let (root, other, result) = (layout.ended(0), layout.ended(1), layout.ended(2));
        let pid = self.plan.tasks.first().map_or(0, |t| t.pid) as u64;
        let rest = layout.base + Layout::BLOCKS;
        let reap = |info: u64| {
            let options = (libc::WEXITED | libc::__WALL) as u64;
            let args = [libc::P_ALL as u64, 0, info, options, 0];
            Insn { dest: result, ..attempt(libc::SYS_waitid, &args) }
        };
        let unless = |address: u64, expect: u64, target: u64| Insn {
            arg: [address, 0, 0, 0, 0, 0],
            expect,
            target,
            ..Insn::new(Op::Unless)
        };
        let goto = |target: u64| Insn { target, ..Insn::new(Op::Goto) };
        let arrive = |stage: Stage, next: u64| Insn {
            arg: [layout.arrived(stage), 0, 0, 0, 0, 0],
            target: next,
            ..Insn::new(Op::Arrive)
        };
        let (arrived, alone) = (arrive(Stage::Ready, 1), arrive(Stage::Alone, 6));
        // Where the parts below begin.
        const ROOT: u64 = 7;
        const SIGNAL: u64 = 12;
        const OTHERS: u64 = 14;
        const END: u64 = 17;
        let signal = Insn { arg: [root + STATUS, 128, 0, 0, 0, 0], ..Insn::new(Op::Or) };
        let argument = std::mem::offset_of!(Insn, arg) as u64;
        let name = attempt(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, root + STATUS]);
        let code = Insn { arg: [argument, root + STATUS, 0, 0, 0, 0], ..Insn::new(Op::Copy) };
        vec![
            // The coordinator waits for this before it gives up the memory that the others were in.
            arrived,
            wake(layout.arrived(Stage::Ready)),
            wait_for(layout.go(), Stage::Ready as u64),
            call(libc::SYS_munmap, &[rest, self.facts.region.1 - rest]),
            call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, 0]),
            alone,
            wake(layout.arrived(Stage::Alone)),
            // ROOT: until the root task has ended (waitid fails with ECHILD when nobody is left)
            reap(root),
            unless(result, 0, END),
            unless(root + PID, pid, ROOT),
            unless(root + CODE, libc::CLD_EXITED as u64, SIGNAL),
            goto(OTHERS),
            // SIGNAL
            name,
            signal,
            // OTHERS: until nobody is left
            reap(other),
            unless(result, 0, END),
            goto(OTHERS),
            // END
            code,
            call(libc::SYS_exit_group, &[0]),
        ]
    }
}
