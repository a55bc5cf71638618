//! Credentials and namespaces.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Source, arrays};
use crate::image::{Cred, Ipc, Namespaces, Uts, records};

/// Most supplementary groups of a task, as in the kernel.
const GROUPS_MOST: u32 = 65536;
/// Most supplementary groups of all credentials together. Many can name one list, and each gets a
/// copy; so that a small image cannot ask for much memory, their sum is limited.
const GROUPS_IN_ALL: usize = 1 << 22;

/// A list of supplementary groups.
pub(super) fn groups<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let kind = records::GROUPINFO;
    let header = parser.expect(kind)?;
    let payload = parser.cursor.payload(&header, kind.name, 8 + 4 * GROUPS_MOST)?;
    let Some((count, list)) = payload.split_first_chunk::<4>() else {
        return Err(header.bad(kind.name, format!("length {}, must be 16 or more", header.len)));
    };
    let count = u32::from_le_bytes(*count);
    let promised = 16 + 4 * u64::from(count);
    if u64::from(header.len) != promised {
        return Err(
            header.bad(kind.name, format!("length {}, {count} groups need {promised}", header.len))
        );
    }
    let groups: Vec<u32> =
        arrays(list).take(count as usize).map(|&group| u32::from_le_bytes(group)).collect();
    if !groups.is_sorted_by(|a, b| a < b) {
        return Err(header.bad(kind.name, "the groups are not strictly ascending"));
    }
    Ok(add(&mut parser.groups, ObjectKind::GroupInfo, groups))
}

/// A user. What it says is in the credentials too.
pub(super) fn user<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<16>(records::USER)?;
    parser.index(&record, record.i32::<12>(), ObjectKind::UserNs)?;
    Ok((ObjectKind::User, 0))
}

/// A user namespace; only the one that the restart is done in.
pub(super) fn user_ns<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<16>(records::USER_NS)?;
    match record.i32::<8>() {
        0 => Ok((ObjectKind::UserNs, 0)),
        creator => {
            parser.index(&record, creator, ObjectKind::User)?;
            Err(record.unsupported("a user namespace of the tasks' own"))
        }
    }
}

/// Credentials.
pub(super) fn cred<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<96>(records::CRED)?;
    parser.index(&record, record.i32::<40>(), ObjectKind::User)?;
    let groups = parser.index(&record, record.i32::<44>(), ObjectKind::GroupInfo)?;
    if record.i32::<48>() != 0 {
        return Err(record.unsupported("security labels"));
    }
    let groups = parser.groups.get(groups).map_or(&[][..], Vec::as_slice);
    parser.groups_in_creds += groups.len();
    if parser.groups_in_creds > GROUPS_IN_ALL {
        return Err(record.bad(format!("more than {GROUPS_IN_ALL} groups in all credentials")));
    }
    let cred = Cred {
        uids: [record.u32::<8>(), record.u32::<12>(), record.u32::<16>(), record.u32::<20>()],
        gids: [record.u32::<24>(), record.u32::<28>(), record.u32::<32>(), record.u32::<36>()],
        groups: groups.to_vec(),
        caps: [record.u64::<56>(), record.u64::<64>(), record.u64::<72>(), record.u64::<80>()],
        securebits: record.u32::<88>(),
    };
    Ok(add(&mut parser.out.creds, ObjectKind::Cred, cred))
}

/// The namespaces of a task.
pub(super) fn ns<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<24>(records::NS)?;
    let index = |tag: i32, kind| match tag {
        0 => Ok(None),
        tag => parser.index(&record, tag, kind).map(Some),
    };
    let uts = index(record.i32::<8>(), ObjectKind::Uts)?;
    let ipc = index(record.i32::<12>(), ObjectKind::Ipc)?;
    // Objects of this kind are refused where they are made, so no tag can stand for one.
    let net = record.i32::<16>();
    if net != 0 {
        return Err(record.bad(format!("net namespace: tag {net} is not known")));
    }
    Ok(add(&mut parser.namespaces, ObjectKind::Ns, Namespaces { uts, ipc }))
}

/// A uts namespace. What it says of the kernel is in the head too.
pub(super) fn uts<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    const LENGTH: usize = 65;
    let record = parser.fixed::<400>(records::UTS_NS)?;
    let text = |bytes: [u8; LENGTH]| match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => Ok(bytes.get(..end).unwrap_or_default().to_vec()),
        None => Err(record.bad("a name without NUL")),
    };
    let (node, domain) =
        (text(record.bytes::<73, LENGTH>())?, text(record.bytes::<333, LENGTH>())?);
    Ok(add(&mut parser.out.uts, ObjectKind::Uts, Uts { node, domain }))
}

/// An ipc namespace; only one without objects.
pub(super) fn ipc<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<56>(records::IPC_NS)?;
    let others = record.bytes::<24, 32>();
    let mut ipc = Ipc { shm: [record.u64::<8>(), record.u64::<16>()], ..Ipc::default() };
    for (to, from) in ipc.others.iter_mut().zip(arrays(&others)) {
        *to = i32::from_le_bytes(*from);
    }
    if ipc.others.iter().any(|&limit| limit < 0) {
        return Err(record.bad("a limit below 0"));
    }
    for kind in [records::IPC_SHM, records::IPC_MSG, records::IPC_SEM] {
        let group = parser.fixed::<16>(records::IPC)?;
        if group.u32::<8>() != kind.number {
            return Err(group.bad(format!("group {}, must be {}", group.u32::<8>(), kind.number)));
        }
        if group.u32::<12>() != 0 {
            return Err(group.unsupported("System V IPC"));
        }
    }
    Ok(add(&mut parser.out.ipcs, ObjectKind::Ipc, ipc))
}
