//! Pseudo terminals.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::Source;
use crate::image::{Pty, records};

/// Kernel numbers of the driver and its two ends (linux/tty_driver.h).
pub(crate) const DRIVER_PTY: u16 = 4;
pub(crate) const MASTER: u16 = 1;
pub(crate) const SLAVE: u16 = 2;
/// Bits of the tty flags: TTY_EXCLUSIVE, TTY_PTY_LOCK.
pub(crate) const EXCLUSIVE: u64 = 1 << 3;
pub(crate) const LOCKED: u64 = 1 << 16;

/// One end; what is the same for both comes with the master.
pub(super) fn read<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<96>(records::TTY)?;
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
    };
    Ok(add(&mut parser.out.ptys, ObjectKind::TtyMaster, pty))
}
