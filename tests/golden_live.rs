//! The engine for kernels with restart(2) against what the historic library did at the barrier: every
//! recorded case runs under `c-tests/kernel/kernel.c`, which is such a kernel for one caller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]

mod cc;
mod recorded;

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use recorded::{Case, cases};
use serde_json::Value;
use usercr::image::{ImageHead, Reader};
use usercr::plan::Plan;

const LIMIT: Duration = Duration::from_secs(20);
const GHOST: &str = "4";

/// What the kernel has seen, as words of its lines.
#[derive(Default)]
struct Seen {
    lines: Vec<Vec<String>>,
    refed: Vec<u8>,
    freezer: [String; 2],
}

impl Seen {
    fn line(&self, kind: &str) -> Option<&[String]> {
        self.lines.iter().find(|l| l[0] == kind).map(Vec::as_slice)
    }

    fn tasks(&self) -> Vec<&[String]> {
        self.lines.iter().filter(|l| l[0] == "task").map(Vec::as_slice).collect()
    }

    /// A value of the line that tells how the call ended: `infd 0 pids 1 ...`.
    fn after(&self, name: &str) -> i64 {
        let call = self.line("call").expect("the call came back");
        let at = call.iter().position(|w| w == name).expect("a known word");
        call[at + 1].parse().unwrap()
    }
}

impl Case {
    fn reaper(&self) -> bool {
        let root = self.plan().map_or(1, |(_, plan)| plan.tasks[0].pid);
        self.pidns() && root != 1
    }

    /// The errno that the call must fail with, where the kernel is not even asked.
    fn refused(&self) -> Option<i32> {
        match self.name.as_str() {
            "self" | "self-fails" => return None,
            "self-and-pids" | "self-and-copy-status" => return Some(libc::EINVAL),
            "infd-negative" | "infd-closed" => return Some(libc::EBADF),
            "freezer-no-tasks" => return Some(libc::ENOENT),
            "inspect-bad-length" => return Some(libc::EINVAL),
            "inspect-error-record" => return Some(libc::EIO),
            name if name.starts_with("root-missing") => return Some(libc::ENOENT),
            _ => {}
        }
        let plan = match self.plan() {
            Err(e) => return Some(e.errno()),
            Ok((_, plan)) => plan,
        };
        (self.arg("pidns") == 0 && !plan.orphans().is_empty()).then_some(libc::EINVAL)
    }

    /// Whether the root task is ended by `signal`. The init of a namespace takes no signal that it has not
    /// asked for, but SIGKILL.
    fn takes(&self, signal: i64) -> bool {
        signal == 9 || signal != 0 && !self.name.contains("pidns-init")
    }

    fn fails(&self) -> Option<i32> {
        if self.kernel("eclone_fail_at") != 0 {
            return Some(libc::EAGAIN);
        }
        match self.args["kernel"]["fail"].as_str()? {
            "ENOMEM" => Some(libc::ENOMEM),
            "EINVAL" => Some(libc::EINVAL),
            other => panic!("{other}"),
        }
    }

