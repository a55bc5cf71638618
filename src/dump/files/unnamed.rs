//! Regular files that no path leads to: deleted ones and memfds. Their contents go into the image.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::Files;
use crate::dump::memory::data_pages;
use crate::dump::names::{Lost, nanoseconds};
use crate::image::{FileKind, Inode, Origin};
use crate::sys::{inspect, procfs};

/// In front of the name of a memfd, where /proc shows it.
const MEMFD: &[u8] = b"/memfd:";

/// Device and inode number, as stat(2) tells them.
pub(in crate::dump) type Key = (u64, u64);

impl Files {
    /// A file that is open or mapped: by its path, or by its contents where no path leads to it.
    /// `source` is a link of /proc to it, `shown` what that link says.
    ///
    /// # Errors
    /// Why it cannot be saved.
    pub fn regular(&mut self, source: &str, shown: &[u8], key: Key) -> Result<FileKind, String> {
        match self.names.mismatch(shown, key.0, key.1) {
            None => Ok(FileKind::Named { path: shown.to_vec() }),
            Some(Lost::Deleted(path)) => self.unnamed(source, path, key),
            Some(other) => Err(other.to_string()),
        }
    }

    /// A link of /proc by which a file without a name can be opened, where a descriptor in the tree is
    /// such a link.
    pub fn link_to(&self, key: Key) -> Option<&String> {
        self.links.get(&key)
    }

    /// From now on this memfd is plain shared memory: nobody may find a descriptor for it.
    pub fn only_mapped(&mut self, key: Key) {
        self.only_mapped.insert(key);
    }

    fn unnamed(&mut self, source: &str, path: Vec<u8>, key: Key) -> Result<FileKind, String> {
        if let Some(&inode) = self.inode_index.get(&key) {
            return Ok(FileKind::Unnamed { inode });
        }
        if self.only_mapped.contains(&key) {
            return Err("it can be saved with CAP_CHECKPOINT_RESTORE only".to_owned());
        }
        let unreadable = |e: std::io::Error| format!("it has been deleted and cannot be read: {e}");
        let file = File::open(source).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Lost::Deleted(path).to_string());
        }
        if inspect::on_hugetlbfs(&file).map_err(unreadable)? {
            return Err("huge pages of hugetlbfs cannot be saved".to_owned());
        }
        let path_there = self.names.still_there(&path);
        // A chrooted task is not told of all mounts.
        let mounted = self.names.is_mounted(mount(&file)) || self.names.is_on(&path_there, key.0);
        let origin = match path.strip_prefix(MEMFD) {
            _ if mounted => {
                if meta.nlink() > 0 {
                    let another = self.names.another(&path, key.0, key.1);
                    return another.map(|path| FileKind::Named { path }).ok_or_else(|| {
                        "its name was taken away, and what other name it has is not known"
                            .to_owned()
                    });
                }
                Origin::Deleted { path: path_there }
            }
            Some(name) => {
                let seals = inspect::seals(&file).map_err(unreadable)?;
                Origin::Memfd { name: name.to_vec(), seals }
            }
            None => return Err("it is in no file system that is mounted".to_owned()),
        };
        let inode = self.inodes.len();
        self.inodes.push(Inode {
            origin,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            size: meta.size(),
            times: [
                nanoseconds(meta.atime(), meta.atime_nsec()),
                nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ],
            pages: data_pages(&file).map_err(unreadable)?,
        });
        self.sources.push(source.to_owned());
        self.inode_index.insert(key, inode);
        Ok(FileKind::Unnamed { inode })
    }
}

/// Id of the mount that a file was opened on.
fn mount(file: &File) -> Option<u32> {
    let data = procfs::read(&format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    procfs::fdinfo(&data)?.field("mnt_id")?.parse().ok()
}
