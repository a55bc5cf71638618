//! Mount namespace, root directory and mounts of the calling process.

use std::ffi::CStr;
use std::io;

use crate::error::SysError;

fn checked(result: i32, what: impl Into<String>) -> Result<(), SysError> {
    if result < 0 { Err(SysError::new(what, io::Error::last_os_error())) } else { Ok(()) }
}

/// A mount that /proc/PID/mountinfo shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u32,
    /// The file system's number.
    pub device: u64,
    /// The directory of the file system that is seen there.
    pub root: Vec<u8>,
    /// Where.
    pub point: Vec<u8>,
}

/// Parses /proc/PID/mountinfo; lines that cannot be understood are left out.
pub fn mounts(data: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut words = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let (major, minor) = std::str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
        let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
        Some(Mount { id, device, root: plain(words.next()?), point: plain(words.next()?) })
    };
    data.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// Without the kernel's `\ooo` for blanks and their kind.
fn plain(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        let digits = rest.get(..3).filter(|_| first == b'\\');
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = number.and_then(|number| u8::from_str_radix(number, 8).ok());
        plain.push(byte.unwrap_or(first));
        text = rest.get(if byte.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    plain
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_as_proc_shows_them() {
        let text = b"17 1 254:0 / / rw - ext4 /dev/vda rw\n\
            90 17 0:5 /a\\040b /mnt/c\\134d\\ rw,relatime shared:1 - tmpfs none rw\nx\n";
        let first = Mount {
            id: 17,
            device: libc::makedev(254, 0),
            root: b"/".to_vec(),
            point: b"/".to_vec(),
        };
        let second = Mount {
            id: 90,
            device: libc::makedev(0, 5),
            root: b"/a b".to_vec(),
            point: b"/mnt/c\\d\\".to_vec(),
        };
        assert_eq!(mounts(text), [first, second]);
    }
}