    fn run(&self, kernel: &Path) -> Option<Seen> {
        let place = tempfile::tempdir().unwrap();
        let refed = place.path().join("refed");
        let mut args: Vec<OsString> = Vec::new();
        let mut word = |name: &str, value: &OsStr| {
            let mut arg = OsString::from(format!("{name}="));
            arg.push(value);
            args.push(arg);
        };
        let image = recorded::golden().join(&self.name).join("image.bin");
        word("image", image.as_os_str());
        word("refed", refed.as_os_str());
        for (name, value) in self.args["args"].as_object().unwrap() {
            match (name.as_str(), value) {
                ("freezer", _) => {
                    for file in ["freezer.state", "tasks"] {
                        if file != "tasks" || self.name != "freezer-no-tasks" {
                            std::fs::write(place.path().join(file), "").unwrap();
                        }
                    }
                    word("freezer", place.path().as_os_str());
                }
                ("klogfd", _) => word("klog", "1".as_ref()),
                ("ulogfd" | "uerrfd", _) => word("quiet", "1".as_ref()),
                ("infd", _) => {}
                (_, Value::String(text)) => word(name, text.as_ref()),
                _ => word(name, value.to_string().as_ref()),
            }
        }
        let mut number = |name: &str, value: i64| word(name, value.to_string().as_ref());
        number("infd", self.args["infd"].as_i64().unwrap());
        number("sigint", self.args["global_send_sigint_before"].as_i64().unwrap_or(-1));
        for name in ["root_exit", "root_signal", "coordinator_dies", "noise"] {
            number(name, self.kernel(name));
        }
        match self.kernel("eclone_fail_at") {
            0 => {}
            // The coordinator task is made the same way.
            nth => number("clone_fail", nth + i64::from(self.reaper())),
        }
        if self.args["kernel"]["fail"].is_string() {
            number("fail", self.fails().unwrap().into());
        }
        number("other_child", i64::from(self.name == "host-child-exits-before"));
        number("tasks", self.plan().map_or(0, |(_, plan)| plan.tasks.len() as i64));
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        let (status, text) = cc::run(kernel, &args, &[], place.path(), LIMIT)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        if status.code() == Some(cc::SKIPPED) {
            eprintln!("{text}");
            return None;
        }
        assert!(status.success(), "{}: {status}\n{text}", self.name);
        let read = |name: &str| std::fs::read_to_string(place.path().join(name));
        Some(Seen {
            lines: text.lines().map(|l| l.split(' ').map(str::to_owned).collect()).collect(),
            refed: std::fs::read(&refed).unwrap_or_default(),
            freezer: ["freezer.state", "tasks"].map(|name| read(name).unwrap_or_default()),
        })
    }
}

/// A task at the barrier: pid, thread group, parent, session, group, caught signals, flags, parent-death
/// signal. Ids are the image's pid numbers, or `caller`, `coordinator`, `outside`; `?` is one that the image
/// does not have.
type Live = (String, String, String, String, String, String, String, String);

/// The same for what the kernel has seen.
fn live(case: &Case, seen: &Seen, head: &ImageHead) -> BTreeSet<Live> {
    let pidns = case.pidns();
    let keeps = pidns || case.arg("pids") != 0;
    let old: HashMap<i32, i32> = if keeps {
        HashMap::new()
    } else {
        let refed = Reader::new(seen.refed.as_slice()).head().unwrap();
        refed.pids.numbers.iter().copied().zip(head.pids.numbers.iter().copied()).collect()
    };
    let mut names: HashMap<&str, String> = HashMap::new();
    for task in seen.tasks() {
        // Numbers in the caller's namespace and below it; the image begins with that of its root task.
        let numbers: Vec<i32> = task[2].split(',').map(|n| n.parse().unwrap()).collect();
        let inner = numbers[usize::from(pidns)];
        let name = match keeps {
            true => inner.to_string(),
            false => old.get(&inner).map_or("?".into(), i32::to_string),
        };
        names.insert(&task[1], name);
    }
    let caller = if pidns { "outside" } else { "caller" };
    names.insert(&seen.line("caller").unwrap()[1], caller.into());
    if case.reaper() {
        names.insert(&seen.line("coordinator").unwrap()[1], "coordinator".into());
    }
    let name = |word: &String| names.get(word.as_str()).cloned().unwrap_or(format!("no {word}"));
    let row = |t: &[String]| {
        let [pid, tgid, ppid, sid, pgid] = [1, 3, 4, 5, 6].map(|i| name(&t[i]));
        (pid, tgid, ppid, sid, pgid, t[7].clone(), t[8].clone(), t[9].clone())
    };
    seen.tasks().into_iter().map(row).collect()
}

/// What was recorded; none where the historic library had not told its tasks' pids.
fn recorded(case: &Case) -> Option<BTreeSet<Live>> {
    let word = |v: &Value| match v {
        Value::String(s) if s == "other" => "?".to_owned(),
        Value::String(s) => s.clone(),
        v => v.to_string(),
    };
    let caught = |v: &Value| {
        let signals = v.as_array().unwrap().iter().map(|s| match s.as_str().unwrap() {
            "SIGUSR1" => 1u64 << (libc::SIGUSR1 - 1),
            "SIGSEGV" => 1 << (libc::SIGSEGV - 1),
            other => panic!("{other}"),
        });
        format!("{:x}", signals.sum::<u64>())
    };
    let row = |t: &Value| {
        let [pid, tgid, ppid, sid, pgid] =
            ["task", "tgid", "ppid", "sid", "pgid"].map(|name| word(&t[name]));
        let [flags, death] = ["restart_flags", "pdeathsig"].map(|name| word(&t[name]));
        (pid, tgid, ppid, sid, pgid, caught(&t["catches"]), flags, death)
    };
    let tasks = case.expected["live"].as_array()?;
    let known = tasks.iter().all(|t| t["task"] != "?");
    known.then(|| tasks.iter().map(row).collect())
}

