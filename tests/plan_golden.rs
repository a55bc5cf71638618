//! The planner against what the historic library did: `golden/`, see its README.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod histories;
mod recorded;

use recorded::{Case, cases};
use serde_json::Value;
use usercr::error::Error;
use usercr::image::ImageHead;
use usercr::plan::{self, Plan, PlanOptions, simulate};

/// What both planners say about a task. Numbers as [`plan::Task`] has them.
#[derive(Debug, PartialEq)]
struct Row {
    pid: i64,
    ppid: i64,
    sid: i64,
    creator: i64,
    flags: String,
    /// Pids of the children, in the order in which they are forked.
    children: Vec<i64>,
}

fn rows(plan: &Plan) -> Vec<Row> {
    let pid = |i: usize| i64::from(plan.tasks[i].pid);
    let row = |(i, t): (usize, &plan::Task)| Row {
        pid: pid(i),
        ppid: t.ppid.into(),
        sid: t.sid.into(),
        creator: t.creator.map_or(0, pid),
        flags: t.flags.to_string(),
        children: plan.children(i).iter().map(|&c| pid(c as usize)).collect(),
    };
    plan.tasks.iter().enumerate().map(row).collect()
}

/// A row of the historic table, its children still missing, and who is next to it among its siblings.
struct Theirs {
    row: Row,
    next: i64,
    first: bool,
}

/// Fills in the children: the list of each creator, those before setsid first.
fn with_children(mut theirs: Vec<Theirs>) -> Vec<Row> {
    let place: std::collections::HashMap<i64, usize> =
        theirs.iter().enumerate().map(|(i, t)| (t.row.pid, i)).collect();
    for first in 0..theirs.len() {
        let creator = theirs[first].row.creator;
        if !theirs[first].first || creator == 0 {
            continue;
        }
        let mut list = Vec::new();
        let mut at = Some(first);
        while let Some(i) = at {
            list.push((theirs[i].row.pid, theirs[i].row.flags.contains('S')));
            at = place.get(&theirs[i].next).copied();
        }
        list.sort_by_key(|&(_, early)| !early);
        theirs[place[&creator]].row.children = list.into_iter().map(|(pid, _)| pid).collect();
    }
    theirs.into_iter().map(|t| t.row).collect()
}

