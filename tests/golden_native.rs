//! The native engine against the recorded cases: their task tables get tasks that can run, are restarted in the mode of the
//! case, and what lives then must be the tree of the image. `c-tests/live/live.c` makes the calls and looks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]

mod cc;
#[path = "common/hand_made.rs"]
mod hand_made;
mod recorded;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use hand_made::{PAUSE, Tasks, histories, write_head};
use recorded::Case;
use serde_json::Value;
use usercr::image::ImageHead;
use usercr::plan::{self, PlanOptions};

const LIMIT: Duration = Duration::from_secs(60);

/// The caller's pid, session and process group in its sandbox.
const CALLER: i32 = 2;

/// Which pids the tasks get, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    NoPids,
    Pids,
    PidNs,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::NoPids => "nopids",
            Mode::Pids => "pids",
            Mode::PidNs => "pidns",
        }
    }
}

/// Who somebody's parent, leader of a session, ... is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A task of the image, by its pid there, or one that had ended.
    Pid(i32),
    /// Nobody in the tree: the caller, or whom the caller has it from.
    Outside,
}

impl Who {
    fn of(number: i32) -> Who {
        if number == 0 { Who::Outside } else { Who::Pid(number) }
    }
}

/// A task as it must be.
#[derive(Debug, Clone)]
struct Want {
    /// Its pids, outermost namespace of the tree first.
    pids: Vec<i32>,
    tgid: i32,
    parent: Who,
    session: Who,
    /// None: what it is, the image does not say.
    group: Option<Who>,
    ended: bool,
}

/// A tree to restart.
struct Tree {
    name: String,
    mode: Mode,
    head: ImageHead,
    want: Vec<Want>,
    /// The errno that the call must fail with.
    refused: Option<i32>,
}

/// A task as it is: numbers of the caller's pid namespace first.
#[derive(Debug)]
struct Seen {
    name: String,
    state: char,
    tgid: i32,
    ppid: i32,
    pids: Vec<i32>,
    sids: Vec<i32>,
    pgids: Vec<i32>,
}

impl Seen {
    fn new(line: &str) -> Seen {
        let words: Vec<&str> = line.split('\t').collect();
        let list = |text: &str| text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let number = |text: &str| text.parse().unwrap();
        Seen {
            name: words[1].into(),
            state: words[2].chars().next().unwrap(),
            tgid: number(words[3]),
            ppid: number(words[4]),
            pids: list(words[5]),
            sids: list(words[6]),
            pgids: list(words[7]),
        }
    }
}

/// What came of one call.
struct Outcome {
    ret: i32,
    errno: i32,
    text: String,
    seen: Vec<Seen>,
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| cc::build(&cc::top().join("c-tests/live/live.c"), cc::Link::Archive, &[]))
}

/// Runs the program; none where it cannot do its work here.
fn call(args: &[&OsStr], place: &Path) -> Option<String> {
    // How many have come to an end says which one has not.
    let (status, text) = cc::run(program(), args, &[], place, LIMIT)
        .unwrap_or_else(|e| panic!("after {} calls: {e}", e.matches("\ncall ").count()));
    if status.code() == Some(cc::SKIPPED) {
        eprintln!("{text}");
        return None;
    }
    assert!(status.success(), "{status}\n{text}");
    Some(text)
}

/// Restarts trees one after the other.
fn restart(trees: &[&Tree], status: &[u8], place: &Path) -> Option<Vec<Outcome>> {
    let mut args = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let path = place.join(index.to_string());
        let ended: Vec<usize> = (0..tree.want.len()).filter(|&i| tree.want[i].ended).collect();
        let name = |i: usize| format!("task-{i}");
        let tasks =
            Tasks { code: PAUSE, bytes: 0, name: &name, ended: &ended, status, settings: None };
        write_head(&mut File::create(&path).unwrap(), tree.head.clone(), &tasks);
        args.push(tree.mode.word().into());
        args.push(path.into_os_string());
    }
    let args: Vec<&OsStr> = args.iter().map(|a: &std::ffi::OsString| a.as_os_str()).collect();
    let text = call(&args, place)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("call ") {
            let mut words = rest.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_default();
            let (ret, errno) = (next().parse().unwrap(), next().parse().unwrap());
            outcomes.push(Outcome { ret, errno, text: next().into(), seen: Vec::new() });
        } else {
            assert!(line.starts_with("task\t"), "{line}");
            outcomes.last_mut().unwrap().seen.push(Seen::new(line));
        }
    }
    assert_eq!(outcomes.len(), trees.len(), "{text}");
    Some(outcomes)
}

