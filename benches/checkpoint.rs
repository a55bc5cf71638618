//! Checkpoints of a large tree and of a large process, and their restarts, beside CRIU in the same run.
//!
//! The trees are those of `c-tests/workloads`: a root with sleeping children, and a process with touched
//! memory. Each is made anew, saved and ended, brought back, and has to find its state as it was. The two
//! programs take turns; so does a loop that writes as many bytes as the process has to a new file, which is the
//! least that its checkpoint has to do. Before each, as much memory is touched and given back: a virtual machine
//! may have to ask its host for memory that it has not used for a while, and that takes longer than all the rest.
//! CRIU is `$CRIU`, or `criu` in `$PATH`, and is left out where its own check says
//! that it does not work. Numbers in the environment: `BENCH_TASKS` (1000), `BENCH_MIB` (4096),
//! `BENCH_ROUNDS` (5); images are written below `BENCH_DIR` (`/dev/shm`). Results: `docs/performance.md`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, ptr};

#[path = "../tests/cc/mod.rs"]
mod cc;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What saves trees and brings them back.
#[derive(Clone, Copy)]
enum Program<'a> {
    Usercr,
    Criu(&'a Path),
}

/// A command that has ended, with what it has used.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    /// User and system time of the command and its children, and of the tasks meanwhile.
    cpu: Duration,
    /// Bytes resident in the largest process of the command.
    peak: u64,
    /// Bytes in its image.
    image: u64,
}

fn main() {
    let bench = env::args().any(|arg| arg == "--bench");
    let number = |name: &str, full: u64, short: u64| match env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) if bench => full,
        Err(_) => short,
    };
    let (tasks, mib) = (number("BENCH_TASKS", 1000, 10), number("BENCH_MIB", 4096, 16));
    let rounds = number("BENCH_ROUNDS", 5, 1);
    adopt_orphans();
    let base = env::var_os("BENCH_DIR").unwrap_or_else(|| "/dev/shm".into());
    let dir = tempfile::tempdir_in(base).expect("a folder for the images");
    let criu = criu();
    match &criu {
        Ok(path) => println!("CRIU: {}, version {}\n", path.display(), version(path)),
        Err(why) => println!("CRIU: skipped, {why}\n"),
    }
    println!("| tree | what | wall time | to CRIU | CPU | to CRIU | peak memory | image |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut programs = vec![Program::Usercr];
    programs.extend(criu.iter().map(|path| Program::Criu(path)));
    let memory = build("mem");
    for (name, size, title) in
        [("wide", tasks, format!("{tasks} processes")), ("mem", mib, format!("{mib} MiB"))]
    {
        let workload = build(name);
        // A process of the wide tree has much less than 1 MiB.
        let warm = || touch(&memory, size, dir.path());
        let mut costs: Vec<[Vec<Cost>; 2]> = programs.iter().map(|_| Default::default()).collect();
        let mut bare = Vec::new();
        for _ in 0..rounds {
            if name == "mem" {
                warm();
                bare.push(bare_write(dir.path(), size));
            }
            for (program, costs) in programs.iter().zip(&mut costs) {
                let [save, back] = round(*program, &workload, size, dir.path(), &warm);
                costs[0].push(save);
                costs[1].push(back);
            }
        }
        for (at, what) in ["checkpoint", "restart"].into_iter().enumerate() {
            let costs: Vec<Cost> = costs.iter().map(|both| median(&both[at])).collect();
            for (program, cost) in programs.iter().zip(&costs) {
                println!("{}", row(&title, what, *program, *cost, costs.get(1)));
            }
            if what == "checkpoint" && !bare.is_empty() {
                let cost = median(&bare);
                let ratio = ratio(cost.wall, costs.get(1).map(|criu| criu.wall));
                let time = cost.wall.as_secs_f64();
                println!("| {title} | write(2) alone | {time:.2} s | {ratio} | - | - | - | - |");
            }
        }
    }
}

