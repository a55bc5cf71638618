//! Writes images.
#![forbid(unsafe_code)]

use std::io::Write;

mod head;
mod out;

use out::Out;

use super::ImageHead;
use crate::error::{Error, ImageError};

/// Whose pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagesOf {
    /// An address space: index in `Objects::mms`; addresses are those of the tasks.
    Mm(usize),
    /// Shared anonymous memory: index in `Objects::shms`; addresses are offsets in it.
    Shm(usize),
}

/// Gives the writer the contents of pages.
pub trait PageSource {
    /// Fills `buf`, whose length is a multiple of the page size, with the pages from `address` on.
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error>;
}

/// Writes the head alone, with the records of ours that belong to it: what an engine needs that
/// hands the image on with other pids.
pub fn write_head(out: &mut impl Write, head: &ImageHead) -> Result<(), ImageError> {
    let mut out = Out::new(out);
    head::write(&mut out, head)?;
    out.flush()
}
