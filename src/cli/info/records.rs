//! The records of an image one by one, with their fields.

use std::fmt::Write as _;
use std::io::Write;

use super::super::text::{printable, signals};
use super::Failure;
use crate::error::Error;
use crate::image::fields::{self, Buffer, Buffers, Found, Value};
use crate::image::records::{self, RecordInfo};
use crate::image::{PAGE, Source};

/// No more of a record is looked at.
const LONGEST: u32 = 4 << 20;

/// Bytes that are shown of what is only bytes.
const SHOWN: usize = 32;

/// `vma_type` of shared memory, whose pages are counted from its start.
const SHM_ANON: u64 = 4;

/// Prints one line a record: offset, number and name of its type, length, fields.
pub fn print<S: Source>(out: &mut impl Write, source: S) -> Result<(), Failure> {
    let mut walk = records::walk(source);
    let mut lines = Lines::default();
    while let Some(record) = walk.next() {
        let record = record.map_err(Error::from)?;
        let bytes = walk.contents(&record, LONGEST).map_err(Error::from)?;
        let RecordInfo { offset, kind, name, len, .. } = record;
        let fields = lines.fields(&record, &bytes);
        writeln!(out, "{offset:>10} {kind:>5} {name} {len}{fields}").map_err(Failure::Output)?;
    }
    Ok(())
}

/// What the records so far say about the next.
#[derive(Default)]
struct Lines {
    buffers: Buffers,
    /// Pages in the next BUFFER.
    pages: u64,
    /// Whether pages are numbered, instead of having addresses.
    numbered: bool,
}

impl Lines {
    /// The fields of a record, each with a space in front of it.
    fn fields(&mut self, record: &RecordInfo, bytes: &[u8]) -> String {
        let mut text = String::new();
        let Some(form) = fields::form(record.kind) else {
            return text;
        };
        let payload = bytes.get(records::HEADER_LEN as usize..).unwrap_or_default();
        if let Some(buffer) = self.buffers.next(record.kind) {
            self.buffer(&mut text, buffer, payload);
            return text;
        }
        if record.len > LONGEST {
            push(&mut text, "too long to be shown");
            return text;
        }
        let visited = fields::visit(form, bytes, &mut |found| {
            match (found.name, found.value) {
                ("nr_pages", Value::Number(pages)) => self.pages = pages,
                ("vma_type", Value::Number(kind)) => self.numbered = kind == SHM_ANON,
                // The pages of a file without a name.
                ("origin", _) => self.numbered = true,
                _ => {}
            }
            field(&mut text, &found);
        });
        if let Err(reason) = visited {
            push(&mut text, &format!("({reason})"));
            bytes_of(&mut text, "", payload);
        }
        text
    }

    fn buffer(&self, text: &mut String, buffer: Buffer, payload: &[u8]) {
        match buffer {
            Buffer::Text(name) => push(text, &format!("{name}=\"{}\"", printable(payload))),
            Buffer::Pids => {
                let mut words = fields::words(payload);
                while let Some(depth) = words.next() {
                    // The outermost number, and those of nested namespaces.
                    let numbers: Vec<String> = std::iter::once(words.next())
                        .flatten()
                        .chain(words.by_ref().take(usize::try_from(depth).unwrap_or(0)))
                        .map(|number| number.to_string())
                        .collect();
                    push(text, &numbers.join("/"));
                }
            }
            Buffer::Tasks => {
                const NAMES: [&str; 6] = ["vpid", "vppid", "vtgid", "vpgid", "vsid", "depth"];
                for (index, word) in fields::words(payload).enumerate() {
                    let (task, column) = (index / NAMES.len(), index % NAMES.len());
                    let name = NAMES.get(column).copied().unwrap_or_default();
                    push(text, &format!("task[{task}].{name}={word}"));
                }
            }
            Buffer::Auxv => {
                let words: Vec<u64> = fields::long_words(payload).collect();
                for pair in words.chunks_exact(2).take_while(|pair| pair != &[0, 0]) {
                    if let [kind, value] = pair {
                        push(text, &format!("auxv[{kind}]={value:#x}"));
                    }
                }
            }
            Buffer::Pages => {
                let numbers = usize::try_from(self.pages).unwrap_or(usize::MAX);
                let unit = if self.numbered { 1 } else { PAGE };
                let mut run: Option<(u64, u64)> = None;
                for page in fields::long_words(payload).take(numbers) {
                    match &mut run {
                        Some((_, end)) if *end == page => *end = page.saturating_add(unit),
                        _ => {
                            pages(text, run.replace((page, page.saturating_add(unit))));
                        }
                    }
                }
                pages(text, run);
            }
            Buffer::Bytes => bytes_of(text, "", payload),
        }
    }
}

fn push(text: &mut String, word: &str) {
    text.push(' ');
    text.push_str(word);
}

/// A run of pages.
fn pages(text: &mut String, run: Option<(u64, u64)>) {
    if let Some((start, end)) = run {
        push(text, &format!("{start:#x}-{end:#x}"));
    }
}

/// A field; nothing for padding as it should be, and for zeros in lists.
fn field(text: &mut String, found: &Found<'_>) {
    let in_list = matches!(found.within, Some((_, Some(_))));
    let padding = matches!(found.value, Value::Pad(_));
    if (in_list || padding) && found.value.is_zero() {
        return;
    }
    let name = match padding {
        true => format!("padding at {}", found.offset),
        false => found.to_string(),
    };
    match found.value {
        Value::Number(number) if found.name == "objtype" => {
            let object = records::object_name(u32::try_from(number).unwrap_or(u32::MAX));
            push(text, &format!("{name}={number}({object})"));
        }
        Value::Number(number) => push(text, &format!("{name}={number}")),
        Value::Signed(number) => push(text, &format!("{name}={number}")),
        Value::Hex(number) => push(text, &format!("{name}={number:#x}")),
        Value::Octal(number) => push(text, &format!("{name}={number:#o}")),
        Value::Limit(u64::MAX) => push(text, &format!("{name}=unlimited")),
        Value::Limit(number) => push(text, &format!("{name}={number}")),
        Value::Set(set) => {
            let numbers: Vec<String> = signals(set).map(|number| number.to_string()).collect();
            push(text, &format!("{name}={{{}}}", numbers.join(",")));
        }
        Value::Tag(tag, ..) => push(text, &format!("{name}={tag}")),
        Value::Text(bytes) => {
            // The text of a failed checkpoint begins with a NUL.
            let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(0);
            let shown = printable(bytes.get(start..).unwrap_or_default());
            match name.is_empty() {
                true => push(text, &format!("\"{shown}\"")),
                false => push(text, &format!("{name}=\"{shown}\"")),
            }
        }
        Value::Bytes(bytes) | Value::Pad(bytes) => bytes_of(text, &name, bytes),
    }
}

/// Bytes, the first of them.
fn bytes_of(text: &mut String, name: &str, bytes: &[u8]) {
    text.push(' ');
    if !name.is_empty() {
        let _ = write!(text, "{name}=");
    }
    for byte in bytes.iter().take(SHOWN) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
}
