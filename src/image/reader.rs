//! The reader as others see it, and what every part of it needs.
#![forbid(unsafe_code)]

use super::cursor::{Cursor, Header, Source};
use super::records;
use super::{Body, ImageHead, body, head};
use crate::error::ImageError;

/// Most bytes of the text of a failed checkpoint.
const TEXT_MOST: u32 = 1024;

/// Reads an image: first the head, then the body.
#[derive(Debug)]
pub struct Reader<S> {
    cursor: Cursor<S>,
    head_end: u64,
}

impl<S: Source> Reader<S> {
    /// Reads from `source`, where the image begins at offset 0. Nothing is read yet.
    pub fn new(source: S) -> Self {
        Reader { cursor: Cursor::new(source), head_end: 0 }
    }

    /// Reads everything in front of the first task, and the header of the record behind it.
    pub fn head(&mut self) -> Result<ImageHead, ImageError> {
        self.cursor.seek(0);
        let head = head::read(&mut self.cursor)?;
        self.head_end = self.cursor.position();
        Ok(head)
    }

    /// Where the head ended and the first task begins, in bytes from the start of the image.
    pub fn head_end(&self) -> u64 {
        self.head_end
    }

    /// Reads everything behind the head, up to and with the last record and no byte more. `head` is
    /// what [`Reader::head`] returned. Page contents are located, not read.
    pub fn body(&mut self, head: &ImageHead) -> Result<Body, ImageError> {
        self.cursor.seek(self.head_end);
        body::read(&mut self.cursor, head)
    }

    /// How far has been read, in bytes from the start of the image: behind [`Reader::body`] its end.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &S {
        self.cursor.source()
    }

    /// Where the bytes come from.
    pub fn source_mut(&mut self) -> &mut S {
        self.cursor.source_mut()
    }
}

/// Reads what the writer of an ERROR record had to say: in the record itself, or in the STRING
/// behind it. The text begins with a NUL, so that it can be found from the end of the image.
pub(crate) fn failed<S: Source>(cursor: &mut Cursor<S>, header: &Header) -> ImageError {
    let mut bytes = match cursor.payload(header, "ERROR", TEXT_MOST) {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match cursor.peek_header("STRING") {
        Ok(Some(string)) if bytes.is_empty() && string.kind == records::STRING.number => {
            bytes = cursor.payload(&string, "STRING", TEXT_MOST).unwrap_or_default();
        }
        _ => {}
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches('\0').replace(|c: char| c.is_control(), " ");
    let text = if text.is_empty() { "no reason given".into() } else { text };
    ImageError::Failed { offset: header.offset, text }
}
