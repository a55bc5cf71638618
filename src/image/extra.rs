//! Records of our own, for state that version 6 has none for. They are numbered from 10001; every
//! reader that does not know one passes over it by its length, and so does this one.
#![forbid(unsafe_code)]

use super::cursor::{Cursor, Fixed, Source, arrays};
use super::records::{self, FIRST_EXTRA};
use super::{HeadExtra, ImageHead, JobStop, PosixTimer, Rseq, Settings, TaskIds, Vdso};
use crate::error::ImageError;

/// Reads our records behind the task table. The cursor is then in front of the first task.
pub(crate) fn read_head<S: Source>(cursor: &mut Cursor<S>) -> Result<HeadExtra, ImageError> {
    let mut extra = HeadExtra::default();
    loop {
        let header = match cursor.peek_header("TASK") {
            Ok(Some(header)) if header.kind >= FIRST_EXTRA => header,
            Err(error @ ImageError::Read { .. }) => return Err(error),
            // Whatever else is there, or is missing, or is broken: it is no fault of the head.
            _ => break,
        };
        let name = records::name(header.kind);
        let twice = match header.kind {
            _ if header.kind == records::SUBREAPER.number => {
                cursor.fixed::<8>(&header, name)?;
                std::mem::replace(&mut extra.root_subreaper, true)
            }
            _ if header.kind == records::VDSO.number => {
                let record = cursor.fixed::<32>(&header, name)?;
                let vdso = Vdso {
                    vdso_size: record.u64::<8>(),
                    vvar_size: record.u64::<16>(),
                    checksum: record.u64::<24>(),
                };
                extra.vdso.replace(vdso).is_some()
            }
            _ if records::kind(header.kind).is_some() => {
                return Err(header.bad(name, "does not belong in the head"));
            }
            _ => {
                cursor.skip_payload(&header, name)?;
                false
            }
        };
        if twice {
            return Err(header.bad(name, "comes twice"));
        }
    }
    Ok(extra)
}

/// What our own records behind a task say.
#[derive(Debug, Default)]
pub(crate) struct TaskExtra {
    /// Restartable sequences.
    pub rseq: Option<Rseq>,
    /// SETTINGS and AFFINITY.
    pub settings: Option<Settings>,
    /// POSIX_TIMER.
    pub timers: Vec<PosixTimer>,
    /// JOB_STOP.
    pub job_stop: Option<JobStop>,
}

/// Bits of the flags of a SETTINGS record.
pub(crate) mod flag {
    pub const NO_NEW_PRIVS: u32 = 1;
    pub const SUBREAPER: u32 = 2;
    pub const DUMPABLE: u32 = 4;
    pub const THP_DISABLED: u32 = 8;
    pub const MDWE: u32 = 16;
    pub const MDWE_ALONE: u32 = 32;
    pub const NO_TSC: u32 = 64;
    pub const ALL: u32 = 127;
}

/// Bits of the flags of a SEGMENT record.
pub(crate) mod segment {
    pub const REMOVED: u32 = 1;
    pub const LOCKED: u32 = 2;
}

/// Most bytes of an AFFINITY record: the kernel knows at most 8192 CPUs.
const AFFINITY_MOST: u32 = 1024;

