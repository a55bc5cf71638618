//! What is in each record: names, places and types of its fields, as data.
//!
//! Comes in: the bytes of a record. Goes out: its fields one by one, padding included, or why its
//! length cannot be. Nothing is decided here about what the values mean. The command
//! `usercr info --records` and [`super::strict`] read records by this table.
#![forbid(unsafe_code)]

mod table;

use std::fmt;

use super::cursor::arrays;
use super::records::{self, HEADER_LEN};

/// A struct of the format: a record or a part of one.
#[derive(Debug)]
pub struct Struct {
    /// Name in the published headers; of records of our own the record's name in lower case.
    pub name: &'static str,
    /// Bytes.
    pub size: u32,
    /// By offset; what they leave out is padding.
    pub fields: &'static [Field],
}

/// A field of a struct.
#[derive(Debug)]
pub struct Field {
    /// Name in the published headers.
    pub name: &'static str,
    /// Offset in the struct, in bytes.
    pub offset: u32,
    /// What is there.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A number of so many bytes.
    Number(u32),
    /// A number with a sign.
    Signed(u32),
    /// A number that people read in hexadecimal: an address, flags.
    Hex(u32),
    /// A file mode of 32 bits.
    Octal,
    /// A limit of 64 bits, all ones for none.
    Limit,
    /// A set of signals: bit n - 1 of 64 is signal n.
    Set,
    /// The tag of an object of this type.
    Tag(&'static str, Need),
    /// So many bytes of text, padded with NULs.
    Text(u32),
    /// So many bytes.
    Bytes(u32),
    /// So many bytes that must be zero, though they have a name.
    Pad(u32),
    /// Structs one after the other.
    Struct(&'static Struct, u32),
}

/// Whether a field must name an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One that is there.
    Must,
    /// One that is there, or 0 for none.
    May,
    /// As `May`; a tag that nothing has yet is given to an object that has no OBJREF.
    New,
}

impl Kind {
    /// Bytes.
    pub fn size(&self) -> u32 {
        match self {
            Kind::Number(n) | Kind::Signed(n) | Kind::Hex(n) => *n,
            Kind::Text(n) | Kind::Bytes(n) | Kind::Pad(n) => *n,
            Kind::Octal | Kind::Tag(..) => 4,
            Kind::Limit | Kind::Set => 8,
            Kind::Struct(of, count) => of.size.saturating_mul(*count),
        }
    }
}

/// What the payload of a record is.
#[derive(Debug)]
pub enum Form {
    /// One struct.
    Fields(&'static Struct),
    /// A struct and a list.
    List(&'static Struct, List),
    /// A struct that the value of its first field, of 32 bits, selects.
    Selected(&'static [(u32, &'static Struct)]),
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Nobody ever wrote it.
    Never,
}

/// The list at the end of a record.
#[derive(Debug)]
pub struct List {
    /// What it is a list of.
    pub name: &'static str,
    /// Offset in the record, in bytes.
    pub offset: u32,
    /// One entry.
    pub entry: Kind,
    /// How many.
    pub count: Count,
    /// Unused bytes behind the last entry.
    pub behind: u32,
}

/// How many entries a list has.
#[derive(Debug)]
pub enum Count {
    /// Always so many.
    Always(u32),
    /// As the field of 32 bits at this offset in the record says.
    At(u32),
    /// As many as there is room for.
    Rest,
}

/// What the payload of a record of this type is; `None` where there is no such type.
pub fn form(number: u32) -> Option<&'static Form> {
    table::FORMS.iter().find(|(kind, _)| kind.number == number).map(|(_, form)| form)
}