/// Parents and sessions of the image: what the plan wants.
fn planned(plan: &Plan, place: &str, live: &BTreeSet<Live>) {
    let pid = |index: usize| plan.tasks[index].pid.to_string();
    let by_pid: HashMap<&str, &Live> = live.iter().map(|t| (t.0.as_str(), t)).collect();
    for (index, task) in plan.tasks.iter().enumerate() {
        let Some(seen) = by_pid.get(pid(index).as_str()) else {
            assert!(index >= plan.image_tasks(), "{place}: task {index} is missing");
            continue;
        };
        let ghost = index >= plan.image_tasks();
        assert_eq!(seen.6 == GHOST, ghost, "{place}: flags of {seen:?}");
        if let Some(parent) = plan.real_parent(index).filter(|&p| p < plan.image_tasks()) {
            assert_eq!(seen.2, pid(parent), "{place}: parent of {seen:?}");
        }
        if let Some(leader) = plan.session_leader(index).filter(|_| task.sid != 0) {
            assert_eq!(seen.3, pid(leader), "{place}: session of {seen:?}");
        }
    }
}

/// Judges the facts of the caller after a call that came back.
fn returned(case: &Case, seen: &Seen, errno: Option<i32>) {
    let place = format!("{}: {:?}", case.name, seen.line("call"));
    let call = seen.line("call").unwrap_or_else(|| panic!("{place}: {:?}", seen.lines));
    let ret: i32 = call[1].parse().unwrap();
    match errno {
        None => assert!(ret > 0, "{place}"),
        Some(errno) => assert_eq!((ret, &call[2]), (-1, &errno.to_string()), "{place}"),
    }
    // Better than the historic library: the caller finds everything as it was.
    assert_eq!(seen.after("infd"), case.args["infd"].as_i64().unwrap(), "{place}");
    assert_eq!((seen.after("fds"), seen.after("handlers")), (0, 0), "{place}");
    if errno.is_some() {
        assert_eq!(seen.after("others"), 0, "{place}: tasks are left");
    } else {
        let sigint = &case.expected["call"]["send_sigint_after"];
        if let Some(sigint) = sigint.as_i64().filter(|&s| s != -1) {
            assert_eq!(seen.after("sigint"), sigint, "{place}");
        }
        assert_eq!(seen.after("pids"), case.arg("pids").max(case.arg("pidns")), "{place}");
        assert_eq!(seen.after("mntns"), case.arg("mntns").max(case.arg("mnt_pty")), "{place}");
        let child = i64::from(case.name == "host-child-exits-before");
        assert_eq!(seen.after("child"), child, "{place}: the caller's own child");
    }
    // Without wait the caller has ended as the root task did.
    let end =
        if errno.is_none() && case.arg("wait") == 0 { case.kernel("root_exit") << 8 } else { 0 };
    assert_eq!(seen.line("ended").unwrap()[1], end.to_string(), "{place}");
}

