//! System V shared memory.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;
use super::process;
use super::space::in_a_thread;

/// Commands of shmctl(2), linux/shm.h.
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT_ANY: i32 = 15;

/// Where the next id is chosen.
const NEXT_ID: &str = "/proc/sys/kernel/shm_next_id";

/// A segment, as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub id: i32,
    /// Its key; 0: none.
    pub key: i32,
    /// Permissions.
    pub mode: u32,
    /// User and group of the owner.
    pub owner: [u32; 2],
    /// User and group of who made it.
    pub creator: [u32; 2],
    /// Bytes.
    pub size: u64,
    /// How many mappings of it there are.
    pub attached: u64,
    /// It goes with the last mapping.
    pub removed: bool,
    /// It stays in memory.
    pub locked: bool,
}

/// The segment that has this id, or the place in the kernel's table that this id would have. Of the calling
/// thread's ipc namespace.
///
/// # Errors
/// Those of shmctl(2), but for EINVAL, which says that there is none.
pub fn look(id: i32) -> io::Result<Option<Segment>> {
    // SAFETY: the struct is numbers, for which all zeros is a value.
    let mut found: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills the struct that it is given.
    let id = match check(unsafe { libc::shmctl(id, SHM_STAT_ANY, &raw mut found) }) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIDRM)) => return Ok(None),
        id => id?,
    };
    const PERMISSIONS: u32 = 0o777;
    const DEST: u32 = 0o1000;
    const LOCKED: u32 = 0o2000;
    let perm = &found.shm_perm;
    let mode = u32::from(perm.mode);
    Ok(Some(Segment {
        id,
        key: perm.__key,
        mode: mode & PERMISSIONS,
        owner: [perm.uid, perm.gid],
        creator: [perm.cuid, perm.cgid],
        size: found.shm_segsz as u64,
        attached: found.shm_nattch,
        removed: mode & DEST != 0,
        locked: mode & LOCKED != 0,
    }))
}

/// The id of the segment with this key.
///
/// # Errors
/// Those of shmget(2), but for ENOENT, which says that there is none.
pub fn find(key: i32) -> io::Result<Option<i32>> {
    // SAFETY: three numbers.
    match check(unsafe { libc::shmget(key, 0, 0) }) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        id => id.map(Some),
    }
}

/// Makes a segment that only its owner can use; its id.
///
/// # Errors
/// Those of shmget(2).
pub fn make(key: i32, size: u64) -> io::Result<i32> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    // SAFETY: three numbers.
    check(unsafe { libc::shmget(key, size as usize, flags) })
}

/// Chooses the id of the next segment that anybody makes in the calling thread's ipc namespace.
///
/// # Errors
/// Those of writing to /proc.
pub fn choose_next(id: i32) -> io::Result<()> {
    fs::write(NEXT_ID, id.to_string())
}

/// The segment goes when nobody has it attached any more.
///
/// # Errors
/// Those of shmctl(2).
pub fn remove(id: i32) -> io::Result<()> {
    // SAFETY: no struct is needed.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

/// Gives a segment an owner (user and group) and permissions.
///
/// # Errors
/// Those of shmctl(2).
pub fn own(id: i32, [uid, gid]: [u32; 2], mode: u32) -> io::Result<()> {
    // SAFETY: the struct is numbers, for which all zeros is a value.
    let mut wanted: libc::shmid_ds = unsafe { std::mem::zeroed() };
    (wanted.shm_perm.uid, wanted.shm_perm.gid) = (uid, gid);
    wanted.shm_perm.mode = mode as _;
    // SAFETY: the call reads the struct that it is given.
    check(unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut wanted) }).map(drop)
}

/// Keeps a segment in memory, or lets it be swapped out.
///
/// # Errors
/// Those of shmctl(2).
pub fn lock(id: i32, locked: bool) -> io::Result<()> {
    let command = if locked { SHM_LOCK } else { SHM_UNLOCK };
    // SAFETY: no struct is needed.
    check(unsafe { libc::shmctl(id, command, std::ptr::null_mut()) }).map(drop)
}

/// Does `work` as another user and group, in a thread of its own: those that what it makes belongs to. The
/// thread takes no signals.
///
/// # Errors
/// EPERM where the caller may not be that user; those of `work`.
pub fn as_user<R: Send>(
    [uid, gid]: [u32; 2],
    work: impl FnOnce() -> io::Result<R> + Send,
) -> io::Result<R> {
    const SAME: u32 = u32::MAX;
    let changed = || {
        // The calls themselves, as those of libc change all threads.
        // SAFETY: numbers.
        if unsafe { libc::syscall(libc::SYS_setresgid, SAME, gid, SAME) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: numbers.
        if unsafe { libc::syscall(libc::SYS_setresuid, SAME, uid, SAME) } != 0 {
            return Err(io::Error::last_os_error());
        }
        work()
    };
    let dumpable = process::own_settings().dumpable;
    let result = in_a_thread(changed);
    // A thread that becomes another user takes this from the whole process.
    if dumpable {
        // SAFETY: numbers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    }
    result
}

/// A segment in this process's memory, until it is dropped.
#[derive(Debug)]
pub struct Attachment {
    start: u64,
    len: u64,
}

/// Attaches a segment of `len` bytes, or more, wherever there is room.
///
/// # Errors
/// Those of shmat(2).
pub fn attach(id: i32, len: u64) -> io::Result<Attachment> {
    // SAFETY: the kernel chooses a free place.
    let start = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    if start as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(Attachment { start: start as u64, len })
}

impl Attachment {
    /// Zeros, without memory behind them.
    ///
    /// # Errors
    /// Those of madvise(2).
    pub fn clear(&self) -> io::Result<()> {
        let len = self.len.next_multiple_of(4096) as usize;
        // SAFETY: the mapping is ours, and nothing refers to what is in it.
        check(unsafe { libc::madvise(self.start as *mut c_void, len, libc::MADV_REMOVE) }).map(drop)
    }

    /// Fills `len` bytes behind `at` with what is at `offset` in a file.
    ///
    /// # Errors
    /// EINVAL where there are not so many; UnexpectedEof where the file ends; those of pread(2).
    pub fn fill(&self, at: u64, len: u64, file: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
        let whole = self.len.next_multiple_of(4096);
        if at.checked_add(len).is_none_or(|end| end > whole) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut done = 0;
        while done < len {
            let to = (self.start + at + done) as *mut c_void;
            let (left, from) = ((len - done) as usize, (offset + done) as libc::off_t);
            // SAFETY: `left` bytes from there on lie in the mapping, and nothing refers to them.
            match unsafe { libc::pread(file.as_raw_fd(), to, left, from) } {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count if count > 0 => done += count as u64,
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: the address is that of an attachment, to which nothing refers any more.
        unsafe { libc::shmdt(self.start as *const c_void) };
    }
}
