//! Memory that is shared with forked tasks.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::error::SysError;

/// What may be done with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Data.
    ReadWrite,
    /// Code.
    ReadExecute,
}

impl Protection {
    fn bits(self) -> i32 {
        match self {
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Protection::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

/// A memfd(2) of `size` bytes, closed on exec.
///
/// # Errors
/// Those of memfd_create(2) and ftruncate(2).
pub fn memfd(name: &CStr, size: u64) -> Result<File, SysError> {
    // SAFETY: name is a valid C string; bad flags would give an error.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::new("memfd_create", io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size).map_err(|e| SysError::new("size a memfd", e))?;
    Ok(file)
}

/// A shared mapping of a file at a fixed address; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: u64,
    len: u64,
}

impl Mapping {
    /// Maps `len` bytes of `fd` from its start at exactly `address` (a multiple of the page size).
    ///
    /// # Errors
    /// EEXIST where something is mapped there already; those of mmap(2).
    pub fn shared(
        fd: BorrowedFd<'_>,
        address: u64,
        len: u64,
        protection: Protection,
    ) -> Result<Mapping, SysError> {
        // SAFETY: MAP_FIXED_NOREPLACE never touches a mapping that exists; bad arguments give an error.
        let got = unsafe {
            libc::mmap(
                address as *mut libc::c_void,
                len as usize,
                protection.bits(),
                libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
                fd.as_raw_fd(),
                0,
            )
        };
        if got == libc::MAP_FAILED {
            return Err(SysError::new("mmap", io::Error::last_os_error()));
        }
        Ok(Mapping { start: address, len })
    }

    /// Bytes mapped.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: mmap(2) refuses a length of 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes what may be done with some of the pages; code that was written becomes executable so.
    ///
    /// # Errors
    /// Those of mprotect(2).
    pub fn protect(&self, address: u64, len: u64, to: Protection) -> Result<(), SysError> {
        self.offset(address, len);
        // SAFETY: the range lies in this mapping (checked above), to which no Rust reference but those
        // to atomic words exists, and those lie in other pages.
        let done = unsafe { libc::mprotect(address as *mut libc::c_void, len as usize, to.bits()) };
        if done < 0 {
            return Err(SysError::new("mprotect", io::Error::last_os_error()));
        }
        Ok(())
    }

    /// Copies `bytes` to `address`.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.offset(address, bytes.len() as u64);
        // SAFETY: the range lies in this mapping (checked above), is writable until it is made code, and
        // overlaps no Rust object.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len());
        }
    }

    /// Stores a plain old value at `address`, which must be aligned for it.
    pub fn write_pod<T: Copy + 'static>(&self, address: u64, value: &T) {
        self.offset(address, size_of::<T>() as u64);
        assert!(address.is_multiple_of(align_of::<T>() as u64), "misaligned");
        // SAFETY: the range lies in this mapping (checked above) and is aligned; as in `write`.
        unsafe { std::ptr::write(address as *mut T, *value) };
    }

    /// The 64-bit word at `address`, which tasks change too.
    pub fn word(&self, address: u64) -> &AtomicU64 {
        self.offset(address, 8);
        assert!(address.is_multiple_of(8), "misaligned");
        // SAFETY: the word lies in this mapping (checked above), is aligned, lives as long as `self`, and
        // is only ever accessed atomically from here.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    }

    /// The 32-bit word at `address`, which tasks change too.
    pub fn half(&self, address: u64) -> &AtomicU32 {
        self.offset(address, 4);
        assert!(address.is_multiple_of(4), "misaligned");
        // SAFETY: as for `word`.
        unsafe { AtomicU32::from_ptr(address as *mut u32) }
    }

    /// Where in the mapping `address` is. Addresses come from a layout that the mapping was made for:
    /// one outside is a defect of this crate, not of an image.
    fn offset(&self, address: u64, len: u64) -> u64 {
        let offset = address.wrapping_sub(self.start);
        assert!(offset <= self.len && len <= self.len - offset, "outside of the mapping");
        offset
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.len as usize) };
    }
}
