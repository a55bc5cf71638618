//! What waits in a unix socket: looked at, and left there.

use super::Open;
use crate::dump::facts::Facts;
use crate::error::DumpError;
use crate::image::SocketKind;
use crate::sys::socket::{self, Peeked};
use crate::sys::{inspect, stream};

/// Room for a message, to begin with.
const ROOM: usize = 256 << 10;
/// No message is larger.
const MESSAGE_MOST: usize = 64 << 20;

/// A message, or of a stream a piece.
#[derive(Debug)]
pub(super) struct Arrived {
    pub data: Vec<u8>,
    /// The sender's sockaddr, empty for none.
    pub from: Vec<u8>,
    pub cred: Option<[u32; 3]>,
}

/// Puts SO_PEEK_OFF back.
struct Offset<'a> {
    open: &'a Open,
    before: i32,
}

impl<'a> Offset<'a> {
    /// Lets each look go on behind the one before.
    fn new(open: &'a Open, before: i32) -> Result<Offset<'a>, DumpError> {
        let offset = Offset { open, before };
        offset.rewind()?;
        Ok(offset)
    }

    fn rewind(&self) -> Result<(), DumpError> {
        let set = socket::set_peek_offset(&self.open.copy, 0);
        set.map_err(self.open.found.holder.failed("look into"))
    }
}

impl Drop for Offset<'_> {
    fn drop(&mut self) {
        // It could be set: so it can be set back.
        let _ = socket::set_peek_offset(&self.open.copy, self.before);
    }
}

/// All that waits in a socket. `offset` is its SO_PEEK_OFF, `ended` whether it receives nothing any more.
pub(super) fn read(
    all: &[Facts],
    open: &Open,
    offset: i32,
    ended: bool,
) -> Result<Vec<Arrived>, DumpError> {
    match open.kind {
        SocketKind::Stream => stream(all, open, offset),
        _ => messages(all, open, offset, ended),
    }
}

/// The next piece; `None`: nothing.
fn next(all: &[Facts], open: &Open, room: &mut [u8]) -> Result<Option<Peeked>, DumpError> {
    let holder = open.found.holder;
    let peeked = socket::peek(&open.copy, room).map_err(holder.failed("look into"))?;
    match peeked {
        Some(peeked) if !peeked.descriptors.is_empty() => {
            Err(holder.refuse(all, "descriptors are on their way in it (SCM_RIGHTS)"))
        }
        peeked => Ok(peeked),
    }
}

/// One look sees all, unless the receiver is told who sent what, and there are several.
fn stream(all: &[Facts], open: &Open, offset: i32) -> Result<Vec<Arrived>, DumpError> {
    let holder = open.found.holder;
    let total = stream::waiting(&open.copy).map_err(holder.failed("look into"))?;
    let (mut pieces, mut seen) = (Vec::new(), 0);
    // Never more is asked for than there is: behind it an error would be taken out of the socket.
    let mut guard = if offset >= 0 && total > 0 { Some(Offset::new(open, offset)?) } else { None };
    while seen < total {
        let mut data = vec![0; total - seen];
        let peeked = next(all, open, &mut data)?;
        let Some(Peeked { length, cred, .. }) = peeked.filter(|p| p.length > 0) else {
            return Err(holder.refuse(all, "out-of-band data waits in it"));
        };
        if guard.is_none() && length < data.len() {
            // What was just seen is seen again, then what is behind.
            guard = Some(Offset::new(open, offset)?);
            continue;
        }
        data.truncate(length);
        seen += data.len();
        match pieces.last_mut() {
            Some(Arrived { data: before, cred: same, .. }) if *same == cred => before.extend(data),
            _ => pieces.push(Arrived { data, from: Vec::new(), cred }),
        }
    }
    Ok(pieces)
}

/// Only the first message can be seen without SO_PEEK_OFF.
fn messages(
    all: &[Facts],
    open: &Open,
    offset: i32,
    ended: bool,
) -> Result<Vec<Arrived>, DumpError> {
    // Nothing at all: then nothing has to be set either. A look would mark an empty message as seen.
    let polled = inspect::poll_now(&open.copy, libc::POLLIN);
    if polled.map_err(open.found.holder.failed("poll"))? & libc::POLLIN == 0 {
        return Ok(Vec::new());
    }
    let mut room = vec![0; ROOM];
    let guard = Offset::new(open, offset)?;
    let mut found = Vec::new();
    while let Some(Peeked { length, from, cred, .. }) = next(all, open, &mut room)? {
        if length > room.len() {
            let holder = open.found.holder;
            if length > MESSAGE_MOST {
                return Err(holder.refuse(all, format!("a message of {length} bytes waits in it")));
            }
            room.resize(length, 0);
            found.clear();
            guard.rewind()?;
            continue;
        }
        if length == 0 && ended && from.is_empty() && open.kind == SocketKind::SeqPacket {
            // The end looks like a message of no bytes.
            break;
        }
        let data = room.get(..length).unwrap_or_default().to_vec();
        found.push(Arrived { data, from, cred });
    }
    Ok(found)
}
