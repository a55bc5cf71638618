//! Open files, descriptor tables, current directories.
#![forbid(unsafe_code)]

use super::kinds::{self, Front};
use super::locks;
use super::sockets;
use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source};
use crate::image::{Descriptor, FileKind, FileTable, Fs, OpenFile, Pipe, ProcessLock, records};

/// Most bytes of a path, its NUL included.
const PATH_MOST: u32 = 4096;
/// Most bytes in a pipe: what an unprivileged F_SETPIPE_SZ can reach.
const PIPE_MOST: u32 = 1 << 20;
/// Largest descriptor: the kernel's limits are lower by far.
pub(super) const DESCRIPTOR_MOST: i32 = 1 << 30;
/// Flags of open(2) that an open file does not keep.
const NEVER_KEPT: u32 = (libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC) as u32;

/// Types of files, in the order of their numbers.
const TYPES: [&str; 8] =
    ["nothing", "a file", "a pipe", "a fifo", "a socket", "a terminal", "epoll", "an eventfd"];

/// A descriptor table.
pub(super) fn table<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<16>(records::FILE_TABLE)?;
    let count = record.i32::<8>();
    if count < 0 {
        return Err(record.bad(format!("{count} descriptors")));
    }
    let mut descriptors: Vec<Descriptor> = Vec::new();
    let mut process_locks = Vec::new();
    for _ in 0..count {
        let mut held = Vec::new();
        while let header = parser.next(records::FILE_DESC.name)?
            && header.kind == records::FILE_LOCK.number
        {
            let record = parser.cursor.fixed::<32>(&header, records::FILE_LOCK.name)?;
            held.push(locks::lock(&record, true)?);
        }
        let record = parser.fixed::<24>(records::FILE_DESC)?;
        let (fd, cloexec) = (record.i32::<12>(), record.u32::<16>());
        let lowest = descriptors.last().map_or(0, |last| i64::from(last.fd) + 1);
        if i64::from(fd) < lowest || fd > DESCRIPTOR_MOST {
            return Err(record.bad(format!("descriptor {fd}, must be {lowest} or more")));
        }
        if cloexec > 1 {
            return Err(record.bad(format!("close on exec {cloexec}, must be 0 or 1")));
        }
        let file = parser.index(&record, record.i32::<8>(), ObjectKind::File)?;
        descriptors.push(Descriptor { fd, file, cloexec: cloexec == 1 });
        process_locks.extend(held.into_iter().map(|lock| ProcessLock { fd, lock }));
    }
    sockets::waiting(parser)?;
    Ok(add(
        &mut parser.out.file_tables,
        ObjectKind::FileTable,
        FileTable { descriptors, locks: process_locks },
    ))
}

/// An open file.
pub(super) fn file<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let front = kinds::front(parser)?;
    let header = parser.expect(records::FILE)?;
    let record = parser.cursor.at_most::<64>(&header, records::FILE.name)?;
    let number = record.u32::<8>();
    let need = match number {
        1 | 6 => 48,
        2..=5 => 56,
        7 => 64,
        _ => return Err(record.bad(format!("file of type {number}"))),
    };
    if header.len != need {
        return Err(record.bad(format!("length {}, must be {need}", header.len)));
    }
    let (flags, pos) = (record.u32::<16>(), record.u64::<24>());
    if flags & NEVER_KEPT != 0 {
        return Err(record.bad(format!("flags {flags:#o}, an open file has not all of these")));
    }
    if pos > i64::MAX as u64 {
        return Err(record.bad(format!("position {pos}")));
    }
    let cred = parser.index(&record, record.i32::<20>(), ObjectKind::Cred)?;
    if record.i32::<40>() != 0 {
        return Err(record.unsupported("security labels"));
    }
    if front.pipe.is_some() && !matches!(number, 2 | 3) || front.was.is_some() && number != 1 {
        return Err(record.bad(format!("type {number} does not go with what is in front of it")));
    }
    let (was, locks, owner) = (front.was, front.locks.clone(), front.owner);
    let kind = match (number, front.kind.clone()) {
        (1, Some(kind)) => {
            path(parser)?;
            kind
        }
        (_, Some(_)) => {
            return Err(record.bad(format!("file of type {number} that is something else too")));
        }
        (1, None) => FileKind::Named { path: path(parser)? },
        (2, None) => FileKind::Pipe { pipe: pipe(parser, &record, front)? },
        (3, None) => {
            let path = path(parser)?;
            FileKind::Fifo { pipe: pipe(parser, &record, front)?, path }
        }
        (4, None) => FileKind::Socket {
            socket: parser.index(&record, record.i32::<48>(), ObjectKind::Socket)?,
        },
        (5, None) => match parser.find(record.i32::<48>()) {
            Some((ObjectKind::TtyMaster, pty)) => {
                if parser.out.ptys.get(pty).is_some_and(|pty| pty.outside.is_some()) {
                    return Err(record.bad("the master of a terminal from outside is open"));
                }
                FileKind::Tty { pty, master: true }
            }
            _ => FileKind::Tty {
                pty: parser.index(&record, record.i32::<48>(), ObjectKind::TtySlave)?,
                master: false,
            },
        },
        (6, None) => FileKind::Epoll { items: Vec::new() },
        (7, None) => event_fd(&record)?,
        _ => {
            let name = TYPES.get(number as usize).copied().unwrap_or_default();
            return Err(record.unsupported(format!("file of type {number} ({name})")));
        }
    };
    let file = OpenFile { kind, mode: record.u32::<12>(), flags, pos, cred, was, locks, owner };
    Ok(add(&mut parser.out.files, ObjectKind::File, file))
}

