//! Signals that wait to be delivered, and timers.

use super::insn::{INSN_SIZE, Insn};
use super::{Compiler, Program, call};
use crate::image::{Live, Pending};

/// Bytes of the kernel's siginfo_t.
const SIGINFO: usize = 128;

const SI_KERNEL: i32 = 0x80;
const SI_TIMER: i32 = -2;

/// Offset in an instruction of its argument `index`.
const fn argument(index: usize) -> usize {
    std::mem::offset_of!(Insn, arg) + 8 * index
}

impl Compiler<'_> {
    /// Queues the signals of a thread group again. All signals are blocked: they wait.
    pub(super) fn group_pending(&mut self, p: &mut Program, task: usize, live: &Live) {
        let Some(signal) = self.body.objects.signals.get(live.signal) else { return };
        for (number, info) in waiting(&signal.pending) {
            p.push(self.copy_pid(task, argument(0)));
            let insn = match info {
                Some(info) => {
                    let info = self.data.constant(&info);
                    call(libc::SYS_rt_sigqueueinfo, &[0, number, info])
                }
                None => call(libc::SYS_kill, &[0, number]),
            };
            p.push(insn);
        }
    }

    /// Queues the signals of one thread again.
    pub(super) fn thread_pending(&mut self, p: &mut Program, task: usize, live: &Live) {
        let leader = self.leader(task);
        for (number, info) in waiting(&live.pending) {
            // Two words of the call are known only now: the first copy reaches over the second.
            p.push(self.copy_pid(leader, INSN_SIZE as usize + argument(0)));
            p.push(self.copy_pid(task, argument(1)));
            let insn = match info {
                Some(info) => {
                    let info = self.data.constant(&info);
                    call(libc::SYS_rt_tgsigqueueinfo, &[0, 0, number, info])
                }
                None => call(libc::SYS_tgkill, &[0, 0, number]),
            };
            p.push(insn);
        }
    }

    /// Starts the interval timers of a process with the time that was left.
    pub(super) fn timers(&mut self, p: &mut Program, live: &Live) {
        let Some(signal) = self.body.objects.signals.get(live.signal) else { return };
        for (which, (left, interval)) in (0u64..).zip(signal.itimers) {
            if left == 0 && interval == 0 {
                continue;
            }
            // A timer that has just expired is about to send its signal; 0 would turn it off.
            let left = left.div_ceil(1000).max(1);
            let interval = interval / 1000;
            let words =
                [interval / 1_000_000, interval % 1_000_000, left / 1_000_000, left % 1_000_000];
            let at = self.data.words(&words);
            p.push(call(libc::SYS_setitimer, &[which, at, 0]));
        }
    }
}

/// Signals to send again, each with its siginfo where the image has one, in their order.
fn waiting(pending: &Pending) -> Vec<(u64, Option<[u8; SIGINFO]>)> {
    let valid = |number: u32| (1..=64).contains(&number);
    let number = |entry: &[u8; 88]| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
    let mut queue: Vec<(u64, Option<[u8; SIGINFO]>)> = pending
        .queue
        .iter()
        .filter(|entry| valid(number(entry)))
        .map(|entry| (u64::from(number(entry)), Some(siginfo(entry))))
        .collect();
    for number in 1..=64u64 {
        if pending.set & (1 << (number - 1)) != 0 && !queue.iter().any(|(n, _)| *n == number) {
            queue.push((number, None));
        }
    }
    queue.retain(|(number, _)| ![libc::SIGKILL as u64, libc::SIGSTOP as u64].contains(number));
    queue
}

/// The kernel's siginfo of an entry of the image (format document 2.15).
fn siginfo(entry: &[u8; 88]) -> [u8; SIGINFO] {
    let word = |at: usize| entry.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
    let (signal, code) = (i32::from_le_bytes(word(0)), i32::from_le_bytes(word(8)));
    let mut info = [0u8; SIGINFO];
    let mut put = |to: usize, from: usize, length: usize| {
        if let (Some(to), Some(from)) =
            (info.get_mut(to..to + length), entry.get(from..from + length))
        {
            to.copy_from_slice(from);
        }
    };
    // Signal, errno, code.
    put(0, 0, 12);
    let told_by_kernel = (1..SI_KERNEL).contains(&code);
    match signal {
        _ if code == SI_TIMER => {
            // Timer, overruns; the value.
            put(16, 24, 4);
            put(20, 32, 4);
            put(24, 48, 8);
        }
        libc::SIGCHLD if told_by_kernel => {
            // pid, uid; status; utime, stime.
            put(16, 12, 8);
            put(24, 40, 4);
            put(32, 56, 16);
        }
        libc::SIGILL | libc::SIGFPE | libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP
            if told_by_kernel =>
        {
            put(16, 72, 8);
        }
        libc::SIGPOLL if told_by_kernel => {
            put(16, 28, 4);
            put(24, 20, 4);
        }
        _ => {
            // Sender's pid and uid; the value of sigqueue(3).
            put(16, 12, 8);
            put(24, 48, 8);
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(words: &[(usize, i32)]) -> [u8; 88] {
        let mut entry = [0; 88];
        for &(at, value) in words {
            entry[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        entry
    }

    fn at(info: &[u8; SIGINFO], offset: usize) -> i32 {
        i32::from_le_bytes(info[offset..offset + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn each_kind_of_entry_lands_in_its_fields() {
        let queued = siginfo(&entry(&[(0, 34), (8, -1), (12, 7), (16, 8), (48, 9)]));
        assert_eq!([0, 8, 16, 20, 24].map(|o| at(&queued, o)), [34, -1, 7, 8, 9]);
        let child = siginfo(&entry(&[(0, 17), (8, 1), (12, 7), (40, 3), (56, 5), (64, 6)]));
        assert_eq!([16, 24, 32, 40].map(|o| at(&child, o)), [7, 3, 5, 6]);
        let fault = siginfo(&entry(&[(0, 11), (8, 1), (72, 77)]));
        assert_eq!(at(&fault, 16), 77);
        let timer = siginfo(&entry(&[(0, 14), (8, SI_TIMER), (24, 7), (32, 8), (48, 9)]));
        assert_eq!([16, 20, 24].map(|o| at(&timer, o)), [7, 8, 9]);
    }

    #[test]
    fn a_signal_without_entry_is_sent_plainly_and_sigkill_not_at_all() {
        let pending = Pending { set: 1 << 9 | 1 << 8, queue: vec![entry(&[(0, 34), (8, -1)])] };
        let sent: Vec<(u64, bool)> =
            waiting(&pending).into_iter().map(|(n, info)| (n, info.is_some())).collect();
        assert_eq!(sent, [(34, true), (10, false)]);
    }
}
