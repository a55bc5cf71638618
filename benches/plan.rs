//! How long a plan takes, proof included: 100, 10 k and 1 M tasks of several shapes.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/histories/mod.rs"]
mod histories;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use histories::Numbers;
use histories::random::{Begin, Seed, Shape, history};
use usercr::image::ImageHead;
use usercr::plan::{self, PlanOptions};

/// All tasks are children of the root task, in its session.
fn wide(i: i32) -> Numbers {
    let pid = 1000 + i;
    [pid, if i == 0 { 0 } else { 1000 }, pid, 1000, 1000]
}

/// Each task is the child of the one before, and leads a session of its own.
fn chain(i: i32) -> Numbers {
    let pid = 1000 + i;
    [pid, if i == 0 { 0 } else { pid - 1 }, pid, pid, pid]
}

/// A container after a long life: dead leaders, orphans, sessions handed down.
fn old(tasks: usize) -> ImageHead {
    let shape = Shape {
        tasks,
        steps: tasks * 2,
        container: true,
        subreaper: false,
        begin: Begin::Own,
        nesting: 0,
        siblings: 10,
        setsids: 12,
        exits: 15,
        zombies: 0,
    };
    history(&mut Seed(7), shape)
}

/// Time of one plan, in memory that the process does not have yet: a restart makes only one. (Without
/// this, small plans would be made in memory that is left from the one before, large ones not.)
fn time(head: &ImageHead, options: &PlanOptions) -> Duration {
    // SAFETY: malloc_trim only gives free memory back to the kernel.
    unsafe { libc::malloc_trim(0) };
    let start = Instant::now();
    let plan = plan::build(head, options);
    let time = start.elapsed();
    assert!(black_box(plan).is_ok());
    time
}

fn plans(c: &mut Criterion) {
    let options = PlanOptions { pidns: true, pid_max: 1 << 30 };
    for tasks in [100, 10_000, 1_000_000] {
        let table = |row: fn(i32) -> Numbers| {
            let rows: Vec<Numbers> = (0..tasks as i32).map(row).collect();
            histories::head(&rows, 1, true)
        };
        let mut group = c.benchmark_group("plan");
        group.sample_size(10).throughput(Throughput::Elements(tasks));
        for (name, head) in
            [("wide", table(wide)), ("chain", table(chain)), ("old", old(tasks as usize))]
        {
            group.bench_with_input(BenchmarkId::new(name, tasks), &head, |b, head| {
                b.iter_custom(|times| (0..times).map(|_| time(head, &options)).sum());
            });
        }
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);
