//! Pipes, files without a name, and what paths led to.
#![forbid(unsafe_code)]

use super::{PagesOf, Thing, Writer, entry};
use crate::error::ImageError;
use crate::image::body::unnamed::{DELETED, MEMFD, MEMFD_PREFIX, PIPE_WAITING};
use crate::image::{OpenFile, Origin, PAGE, Pipe, records};

impl Writer<'_> {
    /// What the path of a file led to.
    pub(super) fn was(&mut self, file: &OpenFile) -> Result<(), ImageError> {
        let Some(was) = file.was else { return Ok(()) };
        self.out.record(records::FILE_WAS, |r| {
            r.u32(was.mode).zeros(4).u64(was.rdev).u64(was.size).u64(was.mtime.cast_unsigned());
        })
    }

    /// Which file without a name is open; with its contents where it is new.
    pub(super) fn unnamed(&mut self, index: usize) -> Result<(), ImageError> {
        let inode = entry(&self.body.objects.inodes, index, records::INODE)?;
        let (tag, new) = self.tags.get(Thing::Unnamed(index))?;
        self.out.record(records::UNNAMED, |r| {
            r.i32(tag).zeros(4);
        })?;
        if !new {
            return Ok(());
        }
        let (origin, seals, path) = match &inode.origin {
            Origin::Deleted { path } => (DELETED, 0, path.clone()),
            Origin::Memfd { name, seals } => (MEMFD, *seals, [MEMFD_PREFIX, name].concat()),
        };
        self.out.record(records::INODE, |r| {
            r.u32(origin).u32(inode.mode).u32(inode.uid).u32(inode.gid).u32(seals).zeros(4);
            r.u64(inode.size);
            for time in inode.times {
                r.u64(time.cast_unsigned());
            }
        })?;
        self.path(&path)?;
        self.page_arrays(PagesOf::Inode(index), &inode.pages, PAGE)
    }

    /// An end of a pipe, and where the pipe is new what is in it. A named pipe has a path.
    pub(super) fn pipe(
        &mut self,
        number: u32,
        file: &OpenFile,
        cred: i32,
        index: usize,
        path: Option<&[u8]>,
    ) -> Result<(), ImageError> {
        let pipe = entry(&self.body.objects.pipes, index, records::PIPE_BUF)?;
        let (inode, new) = self.tags.get(Thing::Pipe(index))?;
        if new {
            self.pipe_state(pipe)?;
        }
        self.file_record(number, file, cred, |r| {
            r.i32(inode).zeros(4);
        })?;
        if let Some(path) = path {
            self.path(path)?;
        }
        if new {
            self.out.record(records::PIPE_BUF, |r| {
                r.bytes(&pipe.data);
            })?;
        }
        Ok(())
    }

    fn pipe_state(&mut self, pipe: &Pipe) -> Result<(), ImageError> {
        if pipe.size != 0 || pipe.waiting {
            let flags = if pipe.waiting { PIPE_WAITING } else { 0 };
            self.out.record(records::PIPE_STATE, |r| {
                r.u32(pipe.size).u32(flags);
            })?;
        }
        if pipe.packets.is_empty() {
            return Ok(());
        }
        self.out.record(records::PIPE_PACKETS, |r| {
            for &length in &pipe.packets {
                r.u32(length);
            }
        })
    }
}
