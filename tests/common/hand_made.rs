//! Images that no checkpoint has made: tasks whose only code is a few bytes written here.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicI32, Ordering};

use usercr::error::Error;
use usercr::image::*;
use usercr::sys::vdso;

#[path = "../histories/mod.rs"]
pub mod histories;
use histories::bare;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x10_0000_0000;

#[allow(dead_code, reason = "used by some")]
/// mov edi, 42; mov eax, 231 (exit_group); syscall
pub const EXIT_42: &[u8] = &[0xbf, 42, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];

#[allow(dead_code, reason = "used by some")]
/// mov eax, 34 (pause); syscall; and again
pub const PAUSE: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

struct Page(Vec<u8>);

impl PageSource for Page {
    fn read(&mut self, _: PagesOf, address: u64, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.fill(7);
        if address == CODE {
            buffer[..self.0.len()].copy_from_slice(&self.0);
        }
        Ok(())
    }
}

#[allow(dead_code, reason = "used by some")]
/// The first of `count` pids that nobody has, other ones at each call.
pub fn free_pids(count: i32) -> i32 {
    static LAST: AtomicI32 = AtomicI32::new(20_000);
    loop {
        let first = LAST.fetch_add(count, Ordering::Relaxed);
        let used = |pid: i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        if !(first..first + count).any(used) {
            return first;
        }
    }
}

fn vma(start: u64, end: u64, kind: VmaKind, pages: Vec<PageRun>) -> Vma {
    let (flags, guards) = (0x75, Vec::new());
    Vma { start, end, flags, kind, pgoff: 0, file_size: 0, pages, guards, name: None }
}

#[allow(dead_code, reason = "used by some")]
/// An image of one task, with pid `pid`, that runs `code`.
pub fn image(pid: i32, code: &[u8]) -> File {
    tree(&[[pid, 0, pid, pid, pid]], code, "hand-made")
}

/// An image of a tree, all of whose tasks run `code`: pid, parent, thread group, process group, session
/// of each. `name` is their command name.
pub fn tree(rows: &[[i32; 5]], code: &[u8], name: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    write_tree(&mut file, rows, code, name, 0);
    file.rewind().unwrap();
    file
}

/// As [`tree`], to `file`; each task has `bytes` of memory too, a multiple of the page size.
pub fn write_tree(file: &mut File, rows: &[[i32; 5]], code: &[u8], name: &str, bytes: u64) {
    let status = std::fs::read("/proc/thread-self/status").unwrap();
    let name = &|_| name.to_owned();
    let tasks = Tasks { code, bytes, name, ended: &[], status: &status, settings: None };
    write_head(file, histories::head(rows, 1, true), &tasks);
}

#[allow(dead_code, reason = "used by some")]
/// As [`image`], with such settings.
pub fn image_with(pid: i32, code: &[u8], settings: Settings) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let status = &std::fs::read("/proc/thread-self/status").unwrap();
    let (name, settings) = (&|_| "hand-made".to_owned(), Some(settings));
    let tasks = Tasks { code, bytes: 0, name, ended: &[], status, settings };
    write_head(&mut file, histories::head(&[[pid, 0, pid, pid, pid]], 1, true), &tasks);
    file.rewind().unwrap();
    file
}

/// What the tasks of an image are like.
pub struct Tasks<'a> {
    /// What they run, at address [`CODE`].
    pub code: &'a [u8],
    /// How much memory each has besides.
    pub bytes: u64,
    /// Their command names, by index.
    pub name: &'a dyn Fn(usize) -> String,
    /// Indexes of those that have ended, by SIGTERM, and are still to be asked how.
    pub ended: &'a [usize],
    /// /proc/PID/status of a process with their credentials.
    pub status: &'a [u8],
    /// Their settings, where they are not those of whoever restarts them.
    pub settings: Option<Settings>,
}

