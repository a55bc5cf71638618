//! System V shared memory: made before the first task is forked, and taken away again where the restart
//! fails.
//!
//! Until the tasks have attached it, this process has; what it is to have in it, its owner, permissions and
//! locks it gets when all tasks wait, so that one that was there before is as it was where the restart fails.
#![forbid(unsafe_code)]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use super::facts;
use super::source::ImageFd;
use crate::error::{Error, RestartError, SysError};
use crate::image::{Body, Reader, Segment, TaskState, VmaKind};
use crate::sys::space;
use crate::sys::sysv::{self, Attachment};

/// How often another process may make a segment just when this one has chosen its id.
const TRIES: usize = 16;

/// The next id is one for all threads.
static CHOOSING: Mutex<()> = Mutex::new(());

/// The segments of a restart.
#[derive(Debug, Default)]
pub(super) struct Segments {
    made: Vec<Made>,
    /// ipc namespaces of the tasks' own, by their index.
    spaces: BTreeMap<usize, File>,
}

/// One of them.
#[derive(Debug)]
struct Made {
    /// Index in the table of shared memory.
    shm: usize,
    id: i32,
    /// It was there before the restart.
    survived: bool,
    /// It is to be removed where the restart fails; it does not go by itself.
    stays: bool,
    /// Which namespace of the tasks' own it is in.
    space: Option<usize>,
    memory: Option<Attachment>,
}

/// Refuses segments where the caller itself becomes the task: nobody would be there to give them up.
pub(super) fn refuse(body: &Body) -> Result<(), Error> {
    match body.objects.shms.iter().find_map(|shm| shm.segment) {
        Some(segment) => {
            let reason = "it cannot come back where the caller itself becomes the task (self)";
            Err(failed(&segment, reason, libc::EOPNOTSUPP))
        }
        None => Ok(()),
    }
}

impl Segments {
    /// Makes those of the image, or finds them where they are still there.
    ///
    /// # Errors
    /// EEXIST where another has the id or the key, or where somebody has it attached; EPERM where the caller
    /// may not choose the id; those of shmget(2).
    pub fn make(body: &Body) -> Result<Segments, Error> {
        let mut segments = Segments::default();
        for (shm, space) in owners(body)? {
            let Some(segment) = body.objects.shms.get(shm).and_then(|s| s.segment) else {
                continue;
            };
            let make = || match survivor(&segment)? {
                Some(memory) => Ok((segment.id, true, memory)),
                None => fresh(&segment).map(|(id, memory)| (id, false, memory)),
            };
            let (id, survived, memory) = match space {
                None => make()?,
                Some(space) => within(segments.space(&segment, space)?, &segment, make)?,
            };
            // What is in a namespace goes with it.
            let stays = !survived && !segment.removed && space.is_none();
            segments.made.push(Made { shm, id, survived, stays, space, memory: Some(memory) });
        }
        Ok(segments)
    }

    /// A namespace of the tasks' own.
    fn space(&mut self, segment: &Segment, space: usize) -> Result<&File, Error> {
        match self.spaces.entry(space) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let made = space::new_ipc();
                Ok(new.insert(made.map_err(|e| tried(segment, "make its ipc namespace", &e))?))
            }
        }
    }

    /// The ipc namespaces of the tasks' own that have some, by their index, and a descriptor of each.
    pub fn spaces(&self) -> Vec<(usize, i32)> {
        self.spaces.iter().map(|(&space, file)| (space, file.as_raw_fd())).collect()
    }

    /// The id of each, by its index in the table of shared memory.
    pub fn ids(&self) -> HashMap<usize, i32> {
        self.made.iter().map(|made| (made.shm, made.id)).collect()
    }

    /// Gives them their contents, owners and permissions: all tasks have attached them.
    ///
    /// # Errors
    /// Those of reading the image, and of shmctl(2).
    pub fn settle(&mut self, body: &Body, reader: &mut Reader<ImageFd>) -> Result<(), Error> {
        if self.made.is_empty() {
            return Ok(());
        }
        let (image, base) = reader
            .source_mut()
            .pages_file()
            .map_err(|e| SysError::new("copy the image to memory", e))?;
        for made in &mut self.made {
            let Some(object) = body.objects.shms.get(made.shm) else { continue };
            let (Some(segment), Some(memory)) = (&object.segment, made.memory.take()) else {
                continue;
            };
            let cannot = |what: &'static str| move |e: io::Error| tried(segment, what, &e);
            if made.survived {
                memory.clear().map_err(cannot("empty it"))?;
            }
            for run in &object.pages {
                let bytes = run.count * crate::image::PAGE;
                let read = memory.fill(run.address, bytes, image, base + run.offset);
                read.map_err(cannot("read its contents"))?;
            }
            let end = || {
                let now = sysv::look(made.id).map_err(cannot("look at it"))?;
                if now.is_some_and(|now| now.locked != segment.locked) {
                    let locked = sysv::lock(made.id, segment.locked);
                    locked.map_err(cannot("lock it in memory"))?;
                }
                sysv::own(made.id, segment.owner, segment.mode).map_err(cannot("give it its owner"))
            };
            match made.space.and_then(|space| self.spaces.get(&space)) {
                None => end()?,
                Some(space) => within(space, segment, end)?,
            }
        }
        Ok(())
    }

    /// The tree runs: they are its own.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        for made in self.made.iter().filter(|made| made.stays) {
            let _ = sysv::remove(made.id);
        }
    }
}

