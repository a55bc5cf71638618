//! Looking at another task's descriptors and memory without touching it.
//!
//! Comes in: a pid and numbers of that task. Goes out: copies of its descriptors, bytes, addresses.
//! Never: a change that the task could see.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, stream};

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: every caller passes a descriptor that the kernel has just made for it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Reads memory of a process into the front of `buf`; returns how many bytes could be read. What the
/// process itself may not read cannot be read in this way.
///
/// # Errors
/// EFAULT where nothing could be read, EPERM, ESRCH; see process_vm_readv(2).
pub fn read_memory(pid: i32, address: u64, buf: &mut [u8]) -> io::Result<usize> {
    let to = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let from = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buf.len() };
    // SAFETY: `to` is `buf`, which is ours alone during the call; `from` is an address of the other
    // process, and a bad one gives an error.
    match unsafe { libc::process_vm_readv(pid, &raw const to, 1, &raw const from, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count as usize),
    }
}

/// Most places that can be read at once.
pub const PLACES: usize = 1024;

/// Reads `length` bytes of memory of a process at each of the places, one behind the other into `buf`; returns how
/// many bytes could be read. At the first that cannot be read, and at the end of `buf`, it ends.
///
/// # Errors
/// EFAULT where nothing could be read, EPERM, ESRCH, EINVAL for more than [`PLACES`]; see process_vm_readv(2).
pub fn read_places(pid: i32, places: &[u64], length: usize, buf: &mut [u8]) -> io::Result<usize> {
    if places.is_empty() {
        return Ok(0);
    }
    let to = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let place = |&at: &u64| libc::iovec { iov_base: at as *mut libc::c_void, iov_len: length };
    let from: Vec<libc::iovec> = places.iter().map(place).collect();
    let count = from.len() as libc::c_ulong;
    // SAFETY: `to` is `buf`, which is ours alone during the call; `from` has addresses of the other
    // process, and a bad one gives an error.
    match unsafe { libc::process_vm_readv(pid, &raw const to, 1, from.as_ptr(), count, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count as usize),
    }
}

/// A copy of descriptor `fd` of the process: the same open file description.
///
/// # Errors
/// EBADF, EPERM; see pidfd_getfd(2).
pub fn copy_descriptor(process: impl AsFd, fd: i32) -> io::Result<OwnedFd> {
    let process = process.as_fd().as_raw_fd();
    // SAFETY: three numbers; the result is an error or a new descriptor.
    check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) }).map(own)
}

/// What poll(2) says about a descriptor at once.
///
/// # Errors
/// Those of poll(2).
pub fn poll_now(fd: impl AsFd, events: i16) -> io::Result<i16> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: `poll` is one valid pollfd for the time of the call.
    check(unsafe { libc::poll(&raw mut poll, 1, 0) })?;
    Ok(poll.revents)
}

/// Asks a timer for the time left, after which it counts on; see timerfd_gettime(2).
///
/// # Errors
/// EINVAL where it is no timerfd.
pub fn ask_timer(timer: impl AsFd) -> io::Result<()> {
    // SAFETY: two pairs of numbers, for which zeros are a value.
    let mut setting: libc::itimerspec = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills the struct that it is given.
    check(unsafe { libc::timerfd_gettime(timer.as_fd().as_raw_fd(), &raw mut setting) })?;
    Ok(())
}

/// Who gets signals about an open file, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenOwner {
    /// F_OWNER_TID (0), F_OWNER_PID (1) or F_OWNER_PGRP (2).
    pub kind: i32,
    /// Its number as the caller sees it; 0: nobody, or one who has ended.
    pub pid: i32,
    /// The signal; 0: SIGIO.
    pub signal: i32,
}

/// F_GETOWN_EX and F_GETSIG of fcntl(2).
///
/// # Errors
/// Those of fcntl(2).
pub fn file_owner(file: impl AsFd) -> io::Result<SeenOwner> {
    /// Of linux/fcntl.h.
    const F_GETOWN_EX: i32 = 16;
    const F_GETSIG: i32 = 11;
    let mut owner = [0i32; 2];
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the kernel writes a struct of two numbers.
    check(unsafe { libc::fcntl(file, F_GETOWN_EX, owner.as_mut_ptr()) })?;
    // SAFETY: no argument.
    let signal = check(unsafe { libc::fcntl(file, F_GETSIG) })?;
    let [kind, pid] = owner;
    Ok(SeenOwner { kind, pid, signal: signal as i32 })
}

