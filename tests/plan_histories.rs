//! Plans for random histories of processes: each one right, proved by the simulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod histories;

use std::hash::{BuildHasher, RandomState};

use histories::random::{Choices, Seed, Shape, history};
use usercr::image::ImageHead;
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
