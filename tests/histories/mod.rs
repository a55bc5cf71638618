//! Image heads from plain pid numbers, for tests, benchmarks and the fuzzer of the planner.
#![allow(dead_code)]

pub mod random;

use std::collections::HashMap;

use usercr::image::{Arch, HeadExtra, Header, ImageHead, PidTable, TaskIds};

/// The ids of one task as pid numbers: pid, ppid, tgid, pgid, sid; 0 is from outside.
pub type Numbers = [i32; 5];

/// The head of an image with these tasks. Pid objects are in the order of first use (pid, tgid, pgid,
/// sid, ppid of each task) and `offset` is the tag of the first one.
pub fn head(tasks: &[Numbers], offset: i32, shift_parents: bool) -> ImageHead {
    let mut pids = PidTable { offset, ..PidTable::default() };
    let mut index = HashMap::new();
    for task in tasks {
        for field in [0, 2, 3, 4, 1] {
            let number = task[field];
            if number != 0 && !index.contains_key(&number) {
                index.insert(number, pids.len() as i32);
                pids.push(&[number]);
            }
        }
    }
    let tag = |number: i32, from: i32| index.get(&number).map_or(0, |i| i + from);
    let ids = |t: &Numbers| TaskIds {
        pid: tag(t[0], offset),
        ppid: tag(t[1], if shift_parents { offset } else { 1 }),
        tgid: tag(t[2], offset),
        pgid: tag(t[3], offset),
        sid: tag(t[4], offset),
        depth: 0,
    };
    with_tables(pids, tasks.iter().map(ids).collect())
}

/// A head with these tables; the rest is what any image has.
pub fn with_tables(pids: PidTable, tasks: Vec<TaskIds>) -> ImageHead {
    let header = Header {
        arch_id: 2,
        kernel: [6, 18, 0],
        rev: 6,
        constants: [16, 46, 64, 65, 65, 65, 65, 65, 65, 16, 4096, 19],
        time: 1_300_000_000,
        uflags: 1,
        release: b"6.18.0".to_vec(),
        version: b"#1 SMP".to_vec(),
        machine: b"x86_64".to_vec(),
    };
    ImageHead {
        header,
        arch: Arch { has_fxsr: true, has_xsave: true, xstate_size: 832 },
        lsm_name: b"lsm_none".to_vec(),
        lsm_info: Vec::new(),
        pids,
        tasks,
        extra: HeadExtra::default(),
    }
}
