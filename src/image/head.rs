//! The head of an image: twelve records, and our own behind them.
//!
//! Goes out: an [`ImageHead`] whose tables are complete and consistent in size. Whether the tags in
//! them make sense is for the plan to judge.
#![forbid(unsafe_code)]

use super::cursor::{Cursor, Header as RecordHeader, Source, arrays};
use super::records::{self, Kind};
use super::{Arch, Header, ImageHead, PidTable, TaskIds, extra};
use crate::error::ImageError;

/// Most bytes of a string record's payload: the historic reader takes records of 4096 bytes.
const STRING_MOST: u32 = 4096 - records::HEADER_LEN;
/// Most bytes that the header may promise for a string.
const UTS_MOST: u16 = 1024;
/// Most bytes of the LSM_INFO payload.
const LSM_INFO_MOST: u32 = 200;

/// Most pid objects and most tasks: more pids than these no kernel gives at once (PID_MAX_LIMIT).
const PIDS_MOST: u32 = 1 << 22;
/// Most pid namespaces inside each other, as in the kernel.
const DEPTH_MOST: u32 = 32;

/// Reads the head. The cursor is then in front of the first task.
pub(crate) fn read<S: Source>(cursor: &mut Cursor<S>) -> Result<ImageHead, ImageError> {
    let mut header = header(cursor)?;
    header.release = string(cursor, "release")?;
    header.version = string(cursor, "version")?;
    header.machine = string(cursor, "machine")?;
    let arch = arch(cursor)?;
    let container = expect(cursor, records::CONTAINER, "CONTAINER")?;
    cursor.fixed::<8>(&container, "CONTAINER")?;
    let lsm_name = string(cursor, "lsm_name")?;
    let info = expect(cursor, records::LSM_INFO, "LSM_INFO")?;
    let lsm_info = cursor.payload(&info, "LSM_INFO", LSM_INFO_MOST)?;
    let pids = pids(cursor)?;
    let tasks = tasks(cursor)?;
    let extra = extra::read_head(cursor)?;
    Ok(ImageHead { header, arch, lsm_name, lsm_info, pids, tasks, extra })
}

/// The header of the next record, which must be of this kind.
fn expect<S: Source>(
    cursor: &mut Cursor<S>,
    kind: Kind,
    name: &'static str,
) -> Result<RecordHeader, ImageError> {
    let header = cursor.header(name)?;
    if header.kind == records::ERROR.number {
        return Err(super::reader::failed(cursor, &header));
    }
    if header.kind != kind.number {
        let found = records::name(header.kind);
        return Err(header.bad(
            name,
            format!("record of type {} ({found}), must be {}", header.kind, kind.number),
        ));
    }
    Ok(header)
}

/// The HEADER record; the strings are still missing.
fn header<S: Source>(cursor: &mut Cursor<S>) -> Result<Header, ImageError> {
    let at = expect(cursor, records::HEADER, "HEADER")?;
    let record = cursor.fixed::<72>(&at, "HEADER")?;
    let magic = record.u64::<8>();
    if magic != records::MAGIC_HEAD {
        return Err(record.bad(format!("magic {magic:#018x}: not a checkpoint image")));
    }
    let rev = record.u16::<24>();
    if rev != records::REV {
        return Err(record.bad(format!("format version {rev}, must be {}", records::REV)));
    }
    let mut constants = [0; 12];
    for (to, from) in constants.iter_mut().zip(arrays(&record.bytes::<32, 24>())) {
        *to = u16::from_le_bytes(*from);
    }
    // Release, version, machine.
    if let Some(len) = constants[5..8].iter().find(|&&len| len > UTS_MOST) {
        return Err(record.bad(format!("length of a uts string {len}, at most {UTS_MOST}")));
    }
    Ok(Header {
        arch_id: record.u16::<16>(),
        kernel: [record.u16::<18>(), record.u16::<20>(), record.u16::<22>()],
        rev,
        constants,
        time: record.u64::<56>(),
        uflags: record.u64::<64>(),
        release: Vec::new(),
        version: Vec::new(),
        machine: Vec::new(),
    })
}

/// A BUFFER record that holds a NUL-padded string: without the padding.
fn string<S: Source>(cursor: &mut Cursor<S>, name: &'static str) -> Result<Vec<u8>, ImageError> {
    let header = expect(cursor, records::BUFFER, name)?;
    if header.payload() == 0 {
        return Err(header.bad(name, "is empty"));
    }
    let mut text = cursor.payload(&header, name, STRING_MOST)?;
    let len = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.truncate(len);
    Ok(text)
}

