//! What the compiler of programs has to know about this machine and this process.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::segments::Segments;
use super::{Conditions, Mode, Options};
use crate::error::{Error, RestartError, SysError};
use crate::image::{Body, Cred, FileKind, Settings};
use crate::plan::Plan;
use crate::program::{Facts, insn::Layout, task_count};
use crate::sys::{process, procfs, sched, signal, vdso};
use crate::vm;

/// Address behind the last that a 64-bit task can have (4-level page tables).
pub const ADDRESS_END: u64 = 0x7fff_ffff_f000;

/// A hole must have at least this size to take the shared memory and what moves about it.
const HOLE_MIN: u64 = 1 << 34;

/// The shared memory is given at most so many addresses.
const REGION_MAX: u64 = 1 << 36;

/// How many places in memory were asked for.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Descriptors that tasks inherit for the time of the restart.
pub struct Handed<'a> {
    /// The image.
    pub image: BorrowedFd<'a>,
    /// Where the image starts in it.
    pub base: u64,
    /// The tasks' end of the event channel.
    pub events: BorrowedFd<'a>,
    /// What it needs for System V shared memory.
    pub segments: &'a Segments,
}

/// Gathers the facts for one restart.
pub fn gather(
    options: &Options<'_>,
    plan: &Plan,
    body: &Body,
    handed: &Handed<'_>,
) -> Result<Facts, Error> {
    let maps = own_maps()?;
    let vdso = vdso::own()?.mappings;
    let taken = maps.iter().map(|m| (m.start, m.end));
    let hole = find_hole(taken, body).ok_or(RestartError::NoHole)?;
    let region = place(hole, TURN.fetch_add(1, Ordering::Relaxed));
    let pidns = options.mode == Mode::PidNs;
    let stack = (process::signal_frame_size() + 1024).next_multiple_of(4096);
    let layout = Layout { base: region.0, tasks: task_count(plan, pidns) as u64, stack };
    let (orphan, fault) = vm::handler_offsets();
    let debug = options.report.err.filter(|_| options.report.debug).map(|fd| fd.as_raw_fd());
    let status = own_status()?;
    let terminal = options.terminal.filter(|_| is_wanted(body)).map(|given| given.master);
    let open = [Some(handed.image), Some(handed.events), options.report.err, terminal];
    let spaces = handed.segments.spaces().into_iter().map(|(_, fd)| fd);
    let open: Vec<i32> =
        open.into_iter().flatten().map(|fd| fd.as_raw_fd()).chain(spaces).collect();
    Ok(Facts {
        layout,
        keep_pids: options.mode != Mode::NewPids,
        pidns,
        image: (handed.image.as_raw_fd(), handed.base),
        events: handed.events.as_raw_fd(),
        debug,
        log: None,
        kernel_restores: false,
        staging: staging(body, &open),
        caller: process::own_pid(),
        vdso,
        region,
        scratch: hole.0,
        privileged: may_set_exe(&status),
        address_end: ADDRESS_END,
        rseq: process::own_rseq(),
        ignored: signal::ignored(),
        rlimits: std::array::from_fn(|resource| process::rlimit(resource as u32)),
        handlers: (region.0 + orphan, region.0 + fault),
        own: own_settings(&status)?,
        terminal: terminal.map(|fd| fd.as_raw_fd()),
        ptys: if options.mnt_pty { Vec::new() } else { ptys() },
        timer_ids: process::gives_timer_ids(),
        own_timers: own_timers(),
        dump_filter: own_dump_filter(),
        cred: own_cred(&status),
        segments: handed.segments.ids(),
        ipcs: handed.segments.spaces(),
        root: options.root.map(|root| root.to_bytes().to_vec()),
        mntns: options.mntns || options.mnt_pty,
        devpts: options.mnt_pty.then(|| options.fail.has(Conditions::MNTPTY)),
        strict_proc: options.fail.has(Conditions::MNTPROC),
        readers: readers(),
    })
}

fn own_maps() -> Result<Vec<procfs::Mapping>, Error> {
    let path = "/proc/self/maps";
    let data = procfs::read(path).map_err(|e| SysError::new(path, e))?;
    let bad = || SysError::new(path, std::io::ErrorKind::InvalidData.into());
    Ok(procfs::smaps(&data).ok_or_else(bad)?)
}

/// How many threads may help a task to read: one for each other processor, but more than these only wait
/// for each other in the kernel.
pub fn readers() -> usize {
    const MOST: usize = 7;
    std::thread::available_parallelism().map_or(0, |all| all.get() - 1).min(MOST)
}

