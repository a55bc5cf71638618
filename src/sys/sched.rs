//! Scheduling of a task: policy, niceness, CPUs, I/O priority.

use std::io;

/// Words of struct sched_attr that all kernels know (version 0).
pub const ATTRIBUTES: usize = 6;

/// Words of a set of CPUs, enough for all that the kernel can have.
const CPU_WORDS: usize = 128;

/// Policies whose niceness sched_getattr(2) tells: SCHED_OTHER and SCHED_BATCH.
const NICE_POLICIES: [u64; 2] = [0, 3];

/// struct sched_attr of a thread. Its niceness is that of the thread under any policy: what it has when
/// it goes back to an ordinary one.
///
/// # Errors
/// ESRCH; see sched_getattr(2).
pub fn attributes(tid: i32) -> io::Result<[u64; ATTRIBUTES]> {
    let mut attributes = [0u64; ATTRIBUTES];
    let (to, size) = (attributes.as_mut_ptr(), 8 * ATTRIBUTES);
    // SAFETY: the kernel writes at most `size` bytes.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, to, size, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if !NICE_POLICIES.contains(&(attributes[0] >> 32)) {
        // SAFETY: two numbers. The call itself gives 20 less the niceness.
        let result = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let nice = (20 - result) as u32;
        attributes[2] = attributes[2] & !0xffff_ffff | u64::from(nice);
    }
    Ok(attributes)
}

/// The CPUs that a thread may run on, 64 in each word, lowest first, without zero words at the end.
///
/// # Errors
/// ESRCH; see sched_setaffinity(2).
pub fn affinity(tid: i32) -> io::Result<Vec<u64>> {
    let mut words = vec![0u64; CPU_WORDS];
    let (to, size) = (words.as_mut_ptr(), CPU_WORDS * 8);
    // SAFETY: the kernel writes at most `size` bytes.
    let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, size, to) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let used = words.iter().rposition(|&w| w != 0).map_or(0, |last| last + 1);
    words.truncate(used);
    Ok(words)
}

/// The CPUs that this machine has in use; None where it does not tell.
pub fn online() -> Option<Vec<u64>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let mut words = vec![0u64; CPU_WORDS];
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for cpu in first.parse::<usize>().ok()?..=last.parse().ok()? {
            *words.get_mut(cpu / 64)? |= 1 << (cpu % 64);
        }
    }
    let used = words.iter().rposition(|&w| w != 0).map_or(0, |last| last + 1);
    words.truncate(used);
    Some(words)
}

/// I/O priority of a thread, 0 where it goes by the niceness.
///
/// # Errors
/// ESRCH; see ioprio_set(2).
pub fn io_priority(tid: i32) -> io::Result<u32> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: two numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, tid) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as u32) }
}
