//! `usercr plan` on the recorded images.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn usercr(args: &[&str], stdin: Option<&Path>) -> Output {
    let stdin = stdin.map_or_else(Stdio::null, |path| File::open(path).expect("an image").into());
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.args(args).stdin(stdin).output().expect("usercr runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs `plan --json` on a recorded image: its exit status and the object.
fn plan(image: &Path, pidns: bool, pid_max: u64) -> (Option<i32>, Value) {
    let pid_max = pid_max.to_string();
    let path = image.to_str().expect("a path in UTF-8");
    let mut args = vec!["plan", "--json", "--pid-max", &pid_max, path];
    args.extend(pidns.then_some("--pidns"));
    let output = usercr(&args, None);
    let text = stdout(&output);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"));
    (output.status.code(), value)
}

fn file(dir: &Path, name: &str) -> Value {
    let text = fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// What both tables say about a task, whatever else they say. A number that is not known there is 0.
fn common(task: &Value) -> Value {
    let names = ["index", "pid", "ppid", "sid", "creator", "flags"];
    let value = |name: &str| match task.get(name).cloned().unwrap_or_default() {
        Value::Null => json!(0),
        value => value,
    };
    names.iter().map(|&name| (name.to_owned(), value(name))).collect()
}

/// The children of `pid` in the recorded lists, those that are forked before setsid first.
fn children(tasks: &[Value], pid: &Value) -> Vec<Value> {
    let of = |task: &&Value, name: &str, value: &Value| task.get(name) == Some(value);
    let find = |pid: &Value| tasks.iter().find(|t| of(t, "pid", pid));
    let first = tasks.iter().find(|t| of(t, "creator", pid) && of(t, "prev", &Value::Null));
    let list = std::iter::successors(first, |task| find(task.get("next")?));
    let early =
        |task: &&Value| task.get("flags").and_then(Value::as_str).is_some_and(|f| f.contains('S'));
    let (early, late): (Vec<&Value>, Vec<&Value>) = list.partition(early);
    early.into_iter().chain(late).filter_map(|task| task.get("pid").cloned()).collect()
}

#[test]
fn json_is_the_recorded_plan() {
    let mut compared = 0;
    let dirs = fs::read_dir(golden()).expect("golden").map(|e| e.expect("an entry").path());
    for dir in dirs.filter(|d| d.is_dir()) {
        let (args, expected) = (file(&dir, "args.json"), file(&dir, "expected.json"));
        let kind = expected.get("kind").and_then(Value::as_str).unwrap_or_default();
        let build = expected.get("build").cloned().unwrap_or_default();
        let tasks = build.get("tasks").and_then(Value::as_array).cloned().unwrap_or_default();
        let wrong_plan = ["dead-session", "thread-of-root", "bad-", "nested"];
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if kind != "tree" || tasks.is_empty() || wrong_plan.iter().any(|w| name.starts_with(w)) {
            continue;
        }
        let pidns = args.pointer("/args/pidns").and_then(Value::as_i64).unwrap_or(0) != 0;
        let pid_max = args.get("pid_max").and_then(Value::as_u64).unwrap_or(32768);
        let (code, plan) = plan(&dir.join("image.bin"), pidns, pid_max);
        assert_eq!(code, Some(0), "{name}");
        let ours = plan.get("tasks").and_then(Value::as_array).expect("tasks");
        let rows = |tasks: &[Value]| tasks.iter().map(common).collect::<Vec<_>>();
        assert_eq!(rows(ours), rows(&tasks), "{name}");
        for task in ours {
            let pid = task.get("pid").expect("a pid");
            assert_eq!(task.get("children"), Some(&json!(children(&tasks, pid))), "{name}: {pid}");
        }
        let orphans = build.get("orphans_required").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(plan.get("orphans"), Some(&orphans), "{name}");
        compared += 1;
    }
    assert!(compared > 90, "only {compared} cases were compared");
}

#[test]
fn a_bad_image_is_an_error_object_and_status_1() {
    for name in ["bad-empty", "bad-cut-in-tree", "bad-type-header", "bad-cycle-2"] {
        let (code, value) = plan(&golden().join(name).join("image.bin"), false, 32768);
        let error = value.get("error").and_then(Value::as_str).unwrap_or_default();
        assert!(code == Some(1) && !error.is_empty(), "{name}: {code:?} {value}");
    }
    let (code, value) = plan(Path::new("no/such/image"), false, 32768);
    assert_eq!(code, Some(1));
    assert_eq!(value, json!({ "error": "no/such/image: No such file or directory (os error 2)" }));
}

#[test]
fn the_picture_has_every_task_with_its_reason() {
    let image = golden().join("ghost-sid-two-children.pids/image.bin");
    let output = usercr(&["plan", "--pid-max", "32768", "-"], Some(&image));
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let line = |pid: &str| {
        let found = text.lines().find(|l| l.split_whitespace().nth(1) == Some(pid));
        found.unwrap_or_else(|| panic!("no pid {pid} in:\n{text}"))
    };
    assert!(line("101").contains("ghost (leader, gone, of the session of 102, 103, 104"), "{text}");
    assert!(line("301").contains("placeholder (for a parent, gone, in session 101"), "{text}");
    assert!(line("102").contains("its parent shall be 100"), "{text}");
    assert!(text.contains("can only be restarted with --pidns"), "{text}");
    let order: Vec<usize> = ["100", "101", "301", "103", "102", "104"]
        .iter()
        .filter_map(|pid| text.lines().position(|l| l == line(pid)))
        .collect();
    assert!(order.len() == 6 && order.is_sorted(), "{order:?} in:\n{text}");
}

#[test]
fn early_forks_siblings_and_threads_are_named() {
    for (case, words) in [
        ("sibling-session.pids", "a child of"),
        ("inherit-before-setsid.pids", "forked before"),
        ("threads-5-child.pids", "thread of"),
    ] {
        let image = golden().join(case).join("image.bin");
        let output = usercr(&["plan", "-"], Some(&image));
        assert!(stdout(&output).contains(words), "{case}: {output:?}");
    }
}

#[test]
fn a_deep_tree_is_drawn_in_linear_space() {
    let image = golden().join("chain-50.pids/image.bin");
    let text = stdout(&usercr(&["plan", "-"], Some(&image)));
    assert!(text.contains("level 49: "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 200), "{text}");
}
