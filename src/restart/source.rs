//! An image on a descriptor: file, pipe or socket.
//!
//! A regular file is read in place, from the descriptor's current position on, which does not move.
//! What cannot be read twice is copied to a file in memory as far as the reader asks, so that the
//! pages can be read again by the tasks, and so that nothing behind the image is taken away from
//! whoever reads the stream next.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};

use crate::error::{Error, SysError};
use crate::image::{PAGE, Reader, Source};
use crate::sys::{memory, stream};

/// Bytes that go from a pipe to the file in memory at once.
const CHUNK: usize = 1 << 20;

/// A reader of the image on `fd`, which is duplicated and stays the caller's. A regular file (or a
/// block device) is read from its current position; anything else from where it is.
pub fn open(fd: BorrowedFd<'_>) -> Result<Reader<ImageFd>, Error> {
    Ok(Reader::new(ImageFd::new(fd)?))
}

/// The bytes of an image on a descriptor.
#[derive(Debug)]
pub enum ImageFd {
    /// Can be read at any offset.
    File {
        /// A duplicate of the caller's descriptor.
        file: File,
        /// Where in the file the image begins.
        base: u64,
    },
    /// Can be read once.
    Stream(Box<Spool>),
}

/// A stream and the copy of it.
#[derive(Debug)]
pub struct Spool {
    from: File,
    copy: File,
    /// Bytes in `copy`.
    copied: u64,
    /// What was taken from the stream and is not yet in `copy`: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl ImageFd {
    fn new(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        let mut file = File::from(
            fd.try_clone_to_owned()
                .map_err(|e| SysError::new("duplicate the image's descriptor", e))?,
        );
        let kind = file.metadata().map_err(|e| SysError::new("stat of the image", e))?.file_type();
        if kind.is_file() || kind.is_block_device() {
            let base =
                file.stream_position().map_err(|e| SysError::new("position in the image", e))?;
            return Ok(ImageFd::File { file, base });
        }
        stream::widen_pipe(&file, CHUNK as i32);
        Ok(ImageFd::Stream(Box::new(Spool {
            from: file,
            copy: memory::memfd(c"usercr image", 0)?,
            copied: 0,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
        })))
    }

    /// A file that has all bytes of the image that were read or passed over so far, and the offset in
    /// it at which the image begins: the pages can be read from there, by anyone, at any time.
    pub fn pages_file(&mut self) -> io::Result<(BorrowedFd<'_>, u64)> {
        match self {
            ImageFd::File { file, base } => Ok((File::as_fd(file), *base)),
            ImageFd::Stream(spool) => {
                spool.flush()?;
                Ok((spool.copy.as_fd(), 0))
            }
        }
    }
}

impl Source for ImageFd {
    fn read_at(&mut self, offset: u64, buf: &mut [u8], least: usize) -> io::Result<usize> {
        match self {
            ImageFd::File { file, base } => {
                let Some(at) = base.checked_add(offset) else { return Ok(0) };
                again(|| file.read_at(buf, at))
            }
            ImageFd::Stream(spool) => spool.read_at(offset, buf, least),
        }
    }
}

impl Spool {
    fn read_at(&mut self, offset: u64, buf: &mut [u8], least: usize) -> io::Result<usize> {
        let least = least.min(buf.len());
        self.take_until(offset.saturating_add(least as u64))?;
        let Some(from) = offset.checked_sub(self.copied) else {
            return again(|| self.copy.read_at(buf, offset));
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let there = self.pending().get(from..).unwrap_or_default();
        let count = there.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    /// What was taken and is not yet in the copy.
    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes bytes from the stream until `end` bytes of it were taken, or it ends.
    fn take_until(&mut self, end: u64) -> io::Result<()> {
        loop {
            let missing = end.saturating_sub(self.copied + self.pending().len() as u64);
            if missing == 0 {
                return Ok(());
            }
            if self.end == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            let part = room.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            match self.from.read(room.get_mut(..part).unwrap_or_default()) {
                Ok(0) => return Ok(()),
                Ok(count) => self.end += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    stream::wait_readable(&self.from)?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Brings the copy up to date.
    fn flush(&mut self) -> io::Result<()> {
        self.copy.write_all_at(self.pending(), self.copied)?;
        self.copied += self.pending().len() as u64;
        // Bytes lie in the buffer as in the copy, counted from the start of a page: copying pages is
        // slow where two addresses differ by little.
        let here = self.buffer.as_ptr() as usize as u64;
        self.start = (self.copied.wrapping_sub(here) % PAGE) as usize;
        self.end = self.start;
        Ok(())
    }
}

/// Does a call again for as long as signals interrupt it.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
