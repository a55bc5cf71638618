//! Threads that help to read pages.
//!
//! Most of the time of a large read goes into the first touch of each page, which other processors can
//! share. A task with much to read has threads for that, which end before it goes on. Where one cannot be made,
//! the task does its work too.

use std::mem::offset_of;

use super::fork::{CLONE_ARGS_WORDS, FLAGS, SHARED, THREAD};
use super::insn::{INSN_SIZE, Insn, Op};
use super::{Compiler, Program, attempt, call, store};
use crate::image::{PAGE, PageRun};

/// Bytes that are worth a thread.
const SHARE: u64 = 32 << 20;

/// clone3(2), struct clone_args: more fields, as 64-bit words.
const CHILD_TID: usize = 2;
const PARENT_TID: usize = 3;

impl Compiler<'_> {
    /// Reads pages, with the help of threads where there are many.
    pub(super) fn read_shared_out(&mut self, p: &mut Program, task: usize, runs: &[PageRun]) {
        let bytes: u64 = runs.iter().map(|run| run.count * PAGE).sum();
        let shares = (self.facts.readers as u64 + 1).min(bytes / SHARE).max(1);
        let mut shares = split(runs, shares).into_iter();
        let own = shares.next().unwrap_or_default();
        let started: Vec<_> =
            shares.map(|share| (self.start_reader(p, task, &share), share)).collect();
        self.read_all(p, &own);
        for ((thread, done), share) in started {
            await_end(p, thread);
            let at = p.len();
            p.push(Insn { arg: [done, 0, 0, 0, 0, 0], ..Insn::new(Op::Unless) });
            self.read_all(p, &share);
            let end = p.len() as u64;
            if let Some(skip) = p.get_mut(at) {
                skip.target = end;
            }
        }
    }

    fn read_all(&mut self, p: &mut Program, runs: &[PageRun]) {
        for run in runs {
            self.read_pages(p, run);
        }
    }

    /// Starts a thread that reads these pages. Gives the addresses of a word that is not 0 while it
    /// runs, and of one that is not 0 when it has read all.
    fn start_reader(&mut self, p: &mut Program, task: usize, runs: &[PageRun]) -> (u64, u64) {
        let (thread, done) = (self.data.own(&[0; 16]), self.data.own(&[0; 16]));
        let mut reader = Program::new();
        self.read_all(&mut reader, runs);
        reader.push(store(done, 1));
        reader.push(call(libc::SYS_exit, &[0]));
        let words = libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
        let mut args = [0u64; CLONE_ARGS_WORDS];
        args[FLAGS] = (THREAD | SHARED | words) as u64;
        (args[CHILD_TID], args[PARENT_TID]) = (thread, thread);
        let at = self.data.words(&args);
        let size = self.facts.layout.stack;
        let stack = self.data.aligned(&vec![0; size as usize]) + size;
        // What it does is the work of the task that it helps: so is a failure.
        let block = self.facts.layout.block(task);
        let args = [at, 8 * CLONE_ARGS_WORDS as u64, stack, block];
        let mut insn = Insn::call(Op::TryFork, libc::SYS_clone3, &args);
        insn.target = self.readers.len() as u64;
        p.push(insn);
        self.readers.push(reader);
        (thread, done)
    }

    /// Appends the programs of all readers to those of the tasks, which start them.
    pub(super) fn add_readers(&mut self, programs: &mut Vec<Program>) {
        let first = programs.len() as u64;
        let starts = programs.iter_mut().flatten().filter(|insn| insn.op == Op::TryFork);
        starts.for_each(|insn| insn.target += first);
        programs.append(&mut self.readers);
    }
}

/// Waits until the kernel has set the word to 0, as it does when the thread is gone.
fn await_end(p: &mut Program, thread: u64) {
    let start = p.len() as u64;
    let word = [thread, 0, 0, 0, 0, 0];
    // The value that the call below compares with: if it is an old one, the call does not wait.
    let value = 2 * INSN_SIZE + offset_of!(Insn, arg) as u64 + 2 * 8;
    p.push(Insn { arg: [value, thread, 0, 0, 0, 0], ..Insn::new(Op::Copy) });
    p.push(Insn { arg: word, target: start + 3, ..Insn::new(Op::Unless) });
    p.push(Insn { target: start + 5, ..Insn::new(Op::Goto) });
    p.push(attempt(libc::SYS_futex, &[thread, libc::FUTEX_WAIT as u64, 0, 0]));
    p.push(Insn { target: start, ..Insn::new(Op::Goto) });
}

/// The same pages in this many parts of about the same size, ascending.
fn split(runs: &[PageRun], parts: u64) -> Vec<Vec<PageRun>> {
    let total: u64 = runs.iter().map(|run| run.count).sum();
    let size = total.div_ceil(parts.max(1)).max(1);
    let (mut found, mut part, mut room) = (Vec::new(), Vec::new(), size);
    for run in runs {
        let mut rest = *run;
        while rest.count > 0 {
            let count = rest.count.min(room);
            part.push(PageRun { count, ..rest });
            rest.count -= count;
            rest.address += count * PAGE;
            rest.offset += count * PAGE;
            room -= count;
            if room == 0 {
                found.push(std::mem::take(&mut part));
                room = size;
            }
        }
    }
    found.push(part);
    found.retain(|part| !part.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_all_pages_in_order_and_are_about_equal() {
        let run = |address, count, offset| PageRun { address, count, offset };
        let runs = [run(0, 1, 0), run(0x5000, 9, 0x10000), run(0x10_0000, 4, 0x20000)];
        for parts in 1..20 {
            let found = split(&runs, parts);
            assert!(found.len() as u64 <= parts && found.iter().all(|part| !part.is_empty()));
            let counts = found.iter().map(|part| part.iter().map(|r| r.count).sum::<u64>());
            assert!(counts.clone().max() <= Some(14u64.div_ceil(parts)));
            assert_eq!(counts.sum::<u64>(), 14);
            let pages = |runs: &[PageRun]| {
                let page = |r: &PageRun, i| (r.address + i * PAGE, r.offset + i * PAGE);
                let pages = runs.iter().flat_map(|r| (0..r.count).map(move |i| page(r, i)));
                pages.collect::<Vec<_>>()
            };
            assert_eq!(pages(&found.concat()), pages(&runs));
        }
        assert!(split(&[], 4).is_empty());
    }
}
