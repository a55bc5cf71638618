//! pidfds: of which task.

use std::collections::HashMap;

use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::FileKind;

/// Flags of open(2) that can be set later; anything else the kernel gave it a meaning for that is not known
/// here.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_NONBLOCK
    | libc::O_CLOEXEC
    | libc::O_LARGEFILE
    | libc::O_ASYNC
    | libc::O_APPEND
    | libc::O_DIRECT
    | libc::O_NOATIME
    | PIDFD_THREAD;
/// Of linux/pidfd.h.
pub(super) const PIDFD_THREAD: i32 = libc::O_EXCL;

/// A pidfd whose task is not looked for yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unresolved {
    /// Index of the file.
    pub object: usize,
    /// One who has it.
    pub holder: Holder,
    /// As /proc tells it: as the checkpointer's namespace numbers it, 0 where it does not, -1 where it is gone.
    pub pid: i32,
}

/// What /proc tells of one; its task is looked for when all are known.
pub(super) fn kind(seen: &Seen) -> Result<FileKind, String> {
    let flags = seen.info.flags as i32;
    if flags & !KNOWN != 0 {
        return Err(format!("pidfds with flags {:#o} cannot be saved", flags & !KNOWN));
    }
    Ok(FileKind::PidFd { task: 0, thread: flags & PIDFD_THREAD != 0 })
}

/// The process of a pidfd.
pub(super) fn pid(seen: &Seen) -> Option<i32> {
    seen.info.field("Pid")?.parse().ok()
}

impl Files {
    /// Finds the tasks of pidfds.
    pub(super) fn resolve_pidfds(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        let tasks: HashMap<i32, usize> = all.iter().map(|facts| (facts.tid, facts.index)).collect();
        for &Unresolved { object, holder, pid } in &self.pidfds {
            let found = match (pid, tasks.get(&pid)) {
                (-1, _) => Err("its process has ended and has been waited for".to_owned()),
                (0, _) => Err("it is of a process outside the tree".to_owned()),
                (_, None) => Err(format!("it is of process {pid}, which is no task of the tree")),
                (_, Some(&task)) => Ok(task),
            };
            let found = found.map_err(|reason| holder.refuse(all, reason))?;
            if let Some(FileKind::PidFd { task, .. }) =
                self.objects.get_mut(object).map(|file| &mut file.kind)
            {
                *task = found;
            }
        }
        Ok(())
    }
}