/// A new pipe, read end first, that never waits.
fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 fills an array of two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    Ok((own(ends[0].into()).into(), own(ends[1].into()).into()))
}

/// Bytes that fit into a pipe, by any of its ends.
///
/// # Errors
/// Those of fcntl(2).
pub fn pipe_size(end: impl AsFd) -> io::Result<u32> {
    // SAFETY: F_GETPIPE_SZ takes no argument.
    let size = unsafe { libc::fcntl(end.as_fd().as_raw_fd(), libc::F_GETPIPE_SZ) };
    Ok(check(size)? as u32)
}

/// Copies what is in a pipe, at most `most` bytes, to another one; none where it is empty and has no
/// writer, EAGAIN where it is empty and has one.
fn tee(source: BorrowedFd<'_>, to: &File, most: usize) -> io::Result<usize> {
    let (source, to) = (source.as_raw_fd(), to.as_raw_fd());
    // SAFETY: two descriptors and two numbers.
    let got = unsafe { libc::tee(source, to, most, libc::SPLICE_F_NONBLOCK) };
    check(got as libc::c_long).map(|got| got as usize)
}

/// Whether somebody may yet write into a pipe, by one of its read ends.
///
/// # Errors
/// Those of tee(2).
pub fn waits_for_writer(read_end: impl AsFd) -> io::Result<bool> {
    let (_read, write) = pipe()?;
    match tee(read_end.as_fd(), &write, 1) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        // Where there is something in it, there is no telling.
        result => result.map(|got| got != 0),
    }
}

/// What is in a pipe, by one of its read ends; it stays there. Also how much each of several large reads
/// would give: a packet (O_DIRECT) ends a read.
///
/// # Errors
/// Those of tee(2) and of making a pipe as large.
pub fn pipe_contents(read_end: impl AsFd) -> io::Result<(Vec<u8>, Vec<u32>)> {
    let filled = stream::waiting(&read_end)?;
    if filled == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let (mut read, write) = pipe()?;
    let size = pipe_size(&read_end)? as libc::c_int;
    // SAFETY: F_SETPIPE_SZ takes a number.
    let sized = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
    check(sized)?;
    tee(read_end.as_fd(), &write, filled)?;
    drop(write);
    let (mut data, mut reads, mut done) = (vec![0; filled], Vec::new(), 0);
    while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read.read(rest)? {
            0 => break,
            count => {
                reads.push(count as u32);
                done += count;
            }
        }
    }
    if done != filled {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the pipe changed meanwhile"));
    }
    Ok((data, reads))
}

