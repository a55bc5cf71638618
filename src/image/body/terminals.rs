//! Pseudo terminals.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source, arrays};
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
        None
    };
    let waiting = read_waiting(parser)?;
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
        if outside.is_some() {
            return Err(record.bad("TTY_OUTSIDE belongs to a master"));
        }
        if !waiting.is_empty() {
            return Err(record.bad("what waits belongs to a master"));
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
        waiting,
    };
    if !pty.is_canonical() && !pty.waiting.ends.is_empty() {
        return Err(record.bad("it has no lines, but TTY_LINES"));
    }
    if pty.outside.is_some() && !pty.waiting.is_empty() {
        return Err(record.bad("what waits in a terminal from outside is not the tree's"));
    }
    Ok(add(&mut parser.out.ptys, ObjectKind::TtyMaster, pty))
}

/// What waits in the terminal to come.
fn read_waiting<S: Source>(parser: &mut Parser<'_, S>) -> Result<Waiting, ImageError> {
    let mut payload = |kind: records::Kind, most: usize| {
        let header = parser.next(records::TTY.name)?;
        if header.kind != kind.number {
            return Ok(None);
        }
        let bytes = parser.cursor.payload(&header, kind.name, most as u32)?;
        match bytes.is_empty() {
            true => Err(header.bad(kind.name, "must have contents")),
            false => Ok(Some((header, bytes))),
        }
    };
    let input = payload(records::TTY_INPUT, Waiting::INPUT_MOST)?;
    let input = input.map_or_else(Vec::new, |(_, bytes)| bytes);
    let mut ends = Vec::new();
    if let Some((header, bytes)) = payload(records::TTY_LINES, 4 * Waiting::INPUT_MOST)? {
        let name = records::TTY_LINES.name;
        ends = arrays::<4>(&bytes).map(|end| u32::from_le_bytes(*end)).collect();
        if bytes.len() % 4 != 0 {
            return Err(header.bad(name, "must have numbers of 32 bits"));
        }
        if !ends.is_sorted() || ends.last().is_some_and(|&last| last as usize > input.len()) {
            return Err(header.bad(name, format!("must ascend, up to {}", input.len())));
        }
        let most = Waiting::INPUT_MOST;
        if input.len() + ends.len() > most {
            return Err(header.bad(name, format!("more than {most} lines and bytes")));
        }
    }
    let output = payload(records::TTY_OUTPUT, Waiting::OUTPUT_MOST)?;
    Ok(Waiting { input, ends, output: output.map_or_else(Vec::new, |(_, bytes)| bytes) })
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
