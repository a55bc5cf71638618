//! What the process that restarts tells the one that relays: five bytes each; the answer is one.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// How far the restart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// All is in place; the programs run after the answer.
    Ready,
    /// The programs run; the pid of the root task.
    Runs(i32),
    /// The root task has ended, with this status (format of wait(2)). Answered when all is on the screen.
    Ended(i32),
}

/// Says it.
///
/// # Errors
/// That the other has ended.
pub fn tell(mut socket: &UnixStream, word: Word) -> io::Result<()> {
    let (kind, number) = match word {
        Word::Ready => (0, 0),
        Word::Runs(pid) => (1, pid),
        Word::Ended(status) => (2, status),
    };
    let [a, b, c, d] = number.to_le_bytes();
    socket.write_all(&[kind, a, b, c, d])
}

/// What was said.
///
/// # Errors
/// That the other has ended.
pub fn hear(mut socket: &UnixStream) -> io::Result<Word> {
    let mut bytes = [0; 5];
    socket.read_exact(&mut bytes)?;
    let [kind, number @ ..] = bytes;
    match (kind, i32::from_le_bytes(number)) {
        (0, _) => Ok(Word::Ready),
        (1, pid) => Ok(Word::Runs(pid)),
        (2, status) => Ok(Word::Ended(status)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits for an answer.
///
/// # Errors
/// That the other has ended.
pub fn answer(mut socket: &UnixStream) -> io::Result<()> {
    socket.read_exact(&mut [0])
}

/// Gives it.
///
/// # Errors
/// That the other has ended.
pub fn give_answer(mut socket: &UnixStream) -> io::Result<()> {
    socket.write_all(&[0])
}
