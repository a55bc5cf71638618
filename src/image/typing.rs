//! What waits in a pair of pseudo terminals, and how it gets into a terminal as it was.
//!
//! Comes in: settings of a line, and bytes. Goes out: other settings, with which keys that are written to the master become just
//! those bytes, and these keys. It is the same at the restart and where a checkpoint puts back what it has looked at, so
//! nothing here allocates.
#![forbid(unsafe_code)]

use super::Pty;

/// What waits in a pair of pseudo terminals to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// For the readers of the slave: what was typed. At most [`Waiting::INPUT_MOST`] bytes, ends of files counted too.
    pub input: Vec<u8>,
    /// In canonical mode: where in it the lines end that are complete, ascending. Two equal ones, or a first of 0, are an end
    /// of file. What comes behind the last one is a line that is still being typed. In other modes empty.
    pub ends: Vec<u32>,
    /// For the reader of the master: what was printed. At most [`Waiting::OUTPUT_MOST`] bytes.
    pub output: Vec<u8>,
}

impl Waiting {
    /// Most bytes that a line discipline keeps for its readers (N_TTY_BUF_SIZE of the kernel, less one), less two: behind them a key is
    /// typed and erased.
    pub const INPUT_MOST: usize = 4093;
    /// Likewise for the reader of a master.
    pub const OUTPUT_MOST: usize = Self::INPUT_MOST;

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.ends.is_empty() && self.output.is_empty()
    }
}

/// Words of struct termios2: four of modes, line discipline and control characters in five, two speeds.
pub type Termios = [u32; 11];

impl Pty {
    /// struct termios2 of the line.
    pub fn termios(&self) -> Termios {
        let [input, output, control, local] = self.modes;
        let mut bytes = [self.line].into_iter().chain(self.characters);
        let [a, b, c, d, e] =
            [(); 5].map(|()| u32::from_le_bytes([(); 4].map(|()| bytes.next().unwrap_or(0))));
        let [ispeed, ospeed] = self.speeds;
        [input, output, control, local, a, b, c, d, e, ispeed, ospeed]
    }

    /// Whether its line is edited before its readers get it.
    pub fn is_canonical(&self) -> bool {
        let [.., local] = self.modes;
        local & libc::ICANON != 0
    }
}

/// A key that is typed and erased again.
const MARK: u8 = b'x';

/// How a line is typed into.
#[derive(Debug, Clone, Copy)]
pub struct Typing {
    canonical: bool,
    /// Quotes the key behind it.
    quote: u8,
    /// Makes an end of file.
    end_of_file: u8,
    /// Takes the last key back.
    erase: u8,
    /// What ends a line besides a newline; 0: nothing.
    ends: [u8; 2],
    settings: Termios,
}

impl Typing {
    /// For the line of a pair.
    pub fn new(pty: &Pty) -> Typing {
        let ends = [libc::VEOL, libc::VEOL2].map(|at| pty.characters.get(at).copied().unwrap_or(0));
        let mut free = (1..=u8::MAX).filter(|key| *key != b'\n' && !ends.contains(key));
        let [quote, end_of_file, erase] = [(); 3].map(|()| free.next().unwrap_or(0));
        let canonical = pty.is_canonical();
        let all = [
            (libc::VMIN, 1),
            (libc::VERASE, erase),
            (libc::VEOF, end_of_file),
            (libc::VEOL, ends[0]),
            (libc::VLNEXT, quote),
            (libc::VEOL2, ends[1]),
        ];
        let mut characters = [0; 19];
        for (place, key) in all.into_iter().take(if canonical { all.len() } else { 1 }) {
            if let Some(character) = characters.get_mut(place) {
                *character = key;
            }
        }
        let [_, _, control, _] = pty.modes;
        let local = if canonical { libc::ICANON | libc::IEXTEN | libc::ECHO } else { libc::ECHO };
        let modes = [0, 0, control, local];
        let line = Pty { modes, characters, line: pty.line, speeds: pty.speeds, ..Pty::default() };
        Typing { canonical, quote, end_of_file, erase, ends, settings: line.termios() }
    }

    /// Whether the line is edited before its readers get it.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// The settings to type with: nothing that is typed does anything else than what [`Typing::keys`] is for, and
    /// each byte that has been taken in is echoed to the master as it is, but an end of file. So when [`Typing::echoes`] bytes
    /// have come back, the terminal has taken in all of them: the kernel does that some time after the write, with the settings
    /// that there are then.
    pub fn settings(&self) -> &Termios {
        &self.settings
    }

    /// How many bytes come back to the master for the keys of this.
    pub fn echoes(&self, input: &[u8], ends: &[u32]) -> usize {
        input.len() + if self.needs_mark(input, ends) { 2 } else { 0 }
    }

    /// Whether the last key is an end of file, which nothing tells of: behind it a key is typed and erased, where there is room
    /// for that.
    fn needs_mark(&self, input: &[u8], ends: &[u32]) -> bool {
        let mut last = ends.iter().rev().map(|&end| end as usize);
        let ends_all = last.next() == Some(input.len());
        let line = input.get(last.next().unwrap_or(0)..).unwrap_or_default();
        self.canonical
            && ends_all
            && input.len() + ends.len() <= Waiting::INPUT_MOST
            && !line.last().is_some_and(|&last| self.ends_line(last))
    }

