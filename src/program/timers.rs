//! POSIX timers.

use super::insn::{Insn, Op};
use super::{Compiler, Program, call, exact};
use crate::image::{Live, PosixTimer};

/// prctl(2), Linux 6.16: timer_create(2) gives the id that it finds where it would put it.
const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;

/// Without that, a new process gets ids in order: those in between are made, and deleted again. At most
/// so many; and without need no more than the few that are quicker to count.
pub(crate) const IDS_BY_COUNTING: i32 = 4096;
const IDS_QUICKLY_COUNTED: i32 = 16;

/// struct sigevent: its words, and where the thread id is.
const SIGEVENT_WORDS: usize = 8;
const SIGEVENT_THREAD: u64 = 16;
const SIGEV_THREAD_ID: i32 = 4;

impl Compiler<'_> {
    /// Makes the timers of a process and starts them with the time that was left. A fresh process never
    /// had one.
    pub(super) fn posix_timers(&mut self, p: &mut Program, live: &Live, fresh: bool) {
        let Some(last) = live.timers.last() else { return };
        if self.facts.timer_ids && (!fresh || last.id > IDS_QUICKLY_COUNTED) {
            self.prctl(p, PR_TIMER_CREATE_RESTORE_IDS, 1);
            for timer in &live.timers {
                self.make_timer(p, timer);
            }
            self.prctl(p, PR_TIMER_CREATE_RESTORE_IDS, 0);
        } else {
            self.count_timers(p, &live.timers);
        }
        for timer in &live.timers {
            // That no other id was given.
            p.push(exact(libc::SYS_timer_getoverrun, &[timer.id as u64], 0));
            self.start_timer(p, timer);
        }
    }

    fn make_timer(&mut self, p: &mut Program, timer: &PosixTimer) {
        let mut event = [0u64; SIGEVENT_WORDS];
        let target = if timer.thread.is_some() { SIGEV_THREAD_ID } else { 0 };
        event[0] = timer.value;
        event[1] = u64::from(timer.signal as u32) | u64::from((timer.notify | target) as u32) << 32;
        let event: Vec<u8> = event.iter().flat_map(|word| word.to_le_bytes()).collect();
        let event = self.data.own(&event);
        if let Some(thread) = timer.thread {
            // The second argument of the store is the thread id.
            p.push(self.copy_pid(thread, std::mem::offset_of!(Insn, arg) + 8));
            let arg = [event + SIGEVENT_THREAD, 0, 0, 0, 0, 0];
            p.push(Insn { arg, ..Insn::new(Op::Store) });
        }
        let id = self.data.own(&timer.id.to_le_bytes());
        p.push(call(libc::SYS_timer_create, &[timer.clock as u64, event, id]));
    }

    /// Makes the timers on a kernel that counts their ids from 0, in ascending order.
    fn count_timers(&mut self, p: &mut Program, timers: &[PosixTimer]) {
        let mut next = 0;
        let mut fillers = Vec::new();
        for timer in timers {
            for id in next..timer.id.min(IDS_BY_COUNTING) {
                let filler = PosixTimer {
                    id,
                    clock: libc::CLOCK_MONOTONIC,
                    signal: 0,
                    notify: libc::SIGEV_NONE,
                    value: 0,
                    thread: None,
                    left: 0,
                    interval: 0,
                };
                self.make_timer(p, &filler);
                fillers.push(id);
            }
            self.make_timer(p, timer);
            next = timer.id.saturating_add(1);
        }
        for id in fillers {
            p.push(call(libc::SYS_timer_delete, &[id as u64]));
        }
    }

    fn start_timer(&mut self, p: &mut Program, timer: &PosixTimer) {
        const SECOND: u64 = 1_000_000_000;
        let (left, interval) = (timer.left, timer.interval);
        if left == 0 && interval == 0 {
            return;
        }
        // 0 would turn it off.
        let left = left.max(1);
        let words = [interval / SECOND, interval % SECOND, left / SECOND, left % SECOND];
        let at = self.data.words(&words);
        p.push(call(libc::SYS_timer_settime, &[timer.id as u64, 0, at, 0]));
    }
}
