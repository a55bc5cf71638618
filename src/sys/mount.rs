//! Mount namespace, root directory and mounts of the calling process.

use std::ffi::CStr;
use std::io;

use crate::error::SysError;

fn checked(result: i32, what: impl Into<String>) -> Result<(), SysError> {
    if result < 0 { Err(SysError::new(what, io::Error::last_os_error())) } else { Ok(()) }
}

/// A mount namespace for this process alone, from which nothing gets out.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn own_namespace() -> Result<(), SysError> {
    // SAFETY: unshare takes flags only.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
    checked(done, "unshare the mount namespace")?;
    let flags = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: the strings are valid; NULL data is allowed.
    let done = unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), c"none".as_ptr(), flags, std::ptr::null())
    };
    checked(done, "keep mounts from others")
}

/// chroot(2).
///
/// # Errors
/// Those of chroot(2), with the directory.
pub fn change_root(root: &CStr) -> Result<(), SysError> {
    // SAFETY: root is a valid C string.
    checked(unsafe { libc::chroot(root.as_ptr()) }, format!("chroot {}", root.to_string_lossy()))
}

/// A devpts instance of its own on /dev/pts.
///
/// # Errors
/// Those of umount2(2) and mount(2).
pub fn fresh_devpts() -> Result<(), SysError> {
    // SAFETY: the string is valid.
    let done = unsafe { libc::umount2(c"/dev/pts".as_ptr(), libc::MNT_DETACH) };
    checked(done, "unmount /dev/pts")?;
    let (kind, options) = (c"devpts".as_ptr(), c"ptmxmode=666,newinstance".as_ptr());
    // SAFETY: all strings are valid.
    let done = unsafe { libc::mount(kind, c"/dev/pts".as_ptr(), kind, 0, options.cast()) };
    checked(done, "mount devpts")
}
