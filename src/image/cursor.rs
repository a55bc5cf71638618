//! Bounded reading: the only way from the bytes of a stream to the values of a record.
//!
//! Comes in: a [`Source`]. Goes out: records whose length was checked before anything was allocated
//! for them. Nothing is read from the source behind the record that was asked for and the header of
//! the next one, unless the source itself offers more.
#![forbid(unsafe_code)]

use std::io;

use super::records::{self, HEADER_LEN};
use crate::error::ImageError;

/// Bytes that are held in memory at once.
const WINDOW: usize = 64 << 10;

/// Where the bytes of an image come from. The image begins at offset 0.
pub trait Source {
    /// Reads at `offset` into the front of `buf`: `least` bytes (1 or more, and no more than
    /// `buf.len()`), fewer only where the stream ends. More than `least` are welcome where they
    /// can be had without taking them away from another reader of the stream.
    fn read_at(&mut self, offset: u64, buf: &mut [u8], least: usize) -> io::Result<usize>;
}

impl Source for &[u8] {
    fn read_at(&mut self, offset: u64, buf: &mut [u8], _least: usize) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(from..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn read_at(&mut self, offset: u64, buf: &mut [u8], least: usize) -> io::Result<usize> {
        (**self).read_at(offset, buf, least)
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Offset of the record in the stream.
    pub offset: u64,
    /// Number of its type.
    pub kind: u32,
    /// Bytes, header included; at least 8.
    pub len: u32,
}

impl Header {
    /// Bytes behind the header.
    pub fn payload(&self) -> u32 {
        self.len.saturating_sub(HEADER_LEN)
    }

    /// The record has a value that cannot be.
    pub fn bad(&self, record: &'static str, reason: impl Into<String>) -> ImageError {
        ImageError::Bad { record, offset: self.offset, reason: reason.into() }
    }
}

/// A record of `N` bytes, its header included. Offsets are those of the format document, and
/// checked when the program is compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed<const N: usize> {
    name: &'static str,
    offset: u64,
    bytes: [u8; N],
}

impl<const N: usize> Fixed<N> {
    /// `M` bytes at offset `AT`.
    pub fn bytes<const AT: usize, const M: usize>(&self) -> [u8; M] {
        const { assert!(AT + M <= N) };
        let mut out = [0; M];
        out.copy_from_slice(&self.bytes[AT..AT + M]);
        out
    }

    /// A number of 16 bits.
    pub fn u16<const AT: usize>(&self) -> u16 {
        u16::from_le_bytes(self.bytes::<AT, 2>())
    }

    /// A number of 32 bits.
    pub fn u32<const AT: usize>(&self) -> u32 {
        u32::from_le_bytes(self.bytes::<AT, 4>())
    }

    /// A number of 32 bits with a sign.
    pub fn i32<const AT: usize>(&self) -> i32 {
        i32::from_le_bytes(self.bytes::<AT, 4>())
    }

    /// A number of 64 bits.
    pub fn u64<const AT: usize>(&self) -> u64 {
        u64::from_le_bytes(self.bytes::<AT, 8>())
    }

    /// The record has a value that cannot be.
    pub fn bad(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Bad { record: self.name, offset: self.offset, reason: reason.into() }
    }

    /// The record refers to an object of another type than belongs there.
    pub fn wrong_object(&self, tag: i32, found: &'static str, wanted: &'static str) -> ImageError {
        ImageError::WrongObject { record: self.name, offset: self.offset, tag, found, wanted }
    }

