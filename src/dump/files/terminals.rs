//! Terminals: pseudo terminals whose master is in the tree, and one that is held outside of it.
//!
//! The latter is that of whoever started the tree. A checkpoint that was asked to takes it for the terminal
//! of the restart's caller; what waits in it belongs to the one who holds it.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::keeper::Taker;
use super::{Files, Holder};
use crate::dump::facts::Facts;
use crate::dump::gather::Seen;
use crate::error::DumpError;
use crate::image::{FileKind, Outside, Pty, Waiting};
use crate::sys::{inspect, stream, terminal};

/// First and last major number of the slaves; each major has 256 of them.
const SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
/// The device that makes a pair when it is opened.
const PTMX: (u32, u32) = (5, 2);
/// The device that is the controlling terminal of whoever opens it.
const DEV_TTY: (u32, u32) = (5, 0);

/// Why a terminal from outside is refused, where the checkpoint was not asked to take it.
pub const HELD_OUTSIDE: &str = "its terminal is held by a process outside the tree";

/// Why another than a pseudo terminal is refused, likewise.
pub const TERMINAL: &str = "terminals cannot be saved";

/// Where more than so many bytes wait to be read, the buffer may be full and more wait in front of it, which is looked at
/// with the settings that there are when it gets in, or finds no room when it is put back. Nobody can tell how long the line is that
/// is being typed, but half of the buffer is enough for that.
const MOST: usize = Waiting::INPUT_MOST - 3;
const LINES_MOST: usize = Waiting::INPUT_MOST / 2;

/// Which terminal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// A pair, by the number of its slave in /dev/pts.
    Pair(u32),
    /// Any other, by its device number.
    Other(u32),
}

/// The ends of a pair that were found in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    which: Which,
    master: Option<Holder>,
    slave: Option<Holder>,
    /// The devpts that the slave is in.
    device: Option<u64>,
    /// How many open file descriptions the master has.
    masters: u32,
    /// Whether a task has asked for signals when something can be read (O_ASYNC).
    signals: bool,
}

/// Major and minor number of a device as the kernel packs them into 32 bits.
fn numbers(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00)
}

/// Number in /dev/pts of a slave, by its device number.
pub(super) fn slave_number((major, minor): (u32, u32)) -> Option<u32> {
    SLAVE_MAJORS.contains(&major).then(|| (major - SLAVE_MAJORS.start()) * 256 + minor)
}

impl Files {
    /// What a character device is that is an end of a pair; None where it is no such thing.
    pub(super) fn terminal(
        &mut self,
        facts: &Facts,
        seen: &Seen,
    ) -> Result<Option<FileKind>, DumpError> {
        let rdev = (libc::major(seen.meta.rdev()), libc::minor(seen.meta.rdev()));
        let holder = Holder::new(facts, seen);
        let (which, master) = match slave_number(rdev) {
            Some(index) => (Which::Pair(index), false),
            None if rdev == PTMX => {
                let number = terminal::number(&holder.copy()?);
                (Which::Pair(number.map_err(holder.failed("ask for the number of"))?), true)
            }
            // Opened as that, it is the terminal that the session had.
            None if rdev == DEV_TTY => {
                let device = terminal::device(&holder.copy()?);
                let device = device.map_err(holder.failed("ask for the terminal of"))?;
                match slave_number(numbers(device)) {
                    Some(index) => (Which::Pair(index), false),
                    None if self.outer_terminal => (Which::Other(device), false),
                    None => return Ok(None),
                }
            }
            // Consoles and serial lines are like others to who has them open.
            None if self.outer_terminal => match terminal::device(&holder.copy()?) {
                Ok(device) => (Which::Other(device), false),
                Err(_) => return Ok(None),
            },
            None => return Ok(None),
        };
        let pty = self.pty(which);
        let Some(pair) = self.pairs.get_mut(pty) else { return Ok(None) };
        pair.signals |= seen.info.flags & libc::O_ASYNC as u32 != 0;
        if master {
            pair.master = pair.master.or(Some(holder));
            pair.masters += 1;
        } else if slave_number(rdev).is_none() {
            pair.slave = pair.slave.or(Some(holder));
        } else {
            let device = *pair.device.get_or_insert(seen.meta.dev());
            if device != seen.meta.dev() {
                return Err(facts.refuse(seen.object(), "it is not of the same devpts as another"));
            }
            pair.slave = pair.slave.or(Some(holder));
        }
        Ok(Some(FileKind::Tty { pty, master }))
    }

    /// Index of this terminal.
    fn pty(&mut self, which: Which) -> usize {
        let known = self.pairs.iter().position(|pair| pair.which == which);
        known.unwrap_or_else(|| {
            let pair =
                Pair { which, master: None, slave: None, device: None, masters: 0, signals: false };
            self.pairs.push(pair);
            self.pairs.len() - 1
        })
    }

    /// Index of the terminal with this device number, as /proc/PID/stat tells it.
    pub fn controlling(&self, device: u32) -> Option<usize> {
        let which = slave_number(numbers(device)).map_or(Which::Other(device), Which::Pair);
        self.pairs.iter().position(|pair| pair.which == which)
    }

    /// When all descriptors are known: the settings of the pairs.
    pub(super) fn read_terminals(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        let mut outer: Option<Holder> = None;
        for pair in &self.pairs {
            if let Some(slave) = pair.slave.filter(|_| pair.master.is_none() && self.outer_terminal)
            {
                if let Some(first) = outer.replace(slave) {
                    let reason = format!(
                        "{HELD_OUTSIDE}, and so is that of descriptor {} of task {}: only one can be replaced",
                        first.fd, first.task
                    );
                    return Err(slave.refuse(all, reason));
                }
                self.ptys.push(read_outer(pair, slave)?);
            } else {
                self.ptys.push(read(all, pair)?);
            }
        }
        Ok(())
    }
}

