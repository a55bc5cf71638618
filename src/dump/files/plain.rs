//! Files without a name that /proc tells all about.

use crate::dump::gather::Seen;
use crate::image::FileKind;

/// What this one is, or why it cannot be saved.
pub(super) fn kind(seen: &Seen) -> Result<FileKind, &'static str> {
    match seen.link.strip_prefix(b"anon_inode:") {
        Some(b"[eventfd]") => event_fd(seen),
        _ => Err("descriptors of this kind cannot be saved"),
    }
}

fn event_fd(seen: &Seen) -> Result<FileKind, &'static str> {
    let count = seen.info.field("eventfd-count").map(|n| u64::from_str_radix(n, 16));
    let Some(Ok(count)) = count else { return Err("this kernel does not tell its count") };
    // Linux 6.5.
    let semaphore = seen.info.field("eventfd-semaphore");
    let Some(semaphore) = semaphore else { return Err("this kernel does not tell its flags") };
    Ok(FileKind::EventFd { count, semaphore: semaphore != "0" })
}
