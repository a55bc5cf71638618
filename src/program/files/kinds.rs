//! Files without a name: counters, timers and their kind.

use super::slots::Model;
use crate::image::{FileKind, Live, OpenFile, TimerFd};
use crate::program::{Compiler, Program, call, exact};

/// `_IOW('T', 0, __u64)` of linux/timerfd.h.
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;

impl Compiler<'_> {
    pub(super) fn make_event_fd(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        flags: i32,
        count: u64,
        semaphore: bool,
    ) -> i32 {
        let flags = flags | if semaphore { libc::EFD_SEMAPHORE } else { 0 };
        let fd = model.take();
        p.push(exact(libc::SYS_eventfd2, &[0, flags as u64], fd as u64));
        if count != 0 {
            let count = self.data.words(&[count]);
            p.push(exact(libc::SYS_write, &[fd as u64, count, 8], 8));
        }
        fd
    }

    /// A timer that does not run yet: see [`Compiler::late_files`].
    pub(super) fn make_timer_fd(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        flags: i32,
        timer: &TimerFd,
    ) -> i32 {
        let fd = model.take();
        let args = [u64::from(timer.clock), flags as u64];
        p.push(exact(libc::SYS_timerfd_create, &args, fd as u64));
        fd
    }

    pub(super) fn make_signal_fd(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        flags: i32,
        mask: u64,
    ) -> i32 {
        let fd = model.take();
        let mask = self.data.words(&[mask]);
        p.push(exact(libc::SYS_signalfd4, &[u64::MAX, mask, 8, flags as u64], fd as u64));
        fd
    }

    /// What is set for open files when nothing of the restart is open any more, by the first process
    /// that has them: timers start, locks are taken. (A process loses its locks on a file with the first
    /// descriptor of it that it closes.)
    pub(in crate::program) fn late_files(&mut self, p: &mut Program, task: usize, live: &Live) {
        let Some(table) = self.body.objects.file_tables.get(live.files) else { return };
        for (fd, file) in self.slots.kept(task, table) {
            if let Some(open) = self.body.objects.files.get(file) {
                self.late_file(p, fd, open);
            }
        }
        if self.slots.keeps_table(task, live.files) {
            for held in &table.locks {
                self.lock(p, held.fd, &held.lock);
            }
        }
    }

    fn late_file(&mut self, p: &mut Program, fd: i32, file: &OpenFile) {
        for lock in &file.locks {
            self.lock(p, fd, lock);
        }
        if !matches!(file.kind, FileKind::Inotify { .. }) {
            self.signals_of(p, fd, file);
        }
        if let FileKind::TimerFd(timer) = &file.kind {
            self.start_timer_fd(p, fd, timer);
        }
    }

    fn start_timer_fd(&mut self, p: &mut Program, fd: i32, timer: &TimerFd) {
        const NS: u64 = 1_000_000_000;
        // The kernel does not tell an absolute time from a relative one afterwards, so what is left
        // will do; but a moment of the wall clock stays what it is.
        let flags = if timer.is_wall_clock() { timer.flags } else { 0 };
        if timer.value != 0 || timer.interval != 0 || flags != 0 {
            let (value, interval) = (timer.value, timer.interval);
            let words = [interval / NS, interval % NS, value / NS, value % NS];
            let setting = self.data.words(&words);
            let args = [fd as u64, u64::from(flags), setting, 0];
            p.push(call(libc::SYS_timerfd_settime, &args));
        }
        if timer.ticks != 0 {
            let ticks = self.data.words(&[timer.ticks]);
            p.push(call(libc::SYS_ioctl, &[fd as u64, TFD_IOC_SET_TICKS, ticks]));
        }
    }
}
