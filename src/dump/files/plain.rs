//! Files without a name that /proc tells all about.

use super::pidfds;
use crate::dump::gather::Seen;
use crate::image::{FileKind, TimerFd};

/// What this one is, or why it cannot be saved.
pub(super) fn kind(seen: &Seen) -> Result<FileKind, String> {
    let kind = match seen.link.strip_prefix(b"anon_inode:") {
        Some(b"[eventfd]") => event_fd(seen),
        Some(b"[signalfd]") => signal_fd(seen),
        // What these two say is read when all descriptors are known.
        Some(b"[eventpoll]") => Ok(FileKind::Epoll { items: Vec::new() }),
        Some(b"[timerfd]") => Ok(FileKind::TimerFd(TimerFd::default())),
        // Its watches are looked at when all files are known.
        Some(b"inotify") => Ok(FileKind::Inotify { watches: Vec::new() }),
        Some(b"[pidfd]") => return pidfds::kind(seen),
        _ => Err("descriptors of this kind cannot be saved"),
    };
    kind.map_err(str::to_owned)
}

fn event_fd(seen: &Seen) -> Result<FileKind, &'static str> {
    let count = seen.info.field("eventfd-count").map(|n| u64::from_str_radix(n, 16));
    let Some(Ok(count)) = count else { return Err("this kernel does not tell its count") };
    // Linux 6.5.
    let semaphore = seen.info.field("eventfd-semaphore");
    let Some(semaphore) = semaphore else { return Err("this kernel does not tell its flags") };
    Ok(FileKind::EventFd { count, semaphore: semaphore != "0" })
}

fn signal_fd(seen: &Seen) -> Result<FileKind, &'static str> {
    let mask = seen.info.field("sigmask").map(|mask| u64::from_str_radix(mask, 16));
    let Some(Ok(mask)) = mask else { return Err("this kernel does not tell its signals") };
    Ok(FileKind::SignalFd { mask })
}
