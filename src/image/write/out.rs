//! A stream of records that is being written.
#![forbid(unsafe_code)]

use std::io::Write;

use crate::error::ImageError;
use crate::image::records::{HEADER_LEN, Kind};

/// Bytes that are collected before they are written.
const CHUNK: usize = 1 << 20;

/// Where records go.
pub(super) struct Out<'w> {
    to: &'w mut dyn Write,
    buffer: Vec<u8>,
    written: u64,
}

impl<'w> Out<'w> {
    /// Writes to `to`, in few large pieces.
    pub fn new(to: &'w mut dyn Write) -> Self {
        Out { to, buffer: Vec::new(), written: 0 }
    }

    /// Appends a record: `fill` appends its payload.
    pub fn record(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), ImageError> {
        let start = self.buffer.len();
        let mut payload = Payload(&mut self.buffer);
        payload.u32(kind.number).u32(0);
        fill(&mut payload);
        let len = self.buffer.len() - start;
        let Ok(len) = u32::try_from(len) else {
            self.buffer.truncate(start);
            return Err(ImageError::Unwritable {
                record: kind.name,
                reason: format!("{len} bytes do not fit in one record"),
            });
        };
        if let Some(place) = self.buffer.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        self.flush_if_full()
    }

    /// Appends the header of a record whose `payload` bytes the caller appends with [`Out::fill`].
    pub fn header(&mut self, kind: Kind, payload: u32) -> Result<(), ImageError> {
        Payload(&mut self.buffer).u32(kind.number).u32(payload.saturating_add(HEADER_LEN));
        self.flush_if_full()
    }

    /// Appends `count` bytes (best as many as [`Out::piece`] says) that `fill` writes in place.
    pub fn fill<E: From<ImageError>>(
        &mut self,
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.buffer.len();
        self.buffer.resize(start + count, 0);
        fill(self.buffer.get_mut(start..).unwrap_or_default())?;
        Ok(self.flush_if_full()?)
    }

    /// How many bytes, in whole pieces of `unit`, are best appended next; at least one piece.
    pub fn piece(&self, unit: usize) -> usize {
        (CHUNK.saturating_sub(self.buffer.len()) / unit).max(1) * unit
    }

    fn flush_if_full(&mut self) -> Result<(), ImageError> {
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Writes what was collected.
    pub fn flush(&mut self) -> Result<(), ImageError> {
        let offset = self.written;
        self.to.write_all(&self.buffer).map_err(|source| ImageError::Write { offset, source })?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
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
