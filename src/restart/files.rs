//! Whether the files of an image are still there, as they were.
//!
//! Comes in: the state of all tasks. Goes out: the first file that cannot serve, and why. A file that a task
//! may write can have grown or shrunk since; one that is only read, or mapped, must not be shorter; a
//! program or library must be the same.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Options, facts};
use crate::error::{Error, RestartError, SysError};
use crate::image::{Body, FileKind, Fs, Inode, Live, OpenFile, Origin, TaskState, VmaKind, Watch};
use crate::plan::Plan;
use crate::program::memory::vm;
use crate::sys::inspect;

/// Capability that chown(2) needs (capabilities(7)).
const CHOWN: u64 = 1;
/// Capability that chroot(2) needs.
const SYS_CHROOT: u64 = 1 << 18;
/// What is mounted anew for the tasks, so that it cannot be looked at before.
const FRESH: [&[u8]; 2] = [b"/proc/", b"/dev/pts/"];

/// Why a file cannot serve: in words, and its errno.
struct Fault(String, i32);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Fault(error.to_string(), errno)
    }
}

impl Fault {
    fn changed(reason: impl Into<String>) -> Fault {
        Fault(reason.into(), libc::ESTALE)
    }
}

/// What a task does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Open,
    Mapped,
    /// Its code runs.
    Runs,
}

/// Refuses an image of which a file is gone, cannot be opened, or is not what it was.
///
/// # Errors
/// The task and the file: ESTALE where it has changed, EPERM where it would get another owner, or why it
/// cannot be opened.
pub fn check(plan: &Plan, body: &Body, options: &Options<'_>) -> Result<(), Error> {
    let root = options.root.map(|path| {
        let path = OsStr::from_bytes(path.to_bytes());
        let failed = |e| SysError::new(format!("open the root directory {}", path.display()), e);
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map_err(failed)
    });
    let root = root.transpose()?;
    let status = facts::own_status()?;
    let may = |capability: u64| status.caps[2] & capability != 0;
    let look =
        Look { root, uid: status.uids[3], may_chown: may(CHOWN), may_chroot: may(SYS_CHROOT) };
    let (mut seen, mut seen_fss) = (HashSet::new(), HashSet::new());
    for (index, task) in body.tasks.iter().enumerate() {
        let TaskState::Live(live) = task else { continue };
        let refuse = |path: &[u8], fault: Fault| {
            let path = String::from_utf8_lossy(path).into_owned();
            let pid = plan.tasks.get(index).map_or(0, |task| task.pid);
            RestartError::File { index, pid, path, reason: fault.0, errno: fault.1 }
        };
        for (file, how) in uses(body, live) {
            let Some(open) = body.objects.files.get(file).filter(|_| seen.insert((file, how)))
            else {
                continue;
            };
            if let FileKind::Inotify { watches } = &open.kind {
                for watch in watches {
                    look.watched(watch).map_err(|fault| refuse(&watch.path, fault))?;
                }
            }
            look.file(body, open, how).map_err(|fault| refuse(name(body, open), fault))?;
        }
        if let Some(fs) = body.objects.fss.get(live.fs).filter(|_| seen_fss.insert(live.fs)) {
            look.place(&fs.cwd).map_err(|fault| refuse(&fs.cwd, fault))?;
            look.root(fs).map_err(|fault| refuse(&fs.root, fault))?;
        }
    }
    Ok(())
}

/// The files of a task, and what it does with each.
fn uses(body: &Body, live: &Live) -> Vec<(usize, Use)> {
    let table = body.objects.file_tables.get(live.files);
    let opened =
        table.into_iter().flat_map(|table| &table.descriptors).map(|d| (d.file, Use::Open));
    let mut uses: Vec<(usize, Use)> = opened.collect();
    let Some(mm) = body.objects.mms.get(live.mm) else { return uses };
    uses.extend(mm.exe.map(|exe| (exe, Use::Runs)));
    uses.extend(mm.vmas.iter().filter_map(|vma| match vma.kind {
        VmaKind::File(file) if vma.flags & vm::EXEC != 0 => Some((file, Use::Runs)),
        VmaKind::File(file) | VmaKind::ShmFile(file) => Some((file, Use::Mapped)),
        _ => None,
    }));
    uses
}

/// The path that a file has or had.
fn name<'a>(body: &'a Body, file: &'a OpenFile) -> &'a [u8] {
    match &file.kind {
        FileKind::Named { path } | FileKind::Fifo { path, .. } => path,
        FileKind::Unnamed { inode } => match body.objects.inodes.get(*inode).map(|i| &i.origin) {
            Some(Origin::Deleted { path }) => path,
            Some(Origin::Memfd { name, .. }) => name,
            None => b"",
        },
        _ => b"",
    }
}

/// From where, and as whom, files are looked at.
struct Look {
    /// The directory that will be the tasks' root, where it is another one.
    root: Option<File>,
    uid: u32,
    may_chown: bool,
    may_chroot: bool,
}