/// An image with the pids and tasks of `head`, whose other facts are made to suit this machine.
pub fn write_head(file: &mut File, mut head: ImageHead, tasks: &Tasks<'_>) {
    let filler = bare::head(PidTable::default(), Vec::new());
    head.header = Header { release: b"test".to_vec(), ..filler.header };
    head.arch = filler.arch;
    head.lsm_name = filler.lsm_name;
    head.lsm_info = filler.lsm_info;
    let body = body(&head, tasks);
    let mut out = std::io::BufWriter::new(file);
    write_image(&mut out, &head, &body, &mut Page(tasks.code.to_vec())).unwrap();
    out.flush().unwrap();
}

fn body(head: &ImageHead, tasks: &Tasks<'_>) -> Body {
    let count = head.tasks.len();
    let live = bare::live(CODE);
    let state = |(index, ids): (usize, &TaskIds)| {
        let mut comm = [0; 16];
        let name = (tasks.name)(index);
        comm[..name.len()].copy_from_slice(name.as_bytes());
        if tasks.ended.contains(&index) {
            let (exit_code, exit_signal) = (libc::SIGTERM as u32, libc::SIGCHLD);
            return TaskState::Zombie(Zombie { comm, exit_code, exit_signal, pdeath_signal: 0 });
        }
        // The threads of a group share what the first of them has.
        let i = head.tasks.iter().position(|other| other.tgid == ids.tgid).unwrap();
        let exit_signal = if ids.pid == ids.tgid { libc::SIGCHLD } else { -1 };
        let settings = tasks.settings.clone();
        let shared =
            Live { files: i, mm: i, fs: i, sighand: i, signal: i, settings, ..live.clone() };
        TaskState::Live(Box::new(Live { comm, exit_signal, ..shared }))
    };
    Body {
        tasks: head.tasks.iter().enumerate().map(state).collect(),
        objects: Objects {
            file_tables: vec![FileTable::default(); count],
            mms: vec![mm(tasks.bytes); count],
            fss: vec![Fs { umask: 0o22, cwd: b"/".to_vec(), root: b"/".to_vec() }; count],
            sighands: vec![SigHand { actions: [SigAction::default(); 64] }; count],
            signals: vec![
                Signal {
                    rlimits: std::array::from_fn(|i| usercr::sys::process::rlimit(i as u32)),
                    ..Signal::default()
                };
                count
            ],
            creds: vec![cred(tasks.status)],
            ..Objects::default()
        },
    }
}

/// One page of code, data where it is asked for, and the vdso.
fn mm(bytes: u64) -> Mm {
    let own = vdso::own().unwrap();
    let run = PageRun { address: CODE, count: 1, offset: 0 };
    // A kernel that has no names of mappings does without.
    let name = Some(b"code".to_vec());
    let mut vmas = vec![Vma { name, ..vma(CODE, CODE + PAGE, VmaKind::Anon, vec![run]) }];
    if bytes != 0 {
        let run = PageRun { address: DATA, count: bytes / PAGE, offset: 0 };
        vmas.push(Vma { flags: 0x73, ..vma(DATA, DATA + bytes, VmaKind::Anon, vec![run]) });
    }
    // Elsewhere than it is here, so that it must be moved.
    let away = own.start() - 0x6000_0000_0000;
    for &(start, end) in &own.mappings {
        vmas.push(vma(start - away, end - away, VmaKind::Vdso, Vec::new()));
    }
    Mm {
        fields: [CODE, CODE + 1, CODE, CODE, CODE, CODE, CODE, CODE, CODE, CODE, CODE],
        auxv: vec![0, 0],
        vmas,
        vdso: own.start() + own.data_size() - away,
        ..Mm::default()
    }
}

/// The credentials in a text of /proc/PID/status.
fn cred(status: &[u8]) -> Cred {
    let status = usercr::sys::procfs::status(status).unwrap();
    let order = |ids: [u32; 4]| [ids[0], ids[2], ids[1], ids[3]];
    let mut groups = status.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    Cred {
        uids: order(status.uids),
        gids: order(status.gids),
        groups,
        caps: [status.caps[0], status.caps[1], status.caps[2], status.caps[3]],
        securebits: 0,
    }
}