/// In which namespace of the tasks' own each segment is, by its index in the table of shared memory.
///
/// # Errors
/// EINVAL where tasks in different ones have it.
pub(super) fn owners(body: &Body) -> Result<BTreeMap<usize, Option<usize>>, Error> {
    let mut owners = BTreeMap::new();
    let mut seen = HashSet::new();
    for task in &body.tasks {
        let TaskState::Live(live) = task else { continue };
        let space = live.namespaces.ipc;
        let mm = body.objects.mms.get(live.mm).filter(|_| seen.insert((live.mm, space)));
        for vma in mm.iter().flat_map(|mm| &mm.vmas) {
            let VmaKind::ShmAnon(shm) = vma.kind else { continue };
            let segment = body.objects.shms.get(shm).and_then(|shm| shm.segment);
            if let Some(segment) = segment
                && *owners.entry(shm).or_insert(space) != space
            {
                let reason = "tasks in different ipc namespaces have it attached";
                return Err(failed(&segment, reason, libc::EINVAL));
            }
        }
    }
    Ok(owners)
}

/// Does `work` in a namespace.
fn within<R: Send>(
    space: &File,
    segment: &Segment,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> Result<R, Error> {
    let done = space::inside(space, || Ok(work()));
    done.map_err(|e| tried(segment, "enter its ipc namespace", &e))?
}

/// The segment itself, where it is still there and nobody uses it.
fn survivor(segment: &Segment) -> Result<Option<Attachment>, Error> {
    let cannot = |what: &'static str| move |e: io::Error| tried(segment, what, &e);
    let found = sysv::look(segment.id).map_err(cannot("look for it"))?;
    let Some(found) = found.filter(|_| !segment.removed) else { return Ok(None) };
    if found.id != segment.id {
        let reason = format!("segment {} is where it was in the kernel's table", found.id);
        return Err(failed(segment, reason, libc::EEXIST));
    }
    let same = (found.key, found.size, found.owner, found.creator)
        == (segment.key, segment.size, segment.owner, segment.creator);
    if !same || found.removed {
        return Err(failed(segment, "another segment has its id", libc::EEXIST));
    }
    if found.attached != 0 {
        let reason = "it is still there, and some process has it attached";
        return Err(failed(segment, reason, libc::EEXIST));
    }
    let memory = sysv::attach(segment.id, segment.size);
    memory.map(Some).map_err(cannot("it is still there; attach it"))
}

/// Makes a segment, attached here; one that is to go with its last mapping will.
fn fresh(segment: &Segment) -> Result<(i32, Attachment), Error> {
    if segment.key != 0 {
        let other = sysv::find(segment.key).map_err(|e| tried(segment, "look for its key", &e))?;
        if let Some(other) = other {
            let reason = format!("segment {other} has its key {:#010x}", segment.key);
            return Err(failed(segment, reason, libc::EEXIST));
        }
    }
    let own = facts::own_cred(&facts::own_status()?);
    // Of real, saved, effective and file system ids the effective ones count.
    let [_, _, uid, _] = own.uids;
    let [_, _, gid, _] = own.gids;
    if segment.creator == [uid, gid] {
        create(segment, [uid, gid], |make| make())
    } else {
        create(segment, [uid, gid], |make| sysv::as_user(segment.creator, make))
    }
}

type Make<'a> = &'a (dyn Fn() -> io::Result<(i32, Attachment)> + Sync);

/// Makes a segment with the id that it had; where it is to go with its last mapping, or with another id. For the
/// time of the restart it is `owner`'s.
fn create(
    segment: &Segment,
    owner: [u32; 2],
    run: impl Fn(Make<'_>) -> io::Result<(i32, Attachment)>,
) -> Result<(i32, Attachment), Error> {
    let make = || {
        let id = sysv::make(segment.key, segment.size)?;
        let made = sysv::attach(id, segment.size)
            .and_then(|memory| sysv::own(id, owner, 0o600).map(|()| (id, memory)));
        // From now on it goes with this process, if that should be killed.
        let made = made.and_then(|made| match segment.removed {
            true => sysv::remove(id).map(|()| made),
            false => Ok(made),
        });
        made.inspect_err(|_| drop(sysv::remove(id)))
    };
    let _choosing = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut may_choose = true;
    for _ in 0..TRIES {
        if may_choose && let Err(e) = sysv::choose_next(segment.id) {
            if !segment.removed {
                return Err(tried(segment, "choose its id (/proc/sys/kernel/shm_next_id)", &e));
            }
            may_choose = false;
        }
        let (id, memory) = run(&make).map_err(|e| {
            // What was chosen is not to be the id of somebody else's.
            if may_choose && let Ok(id) = sysv::make(0, 1) {
                let _ = sysv::remove(id);
            }
            let [uid, gid] = segment.creator;
            let what = format!("make one of {} bytes as user {uid}, group {gid}", segment.size);
            tried(segment, &what, &e)
        })?;
        if id == segment.id || !may_choose {
            return Ok((id, memory));
        }
        let taken = sysv::look(segment.id).map_err(|e| tried(segment, "look for it", &e))?;
        if taken.is_some() && segment.removed {
            return Ok((id, memory));
        }
        let _ = sysv::remove(id);
        if let Some(other) = taken {
            let reason = format!("segment {} has been made in its place", other.id);
            return Err(failed(segment, reason, libc::EEXIST));
        }
    }
    let reason = "others make segments all the time, and take the id that was chosen";
    Err(failed(segment, reason, libc::EEXIST))
}

fn failed(segment: &Segment, reason: impl Into<String>, errno: i32) -> Error {
    RestartError::Segment { id: segment.id, reason: reason.into(), errno }.into()
}

fn tried(segment: &Segment, what: &str, error: &io::Error) -> Error {
    failed(segment, format!("{what}: {error}"), error.raw_os_error().unwrap_or(libc::EIO))
}
