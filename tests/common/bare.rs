//! What any image has, for tests, benchmarks and the fuzzer that make their own.
#![allow(dead_code)]

use usercr::image::*;

/// A head with these tables.
pub fn head(pids: PidTable, tasks: Vec<TaskIds>) -> ImageHead {
    ImageHead {
        header: Header {
            arch_id: 2,
            kernel: [6, 18, 0],
            rev: 6,
            constants: [16, 44, 64, 65, 65, 65, 65, 65, 65, 16, 4096, 19],
            time: 1_700_000_000,
            uflags: 1,
            release: b"6.18.0".to_vec(),
            version: b"#1 SMP".to_vec(),
            machine: b"x86_64".to_vec(),
        },
        arch: Arch { has_fxsr: true, has_xsave: true, xstate_size: 832 },
        lsm_name: b"lsm_none".to_vec(),
        lsm_info: b"dummy".to_vec(),
        pids,
        tasks,
        extra: HeadExtra::default(),
    }
}

/// A task at an instruction, with the first object of each kind and nothing else.
pub fn live(ip: u64) -> Live {
    Live {
        comm: [0; 16],
        exit_signal: libc::SIGCHLD,
        pdeath_signal: 0,
        set_child_tid: 0,
        clear_child_tid: 0,
        altstack: (0, 0),
        robust_list: 0,
        restart_block: RestartBlock { function: 1, ..RestartBlock::default() },
        cpu: Cpu { ip, flags: 0x202, orig_ax: u64::MAX, ..Cpu::default() },
        fpu: None,
        cred: 0,
        namespaces: Namespaces::default(),
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
        job_stop: None,
    }
}
