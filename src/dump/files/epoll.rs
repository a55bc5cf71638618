//! Epoll files: what they wait for.

use std::collections::HashMap;

use super::{Files, Holder, Known, find};
use crate::dump::facts::Facts;
use crate::error::DumpError;
use crate::image::{EpollItem, FileKind};
use crate::sys::kcmp;
use crate::sys::procfs::FdInfo;

/// An item as /proc shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    fd: i32,
    events: u32,
    data: u64,
    inode: u64,
}

/// An epoll file whose items are not known to be files of the tree yet.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Index of the file.
    pub object: usize,
    /// One who has it.
    pub holder: Holder,
    /// In the order of the kernel's tree.
    pub lines: Vec<Line>,
}

/// The items that /proc shows; None where it cannot be understood.
pub(super) fn lines(info: &FdInfo) -> Option<Vec<Line>> {
    info.fields("tfd").map(line).collect()
}

/// `N events: X data: X  pos:N ino:X sdev:X`.
fn line(text: &str) -> Option<Line> {
    let value = |name: &str| {
        let rest = text.split_once(name)?.1.trim_start();
        u64::from_str_radix(rest.split_ascii_whitespace().next()?, 16).ok()
    };
    Some(Line {
        fd: text.split_ascii_whitespace().next()?.parse().ok()?,
        events: value("events:")?.try_into().ok()?,
        data: value("data:")?,
        inode: value("ino:")?,
    })
}

impl Files {
    /// Finds the files that epoll files wait for, when all descriptors of the tree are known.
    pub(super) fn resolve_epolls(&mut self, all: &[Facts]) -> Result<(), DumpError> {
        if self.epolls.is_empty() {
            return Ok(());
        }
        let mut by_inode: HashMap<u64, Vec<&[Known]>> = HashMap::new();
        for (key, group) in &self.groups {
            by_inode.entry(key.inode).or_default().push(group);
        }
        for epoll in &self.epolls {
            let mut items = Vec::with_capacity(epoll.lines.len());
            let mut seen: HashMap<i32, u32> = HashMap::new();
            for line in &epoll.lines {
                // Several files may have been registered with the same descriptor.
                let nth = seen.entry(line.fd).or_default();
                let target = (line.fd, *nth);
                *nth += 1;
                let groups = by_inode.get(&line.inode).map_or(&[][..], Vec::as_slice);
                let Some(file) = find_target(groups, epoll.holder, target)? else {
                    let reason =
                        format!("it waits for descriptor {}, a file that no task has", line.fd);
                    return Err(epoll.holder.refuse(all, reason));
                };
                items.push(EpollItem { fd: line.fd, file, events: line.events, data: line.data });
            }
            if let Some(file) = self.objects.get_mut(epoll.object) {
                file.kind = FileKind::Epoll { items };
            }
        }
        Ok(())
    }
}

/// The file that item `target` of an epoll file is, if it is in one of these groups.
fn find_target(
    groups: &[&[Known]],
    epoll: Holder,
    target: (i32, u32),
) -> Result<Option<usize>, DumpError> {
    for group in groups {
        let found =
            find(group, |known| kcmp::compare_epoll_target(known, (epoll.tid, epoll.fd), target));
        match found.map_err(epoll.failed("compare what waits in"))? {
            Ok(at) => return Ok(group.get(at).map(|known| known.object)),
            Err(_) => continue,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::procfs;

    #[test]
    fn items_as_proc_shows_them() {
        let text = b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1060\n\
            tfd:        3 events: 80000019 data: ffffffff00000003  pos:0 ino:424 sdev:f\n\
            tfd:      300 events: 40000000 data:                1  pos:-1 ino:a sdev:f\n";
        let info = procfs::fdinfo(text).expect("parses");
        let first = Line { fd: 3, events: 0x8000_0019, data: 0xffff_ffff_0000_0003, inode: 0x424 };
        let second = Line { fd: 300, events: 0x4000_0000, data: 1, inode: 10 };
        assert_eq!(lines(&info), Some(vec![first, second]));
        let broken = procfs::fdinfo(b"pos:\t0\nflags:\t02\ntfd: 3 events: 1\n").expect("parses");
        assert_eq!(lines(&broken), None);
    }
}