/// What is wrong with a tree that was restarted.
fn judge(tree: &Tree, outcome: &Outcome) -> Result<(), String> {
    let said = || format!("returned {}, errno {}: {}", outcome.ret, outcome.errno, outcome.text);
    if let Some(errno) = tree.refused {
        let right = outcome.ret == -1 && outcome.errno == errno && outcome.seen.is_empty();
        return if right { Ok(()) } else { Err(format!("{}, {:?}", said(), outcome.seen)) };
    }
    if outcome.ret <= 0 {
        return Err(said());
    }
    let index = |seen: &Seen| seen.name.strip_prefix("task-").and_then(|i| i.parse::<usize>().ok());
    let mut pids: HashMap<i32, i32> = HashMap::new();
    let mut by_index: HashMap<usize, &Seen> = HashMap::new();
    let (mut coordinator, mut ended) = (None, Vec::new());
    for seen in &outcome.seen {
        let leads = seen.pids[0] == seen.tgid;
        match index(seen) {
            // A leader that has ended stays as long as its threads, with the name of the first.
            Some(i) if seen.state == 'Z' && leads && tree.want.get(i).is_some_and(|w| !w.ended) => {
                ended.push(seen);
            }
            Some(i) if i < tree.want.len() && !by_index.contains_key(&i) => {
                by_index.insert(i, seen);
                pids.insert(seen.pids[0], tree.want[i].pids[0]);
            }
            None if seen.name == "usercr-init" && seen.state != 'Z' && coordinator.is_none() => {
                coordinator = Some(seen.pids[0]);
            }
            _ => return Err(format!("{seen:?} is not of the image")),
        }
    }
    for leader in ended {
        let thread = |t: &&Seen| t.tgid == leader.tgid && t.pids[0] != t.tgid;
        let thread =
            outcome.seen.iter().find(thread).and_then(index).filter(|&i| i < tree.want.len());
        let Some(thread) = thread else { return Err(format!("{leader:?} is left")) };
        pids.insert(leader.pids[0], tree.want[thread].tgid);
    }
    let own_init = tree.want[0].pids[0] == 1;
    if coordinator.is_some() != (tree.mode == Mode::PidNs && !own_init) {
        return Err(format!("coordinator: {coordinator:?}"));
    }
    let first = coordinator.unwrap_or_else(|| by_index.get(&0).map_or(0, |root| root.pids[0]));
    if outcome.ret != first {
        return Err(format!("{}, not {first}", said()));
    }
    let level = usize::from(tree.mode == Mode::PidNs);
    let mut names =
        Names { keeps: tree.mode != Mode::NoPids, level, live: pids, gone: HashMap::new() };
    for (i, want) in tree.want.iter().enumerate() {
        let Some(seen) = by_index.get(&i) else {
            return Err(format!("task {i} is missing: {want:?}"));
        };
        let wrong = |what: &str| Err(format!("{what} of task {i}: {want:?}, {seen:?}"));
        if names.keeps && seen.pids[level..] != want.pids {
            return wrong("pids");
        }
        if (seen.state == 'Z') != want.ended {
            return wrong("state");
        }
        if names.live.get(&seen.tgid) != Some(&want.tgid) {
            return wrong("thread group");
        }
        // Of threads whose leader has ended the historic planner does not look at it.
        let led = by_index.values().any(|s| s.pids[0] == seen.tgid);
        let parent = match want.parent {
            _ if !led => true,
            Who::Outside => seen.ppid == coordinator.unwrap_or(CALLER),
            Who::Pid(pid) => names.live.get(&seen.ppid) == Some(&pid),
        };
        if !parent {
            return wrong("parent");
        }
        if !names.is(want.session, &seen.sids) {
            return wrong("session");
        }
        if want.group.is_some_and(|group| !names.is(group, &seen.pgids)) {
            return wrong("process group");
        }
    }
    Ok(())
}

/// Whom numbers mean.
struct Names {
    keeps: bool,
    level: usize,
    /// Pids of the image by the pids of the tasks that live.
    live: HashMap<i32, i32>,
    /// The same of leaders that have ended, as found.
    gone: HashMap<i32, i32>,
}

impl Names {
    /// Whether the leader of a session or process group is the one that is wanted.
    fn is(&mut self, want: Who, numbers: &[i32]) -> bool {
        let number = numbers[0];
        match want {
            Who::Outside => number == CALLER,
            Who::Pid(pid) if self.keeps => numbers[self.level] == pid,
            Who::Pid(pid) => match self.live.get(&number) {
                Some(&live) => live == pid,
                // A leader that has ended has one number, which is nobody else's.
                None if number == CALLER || self.live.values().any(|&live| live == pid) => false,
                None => {
                    let taken = self.gone.iter().any(|(&n, &p)| p == pid && n != number);
                    !taken && *self.gone.entry(number).or_insert(pid) == pid
                }
            },
        }
    }
}