/// Judges the image that the kernel was fed with, and the tasks that have come.
fn built(case: &Case, seen: &Seen) {
    let (head, plan) = case.plan().unwrap();
    let place = &case.name;
    let keeps = case.pidns() || case.arg("pids") != 0;
    let end = seen.refed.len();
    if keeps {
        assert!(case.image == seen.refed, "{place}: not the same image");
    } else {
        let mut refed = Reader::new(seen.refed.as_slice()).head().unwrap();
        assert_eq!(case.image.len(), end, "{place}: bytes");
        // Nothing but pid numbers has changed, not even in what the reader does not look at.
        let places = refed.pids.numbers.iter().zip(&head.pids.numbers).filter(|(a, b)| a != b);
        let numbers = 4 * places.count();
        refed.pids.numbers.clone_from(&head.pids.numbers);
        assert_eq!(refed, head, "{place}");
        let bytes = case.image.iter().zip(&seen.refed).filter(|(a, b)| a != b).count();
        assert!(bytes <= numbers, "{place}: {bytes} bytes have changed, of {numbers} in pids");
        let tail = usize::try_from(case.expected["refed"]["tail_bytes"].as_u64().unwrap_or(0));
        let tail = end - tail.unwrap();
        assert!(case.image[tail..] == seen.refed[tail..], "{place}: tail");
    }
    let live = live(case, seen, &head);
    if case.expected["legacy_defect"] == false
        && let Some(recorded) = recorded(case)
    {
        assert_eq!(live, recorded, "{place}");
    }
    planned(&plan, place, &live);
    if keeps {
        // In all namespaces.
        let pidns = usize::from(case.pidns());
        let have: BTreeSet<String> = seen
            .tasks()
            .iter()
            .map(|t| t[2].split(',').skip(pidns).collect::<Vec<_>>().join(","))
            .collect();
        let number = |i| plan.numbers(i).iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let want: BTreeSet<String> = (0..plan.tasks.len()).map(number).collect();
        assert_eq!(have, want, "{place}: pids");
    }
    let coordinator = seen.line("coordinator").unwrap();
    let caller = &seen.line("caller").unwrap()[1];
    assert_eq!(coordinator[1] != *caller, case.reaper(), "{place}: coordinator");
    let flags = 2 * case.arg("keep_frozen") + 8 * case.arg("keep_lsm");
    let log = if case.args["args"]["klogfd"].is_string() { "1" } else { "0" };
    assert_eq!((&coordinator[3], coordinator[4].as_str()), (&flags.to_string(), log), "{place}");
    assert_eq!(seen.line("checked-in").unwrap()[1], plan.tasks.len().to_string(), "{place}");
    let root = &seen.line("root").unwrap()[1];
    let root = seen.tasks().into_iter().find(|t| t[1] == *root).expect("the root task")[2].clone();
    let mut numbers = root.split(',');
    let callers = numbers.next().unwrap().to_owned();
    if keeps {
        let own = numbers.next().unwrap_or(&callers);
        assert_eq!(own, plan.tasks[0].pid.to_string(), "{place}: root");
    }
    mounts(case, seen);
    // Who it is that the call says was started.
    let first = if case.reaper() { &coordinator[5] } else { &callers };
    if let Some(call) = seen.line("call").filter(|call| call[1] != "-1") {
        assert_eq!(call[1], *first, "{place}: the pid that is returned");
    }
}

/// Judges what the file system is to the root task.
fn mounts(case: &Case, seen: &Seen) {
    let place = &case.name;
    let seen = &seen.line("mounts").unwrap()[1..];
    let flag = |flag: bool| if flag { "1" } else { "0" };
    let pty = case.arg("mnt_pty") != 0;
    let own = case.pidns() || case.arg("mntns") != 0 || pty;
    assert_eq!(seen[..3], [flag(own), flag(pty), flag(case.pidns())], "{place}: mounts");
    let root = case.args["args"]["root"].as_str().unwrap_or("/");
    assert_eq!(seen[3], root, "{place}: root directory");
}

/// Judges the messages of a call that came back and had been asked for some.
fn said(case: &Case, seen: &Seen) {
    let text = seen.line("said").unwrap()[1..].join(" ");
    let place = format!("{}: {text}", case.name);
    let legacy = case.expected["call"]["ulog_bytes"].as_u64().unwrap_or(0);
    let asked = case.arg("verbose") != 0 || case.arg("show_status") != 0;
    assert_eq!(!text.is_empty(), asked && case.args["args"]["ulogfd"].is_null(), "{place}");
    assert!(legacy == 0 || !text.is_empty(), "{place}");
    let signal = case.kernel("root_signal");
    let end = match case.takes(signal) {
        true => format!("the root task was killed by signal {signal}|"),
        false => format!("the root task exited with status {}|", case.kernel("root_exit")),
    };
    let shows = case.arg("show_status") != 0;
    assert_eq!(text.contains("the root task "), shows, "{place}");
    assert!(!shows || text.ends_with(&end), "{place}, not {end}");
}

