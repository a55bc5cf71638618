//! Programs that nobody wrote for this come back and go on, twice, with the pids of the image and in a pid
//! namespace: what they make in the end is what they make when nothing happens to them.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
mod generations;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use dump_common::descendants;
use generations::{MODES, Run, comm, is_here};

/// Runs a program through two checkpoints, the first when `begun` finds it in the middle of its work, and looks
/// with `good` at what it has made. `prepare` makes its files.
fn lives(
    command: &[&str],
    prepare: impl Fn(&Run),
    begun: impl Fn(&Run) -> bool,
    good: impl Fn(&Run),
) {
    let [program, arguments @ ..] = command else { return };
    if !is_here(program) {
        return;
    }
    for mode in MODES {
        // The files first: it begins when this shell finds them.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "until [ -e prepared ]; do sleep 0.01; done; exec \"$@\"",
            "sh",
            program,
        ]);
        let mut run = Run::start(shell.args(arguments));
        prepare(&run);
        File::create(run.path("prepared")).expect("a file");
        for generation in 1..=2 {
            if generation == 1 {
                run.wait_for("its work", |run| begun(run).then_some(()));
            }
            run.checkpoint();
            if !run.restart(mode) {
                return;
            }
        }
        let ended = run.wait_for_end().expect("it was restarted");
        assert!(ended.success(), "{mode:?} {ended}: {}{}", run.messages(), run.output());
        good(&run);
    }
}

/// Whether so many processes with this name are below the root task.
fn are_below(run: &Run, name: &str, count: usize) -> bool {
    let named = |pid: &i32| comm(*pid).is_some_and(|comm| comm.trim_end() == name);
    descendants(run.pid).iter().filter(|pid| named(pid)).count() >= count
}

fn nothing(_: &Run) {}

fn prints(run: &Run, wanted: &str) {
    assert_eq!(run.output(), wanted);
}

#[test]
fn a_shell_in_a_loop() {
    let script = "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo $i; sleep 0.01; done";
    let wanted: String = (1..=300).map(|i| format!("{i}\n")).collect();
    let begun = |run: &Run| run.output().contains("20\n");
    lives(&["bash", "-c", script], nothing, begun, |run| prints(run, &wanted));
}

#[test]
fn python_with_threads_and_a_pool_of_processes() {
    const SCRIPT: &str = r#"
import concurrent.futures, multiprocessing, subprocess, threading, time
done = [0] * 8
def thread(i):
    for k in range(25):
        done[i] += sum(range(10000))
        time.sleep(0.05)
threads = [threading.Thread(target=thread, args=(i,)) for i in range(8)]
for t in threads: t.start()
def child(i):
    return int(subprocess.run(["sh", "-c", f"sleep 0.1; echo {i}"], capture_output=True).stdout)
def square(x):
    time.sleep(0.02)
    return x * x
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    children = pool.map(child, range(40))
    with multiprocessing.Pool(4) as processes:
        print("begun", flush=True)
        squares = processes.map(square, range(400), chunksize=1)
    assert list(children) == list(range(40))
for t in threads: t.join()
assert squares == [x * x for x in range(400)]
assert done == [25 * sum(range(10000))] * 8
print("done")
"#;
    let begun = |run: &Run| run.output().contains("begun");
    lives(&["python3", "-c", SCRIPT], nothing, begun, |run| prints(run, "begun\ndone\n"));
}

/// It waits for its children by pidfds, in an epoll file.
#[test]
fn python_that_waits_for_children() {
    const SCRIPT: &str = r#"
import asyncio, sys
if sys.version_info < (3, 12):
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
async def main():
    exec = asyncio.create_subprocess_exec
    children = [await exec("sh", "-c", f"sleep {i / 4}; exit {i}") for i in range(1, 13)]
    print("begun", flush=True)
    print(await asyncio.gather(*[child.wait() for child in children]))
asyncio.run(main())
"#;
    let wanted = "begun\n[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\n";
    let begun = |run: &Run| run.output().contains("begun");
    lives(&["python3", "-c", SCRIPT], nothing, begun, |run| prints(run, wanted));
}

/// It waits for lines with an inotify file.
#[test]
fn tail_of_a_file_that_grows() {
    const SCRIPT: &str = "
: >log
tail -n +1 -s 600 -f log &
i=0
while [ $i -lt 300 ]; do i=$((i + 1)); echo $i >>log; sleep 0.01; done
until grep -qx 300 output; do sleep 0.01; done
kill $!
";
    let wanted: String = (1..=300).map(|i| format!("{i}\n")).collect();
    let begun = |run: &Run| run.output().contains("20\n");
    lives(&["bash", "-c", SCRIPT], nothing, begun, |run| prints(run, &wanted));
}

