//! What /proc tells about a process besides the facts of its tasks. All of it is read at once, for many
//! processes at the same time.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use super::facts::Facts;
use super::names;
use crate::error::DumpError;
use crate::sys::pages::{self, Pages};
use crate::sys::procfs::{self, FdInfo, Mapping, Timer};

/// A file that a link of /proc leads to.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// The path, as /proc shows it.
    pub path: Vec<u8>,
    /// st_dev of the file itself.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
}

/// A descriptor as /proc shows it.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its number.
    pub fd: i32,
    /// What the link says.
    pub link: Vec<u8>,
    /// /proc/PID/fdinfo/FD.
    pub info: FdInfo,
    /// The open file.
    pub meta: Metadata,
}

/// One process.
#[derive(Debug)]
pub(super) struct Details {
    /// Its mappings.
    pub maps: Vec<Mapping>,
    /// Its pages with contents of their own, and its guards.
    pub pages: Pages,
    /// Its auxiliary vector.
    pub auxv: Vec<u64>,
    /// Its program.
    pub program: Link,
    /// /proc/PID/coredump_filter.
    pub dump_filter: u64,
    /// Soft and hard limits.
    pub limits: [(u64, u64); 16],
    /// Descriptors of the leader.
    pub descriptors: Vec<Seen>,
    /// Current directory of the leader.
    pub cwd: Link,
    /// Its root directory.
    pub root: Link,
    /// Its POSIX timers, ascending by id.
    pub timers: Vec<Timer>,
}

/// Reads all of it, by the leader of the process.
pub(super) fn read(facts: &Facts) -> Result<Details, DumpError> {
    let maps = procfs::smaps(&facts.file("smaps")?).ok_or_else(|| facts.malformed("smaps"))?;
    Ok(Details {
        pages: pages(facts, &maps)?,
        maps,
        auxv: procfs::auxv(&facts.file("auxv")?),
        program: link(facts, "exe")?,
        dump_filter: dump_filter(facts)?,
        limits: procfs::limits(&facts.file("limits")?).ok_or_else(|| facts.malformed("limits"))?,
        descriptors: descriptors(facts)?,
        cwd: link(facts, "cwd")?,
        root: link(facts, "root")?,
        timers: timers(facts)?,
    })
}

fn pages(facts: &Facts, maps: &[Mapping]) -> Result<Pages, DumpError> {
    let path = facts.path("pagemap");
    let pagemap = File::open(&path).map_err(DumpError::task(facts.tid, format!("open {path}")))?;
    // The kernel's own are not in the half of the addresses that a program has.
    let maps = maps.iter().filter(|m| m.name != b"[vsyscall]");
    let ranges: Vec<_> = maps.map(|m| (m.start, m.end, m.resident + m.swapped != 0)).collect();
    pages::of(&pagemap, &ranges).map_err(DumpError::task(facts.tid, "read its page map"))
}

/// A kernel without POSIX timers, or without a list of them, has no such file.
fn timers(facts: &Facts) -> Result<Vec<Timer>, DumpError> {
    let Ok(data) = procfs::read(&format!("/proc/{}/timers", facts.pid)) else {
        return Ok(Vec::new());
    };
    let mut timers = procfs::timers(&data).ok_or_else(|| facts.malformed("timers"))?;
    timers.sort_unstable_by_key(|timer| timer.id);
    Ok(timers)
}

/// Where a link of the task leads.
pub(super) fn link(facts: &Facts, name: &str) -> Result<Link, DumpError> {
    let path = facts.path(name);
    let failed = || DumpError::task(facts.tid, format!("read {path}"));
    let meta = std::fs::metadata(&path).map_err(failed())?;
    let path = names::link(&path).map_err(failed())?;
    Ok(Link { path, device: meta.dev(), inode: meta.ino() })
}

/// The descriptors of a task, ascending.
pub(super) fn descriptors(facts: &Facts) -> Result<Vec<Seen>, DumpError> {
    let directory = facts.path("fd");
    let failed = || DumpError::task(facts.tid, format!("read {directory}"));
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let number = name.to_str().and_then(|n| n.parse::<i32>().ok());
        numbers.push(number.ok_or_else(|| facts.malformed("fd"))?);
    }
    numbers.sort_unstable();
    numbers.into_iter().map(|fd| descriptor(facts, fd)).collect()
}

fn descriptor(facts: &Facts, fd: i32) -> Result<Seen, DumpError> {
    let path = facts.path(&format!("fd/{fd}"));
    let failed = || DumpError::task(facts.tid, format!("read {path}"));
    let link = names::link(&path).map_err(failed())?;
    let meta = std::fs::metadata(&path).map_err(failed())?;
    let name = format!("fdinfo/{fd}");
    let info = procfs::fdinfo(&facts.file(&name)?).ok_or_else(|| facts.malformed(&name))?;
    Ok(Seen { fd, link, info, meta })
}

fn dump_filter(facts: &Facts) -> Result<u64, DumpError> {
    // A kernel without core dumps has no such file.
    let path = format!("/proc/{}/coredump_filter", facts.tid);
    let Ok(data) = procfs::read(&path) else { return Ok(0) };
    let text = String::from_utf8_lossy(&data);
    u64::from_str_radix(text.trim(), 16).map_err(|_| facts.malformed("coredump_filter"))
}
