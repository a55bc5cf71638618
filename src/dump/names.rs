//! Whether a path still leads to what a task has open or mapped.
//!
//! Comes in: paths as /proc shows them. Goes out: the same paths, where a restart would find the same
//! file by them. Never: a path that leads elsewhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::DumpError;

/// What /proc puts behind the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// Identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// st_dev.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
}

/// Looks paths up as the root task sees them, each once.
#[derive(Debug)]
pub(super) struct Names {
    /// Put in front of every path: empty, or the root task's root directory in /proc.
    prefix: Vec<u8>,
    known: HashMap<Vec<u8>, Option<Identity>>,
    /// st_dev of /proc.
    proc_device: Option<u64>,
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
        if seen.as_os_str() != "/" {
            return Err(DumpError::Unsupported {
                index: 0,
                pid: root,
                object: format!("root directory {}", seen.display()),
                reason: "it is not that of the mount namespace".to_owned(),
            });
        }
        let prefix = if same { Vec::new() } else { directory.into_bytes() };
        let proc_device = std::fs::metadata("/proc").ok().map(|m| m.dev());
        Ok(Names { prefix, known: HashMap::new(), proc_device })
    }

    /// What the path leads to.
    pub fn look_up(&mut self, path: &[u8]) -> Option<Identity> {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let full = [self.prefix.as_slice(), path].concat();
        let found = std::fs::metadata(OsStr::from_bytes(&full)).ok().map(|m| Identity {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
        });
        self.known.insert(path.to_vec(), found);
        found
    }

    /// The reason why `path` does not lead to the file with this device and inode, if it does not.
    pub fn mismatch(&mut self, path: &[u8], device: u64, inode: u64) -> Option<String> {
        if !path.starts_with(b"/") {
            return Some("it has no path".to_owned());
        }
        if Some(device) == self.proc_device {
            return Some("it is a file of /proc".to_owned());
        }
        match self.look_up(path) {
            Some(found) if found.device == device && found.inode == inode => None,
            _ if path.ends_with(DELETED) => Some("it has been deleted".to_owned()),
            Some(_) => Some("its path now leads to another file".to_owned()),
            None => Some("its path leads nowhere any more".to_owned()),
        }
    }
}

/// Where a link of /proc leads, as bytes.
pub(super) fn link(path: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read_link(path).map(|p: PathBuf| p.into_os_string().as_bytes().to_vec())
}
