//! What waits in a pair of pseudo terminals, and how it gets into a terminal as it was.
//!
//! Comes in: settings of a line, and bytes. Goes out: other settings, with which keys that are written to the master become just
//! those bytes, and these keys. It is the same at the restart and where a checkpoint puts back what it has looked at, so
//! nothing here allocates.
#![forbid(unsafe_code)]

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

/// Local modes, see termios(3).
const ICANON: u32 = 0o2;
const ECHO: u32 = 0o10;
const IEXTEN: u32 = 0o100_000;
/// Places of control characters behind the byte of the line discipline.
const VERASE: usize = 2;
const VEOF: usize = 4;
const VMIN: usize = 6;
const VEOL: usize = 11;
const VLNEXT: usize = 15;
const VEOL2: usize = 16;
/// Word of the first control character, which is behind the line discipline.
const CHARACTERS: usize = 4;

/// The control character at a place of struct termios2.
fn character(termios: &Termios, place: usize) -> u8 {
    let at = place + 1;
    let word = termios.get(CHARACTERS + at / 4).copied().unwrap_or(0);
    word.to_le_bytes().get(at % 4).copied().unwrap_or(0)
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
    /// How many of the last keys are for nothing but an echo, where the last end of file is the end of the input.
    pub const MARK_KEYS: usize = 3;

    /// For a line with these settings.
    pub fn new(termios: &Termios) -> Typing {
        let ends = [character(termios, VEOL), character(termios, VEOL2)];
        let mut free = (1..=u8::MAX).filter(|key| *key != b'\n' && !ends.contains(key));
        let [quote, end_of_file, erase] = [(); 3].map(|()| free.next().unwrap_or(0));
        let [_, _, control, local, line, .., ispeed, ospeed] = *termios;
        let canonical = local & ICANON != 0;
        let mut characters = [0u8; 20];
        let places: &[(usize, u8)] = if canonical {
            &[
                (VERASE, erase),
                (VEOF, end_of_file),
                (VEOL, ends[0]),
                (VLNEXT, quote),
                (VEOL2, ends[1]),
            ]
        } else {
            &[]
        };
        for &(place, key) in places.iter().chain(&[(VMIN, 1)]) {
            if let Some(character) = characters.get_mut(place + 1) {
                *character = key;
            }
        }
        let mut settings = [0u32; 11];
        let local = if canonical { ICANON | IEXTEN | ECHO } else { ECHO };
        let words = characters.chunks_exact(4).map(|bytes| match bytes {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        });
        let words = [0, 0, control, local].into_iter().chain(words).chain([ispeed, ospeed]);
        settings.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        if let Some(word) = settings.get_mut(CHARACTERS) {
            *word |= line & 0xff;
        }
        Typing { canonical, quote, end_of_file, erase, ends, settings }
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

    /// Whether the last key is an end of file, which nothing tells of: behind it a key is typed and erased.
    fn needs_mark(&self, input: &[u8], ends: &[u32]) -> bool {
        let mut last = ends.iter().rev();
        let (end, before) =
            (last.next().map(|&end| end as usize), last.next().copied().unwrap_or(0));
        let line = input.get(before as usize..).unwrap_or_default();
        self.canonical
            && end == Some(input.len())
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

    fn line(local: u32, eol: u8) -> Termios {
        let mut termios =
            [0x500, 5, 0xbf, local, 0x1c03_0000, 0x0415_7f1c, 0x0001_0000, 0x1a13_1100, 0, 15, 15];
        // VEOL is the twelfth byte behind that of the line discipline.
        let mut bytes: Vec<u8> = termios[4..9].iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        bytes[VEOL + 1] = eol;
        for (word, bytes) in termios[4..9].iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        termios
    }

    fn keys(termios: &Termios, input: &[u8], ends: &[u32]) -> Vec<u8> {
        Typing::new(termios).keys(input, ends).collect()
    }

    #[test]
    fn without_lines_bytes_are_keys() {
        let raw = line(0, 0);
        assert_eq!(keys(&raw, b"a\n\x01\x00", &[]), b"a\n\x01\x00");
        assert_eq!(Typing::new(&raw).settings()[3], ECHO);
        assert_eq!(keys(&raw, b"", &[]), b"");
    }

    #[test]
    fn lines_end_as_they_did() {
        let canonical = line(ICANON, b'!');
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
        // A quoted newline at the end of what a line of its own was not.
        assert_eq!(keys(&canonical, b"x\n\n", &[3]), [q, b'x', q, b'\n', b'\n']);
    }

    #[test]
    fn only_what_is_needed_is_on() {
        let typing = Typing::new(&line(ICANON | IEXTEN | 1, b'!'));
        let settings = typing.settings();
        assert_eq!(settings[..4], [0, 0, 0xbf, ICANON | IEXTEN | ECHO]);
        assert_eq!(settings[9..], [15, 15]);
        assert_eq!(character(settings, VEOL), b'!');
        assert_eq!(character(settings, VLNEXT), typing.quote);
        assert_eq!(character(settings, VEOF), typing.end_of_file);
        // VINTR, VSTART and their kind.
        assert_eq!(character(settings, VERASE), typing.erase);
        assert!([0, 1, 3, 8, 9, 10, 12, 13, 14].iter().all(|&at| character(settings, at) == 0));
    }
}
