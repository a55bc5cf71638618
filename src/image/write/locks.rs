//! Locks on files, and who gets signals about them.
#![forbid(unsafe_code)]

use super::{Writer, unwritable};
use crate::error::ImageError;
use crate::image::body::LOCK_KINDS;
use crate::image::records;
use crate::image::{FileLock, FileOwner, OpenFile};

impl Writer<'_> {
    /// What stands in front of the FILE whatever is open.
    pub(super) fn asked(&mut self, file: &OpenFile) -> Result<(), ImageError> {
        for lock in &file.locks {
            self.lock(lock)?;
        }
        match &file.owner {
            Some(owner) => self.owner(owner),
            None => Ok(()),
        }
    }

    pub(super) fn lock(&mut self, lock: &FileLock) -> Result<(), ImageError> {
        let number = LOCK_KINDS.iter().find(|(kind, _)| *kind == lock.kind).map_or(0, |k| k.1);
        self.out.record(records::FILE_LOCK, |r| {
            r.u32(number).u32(lock.exclusive.into()).u64(lock.start).u64(lock.length);
        })
    }

    fn owner(&mut self, owner: &FileOwner) -> Result<(), ImageError> {
        let (kind, tag) = match owner.who.map(|who| who.parts()) {
            None => (0, 0),
            Some((kind, task)) => match self.head.tasks.get(task) {
                Some(row) => (kind, row.pid),
                None => {
                    let reason = format!("task {task} owns a file, but is not in the table");
                    return Err(unwritable(records::FILE_OWNER, reason));
                }
            },
        };
        self.out.record(records::FILE_OWNER, |r| {
            r.i32(kind).i32(tag).i32(owner.signal).zeros(4);
        })
    }
}
