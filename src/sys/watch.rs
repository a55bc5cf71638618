//! Finding and naming what inotify files watch: inotify(7), open_by_handle_at(2).

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{check, procfs};

/// Largest handle of a file (MAX_HANDLE_SZ).
const HANDLE_MOST: usize = 128;
/// Bits that a mask may have and that no event is told for.
const QUIET: u32 = libc::IN_EXCL_UNLINK | libc::IN_DONT_FOLLOW;

/// What the kernel says of a watched file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watched {
    /// Number of its inode.
    pub inode: u64,
    /// Its file system, as st_dev of most.
    pub device: u64,
    /// Type and bytes of its handle; empty where the file system gives none.
    pub handle: (i32, Vec<u8>),
}

/// A watch as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub wd: i32,
    /// Its events and manners.
    pub mask: u32,
    /// What is watched.
    pub watched: Watched,
}

/// The watches that /proc/PID/fdinfo/FD shows; None where it cannot be understood.
pub fn lines(info: &procfs::FdInfo) -> Option<Vec<Line>> {
    info.fields("inotify wd").map(line).collect()
}

/// `N ino:X sdev:X mask:X ignored_mask:X fhandle-bytes:X fhandle-type:X f_handle:XX...`
fn line(text: &str) -> Option<Line> {
    let mut words = text.split_ascii_whitespace();
    let wd = i32::from_str_radix(words.next()?, 16).ok()?;
    let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once(':')).collect();
    let text = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    let hex = |name: &str| u64::from_str_radix(text(name)?, 16).ok();
    let device = hex("sdev")?;
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    let handle = match text("f_handle") {
        None => (0, Vec::new()),
        Some(digits) => (u32::try_from(hex("fhandle-type")?).ok()?.cast_signed(), bytes(digits)?),
    };
    Some(Line {
        wd,
        mask: hex("mask")?.try_into().ok()?,
        watched: Watched {
            inode: hex("ino")?,
            device: libc::makedev(major.try_into().ok()?, minor.try_into().ok()?),
            handle,
        },
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// An inotify file of our own, to see what the kernel says of files. No file tells an event for it.
#[derive(Debug)]
pub struct Prober {
    file: OwnedFd,
}

impl Prober {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE where the user has too many; see inotify_init(2).
    pub fn new() -> io::Result<Prober> {
        // SAFETY: flags only.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        // SAFETY: a new descriptor that nobody else has.
        Ok(Prober { file: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// What a watch of this path would be, symbolic links not followed at its end.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2), such as EACCES for a file that cannot be read.
    pub fn watched(&self, path: &Path) -> io::Result<Watched> {
        self.probe(path, QUIET).map(|line| line.watched)
    }

    /// Whether the kernel shows all of a mask (Linux 5.19).
    ///
    /// # Errors
    /// As for [`Prober::watched`].
    pub fn tells_manners(&self) -> io::Result<bool> {
        let manners = libc::IN_ONESHOT | libc::IN_EXCL_UNLINK;
        Ok(self.probe(Path::new("/"), manners)?.mask & manners == manners)
    }

    fn probe(&self, path: &Path, mask: u32) -> io::Result<Line> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let fd = self.file.as_raw_fd();
        // SAFETY: a valid C string.
        let wd = check(unsafe { libc::inotify_add_watch(fd, path.as_ptr(), mask) })?;
        let info = procfs::read(&format!("/proc/self/fdinfo/{fd}"));
        // SAFETY: numbers only.
        unsafe { libc::inotify_rm_watch(fd, wd) };
        let info = info?;
        let line = procfs::fdinfo(&info).and_then(|info| lines(&info)?.pop());
        line.filter(|line| line.wd == wd).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSUP))
    }
}

/// Opens files by their handles, for their path only, and says what /proc shows as that path. All are on the
/// mount that `directory` is on.
///
/// # Errors
/// Those of chdir(2). For each file those of open_by_handle_at(2): EPERM without CAP_DAC_READ_SEARCH, ESTALE
/// where it is no more.
pub fn paths(directory: &Path, files: &[&Watched]) -> io::Result<Vec<io::Result<Vec<u8>>>> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    super::space::in_a_thread(|| {
        // A directory that is opened tells an event; one that is gone to does not.
        // SAFETY: flags only.
        check(unsafe { libc::unshare(libc::CLONE_FS) })?;
        // SAFETY: a valid C string; the directory is that of this thread only.
        check(unsafe { libc::chdir(directory.as_ptr()) })?;
        Ok(files.iter().map(|file| path_by_handle(&file.handle)).collect())
    })
}

fn path_by_handle((kind, handle): &(i32, Vec<u8>)) -> io::Result<Vec<u8>> {
    /// struct file_handle.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; HANDLE_MOST],
    }
    let mut given = Handle { bytes: 0, kind: *kind, handle: [0; HANDLE_MOST] };
    let room = given.handle.get_mut(..handle.len()).filter(|room| !room.is_empty());
    room.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?.copy_from_slice(handle);
    given.bytes = handle.len() as u32;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let nr = libc::SYS_open_by_handle_at;
    // SAFETY: the kernel reads the header and as many bytes as it says, which are there.
    let fd = check(unsafe { libc::syscall(nr, libc::AT_FDCWD, &raw mut given, flags) })?;
    // SAFETY: a new descriptor that nobody else has.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(path.into_os_string().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_as_proc_shows_them() {
        let text = b"pos:\t0\nflags:\t00\n\
            inotify wd:11 ino:60a sdev:fe00000 mask:84000100 ignored_mask:0 fhandle-bytes:8 \
            fhandle-type:1 f_handle:0a600000000000ff\n\
            inotify wd:1 ino:2 sdev:15 mask:20 ignored_mask:0 \n";
        let info = procfs::fdinfo(text).expect("parses");
        let handle = (1, vec![0x0a, 0x60, 0, 0, 0, 0, 0, 0xff]);
        let watched = Watched { inode: 0x60a, device: libc::makedev(0xfe, 0), handle };
        let first = Line { wd: 17, mask: 0x8400_0100, watched };
        let watched = Watched { inode: 2, device: libc::makedev(0, 0x15), handle: (0, Vec::new()) };
        let second = Line { wd: 1, mask: 0x20, watched };
        assert_eq!(lines(&info), Some(vec![first, second]));
        let broken = procfs::fdinfo(b"pos:\t0\nflags:\t00\ninotify wd:1 ino:2\n").expect("parses");
        assert_eq!(lines(&broken), None);
    }

    #[test]
    fn a_file_is_found_by_its_handle() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("a path");
        let prober = Prober::new().expect("inotify");
        let watched = prober.watched(&path).expect("it can be watched");
        assert_eq!(super::super::stream::waiting(&prober.file).expect("bytes") % 16, 0);
        let found = paths(&path, &[&watched]).expect("the directory is there");
        match found.into_iter().next() {
            Some(Ok(found)) => assert_eq!(found, path.as_os_str().as_bytes()),
            Some(Err(error)) => assert!(
                matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)),
                "{error}"
            ),
            None => panic!("no answer"),
        }
    }
}
