//! Plans for random histories of processes: each one right, proved by the simulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod histories;

use std::hash::{BuildHasher, RandomState};

use histories::random::{Choices, Seed, Shape, history};
use usercr::image::{ImageHead, PidTable, TaskIds};
use usercr::plan::{self, Flags, Plan, PlanOptions, simulate};

const HISTORIES: u64 = 10_000;

fn build(head: &ImageHead, pidns: bool, place: &str) -> Plan {
    let options = PlanOptions { pidns, pid_max: 4 << 20 };
    plan::build(head, &options).unwrap_or_else(|e| panic!("{place}: {e}\n{}", describe(head)))
}

fn describe(head: &ImageHead) -> String {
    let mut text = format!("offset {} pids {:?}\n", head.pids.offset, head.pids);
    for t in &head.tasks {
        text += &format!("{:?}\n", [t.pid, t.ppid, t.tgid, t.pgid, t.sid]);
    }
    text
}

fn right(head: &ImageHead, plan: &Plan, pidns: bool, place: &str) {
    if let Err(e) = simulate::check(head, plan, pidns) {
        panic!("{place}: {e}\n{}", describe(head));
    }
}

/// A ghost or placeholder with a child that would become an orphan.
fn has_orphans(plan: &Plan) -> bool {
    plan.tasks.iter().any(|t| {
        let extra = |c: &usize| plan.tasks[*c].flags.any(Flags::GHOST | Flags::DEAD);
        t.creator.filter(extra).is_some() && !t.flags.any(Flags::THREAD | Flags::SIBLING)
    })
}

/// Seeds differ from run to run; a failure names its own.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let base = RandomState::new().hash_one(0u8);
    (0..count).map(move |i| base.wrapping_add(i))
}

#[test]
fn every_history_has_a_right_plan() {
    let mut refused = 0;
    for seed in seeds(HISTORIES) {
        let choices = &mut Seed(seed);
        let shape = Shape::any(choices, 60);
        let head = history(choices, shape);
        let place = format!("seed {seed:#x} {shape:?}");
        let inside = build(&head, true, &place);
        right(&head, &inside, true, &place);
        assert!(inside.orphans().is_empty(), "{place}: orphans in a new pid namespace");
        let plan = build(&head, false, &place);
        assert_eq!(plan.tasks, inside.tasks, "{place}: the plan depends on the mode");
        assert_eq!(plan.orphans().is_empty(), shape.subreaper || !has_orphans(&plan), "{place}");
        if plan.orphans().is_empty() {
            right(&head, &plan, false, &place);
        } else {
            refused += 1;
        }
    }
    assert!(refused < HISTORIES / 2, "{refused} of {HISTORIES} refused");
}

#[test]
fn nested_namespaces_too() {
    for seed in seeds(HISTORIES / 2) {
        let choices = &mut Seed(seed);
        let mut shape = Shape::any(choices, 60);
        shape.nesting = 1 + choices.below(3);
        let head = history(choices, shape);
        let place = format!("seed {seed:#x} {shape:?}");
        let plan = build(&head, true, &place);
        right(&head, &plan, true, &place);
    }
}

/// Tables that say anything: tags may be off by one, numbers repeat, namespaces nest at will.
fn any_tables(choices: &mut impl Choices) -> ImageHead {
    let objects = 1 + choices.below(8);
    let offset = [1, 1, 1, 0, 2, 5][choices.below(6)];
    let mut pids = PidTable { offset, ..PidTable::default() };
    let wild = choices.chance(20);
    for i in 0..objects {
        let mut numbers = vec![if wild { choices.below(6) as i32 } else { i as i32 + 1 }];
        while choices.chance(15) {
            numbers.push(1 + choices.below(3) as i32);
        }
        pids.push(&numbers);
    }
    let tag =
        |choices: &mut dyn FnMut(usize) -> usize| match choices(if wild { 40 } else { 10_000 }) {
            0 => -1,
            1 => objects as i32 + offset,
            _ => choices(objects) as i32 + offset,
        };
    let count = 1 + choices.below(objects + 1);
    let mut below = |n| choices.below(n);
    let mut tasks = Vec::new();
    for i in 0..count as i32 {
        let pid = if below(20) == 0 { tag(&mut below) } else { i + offset };
        let mut mostly = |n, usual| if below(n) == 0 { tag(&mut below) } else { usual };
        let (tgid, ppid) = (mostly(8, pid), mostly(1, 0));
        let (pgid, sid) = (mostly(2, pid), mostly(2, pid));
        let outside = below(30) == 0;
        let ppid = if i == 0 && below(10) != 0 { 0 } else { ppid };
        let sid = if outside { 0 } else { sid };
        tasks.push(TaskIds { pid, ppid, tgid, pgid, sid, depth: 0 });
    }
    histories::bare::head(pids, tasks)
}

#[test]
fn any_tables_get_a_right_plan_or_an_error() {
    let mut right_ones = 0;
    for seed in seeds(10 * HISTORIES) {
        let head = any_tables(&mut Seed(seed));
        for pidns in [false, true] {
            match plan::build(&head, &PlanOptions { pidns, pid_max: 310 }) {
                Ok(plan) => {
                    right_ones += 1;
                    let place = format!("seed {seed:#x}");
                    if pidns || plan.orphans().is_empty() {
                        right(&head, &plan, pidns, &place);
                    }
                    for task in 0..plan.tasks.len() {
                        assert!(plan.children(task).len() < plan.tasks.len(), "{place}");
                        let parent = plan.real_parent(task);
                        assert_ne!(parent, Some(task), "{place}");
                    }
                }
                Err(e) => {
                    let errno = e.errno();
                    assert!(errno == libc::EINVAL || errno == libc::EOVERFLOW, "{e}");
                }
            }
        }
    }
    assert!(right_ones > HISTORIES, "only {right_ones} right ones");
}
