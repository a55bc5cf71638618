//! Signal masks and actions of the calling thread and process.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Blocks all signals of the calling thread until it is dropped.
#[derive(Debug)]
pub struct Blocked {
    old: libc::sigset_t,
}

impl Blocked {
    /// Blocks all signals.
    pub fn all() -> Blocked {
        let mut old = MaybeUninit::zeroed();
        let mut all = MaybeUninit::zeroed();
        // SAFETY: both sets are valid for writing; sigfillset initialises `all`, the mask call `old`.
        let old = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
            old.assume_init()
        };
        Blocked { old }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `old` is the mask that the kernel gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old, std::ptr::null_mut())
        };
    }
}

/// Signals that the process ignores; bit n-1 is signal n.
pub fn ignored() -> u64 {
    let mut set = 0;
    for signal in 1..=64 {
        // The kernel's own call: libc's refuses the signals that it keeps for itself.
        let mut action = [0u64; 4];
        // SAFETY: a NULL new action only asks; the old one is written to 32 bytes that are valid.
        let done = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, 0usize, action.as_mut_ptr(), 8usize)
        };
        if done == 0 && action[0] == libc::SIG_IGN as u64 {
            set |= 1 << (signal - 1);
        }
    }
    set
}

/// How many SIGINTs have come while somebody was counting.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// How many count, and the action that SIGINT had before.
static COUNTING: Mutex<(usize, Option<libc::sigaction>)> = Mutex::new((0, None));

/// Counts SIGINTs instead of what they do otherwise, until it is dropped. Several may count at once;
/// the last to be dropped puts the action back.
#[derive(Debug)]
pub struct Interrupts {
    seen: u32,
}

extern "C" fn count_interrupt(_signal: i32) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

impl Interrupts {
    /// Starts to count.
    pub fn count() -> Interrupts {
        let mut counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        if counting.0 == 0 {
            let mut old = MaybeUninit::zeroed();
            // SAFETY: an all-zero sigaction is valid: empty mask, no flags. The handler only adds to an
            // atomic number, which is async-signal-safe; `old` is written by the kernel.
            counting.1 = unsafe {
                let mut new: libc::sigaction = std::mem::zeroed();
                new.sa_sigaction = count_interrupt as *const () as usize;
                libc::sigaction(libc::SIGINT, &raw const new, old.as_mut_ptr());
                Some(old.assume_init())
            };
        }
        counting.0 += 1;
        Interrupts { seen: INTERRUPTS.load(Ordering::Relaxed) }
    }

    /// Whether a SIGINT has come since the last time that this was asked.
    pub fn again(&mut self) -> bool {
        let now = INTERRUPTS.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, now) != now
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let mut counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        counting.0 -= 1;
        if counting.0 == 0
            && let Some(old) = counting.1.take()
        {
            // One that was sent to the process may still wait for the thread that the kernel has chosen for it.
            // Whoever changes its mask takes what waits: here that still counts.
            drop(Blocked::all());
            // SAFETY: `old` is the action that the kernel gave us.
            unsafe { libc::sigaction(libc::SIGINT, &raw const old, std::ptr::null_mut()) };
        }
    }
}
