//! What waits in a pair of pseudo terminals. The kernel tells of it only to those who take it out.
//!
//! Comes in: a pair whose tasks all stand still. Goes out: what waits in it, and the pair as it was: a child process takes
//! everything out and puts it back, and is not ended by what ends the checkpointer. Never: a byte that is lost, or in another
//! place. Nothing allocates in the child.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::image::{Pty, Termios, Typing, Waiting};
use crate::sys::{inspect, keeper, terminal};

/// How long the kernel may take for what it does at once when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for the kernel's worker to take in what was typed.
const SETTLED: Duration = Duration::from_millis(5);
/// Word of the output modes, and of the local ones.
const OUTPUT: usize = 1;
const LOCAL: usize = 3;
/// A byte that is printed to see whether that can be done, behind all others.
const PROBE: u8 = b'?';
/// Keys that are written at once.
const SOME: usize = 64;

/// How large the parts of the child's answer are: outcome and three counts; input, ends of lines, output. There is more
/// room than the kernel has for what waits.
const NUMBERS: usize = 16;
const INPUT: usize = 8192;
const LINES: usize = 4 * INPUT;
const PRINTED: usize = 65536;

/// Outcomes.
const FAILED: u32 = 0;
const DONE: u32 = 1;
const STOPPED: u32 = 2;

/// A pair, with descriptors of our own.
#[derive(Debug)]
pub(super) struct Taker {
    /// Shared with the tree: it may wait.
    pub master: File,
    /// Does not wait.
    pub slave: File,
    /// Whether the master reads packets.
    pub packet: bool,
    /// Settings of the line.
    pub termios: Termios,
    /// How it is typed into.
    pub typing: Typing,
}

/// Bytes that have been taken out.
struct Part<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl Part<'_> {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len()));
        room.ok_or(io::ErrorKind::OutOfMemory)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    fn get(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }
}

/// Everything that has been taken out.
struct Taken<'a> {
    input: Part<'a>,
    /// Where complete lines end in the input, and how many there are.
    ends: &'a mut [u32],
    lines: usize,
    output: Part<'a>,
}

impl Taker {
    /// The pair of a master, whose slave must be free to be opened.
    pub fn new(master: OwnedFd, pty: &Pty) -> io::Result<Taker> {
        let slave = terminal::peer(&master)?.into();
        let (termios, typing) = (pty.termios(), Typing::new(pty));
        Ok(Taker { master: master.into(), slave, packet: pty.packet, termios, typing })
    }

    /// Whether no other checkpoint looks at it: the child of one that was ended may not yet be done.
    pub fn is_alone(&self) -> bool {
        terminal::lock(&self.slave).is_ok()
    }

