//! Feeding an image to restart(2), through a pipe.
//!
//! The kernel reads the image as it was written, but for the pid numbers, where the tasks did not get
//! those of the image. Bytes behind the head are passed on unread.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, Write};

use crate::error::ImageError;
use crate::image::{Source, records, renumber::renumber};

/// Bytes at once.
const CHUNK: usize = 1 << 16;

/// Writes the whole stream to `to`: the head, `head_end` bytes of it, with new pids; then the rest.
///
/// # Errors
/// EPIPE where the reader has gone; those of reading the image.
pub fn feed(
    source: &mut impl Source,
    head_end: u64,
    new: &HashMap<i32, i32>,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut head = vec![0; usize::try_from(head_end).unwrap_or(0)];
    fill(source, 0, &mut head)?;
    renumber(&mut head, new);
    to.write_all(&head)?;
    let (mut buffer, mut at) = (vec![0; CHUNK], head_end);
    loop {
        let count = source.read_at(at, &mut buffer, 1)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        to.write_all(bytes)?;
        at += count as u64;
    }
}

/// Walks the records behind the head: an image whose writer has failed says so in one of them.
///
/// # Errors
/// The text of an error record; a record that is too short, or cut off.
pub fn inspect(source: &mut impl Source, head_end: u64) -> Result<(), ImageError> {
    let mut at = head_end;
    loop {
        let read = |source: &mut _, offset, buffer: &mut [u8]| {
            part(source, offset, buffer).map_err(|e| ImageError::Read { offset, source: e })
        };
        let mut header = [0; 8];
        match read(source, at, &mut header)? {
            0 => return Ok(()),
            8 => {}
            _ => return Err(bad(at, "the image ends inside the header of a record")),
        }
        let [a, b, c, d, e, f, g, h] = header;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if length < 8 {
            return Err(bad(at, "the length of a record is below 8"));
        }
        if kind == records::ERROR.number {
            return Err(failed(source, at, length));
        }
        let next = at + u64::from(length);
        // The last byte of the record must be there.
        if length > 8 && read(source, next - 1, &mut [0])? != 1 {
            return Err(bad(at, "the image ends inside a record"));
        }
        if kind == records::TAIL.number {
            return Ok(());
        }
        at = next;
    }
}

/// What an error record, or the string behind it, has to say.
fn failed(source: &mut impl Source, offset: u64, length: u32) -> ImageError {
    const TEXT_MOST: usize = 1024;
    let from = if length > 8 { offset + 8 } else { offset + 16 };
    let mut text = vec![0; TEXT_MOST];
    let count = part(source, from, &mut text).unwrap_or(0);
    text.truncate(if length > 8 { count.min(length as usize - 8) } else { count });
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_start_matches('\0').split('\0').next().unwrap_or_default();
    ImageError::Failed { offset, text: text.to_owned() }
}

fn bad(offset: u64, reason: &str) -> ImageError {
    ImageError::Bad { record: "record", offset, reason: reason.to_owned() }
}

fn fill(source: &mut impl Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    match part(source, offset, buffer)? {
        count if count == buffer.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads until the buffer is full or the stream ends: how many bytes.
fn part(source: &mut impl Source, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset + done as u64, rest, 1)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}
