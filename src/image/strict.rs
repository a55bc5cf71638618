//! Whether an image is in every byte as the format says: more than a reader asks for.
//!
//! Comes in: an image. Goes out: how much of everything there is, or the first fault with its place.
//! Beyond what [`Reader`] refuses these are faults: records that are not in the table of
//! [`super::fields`], padding that is not zero, strings of another length than the head says, objects
//! and pid objects that nothing refers to, anything behind the last record.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::cursor::Source;
use super::fields::{self, Buffer, Buffers, Found, Need, Value};
use super::records::{self, RecordInfo, Walk};
use super::{ImageHead, Reader};
use crate::error::ImageError;

/// Longest record that is looked at field by field; those that can be longer have no fields.
const LONGEST: u32 = 8 << 20;

/// Bytes of the security module's name, NUL padded.
const LSM_NAME_LEN: u16 = 11;

/// What an image without a fault has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records.
    pub records: u64,
    /// Objects with a tag, the pid objects not among them.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Checks an image, all of it.
///
/// # Errors
/// The fault that comes first in the image, with the record and its offset.
pub fn check<S: Source>(mut source: S) -> Result<Checked, ImageError> {
    let mut reader = Reader::new(&mut source);
    let (head, read) = match reader.head() {
        Ok(head) => {
            let read = reader.body(&head).map(|_| ());
            (Some(head), read)
        }
        Err(error) => (None, Err(error)),
    };
    let end = reader.position();
    // What is behind the reader's fault has not been bounded by anything.
    let stop = read.as_ref().err().and_then(ImageError::offset).unwrap_or(end);
    let mut sweep = Sweep::new(head.as_ref());
    let swept = sweep.run(&mut source, stop);
    swept.and(read)?;
    sweep.unused()?;
    let more = source.read_at(end, &mut [0], 1);
    match more.map_err(|source| ImageError::Read { offset: end, source })? {
        0 => Ok(Checked { bytes: end, ..sweep.seen }),
        _ => Err(bad("TAIL", end, "something stands behind this record, the last")),
    }
}

fn bad(record: &'static str, offset: u64, reason: impl Into<String>) -> ImageError {
    ImageError::Bad { record, offset, reason: reason.into() }
}

/// An object that a tag stands for.
struct Object {
    kind: &'static str,
    /// Offset of the record that gave it the tag.
    offset: u64,
    used: bool,
}

/// One pass over all records.
struct Sweep<'a> {
    head: Option<&'a ImageHead>,
    tags: HashMap<i32, Object>,
    /// Whether anything refers to a pid object.
    pids: Vec<bool>,
    /// Offset of the pid objects.
    pids_at: u64,
    buffers: Buffers,
    seen: Checked,
}

impl<'a> Sweep<'a> {
    fn new(head: Option<&'a ImageHead>) -> Self {
        Sweep {
            head,
            tags: HashMap::new(),
            pids: vec![false; head.map_or(0, |head| head.pids.len())],
            pids_at: 0,
            buffers: Buffers::default(),
            seen: Checked::default(),
        }
    }

    /// Checks the records that begin in front of `stop`.
    fn run<S: Source>(&mut self, source: S, stop: u64) -> Result<(), ImageError> {
        let mut walk = records::walk(source);
        while let Some(record) = walk.next() {
            let offset = record.as_ref().map_or_else(ImageError::offset, |r| Some(r.offset));
            if offset.is_some_and(|offset| offset >= stop) {
                // The reader knows better what should be there.
                break;
            }
            let record = record?;
            self.seen.records += 1;
            self.record(&mut walk, &record)?;
        }
        Ok(())
    }

    fn record<S: Source>(
        &mut self,
        walk: &mut Walk<S>,
        record: &RecordInfo,
    ) -> Result<(), ImageError> {
        let RecordInfo { offset, kind, name, .. } = *record;
        let Some(form) = fields::form(kind) else {
            return Err(bad(name, offset, format!("type {kind} is not in the format")));
        };
        if let Some(buffer) = self.buffers.next(kind) {
            return self.buffer(walk, record, buffer);
        }
        if matches!(form, fields::Form::Bytes | fields::Form::Text) {
            return Ok(());
        }
        if let Some((kind, tag)) = record.objref {
            let object = Object { kind: records::object_name(kind), offset, used: false };
            self.tags.insert(tag, object);
            self.seen.objects += 1;
            return Ok(());
        }
        let bytes = walk.contents(record, LONGEST)?;
        let mut fault = None;
        let visited = fields::visit(form, &bytes, &mut |found| {
            if fault.is_none() {
                fault = self.field(&found, offset).err();
            }
        });
        let reason = visited.err().or(fault);
        reason.map_or(Ok(()), |reason| Err(bad(name, offset, reason)))
    }

