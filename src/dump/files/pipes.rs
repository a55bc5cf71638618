//! Pipes: who holds their ends, and what is in them.

use std::os::unix::fs::MetadataExt;

use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::{FileKind, Pipe};
use crate::sys::inspect;

/// The image format has room for this much.
const PIPE_MAX: usize = 64 * 1024;

/// The first descriptor in the tree of each end of a pipe.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    reader: Option<Holder>,
    writer: Option<Holder>,
}

impl Files {
    /// What an open file is that is an end of a pipe.
    pub(super) fn pipe(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        flags: u32,
    ) -> Result<FileKind, &'static str> {
        if flags & libc::O_DIRECT as u32 != 0 {
            return Err("pipes in packet mode (O_DIRECT) cannot be saved");
        }
        let pipe = *self.pipe_index.entry(seen.meta.ino()).or_insert_with(|| {
            self.ends.push(Ends::default());
            self.ends.len() - 1
        });
        let Some(ends) = self.ends.get_mut(pipe) else { return Err("it cannot be found again") };
        let holder = Some(Holder::new(facts, seen));
        match flags & libc::O_ACCMODE as u32 {
            0 => ends.reader = ends.reader.or(holder),
            1 => ends.writer = ends.writer.or(holder),
            _ => return Err("a pipe opened for reading and writing cannot be saved"),
        }
        Ok(FileKind::Pipe { pipe })
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
    let (end, hung_up) = match (ends.reader, ends.writer) {
        (Some(reader), Some(_)) => (reader, 0),
        (Some(reader), None) => (reader, libc::POLLHUP),
        (None, Some(writer)) => (writer, libc::POLLERR),
        (None, None) => return Ok(Pipe::default()),
    };
    let failed = |what: &str| end.failed(what);
    let copy = end.copy()?;
    let polled = inspect::poll_now(&copy, 0).map_err(failed("poll"))?;
    if polled & hung_up != hung_up {
        let other = if ends.reader.is_some() { "write" } else { "read" };
        let reason = format!("the {other} end of the pipe is held by a process outside the tree");
        return Err(end.refuse(all, reason));
    }
    if ends.reader.is_none() {
        // Nobody can ever read what is in it.
        return Ok(Pipe::default());
    }
    let data = inspect::pipe_contents(&copy).map_err(failed("read the pipe at"))?;
    if data.len() > PIPE_MAX {
        let reason = format!("the pipe holds {} bytes, more than {PIPE_MAX}", data.len());
        return Err(end.refuse(all, reason));
    }
    Ok(Pipe { data })
}
