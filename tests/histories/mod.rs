//! Image heads from plain pid numbers, for tests, benchmarks and the fuzzer of the planner.
#![allow(dead_code)]

#[path = "../common/bare.rs"]
pub mod bare;
pub mod random;

use std::collections::HashMap;

use usercr::image::{ImageHead, PidTable, TaskIds};

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
    bare::head(pids, tasks.iter().map(ids).collect())
}