    /// The bytes to write to the master, so that `input` waits in the slave, with the ends of lines `ends`.
    pub fn keys<'a>(&self, input: &'a [u8], ends: &'a [u32]) -> impl Iterator<Item = u8> + use<'a> {
        let typing = *self;
        let lines = ends.iter().scan(0usize, move |start, &end| {
            let line = input.get(*start..end as usize).unwrap_or_default();
            *start = end as usize;
            Some((line, true))
        });
        let complete = if self.canonical { ends.last().map_or(0, |&end| end as usize) } else { 0 };
        let rest = input.get(complete..).unwrap_or_default();
        let lines = lines.filter(move |_| typing.canonical).chain([(rest, false)]);
        let marked = self.needs_mark(input, ends);
        let keys = lines.flat_map(move |(line, complete)| {
            let ended = complete && line.last().is_some_and(|&last| typing.ends_line(last));
            let (quoted, end) = line.split_at(line.len() - usize::from(ended));
            let quote = typing.canonical.then_some(typing.quote);
            let quoted = quoted.iter().flat_map(move |&key| quote.into_iter().chain([key]));
            let end_of_file = (complete && !ended).then_some(typing.end_of_file);
            quoted.chain(end.iter().copied()).chain(end_of_file)
        });
        let mark = [self.quote, MARK, self.erase].into_iter();
        keys.chain(mark.filter(move |_| marked))
    }

    fn ends_line(&self, key: u8) -> bool {
        key == b'\n' || key != 0 && self.ends.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(local: u32, eol: u8) -> Pty {
        let mut characters = [7; 19];
        (characters[libc::VEOL], characters[libc::VEOL2]) = (eol, 0);
        Pty { modes: [0x500, 5, 0xbf, local], characters, speeds: [15, 15], ..Pty::default() }
    }

    /// The control character at a place of struct termios2.
    fn character(termios: &Termios, place: usize) -> u8 {
        let bytes: Vec<u8> = termios[4..9].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[place + 1]
    }

    fn keys(pty: &Pty, input: &[u8], ends: &[u32]) -> Vec<u8> {
        Typing::new(pty).keys(input, ends).collect()
    }

    #[test]
    fn without_lines_bytes_are_keys() {
        let raw = line(0, 0);
        assert_eq!(keys(&raw, b"a\n\x01\x00", &[]), b"a\n\x01\x00");
        assert_eq!(Typing::new(&raw).settings()[3], libc::ECHO);
        assert_eq!(keys(&raw, b"", &[]), b"");
    }

    #[test]
    fn lines_end_as_they_did() {
        let canonical = line(libc::ICANON, b'!');
        let typing = Typing::new(&canonical);
        let (q, e) = (typing.quote, typing.end_of_file);
        assert!(![q, e].contains(&b'\n') && ![q, e].contains(&b'!') && q != e);
        // A newline, a character that ends lines, an end of file in a line and at its start, and a rest.
        let expected = [q, b'a', b'\n', q, b'b', b'!', q, b'c', e, e, q, b'\n', q, b'd'];
        assert_eq!(keys(&canonical, b"a\nb!c\nd", &[2, 4, 5, 5]), expected);
        assert_eq!(typing.echoes(b"a\nb!c\nd", &[2, 4, 5, 5]), 7);
        // Behind an end of file a key tells that it has been taken in.
        let (mark, x) = ([q, b'x', typing.erase], b'x');
        assert_eq!(keys(&canonical, b"", &[0]), [[e].as_slice(), &mark].concat());
        assert_eq!(keys(&canonical, b"x", &[1]), [[q, x, e].as_slice(), &mark].concat());
        assert_eq!([typing.echoes(b"", &[0]), typing.echoes(b"x", &[1])], [2, 3]);
        assert_eq!([typing.echoes(b"x\n", &[2]), typing.echoes(b"x", &[0])], [2, 1]);
        // Where there is no room for that there is none.
        let full = &[0; Waiting::INPUT_MOST + 1][..];
        assert_eq!([typing.echoes(b"", &full[1..]), typing.echoes(b"", full)], [2, 0]);
        assert_eq!(keys(&canonical, b"", full).len(), full.len());
        // A quoted newline at the end of what a line of its own was not.
        assert_eq!(keys(&canonical, b"x\n\n", &[3]), [q, b'x', q, b'\n', b'\n']);
    }

    #[test]
    fn only_what_is_needed_is_on() {
        let typing = Typing::new(&line(libc::ICANON | libc::IEXTEN | 1, b'!'));
        let settings = typing.settings();
        assert_eq!(settings[..4], [0, 0, 0xbf, libc::ICANON | libc::IEXTEN | libc::ECHO]);
        assert_eq!(settings[9..], [15, 15]);
        assert_eq!(character(settings, libc::VEOL), b'!');
        assert_eq!(character(settings, libc::VLNEXT), typing.quote);
        assert_eq!(character(settings, libc::VEOF), typing.end_of_file);
        // VINTR, VSTART and their kind.
        assert_eq!(character(settings, libc::VERASE), typing.erase);
        assert!([0, 1, 3, 8, 9, 10, 12, 13, 14].iter().all(|&at| character(settings, at) == 0));
    }
}