impl Look {
    fn file(&self, body: &Body, file: &OpenFile, how: Use) -> Result<(), Fault> {
        match &file.kind {
            FileKind::Named { path } => self.named(file, path, how),
            FileKind::Fifo { path, .. } => match is(&self.meta(path)?, libc::S_IFIFO) {
                true => Ok(()),
                false => Err(Fault::changed("it is no named pipe any more")),
            },
            FileKind::Unnamed { inode } => match body.objects.inodes.get(*inode) {
                Some(inode) => self.unnamed(inode, how),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn named(&self, file: &OpenFile, path: &[u8], how: Use) -> Result<(), Fault> {
        if FRESH.iter().any(|place| path.starts_with(place)) {
            return Ok(());
        }
        let flags = file.flags as i32;
        if flags & libc::O_PATH != 0 {
            self.open(path, flags & (libc::O_PATH | libc::O_NOFOLLOW))?;
            return Ok(());
        }
        let meta = self.meta(path)?;
        let regular = is(&meta, libc::S_IFREG);
        if let Some(was) = file.was {
            let device = is(&meta, libc::S_IFCHR) && meta.rdev() != was.rdev;
            if (meta.mode() ^ was.mode) & libc::S_IFMT != 0 || device {
                return Err(Fault::changed("it is something else than at the checkpoint"));
            }
            let writes = file.flags & libc::O_ACCMODE as u32 != 0 && how == Use::Open;
            if regular && !writes && meta.size() < was.size {
                let (size, was) = (meta.size(), was.size);
                return Err(Fault::changed(format!(
                    "the file is shorter than at the checkpoint ({size} bytes, was {was})"
                )));
            }
            let mtime = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
            if regular && how == Use::Runs && (meta.size(), mtime) != (was.size, was.mtime) {
                return Err(Fault::changed(
                    "it has been changed since the checkpoint, and it is code",
                ));
            }
        }
        if regular || is(&meta, libc::S_IFDIR) {
            self.open(path, flags & libc::O_ACCMODE)?;
        }
        Ok(())
    }

    /// A file whose events will be told.
    fn watched(&self, watch: &Watch) -> Result<(), Fault> {
        if FRESH.iter().any(|place| watch.path.starts_with(place)) {
            return Ok(());
        }
        let meta = self.open(&watch.path, libc::O_PATH | libc::O_NOFOLLOW)?.metadata()?;
        match (meta.mode() ^ watch.mode) & libc::S_IFMT {
            0 => Ok(()),
            _ => Err(Fault::changed("it is watched, and is something else than at the checkpoint")),
        }
    }

    /// A file that will be made anew.
    fn unnamed(&self, inode: &Inode, how: Use) -> Result<(), Fault> {
        if inode.uid != self.uid && !self.may_chown {
            let reason = format!("it belongs to uid {}: the caller has not CAP_CHOWN", inode.uid);
            return Err(Fault(reason, libc::EPERM));
        }
        let Origin::Deleted { path } = &inode.origin else { return Ok(()) };
        let end = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let directory = path.get(..end).unwrap_or(b"/");
        let failed = |error: io::Error| {
            let Fault(reason, errno) = error.into();
            Fault(format!("it has to be made anew in its directory: {reason}"), errno)
        };
        match self.open(directory, libc::O_TMPFILE | libc::O_RDWR) {
            // Then it will have a name for a moment.
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            made => drop(made.map_err(failed)?),
        }
        let place = self.open(directory, libc::O_DIRECTORY).map_err(failed)?;
        if how == Use::Runs && inspect::on_noexec(&place)? {
            let reason = "it is code, and its directory is mounted noexec";
            return Err(Fault(reason.to_owned(), libc::EACCES));
        }
        Ok(())
    }

    fn root(&self, fs: &Fs) -> Result<(), Fault> {
        if fs.root == b"/" {
            return Ok(());
        }
        if !self.may_chroot {
            let reason = "it is the root directory: the caller has not CAP_SYS_CHROOT";
            return Err(Fault(reason.to_owned(), libc::EPERM));
        }
        self.place(&fs.root)
    }

    fn place(&self, path: &[u8]) -> Result<(), Fault> {
        if FRESH.iter().any(|place| [path, b"/"].concat().starts_with(place)) {
            return Ok(());
        }
        match is(&self.meta(path)?, libc::S_IFDIR) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ENOTDIR).into()),
        }
    }

    fn meta(&self, path: &[u8]) -> io::Result<Metadata> {
        self.open(path, libc::O_PATH)?.metadata()
    }

    fn open(&self, path: &[u8], flags: i32) -> io::Result<File> {
        let only_path = flags & libc::O_PATH != 0;
        let harmless = if only_path { 0 } else { libc::O_NOCTTY | libc::O_NONBLOCK };
        let flags = flags | harmless | libc::O_CLOEXEC;
        match &self.root {
            Some(root) => inspect::open_inside(root, path, flags),
            None => {
                let access = flags & libc::O_ACCMODE;
                File::options()
                    .read(access != libc::O_WRONLY)
                    .write(access != libc::O_RDONLY)
                    .mode(0o600)
                    .custom_flags(flags & !libc::O_ACCMODE)
                    .open(Path::new(OsStr::from_bytes(path)))
            }
        }
    }
}

/// Whether a file is of this type.
fn is(meta: &Metadata, kind: u32) -> bool {
    meta.mode() & libc::S_IFMT == kind
}
