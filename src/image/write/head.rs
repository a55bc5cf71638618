//! The twelve records of the head, and our own behind them.
#![forbid(unsafe_code)]

use super::Layout;
use crate::error::ImageError;
use crate::image::{Header, ImageHead, records};

/// Bytes of the security module's name, NUL padded.
const LSM_NAME_LEN: usize = 11;

/// Writes the head.
pub(super) fn write(out: &mut Layout, head: &ImageHead) -> Result<(), ImageError> {
    header(out, &head.header)?;
    let [.., release, version, machine, _, _, _, _] = head.header.constants;
    string(out, &head.header.release, release.into())?;
    string(out, &head.header.version, version.into())?;
    string(out, &head.header.machine, machine.into())?;
    out.record(records::HEADER_ARCH, |r| {
        r.u16(head.arch.has_fxsr.into()).u16(head.arch.has_xsave.into());
        r.u16(head.arch.xstate_size).zeros(2);
    })?;
    out.record(records::CONTAINER, |_| ())?;
    string(out, &head.lsm_name, LSM_NAME_LEN)?;
    out.record(records::LSM_INFO, |r| {
        r.bytes(&head.lsm_info);
    })?;
    pids(out, head)?;
    tasks(out, head)?;
    extra(out, head)
}

fn header(out: &mut Layout, header: &Header) -> Result<(), ImageError> {
    out.record(records::HEADER, |r| {
        r.u64(records::MAGIC_HEAD).u16(header.arch_id);
        for part in header.kernel {
            r.u16(part);
        }
        r.u16(header.rev).zeros(6);
        for constant in header.constants {
            r.u16(constant);
        }
        r.u64(header.time).u64(header.uflags);
    })
}

/// A NUL-padded string; never empty.
fn string(out: &mut Layout, text: &[u8], len: usize) -> Result<(), ImageError> {
    out.record(records::BUFFER, |r| {
        r.padded(text, len.max(1));
    })
}

fn pids(out: &mut Layout, head: &ImageHead) -> Result<(), ImageError> {
    let table = &head.pids;
    let count = table.len();
    let inner = table.numbers.len().saturating_sub(count);
    let (Ok(count), Ok(inner)) = (u32::try_from(count), u32::try_from(inner)) else {
        return Err(ImageError::Unwritable {
            record: "PIDS",
            reason: format!("{count} pid objects, {inner} inner numbers"),
        });
    };
    out.record(records::PIDS, |r| {
        r.u32(count).u32(inner).i32(table.offset).zeros(4);
    })?;
    out.record(records::BUFFER, |r| {
        for numbers in (0..table.len()).filter_map(|index| table.object(index)) {
            r.u32((numbers.len() as u32).saturating_sub(1));
            for &number in numbers {
                r.i32(number);
            }
        }
    })
}

fn tasks(out: &mut Layout, head: &ImageHead) -> Result<(), ImageError> {
    out.record(records::TREE, |r| {
        r.u32(head.tasks.len() as u32).zeros(4);
    })?;
    // A table with more rows than 32 bits can count does not fit in this record.
    out.record(records::BUFFER, |r| {
        for task in &head.tasks {
            for tag in [task.pid, task.ppid, task.tgid, task.pgid, task.sid] {
                r.i32(tag);
            }
            r.u32(task.depth);
        }
    })
}

fn extra(out: &mut Layout, head: &ImageHead) -> Result<(), ImageError> {
    if head.extra.root_subreaper {
        out.record(records::SUBREAPER, |_| ())?;
    }
    if let Some(vdso) = head.extra.vdso {
        out.record(records::VDSO, |r| {
            r.u64(vdso.vdso_size).u64(vdso.vvar_size).u64(vdso.checksum);
        })?;
    }
    Ok(())
}
