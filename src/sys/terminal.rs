//! Terminals: their ioctls (ioctl_tty(2)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

const TCGETS2: u64 = 0x802c_542a;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCGDEV: u64 = 0x8004_5432;
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCGPKT: u64 = 0x8004_5438;
const TIOCGPTLCK: u64 = 0x8004_5439;
const TIOCGEXCL: u64 = 0x8004_5440;
const TCSETS2: u64 = 0x402c_542b;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCGPTPEER: u64 = 0x5441;
const TIOCSCTTY: u64 = 0x540e;
const TIOCNOTTY: u64 = 0x5422;
const TIOCGPGRP: u64 = 0x540f;
const TIOCSPGRP: u64 = 0x5410;
const TIOCSWINSZ: u64 = 0x5414;

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
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, answer) }).map(drop)
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

/// Settings of a terminal, by any end of it. Packet mode and lock: [`pair_settings`].
///
/// # Errors
/// ENOTTY, EIO.
pub fn settings(end: impl AsFd) -> io::Result<Settings> {
    let end = end.as_fd();
    let mut found = Settings::default();
    ask(end, TCGETS2, &mut found.termios)?;
    ask(end, TIOCGWINSZ, &mut found.window)?;
    Ok(found)
}

/// Packet mode and lock of a pair, by its master.
///
/// # Errors
/// ENOTTY, EIO.
pub fn pair_settings(master: impl AsFd) -> io::Result<(bool, bool)> {
    let master = master.as_fd();
    let (mut packet, mut locked) = (0i32, 0i32);
    ask(master, TIOCGPKT, &mut packet)?;
    ask(master, TIOCGPTLCK, &mut locked)?;
    Ok((packet != 0, locked != 0))
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

fn tell<T>(fd: BorrowedFd<'_>, request: u64, value: &T) -> io::Result<()> {
    // SAFETY: every request of this module reads one value of the type that it is called with.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, value) }).map(drop)
}

fn order(fd: BorrowedFd<'_>, request: u64, number: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: every request that this is called with takes a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, number) })
}

/// A new pair: its master, which does not wait, and a descriptor of its slave.
///
/// # Errors
/// ENOSPC where there are too many.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/ptmx")?;
    tell(master.as_fd(), TIOCSPTLCK, &0i32)?;
    let slave = open_slave(&master, 0)?;
    Ok((master.into(), slave))
}

/// A new open file of the slave of this master, which does not wait.
///
/// # Errors
/// EIO where the slave is locked, EBUSY where it is in exclusive mode.
pub fn peer(master: impl AsFd) -> io::Result<OwnedFd> {
    open_slave(master, libc::O_NONBLOCK)
}

/// Locks it as a file, for all who have this open file, a child too (flock(2)).
///
/// # Errors
/// EWOULDBLOCK where others have locked it.
pub fn lock(end: impl AsFd) -> io::Result<()> {
    // SAFETY: two numbers.
    check(unsafe { libc::flock(end.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

fn open_slave(master: impl AsFd, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let slave = order(master.as_fd(), TIOCGPTPEER, flags as libc::c_ulong)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(slave) })
}

/// Makes it the controlling terminal of the session that this process leads.
///
/// # Errors
/// EPERM where that has one, or another session has it.
pub fn take(slave: impl AsFd) -> io::Result<()> {
    order(slave.as_fd(), TIOCSCTTY, 0).map(drop)
}

/// Takes that back. The foreground process group gets SIGHUP and SIGCONT.
///
/// # Errors
/// ENOTTY where it is not.
pub fn give_up(slave: impl AsFd) -> io::Result<()> {
    order(slave.as_fd(), TIOCNOTTY, 0).map(drop)
}

/// Names the foreground process group, by either end. A process of another group than that must not have
/// SIGTTOU both unblocked and not ignored.
///
/// # Errors
/// ENOTTY where it is not the controlling terminal of this process, EPERM where the group is not in its
/// session.
pub fn set_foreground(end: impl AsFd, group: i32) -> io::Result<()> {
    tell(end.as_fd(), TIOCSPGRP, &group)
}

/// The foreground process group, 0 where there is none: by the master, or a descriptor of the controlling
/// terminal of this process.
///
/// # Errors
/// ENOTTY.
pub fn foreground(end: impl AsFd) -> io::Result<i32> {
    let mut group = 0i32;
    ask(end.as_fd(), TIOCGPGRP, &mut group)?;
    Ok(group)
}

/// Sets rows, columns and their size in pixels. Where that is a change, the foreground process group gets
/// SIGWINCH.
///
/// # Errors
/// ENOTTY, EIO.
pub fn set_window(end: impl AsFd, window: [u16; 4]) -> io::Result<()> {
    tell(end.as_fd(), TIOCSWINSZ, &window)
}

/// Sets the line (struct termios2). In the background this is like [`set_foreground`].
///
/// # Errors
/// ENOTTY, EIO.
pub fn set_line(end: impl AsFd, termios: &[u32; TERMIOS_WORDS]) -> io::Result<()> {
    tell(end.as_fd(), TCSETS2, termios)
}

/// The line as cfmakeraw(3) has it: bytes pass as they are, one wakes a reader.
pub fn raw(termios: &[u32; TERMIOS_WORDS]) -> [u32; TERMIOS_WORDS] {
    let mut raw = *termios;
    let [input, output, control, local, _, characters, ..] = &mut raw;
    *input &= !(libc::IGNBRK | libc::BRKINT | libc::PARMRK | libc::ISTRIP);
    *input &= !(libc::INLCR | libc::IGNCR | libc::ICRNL | libc::IXON);
    *output &= !libc::OPOST;
    *control = *control & !(libc::CSIZE | libc::PARENB) | libc::CS8;
    *local &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
    // The bytes 5 and 6 of the control characters are VTIME and VMIN; the first three stand in the word before.
    *characters = *characters & 0xffff | 1 << 24;
    raw
}
