//! System V shared memory: which mappings are of it, what the kernel tells of it, and whether the tree has it
//! for itself.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::facts::Facts;
use super::memory::object;
use crate::error::{DumpError, SysError};
use crate::image::Segment;
use crate::sys::procfs::Mapping;
use crate::sys::{memory, space, sysv};

/// Why a mapping is not of a segment that could be found.
pub(super) const OTHER: &str =
    "it is of System V shared memory that is not in the task's ipc namespace";

/// The segments that were found so far.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// What all files in memory without a name lie on, as the kernel's lists have it.
    device: Option<(u32, u32)>,
    seen: Vec<Seen>,
}

/// A segment that tasks have attached.
#[derive(Debug)]
struct Seen {
    /// Index in the table of shared memory.
    shm: usize,
    /// Inode number of its ipc namespace, and its id there.
    place: (u64, i32),
    /// How many mappings of it the kernel knows.
    attached: u64,
    /// How many the tasks have.
    mapped: u64,
    /// What is said where these differ: the first task that has it.
    more: DumpError,
    fewer: DumpError,
}

/// What the kernel tells of a segment.
pub(super) struct Found {
    /// As an image has it.
    pub segment: Segment,
    /// How many mappings of it there are.
    attached: u64,
}

impl Segments {
    /// Whether a mapping is of a segment. A file can have such a name too.
    pub fn has(&mut self, mapping: &Mapping) -> Result<bool, DumpError> {
        if !mapping.name.starts_with(b"/SYSV") {
            return Ok(false);
        }
        let device = match self.device {
            Some(device) => device,
            None => {
                let file = memory::memfd(c"usercr-device", 0)?;
                let found = file.metadata().map_err(|e| SysError::new("look at a memfd", e))?.dev();
                *self.device.insert((libc::major(found), libc::minor(found)))
            }
        };
        Ok(mapping.device == device)
    }

    /// Notes the first mapping of a segment.
    pub fn add(&mut self, facts: &Facts, shm: usize, found: &Found) {
        let object = format!("System V segment {}", found.segment.id);
        let refuse = |reason: &str| facts.refuse(object.as_str(), reason);
        self.seen.push(Seen {
            shm,
            place: (facts.uts_and_ipc().1, found.segment.id),
            attached: found.attached,
            mapped: 1,
            more: refuse("attached by a process outside the tree"),
            fewer: refuse("it is mapped otherwise than with shmat(2)"),
        });
    }

    /// Notes one more mapping of shared memory, where that is a segment.
    pub fn count(&mut self, shm: usize) {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.shm == shm) {
            seen.mapped += 1;
        }
    }

    /// Refuses segments that others have attached too; tells which the tasks have.
    pub fn finish(self) -> Result<Attached, DumpError> {
        let attached = self.seen.iter().map(|seen| seen.place).collect();
        for seen in self.seen {
            if seen.attached > seen.mapped {
                return Err(seen.more);
            }
            if seen.attached < seen.mapped {
                return Err(seen.fewer);
            }
        }
        Ok(Attached(attached))
    }
}

/// The segments that tasks have attached.
pub(super) struct Attached(HashSet<(u64, i32)>);

impl Attached {
    /// Whether the one with this id, in the ipc namespace with this inode number, is among them.
    pub fn has(&self, space: u64, id: i32) -> bool {
        self.0.contains(&(space, id))
    }
}

/// The segment that a mapping is of.
pub(super) fn read(facts: &Facts, mapping: &Mapping) -> Result<Found, DumpError> {
    let refuse = |reason: &str| facts.refuse(object(mapping), reason);
    let own = "/proc/self/ns/ipc";
    let (_, ipc) = facts.uts_and_ipc();
    // A kernel without such namespaces has only one, with the number 0.
    let same = ipc == 0 || std::fs::metadata(own).map_err(|e| SysError::new(own, e))?.ino() == ipc;
    let Ok(id) = i32::try_from(mapping.inode) else { return Err(refuse(OTHER)) };
    let failed = DumpError::task(facts.tid, format!("look at System V segment {id}"));
    let found = if same {
        sysv::look(id)
    } else {
        let space = File::open(facts.path("ns/ipc"));
        space.and_then(|space| space::inside(&space, || sysv::look(id)))
    };
    let found = found.map_err(failed)?;
    let Some(found) = found.filter(|found| found.id == id) else { return Err(refuse(OTHER)) };
    // It loses its key when it is removed; the mapping keeps its name.
    let name = format!("/SYSV{:08x}", found.key);
    if !found.removed && !mapping.name.starts_with(name.as_bytes()) {
        return Err(refuse(OTHER));
    }
    let segment = Segment {
        id,
        key: if found.removed { 0 } else { found.key },
        mode: found.mode,
        owner: found.owner,
        creator: found.creator,
        size: found.size,
        removed: found.removed,
        locked: found.locked,
    };
    Ok(Found { segment, attached: found.attached })
}
