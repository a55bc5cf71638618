//! Images that no checkpoint has made: tasks whose only code is a few bytes written here.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicI32, Ordering};

use usercr::error::Error;
use usercr::image::*;
use usercr::sys::vdso;

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
    Vma { start, end, flags: 0x75, kind, pgoff: 0, file_size: 0, pages }
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
    let mut numbers: Vec<i32> = Vec::new();
    let mut tag = |pid: i32| -> i32 {
        if pid == 0 {
            return 0;
        }
        let known = numbers.iter().position(|&n| n == pid).unwrap_or_else(|| {
            numbers.push(pid);
            numbers.len() - 1
        });
        known as i32 + 1
    };
    let tasks: Vec<TaskIds> = rows
        .iter()
        .map(|row| {
            let [pid, tgid, pgid, sid, ppid] =
                [row[0], row[2], row[3], row[4], row[1]].map(&mut tag);
            TaskIds { pid, ppid, tgid, pgid, sid, depth: 0 }
        })
        .collect();
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    for &number in &numbers {
        pids.push(&[number]);
    }
    let own = vdso::own().unwrap();
    let status = std::fs::read("/proc/thread-self/status").unwrap();
    let status = usercr::sys::procfs::status(&status).unwrap();
    let head = ImageHead {
        header: Header {
            arch_id: 2,
            kernel: [6, 18, 0],
            rev: 6,
            constants: [16, 44, 64, 65, 65, 65, 65, 65, 65, 16, 4096, 19],
            time: 0,
            uflags: 1,
            release: b"test".to_vec(),
            version: b"test".to_vec(),
            machine: b"x86_64".to_vec(),
        },
        arch: Arch { has_fxsr: true, has_xsave: true, xstate_size: 832 },
        lsm_name: b"lsm_none".to_vec(),
        lsm_info: b"dummy".to_vec(),
        pids,
        tasks,
        extra: HeadExtra::default(),
    };
    let mut vmas = vec![vma(
        CODE,
        CODE + PAGE,
        VmaKind::Anon,
        vec![PageRun { address: CODE, count: 1, offset: 0 }],
    )];
    if bytes != 0 {
        let run = PageRun { address: DATA, count: bytes / PAGE, offset: 0 };
        vmas.push(Vma { flags: 0x73, ..vma(DATA, DATA + bytes, VmaKind::Anon, vec![run]) });
    }
    // Elsewhere than it is here, so that it must be moved.
    let away = own.start() - 0x6000_0000_0000;
    for &(start, end) in &own.mappings {
        vmas.push(vma(start - away, end - away, VmaKind::Vdso, Vec::new()));
    }
    let mm = Mm {
        fields: [CODE, CODE + 1, CODE, CODE, CODE, CODE, CODE, CODE, CODE, CODE, CODE],
        auxv: vec![0, 0],
        vmas,
        vdso: own.start() + own.data_size() - away,
        ..Mm::default()
    };
    let order = |ids: [u32; 4]| [ids[0], ids[2], ids[1], ids[3]];
    let mut groups = status.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    let cred = Cred {
        uids: order(status.uids),
        gids: order(status.gids),
        groups,
        caps: [status.caps[0], status.caps[1], status.caps[2], status.caps[3]],
        securebits: 0,
    };
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    let live = Live {
        comm,
        exit_signal: libc::SIGCHLD,
        pdeath_signal: 0,
        set_child_tid: 0,
        clear_child_tid: 0,
        altstack: (0, 0),
        robust_list: 0,
        restart_block: RestartBlock { function: 1, ..RestartBlock::default() },
        cpu: Cpu { ip: CODE, flags: 0x202, orig_ax: u64::MAX, ..Cpu::default() },
        fpu: None,
        cred: 0,
        files: 0,
        mm: 0,
        fs: 0,
        sighand: 0,
        signal: 0,
        pending: Pending::default(),
        blocked: 0,
        rseq: None,
        settings: None,
        timers: Vec::new(),
        gone: None,
    };
    let body = Body {
        // Each process has an object of each kind for itself.
        tasks: (0..rows.len())
            .map(|i| Live { files: i, mm: i, fs: i, sighand: i, signal: i, ..live.clone() })
            .map(|live| TaskState::Live(Box::new(live)))
            .collect(),
        objects: Objects {
            file_tables: vec![FileTable::default(); rows.len()],
            mms: vec![mm; rows.len()],
            fss: vec![Fs { umask: 0o22, cwd: b"/".to_vec(), root: b"/".to_vec() }; rows.len()],
            sighands: vec![SigHand { actions: [SigAction::default(); 64] }; rows.len()],
            signals: vec![
                Signal {
                    rlimits: std::array::from_fn(|i| usercr::sys::process::rlimit(i as u32)),
                    ..Signal::default()
                };
                rows.len()
            ],
            creds: vec![cred],
            ..Objects::default()
        },
    };
    let mut out = std::io::BufWriter::new(file);
    write_image(&mut out, &head, &body, &mut Page(code.to_vec())).unwrap();
    out.flush().unwrap();
}
