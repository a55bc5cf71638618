//! The image on its way to a descriptor.
//!
//! Comes in: a layout, and a source of pages for each thread that writes. Goes out: the image, from
//! the descriptor's current position on. A large one that goes to a regular file is written by two
//! threads, so that one reads memory while the other writes; more would only wait for each other.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::interrupt;
use crate::error::{Error, ImageError, SysError};
use crate::image::{Layout, PageSource, Room};
use crate::sys::{signal, stream};

/// Images from this size on are worth a second thread.
const LARGE: u64 = 8 * Layout::PART;

/// Writes the image of `layout` to `output`. `source` gives each thread its own source of pages.
///
/// # Errors
/// Those of writing, and of the sources.
pub fn write<P: PageSource>(
    output: BorrowedFd<'_>,
    layout: &Layout,
    source: impl Fn() -> P + Sync,
) -> Result<(), Error> {
    let failed = |what| move |e| SysError::new(what, e);
    let mut file = File::from(output.try_clone_to_owned().map_err(failed("dup"))?);
    let regular = file.metadata().map_err(failed("stat of the image"))?.is_file();
    let appends = stream::appends(&file).map_err(failed("flags of the image"))?;
    if !regular || appends || layout.len() < LARGE {
        return front_to_end(&mut Patient(file), layout, &mut source());
    }
    let base = file.stream_position().map_err(failed("position in the image"))?;
    together(&file, base, layout, source)?;
    let end = SeekFrom::Start(base.saturating_add(layout.len()));
    file.seek(end).map_err(failed("position in the image"))?;
    Ok(())
}

fn front_to_end(
    out: &mut impl Write,
    layout: &Layout,
    pages: &mut dyn PageSource,
) -> Result<(), Error> {
    let (mut offset, mut room) = (0, Room::new());
    while offset < layout.len() {
        interrupt::check()?;
        let part = layout.part(offset, &mut room, pages)?;
        out.write_all(part).map_err(|source| ImageError::Write { offset, source })?;
        offset += part.len() as u64;
    }
    Ok(())
}

/// Both threads take one part after the other, until there is none left or one has failed.
fn together<P: PageSource>(
    file: &File,
    base: u64,
    layout: &Layout,
    source: impl Fn() -> P + Sync,
) -> Result<(), Error> {
    let next = AtomicU64::new(0);
    // They wait for each other at the kernel's lock of the file, which they do running: a lock that sleeps
    // would save a little work on a busy machine, and take half as long again on a quiet one.
    let work = || {
        let (mut room, mut pages) = (Room::new(), source());
        loop {
            let offset = next.fetch_add(Layout::PART, Ordering::Relaxed);
            if offset >= layout.len() {
                return Ok(());
            }
            let written = interrupt::check().map_err(Error::from);
            let written = written
                .and_then(|()| layout.part(offset, &mut room, &mut pages))
                .and_then(|part| {
                    file.write_all_at(part, base.saturating_add(offset))
                        .map_err(|source| ImageError::Write { offset, source }.into())
                });
            if written.is_err() {
                next.store(layout.len(), Ordering::Relaxed);
                return written;
            }
        }
    };
    thread::scope(|scope| {
        // The second thread is born with all signals blocked, and keeps them so: handlers of the
        // caller run in the caller's threads. Where there is no room for it, one does all.
        let blocked = signal::Blocked::all();
        let second = thread::Builder::new().name("usercr".into()).spawn_scoped(scope, work);
        drop(blocked);
        let first = work();
        let second = second.map_or(Ok(()), |thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        first.and(second)
    })
}

/// Waits where the descriptor does not block and there is no room.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    stream::wait_writable(&self.0)?;
                }
                // A reader that does not read may not keep the tree stopped for ever.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
            if interrupt::requested() {
                return Err(io::Error::other("interrupted"));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
