//! Waiting for a word in shared memory.

use std::sync::atomic::AtomicU32;

/// Waits until `word` is no longer `value`, somebody wakes us, or `millis` are over.
pub fn wait(word: &AtomicU32, value: u32, millis: u32) {
    let limit = libc::timespec {
        tv_sec: i64::from(millis / 1000),
        tv_nsec: i64::from(millis % 1000) * 1_000_000,
    };
    // SAFETY: word and limit are valid for the call; any failure just ends the waiting.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const limit)
    };
}

/// Wakes all who wait for `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: word is valid for the call, which changes nothing.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
