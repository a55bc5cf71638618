//! The objects that tasks share, but for their memory.
#![forbid(unsafe_code)]

use super::layout::Payload;
use super::{Thing, Writer, entry, unwritable};
use crate::error::ImageError;
use crate::image::{FileKind, OpenFile, records};

/// What stands in the place of the path of a file that has none: it can be opened by nobody.
const NO_PATH: &[u8] = b"/anon_inode:[unnamed]";
/// Most bytes of a path, without its NUL.
const PATH_MOST: usize = 4095;

impl<'a> Writer<'a> {
    /// The tag of a thing; where it is new, its OBJREF has been written, and its records must follow.
    pub(super) fn objref(&mut self, thing: Thing<'a>) -> Result<(i32, bool), ImageError> {
        let (tag, new) = self.tags.get(thing)?;
        if new {
            self.out.record(records::OBJREF, |r| {
                r.u32(thing.number()).i32(tag);
            })?;
        }
        Ok((tag, new))
    }

    /// Credentials and what belongs to them.
    pub(super) fn cred(&mut self, index: usize) -> Result<i32, ImageError> {
        let cred = entry(&self.body.objects.creds, index, records::CRED)?;
        let (tag, new) = self.objref(Thing::Cred(index))?;
        if !new {
            return Ok(tag);
        }
        let groups = self.groups(&cred.groups)?;
        let user = self.user(cred.uids.first().copied().unwrap_or_default())?;
        self.out.record(records::CRED, |r| {
            for id in cred.uids.into_iter().chain(cred.gids) {
                r.u32(id);
            }
            r.i32(user).i32(groups).zeros(8);
            for set in cred.caps {
                r.u64(set);
            }
            r.u32(cred.securebits).zeros(4);
        })?;
        Ok(tag)
    }

    fn groups(&mut self, groups: &'a [u32]) -> Result<i32, ImageError> {
        let (tag, new) = self.objref(Thing::Groups(groups))?;
        if new {
            self.out.record(records::GROUPINFO, |r| {
                r.u32(groups.len() as u32);
                for &group in groups {
                    r.u32(group);
                }
                // The length of a list is that of the structure and of its groups, although the
                // structure's last four bytes are a group already.
                r.zeros(4);
            })?;
        }
        Ok(tag)
    }

    fn user(&mut self, uid: u32) -> Result<i32, ImageError> {
        let (tag, new) = self.objref(Thing::User(uid))?;
        if new {
            let (ns, new) = self.objref(Thing::UserNs)?;
            if new {
                self.out.record(records::USER_NS, |r| {
                    r.zeros(8);
                })?;
            }
            self.out.record(records::USER, |r| {
                r.u32(uid).i32(ns);
            })?;
        }
        Ok(tag)
    }

    /// A descriptor table and its files.
    pub(super) fn file_table(&mut self, index: usize) -> Result<i32, ImageError> {
        let table = entry(&self.body.objects.file_tables, index, records::FILE_TABLE)?;
        let (tag, new) = self.objref(Thing::FileTable(index))?;
        if !new {
            return Ok(tag);
        }
        let count = table.descriptors.len();
        let count = i32::try_from(count)
            .map_err(|_| unwritable(records::FILE_TABLE, format!("{count} descriptors")))?;
        self.out.record(records::FILE_TABLE, |r| {
            r.i32(count).zeros(4);
        })?;
        for descriptor in &table.descriptors {
            let file = self.file(descriptor.file)?;
            for held in table.locks.iter().filter(|held| held.fd == descriptor.fd) {
                self.lock(&held.lock)?;
            }
            self.out.record(records::FILE_DESC, |r| {
                r.i32(file).i32(descriptor.fd).u32(descriptor.cloexec.into()).zeros(4);
            })?;
        }
        self.epoll_items()?;
        self.waiting_messages()?;
        Ok(tag)
    }