    /// Checks a field of the record at `offset`.
    fn field(&mut self, found: &Found<'_>, offset: u64) -> Result<(), String> {
        match found.value {
            Value::Pad(_) if !found.value.is_zero() => {
                Err(format!("byte {} and behind are padding, but not zero", found.offset))
            }
            Value::Tag(tag, kind, need) => {
                self.tag(tag, kind, need, offset).map_err(|reason| format!("{found}: {reason}"))
            }
            _ => Ok(()),
        }
    }

    /// Checks a reference to an object.
    fn tag(&mut self, tag: i32, kind: &'static str, need: Need, at: u64) -> Result<(), String> {
        if tag == 0 && need != Need::Must {
            return Ok(());
        }
        if kind == "PID" && self.pid_object(tag).is_some() {
            return Ok(());
        }
        if let Some(object) = self.tags.get_mut(&tag) {
            object.used = true;
            return match object.kind == kind {
                true => Ok(()),
                false => Err(format!("tag {tag} is a {}, not a {kind}", object.kind)),
            };
        }
        if need != Need::New || tag < 0 || self.pid_object(tag).is_some() {
            return Err(format!("tag {tag} is no {kind}"));
        }
        self.tags.insert(tag, Object { kind, offset: at, used: true });
        self.seen.objects += 1;
        Ok(())
    }

    /// Index of the pid object with this tag.
    fn pid_object(&self, tag: i32) -> Option<usize> {
        let index = i64::from(tag) - i64::from(self.head?.pids.offset);
        usize::try_from(index).ok().filter(|&index| index < self.pids.len())
    }

    fn buffer<S: Source>(
        &mut self,
        walk: &mut Walk<S>,
        record: &RecordInfo,
        buffer: Buffer,
    ) -> Result<(), ImageError> {
        let Some(head) = self.head else { return Ok(()) };
        match buffer {
            Buffer::Text(name) => {
                let [.., release, version, machine, _, _, _, _] = head.header.constants;
                let need = match name {
                    "release" => release,
                    "version" => version,
                    "machine" => machine,
                    _ => LSM_NAME_LEN,
                };
                let bytes = walk.contents(record, LONGEST)?;
                let text = bytes.get(records::HEADER_LEN as usize..).unwrap_or_default();
                if text.len() != usize::from(need) {
                    let reason = format!("{} bytes, must be {need}", text.len());
                    return Err(bad(name, record.offset, reason));
                }
                if text.iter().skip_while(|&&byte| byte != 0).any(|&byte| byte != 0) {
                    return Err(bad(name, record.offset, "something stands behind its NUL"));
                }
            }
            Buffer::Pids => self.pids_at = record.offset,
            Buffer::Tasks => {
                for (index, task) in head.tasks.iter().enumerate() {
                    self.row(task).map_err(|why| {
                        bad("tree_buf", record.offset, format!("task {index}: {why}"))
                    })?;
                }
            }
            Buffer::Auxv | Buffer::Pages | Buffer::Bytes => {}
        }
        Ok(())
    }

    /// Checks the tags of a row of the task table.
    fn row(&mut self, task: &super::TaskIds) -> Result<(), String> {
        let ids = [
            ("pid", task.pid, false),
            ("parent", task.ppid, true),
            ("thread group", task.tgid, false),
            ("process group", task.pgid, true),
            ("session", task.sid, true),
        ];
        for (name, tag, outside) in ids {
            match self.pid_object(tag).and_then(|index| self.pids.get_mut(index)) {
                Some(used) => *used = true,
                None if tag == 0 && outside => {}
                None => return Err(format!("{name}: tag {tag} is no pid object")),
            }
        }
        Ok(())
    }

    /// Finds an object that nothing refers to: the first in the image.
    fn unused(&self) -> Result<(), ImageError> {
        if let (Some(index), Some(head)) = (self.pids.iter().position(|used| !used), self.head) {
            let tag = i64::from(head.pids.offset) + index as i64;
            let reason = format!("no task refers to the pid object with tag {tag}");
            return Err(bad("pids_buf", self.pids_at, reason));
        }
        let unused = self.tags.iter().filter(|(_, object)| !object.used);
        match unused.min_by_key(|(_, object)| object.offset) {
            Some((tag, object)) => {
                let reason = format!("nothing refers to the {} with tag {tag}", object.kind);
                Err(bad(records::OBJREF.name, object.offset, reason))
            }
            None => Ok(()),
        }
    }
}