/// Restarts all trees, on all processors, and judges them.
fn all_hold(trees: &[Tree]) {
    let place = tempfile::tempdir().unwrap();
    let Some(status) = call(&[], place.path()) else { return };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let work = |number: usize| {
            let place = place.path().join(format!("batch-{number}"));
            std::fs::create_dir(&place).unwrap();
            let own: Vec<&Tree> = trees.iter().skip(number).step_by(threads).collect();
            let mut wrong = Vec::new();
            for (part, trees) in own.chunks(40).enumerate() {
                let place = place.join(part.to_string());
                std::fs::create_dir(&place).unwrap();
                let Some(outcomes) = restart(trees, status.as_bytes(), &place) else { break };
                let judged = trees.iter().zip(&outcomes).map(|(tree, outcome)| {
                    judge(tree, outcome).err().map(|e| format!("{}: {e}", tree.name))
                });
                wrong.extend(judged.flatten());
            }
            wrong
        };
        let batches: Vec<_> =
            (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        batches.into_iter().flat_map(|batch| batch.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), trees.len(), wrong.join("\n"));
}

/// A row of the recorded task table.
fn want(case: &Case, row: &Value) -> Want {
    let tasks = case.built("tasks").as_array().unwrap();
    let number = |value: &Value| value.as_i64().unwrap() as i32;
    let of_tag = |tag: &Value| match tag.as_i64().unwrap() {
        tag if tag <= 0 => 0,
        tag => number(&tasks.iter().find(|t| t["pid_tag"] == tag).expect("a known tag")["pid"]),
    };
    let tgid = of_tag(&row["tgid_tag"]);
    let parent = tasks.iter().find(|t| t["pid"] == tgid && t["tgid_tag"] == t["pid_tag"]);
    let session = if row["sid_tag"].as_i64() < Some(1) { 0 } else { number(&row["sid"]) };
    let mut want = Want {
        pids: vec![number(&row["pid"])],
        tgid,
        parent: Who::of(number(&parent.unwrap_or(row)["ppid"])),
        session: Who::of(session),
        group: Some(Who::of(of_tag(&row["pgid_tag"]))),
        ended: false,
    };
    // A session from inside has no process group from outside.
    if want.group == Some(Who::Outside) && want.session != Who::Outside {
        want.group = None;
    }
    if tgid == number(&tasks[0]["pid"]) {
        want.parent = Who::Outside;
    }
    // What was seen says more than the table, but for process groups, which were still to be joined.
    let live = case.expected["live"].as_array().filter(|_| case.expected["legacy_defect"] == false);
    if let Some(live) = live.and_then(|all| all.iter().find(|t| t["task"] == row["pid"])) {
        let who = |value: &Value| value.as_i64().map_or(Who::Outside, |n| Who::of(n as i32));
        want.tgid = number(&live["tgid"]);
        want.session = who(&live["sid"]);
        let ghosts = case.built("tasks_without_ghosts").as_u64().unwrap() as usize;
        if !tasks[ghosts..].iter().any(|ghost| ghost["pid"] == live["ppid"]) {
            want.parent = who(&live["ppid"]);
        }
    }
    want
}

fn tree(case: &Case) -> Option<Tree> {
    let (head, plan) = case.plan().ok()?;
    if case.arg("self") != 0 || case.built("built") != &Value::Bool(true) {
        return None;
    }
    let rows = case.built("tasks").as_array()?;
    let want: Vec<Want> = rows[..head.tasks.len()].iter().map(|row| want(case, row)).collect();
    let mode = match (case.pidns(), case.arg("pids")) {
        (true, _) => Mode::PidNs,
        (false, 0) => Mode::NoPids,
        _ => Mode::Pids,
    };
    let orphans = mode != Mode::PidNs && !case.built("orphans_required").as_array()?.is_empty();
    // Its root leads its session but not its process group: only restart(2) could do that.
    let impossible = case.name.starts_with("root-foreign-pgid");
    let refused = (orphans || impossible).then_some(libc::EINVAL);
    assert!(refused.is_some() || plan.orphans().is_empty(), "{}", case.name);
    Some(Tree { name: case.name.clone(), mode, head, want, refused })
}

