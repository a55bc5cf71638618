//! Signal actions, limits, timers, pending signals.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Source, arrays};
use crate::image::{Pending, SigAction, SigHand, Signal, Terminal, records};

/// Most bytes of a SIGPENDING payload: some 47000 queued signals.
const PENDING_MOST: u32 = 4 << 20;
/// Bytes of a queued entry.
const SIGINFO: usize = 88;
/// SIGKILL and SIGSTOP, which cannot be blocked.
const UNBLOCKABLE: u64 = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// The actions of all signals.
pub(super) fn actions<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<2056>(records::SIGHAND)?;
    let mut actions = [SigAction::default(); 64];
    for (to, from) in actions.iter_mut().zip(arrays::<32>(&record.bytes::<8, 2048>())) {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(arrays(from)) {
            *word = u64::from_le_bytes(*bytes);
        }
        let [handler, flags, restorer, mask] = words;
        *to = SigAction { handler, flags, restorer, mask };
    }
    Ok(add(&mut parser.out.sighands, ObjectKind::SigHand, SigHand { actions }))
}

/// What the threads of a group share, and their shared pending signals.
pub(super) fn signal<S: Source>(parser: &mut Parser<'_, S>) -> Result<Signal, ImageError> {
    let record = parser.fixed::<328>(records::SIGNAL)?;
    let mut rlimits = [(0, 0); 16];
    for (number, (to, from)) in
        rlimits.iter_mut().zip(arrays::<16>(&record.bytes::<8, 256>())).enumerate()
    {
        let (soft, hard) = halves(from);
        if soft > hard {
            return Err(record.bad(format!("limit {number}: soft {soft} above hard {hard}")));
        }
        *to = (soft, hard);
    }
    let mut itimers = [(0, 0); 3];
    for (to, from) in itimers.iter_mut().zip(arrays::<16>(&record.bytes::<264, 48>())) {
        *to = halves(from);
    }
    let terminal = match (record.i32::<312>(), record.i32::<316>()) {
        (0, _) => None,
        (tag, foreground) => {
            let pty = parser.index(&record, tag, ObjectKind::TtySlave)?;
            if foreground != 0 {
                parser.index(&record, foreground, ObjectKind::Pid)?;
            }
            Some(Terminal { pty, foreground })
        }
    };
    Ok(Signal { rlimits, itimers, pending: pending(parser)?, terminal })
}

/// Pending signals.
pub(super) fn pending<S: Source>(parser: &mut Parser<'_, S>) -> Result<Pending, ImageError> {
    let name = records::SIGPENDING.name;
    let header = parser.expect(records::SIGPENDING)?;
    let payload = parser.cursor.payload(&header, name, PENDING_MOST)?;
    let short = || header.bad(name, format!("length {}, must be 24 or more", header.len));
    let (count, rest) = payload.split_first_chunk::<8>().ok_or_else(short)?;
    let (set, entries) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let [a, b, c, d, ..] = *count;
    let count = u32::from_le_bytes([a, b, c, d]);
    if entries.len() as u64 != u64::from(count) * SIGINFO as u64 {
        let need = 24 + u64::from(count) * SIGINFO as u64;
        return Err(header.bad(name, format!("length {}, {count} signals need {need}", header.len)));
    }
    let queue: Vec<[u8; SIGINFO]> = arrays::<SIGINFO>(entries).copied().collect();
    for entry in &queue {
        let number = entry.first_chunk().map_or(0, |&number| u32::from_le_bytes(number));
        if !(1..=64).contains(&number) {
            return Err(header.bad(name, format!("signal {number} is queued")));
        }
    }
    Ok(Pending { set: u64::from_le_bytes(*set), queue })
}

/// Blocked signals.
pub(super) fn blocked<S: Source>(parser: &mut Parser<'_, S>) -> Result<u64, ImageError> {
    let record = parser.fixed::<16>(records::SIGNAL_TASK)?;
    let blocked = record.u64::<8>();
    if blocked & UNBLOCKABLE != 0 {
        return Err(record.bad(format!("mask {blocked:#x} blocks KILL or STOP")));
    }
    Ok(blocked)
}

/// Two numbers of 64 bits.
fn halves(bytes: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*bytes);
    (both as u64, (both >> 64) as u64)
}
