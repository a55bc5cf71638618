//! Mount namespace, root directory and devpts of the calling process itself, for a restart of the caller.
#![forbid(unsafe_code)]

use super::Options;
use crate::error::Error;
use crate::sys::mount;

/// Puts the calling process where its image is to live.
///
/// # Errors
/// Those of unshare(2), chroot(2), mount(2).
pub fn enter(options: &Options<'_>) -> Result<(), Error> {
    if options.mntns || options.mnt_pty {
        mount::own_namespace()?;
    }
    if let Some(root) = options.root {
        mount::change_root(root)?;
    }
    if options.mnt_pty {
        mount::fresh_devpts()?;
    }
    Ok(())
}