/// Sends a signal to one thread (tgkill(2)).
///
/// # Errors
/// ESRCH, EPERM.
pub fn signal_thread(pid: i32, tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// User address of the robust futex list of thread `tid`, 0 for none.
///
/// # Errors
/// Those of get_robust_list(2).
pub fn robust_list(tid: i32) -> io::Result<u64> {
    let (mut head, mut length) = (0u64, 0usize);
    // SAFETY: the call writes one pointer and one size.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut length) };
    check(result)?;
    Ok(head)
}

/// Names of the running kernel: release, version, machine.
///
/// # Errors
/// Those of uname(2).
pub fn kernel_names() -> io::Result<[Vec<u8>; 3]> {
    let names = uname()?;
    Ok([text(&names.release), text(&names.version), text(&names.machine)])
}

/// Names of the calling thread's uts namespace: host, NIS domain.
///
/// # Errors
/// Those of uname(2).
pub fn host_names() -> io::Result<[Vec<u8>; 2]> {
    let names = uname()?;
    Ok([text(&names.nodename), text(&names.domainname)])
}

fn uname() -> io::Result<libc::utsname> {
    // SAFETY: utsname is arrays of bytes, for which all zeros is a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: uname fills the struct that it is given.
    check(unsafe { libc::uname(&raw mut names) })?;
    Ok(names)
}

/// What stands in front of the NUL.
fn text(field: &[libc::c_char]) -> Vec<u8> {
    field.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect()
}

/// F_SEAL_* of a memfd.
///
/// # Errors
/// EINVAL where the file has no seals; see fcntl(2).
pub fn seals(file: &File) -> io::Result<u32> {
    // SAFETY: F_GET_SEALS takes no argument.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    Ok(check(seals)? as u32)
}

/// Whether a file is in hugetlbfs.
///
/// # Errors
/// Those of fstatfs(2).
pub fn on_hugetlbfs(file: &File) -> io::Result<bool> {
    // SAFETY: statfs is numbers, for which all zeros is a value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs fills the struct that it is given.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut found) })?;
    Ok(found.f_type == libc::HUGETLBFS_MAGIC)
}

/// Whether nothing may be run that is in the file system of this file.
///
/// # Errors
/// Those of fstatvfs(3).
pub fn on_noexec(file: &File) -> io::Result<bool> {
    // SAFETY: statvfs is numbers, for which all zeros is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatvfs fills the struct that it is given.
    check(unsafe { libc::fstatvfs(file.as_raw_fd(), &raw mut found) })?;
    Ok(found.f_flag & libc::ST_NOEXEC != 0)
}

/// Opens a file as a process would whose root directory is `root`.
///
/// # Errors
/// Those of openat2(2).
pub fn open_inside(root: &File, path: &[u8], flags: i32) -> io::Result<File> {
    const RESOLVE_IN_ROOT: u64 = 0x10;
    const MODE: u64 = 0o600;
    let path = std::ffi::CString::new(path)?;
    // struct open_how: only a new file has a mode.
    let mode = if flags & libc::O_TMPFILE == libc::O_TMPFILE { MODE } else { 0 };
    let how = [flags as u64, mode, RESOLVE_IN_ROOT];
    // SAFETY: a valid string, and a struct of the size that is given.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            how.as_ptr(),
            size_of_val(&how),
        )
    };
    check(fd).map(own).map(File::from)
}

/// Where the next data lies in a sparse file from `offset` on, as (start, end); none behind the last.
///
/// # Errors
/// Those of lseek(2).
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |from: u64, whence| {
        // SAFETY: three numbers.
        check(unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) })
    };
    let start = match seek(offset, libc::SEEK_DATA) {
        Ok(start) => start as u64,
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(Some((start, seek(start, libc::SEEK_HOLE)? as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_pipe_is_looked_at_and_keeps_what_it_has() {
        let (mut read, mut write) = pipe().expect("pipe");
        assert_eq!(pipe_contents(&read).expect("peek").0, b"");
        assert!(waits_for_writer(&read).expect("tee"));
        write.write_all(b"hello").expect("write");
        write.write_all(&[7; 9000]).expect("write");
        let (seen, reads) = pipe_contents(&read).expect("peek");
        assert_eq!(reads, [9005]);
        assert_eq!((&seen[..5], seen.len()), (&b"hello"[..], 9005));
        drop(write);
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).expect("read");
        assert_eq!(rest, seen);
        assert!(!waits_for_writer(&read).expect("tee"));
    }

    #[test]
    fn a_copied_descriptor_tells_whether_the_other_end_is_open() {
        let (read, write) = pipe().expect("pipe");
        let own = crate::sys::process::pidfd(std::process::id() as i32).expect("pidfd");
        let copy = copy_descriptor(&own, read.as_raw_fd()).expect("copy");
        assert_eq!(poll_now(&copy, 0).expect("poll") & libc::POLLHUP, 0);
        drop(write);
        assert_ne!(poll_now(&copy, 0).expect("poll") & libc::POLLHUP, 0);
    }

    #[test]
    fn sparse_files() {
        let file = tempfile::tempfile_in("/dev/shm").expect("file");
        file.write_all_at(&[1; 4096], 8192).expect("write");
        file.set_len(40960).expect("grow");
        assert_eq!(next_data(&file, 0).expect("seek"), Some((8192, 12288)));
        assert_eq!(next_data(&file, 12288).expect("seek"), None);
    }
}