/// A line of the table.
fn row(tree: &str, what: &str, program: Program<'_>, cost: Cost, criu: Option<&Cost>) -> String {
    let name = match program {
        Program::Usercr => "`usercr`",
        Program::Criu(_) => "CRIU",
    };
    let mut row = format!("| {tree} | {what}, {name} ");
    for (time, criu) in [(cost.wall, criu.map(|c| c.wall)), (cost.cpu, criu.map(|c| c.cpu))] {
        write!(row, "| {:.2} s | {} ", time.as_secs_f64(), ratio(time, criu)).expect("text");
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    write!(row, "| {:.0} MiB | {:.1} MiB |", mib(cost.peak), mib(cost.image)).expect("text");
    row
}

fn ratio(time: Duration, criu: Option<Duration>) -> String {
    criu.map_or("-".into(), |criu| format!("{:.2}", time.as_secs_f64() / criu.as_secs_f64()))
}

/// Writes so many MiB to a new file.
fn bare_write(dir: &Path, mib: u64) -> Cost {
    let (path, piece) = (dir.join("bare"), vec![1u8; 1 << 20]);
    let mut file = File::create(&path).expect("a file");
    let start = Instant::now();
    for _ in 0..mib {
        file.write_all(&piece).expect("room for the file");
    }
    let cost = Cost { wall: start.elapsed(), ..Cost::default() };
    fs::remove_file(path).expect("remove the file");
    cost
}

/// Of each measure by itself.
fn median(costs: &[Cost]) -> Cost {
    fn middle<T: Ord + Copy>(costs: &[Cost], of: impl Fn(&Cost) -> T) -> T {
        let mut all: Vec<T> = costs.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }
    Cost {
        wall: middle(costs, |c| c.wall),
        cpu: middle(costs, |c| c.cpu),
        peak: middle(costs, |c| c.peak),
        image: middle(costs, |c| c.image),
    }
}

/// One tree, saved and ended, brought back, and asked whether it is what it was.
fn round(
    program: Program<'_>,
    workload: &Path,
    size: u64,
    dir: &Path,
    warm: &dyn Fn(),
) -> [Cost; 2] {
    let (tree, result) = start(workload, size, dir);
    let root = tree.0[0];
    let images = dir.join("images");
    fs::create_dir(&images).expect("a folder for the image");
    let image = images.join("image");

    warm();
    let before = tree.cpu();
    let begun = Instant::now();
    let mut save = match program {
        Program::Usercr => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
            command.args(["checkpoint", "--kill", &root.to_string()]).arg(&image);
            measured(&mut command)
        }
        Program::Criu(criu) => {
            let mut command = Command::new(criu);
            command.args(["dump", "-v0", "-t", &root.to_string(), "-D"]).arg(&images);
            measured(&mut command)
        }
    };
    // One of the two programs waits until the tree has ended, the other does not.
    tree.wait();
    save.wall = begun.elapsed();
    save.cpu += tree.reap() - before;
    save.image = files(&images).iter().map(|m| m.len()).sum();

    warm();
    let mut back = match program {
        Program::Usercr => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
            measured(command.args(["restart", "--detach"]).arg(&image))
        }
        Program::Criu(criu) => {
            let mut command = Command::new(criu);
            measured(command.args(["restore", "-v0", "--restore-detached", "-D"]).arg(&images))
        }
    };
    back.cpu += tree.cpu();
    back.image = save.image;
    fs::remove_dir_all(&images).expect("remove the images");

    // SAFETY: a signal to the root of a tree that this program reaps, so it is still that task.
    unsafe { libc::kill(root, libc::SIGUSR1) };
    tree.reap();
    let said = fs::read_to_string(&result).expect("a result of the tree");
    assert_eq!(said, "ok\n", "the tree is not what it was");
    [save, back]
}

/// A workload that is ready, and where it writes what it finds.
fn start(workload: &Path, size: u64, dir: &Path) -> (Tree, PathBuf) {
    let [pid_file, result] = ["pid", "result"].map(|name| dir.join(name));
    let mut start = Command::new(workload);
    cc::succeeds(start.arg(size.to_string()).arg(&pid_file).arg(&result));
    let root = fs::read_to_string(&pid_file).expect("a pid").trim().parse().expect("a number");
    (Tree(descendants(root)), result)
}

/// Has another process touch so many MiB, and ends it.
fn touch(memory: &Path, mib: u64, dir: &Path) {
    let warm = dir.join("warm");
    fs::create_dir(&warm).expect("a folder");
    let (tree, _) = start(memory, mib, &warm);
    // SAFETY: a signal to a process of this benchmark, which nobody else reaps.
    unsafe { libc::kill(tree.0[0], libc::SIGKILL) };
    tree.reap();
    fs::remove_dir_all(&warm).expect("remove the folder");
}