/// What a FILE record says of an eventfd.
fn event_fd(record: &Fixed<64>) -> Result<FileKind, ImageError> {
    let (count, flags) = (record.u64::<48>(), record.i32::<56>());
    let others = flags & !(libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
    if count == u64::MAX || others != 0 {
        return Err(record.bad(format!("an eventfd with count {count} and flags {flags:#x}")));
    }
    Ok(FileKind::EventFd { count, semaphore: flags & libc::EFD_SEMAPHORE != 0 })
}

/// The pipe that this FILE record is an end of; what is in it comes with the first end.
fn pipe<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<64>,
    front: Front,
) -> Result<usize, ImageError> {
    let tag = record.i32::<48>();
    if tag <= 0 {
        return Err(record.bad(format!("tag {tag} of the pipe, must be positive")));
    }
    if parser.find(tag).is_some() {
        if front.pipe.is_some() {
            return Err(record.bad("the state of the pipe comes twice"));
        }
        return parser.index(record, tag, ObjectKind::PipeInode);
    }
    let header = parser.expect(records::PIPE_BUF)?;
    let data = parser.cursor.payload(&header, records::PIPE_BUF.name, PIPE_MOST)?;
    let pipe = front.pipe.unwrap_or_default();
    let total: u64 = pipe.packets.iter().map(|&length| u64::from(length)).sum();
    if !pipe.packets.is_empty() && total != data.len() as u64 {
        let reason = format!("{} bytes, in packets {total}", data.len());
        return Err(header.bad(records::PIPE_BUF.name, reason));
    }
    let pipe = Pipe { data, ..pipe };
    let pipe = add(&mut parser.out.pipes, ObjectKind::PipeInode, pipe);
    // An object in front of the PIPE_BUF may have taken the tag.
    parser.define(record, tag, pipe)?;
    Ok(pipe.1)
}

/// Current and root directory.
pub(super) fn fs<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<16>(records::FS)?;
    let umask = record.u32::<8>();
    if umask > 0o777 {
        return Err(record.bad(format!("umask {umask:#o}, at most 0o777")));
    }
    let (cwd, root) = (path(parser)?, path(parser)?);
    Ok(add(&mut parser.out.fss, ObjectKind::Fs, Fs { umask, cwd, root }))
}

/// A FILE_NAME record: an absolute path, without its NUL.
pub(super) fn path<S: Source>(parser: &mut Parser<'_, S>) -> Result<Vec<u8>, ImageError> {
    absolute(parser, records::FILE_NAME)
}

/// A record of this kind that is an absolute path, without its NUL.
pub(super) fn absolute<S: Source>(
    parser: &mut Parser<'_, S>,
    kind: records::Kind,
) -> Result<Vec<u8>, ImageError> {
    let name = kind.name;
    let header = parser.expect(kind)?;
    let mut path = parser.cursor.payload(&header, name, PATH_MOST)?;
    if path.iter().position(|&byte| byte == 0) != path.len().checked_sub(1) || path.is_empty() {
        return Err(header.bad(name, "must have one NUL, at its end"));
    }
    path.pop();
    if path.first() != Some(&b'/') {
        return Err(header.bad(name, "must be an absolute path"));
    }
    Ok(path)
}
