//! Our own records about files that are there: those without a name, what paths led to, pipes.
#![forbid(unsafe_code)]

use super::{ObjectKind, Parser, add, files, memory};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Header, Source, arrays};
use crate::image::{Inode, Origin, PAGE, Pipe, Was, records};

/// Bits of the flags of a PIPE_STATE record.
pub(in crate::image) const PIPE_WAITING: u32 = 1;
/// The origins of an INODE.
pub(in crate::image) const DELETED: u32 = 1;
pub(in crate::image) const MEMFD: u32 = 2;
/// In front of the name of a memfd.
pub(in crate::image) const MEMFD_PREFIX: &[u8] = b"/memfd:";

/// Largest pipe that the kernel makes.
const PIPE_SIZE_MOST: u32 = 1 << 31;
/// Most packets: a pipe of 1 MiB has 256 pages, each in a packet of at least one byte.
const PACKETS_MOST: u32 = 4 * 65536;

/// A PIPE_STATE: a pipe with size and flags, but without contents.
pub(super) fn pipe_state(record: &Fixed<16>) -> Result<Pipe, ImageError> {
    let (size, flags) = (record.u32::<8>(), record.u32::<12>());
    if flags & !PIPE_WAITING != 0 || size > PIPE_SIZE_MOST {
        return Err(record.bad(format!("size {size} and flags {flags:#x} of a pipe")));
    }
    Ok(Pipe { size, waiting: flags & PIPE_WAITING != 0, ..Pipe::default() })
}

/// Bytes of each packet in a pipe.
pub(super) fn packets<S: Source>(
    parser: &mut Parser<'_, S>,
    header: &Header,
) -> Result<Vec<u32>, ImageError> {
    let name = records::PIPE_PACKETS.name;
    let bytes = parser.cursor.payload(header, name, PACKETS_MOST)?;
    let packets = arrays::<4>(&bytes).map(|&length| u32::from_le_bytes(length));
    let packets: Vec<u32> = packets.collect();
    let bad = packets.iter().any(|&length| length == 0 || u64::from(length) > PAGE);
    if bytes.is_empty() || bytes.len() % 4 != 0 || bad {
        return Err(header.bad(name, "packets have 1 to 4096 bytes"));
    }
    Ok(packets)
}

/// What the path of a file led to.
pub(super) fn was(record: &Fixed<40>) -> Result<Was, ImageError> {
    let was = Was {
        mode: record.u32::<8>(),
        rdev: record.u64::<16>(),
        size: record.u64::<24>(),
        mtime: record.u64::<32>().cast_signed(),
    };
    if was.size > i64::MAX as u64 {
        return Err(record.bad(format!("a file of {} bytes", was.size)));
    }
    Ok(was)
}

/// The file without a name that is open here; its contents come with the first who has it open.
pub(super) fn unnamed<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<16>,
) -> Result<usize, ImageError> {
    let tag = record.i32::<8>();
    if tag <= 0 {
        return Err(record.bad(format!("tag {tag} of the inode, must be positive")));
    }
    if parser.find(tag).is_some() {
        return parser.index(record, tag, ObjectKind::Unnamed);
    }
    let inode = inode(parser)?;
    let inode = add(&mut parser.out.inodes, ObjectKind::Unnamed, inode);
    parser.define(record, tag, inode)?;
    Ok(inode.1)
}

fn inode<S: Source>(parser: &mut Parser<'_, S>) -> Result<Inode, ImageError> {
    let record = parser.fixed::<56>(records::INODE)?;
    let (origin, mode, size) = (record.u32::<8>(), record.u32::<12>(), record.u64::<32>());
    let seals = record.u32::<24>();
    if mode > 0o7777 {
        return Err(record.bad(format!("mode {mode:#o}, at most 0o7777")));
    }
    if size > i64::MAX as u64 {
        return Err(record.bad(format!("a file of {size} bytes")));
    }
    let path = files::path(parser)?;
    let origin = match (origin, path.strip_prefix(MEMFD_PREFIX)) {
        (DELETED, _) if seals == 0 => Origin::Deleted { path },
        (MEMFD, Some(name)) => Origin::Memfd { name: name.to_vec(), seals },
        _ => return Err(record.bad(format!("origin {origin} with seals {seals:#x}"))),
    };
    Ok(Inode {
        origin,
        mode,
        uid: record.u32::<16>(),
        gid: record.u32::<20>(),
        size,
        times: [record.u64::<40>(), record.u64::<48>()].map(u64::cast_signed),
        pages: memory::pages(parser, 0, size, PAGE)?,
    })
}