/// A field that was found in a record.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where it is: the field or list that the struct belongs to, if it is in one, and which entry.
    pub within: Option<(&'static str, Option<u32>)>,
    /// Name of the field; of padding without a name it is empty.
    pub name: &'static str,
    /// Offset in the record, in bytes.
    pub offset: u32,
    /// What it says.
    pub value: Value<'a>,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A number with a sign.
    Signed(i64),
    /// A number that people read in hexadecimal.
    Hex(u64),
    /// A file mode.
    Octal(u64),
    /// A limit; `u64::MAX` is none.
    Limit(u64),
    /// A set of signals; bit n - 1 is signal n.
    Set(u64),
    /// The tag of an object of a type.
    Tag(i32, &'static str, Need),
    /// Text; what is behind its first NUL belongs to it.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes that must be zero.
    Pad(&'a [u8]),
}

impl Value<'_> {
    /// Whether it is zero, or empty, in every byte.
    pub fn is_zero(&self) -> bool {
        match self {
            Value::Number(n) | Value::Hex(n) | Value::Octal(n) => *n == 0,
            Value::Limit(n) | Value::Set(n) => *n == 0,
            Value::Signed(n) => *n == 0,
            Value::Tag(tag, ..) => *tag == 0,
            Value::Text(bytes) | Value::Bytes(bytes) | Value::Pad(bytes) => {
                bytes.iter().all(|&b| b == 0)
            }
        }
    }
}

/// The field's name, with the struct that it is in: `rlim[7].rlim_cur`.
impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            Some((outer, Some(index))) => write!(f, "{outer}[{index}]")?,
            Some((outer, None)) => f.write_str(outer)?,
            None => {}
        }
        if self.within.is_some() && !self.name.is_empty() {
            f.write_str(".")?;
        }
        f.write_str(self.name)
    }
}

/// Goes through the fields of a record of this form, in the order of their offsets.
/// `record` is all of it, its header too.
///
/// # Errors
/// The record has another length than its form; then no field was visited.
pub fn visit<'a>(
    form: &Form,
    record: &'a [u8],
    each: &mut dyn FnMut(Found<'a>),
) -> Result<(), String> {
    let header = HEADER_LEN as usize;
    match form {
        Form::Fields(of) => {
            exactly(record, u64::from(of.size))?;
            fields(of, of.size, record, 0, None, each);
        }
        Form::Selected(structs) => {
            let number = number(record, HEADER_LEN).ok_or_else(|| short(record))?;
            let known = structs.iter().find(|(selector, _)| *selector == number);
            let (_, of) = known.ok_or_else(|| format!("type {number} is not known"))?;
            exactly(record, u64::from(of.size))?;
            fields(of, of.size, record, 0, None, each);
        }
        Form::List(head, list) => {
            let count = match list.count {
                Count::Always(count) => count,
                Count::At(offset) => number(record, offset).ok_or_else(|| short(record))?,
                Count::Rest => {
                    let bytes = (record.len() as u32).saturating_sub(list.offset + list.behind);
                    bytes / list.entry.size().max(1)
                }
            };
            let bytes = u64::from(count) * u64::from(list.entry.size());
            exactly(record, u64::from(list.offset) + bytes + u64::from(list.behind))?;
            fields(head, list.offset, record, 0, None, each);
            for index in 0..count {
                let offset = list.offset + index * list.entry.size();
                one(&list.entry, record, offset, Some((list.name, Some(index))), "", each);
            }
            let end = list.offset + bytes as u32;
            pad(record, end, end + list.behind, None, each);
        }
        Form::Text | Form::Bytes => {
            let payload = record.get(header..).unwrap_or_default();
            let value = match form {
                Form::Text => Value::Text(payload),
                _ => Value::Bytes(payload),
            };
            each(Found { within: None, name: "", offset: HEADER_LEN, value });
        }
        Form::Never => return Err("nobody writes records of this type".into()),
    }
    Ok(())
}

fn exactly(record: &[u8], need: u64) -> Result<(), String> {
    match record.len() as u64 == need {
        true => Ok(()),
        false => Err(format!("length {}, must be {need}", record.len())),
    }
}

fn short(record: &[u8]) -> String {
    format!("length {}, too short", record.len())
}