fn read(all: &[Facts], pair: &Pair) -> Result<Pty, DumpError> {
    let Some(master) = pair.master else {
        return Err(match pair.slave {
            Some(slave) => slave.refuse(all, HELD_OUTSIDE),
            None => DumpError::Malformed { pid: 0, file: "fd".to_owned() },
        });
    };
    if pair.masters > 1 {
        return Err(master.refuse(all, "a terminal whose master was opened twice cannot be saved"));
    }
    let end = master.copy()?;
    let mut found = terminal::settings(&end).map_err(master.failed("read the settings of"))?;
    (found.packet, found.locked) =
        terminal::pair_settings(&end).map_err(master.failed("read the settings of"))?;
    let mut pty = described(pair, &found);
    let mut typed = 0;
    if let Some(slave) = pair.slave {
        let end = slave.copy()?;
        pty.exclusive = terminal::is_exclusive(&end).map_err(slave.failed("look at"))?;
        typed = stream::waiting(&end).map_err(slave.failed("look into"))?;
        // An end of file is not counted.
        let ready = inspect::poll_now(&end, libc::POLLIN).map_err(slave.failed("look into"))?;
        typed = typed.max(usize::from(ready & libc::POLLIN != 0));
    }
    pty.waiting = waiting(all, pair, (master, end), typed, &pty)?;
    Ok(pty)
}

/// What waits in a pair to be read; `typed` bytes do so for the readers of the slave. Where it cannot be taken out and put back,
/// it is refused as far as it can be seen without that: not so a line that is still being typed.
fn waiting(
    all: &[Facts],
    pair: &Pair,
    (master, end): (Holder, OwnedFd),
    typed: usize,
    pty: &Pty,
) -> Result<Waiting, DumpError> {
    let failed = |what: &str| master.failed(what);
    let printed = stream::waiting(&end).map_err(failed("look into"))?;
    let look = |events| inspect::poll_now(&end, events).map_err(master.failed("look into"));
    let refuse = |reason: &str| {
        let (holder, count) =
            if printed > 0 { (master, printed) } else { (pair.slave.unwrap_or(master), typed) };
        match count {
            0 => Ok(Waiting::default()),
            _ => {
                let reason = format!("{count} bytes wait in the terminal to be read, {reason}");
                Err(holder.refuse(all, reason).passing())
            }
        }
    };
    if pair.slave.is_none() && look(0)? & libc::POLLHUP == 0 {
        // To open it would be the first time.
        return refuse("and no task has its slave open");
    }
    let canonical = pty.is_canonical();
    let [.., local] = pty.modes;
    let obstacle = if local & libc::EXTPROC != 0 || pty.line != 0 {
        Some("and its line discipline is not the usual one")
    } else if pty.locked {
        // To try and open it would spoil it for those who have it open already.
        Some("and its slave is locked")
    } else if pair.signals {
        Some("and signals tell of them (O_ASYNC)")
    } else if pty.packet && look(libc::POLLPRI)? & libc::POLLPRI != 0 {
        Some("and a change of its settings to be told")
    } else if printed > MOST || typed > if canonical { LINES_MOST } else { MOST } {
        Some("and there may be more behind them")
    } else {
        None
    };
    if let Some(obstacle) = obstacle {
        return refuse(obstacle);
    }
    if printed + typed == 0 && !canonical {
        return Ok(Waiting::default());
    }
    let taker = match Taker::new(end, pty) {
        Ok(taker) => taker,
        Err(error) => return refuse(&format!("and its slave cannot be opened: {error}")),
    };
    if !taker.is_alone() {
        return Err(master
            .refuse(all, "its terminal is being looked at, or locked (flock)")
            .passing());
    }
    match taker.look().map_err(failed("take out and put back what waits in the terminal of"))? {
        Some(waiting) if waiting.input.len() + waiting.ends.len() > Waiting::INPUT_MOST => {
            refuse("and too many ends of files")
        }
        Some(waiting) if waiting.output.len() > Waiting::OUTPUT_MOST => {
            // It was on its way when it was counted.
            let reason = format!("{} bytes wait in the terminal to be read", waiting.output.len());
            Err(master.refuse(all, reason).passing())
        }
        Some(waiting) => Ok(waiting),
        None => refuse("and its output is stopped (ctrl-S), or there is no room for more"),
    }
}

/// A terminal whose other end is outside: what its own descriptors tell.
fn read_outer(pair: &Pair, slave: Holder) -> Result<Pty, DumpError> {
    let end = slave.copy()?;
    let device = terminal::device(&end).map_err(slave.failed("ask for the terminal of"))?;
    let found = terminal::settings(&end).map_err(slave.failed("read the settings of"))?;
    let exclusive = terminal::is_exclusive(&end).map_err(slave.failed("look at"))?;
    let outside = Some(Outside { device, ..Outside::default() });
    Ok(Pty { exclusive, outside, ..described(pair, &found) })
}

fn described(pair: &Pair, found: &terminal::Settings) -> Pty {
    let [input, output, control, local, rest @ .., ispeed, ospeed] = found.termios;
    let mut bytes = rest.iter().flat_map(|word| word.to_le_bytes());
    let line = bytes.next().unwrap_or(0);
    let mut characters = [0u8; 19];
    characters.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    Pty {
        index: if let Which::Pair(index) = pair.which { index } else { 0 },
        modes: [input, output, control, local],
        speeds: [ispeed, ospeed],
        line,
        characters,
        window: found.window,
        packet: found.packet,
        locked: found.locked,
        exclusive: false,
        outside: None,
        waiting: Waiting::default(),
    }
}