    /// An open file, and of a pipe that is new what is in it.
    pub(super) fn file(&mut self, index: usize) -> Result<i32, ImageError> {
        let file = entry(&self.body.objects.files, index, records::FILE)?;
        let (tag, new) = self.objref(Thing::File(index))?;
        if !new {
            return Ok(tag);
        }
        let cred = self.cred(file.cred)?;
        self.asked(file)?;
        match &file.kind {
            FileKind::Named { path } => {
                self.was(file)?;
                self.file_record(1, file, cred, |_| ())?;
                self.path(path)?;
            }
            FileKind::Unnamed { inode } => {
                self.unnamed(*inode)?;
                self.file_record(1, file, cred, |_| ())?;
                self.path(NO_PATH)?;
            }
            FileKind::Pipe { pipe } => self.pipe(2, file, cred, *pipe, None)?,
            FileKind::Fifo { pipe, path } => self.pipe(3, file, cred, *pipe, Some(path))?,
            FileKind::Tty { pty, master } => {
                let tty = self.tty(*pty, *master)?;
                self.file_record(5, file, cred, |r| {
                    r.i32(tty).zeros(4);
                })?;
            }
            FileKind::Socket { socket } => {
                let socket = self.socket(*socket)?;
                self.file_record(4, file, cred, |r| {
                    r.i32(socket).zeros(4);
                })?;
            }
            FileKind::EventFd { count, semaphore } => {
                let flags = if *semaphore { libc::EFD_SEMAPHORE } else { 0 };
                self.file_record(7, file, cred, |r| {
                    r.u64(*count).i32(flags).zeros(4);
                })?;
            }
            FileKind::TimerFd(timer) => self.timer_fd(timer, file, cred)?,
            FileKind::SignalFd { mask } => self.signal_fd(*mask, file, cred)?,
            FileKind::PidFd { task, thread } => self.pid_fd(*task, *thread, file, cred)?,
            FileKind::Inotify { watches } => self.inotify(watches, file, cred)?,
            FileKind::Epoll { items } => {
                self.file_record(6, file, cred, |_| ())?;
                if !items.is_empty() {
                    self.epolls.push((tag, items));
                }
            }
        }
        Ok(tag)
    }

    /// A FILE record; `more` adds the fields behind those that all types have.
    pub(super) fn file_record(
        &mut self,
        number: u32,
        file: &OpenFile,
        cred: i32,
        more: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), ImageError> {
        self.out.record(records::FILE, |r| {
            r.u32(number).u32(file.mode).u32(file.flags).i32(cred).u64(file.pos).zeros(16);
            more(r);
        })
    }

    /// A path with its NUL.
    pub(super) fn path(&mut self, path: &[u8]) -> Result<(), ImageError> {
        if path.len() > PATH_MOST || path.contains(&0) || path.first() != Some(&b'/') {
            let shown = String::from_utf8_lossy(path.get(..64).unwrap_or(path));
            return Err(unwritable(
                records::FILE_NAME,
                format!("{shown:?} ({} bytes) is not an absolute path", path.len()),
            ));
        }
        self.out.record(records::FILE_NAME, |r| {
            r.bytes(path).zeros(1);
        })
    }

    /// Current and root directory.
    pub(super) fn fs(&mut self, index: usize) -> Result<i32, ImageError> {
        let fs = entry(&self.body.objects.fss, index, records::FS)?;
        let (tag, new) = self.objref(Thing::Fs(index))?;
        if new {
            self.out.record(records::FS, |r| {
                r.u32(fs.umask).zeros(4);
            })?;
            self.path(&fs.cwd)?;
            self.path(&fs.root)?;
        }
        Ok(tag)
    }

    /// Signal actions.
    pub(super) fn sighand(&mut self, index: usize) -> Result<i32, ImageError> {
        let sighand = entry(&self.body.objects.sighands, index, records::SIGHAND)?;
        let (tag, new) = self.objref(Thing::SigHand(index))?;
        if new {
            self.out.record(records::SIGHAND, |r| {
                for action in &sighand.actions {
                    r.u64(action.handler).u64(action.flags).u64(action.restorer).u64(action.mask);
                }
            })?;
        }
        Ok(tag)
    }
}
