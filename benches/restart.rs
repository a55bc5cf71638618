//! Restarts against what the machine can do at best, in one run.
//!
//! `fork`: 1000 tasks up, from the call until the last one exists, against a bare clone3 loop; from a
//! small caller and from one with 1 GiB of touched memory. `memory`: a task with 1 GiB restored, against
//! reading the same file into fresh memory. Results: `docs/performance.md`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use usercr::restart::{Observer, Options, Point, restart};

#[path = "../tests/common/hand_made.rs"]
mod hand_made;
use hand_made::{PAUSE, tree, write_tree};

const TASKS: i32 = 1000;
const GIB: usize = 1 << 30;

/// A root with children, all asleep.
fn family() -> File {
    let root = 100_000;
    let rows: Vec<[i32; 5]> = (0..TASKS)
        .map(|i| [root + i, if i == 0 { 0 } else { root }, root + i, root, root])
        .collect();
    tree(&rows, PAUSE, "bench")
}

/// Ends processes of this benchmark and reaps those that are its children.
fn end(pids: &[i32]) {
    for &pid in pids.iter().rev() {
        // SAFETY: a signal to a task that this program has made and nobody else reaps before.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    for &pid in pids {
        // SAFETY: a NULL status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    }
}

/// Time until `TASKS` children of a bare loop exist.
fn clone3_loop() -> Duration {
    let mut args = [0u64; 11];
    args[4] = libc::SIGCHLD as u64;
    let start = Instant::now();
    let pids: Vec<i32> = (0..TASKS)
        .map(|_| {
            // SAFETY: args is a valid struct clone_args for a plain fork; the child makes one system
            // call, which is async-signal-safe, and never returns from it.
            unsafe {
                let pid = libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args));
                if pid == 0 {
                    libc::pause();
                    libc::_exit(0);
                }
                pid as i32
            }
        })
        .collect();
    let time = start.elapsed();
    end(&pids);
    time
}

/// Time from the call until all tasks of the image exist; the restart then goes on to its end.
fn restart_forks(image: &File) -> Duration {
    let start = Instant::now();
    let (time, all) = (Cell::new(Duration::ZERO), Cell::new(Vec::new()));
    let observe = |point: Point, pids: &[i32]| {
        if point == Point::Exist {
            time.set(start.elapsed());
            all.set(pids.to_vec());
        }
    };
    let options = Options { observer: Some(Observer(&observe)), ..Options::new(image.as_fd()) };
    restart(&options).expect("the tree comes up");
    end(&all.take());
    time.get()
}

fn repeat(times: u64, one: impl Fn() -> Duration) -> Duration {
    (0..times).map(|_| one()).sum()
}

fn fork(criterion: &mut Criterion) {
    let image = family();
    let mut group = criterion.benchmark_group("fork");
    group.sample_size(10);
    group.bench_function("clone3 loop", |b| b.iter_custom(|n| repeat(n, clone3_loop)));
    group.bench_function("usercr", |b| b.iter_custom(|n| repeat(n, || restart_forks(&image))));
    let ballast = vec![1u8; GIB];
    group.bench_function("usercr, caller with 1 GiB", |b| {
        b.iter_custom(|n| repeat(n, || restart_forks(&image)));
    });
    drop(std::hint::black_box(ballast));
    group.finish();
}

/// Time to read a file into memory that nobody has touched.
fn read_fresh(mut file: &File) -> Duration {
    file.rewind().expect("rewind");
    let start = Instant::now();
    let mut memory = Vec::with_capacity(GIB + (1 << 20));
    file.read_to_end(&mut memory).expect("read");
    let time = start.elapsed();
    assert!(memory.len() >= GIB);
    file.rewind().expect("rewind");
    time
}

fn memory(criterion: &mut Criterion) {
    let mut image = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    write_tree(&mut image, &[[100_000, 0, 100_000, 100_000, 100_000]], PAUSE, "bench", GIB as u64);
    image.rewind().expect("rewind");
    let mut group = criterion.benchmark_group("memory");
    group.sample_size(10);
    group.bench_function("read 1 GiB", |b| b.iter_custom(|n| repeat(n, || read_fresh(&image))));
    group.bench_function("usercr", |b| {
        b.iter_custom(|n| {
            repeat(n, || {
                let start = Instant::now();
                let pid = restart(&Options::new(image.as_fd())).expect("the task comes up").pid;
                let time = start.elapsed();
                end(&[pid]);
                time
            })
        });
    });
    group.finish();
}

criterion_group!(benches, fork, memory);
criterion_main!(benches);