/// The number of 32 bits at an offset.
fn number(record: &[u8], offset: u32) -> Option<u32> {
    let bytes = record.get(offset as usize..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The fields of a struct that begins at `base`, and its padding as far as `size`.
fn fields<'a>(
    of: &Struct,
    size: u32,
    record: &'a [u8],
    base: u32,
    within: Option<(&'static str, Option<u32>)>,
    each: &mut dyn FnMut(Found<'a>),
) {
    // The header of a record is no field.
    let mut end = base.max(HEADER_LEN);
    for field in of.fields {
        let offset = base + field.offset;
        pad(record, end, offset, within, each);
        one(&field.kind, record, offset, within, field.name, each);
        end = end.max(offset + field.kind.size());
    }
    pad(record, end, base + size, within, each);
}

/// A field, or an entry of a list; or the fields in it.
fn one<'a>(
    kind: &Kind,
    record: &'a [u8],
    offset: u32,
    within: Option<(&'static str, Option<u32>)>,
    name: &'static str,
    each: &mut dyn FnMut(Found<'a>),
) {
    if let Kind::Struct(of, count) = kind {
        for index in 0..*count {
            let within = match (name, count) {
                // A list's entry; a struct that others begin with.
                ("" | "common", _) => within,
                (name, 1) => Some((name, None)),
                (name, _) => Some((name, Some(index))),
            };
            fields(of, of.size, record, offset + index * of.size, within, each);
        }
        return;
    }
    let end = offset.saturating_add(kind.size()) as usize;
    let bytes = record.get(offset as usize..end).unwrap_or_default();
    each(Found { within, name, offset, value: value(kind, bytes) });
}

/// Padding from one offset to another, if there is any between them.
fn pad<'a>(
    record: &'a [u8],
    from: u32,
    to: u32,
    within: Option<(&'static str, Option<u32>)>,
    each: &mut dyn FnMut(Found<'a>),
) {
    if let Some(bytes) = record.get(from as usize..to as usize).filter(|bytes| !bytes.is_empty()) {
        each(Found { within, name: "", offset: from, value: Value::Pad(bytes) });
    }
}

fn value<'a>(kind: &Kind, bytes: &'a [u8]) -> Value<'a> {
    let mut number = 0u64;
    for &byte in bytes.iter().take(8).rev() {
        number = number << 8 | u64::from(byte);
    }
    // The sign bit of a number of so many bytes goes to the top, and comes back with copies of it.
    let unused = 64u32.saturating_sub(8 * bytes.len() as u32).min(63);
    let signed = (number << unused) as i64 >> unused;
    match kind {
        Kind::Number(_) => Value::Number(number),
        Kind::Signed(_) => Value::Signed(signed),
        Kind::Hex(_) => Value::Hex(number),
        Kind::Octal => Value::Octal(number),
        Kind::Limit => Value::Limit(number),
        Kind::Set => Value::Set(number),
        Kind::Tag(object, need) => Value::Tag(signed as i32, object, *need),
        Kind::Text(_) => Value::Text(bytes),
        Kind::Bytes(_) | Kind::Struct(..) => Value::Bytes(bytes),
        Kind::Pad(_) => Value::Pad(bytes),
    }
}

/// What a BUFFER record holds: that depends on the records in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// Text, padded with NULs.
    Text(&'static str),
    /// Pid objects.
    Pids,
    /// The task table.
    Tasks,
    /// An auxiliary vector.
    Auxv,
    /// Numbers of pages, and the pages.
    Pages,
    /// Bytes that nothing here knows more about.
    Bytes,
}

/// Follows the records of an image, to tell what its BUFFER records hold.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Number of the last record that was neither BUFFER nor OBJREF.
    last: u32,
    /// BUFFER records behind it.
    seen: u32,
}

impl Buffers {
    /// The next record is of this type: what it holds, if it is a BUFFER.
    pub fn next(&mut self, number: u32) -> Option<Buffer> {
        if number == records::OBJREF.number {
            return None;
        }
        if number != records::BUFFER.number {
            (self.last, self.seen) = (number, 0);
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        const FIRST: u32 = 1;
        Some(match (records::name(self.last), self.seen) {
            ("HEADER", FIRST) => Buffer::Text("release"),
            ("HEADER", 2) => Buffer::Text("version"),
            ("HEADER", 3) => Buffer::Text("machine"),
            ("CONTAINER", FIRST) => Buffer::Text("lsm_name"),
            ("PIDS", FIRST) => Buffer::Pids,
            ("TREE", FIRST) => Buffer::Tasks,
            ("MM", FIRST) => Buffer::Auxv,
            ("PGARR", FIRST) => Buffer::Pages,
            _ => Buffer::Bytes,
        })
    }
}

/// The words of 32 bits in bytes.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = i32> + '_ {
    arrays(bytes).map(|&word| i32::from_le_bytes(word))
}

/// The words of 64 bits in bytes.
pub fn long_words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    arrays(bytes).map(|&word| u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields as text, name and value.
    fn shown(form: &Form, record: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        visit(form, record, &mut |found| all.push(format!("{found}={:?}", found.value))).unwrap();
        all
    }

    fn record(len: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, field) in fields {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    #[test]
    fn numbers_signs_and_padding() {
        let form = form(records::FILE_TABLE.number).unwrap();
        let bytes = record(16, &[(8, &[0xfe, 0xff, 0xff, 0xff]), (13, &[7])]);
        assert_eq!(shown(form, &bytes), ["fdt_nfds=Signed(-2)", "=Pad([0, 7, 0, 0])"]);
        let error = visit(form, &bytes[..15], &mut |_| panic!("visited")).unwrap_err();
        assert_eq!(error, "length 15, must be 16");
    }

    #[test]
    fn lists_and_what_is_behind_them() {
        let form = form(records::GROUPINFO.number).unwrap();
        let bytes = record(24, &[(8, &[2]), (12, &[5]), (16, &[9]), (20, &[1])]);
        let expected = [
            "ngroups=Number(2)",
            "groups[0]=Number(5)",
            "groups[1]=Number(9)",
            "=Pad([1, 0, 0, 0])",
        ];
        assert_eq!(shown(form, &bytes), expected);
        let huge = record(16, &[(8, &[0xff; 4])]);
        let error = visit(form, &huge, &mut |_| panic!("visited")).unwrap_err();
        assert_eq!(error, "length 16, must be 17179869196");
        assert!(visit(form, &huge[..10], &mut |_| panic!("visited")).is_err());
    }

    #[test]
    fn structs_in_structs() {
        let form = form(records::FILE.number).unwrap();
        let bytes = record(56, &[(8, &[2]), (20, &[9]), (48, &[3])]);
        let seen = shown(form, &bytes);
        assert_eq!(seen[0], "f_type=Number(2)");
        assert_eq!(seen[3], "f_credref=Tag(9, \"CRED\", Must)");
        assert_eq!(seen[8], "pipe_objref=Tag(3, \"INODE\", New)");
        let unknown = record(56, &[(8, &[99])]);
        assert_eq!(visit(form, &unknown, &mut |_| {}).unwrap_err(), "type 99 is not known");
        let signal = super::form(records::SIGNAL.number).unwrap();
        let seen = shown(signal, &record(328, &[(8 + 16 * 3, &[0xff; 8])]));
        assert_eq!(seen[6], "rlim[3].rlim_cur=Limit(18446744073709551615)");
    }

    #[test]
    fn buffers_are_known_by_what_is_in_front() {
        let mut buffers = Buffers::default();
        let mut next = |kind: records::Kind| buffers.next(kind.number);
        assert_eq!(next(records::HEADER), None);
        assert_eq!(next(records::BUFFER), Some(Buffer::Text("release")));
        assert_eq!(next(records::BUFFER), Some(Buffer::Text("version")));
        assert_eq!(next(records::PGARR), None);
        assert_eq!(next(records::OBJREF), None);
        assert_eq!(next(records::BUFFER), Some(Buffer::Pages));
        assert_eq!(next(records::BUFFER), Some(Buffer::Bytes));
    }
}
