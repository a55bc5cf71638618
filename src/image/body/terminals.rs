//! Pseudo terminals.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source};
use crate::image::{Outside, Pty, Waiting, records};

/// Kernel numbers of the driver and its two ends (linux/tty_driver.h).
pub(crate) const DRIVER_PTY: u16 = 4;
pub(crate) const MASTER: u16 = 1;
pub(crate) const SLAVE: u16 = 2;
/// Bits of the tty flags: TTY_EXCLUSIVE, TTY_PTY_LOCK.
pub(crate) const EXCLUSIVE: u64 = 1 << 3;
pub(crate) const LOCKED: u64 = 1 << 16;
/// Bit of the flags of TTY_OUTSIDE: it controls a session from outside.
pub(crate) const CONTROLS: u32 = 1;

/// One end; what is the same for both comes with the master.
pub(super) fn read<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let header = parser.next(records::TTY.name)?;
    let outside = if header.kind == records::TTY_OUTSIDE.number {
        let record = parser.cursor.fixed::<24>(&header, records::TTY_OUTSIDE.name)?;
        Some(read_outside(parser, &record)?)
    } else {
        parser.must_be(&header, records::TTY)?;
        None
    };
    let record = match outside {
        Some(_) => parser.fixed::<96>(records::TTY)?,
        None => parser.cursor.fixed::<96>(&header, records::TTY.name)?,
    };
    let (driver, end) = (record.u16::<8>(), record.u16::<10>());
    if driver != DRIVER_PTY || !matches!(end, MASTER | SLAVE) || record.u32::<28>() != 0 {
        return Err(record.unsupported(format!("terminals of driver {driver}, kind {end}")));
    }
    let flags = record.u64::<32>();
    if flags & !(EXCLUSIVE | LOCKED) != 0 {
        return Err(record.unsupported(format!("a terminal with flags {flags:#x}")));
    }
    let link = record.i32::<12>();
    if end == MASTER && link != 0 {
        return Err(record.bad(format!("a master with tag {link} of another")));
    }
    let line = parser.fixed::<560>(records::TTY_LDISC)?;
    if line.u32::<12>() != 0 {
        return Err(line.unsupported("what waits in a terminal"));
    }
    if end == SLAVE {
        if outside.is_some() {
            return Err(record.bad("TTY_OUTSIDE belongs to a master"));
        }
        return Ok((ObjectKind::TtySlave, parser.index(&record, link, ObjectKind::TtyMaster)?));
    }
    let pty = Pty {
        index: record.u32::<24>(),
        modes: [record.u32::<40>(), record.u32::<44>(), record.u32::<48>(), record.u32::<52>()],
        speeds: [record.u32::<56>(), record.u32::<60>()],
        line: record.bytes::<64, 1>()[0],
        characters: record.bytes::<65, 19>(),
        window: [record.u16::<88>(), record.u16::<90>(), record.u16::<92>(), record.u16::<94>()],
        packet: line.bytes::<33, 1>()[0] != 0,
        locked: flags & LOCKED != 0,
        exclusive: flags & EXCLUSIVE != 0,
        outside,
        waiting: Waiting::default(),
    };
    Ok(add(&mut parser.out.ptys, ObjectKind::TtyMaster, pty))
}

fn read_outside<S: Source>(
    parser: &Parser<'_, S>,
    record: &Fixed<24>,
) -> Result<Outside, ImageError> {
    let (flags, foreground) = (record.u32::<8>(), record.i32::<12>());
    if flags & !CONTROLS != 0 {
        return Err(record.unsupported(format!("a terminal from outside with flags {flags:#x}")));
    }
    if foreground != 0 {
        parser.index(record, foreground, ObjectKind::Pid)?;
    }
    Ok(Outside { device: record.u32::<16>(), controls: flags & CONTROLS != 0, foreground })
}