    /// What waits in the pair; none where that cannot be put back, as output is stopped (ctrl-S), or there is no room.
    pub fn look(&self) -> io::Result<Option<Waiting>> {
        if readable(&self.slave)? {
            // A poll that finds nothing waits for the kernel's worker; this one did not. What was typed just before the tree
            // stood still has to be taken in with the settings of then.
            std::thread::sleep(SETTLED);
        }
        let mut ends = [0u32; INPUT];
        let found = keeper::run(NUMBERS + INPUT + LINES + PRINTED, |bytes| {
            let (numbers, rest) = bytes.split_at_mut(NUMBERS);
            let (input, rest) = rest.split_at_mut(INPUT);
            let (lines, output) = rest.split_at_mut(LINES);
            let mut taken = Taken {
                input: Part { room: input, len: 0 },
                ends: &mut ends,
                lines: 0,
                output: Part { room: output, len: 0 },
            };
            let outcome = match self.pass(&mut taken) {
                Ok(true) => DONE,
                Ok(false) => STOPPED,
                Err(_) => FAILED,
            };
            let counts = [taken.input.len, taken.lines, taken.output.len].map(|len| len as u32);
            let told = [outcome].into_iter().chain(counts);
            numbers.chunks_exact_mut(4).zip(told).for_each(put);
            lines.chunks_exact_mut(4).zip(ends.iter().copied()).for_each(put);
        })?;
        parse(&found).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Takes all out and puts it back; false where it was left as it is.
    fn pass(&self, taken: &mut Taken<'_>) -> io::Result<bool> {
        // Only so much is changed at first: other modes would start output that is stopped.
        terminal::set_line(&self.master, &without(&self.termios, OUTPUT, libc::OPOST))?;
        let printed = matches!((&self.slave).write(&[PROBE]), Ok(1));
        let done = if printed { self.take_and_put(taken) } else { Ok(()) };
        terminal::set_line(&self.master, &self.termios)?;
        if self.packet && inspect::poll_now(&self.master, libc::POLLPRI)? & libc::POLLPRI != 0 {
            // That other settings came and went is told to the reader of packets: there was nothing else to be told.
            let _ = (&self.master).read(&mut [0])?;
        }
        done.map(|()| printed)
    }

    fn take_and_put(&self, taken: &mut Taken<'_>) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        terminal::set_line(&self.master, self.typing.settings())?;
        let (output, input) = (self.take_output(&mut taken.output), self.take_input(taken));
        // What has been taken is put back, whatever went wrong with the rest.
        let ends = taken.ends.get(..taken.lines).unwrap_or_default();
        let typed = self.put_input(taken.input.get(), ends, deadline);
        let printed = self.put_output(taken.output.get(), deadline);
        output.and(input).and(typed).and(printed)
    }

    /// Reads what there is from the master at once; 0: nothing. The kernel's worker has done its work when nothing is there.
    fn read_master(&self, into: &mut [u8; SOME]) -> io::Result<usize> {
        while readable(&self.master)? {
            let count = (&self.master).read(into)?;
            if !self.packet {
                return Ok(count);
            }
            // In front of data there is a byte 0; others tell of changes, which are our own.
            if count > 1 && into.first() == Some(&0) {
                into.copy_within(1..count, 0);
                return Ok(count - 1);
            }
        }
        Ok(0)
    }

    fn take_output(&self, output: &mut Part<'_>) -> io::Result<()> {
        let mut some = [0; SOME];
        loop {
            match self.read_master(&mut some)? {
                0 => break,
                count => output.add(some.get(..count).unwrap_or_default())?,
            }
        }
        // The last byte is the probe.
        output.len = output.len.saturating_sub(1);
        Ok(())
    }

    fn take_input(&self, taken: &mut Taken<'_>) -> io::Result<()> {
        if !self.typing.is_canonical() {
            return self.take_bytes(&mut taken.input);
        }
        while readable(&self.slave)? {
            self.take_some(&mut taken.input)?;
            let end = taken.ends.get_mut(taken.lines);
            *end.ok_or(io::ErrorKind::OutOfMemory)? = taken.input.len as u32;
            taken.lines += 1;
        }
        // No complete line is left, so nothing forgets where one ends. What is being typed must be read before lines are
        // on again: they would make a line of it.
        terminal::set_line(&self.master, &without(self.typing.settings(), LOCAL, libc::ICANON))?;
        let rest = self.take_bytes(&mut taken.input);
        terminal::set_line(&self.master, self.typing.settings())?;
        rest
    }

    fn take_bytes(&self, input: &mut Part<'_>) -> io::Result<()> {
        while readable(&self.slave)? {
            self.take_some(input)?;
        }
        Ok(())
    }

    /// One read of the slave: in canonical mode a line.
    fn take_some(&self, input: &mut Part<'_>) -> io::Result<()> {
        let mut some = [0; INPUT];
        let count = (&self.slave).read(&mut some)?;
        input.add(some.get(..count).unwrap_or_default())
    }

    fn put_input(&self, input: &[u8], ends: &[u32], deadline: Instant) -> io::Result<()> {
        let mut keys = self.typing.keys(input, ends).peekable();
        let (mut echoes, mut some) = (self.typing.echoes(input, ends), [0; SOME]);
        while keys.peek().is_some() || echoes > 0 {
            if keys.peek().is_some()
                && inspect::poll_now(&self.master, libc::POLLOUT)? & libc::POLLOUT != 0
            {
                let mut count = 0;
                for (slot, key) in some.iter_mut().zip(keys.by_ref()) {
                    (*slot, count) = (key, count + 1);
                }
                (&self.master).write_all(some.get(..count).unwrap_or_default())?;
            }
            match self.read_master(&mut some)? {
                0 if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
                0 => std::thread::yield_now(),
                count => echoes = echoes.saturating_sub(count),
            }
        }
        if input.len() + ends.len() > Waiting::INPUT_MOST {
            // Nothing has told of an end of file at the end.
            std::thread::sleep(SETTLED);
        }
        Ok(())
    }

    fn put_output(&self, mut output: &[u8], deadline: Instant) -> io::Result<()> {
        while !output.is_empty() {
            match (&self.slave).write(output) {
                Ok(count) => output = output.get(count..).unwrap_or_default(),
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Err(_) if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => std::thread::yield_now(),
            }
        }
        Ok(())
    }
}

/// Whether an end can be read at once.
fn readable(end: &File) -> io::Result<bool> {
    Ok(inspect::poll_now(end, libc::POLLIN)? & libc::POLLIN != 0)
}

/// The settings without a bit of one of their words.
fn without(termios: &Termios, word: usize, bit: u32) -> Termios {
    let mut changed = *termios;
    if let Some(word) = changed.get_mut(word) {
        *word &= !bit;
    }
    changed
}

fn put((place, number): (&mut [u8], u32)) {
    place.copy_from_slice(&number.to_ne_bytes());
}

/// What the child has told; None where it has failed.
fn parse(found: &[u8]) -> Option<Option<Waiting>> {
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(*bytes.first_chunk()?));
    let word = |at: usize| number(found.get(4 * at..)?);
    let part = |at: usize, len: u32| found.get(at..)?.get(..len as usize);
    match word(0)? {
        DONE => {}
        STOPPED => return Some(None),
        _ => return None,
    }
    let ends = part(NUMBERS + INPUT, word(2)?.checked_mul(4)?)?;
    Some(Some(Waiting {
        input: part(NUMBERS, word(1)?)?.to_vec(),
        ends: ends.chunks_exact(4).filter_map(number).collect(),
        output: part(NUMBERS + INPUT + LINES, word(3)?)?.to_vec(),
    }))
}
