//! Records of our own, for state that version 6 has none for. They are numbered from 10001; every
//! reader that does not know one passes over it by its length, and so does this one.
#![forbid(unsafe_code)]

use super::cursor::{Cursor, Source};
use super::records::{self, FIRST_EXTRA};
use super::{HeadExtra, Rseq, Vdso};
use crate::error::ImageError;

/// Reads our records behind the task table. The cursor is then in front of the first task.
pub(crate) fn read_head<S: Source>(cursor: &mut Cursor<S>) -> Result<HeadExtra, ImageError> {
    let mut extra = HeadExtra::default();
    loop {
        let header = match cursor.peek_header("TASK") {
            Ok(Some(header)) if header.kind >= FIRST_EXTRA => header,
            Err(error @ ImageError::Read { .. }) => return Err(error),
            // Whatever else is there, or is missing, or is broken: it is no fault of the head.
            _ => break,
        };
        let name = records::name(header.kind);
        let twice = match header.kind {
            _ if header.kind == records::SUBREAPER.number => {
                cursor.fixed::<8>(&header, name)?;
                std::mem::replace(&mut extra.root_subreaper, true)
            }
            _ if header.kind == records::VDSO.number => {
                let record = cursor.fixed::<32>(&header, name)?;
                let vdso = Vdso {
                    vdso_size: record.u64::<8>(),
                    vvar_size: record.u64::<16>(),
                    checksum: record.u64::<24>(),
                };
                extra.vdso.replace(vdso).is_some()
            }
            _ if records::kind(header.kind).is_some() => {
                return Err(header.bad(name, "does not belong in the head"));
            }
            _ => {
                cursor.skip_payload(&header, name)?;
                false
            }
        };
        if twice {
            return Err(header.bad(name, "comes twice"));
        }
    }
    Ok(extra)
}

/// What our own records behind a task say.
#[derive(Debug, Default)]
pub(crate) struct TaskExtra {
    /// Restartable sequences.
    pub rseq: Option<Rseq>,
}

/// Reads our records behind the SIGNAL_TASK of a task. The cursor is then in front of the next one.
pub(crate) fn read_task<S: Source>(cursor: &mut Cursor<S>) -> Result<TaskExtra, ImageError> {
    let mut extra = TaskExtra::default();
    while let Some(header) = cursor.peek_header("TASK")? {
        if header.kind < FIRST_EXTRA {
            break;
        }
        let name = records::name(header.kind);
        if header.kind == records::RSEQ.number {
            let record = cursor.fixed::<24>(&header, name)?;
            let rseq = Rseq {
                address: record.u64::<8>(),
                length: record.u32::<16>(),
                signature: record.u32::<20>(),
            };
            if extra.rseq.replace(rseq).is_some() {
                return Err(record.bad("comes twice"));
            }
        } else if records::kind(header.kind).is_some() {
            return Err(header.bad(name, "does not belong behind a task"));
        } else {
            cursor.skip_payload(&header, name)?;
        }
    }
    Ok(extra)
}
