//! Locks on files, and who gets signals about them.

use std::collections::HashMap;

use super::Files;
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::{FileKind, FileLock, FileOwner, LockKind, Owner, ProcessLock};
use crate::sys::inspect;

/// The locks that were taken through a descriptor. Those of the open file itself are there with every
/// descriptor of it, whoever has it; those of a process with every descriptor that it has of the file.
pub(super) fn read(seen: &Seen) -> Result<Vec<FileLock>, String> {
    seen.info.fields("lock").map(lock).collect()
}

/// `1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF`
fn lock(line: &str) -> Result<FileLock, String> {
    let unknown = || format!("a lock is held ({line})");
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, kind, manner, access, _, _, first, last] = words[..] else { return Err(unknown()) };
    let kind = match kind {
        "FLOCK" => LockKind::Whole,
        "OFDLCK" => LockKind::Description,
        "POSIX" => LockKind::Process,
        "LEASE" | "DELEG" => return Err("a lease is held (F_SETLEASE)".to_owned()),
        _ => return Err(unknown()),
    };
    let exclusive = match (manner, access) {
        ("ADVISORY", "READ") => false,
        ("ADVISORY", "WRITE") => true,
        _ => return Err(unknown()),
    };
    let start: u64 = first.parse().map_err(|_| unknown())?;
    let length = match last {
        "EOF" => 0,
        _ => {
            let last: u64 = last.parse().map_err(|_| unknown())?;
            last.checked_sub(start).map(|more| more + 1).ok_or_else(unknown)?
        }
    };
    Ok(FileLock { kind, exclusive, start, length })
}

/// Whether a lock belongs to the process, and not to the open file.
pub(super) fn of_process(lock: &FileLock) -> bool {
    lock.kind == LockKind::Process
}

impl Files {
    /// The locks that a process took through a descriptor, which is the first that it has of the file.
    pub(super) fn process_locks(facts: &Facts, seen: &Seen) -> Result<Vec<ProcessLock>, DumpError> {
        let locks = read(seen).map_err(|reason| facts.refuse(seen.object(), reason))?;
        let own = locks.into_iter().filter(of_process);
        Ok(own.map(|lock| ProcessLock { fd: seen.fd, lock }).collect())
    }

    /// Finds out who gets signals about the files that can send any.
    pub(super) fn read_owners(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        let tasks: HashMap<i32, &Facts> = all.iter().map(|facts| (facts.tid, facts)).collect();
        for &(object, holder) in &self.senders {
            let copy = holder.copy()?;
            let seen = inspect::file_owner(&copy).map_err(holder.failed("ask for the owner of"))?;
            if (seen.pid, seen.signal) == (0, 0) {
                continue;
            }
            let Some(file) = self.objects.get_mut(object) else { continue };
            if matches!(file.kind, FileKind::Named { .. }) && seen.pid != 0 {
                return Err(holder.refuse(all, "signals tell of changes in it (F_NOTIFY)"));
            }
            let who = match tasks.get(&seen.pid) {
                Some(facts) => Owner::new(seen.kind, facts.index),
                None => None,
            };
            if who.is_none() && seen.pid != 0 {
                let what = match seen.kind {
                    0 => "thread",
                    1 => "process",
                    _ => "process group",
                };
                let reason = format!(
                    "it sends signals to {what} {}, which is no task of the tree",
                    seen.pid
                );
                return Err(holder.refuse(all, reason));
            }
            file.owner = Some(FileOwner { who, signal: seen.signal });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_as_proc_shows_them() {
        let parsed = |kind, exclusive, start, length| FileLock { kind, exclusive, start, length };
        let cases = [
            ("1: FLOCK  ADVISORY  READ 1 2:3:4 0 EOF", parsed(LockKind::Whole, false, 0, 0)),
            ("1: POSIX  ADVISORY  WRITE 1 2:3:4 5 5", parsed(LockKind::Process, true, 5, 1)),
            ("1: OFDLCK ADVISORY  WRITE -1 2:3:4 9 EOF", parsed(LockKind::Description, true, 9, 0)),
        ];
        for (line, expected) in cases {
            assert_eq!(lock(line), Ok(expected));
        }
        assert_eq!(
            lock("1: LEASE  ACTIVE    READ 1 2:3:4 0 EOF"),
            Err("a lease is held (F_SETLEASE)".to_owned())
        );
        for line in
            ["", "1: FLOCK  ADVISORY  WRITE 1 2:3:4 7 5", "1: -> FLOCK ADVISORY READ 1 a 0 EOF"]
        {
            assert!(lock(line).is_err());
        }
    }
}
