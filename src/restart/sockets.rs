//! Whether sockets of an image can be bound to their paths.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::Options;
use crate::error::{Error, RestartError, SysError};
use crate::image::Body;
use crate::program;
use crate::sys::sockdiag::Diag;

/// Refuses sockets that could not be bound to their paths. A file that such a socket was bound to is taken
/// away at the restart: so it must be one, and nobody's.
pub fn check(body: &Body, options: &Options<'_>) -> Result<(), Error> {
    let names = program::bound_names(body);
    let linked: HashSet<&[u8]> =
        names.iter().filter(|n| n.file.is_some()).map(|n| n.address.as_slice()).collect();
    let mut live = None;
    for name in names.iter().filter(|n| n.address.first() != Some(&0)) {
        let root = options.root.map_or(&b""[..], |root| root.to_bytes());
        let directory = name.directory.as_deref().unwrap_or_default();
        let path = [root, directory, if directory.is_empty() { b"" } else { b"/" }, &name.address];
        let path = path.concat();
        let path = Path::new(OsStr::from_bytes(&path));
        let Ok(found) = std::fs::symlink_metadata(path) else { continue };
        let refuse = |why: &str| {
            let text = format!("a socket cannot be bound to {}: {why}", path.display());
            Err(RestartError::Taken(text).into())
        };
        if name.file.is_none() {
            if linked.contains(name.address.as_slice()) {
                continue;
            }
            return refuse("a file has been made there since");
        }
        if !found.file_type().is_socket() {
            return refuse("another file is there now");
        }
        let live = match &mut live {
            Some(live) => live,
            None => live.insert(live_sockets()?),
        };
        if live.contains(&(found.ino() as u32)) {
            return refuse("a socket that is in use is bound there");
        }
    }
    Ok(())
}

/// Inode numbers of the files that sockets are bound to just now.
fn live_sockets() -> Result<HashSet<u32>, Error> {
    let failed = |e| SysError::new("ask about sockets (sock_diag)", e);
    let all = Diag::open(None).and_then(|diag| diag.all_unix()).map_err(failed)?;
    Ok(all.into_iter().filter_map(|info| info.file).collect())
}