/// Settings of the calling thread, which the tasks inherit.
pub fn own_settings(status: &procfs::Status) -> Result<Settings, Error> {
    let failed = |what: &'static str| move |e| SysError::new(what, e);
    let path = "/proc/self/oom_score_adj";
    let oom = procfs::read(path).map_err(failed(path))?;
    let oom = String::from_utf8_lossy(&oom).trim().parse();
    let oom = oom.map_err(|_| SysError::new(path, std::io::ErrorKind::InvalidData.into()))?;
    let process = process::own_settings();
    Ok(Settings {
        sched: sched::attributes(0).map_err(failed("sched_getattr"))?,
        affinity: sched::affinity(0).map_err(failed("sched_getaffinity"))?,
        io_priority: sched::io_priority(0).map_err(failed("ioprio_get"))?,
        timer_slack: process.timer_slack,
        personality: process.personality,
        oom_score_adj: oom,
        no_new_privs: status.no_new_privs,
        subreaper: false,
        dumpable: process.dumpable,
        thp_disabled: process.thp_disabled,
        // With it the caller could not make the code of the vm executable.
        mdwe: false,
        mdwe_alone: false,
        no_tsc: process.no_tsc,
        ambient: status.caps[4],
    })
}

/// Whether a terminal of the image was held outside of the tree.
pub fn is_wanted(body: &Body) -> bool {
    body.objects.ptys.iter().any(|pty| pty.outside.is_some())
}

/// Numbers of the pseudo terminals that there are.
fn ptys() -> Vec<u32> {
    let entries = std::fs::read_dir("/dev/pts").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Ids of the POSIX timers of this process.
fn own_timers() -> Vec<i32> {
    let data = procfs::read("/proc/self/timers").unwrap_or_default();
    procfs::timers(&data).unwrap_or_default().iter().map(|timer| timer.id).collect()
}

/// Core dump filter of this process.
pub fn own_dump_filter() -> Option<u64> {
    let data = procfs::read("/proc/self/coredump_filter").ok()?;
    u64::from_str_radix(String::from_utf8_lossy(&data).trim(), 16).ok()
}

/// Credentials of the calling thread, as an image has them.
pub fn own_cred(status: &procfs::Status) -> Cred {
    // status has real, effective, saved, fs; the image real, saved, effective, fs.
    let order = |[real, effective, saved, fs]: [u32; 4]| [real, saved, effective, fs];
    let mut groups = status.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    let [inheritable, permitted, effective, bounding, _] = status.caps;
    Cred {
        uids: order(status.uids),
        gids: order(status.gids),
        groups,
        caps: [inheritable, permitted, effective, bounding],
        securebits: process::own_settings().securebits,
    }
}

/// What the kernel says of the calling thread.
pub fn own_status() -> Result<procfs::Status, Error> {
    let path = "/proc/thread-self/status";
    let data = procfs::read(path).map_err(|e| SysError::new(path, e))?;
    let bad = || SysError::new(path, std::io::ErrorKind::InvalidData.into());
    Ok(procfs::status(&data).ok_or_else(bad)?)
}

/// prctl(2), PR_SET_MM_EXE_FILE: CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
fn may_set_exe(status: &procfs::Status) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    const CHECKPOINT_RESTORE: u64 = 1 << 40;
    const EFFECTIVE: usize = 2;
    status.caps.get(EFFECTIVE).is_some_and(|caps| caps & (SYS_ADMIN | CHECKPOINT_RESTORE) != 0)
}

/// The largest range of addresses that is free here, where `own` are taken, and in all tasks.
pub fn find_hole(own: impl Iterator<Item = (u64, u64)>, body: &Body) -> Option<(u64, u64)> {
    let tasks = body.objects.mms.iter().flat_map(|mm| &mm.vmas);
    let mut taken: Vec<(u64, u64)> = own
        .chain(tasks.map(|vma| (vma.start, vma.end)))
        .filter(|&(start, _)| start < ADDRESS_END)
        .collect();
    taken.push((ADDRESS_END, ADDRESS_END));
    taken.sort_unstable();
    let mut best = (0, 0);
    let mut free = 1 << 20;
    for (start, end) in taken {
        if start > free && start - free > best.1 - best.0 {
            best = (free, start);
        }
        free = free.max(end);
    }
    (best.1 - best.0 >= HOLE_MIN).then_some(best)
}

/// Where in a hole the shared memory goes: in its middle, so that the vdso may pass in front and stacks
/// may grow behind; at another place each turn, as other threads may be about to do the same.
pub fn place(hole: (u64, u64), turn: u64) -> (u64, u64) {
    const HUGE_PAGE: u64 = 2 << 20;
    let middle = (hole.1 - hole.0) / 2;
    let size = middle.min(REGION_MAX) & !(HUGE_PAGE - 1);
    let turn = turn % (middle / size).max(1);
    let start = (hole.0 + middle / 2 + turn * size).next_multiple_of(HUGE_PAGE);
    (start, start + size)
}

/// The first descriptor number above those of the image (also those that epoll files were told of) and those that are handed to the tasks.
pub fn staging(body: &Body, handed: &[i32]) -> i32 {
    let used = body.objects.file_tables.iter().flat_map(|t| &t.descriptors).map(|d| d.fd);
    let watched = body.objects.files.iter().flat_map(|file| match &file.kind {
        FileKind::Epoll { items } => items.as_slice(),
        _ => &[],
    });
    let used = used.chain(watched.map(|item| item.fd));
    used.chain(handed.iter().copied()).max().unwrap_or(-1).saturating_add(1)
}