fn same_rows(ours: &[Row], theirs: &[Row], place: &str) {
    if let Some(i) = (0..ours.len().max(theirs.len())).find(|&i| ours.get(i) != theirs.get(i)) {
        panic!("{place}: task #{i}: ours {:?}, theirs {:?}", ours.get(i), theirs.get(i));
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn case_rows(tasks: &Value) -> Vec<Row> {
    let row = |t: &Value| Theirs {
        row: Row {
            pid: number(&t["pid"]),
            ppid: number(&t["ppid"]),
            sid: number(&t["sid"]),
            creator: number(&t["creator"]),
            flags: t["flags"].as_str().unwrap().into(),
            children: Vec::new(),
        },
        next: number(&t["next"]),
        first: t["prev"].is_null(),
    };
    with_children(tasks.as_array().unwrap().iter().map(row).collect())
}

fn options(pidns: bool) -> PlanOptions {
    PlanOptions { pidns, pid_max: recorded::PID_MAX }
}

impl Case {
    /// The ids of a malformed image, not its records, are what is wrong.
    fn has_bad_ids(&self) -> bool {
        let records = ["cut", "len", "type", "nr", "empty", "uts"];
        self.name.strip_prefix("bad-").is_some_and(|n| !records.iter().any(|r| n.starts_with(r)))
    }
}

/// Trees that the historic planner gets wrong: ours is another plan, and right.
const WRONG: [&str; 2] = ["dead-session-handed-down", "thread-of-root"];

#[test]
fn every_tree_of_the_cases() {
    let mut seen = 0;
    for case in cases() {
        if case.built("built") != &Value::Bool(true) || case.name.starts_with("bad-") {
            continue;
        }
        seen += 1;
        let (head, plan) = case.plan().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let orphans: Vec<usize> =
            serde_json::from_value(case.built("orphans_required").clone()).unwrap();
        assert_eq!(plan.orphans(), orphans, "{}: orphans", case.name);
        if orphans.is_empty() {
            simulate::check(&head, &plan, case.pidns())
                .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        }
        if !WRONG.iter().any(|w| case.name.starts_with(w)) {
            same_rows(&rows(&plan), &case_rows(case.built("tasks")), &case.name);
        }
    }
    assert_eq!(seen, 175, "trees");
}

#[test]
fn bad_ids_are_refused() {
    let mut seen = 0;
    for case in cases().iter().filter(|c| c.has_bad_ids()) {
        seen += 1;
        let error = case.plan().err().unwrap_or_else(|| panic!("{}: accepted", case.name));
        assert_eq!(error.errno(), libc::EINVAL, "{}: {error}", case.name);
        assert!(matches!(error, Error::Image(_) | Error::Plan(_)), "{}: {error}", case.name);
    }
    assert_eq!(seen, 29);
}

#[test]
fn nested_namespaces_need_a_new_one() {
    for case in cases().iter().filter(|c| c.name.starts_with("nested-")) {
        match (case.name.as_str(), case.plan()) {
            ("nested-1.pidns" | "nested-2.pidns", Ok((head, plan))) => {
                simulate::check(&head, &plan, true).unwrap();
                let nested = plan.tasks[1..].iter().all(|t| t.flags.to_string() == "N");
                assert!(nested, "{}: {:?}", case.name, plan.tasks);
            }
            (name, Ok(_)) => panic!("{name}: accepted"),
            (name, Err(e)) => {
                assert_eq!(e.errno(), libc::EINVAL, "{name}: {e}");
                assert!(
                    !name.starts_with("nested-1.pidns") && !name.starts_with("nested-2.pidns"),
                    "{name}: {e}"
                );
            }
        }
    }
}

/// The rule of the orphan check, applied to the historic table.
fn orphans(rows: &[Row]) -> Vec<usize> {
    let plain = |pid: &i64| rows.iter().any(|r| r.pid == *pid && !r.flags.contains(['T', 'P']));
    let orphan = |r: &Row| r.flags.contains(['G', 'D']) && r.children.iter().any(plain);
    rows.iter().enumerate().filter(|(_, r)| orphan(r)).map(|(i, _)| i).collect()
}

struct Random {
    kind: String,
    head: ImageHead,
    theirs: Vec<Row>,
    wrong: bool,
}

fn random() -> Vec<Random> {
    let one = |tree: recorded::Random| {
        let row = |r: &Value| Theirs {
            row: Row {
                pid: number(&r[0]),
                ppid: number(&r[3]),
                sid: number(&r[6]),
                creator: number(&r[8]),
                flags: r[12].as_str().unwrap().into(),
                children: Vec::new(),
            },
            next: number(&r[9]),
            first: r[10].is_null(),
        };
        let table = tree.value["out"]["table"].as_array().unwrap();
        Random {
            kind: tree.kind.clone(),
            head: histories::head(&tree.tasks, tree.offset, false),
            theirs: with_children(table.iter().map(row).collect()),
            wrong: tree.value["live"]["wrong_session"].as_array().is_some_and(|w| !w.is_empty()),
        }
    };
    recorded::random().into_iter().map(one).collect()
}

#[test]
fn random_trees() {
    let trees = random();
    for (line, tree) in trees.iter().enumerate() {
        let place = format!("line {} ({})", line + 1, tree.kind);
        for pidns in [false, true] {
            let plan =
                plan::build(&tree.head, &options(pidns)).unwrap_or_else(|e| panic!("{place}: {e}"));
            if pidns || plan.orphans().is_empty() {
                simulate::check(&tree.head, &plan, pidns)
                    .unwrap_or_else(|e| panic!("{place}: {e}"));
            }
            if tree.wrong {
                assert_ne!(rows(&plan), tree.theirs, "{place}");
                continue;
            }
            same_rows(&rows(&plan), &tree.theirs, &place);
            let orphans = if pidns { Vec::new() } else { orphans(&tree.theirs) };
            assert_eq!(plan.orphans(), orphans, "{place}");
        }
    }
}