fn arch<S: Source>(cursor: &mut Cursor<S>) -> Result<Arch, ImageError> {
    let header = expect(cursor, records::HEADER_ARCH, "HEADER_ARCH")?;
    let record = cursor.fixed::<16>(&header, "HEADER_ARCH")?;
    let (fxsr, xsave) = (record.u16::<8>(), record.u16::<10>());
    if fxsr > 1 || xsave > 1 {
        return Err(record.bad(format!("has_fxsr {fxsr}, has_xsave {xsave}, must be 0 or 1")));
    }
    Ok(Arch { has_fxsr: fxsr == 1, has_xsave: xsave == 1, xstate_size: record.u16::<12>() })
}

/// The PIDS record and its buffer.
fn pids<S: Source>(cursor: &mut Cursor<S>) -> Result<PidTable, ImageError> {
    let at = expect(cursor, records::PIDS, "PIDS")?;
    let record = cursor.fixed::<24>(&at, "PIDS")?;
    let (objects, inner) = (record.u32::<8>(), record.u32::<12>());
    if objects == 0 || objects > PIDS_MOST {
        return Err(record.bad(format!("{objects} pid objects, must be 1 to {PIDS_MOST}")));
    }
    let inner_most = u64::from(objects) * u64::from(DEPTH_MOST);
    if u64::from(inner) > inner_most {
        return Err(record.bad(format!("{inner} inner pid numbers, at most {inner_most}")));
    }
    let buffer = expect(cursor, records::BUFFER, "pids_buf")?;
    let promised = u64::from(objects) * 8 + u64::from(inner) * 4;
    if u64::from(buffer.payload()) != promised {
        return Err(buffer.bad(
            "pids_buf",
            format!(
                "{} bytes, {objects} pid objects and {inner} inner numbers need {promised}",
                buffer.payload()
            ),
        ));
    }
    let bytes = cursor.payload(&buffer, "pids_buf", u32::MAX)?;
    // Every object takes 8 bytes that were just read, so this allocates no more than they did.
    let mut table = PidTable { offset: record.i32::<16>(), ..PidTable::default() };
    table.starts.reserve_exact(objects as usize + 1);
    table.numbers.reserve_exact(objects as usize + inner as usize);
    let mut rest = bytes.as_slice();
    let mut numbers = Vec::new();
    for index in 0..objects {
        let Some((depth, behind)) = rest.split_first_chunk::<4>() else {
            return Err(buffer.bad("pids_buf", format!("ends before object {index}")));
        };
        let depth = u32::from_le_bytes(*depth);
        let len = (u64::from(depth) + 1) * 4;
        let Some((words, behind)) =
            usize::try_from(len).ok().and_then(|len| behind.split_at_checked(len))
        else {
            return Err(buffer.bad(
                "pids_buf",
                format!("object {index}: depth {depth} runs past the end of the buffer"),
            ));
        };
        numbers.clear();
        numbers.extend(arrays(words).map(|&word| i32::from_le_bytes(word)));
        table.push(&numbers);
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(
            buffer.bad("pids_buf", format!("{} bytes behind the last pid object", rest.len()))
        );
    }
    Ok(table)
}

/// The TREE record and its buffer.
fn tasks<S: Source>(cursor: &mut Cursor<S>) -> Result<Vec<TaskIds>, ImageError> {
    let at = expect(cursor, records::TREE, "TREE")?;
    let record = cursor.fixed::<16>(&at, "TREE")?;
    let count = record.u32::<8>();
    if count == 0 || count > PIDS_MOST {
        return Err(record.bad(format!("{count} tasks, must be 1 to {PIDS_MOST}")));
    }
    let buffer = expect(cursor, records::BUFFER, "tree_buf")?;
    let promised = u64::from(count) * 24;
    if u64::from(buffer.payload()) != promised {
        return Err(buffer.bad(
            "tree_buf",
            format!("{} bytes, {count} tasks need {promised}", buffer.payload()),
        ));
    }
    let bytes = cursor.payload(&buffer, "tree_buf", u32::MAX)?;
    Ok(arrays(&bytes).map(row).collect())
}

/// One row of the task table.
fn row(bytes: &[u8; 24]) -> TaskIds {
    let mut words = [0; 6];
    for (to, from) in words.iter_mut().zip(arrays(bytes)) {
        *to = i32::from_le_bytes(*from);
    }
    let [pid, ppid, tgid, pgid, sid, depth] = words;
    TaskIds { pid, ppid, tgid, pgid, sid, depth: depth as u32 }
}
