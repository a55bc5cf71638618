//! Locks on files, and who gets signals about them.
#![forbid(unsafe_code)]

use super::Parser;
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source};
use crate::image::{FileLock, FileOwner, LockKind, Owner};

/// The kinds of locks and their numbers.
pub(in crate::image) const KINDS: [(LockKind, u32); 3] =
    [(LockKind::Whole, 1), (LockKind::Description, 2), (LockKind::Process, 3)];
/// One behind the last byte that a lock can be on.
const END: u64 = 1 << 63;

/// A FILE_LOCK, which must be of a process or of an open file.
pub(super) fn lock(record: &Fixed<32>, of_process: bool) -> Result<FileLock, ImageError> {
    let (kind, exclusive) = (record.u32::<8>(), record.u32::<12>());
    let (start, length) = (record.u64::<16>(), record.u64::<24>());
    let known = KINDS.iter().find(|(_, number)| *number == kind).map(|(kind, _)| *kind);
    let kind = match known {
        Some(kind) if (kind == LockKind::Process) == of_process => kind,
        _ => return Err(record.bad(format!("a lock of kind {kind} does not belong here"))),
    };
    let whole = kind == LockKind::Whole && (start, length) != (0, 0);
    if exclusive > 1 || whole || start >= END || length > END - start {
        let text = format!("{length} bytes from {start} of kind {kind:?}, exclusive {exclusive}");
        return Err(record.bad(text));
    }
    Ok(FileLock { kind, exclusive: exclusive == 1, start, length })
}

/// A FILE_OWNER.
pub(super) fn owner<S: Source>(
    parser: &Parser<'_, S>,
    record: &Fixed<24>,
) -> Result<FileOwner, ImageError> {
    let (kind, tag, signal) = (record.i32::<8>(), record.i32::<12>(), record.i32::<16>());
    if !(0..=64).contains(&signal) {
        return Err(record.bad(format!("signal {signal}")));
    }
    let who = match tag {
        0 => None,
        _ => Some(parser.rows.get(&tag).and_then(|&task| Owner::new(kind, task)).ok_or_else(
            || record.bad(format!("the owner is tag {tag} of kind {kind}, which is no task")),
        )?),
    };
    Ok(FileOwner { who, signal })
}
