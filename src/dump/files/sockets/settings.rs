//! Options of sockets.

use std::collections::HashMap;

use super::Open;
use crate::dump::facts::Facts;
use crate::error::DumpError;
use crate::image::{SOCKET_OPTIONS, SocketOption, SocketSettings};
use crate::sys::socket;

/// SO_BUF_LOCK, Linux 5.14.
const SO_BUF_LOCK: i32 = 72;

/// The values of [`SOCKET_OPTIONS`], none for those that a kind of socket has not.
type Values = Vec<Option<i32>>;

/// What options new sockets have, by address family, type and protocol.
#[derive(Debug, Default)]
pub(super) struct Fresh(HashMap<(i32, i32, i32), (Values, [i32; 2])>);

impl Fresh {
    /// The options of a socket, so far as they are not those of a new one.
    pub(super) fn settings(
        &mut self,
        all: &[Facts],
        open: &Open,
    ) -> Result<SocketSettings, DumpError> {
        let holder = open.found.holder;
        let failed = || holder.failed("read the options of");
        let kind = number(open, libc::SO_TYPE)?;
        let (defaults, buffers) = match self.0.entry((open.family, kind, open.protocol)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let new = socket::new(open.family, kind, open.protocol).map_err(failed())?;
                let size = |name| socket::number(&new, libc::SOL_SOCKET, name).unwrap_or(0);
                let buffers = [size(libc::SO_RCVBUF), size(libc::SO_SNDBUF)];
                entry.insert((values(&new), buffers))
            }
        };
        // Its length in instructions, for a buffer without room; EACCES is a filter that has no source.
        match socket::option::<0>(&open.copy, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER) {
            Ok((_, 0)) => {}
            Err(e) if e.raw_os_error() != Some(libc::EACCES) => {}
            _ => return Err(holder.refuse(all, "a filter is attached to it (SO_ATTACH_FILTER)")),
        }
        let mut settings = SocketSettings {
            receive_buffer: number(open, libc::SO_RCVBUF)?,
            send_buffer: number(open, libc::SO_SNDBUF)?,
            receive_timeout: timeout(open, libc::SO_RCVTIMEO)?,
            send_timeout: timeout(open, libc::SO_SNDTIMEO)?,
            linger: linger(open)?,
            ..SocketSettings::default()
        };
        let differ = |own, new, bit| if own == new { 0 } else { bit };
        settings.locks = match socket::number(&open.copy, libc::SOL_SOCKET, SO_BUF_LOCK) {
            Ok(locks) => locks as u8 & 3,
            // An older kernel: one that has been set differs.
            Err(_) => {
                differ(settings.send_buffer, buffers[1], 1)
                    | differ(settings.receive_buffer, buffers[0], 2)
            }
        };
        let own = values(&open.copy);
        for ((&(level, name), own), new) in SOCKET_OPTIONS.iter().zip(own).zip(defaults.iter()) {
            if let (Some(value), true) = (own, own != *new) {
                settings.options.push(SocketOption { level, name, value });
            }
        }
        settings.options.sort_unstable();
        Ok(settings)
    }
}

fn values(socket: &std::os::fd::OwnedFd) -> Values {
    SOCKET_OPTIONS.iter().map(|&(level, name)| socket::number(socket, level, name).ok()).collect()
}

fn number(open: &Open, name: i32) -> Result<i32, DumpError> {
    let value = socket::number(&open.copy, libc::SOL_SOCKET, name);
    value.map_err(open.found.holder.failed("read the options of"))
}

/// A struct timeval in milliseconds; 0 is no limit.
fn timeout(open: &Open, name: i32) -> Result<Option<u64>, DumpError> {
    let (bytes, _) = socket::option::<16>(&open.copy, libc::SOL_SOCKET, name)
        .map_err(open.found.holder.failed("read the options of"))?;
    let [seconds, micros] = halves(bytes).map(u64::from_le_bytes);
    let time = seconds.saturating_mul(1000).saturating_add(micros / 1000);
    Ok((seconds | micros != 0).then_some(time))
}

/// A struct linger: whether, and seconds.
fn linger(open: &Open) -> Result<Option<u32>, DumpError> {
    let (bytes, _) = socket::option::<8>(&open.copy, libc::SOL_SOCKET, libc::SO_LINGER)
        .map_err(open.found.holder.failed("read the options of"))?;
    let [on, seconds] = halves(bytes).map(u32::from_le_bytes);
    Ok((on != 0).then_some(seconds))
}

fn halves<const N: usize, const M: usize>(bytes: [u8; N]) -> [[u8; M]; 2] {
    const { assert!(N == 2 * M) };
    let half = |from: usize| {
        let mut half = [0; M];
        half.iter_mut().zip(bytes.iter().skip(from)).for_each(|(to, from)| *to = *from);
        half
    };
    [half(0), half(M)]
}
