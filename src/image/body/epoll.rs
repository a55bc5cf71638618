//! What epoll files wait for.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::{ObjectKind, Parser};
use crate::error::ImageError;
use crate::image::cursor::{Header, Source, arrays};
use crate::image::{EpollItem, FileKind, records};

/// Bytes of an item: data, descriptor, tag of the FILE, events, padding.
const ITEM: u32 = 24;
/// Most items of an epoll file.
const ITEMS_MOST: u32 = 1 << 20;

/// An EPOLL_ITEMS and the BUFFER behind it.
pub(super) fn items<S: Source>(
    parser: &mut Parser<'_, S>,
    header: &Header,
) -> Result<(), ImageError> {
    let record = parser.cursor.fixed::<16>(header, records::EPOLL_ITEMS.name)?;
    let epoll = parser.index(&record, record.i32::<8>(), ObjectKind::File)?;
    let count = record.u32::<12>();
    if count == 0 || count > ITEMS_MOST {
        return Err(record.bad(format!("{count} items, must be 1 to {ITEMS_MOST}")));
    }
    let name = records::BUFFER.name;
    let header = parser.cursor.header(name)?;
    parser.must_be(&header, records::BUFFER)?;
    let bytes = parser.cursor.payload(&header, name, count * ITEM)?;
    if bytes.len() != (count * ITEM) as usize {
        let reason = format!("{} bytes for {count} items of {ITEM}", bytes.len());
        return Err(header.bad(name, reason));
    }
    let mut items = Vec::with_capacity(count as usize);
    let mut known = HashSet::new();
    for item in arrays::<24>(&bytes) {
        let word = |at: usize| item.get(at..)?.first_chunk::<4>().copied().map(u32::from_le_bytes);
        let [low, high, fd, tag, events] = [0, 4, 8, 12, 16].map(|at| word(at).unwrap_or_default());
        let item = EpollItem {
            fd: fd.cast_signed(),
            file: parser.index(&record, tag.cast_signed(), ObjectKind::File)?,
            events,
            data: u64::from(high) << 32 | u64::from(low),
        };
        if !(0..=super::files::DESCRIPTOR_MOST).contains(&item.fd) {
            return Err(record.bad(format!("an item with descriptor {}", item.fd)));
        }
        if !known.insert((item.fd, item.file)) {
            return Err(record.bad(format!("descriptor {} twice, with the same file", item.fd)));
        }
        items.push(item);
    }
    match parser.out.files.get_mut(epoll).map(|file| &mut file.kind) {
        Some(FileKind::Epoll { items: known }) if known.is_empty() => *known = items,
        Some(FileKind::Epoll { .. }) => return Err(record.bad("comes twice for this file")),
        _ => return Err(record.bad("the file is no epoll file")),
    }
    Ok(())
}
