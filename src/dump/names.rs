//! Whether a path still leads to what a task has open or mapped.
//!
//! Comes in: paths as /proc shows them. Goes out: the same paths, where a restart would find the same
//! file by them. Never: a path that leads elsewhere.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::PathBuf;

use crate::error::DumpError;
use crate::image::Was;
use crate::sys::{mount, procfs};

/// What /proc puts behind the path of a file that has no name any more.
pub(super) const DELETED: &[u8] = b" (deleted)";

/// Why a path does not lead to a file any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// There never was one.
    NoPath,
    /// It is a file of /proc.
    Proc,
    /// The name was taken away; this was the path.
    Deleted(Vec<u8>),
    /// Another file is there.
    Elsewhere,
    /// Nothing is there.
    Nowhere,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lost::NoPath => "it has no path",
            Lost::Proc => "it is a file of /proc",
            Lost::Deleted(_) => "it has been deleted",
            Lost::Elsewhere => "its path now leads to another file",
            Lost::Nowhere => "its path leads nowhere any more",
        })
    }
}

/// Identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// st_dev.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
    /// What a restart compares.
    pub was: Was,
}

/// What an image says of a file with this metadata.
pub(super) fn was(meta: &Metadata) -> Was {
    let kind = meta.mode() & libc::S_IFMT;
    let regular = kind == libc::S_IFREG;
    let device = kind == libc::S_IFCHR || kind == libc::S_IFBLK;
    Was {
        mode: meta.mode(),
        rdev: if device { meta.rdev() } else { 0 },
        size: if regular { meta.size() } else { 0 },
        mtime: if regular { nanoseconds(meta.mtime(), meta.mtime_nsec()) } else { 0 },
    }
}

/// A time as an image has it.
pub(super) fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// Looks paths up as the root task sees them, each once.
#[derive(Debug)]
pub(super) struct Names {
    /// Put in front of every path: empty, or a way through the root task's root directory in /proc.
    prefix: Vec<u8>,
    known: HashMap<Vec<u8>, Option<Identity>>,
    /// st_dev of /proc.
    proc_device: Option<u64>,
    /// Ids of the mounts that paths lead through.
    mounts: HashSet<u32>,
    /// File systems, whether all of one is seen, and by which path of the checkpointer.
    places: Vec<(u64, bool, PathBuf)>,
}

impl Names {
    /// For the tree whose root is `root`.
    pub fn new(root: i32) -> Result<Names, DumpError> {
        let link = |path: String| std::fs::read_link(path).ok();
        let namespace = link(format!("/proc/{root}/ns/mnt"));
        let same = namespace.is_some() && namespace == link("/proc/self/ns/mnt".to_owned());
        let directory = format!("/proc/{root}/root");
        let seen = std::fs::read_link(&directory);
        let seen = seen.map_err(DumpError::task(root, format!("read {directory}")))?;
        // In another mount namespace: up from the root task's root directory, which keeps only itself
        // from leaving it.
        let ups = seen.components().count().saturating_sub(1);
        let prefix = if same { String::new() } else { directory + &"/..".repeat(ups) };
        let proc_device = std::fs::metadata("/proc").ok().map(|m| m.dev());
        // A task sees those below its root directory only.
        let path = if same { "/proc/self/mountinfo" } else { &format!("/proc/{root}/mountinfo") };
        let mounts = procfs::read(path).map_err(DumpError::task(root, format!("read {path}")))?;
        let mounts = mount::mounts(&mounts);
        let base = if same { String::new() } else { format!("/proc/{root}/root") };
        let place = |mount: &mount::Mount| {
            let path = [base.as_bytes(), &mount.point].concat();
            (mount.device, mount.root == b"/", PathBuf::from(OsStr::from_bytes(&path)))
        };
        let places = mounts.iter().map(place).collect();
        let mounts = mounts.iter().map(|mount| mount.id).collect();
        Ok(Names {
            prefix: prefix.into_bytes(),
            known: HashMap::new(),
            proc_device,
            mounts,
            places,
        })
    }

    /// Whether the root task sees the mount with this id.
    pub fn is_mounted(&self, id: Option<u32>) -> bool {
        id.is_some_and(|id| self.mounts.contains(&id))
    }

    /// What the path leads to.
    pub fn look_up(&mut self, path: &[u8]) -> Option<Identity> {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let found = std::fs::metadata(self.seen(path)).ok().map(|m| Identity {
            device: m.dev(),
            inode: m.ino(),
            was: was(&m),
        });
        self.known.insert(path.to_vec(), found);
        found
    }

    /// Directories of the checkpointer on this file system, first those that see all of it.
    pub fn places(&self, device: u64) -> Vec<PathBuf> {
        let (whole, part): (Vec<_>, Vec<_>) =
            self.places.iter().filter(|place| place.0 == device).partition(|place| place.1);
        whole.into_iter().chain(part).map(|place| place.2.clone()).collect()
    }

    /// Whether this is the device of /proc.
    pub fn is_of_proc(&self, device: u64) -> bool {
        Some(device) == self.proc_device
    }

    /// The file itself that a path names, symbolic links not followed at its end.
    pub fn link_metadata(&self, path: &[u8]) -> Option<std::fs::Metadata> {
        let full = [self.prefix.as_slice(), path].concat();
        std::fs::symlink_metadata(OsStr::from_bytes(&full)).ok()
    }

    /// The reason why `path` does not lead to the file with this device and inode, if it does not.
    pub fn mismatch(&mut self, path: &[u8], device: u64, inode: u64) -> Option<Lost> {
        if !path.starts_with(b"/") {
            return Some(Lost::NoPath);
        }
        if self.is_of_proc(device) {
            return Some(Lost::Proc);
        }
        match (self.look_up(path), path.strip_suffix(DELETED)) {
            (Some(found), _) if found.device == device && found.inode == inode => None,
            (_, Some(path)) => Some(Lost::Deleted(path.to_vec())),
            (Some(_), None) => Some(Lost::Elsewhere),
            (None, None) => Some(Lost::Nowhere),
        }
    }

    /// Another name, in the same directory, of a file that has lost the name `path`.
    pub fn another(&mut self, path: &[u8], device: u64, inode: u64) -> Option<Vec<u8>> {
        let (directory, _) = split(path);
        let entries = std::fs::read_dir(self.seen(directory)).ok()?;
        for entry in entries.flatten() {
            if entry.ino() == inode {
                let path = [directory, entry.file_name().as_bytes()].concat();
                if self.mismatch(&path, device, inode).is_none() {
                    return Some(path);
                }
            }
        }
        None
    }

    /// The same path with as many directories left out in front of its last name as are not there
    /// any more.
    pub fn still_there(&mut self, path: &[u8]) -> Vec<u8> {
        let (mut directory, name) = split(path);
        while directory.len() > 1 && self.look_up(directory).is_none() {
            directory = split(directory.strip_suffix(b"/").unwrap_or(directory)).0;
        }
        [directory, name].concat()
    }

    /// Whether the directory of `path` is on this device.
    pub fn is_on(&mut self, path: &[u8], device: u64) -> bool {
        self.look_up(split(path).0).is_some_and(|found| found.device == device)
    }

    /// The path as the checkpointer sees it.
    pub fn seen(&self, path: &[u8]) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&[self.prefix.as_slice(), path].concat()))
    }
}

/// A path as its directory, with the slash behind it, and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1))
}

/// Where a link of /proc leads, as bytes.
pub(super) fn link(path: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read_link(path).map(|p: PathBuf| p.into_os_string().as_bytes().to_vec())
}