fn files(dir: &Path) -> Vec<fs::Metadata> {
    let entries = fs::read_dir(dir).expect("a folder");
    entries.map(|e| e.expect("an entry").metadata().expect("a file")).collect()
}

/// Pids of a tree, the root first. Whoever is left of it is ended with this.
struct Tree(Vec<i32>);

impl Tree {
    /// Time that the tasks have run for.
    fn cpu(&self) -> Duration {
        // SAFETY: takes a number only.
        let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let time = |pid: &i32| {
            let number = |text: &str, index: usize| -> u64 {
                let word = text.split_ascii_whitespace().nth(index);
                word.and_then(|word| word.parse().ok()).expect("a number")
            };
            let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).expect(name);
            // The one is exact, the other has also what threads that have ended have used.
            let (own, all) = (read("schedstat"), read("stat"));
            let (_, all) = all.rsplit_once(") ").expect("a name");
            let ticks = number(all, 11) + number(all, 12);
            let all = Duration::from_secs_f64(ticks as f64 / ticks_per_second);
            all.max(Duration::from_nanos(number(&own, 0)))
        };
        self.0.iter().map(time).sum()
    }

    /// Waits until all have ended.
    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        let ended = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')))
        };
        while !self.0.iter().all(ended) {
            assert!(Instant::now() < deadline, "the tree does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all have ended, and reaps them; the time that they had run for. The orphans among
    /// them are children of this program.
    fn reap(&self) -> Duration {
        self.wait();
        // A root that has ended by itself has reaped the others.
        let left = self.0.iter().copied().filter(|p| Path::new(&format!("/proc/{p}")).exists());
        let left = Tree(left.collect());
        let time = left.cpu();
        for &pid in &left.0 {
            // SAFETY: a NULL status is allowed.
            unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
        }
        std::mem::forget(left);
        time
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for &pid in self.0.iter().filter(|_| std::thread::panicking()) {
            // SAFETY: signals to the tasks of this benchmark; a NULL status is allowed.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, ptr::null_mut(), libc::__WALL);
            }
        }
    }
}

/// A task and those below it.
fn descendants(root: i32) -> Vec<i32> {
    let (mut found, mut todo) = (Vec::new(), VecDeque::from([root]));
    while let Some(pid) = todo.pop_front() {
        found.push(pid);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("a list of children");
        todo.extend(children.split_ascii_whitespace().map(|c| c.parse::<i32>().expect("a pid")));
    }
    found
}

/// Runs a command to its end. The memory that it is charged with is at least that of this program,
/// which starts it.
fn measured(command: &mut Command) -> Cost {
    let start = Instant::now();
    #[allow(clippy::zombie_processes, reason = "wait4 reaps it")]
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut status = 0;
    // SAFETY: a struct of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: status and usage are valid for writing.
    let got = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    let wall = start.elapsed();
    assert!(got > 0 && status == 0, "{command:?}: status {status}, {}", io::Error::last_os_error());
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    let cpu = time(usage.ru_utime) + time(usage.ru_stime);
    Cost { wall, cpu, peak: usage.ru_maxrss as u64 * 1024, image: 0 }
}

/// Makes this program the parent of the trees' orphans.
fn adopt_orphans() {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

/// The program that belongs to a source in `c-tests/workloads`.
fn build(name: &str) -> PathBuf {
    let program = cc::build_dir().join(name);
    let source = cc::top().join("c-tests/workloads").join(format!("{name}.c"));
    cc::succeeds(cc::cc().arg(source).arg("-o").arg(&program));
    program
}

/// CRIU, or why it cannot be used.
fn criu() -> Result<PathBuf, String> {
    let found = match env::var_os("CRIU") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
            let dirs = env::split_paths(&path).chain(system);
            let mut files = dirs.map(|dir| dir.join("criu"));
            files.find(|file| File::open(file).is_ok()).ok_or("there is none")?
        }
    };
    let check = Command::new(&found).arg("check").stdin(Stdio::null()).output();
    let check = check.map_err(|e| format!("{}: {e}", found.display()))?;
    if check.status.success() {
        return Ok(found);
    }
    let said = String::from_utf8_lossy(&check.stderr).trim().replace('\n', "; ");
    Err(format!("`{} check` says: {said}", found.display()))
}

fn version(criu: &Path) -> String {
    let output = Command::new(criu).arg("--version").output().expect("it has worked before");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().and_then(|l| l.split_once(": ")).map_or(text.clone(), |(_, v)| v.into())
}
