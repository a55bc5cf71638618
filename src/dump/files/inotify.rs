//! inotify files: what they watch, by its path.
//!
//! The kernel tells of each watch the inode and, mostly, a handle. A path of the tree that leads there is looked
//! for among those that its tasks use, then with the handle. One that was found is watched for a moment by an
//! inotify file of our own: what the kernel says of that must be the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;

use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::names::{self, DELETED, Names};
use crate::error::DumpError;
use crate::image::{FileKind, Origin, Watch};
use crate::sys::stream;
use crate::sys::watch::{self, Line, Prober, Watched};

/// An inotify file of whose watches only numbers are known.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Index of the file.
    pub object: usize,
    /// One who has it.
    pub holder: Holder,
    /// What /proc shows.
    pub lines: Vec<Line>,
}

/// A path and the st_mode of what it leads to; or why there is none.
type Found = Result<(Vec<u8>, u32), String>;

impl Files {
    /// Finds the paths of what inotify files watch, when all files of the tree are known.
    pub(super) fn resolve_inotifies(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        let Some(first) = self.inotifies.first() else { return Ok(()) };
        for Unresolved { holder, lines, .. } in &self.inotifies {
            let count = stream::waiting(holder.copy()?).map_err(holder.failed("look into"))?;
            if count > 0 {
                let reason = format!("{count} bytes of events wait in it to be read");
                return Err(holder.refuse(all, reason).passing());
            }
            if let Some(line) = lines.iter().find(|line| line.wd > Watch::MOST) {
                let (wd, most) = (line.wd, Watch::MOST);
                return Err(holder.refuse(all, format!("its watch {wd} has a number above {most}")));
            }
        }
        let prober = Prober::new().map_err(first.holder.failed("make an inotify file as"))?;
        if !prober.tells_manners().map_err(first.holder.failed("watch / as"))? {
            return Err(first.holder.refuse(all, "this kernel does not tell all of its watches"));
        }
        let lines = self.inotifies.iter().flat_map(|file| &file.lines);
        let wanted = lines.map(|line| line.watched.clone()).collect();
        let found = self.find_watched(all, &prober, wanted);
        for Unresolved { object, holder, lines } in &self.inotifies {
            let mut watches = BTreeMap::new();
            for Line { wd, mask, watched } in lines {
                let (path, mode) = match found.get(watched) {
                    Some(Ok(found)) => found.clone(),
                    other => {
                        let why = other.and_then(|other| other.as_ref().err());
                        let why = why.map_or("cannot be told", String::as_str);
                        return Err(
                            holder.refuse(all, format!("what its watch {wd} watches {why}"))
                        );
                    }
                };
                if mask & !Watch::MASK != 0 {
                    return Err(holder.refuse(all, format!("its watch {wd} has mask {mask:#x}")));
                }
                watches.insert(*wd, Watch { wd: *wd, mask: *mask, mode, path });
            }
            if let Some(file) = self.objects.get_mut(*object) {
                file.kind = FileKind::Inotify { watches: watches.into_values().collect() };
            }
        }
        Ok(())
    }

    /// Looks for a path of each.
    fn find_watched(
        &self,
        all: &[Facts],
        prober: &Prober,
        mut wanted: BTreeSet<Watched>,
    ) -> HashMap<Watched, Found> {
        let mut found: HashMap<Watched, Found> = HashMap::new();
        wanted.retain(|watched| {
            let of_proc = self.names.is_of_proc(watched.device);
            if of_proc {
                found.insert(watched.clone(), Err("is a file of /proc".to_owned()));
            }
            !of_proc
        });
        let inodes: BTreeSet<u64> = wanted.iter().map(|watched| watched.inode).collect();
        for path in self.used_paths(all) {
            let meta = self.names.link_metadata(&path);
            if let Some(meta) = meta.filter(|meta| inodes.contains(&meta.ino()))
                && let Ok(watched) = prober.watched(&self.names.seen(&path))
                && wanted.remove(&watched)
            {
                found.insert(watched, Ok((path, meta.mode())));
            }
        }
        let devices: BTreeSet<u64> = wanted.iter().map(|watched| watched.device).collect();
        for device in devices {
            let left: Vec<&Watched> = wanted.iter().filter(|w| w.device == device).collect();
            by_handle(&self.names, prober, device, left, &mut found);
        }
        found
    }

    /// All paths that the tasks use, with all directories above.
    fn used_paths(&self, all: &[Facts]) -> BTreeSet<Vec<u8>> {
        let of_files = self.objects.iter().filter_map(|file| match &file.kind {
            FileKind::Named { path } | FileKind::Fifo { path, .. } => Some(path.clone()),
            FileKind::Unnamed { inode } => match &self.inodes.get(*inode)?.origin {
                Origin::Deleted { path } => Some(path.clone()),
                Origin::Memfd { .. } => None,
            },
            _ => None,
        });
        let leaders = all.iter().filter(|facts| facts.leads());
        let of_tasks = leaders.flat_map(|facts| {
            ["cwd", "root"].into_iter().filter_map(|link| names::link(&facts.path(link)).ok())
        });
        let mut paths = BTreeSet::from([b"/".to_vec()]);
        for path in of_files.chain(of_tasks).filter(|path| path.starts_with(b"/")) {
            let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
            paths.extend(slashes.filter_map(|(slash, _)| path.get(..slash)).map(<[u8]>::to_vec));
            paths.insert(path);
        }
        paths
    }
}

/// Looks for files of one file system by their handles, on each mount of it.
fn by_handle(
    names: &Names,
    prober: &Prober,
    device: u64,
    mut left: Vec<&Watched>,
    found: &mut HashMap<Watched, Found>,
) {
    let (major, minor) = (libc::major(device), libc::minor(device));
    for watched in &left {
        let inode = watched.inode;
        let why = format!("has no path that is known (inode {inode} on device {major}:{minor})");
        found.insert((*watched).clone(), Err(why));
    }
    for place in names.places(device) {
        if left.is_empty() {
            return;
        }
        let Ok(paths) = watch::paths(&place, &left) else { continue };
        let mut still = Vec::new();
        for (watched, path) in left.into_iter().zip(paths) {
            let answer = match path {
                Ok(path) => at_path(names, prober, watched, path),
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                    Err(Some("cannot be looked for without CAP_DAC_READ_SEARCH".to_owned()))
                }
                Err(_) => Err(None),
            };
            match answer {
                Ok(answer) => {
                    found.insert(watched.clone(), Ok(answer));
                }
                Err(why) => {
                    found.extend(why.map(|why| (watched.clone(), Err(why))));
                    still.push(watched);
                }
            }
        }
        left = still;
    }
}

/// Whether the path that the kernel shows for a file leads to it in the tree.
fn at_path(
    names: &Names,
    prober: &Prober,
    watched: &Watched,
    path: Vec<u8>,
) -> Result<(Vec<u8>, u32), Option<String>> {
    let leads = prober.watched(&names.seen(&path)).is_ok_and(|found| found == *watched);
    match names.link_metadata(&path).filter(|_| leads) {
        Some(meta) => Ok((path, meta.mode())),
        None if path.ends_with(DELETED) => Err(Some("has been deleted".to_owned())),
        None => Err(None),
    }
}