#[test]
fn perl_with_a_timer() {
    const SCRIPT: &str = r#"
use Time::HiRes qw(setitimer ITIMER_REAL usleep);
$| = 1;
my $ticks = 0;
$SIG{ALRM} = sub { $ticks++ };
setitimer(ITIMER_REAL, 0.05, 0.05);
print "begun\n";
usleep(10_000_000) while $ticks < 40;
print "done\n";
"#;
    let begun = |run: &Run| run.output().contains("begun");
    lives(&["perl", "-e", SCRIPT], nothing, begun, |run| prints(run, "begun\ndone\n"));
}

#[test]
fn node_with_timers() {
    const SCRIPT: &str = r#"
const { execFile } = require('child_process');
let ticks = 0;
console.log('begun');
const timer = setInterval(() => {
    if (++ticks < 40) return;
    clearInterval(timer);
    execFile('echo', ['child'], (error, out) => console.log(error || out.trim()));
    setTimeout(() => console.log('done'), 300);
}, 50);
"#;
    let begun = |run: &Run| run.output().contains("begun");
    lives(&["node", "-e", SCRIPT], nothing, begun, |run| prints(run, "begun\nchild\ndone\n"));
}

#[test]
fn sqlite_in_a_transaction() {
    const SQL: &str = "create table t (x); begin; insert into t values (1); \
        with recursive c (x) as (select 1 union all select x + 1 from c where x < 4000000) \
        insert into t select x from c; commit; select count(*), sum(x) from t; pragma integrity_check;";
    let begun = |run: &Run| {
        let size = fs::metadata(run.path("base")).map_or(0, |meta| meta.len());
        run.path("base-journal").exists() && size > 10_000
    };
    lives(&["sqlite3", "base", SQL], nothing, begun, |run| {
        prints(run, "4000001|8000002000001\nok\n");
        assert!(!run.path("base-journal").exists());
    });
}

/// A C program of many functions, which takes a compiler a few seconds.
fn write_source(run: &Run) {
    let mut source = String::from("#include <stdio.h>\n");
    for i in 0..400 {
        source += &format!(
            "int f{i}(int x) {{ int a[64], s = 0; for (int i = 0; i < 64; i++) a[i] = x * i + {i};\n\
             for (int i = 0; i < 64; i++) for (int j = 0; j < 64; j++) s += (a[i] * a[j]) ^ (i + j);\n\
             return s; }}\n"
        );
    }
    source += "int main(void) { printf(\"%d\\n\", f7(3) ^ f399(4)); return 0; }\n";
    fs::write(run.path("big.c"), source).expect("the source");
}

/// What an undisturbed compiler makes of it.
fn compiled(run: &Run, output: &str, arguments: &[&str]) -> Vec<u8> {
    let mut gcc = Command::new("gcc");
    gcc.args(arguments).arg("-o").arg(output).arg("big.c").current_dir(run.path("."));
    assert!(gcc.status().expect("gcc").success());
    fs::read(run.path(output)).expect("what it made")
}

#[test]
fn a_compiler() {
    let begun = |run: &Run| are_below(run, "cc1", 1);
    lives(&["gcc", "-O2", "-o", "big", "big.c"], write_source, begun, |run| {
        let made = fs::read(run.path("big")).expect("the program");
        assert!(made == compiled(run, "other", &["-O2"]), "another program was made");
        assert!(
            Command::new(run.path("big")).stdout(Stdio::null()).status().expect("run").success()
        );
    });
}

#[test]
fn make_with_four_jobs() {
    let prepare = |run: &Run| {
        write_source(run);
        let rules = ".PHONY: all\nall: 1.o 2.o 3.o 4.o 5.o\n%.o: big.c\n\t@gcc -O1 -c -o $@ $<\n\t@echo made\n";
        fs::write(run.path("Makefile"), rules).expect("the rules");
    };
    let begun = |run: &Run| are_below(run, "cc1", 4);
    lives(&["make", "-j4"], prepare, begun, |run| {
        prints(run, &"made\n".repeat(5));
        let wanted = compiled(run, "other", &["-O1", "-c"]);
        for i in 1..=5 {
            let made = fs::read(run.path(&format!("{i}.o"))).expect("an object file");
            assert!(made == wanted, "another object file was made");
        }
    });
}

/// Bytes that compress a little (xorshift).
fn write_data(run: &Run, megabytes: usize) {
    let mut file = File::create(run.path("data")).expect("the data");
    let mut word = 88_172_645_463_325_252u64;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..megabytes {
        for bytes in block.chunks_exact_mut(16) {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            bytes[..8].copy_from_slice(&word.to_le_bytes());
        }
        file.write_all(&block).expect("the data");
    }
}

#[test]
fn xz_with_two_threads() {
    let begun = |run: &Run| fs::metadata(run.path("data.xz")).is_ok_and(|meta| meta.len() > 0);
    let prepare = |run: &Run| write_data(run, 200);
    lives(&["xz", "-0", "-T2", "-k", "data"], prepare, begun, |run| {
        // Blocks are made of the data alone: two runs make the same file.
        let mut again = Command::new("sh");
        again.args(["-c", "xz -0 -T2 -c data | cmp - data.xz"]).current_dir(run.path("."));
        assert!(again.status().expect("sh").success(), "an undisturbed run makes another file");
    });
}
