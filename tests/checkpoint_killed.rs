//! The command may be killed at any moment of a checkpoint: the tree goes on whole, and nothing of the
//! checkpoint stays behind.

mod dump_common;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, descendants};

/// Moments at which the command is killed.
const MOMENTS: u32 = 200;
/// Tasks of the tree.
const TASKS: usize = 100;
/// How long the tree may take to get on after each.
const LIMIT: Duration = Duration::from_secs(20);
/// Where the moments come from.
const SEED: u64 = 20_111_124;

/// Numbers that look random: xorshift64*.
struct Random(u64);

impl Random {
    /// The next, from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn start(pid: i32, image: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.arg("checkpoint").arg(pid.to_string()).arg(image);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the command starts")
}

/// One task, as /proc/PID/task/TID/status tells it.
struct Task {
    status: PathBuf,
    /// How often it has gone to sleep.
    sleeps: u64,
}

impl Task {
    /// State letter, tracer, and how often it has gone to sleep.
    fn look(&self) -> (String, String, u64) {
        let text = fs::read_to_string(&self.status).expect("no task has ended");
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let sleeps = field("voluntary_ctxt_switches:").parse().expect("a number");
        (field("State:"), field("TracerPid:"), sleeps)
    }

    fn is_free(&self) -> bool {
        let (state, tracer, _) = self.look();
        tracer == "0" && !state.starts_with(['t', 'T'])
    }
}

/// What the checks look at.
struct Tree {
    /// The root first, which only waits.
    tasks: Vec<Task>,
    /// Each process with its mappings as they are to be, and the place of its vdso.
    processes: Vec<(i32, String, (u64, u64))>,
    vdso: Vec<u8>,
}

fn maps(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    // Sizes of the stack are the kernel's business.
    text.lines().filter(|l| !l.ends_with("[stack]")).collect::<Vec<_>>().join("\n")
}

fn vdso_place(maps: &str) -> (u64, u64) {
    let line = maps.lines().find(|l| l.ends_with("[vdso]")).expect("a vdso");
    let (start, end) = line.split(' ').next().and_then(|r| r.split_once('-')).expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
    (number(start), number(end))
}

fn bytes(pid: i32, (start, end): (u64, u64)) -> Vec<u8> {
    let mut bytes = vec![0; (end - start) as usize];
    let memory = File::open(format!("/proc/{pid}/mem")).expect("mem");
    memory.read_exact_at(&mut bytes, start).expect("read");
    bytes
}

impl Tree {
    fn of(root: i32) -> Tree {
        let pids: Vec<i32> = std::iter::once(root).chain(descendants(root)).collect();
        let threads = |pid: &i32| {
            let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("task");
            let status = |e: std::io::Result<fs::DirEntry>| e.expect("entry").path().join("status");
            entries.map(status).map(|status| Task { status, sleeps: 0 }).collect::<Vec<Task>>()
        };
        let tasks: Vec<Task> = pids.iter().flat_map(threads).collect();
        let own = fs::read_to_string("/proc/self/maps").expect("maps");
        let process = |pid: i32| {
            let maps = maps(pid);
            let place = vdso_place(&maps);
            (pid, maps, place)
        };
        let vdso = bytes(std::process::id() as i32, vdso_place(&own));
        Tree { tasks, processes: pids.into_iter().map(process).collect(), vdso }
    }

    /// Waits until nobody is stopped or traced and everybody gets on; then nothing may be left.
    fn check(&mut self, when: &str) {
        let deadline = Instant::now() + LIMIT;
        let wait = |task: &Task, what: &str, done: &dyn Fn(&Task) -> bool| {
            while !done(task) {
                assert!(Instant::now() < deadline, "{when}: {} {what}", task.status.display());
                std::thread::sleep(Duration::from_micros(500));
            }
        };
        for task in &mut self.tasks {
            wait(task, "is not free", &Task::is_free);
            task.sleeps = task.look().2;
        }
        for task in self.tasks.iter().skip(1) {
            wait(task, "stands still", &|task| task.look().2 > task.sleeps + 1);
        }
        for (pid, before, place) in &self.processes {
            assert_eq!(&maps(*pid), before, "{when}: mappings of {pid}");
            assert!(
                bytes(*pid, *place) == self.vdso,
                "{when}: bytes are left in the vdso of {pid}"
            );
        }
    }
}

/// The files that are in a directory when none of them is half an image any more.
fn settled(directory: &Path, when: &str) -> Vec<OsString> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("entry").file_name();
        let names: Vec<OsString> = fs::read_dir(directory).expect("read").map(name).collect();
        if !names.iter().any(|name| name.as_encoded_bytes().ends_with(b".part")) {
            return names;
        }
        assert!(Instant::now() < deadline, "{when}: {names:?} are left");
        std::thread::yield_now();
    }
}

/// Ends what a failed test would leave.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_kills_the_command_leaves_a_whole_tree() {
    let mut victim = Victim::program("hundred");
    let images = tempfile::TempDir::new().expect("a directory");
    let image = images.path().join("image");
    let mut whole = Duration::MAX;
    for _ in 0..3 {
        let begin = Instant::now();
        assert!(start(victim.pid(), &image).wait().expect("wait").success());
        whole = whole.min(begin.elapsed());
    }
    let mut tree = Tree::of(victim.pid());
    assert_eq!(tree.tasks.len(), TASKS);
    let mut random = Random(SEED);
    let mut finished = 0;
    for moment in 0..MOMENTS {
        let after = whole.mul_f64(random.next());
        let signal = [libc::SIGKILL, libc::SIGINT, libc::SIGTERM][moment as usize % 3];
        let when = format!("moment {moment}, signal {signal} after {after:?} of {whole:?}");
        fs::remove_file(&image).unwrap_or_default();
        let mut child = Ended(start(victim.pid(), &image));
        std::thread::sleep(after);
        // SAFETY: a signal to a child that has not been reaped.
        unsafe { libc::kill(child.0.id() as i32, signal) };
        let success = child.0.wait().expect("wait").success();
        finished += u32::from(success);
        tree.check(&when);
        let left = settled(images.path(), &when);
        assert!(left.is_empty() || left == ["image"], "{when}: {left:?} is left");
        assert!(!success || !left.is_empty(), "{when}: no image");
    }
    assert!(finished < MOMENTS / 2, "only {} checkpoints were killed", MOMENTS - finished);
    assert_eq!(victim.finish(), "ok");
}
