//! Records of our own in front of a FILE: what is open where version 6 has no type for it.
#![forbid(unsafe_code)]

use super::{Parser, files, locks, unnamed};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source};
use crate::image::{FileKind, FileLock, FileOwner, Pipe, TimerFd, Was, Watch, records};

/// Flags of timerfd_settime(2).
const TIMER_FLAGS: u32 = (libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET) as u32;

/// What stands in front of a FILE.
#[derive(Debug, Default)]
pub(super) struct Front {
    /// What is open; the FILE is then of type 1, with a path that is not looked at.
    pub kind: Option<FileKind>,
    /// What the path led to.
    pub was: Option<Was>,
    /// What is known of a pipe, but for its contents.
    pub pipe: Option<Pipe>,
    /// Locks that belong to the open file.
    pub locks: Vec<FileLock>,
    /// Who gets signals about it.
    pub owner: Option<FileOwner>,
}

/// Reads it. The cursor is then in front of the record behind, which should be the FILE.
pub(super) fn front<S: Source>(parser: &mut Parser<'_, S>) -> Result<Front, ImageError> {
    let mut front = Front::default();
    loop {
        let header = parser.next(records::FILE.name)?;
        let name = records::name(header.kind);
        let kind = if header.kind == records::TIMERFD.number {
            FileKind::TimerFd(timer_fd(&parser.cursor.fixed::<40>(&header, name)?)?)
        } else if header.kind == records::SIGNALFD.number {
            let record = parser.cursor.fixed::<16>(&header, name)?;
            FileKind::SignalFd { mask: record.u64::<8>() }
        } else if header.kind == records::PIDFD.number {
            let record = parser.cursor.fixed::<16>(&header, name)?;
            pid_fd(parser, &record)?
        } else if header.kind == records::INOTIFY.number {
            let record = parser.cursor.fixed::<16>(&header, name)?;
            FileKind::Inotify { watches: watches(parser, &record)? }
        } else if header.kind == records::UNNAMED.number {
            let record = parser.cursor.fixed::<16>(&header, name)?;
            FileKind::Unnamed { inode: unnamed::unnamed(parser, &record)? }
        } else if header.kind == records::FILE_WAS.number {
            let was = unnamed::was(&parser.cursor.fixed::<40>(&header, name)?)?;
            if front.was.replace(was).is_some() {
                return Err(header.bad(name, "comes twice"));
            }
            continue;
        } else if header.kind == records::PIPE_STATE.number {
            let pipe = unnamed::pipe_state(&parser.cursor.fixed::<16>(&header, name)?)?;
            if front.pipe.replace(pipe).is_some() {
                return Err(header.bad(name, "comes twice, or behind the packets"));
            }
            continue;
        } else if header.kind == records::PIPE_PACKETS.number {
            let packets = unnamed::packets(parser, &header)?;
            let pipe = front.pipe.get_or_insert_default();
            if !std::mem::replace(&mut pipe.packets, packets).is_empty() {
                return Err(header.bad(name, "comes twice"));
            }
            continue;
        } else if header.kind == records::FILE_LOCK.number {
            let record = parser.cursor.fixed::<32>(&header, name)?;
            front.locks.push(locks::lock(&record, false)?);
            continue;
        } else if header.kind == records::FILE_OWNER.number {
            let record = parser.cursor.fixed::<24>(&header, name)?;
            if front.owner.replace(locks::owner(parser, &record)?).is_some() {
                return Err(header.bad(name, "comes twice"));
            }
            continue;
        } else {
            return Ok(front);
        };
        if front.kind.replace(kind).is_some() {
            return Err(header.bad(name, "the file is something else already"));
        }
    }
}

fn timer_fd(record: &Fixed<40>) -> Result<TimerFd, ImageError> {
    let timer = TimerFd {
        clock: record.u32::<8>(),
        flags: record.u32::<12>(),
        value: record.u64::<16>(),
        interval: record.u64::<24>(),
        ticks: record.u64::<32>(),
    };
    if TimerFd::CLOCKS.iter().all(|&clock| timer.clock != clock as u32) {
        return Err(record.bad(format!("clock {}", timer.clock)));
    }
    if timer.flags & !TIMER_FLAGS != 0 {
        return Err(record.bad(format!("flags {:#x}", timer.flags)));
    }
    Ok(timer)
}

/// A PIDFD: of a thread, or of the leader of a process.
fn pid_fd<S: Source>(parser: &Parser<'_, S>, record: &Fixed<16>) -> Result<FileKind, ImageError> {
    let (tag, thread) = (record.i32::<8>(), record.u32::<12>());
    if thread > 1 {
        return Err(record.bad(format!("thread {thread}, must be 0 or 1")));
    }
    let task = parser.rows.get(&tag).copied();
    let row = task.and_then(|task| parser.head.tasks.get(task));
    match (task, row) {
        (Some(task), Some(row)) if thread == 1 || row.pid == row.tgid => {
            Ok(FileKind::PidFd { task, thread: thread == 1 })
        }
        (Some(_), _) => Err(record.bad(format!("tag {tag} leads no process"))),
        (None, _) => Err(record.bad(format!("tag {tag} is the pid of no task"))),
    }
}

/// The WATCHes behind an INOTIFY.
fn watches<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<16>,
) -> Result<Vec<Watch>, ImageError> {
    let count = record.u32::<8>();
    if count > Watch::MOST as u32 {
        return Err(record.bad(format!("{count} watches, at most {}", Watch::MOST)));
    }
    let mut watches: Vec<Watch> = Vec::new();
    for _ in 0..count {
        let record = parser.fixed::<24>(records::WATCH)?;
        let (wd, mask) = (record.i32::<8>(), record.u32::<12>());
        let least = watches.last().map_or(1, |last| last.wd.saturating_add(1));
        if wd < least || wd > Watch::MOST {
            return Err(record.bad(format!("watch {wd}, must be {least} to {}", Watch::MOST)));
        }
        if mask & !Watch::MASK != 0 {
            return Err(record.bad(format!("mask {mask:#x}")));
        }
        let mode = record.u32::<16>();
        watches.push(Watch { wd, mask, mode, path: files::path(parser)? });
    }
    Ok(watches)
}
