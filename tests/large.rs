//! Images with very many tasks take a time that grows with their number, not with its square.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod histories;

use std::time::{Duration, Instant};

use histories::Numbers;
use usercr::image::renumber::renumber;
use usercr::image::{ImageHead, PidTable, Reader, write_head};
use usercr::plan::{self, PlanOptions};

const MANY: i32 = 200_000;

/// A list walk for each task, as in the historic library, takes minutes.
const LIMIT: Duration = Duration::from_secs(20);

/// Pid `i` of `MANY`, apart from what is below 300.
fn pid(i: i32) -> i32 {
    1000 + i
}

#[test]
fn large_trees_are_planned_in_time() {
    let root = pid(0);
    let wide = |i: i32| [pid(i), if i == 0 { 0 } else { root }, pid(i), root, root];
    let chain = |i: i32| [pid(i), if i == 0 { 0 } else { pid(i - 1) }, pid(i), root, root];
    // Each leads a session, and its child has stayed in the one before.
    let sessions = |i: i32| {
        let leader = if i % 2 == 0 { pid(i) } else { pid((i - 3).max(0)) };
        [pid(i), if i == 0 { 0 } else { pid((i - 1) & !1) }, pid(i), leader, leader]
    };
    let threads = |i: i32| [pid(i), 0, root, root, root];
    let kinds: [(&str, &dyn Fn(i32) -> Numbers); 4] =
        [("wide", &wide), ("chain", &chain), ("sessions", &sessions), ("threads", &threads)];
    for (name, kind) in kinds {
        let rows: Vec<Numbers> = (0..MANY).map(kind).collect();
        let head = histories::head(&rows, 1, true);
        let start = Instant::now();
        let plan = plan::build(&head, &PlanOptions { pidns: true, pid_max: 1 << 22 })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let took = start.elapsed();
        eprintln!("{name}: {took:?}");
        assert_eq!(plan.image_tasks(), MANY as usize);
        assert!(took < LIMIT, "{name}: {took:?}");
    }
}

/// Most numbers have changed places with another; each second object has an inner number, which stays.
#[test]
fn many_pids_are_renumbered_at_once() {
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    for pid in 1..=MANY {
        let levels = if pid % 2 == 0 { 1 } else { 2 };
        pids.push(&[pid, 7][..levels]);
    }
    let tasks = histories::head(&[[1, 0, 1, 1, 1]], 1, true).tasks;
    let image: ImageHead = histories::bare::head(pids, tasks);
    let mut bytes = Vec::new();
    write_head(&mut bytes, &image).unwrap();
    let new = (1..MANY).map(|pid| (pid, MANY - pid)).collect();
    let start = Instant::now();
    renumber(&mut bytes, &new);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    let changed = Reader::new(bytes.as_slice()).head().unwrap();
    for pid in 1..=MANY {
        let other = if pid == MANY { MANY } else { MANY - pid };
        let levels = if pid % 2 == 0 { 1 } else { 2 };
        let wanted = &[other, 7][..levels];
        assert_eq!(changed.pids.object(pid as usize - 1), Some(wanted), "object {pid}");
    }
}
