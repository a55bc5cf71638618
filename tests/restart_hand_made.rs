//! Restart of images that no checkpoint has made: one task whose only code is a few bytes written here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test")]

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;

use usercr::error::Error;
use usercr::image::*;
use usercr::restart::{Mode, Options, restart};
use usercr::sys::vdso;

const CODE: u64 = 0x40_0000;

/// mov edi, 42; mov eax, 231 (exit_group); syscall
const EXIT_42: &[u8] = &[0xbf, 42, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];

struct Page(Vec<u8>);

impl PageSource for Page {
    fn read(&mut self, _: PagesOf, _: u64, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.fill(0);
        buffer[..self.0.len()].copy_from_slice(&self.0);
        Ok(())
    }
}

fn vma(start: u64, end: u64, kind: VmaKind, pages: Vec<PageRun>) -> Vma {
    Vma { start, end, flags: 0x75, kind, pgoff: 0, file_size: 0, pages }
}

/// An image of one task, with pid `pid`, that runs `code`.
fn image(pid: i32, code: &[u8]) -> File {
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    pids.push(&[pid]);
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
        tasks: vec![TaskIds { pid: 1, ppid: 0, tgid: 1, pgid: 1, sid: 1, depth: 0 }],
        extra: HeadExtra::default(),
    };
    let mut vmas = vec![vma(
        CODE,
        CODE + PAGE,
        VmaKind::Anon,
        vec![PageRun { address: CODE, count: 1, offset: 0 }],
    )];
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
    let live = Live {
        comm: *b"hand-made\0\0\0\0\0\0\0",
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
    };
    let body = Body {
        tasks: vec![TaskState::Live(Box::new(live))],
        objects: Objects {
            file_tables: vec![FileTable::default()],
            mms: vec![mm],
            fss: vec![Fs { umask: 0o22, cwd: b"/".to_vec(), root: b"/".to_vec() }],
            sighands: vec![SigHand { actions: [SigAction::default(); 64] }],
            signals: vec![Signal {
                rlimits: std::array::from_fn(|i| usercr::sys::process::rlimit(i as u32)),
                ..Signal::default()
            }],
            creds: vec![cred],
            ..Objects::default()
        },
    };
    let mut file = tempfile::tempfile().unwrap();
    let mut out = std::io::BufWriter::new(file.try_clone().unwrap());
    write_image(&mut out, &head, &body, &mut Page(code.to_vec())).unwrap();
    out.flush().unwrap();
    file.rewind().unwrap();
    file
}

fn run(mode: Mode, file: &File) -> Result<usercr::restart::Restarted, Error> {
    restart(&Options { mode, wait: true, ..Options::new(file.as_fd()) })
}

#[test]
fn a_task_runs_its_code_in_every_mode() {
    for (mode, pid) in
        [(Mode::NewPids, 4_000), (Mode::Pids, 31_999), (Mode::PidNs, 1), (Mode::PidNs, 4_000)]
    {
        let file = image(pid, EXIT_42);
        let restarted = run(mode, &file).unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert_eq!(restarted.status, Some(42 << 8), "{mode:?} pid {pid}");
        if mode == Mode::Pids {
            assert_eq!(restarted.pid, pid);
        }
    }
}

#[test]
fn a_pid_that_is_taken_is_refused_by_name() {
    let file = image(std::process::id() as i32, EXIT_42);
    let error = run(Mode::Pids, &file).unwrap_err();
    assert_eq!(error.errno(), libc::EEXIST);
    assert!(error.to_string().contains("is taken by restart_hand"), "{error}");
}
