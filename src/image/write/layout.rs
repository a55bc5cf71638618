//! Where everything lies in an image that is to be written: its records, and between them pages, whose
//! contents are asked for only when their turn comes. Any part of the image can be made by itself, so
//! several threads can write one.
#![forbid(unsafe_code)]

use super::{PageSource, PagesOf};
use crate::error::{Error, ImageError};
use crate::image::records::Kind;
use crate::image::{Body, ImageHead, PAGE};

/// An image, but for the contents of its pages.
#[derive(Debug, Default)]
pub struct Layout {
    /// Everything that is no page.
    bytes: Vec<u8>,
    /// Ascending by offset, without gaps.
    segments: Vec<Segment>,
    len: u64,
}

/// A part of the image; it ends where the next one begins.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Offset in the stream.
    offset: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// Bytes of the layout, from this index on.
    Bytes(usize),
    /// Pages from this address on.
    Pages(PagesOf, u64),
}

impl Layout {
    /// Bytes that are best made, and written, at once.
    pub const PART: u64 = 1 << 20;

    /// The layout of this image. Objects that no task refers to are left out.
    ///
    /// # Errors
    /// Where `body` cannot be put in records: an index out of range, a path of more than 4095 bytes, ...
    pub fn new(head: &ImageHead, body: &Body) -> Result<Layout, ImageError> {
        super::layout(head, body)
    }

    /// Bytes of the image.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Makes the part of the image from `offset` on, up to the next multiple of [`Layout::PART`] or
    /// the end of the image. `room` is used for them, and can be used again.
    ///
    /// # Errors
    /// Those of `pages`.
    pub fn part<'r>(
        &self,
        offset: u64,
        room: &'r mut Room,
        pages: &mut dyn PageSource,
    ) -> Result<&'r [u8], Error> {
        let count = self.len.saturating_sub(offset).min(Self::PART - offset % Self::PART);
        let buffer = room.place(offset, count as usize);
        let first = self.segments.partition_point(|segment| segment.offset <= offset);
        let mut index = first.saturating_sub(1);
        let (mut at, mut rest) = (offset, &mut *buffer);
        while let (Some(segment), false) = (self.segments.get(index), rest.is_empty()) {
            let end = self.segments.get(index + 1).map_or(self.len, |next| next.offset);
            let count = end.saturating_sub(at).min(rest.len() as u64);
            let (piece, behind) = rest.split_at_mut(count as usize);
            self.fill(segment, at - segment.offset, piece, pages)?;
            (at, rest) = (at + count, behind);
            index += 1;
        }
        Ok(buffer)
    }

    /// Makes the part of a segment that is `skip` bytes behind its start.
    fn fill(
        &self,
        segment: &Segment,
        skip: u64,
        piece: &mut [u8],
        pages: &mut dyn PageSource,
    ) -> Result<(), Error> {
        match segment.what {
            What::Bytes(from) => {
                let from = from + skip as usize;
                if let Some(bytes) = self.bytes.get(from..from + piece.len()) {
                    piece.copy_from_slice(bytes);
                }
                Ok(())
            }
            What::Pages(of, address) => pages.read(of, address.wrapping_add(skip), piece),
        }
    }

    /// Appends a record: `fill` appends its payload.
    pub(super) fn record(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), ImageError> {
        let start = self.bytes.len();
        let mut payload = Payload(&mut self.bytes);
        payload.u32(kind.number).u32(0);
        fill(&mut payload);
        let len = self.bytes.len() - start;
        let Ok(len) = u32::try_from(len) else {
            return Err(super::unwritable(kind, format!("{len} bytes do not fit in one record")));
        };
        if let Some(place) = self.bytes.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        self.added(What::Bytes(start), len.into());
        Ok(())
    }

    /// Appends the front of a record, whose last `more` bytes are pages that are appended next.
    pub(super) fn record_with_pages(
        &mut self,
        kind: Kind,
        more: u64,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), ImageError> {
        let start = self.bytes.len();
        self.record(kind, fill)?;
        let len = (self.bytes.len() - start) as u64 + more;
        let Ok(len) = u32::try_from(len) else {
            return Err(super::unwritable(kind, format!("{len} bytes do not fit in one record")));
        };
        if let Some(place) = self.bytes.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        Ok(())
    }

    /// Appends `count` pages from `address` on.
    pub(super) fn pages(&mut self, of: PagesOf, address: u64, count: u64) {
        self.added(What::Pages(of, address), count * PAGE);
    }

    /// A segment of `len` bytes was appended; bytes behind bytes are one segment.
    fn added(&mut self, what: What, len: u64) {
        let joins = match (self.segments.last(), what) {
            (Some(Segment { what: What::Bytes(_), .. }), What::Bytes(_)) => true,
            _ => len == 0,
        };
        if !joins {
            self.segments.push(Segment { offset: self.len, what });
        }
        self.len += len;
    }

    /// The bytes of an image without pages.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Memory for a part of an image.
#[derive(Debug, Default)]
pub struct Room(Vec<u8>);

impl Room {
    /// Nothing is allocated yet.
    pub fn new() -> Room {
        Room::default()
    }

    /// `count` bytes for the part of the image at `offset`.
    ///
    /// They lie in memory as in the file, counted from the start of a page. Copying a page to the
    /// page cache is slow where the two addresses differ by little (measured: 0.70 s for 1 GiB at a
    /// distance of 8 bytes, 0.40 s at none).
    fn place(&mut self, offset: u64, count: usize) -> &mut [u8] {
        if self.0.len() < count + PAGE as usize {
            self.0 = vec![0; count + PAGE as usize];
        }
        let here = self.0.as_ptr() as usize as u64;
        let start = (offset.wrapping_sub(here) % PAGE) as usize;
        self.0.get_mut(start..start + count).unwrap_or_default()
    }
}

/// The payload of a record that is being made.
pub(super) struct Payload<'b>(&'b mut Vec<u8>);

impl Payload<'_> {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// Appends bytes and as many zero bytes as make it `len`.
    pub fn padded(&mut self, bytes: &[u8], len: usize) -> &mut Self {
        self.bytes(bytes).zeros(len.saturating_sub(bytes.len()))
    }

    /// Appends a number of 16 bits.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number of 32 bits.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number of 32 bits with a sign.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number of 64 bits.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
}