/// Judges one case.
fn judge(case: &Case, seen: &Seen) {
    if let Some(errno) = case.refused() {
        assert!(seen.line("coordinator").is_none(), "{}: the kernel was asked", case.name);
        return returned(case, seen, Some(errno));
    }
    if let Some(own) = seen.line("self") {
        assert_eq!(own[1..], ["1", "1", "0"], "{}", case.name);
        mounts(case, seen);
        if let Some(errno) = case.fails() {
            return returned(case, seen, Some(errno));
        }
        // The caller has gone on as what the image says, and the call has not come back.
        assert!(seen.line("call").is_none(), "{}: came back", case.name);
        assert_eq!(seen.line("became").unwrap()[1], "2", "{}", case.name);
        return assert_eq!(seen.line("ended").unwrap()[1], (42 << 8).to_string(), "{}", case.name);
    }
    if case.kernel("eclone_fail_at") != 0 {
        return returned(case, seen, case.fails());
    }
    built(case, seen);
    let dies = case.kernel("coordinator_dies");
    if dies != 0 {
        // Whatever happens: nothing of the tree stays, or the namespace would not have ended.
        return match case.reaper() {
            true => returned(case, seen, Some(libc::ESRCH)),
            false => assert_eq!(seen.line("ended").unwrap()[1], dies.to_string(), "{}", case.name),
        };
    }
    assert!(seen.line("early").is_none(), "{}: back before the root task has ended", case.name);
    let signal = case.kernel("root_signal");
    if case.arg("copy_status") != 0 && case.takes(signal) {
        let ended = &seen.line("ended").unwrap()[1];
        return assert_eq!(*ended, signal.to_string(), "{}", case.name);
    }
    returned(case, seen, case.fails());
    if case.fails().is_none() {
        said(case, seen);
    }
    if let Some(stayed) = seen.line("stayed") {
        let [stay, all, ghosts] = [1, 2, 3].map(|i| stayed[i].parse::<u32>().unwrap());
        assert_eq!(stay, all - ghosts, "{}: tasks died", case.name);
    }
    if case.name == "freezer-fake" {
        assert_eq!(seen.freezer[0], "THAWED\0");
        assert!(!seen.freezer[1].is_empty(), "no task has joined the freezer");
    }
}

/// Cases next to the recorded ones: how the root task ended is shown too, without `verbose`; there is another
/// root directory; `self` goes elsewhere first; the caller gets signals all the time.
fn more() -> Vec<Case> {
    let mut more = cases();
    let waits = |case: &Case| case.expected["kind"] == "wait" && case.arg("wait") != 0;
    more.retain(|case| {
        waits(case) && case.arg("copy_status") == 0
            || ["root-slash", "wide-200.nopids", "threads-20.pids"].contains(&case.name.as_str())
    });
    for (name, value) in [
        ("mntns", Value::from(1)),
        ("mnt_pty", 1.into()),
        ("root", env!("CARGO_MANIFEST_DIR").into()),
    ] {
        let mut own = cases().into_iter().find(|case| case.name == "self").unwrap();
        own.args["args"][name] = value;
        more.push(own);
    }
    for case in more.iter_mut().filter(|case| case.arg("self") == 0) {
        let args = &mut case.args["args"];
        if args["root"].is_string() {
            args["root"] = env!("CARGO_MANIFEST_DIR").into();
        } else if case.expected["kind"] != "wait" {
            case.args["kernel"] = serde_json::json!({ "noise": 1 });
        } else {
            args["show_status"] = 1.into();
        }
    }
    more
}

#[test]
fn the_recorded_facts_hold_on_a_kernel_with_restart() {
    let kernel = cc::build(&cc::top().join("c-tests/kernel/kernel.c"), cc::Link::Archive, &[]);
    let mut wrong = Vec::new();
    let mut all = cases();
    all.extend(more());
    for case in all {
        let judged = std::panic::catch_unwind(|| match case.run(&kernel) {
            Some(seen) => judge(&case, &seen),
            None => eprintln!("{}: skipped", case.name),
        });
        if judged.is_err() {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "{} cases: {wrong:?}", wrong.len());
}