    /// The record asks for something that cannot be restored.
    pub fn unsupported(&self, what: impl Into<String>) -> ImageError {
        ImageError::Unsupported { record: self.name, offset: self.offset, what: what.into() }
    }
}

/// The bytes in groups of `N`; what is left over at the end is left out.
pub(crate) fn arrays<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = &[u8; N]> {
    bytes.chunks_exact(N).filter_map(|chunk| chunk.first_chunk())
}

/// A place in a stream.
#[derive(Debug)]
pub(crate) struct Cursor<S> {
    source: S,
    window: Vec<u8>,
    /// Offset in the stream of `window[0]`.
    start: u64,
    /// Bytes of the window that are filled.
    filled: usize,
    /// Offset of the next byte; never in front of `start`.
    pos: u64,
}

impl<S: Source> Cursor<S> {
    /// At the start of the image.
    pub fn new(source: S) -> Self {
        Cursor { source, window: Vec::new(), start: 0, filled: 0, pos: 0 }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> u64 {
        self.pos
    }

    /// Goes to `offset`.
    pub fn seek(&mut self, offset: u64) {
        if offset < self.start {
            self.start = offset;
            self.filled = 0;
        }
        self.pos = offset;
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Where the bytes come from.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// The next `want` bytes (at most a window), fewer only where the stream ends.
    fn peek(&mut self, want: usize) -> Result<&[u8], ImageError> {
        let want = want.min(WINDOW);
        let gone = usize::try_from(self.pos - self.start).unwrap_or(usize::MAX).min(self.filled);
        if self.filled - gone < want || self.pos - self.start != gone as u64 {
            self.refill(gone, want)?;
        }
        let from = (self.pos - self.start) as usize;
        let have = self.filled.min(from + want);
        Ok(self.window.get(from..have).unwrap_or_default())
    }

    /// Drops the first `gone` bytes and reads until `want` are there.
    fn refill(&mut self, gone: usize, want: usize) -> Result<(), ImageError> {
        if self.window.is_empty() {
            self.window = vec![0; WINDOW];
        }
        self.window.copy_within(gone..self.filled, 0);
        self.filled -= gone;
        self.start = self.pos;
        while self.filled < want {
            let offset = self.start + self.filled as u64;
            let rest = self.window.get_mut(self.filled..).unwrap_or_default();
            let most = rest.len();
            match self.source.read_at(offset, rest, want - self.filled) {
                Ok(0) => break,
                Ok(count) => self.filled += count.min(most),
                Err(source) => return Err(ImageError::Read { offset, source }),
            }
        }
        Ok(())
    }

    /// The header of the next record, `None` at the end of the stream. The cursor does not move.
    pub fn peek_header(&mut self, expected: &'static str) -> Result<Option<Header>, ImageError> {
        let offset = self.pos;
        let bytes = self.peek(HEADER_LEN as usize)?;
        let Some((kind, rest)) = bytes.split_first_chunk::<4>() else {
            return match bytes.is_empty() {
                true => Ok(None),
                false => Err(ImageError::EndsInside { record: expected, offset }),
            };
        };
        let Some(len) = rest.first_chunk::<4>() else {
            return Err(ImageError::EndsInside { record: expected, offset });
        };
        let header =
            Header { offset, kind: u32::from_le_bytes(*kind), len: u32::from_le_bytes(*len) };
        if header.len < HEADER_LEN {
            return Err(header.bad(expected, format!("length {}, must be 8 or more", header.len)));
        }
        Ok(Some(header))
    }

    /// The header of the next record. The cursor stays in front of it.
    pub fn header(&mut self, expected: &'static str) -> Result<Header, ImageError> {
        let offset = self.pos;
        self.peek_header(expected)?.ok_or(ImageError::EndsBefore { record: expected, offset })
    }

    /// How many bytes to ask for, to have this record and the next one's header at once.
    fn with_next_header(header: &Header) -> usize {
        let more = if header.kind == records::TAIL.number { 0 } else { HEADER_LEN };
        header.len as usize + more as usize
    }

    /// Reads the record of this header, which must have exactly `N` bytes.
    pub fn fixed<const N: usize>(
        &mut self,
        header: &Header,
        name: &'static str,
    ) -> Result<Fixed<N>, ImageError> {
        const { assert!(N <= WINDOW) };
        if header.len as usize != N {
            return Err(header.bad(name, format!("length {}, must be {N}", header.len)));
        }
        let found = self.peek(Self::with_next_header(header))?;
        let Some(bytes) = found.first_chunk::<N>() else {
            return Err(ImageError::EndsInside { record: name, offset: header.offset });
        };
        let record = Fixed { name, offset: header.offset, bytes: *bytes };
        self.pos += N as u64;
        Ok(record)
    }

    /// Reads the record of this header, at most `N` bytes; the rest is zero.
    pub fn at_most<const N: usize>(
        &mut self,
        header: &Header,
        name: &'static str,
    ) -> Result<Fixed<N>, ImageError> {
        let payload = self.payload(header, name, N.saturating_sub(8) as u32)?;
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().skip(8).zip(payload) {
            *to = from;
        }
        Ok(Fixed { name, offset: header.offset, bytes })
    }

    /// Reads the payload of the record of this header, at most `limit` bytes.
    pub fn payload(
        &mut self,
        header: &Header,
        name: &'static str,
        limit: u32,
    ) -> Result<Vec<u8>, ImageError> {
        if header.payload() > limit {
            let most = u64::from(limit) + u64::from(HEADER_LEN);
            return Err(header.bad(name, format!("length {}, at most {most}", header.len)));
        }
        self.peek(Self::with_next_header(header))?;
        self.enter(header);
        let mut out = Vec::new();
        self.read(header.payload() as usize, header, name, |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    /// Goes to the payload of the record of this header.
    pub fn enter(&mut self, header: &Header) {
        self.pos = header.offset.saturating_add(u64::from(HEADER_LEN));
    }

    /// Reads `count` bytes of the record of this header, a part at a time: each part but the last is
    /// a multiple of 8 bytes long.
    pub fn read(
        &mut self,
        count: usize,
        header: &Header,
        name: &'static str,
        mut take: impl FnMut(&[u8]) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut left = count;
        while left > 0 {
            let part = left.min(WINDOW / 2);
            let bytes = self.peek(part)?;
            if bytes.len() < part {
                return Err(ImageError::EndsInside { record: name, offset: header.offset });
            }
            take(bytes)?;
            self.pos += part as u64;
            left -= part;
        }
        Ok(())
    }

    /// Passes over the record of this header.
    pub fn skip_payload(&mut self, header: &Header, name: &'static str) -> Result<(), ImageError> {
        self.skip(u64::from(header.len), header, name)
    }

    /// Passes over `count` bytes, which must be there.
    pub fn skip(
        &mut self,
        count: u64,
        header: &Header,
        name: &'static str,
    ) -> Result<(), ImageError> {
        let ends = ImageError::EndsInside { record: name, offset: header.offset };
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let Some(last) = self.pos.checked_add(last) else { return Err(ends) };
        self.pos = last;
        if self.peek(1)?.is_empty() {
            return Err(ends);
        }
        self.pos += 1;
        Ok(())
    }
}
