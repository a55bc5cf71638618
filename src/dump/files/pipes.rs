//! Pipes, with and without a name: who holds their ends, and what is in them.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::{FileKind, Pipe};
use crate::sys::{inspect, stream};

/// The image has room for this much; a user without rights cannot make larger pipes.
const PIPE_MAX: usize = 1 << 20;
/// Bytes that fit into a new pipe.
const NEW_SIZE: u32 = 65536;

/// The first descriptor in the tree of each end of a pipe.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    reader: Option<Holder>,
    writer: Option<Holder>,
    /// Whether it has a name.
    named: bool,
    /// Whether a write end makes packets.
    packets: bool,
}

impl Files {
    /// What an open file is that is an end of a pipe.
    pub(super) fn pipe(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        flags: u32,
    ) -> Result<FileKind, String> {
        let named = !seen.link.starts_with(b"pipe:");
        let path = match named.then(|| self.named(seen)).transpose()? {
            Some(FileKind::Named { path }) => Some(path),
            _ => None,
        };
        let pipe =
            *self.pipe_index.entry((seen.meta.dev(), seen.meta.ino())).or_insert_with(|| {
                self.ends.push(Ends { named, ..Ends::default() });
                self.ends.len() - 1
            });
        let Some(ends) = self.ends.get_mut(pipe) else {
            return Err("it cannot be found again".to_owned());
        };
        let holder = Some(Holder::new(facts, seen));
        let access = flags & libc::O_ACCMODE as u32;
        if access != libc::O_WRONLY as u32 {
            ends.reader = ends.reader.or(holder);
        }
        if access != libc::O_RDONLY as u32 {
            ends.writer = ends.writer.or(holder);
            ends.packets |= flags & libc::O_DIRECT as u32 != 0;
        }
        Ok(match path {
            Some(path) => FileKind::Fifo { pipe, path },
            None => FileKind::Pipe { pipe },
        })
    }

    /// Reads the pipes, and refuses those with an end elsewhere.
    pub(super) fn read_pipes(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        for ends in &self.ends {
            self.pipes.push(read_pipe(all, *ends)?);
        }
        Ok(())
    }
}

/// What is in a pipe, both ends of which must be inside the tree, or the other one closed.
fn read_pipe(all: &[Facts], ends: Ends) -> Result<Pipe, DumpError> {
    let Some(end) = ends.reader.or(ends.writer) else { return Ok(Pipe::default()) };
    let failed = |what: &str| end.failed(what);
    let copy = end.copy()?;
    let size = inspect::pipe_size(&copy).map_err(failed("size of the pipe at"))?;
    let mut pipe = Pipe { size: if size == NEW_SIZE { 0 } else { size }, ..Pipe::default() };
    match (ends.reader, ends.writer) {
        (Some(_), Some(_)) => {}
        (None, _) => {
            if inspect::poll_now(&copy, 0).map_err(failed("poll"))? & libc::POLLERR == 0 {
                return Err(held_outside(all, end, "read"));
            }
            // Nobody can ever read what is in a pipe without a name.
            let filled = stream::waiting(&copy).map_err(failed("look into the pipe at"))?;
            if ends.named && filled > 0 {
                return Err(end.refuse(all, format!("it holds {filled} bytes and has no reader")));
            }
            return Ok(pipe);
        }
        (Some(_), None) => pipe.waiting = lonely_reader(all, end, &copy, ends.named)?,
    }
    let (data, reads) = inspect::pipe_contents(&copy).map_err(failed("read the pipe at"))?;
    if data.len() > PIPE_MAX {
        let reason = format!("the pipe holds {} bytes, more than {PIPE_MAX}", data.len());
        return Err(end.refuse(all, reason));
    }
    // A read stops behind a packet.
    if reads.len() > 1 || ends.packets {
        if reads.iter().any(|&read| read > 4096) {
            return Err(end.refuse(all, "the pipe holds packets and other bytes too"));
        }
        pipe.packets = reads;
    }
    pipe.data = data;
    Ok(pipe)
}

/// A pipe without a writer in the tree must have none at all. Whether its readers still wait for their
/// first one: then poll(2) does not tell them that all are gone.
fn lonely_reader(
    all: &[Facts],
    end: Holder,
    copy: &OwnedFd,
    named: bool,
) -> Result<bool, DumpError> {
    if inspect::poll_now(copy, 0).map_err(end.failed("poll"))? & libc::POLLHUP != 0 {
        return Ok(false);
    }
    if named && !inspect::waits_for_writer(copy).map_err(end.failed("look into the pipe at"))? {
        return Ok(true);
    }
    Err(held_outside(all, end, "write"))
}

fn held_outside(all: &[Facts], end: Holder, other: &str) -> DumpError {
    end.refuse(all, format!("the {other} end of the pipe is held by a process outside the tree"))
}