/// Reads our records behind the SIGNAL_TASK of a task. The cursor is then in front of the next one.
pub(crate) fn read_task<S: Source>(
    cursor: &mut Cursor<S>,
    head: &ImageHead,
    ids: &TaskIds,
) -> Result<TaskExtra, ImageError> {
    let mut extra = TaskExtra::default();
    while let Some(header) = cursor.peek_header("TASK")? {
        if header.kind < FIRST_EXTRA {
            break;
        }
        let name = records::name(header.kind);
        if header.kind == records::RSEQ.number {
            let record = cursor.fixed::<24>(&header, name)?;
            let rseq = Rseq {
                address: record.u64::<8>(),
                length: record.u32::<16>(),
                signature: record.u32::<20>(),
            };
            if extra.rseq.replace(rseq).is_some() {
                return Err(record.bad("comes twice"));
            }
        } else if header.kind == records::SETTINGS.number {
            let settings = settings(&cursor.fixed::<88>(&header, name)?)?;
            if extra.settings.replace(settings).is_some() {
                return Err(header.bad(name, "comes twice"));
            }
        } else if header.kind == records::POSIX_TIMER.number {
            let timer = timer(&cursor.fixed::<56>(&header, name)?, head, ids)?;
            if extra.timers.last().is_some_and(|last| last.id >= timer.id) {
                return Err(header.bad(name, "timers must ascend by their ids"));
            }
            extra.timers.push(timer);
        } else if header.kind == records::AFFINITY.number {
            let bytes = cursor.payload(&header, name, AFFINITY_MOST)?;
            let Some(settings) = &mut extra.settings else {
                return Err(header.bad(name, "must stand behind SETTINGS"));
            };
            if bytes.len() % 8 != 0 || !settings.affinity.is_empty() {
                return Err(header.bad(name, "must come once, in words of 64 bits"));
            }
            settings.affinity = arrays::<8>(&bytes).map(|&word| u64::from_le_bytes(word)).collect();
        } else if header.kind == records::JOB_STOP.number {
            let stop = job_stop(&cursor.fixed::<16>(&header, name)?)?;
            if extra.job_stop.replace(stop).is_some() {
                return Err(header.bad(name, "comes twice"));
            }
        } else if records::kind(header.kind).is_some() {
            return Err(header.bad(name, "does not belong behind a task"));
        } else {
            cursor.skip_payload(&header, name)?;
        }
    }
    Ok(extra)
}

fn job_stop(record: &Fixed<16>) -> Result<JobStop, ImageError> {
    let (signal, untold) = (record.i32::<8>(), record.u32::<12>());
    if !JobStop::SIGNALS.contains(&signal) || untold > 1 {
        return Err(record.bad(format!("signal {signal}, flags {untold:#x}")));
    }
    Ok(JobStop { signal, untold: untold == 1 })
}

fn settings(record: &Fixed<88>) -> Result<Settings, ImageError> {
    let (flags, oom_score_adj) = (record.u32::<76>(), record.i32::<72>());
    if flags & !flag::ALL != 0 || flags & (flag::MDWE | flag::MDWE_ALONE) == flag::MDWE_ALONE {
        return Err(record.bad(format!("flags {flags:#x}")));
    }
    if !(-1000..=1000).contains(&oom_score_adj) {
        return Err(record.bad(format!("OOM score adjustment {oom_score_adj}")));
    }
    Ok(Settings {
        sched: [
            record.u64::<8>(),
            record.u64::<16>(),
            record.u64::<24>(),
            record.u64::<32>(),
            record.u64::<40>(),
            record.u64::<48>(),
        ],
        affinity: Vec::new(),
        io_priority: record.u32::<56>(),
        timer_slack: record.u64::<64>(),
        personality: record.u32::<60>(),
        oom_score_adj,
        no_new_privs: flags & flag::NO_NEW_PRIVS != 0,
        subreaper: flags & flag::SUBREAPER != 0,
        dumpable: flags & flag::DUMPABLE != 0,
        thp_disabled: flags & flag::THP_DISABLED != 0,
        mdwe: flags & flag::MDWE != 0,
        mdwe_alone: flags & flag::MDWE_ALONE != 0,
        no_tsc: flags & flag::NO_TSC != 0,
        ambient: record.u64::<80>(),
    })
}

/// A timer of the process whose leader has these ids.
fn timer(record: &Fixed<56>, head: &ImageHead, ids: &TaskIds) -> Result<PosixTimer, ImageError> {
    let (id, clock, signal, notify) =
        (record.i32::<8>(), record.i32::<12>(), record.i32::<16>(), record.i32::<20>());
    if id < 0 || clock < 0 || !(0..=64).contains(&signal) || !(0..=2).contains(&notify) {
        let reason = format!("timer {id} of clock {clock}, signal {signal}, kind {notify}");
        return Err(record.bad(reason));
    }
    if ids.pid != ids.tgid {
        return Err(record.bad("only the leader of a thread group has timers"));
    }
    let thread = match record.i32::<32>() {
        0 => None,
        tag => {
            let mut rows = head.tasks.iter();
            let index = rows.position(|row| row.pid == tag && row.tgid == ids.tgid);
            Some(index.ok_or_else(|| record.bad(format!("tag {tag} is no thread of the task")))?)
        }
    };
    let (value, left, interval) = (record.u64::<24>(), record.u64::<40>(), record.u64::<48>());
    Ok(PosixTimer { id, clock, signal, notify, value, thread, left, interval })
}
