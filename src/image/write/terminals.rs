//! Pseudo terminals.
#![forbid(unsafe_code)]

use super::{Thing, Writer, entry};
use crate::error::ImageError;
use crate::image::body::terminals::{CONTROLS, DRIVER_PTY, EXCLUSIVE, LOCKED, MASTER, SLAVE};
use crate::image::{Pty, Waiting, records};

impl Writer<'_> {
    /// The tag of one end of a pair; that of a slave comes behind that of its master.
    pub(super) fn tty(&mut self, index: usize, master: bool) -> Result<i32, ImageError> {
        let pty = entry(&self.body.objects.ptys, index, records::TTY)?;
        let link = if master { 0 } else { self.tty(index, true)? };
        let (tag, new) = self.objref(Thing::Tty(index, master))?;
        if new {
            if let Some(outside) = pty.outside.filter(|_| master) {
                self.out.record(records::TTY_OUTSIDE, |r| {
                    r.u32(if outside.controls { CONTROLS } else { 0 });
                    r.i32(outside.foreground).u32(outside.device).u32(0);
                })?;
            }
            if master {
                self.tty_waiting(&pty.waiting)?;
            }
            self.tty_record(pty, link, if master { MASTER } else { SLAVE })?;
        }
        Ok(tag)
    }

    /// What waits in the pair whose master follows.
    fn tty_waiting(&mut self, waiting: &Waiting) -> Result<(), ImageError> {
        if !waiting.input.is_empty() {
            self.out.record(records::TTY_INPUT, |r| {
                r.bytes(&waiting.input);
            })?;
        }
        if !waiting.ends.is_empty() {
            self.out.record(records::TTY_LINES, |r| {
                for end in &waiting.ends {
                    r.u32(*end);
                }
            })?;
        }
        if !waiting.output.is_empty() {
            self.out.record(records::TTY_OUTPUT, |r| {
                r.bytes(&waiting.output);
            })?;
        }
        Ok(())
    }

    fn tty_record(&mut self, pty: &Pty, link: i32, end: u16) -> Result<(), ImageError> {
        let exclusive = if pty.exclusive { EXCLUSIVE } else { 0 };
        let flags = exclusive | if pty.locked { LOCKED } else { 0 };
        self.out.record(records::TTY, |r| {
            r.u16(DRIVER_PTY).u16(end).i32(link).zeros(8).u32(pty.index).u32(0).u64(flags);
            for word in pty.modes.iter().chain(&pty.speeds) {
                r.u32(*word);
            }
            r.bytes(&[pty.line]).bytes(&pty.characters).zeros(4);
            for size in pty.window {
                r.u16(size);
            }
        })?;
        let canonical = pty.is_canonical();
        self.out.record(records::TTY_LDISC, |r| {
            // One character wakes a reader.
            r.zeros(20).u16(1).zeros(3).bytes(&[pty.packet.into()]).zeros(3);
            r.bytes(&[(!canonical).into(), (!canonical).into(), canonical.into()]).zeros(520);
        })
    }
}
