//! Pseudo terminals: ioctls that only look (ioctl_tty(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const TCGETS2: u64 = 0x802c_542a;
const TIOCGWINSZ: u64 = 0x5413;
const FIONREAD: u64 = 0x541b;
const TIOCGDEV: u64 = 0x8004_5432;
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCGPKT: u64 = 0x8004_5438;
const TIOCGPTLCK: u64 = 0x8004_5439;
const TIOCGEXCL: u64 = 0x8004_5440;

/// Words of struct termios2: four of modes, line discipline and control characters in five, two speeds.
pub const TERMIOS_WORDS: usize = 11;

/// What a pair of terminals is set to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// struct termios2 of the slave.
    pub termios: [u32; TERMIOS_WORDS],
    /// struct winsize: rows, columns, their size in pixels.
    pub window: [u16; 4],
    /// Whether the master reads packets.
    pub packet: bool,
    /// Whether the slave is locked.
    pub locked: bool,
}

fn ask<T>(fd: BorrowedFd<'_>, request: u64, answer: &mut T) -> io::Result<()> {
    // SAFETY: every request of this module writes one value of the type that it is called with.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Number in /dev/pts of the slave of this master.
///
/// # Errors
/// ENOTTY where it is no master of a pseudo terminal.
pub fn number(master: impl AsFd) -> io::Result<u32> {
    let mut number = 0u32;
    ask(master.as_fd(), TIOCGPTN, &mut number)?;
    Ok(number)
}

/// Device number of the terminal behind a descriptor, also of one of /dev/tty.
///
/// # Errors
/// ENOTTY; EIO where the terminal has hung up.
pub fn device(end: impl AsFd) -> io::Result<u32> {
    let mut device = 0u32;
    ask(end.as_fd(), TIOCGDEV, &mut device)?;
    Ok(device)
}

/// Settings of a pair, by its master.
///
/// # Errors
/// ENOTTY, EIO.
pub fn settings(master: impl AsFd) -> io::Result<Settings> {
    let master = master.as_fd();
    let (mut packet, mut locked) = (0i32, 0i32);
    let mut found = Settings::default();
    ask(master, TCGETS2, &mut found.termios)?;
    ask(master, TIOCGWINSZ, &mut found.window)?;
    ask(master, TIOCGPKT, &mut packet)?;
    ask(master, TIOCGPTLCK, &mut locked)?;
    (found.packet, found.locked) = (packet != 0, locked != 0);
    Ok(found)
}

/// Whether a slave is in exclusive mode.
///
/// # Errors
/// ENOTTY, EIO.
pub fn is_exclusive(slave: impl AsFd) -> io::Result<bool> {
    let mut exclusive = 0i32;
    ask(slave.as_fd(), TIOCGEXCL, &mut exclusive)?;
    Ok(exclusive != 0)
}

/// Bytes that can be read at an end without waiting.
///
/// # Errors
/// ENOTTY, EIO.
pub fn waiting(end: impl AsFd) -> io::Result<usize> {
    let mut count = 0i32;
    ask(end.as_fd(), FIONREAD, &mut count)?;
    Ok(count.max(0) as usize)
}