/// A tree of the image's own numbers, where there is nothing else to compare with: pid, parent, thread
/// group, process group, session of each task.
fn wanted(rows: &[[i32; 5]], ended: &[usize]) -> Vec<Want> {
    let one = |(index, row): (usize, &[i32; 5])| {
        let leader = rows.iter().find(|other| other[0] == row[2]).unwrap_or(row);
        let inside = |number: i32| rows.iter().any(|r| r[0] == number || number == r[2]);
        let from_outside = rows[0][4] != rows[0][0];
        // Where the root task does not lead its session, that session is from outside.
        let session = if from_outside && row[4] == rows[0][4] { 0 } else { row[4] };
        let group = if from_outside && row[3] == rows[0][4] { 0 } else { row[3] };
        let of_root = row[2] == rows[0][2];
        Want {
            pids: vec![row[0]],
            tgid: row[2],
            parent: if of_root { Who::Outside } else { Who::of(leader[1]) },
            session: Who::of(session),
            group: (group != 0 || session == 0).then(|| Who::of(group)),
            ended: ended.contains(&index) && inside(row[0]),
        }
    };
    rows.iter().enumerate().map(one).collect()
}

/// Pid namespaces inside each other, which the historic library could not restart.
fn nested() -> Vec<Tree> {
    let cases =
        recorded::cases().into_iter().filter(|c| c.name.starts_with("nested-") && c.pidns());
    let one = |case: Case| {
        let head = case.head().unwrap();
        let numbers = |tag: i32| head.pids.object((tag - head.pids.offset) as usize).unwrap_or(&[]);
        let first = |tag: i32| numbers(tag).first().copied().unwrap_or(0);
        let rows: Vec<[i32; 5]> =
            head.tasks.iter().map(|t| [t.pid, t.ppid, t.tgid, t.pgid, t.sid].map(first)).collect();
        let mut want = wanted(&rows, &[]);
        for (want, task) in want.iter_mut().zip(&head.tasks) {
            want.pids = numbers(task.pid).to_vec();
        }
        let refused = case.plan().err().map(|e| e.errno());
        Tree { name: case.name.clone(), mode: Mode::PidNs, head, want, refused }
    };
    cases.map(one).collect()
}

/// A history in one of the modes. Some of its tasks without children have ended.
fn of_history(name: String, mode: Mode, rows: &[[i32; 5]], head: ImageHead) -> Tree {
    let leaf = |&i: &usize| {
        let own = |row: &&[i32; 5]| row[1] == rows[i][0] || row[2] == rows[i][0];
        i != 0 && rows.iter().filter(own).count() == 1 && rows[i][0] == rows[i][2]
    };
    let ended: Vec<usize> = (0..rows.len()).filter(leaf).step_by(3).collect();
    let options = PlanOptions { pidns: mode == Mode::PidNs, pid_max: recorded::PID_MAX };
    let refused = match plan::build(&head, &options) {
        Ok(plan) if !plan.orphans().is_empty() => Some(libc::EINVAL),
        Ok(plan) => plan.groups(options.pidns).err().map(|e| {
            eprintln!("{name}: {e}");
            e.errno()
        }),
        Err(e) => panic!("{name}: {e}"),
    };
    Tree { name, mode, want: wanted(rows, &ended), head, refused }
}

#[test]
fn the_recorded_trees_come_to_life() {
    let mut trees: Vec<Tree> = recorded::cases().iter().filter_map(tree).collect();
    assert_eq!(trees.len(), 178, "recorded trees");
    trees.extend(nested());
    all_hold(&trees);
}

/// Every other of the random trees, in a mode that it can have: pid 1 of this namespace is taken.
#[test]
fn random_trees_come_to_life() {
    const STEP: usize = 2;
    let modes = [Mode::PidNs, Mode::NoPids, Mode::Pids];
    let trees = recorded::random();
    let one = |(line, tree): (usize, &recorded::Random)| {
        let mode = modes[line / STEP % if tree.tasks.iter().any(|t| t[0] == 1) { 2 } else { 3 }];
        let head = histories::head(&tree.tasks, tree.offset, false);
        of_history(format!("line {} {mode:?}", line + 1), mode, &tree.tasks, head)
    };
    let trees: Vec<Tree> = trees.iter().enumerate().step_by(STEP).map(one).collect();
    let refused = trees.iter().filter(|t| t.refused.is_some()).count();
    assert!(refused > 0 && refused < trees.len() / 2, "{refused} refused");
    all_hold(&trees);
}

/// In the historic library each task had the stacks of all its ancestors.
#[test]
fn deep_and_wide_trees_come_to_life() {
    let pid = |i: i32| 400 + i;
    let kinds: [(&str, &dyn Fn(i32) -> i32); 2] =
        [("chain", &|i| pid(i - 1)), ("wide", &|_| pid(0))];
    let tree = |(name, parent): (&str, &dyn Fn(i32) -> i32)| {
        let row = |i: i32| [pid(i), if i == 0 { 0 } else { parent(i) }, pid(i), pid(0), pid(0)];
        let rows: Vec<[i32; 5]> = (0..1000).map(row).collect();
        of_history(name.to_owned(), Mode::PidNs, &rows, histories::head(&rows, 1, true))
    };
    all_hold(&kinds.map(tree));
}
