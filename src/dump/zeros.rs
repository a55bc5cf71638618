//! Pages that were written but hold nothing but zeros: an image does without them, as memory that
//! nobody has touched reads the same.
//!
//! Comes in: address spaces, or shared memory, with the pages that have contents. Goes out: the same
//! without the zero pages. Pages that cannot be looked at stay.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::interrupt;
use crate::error::DumpError;
use crate::image::{PAGE, PageRun, Vma, VmaKind};
use crate::sys::inspect::{self, PLACES};

/// VM_READ of the kernel.
const VM_READ: u64 = 0x1;
/// Bytes at the front of a page that are looked at first. Nearly all pages have something there.
const SAMPLE: usize = 128;
/// Whole pages that are looked at together.
const WHOLE: usize = 64;
/// An address space with fewer pages than this is not worth the look: trees of many small processes have
/// hardly any page of zeros in them.
const FEWEST: u64 = 64;
/// Each gap between pages costs an instruction at the restart. Where there are more than so many, those that are shorter
/// than this are not worth it.
const GAPS: usize = 4096;
const LONG: u64 = 16 * PAGE;
const PAGE_BYTES: usize = PAGE as usize;

/// Leaves the zero pages out of an address space; `pid` has it. What a private mapping of a file holds stays: there
/// a page that is left out reads as the file.
pub(super) fn leave_out(pid: i32, vmas: &mut [Vma]) -> Result<(), DumpError> {
    let readable = |vma: &&Vma| vma.kind == VmaKind::Anon && vma.flags & VM_READ != 0;
    let runs = || vmas.iter().filter(readable).flat_map(|vma| &vma.pages);
    if runs().map(|run| run.count).sum::<u64>() < FEWEST {
        return Ok(());
    }
    let mut zeros = Zeros::default();
    let mut batch = Vec::with_capacity(PLACES);
    for address in runs().flat_map(addresses) {
        batch.push(address);
        if batch.len() == PLACES {
            interrupt::check()?;
            zeros.look(pid, &batch);
            batch.clear();
        }
    }
    zeros.look(pid, &batch);
    zeros.drop_short();
    if zeros.found.is_empty() {
        return Ok(());
    }
    for vma in vmas.iter_mut().filter(|vma| vma.kind == VmaKind::Anon) {
        vma.pages = without(&vma.pages, &zeros.found);
    }
    Ok(())
}

/// Leaves the zero pages of shared memory out; `file` is that memory.
pub(super) fn leave_out_of_file(file: &File, pages: &[PageRun]) -> Vec<PageRun> {
    let mut zeros = Zeros::default();
    let mut page = [0u8; PAGE_BYTES];
    for address in pages.iter().flat_map(addresses) {
        let (sample, rest) = page.split_at_mut(SAMPLE);
        let nothing = |buf: &mut [u8], at| file.read_exact_at(buf, at).is_ok() && is_zero(buf);
        if nothing(sample, address) && nothing(rest, address + SAMPLE as u64) {
            zeros.add(address);
        }
    }
    zeros.drop_short();
    without(pages, &zeros.found)
}

fn addresses(run: &PageRun) -> impl Iterator<Item = u64> + use<> {
    let start = run.address;
    (0..run.count).map(move |page| start.wrapping_add(page.wrapping_mul(PAGE)))
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    ZEROS.get(..bytes.len()) == Some(bytes)
}

/// Ranges of zero pages, ascending.
#[derive(Default)]
struct Zeros {
    found: Vec<(u64, u64)>,
    buffer: Vec<u8>,
}

impl Zeros {
    fn add(&mut self, address: u64) {
        match self.found.last_mut() {
            Some((_, end)) if *end == address => *end += PAGE,
            _ => self.found.push((address, address.saturating_add(PAGE))),
        }
    }

    fn drop_short(&mut self) {
        if self.found.len() > GAPS {
            self.found.retain(|(start, end)| end - start >= LONG);
        }
    }

    /// Looks at pages of a process, at first at the front of each.
    fn look(&mut self, pid: i32, pages: &[u64]) {
        let likely: Vec<u64> = self.zero(pid, pages, SAMPLE).collect();
        for group in likely.chunks(WHOLE) {
            let zero: Vec<u64> = self.zero(pid, group, PAGE_BYTES).collect();
            zero.into_iter().for_each(|address| self.add(address));
        }
    }

    /// Those of the places at which so many bytes are all zero.
    fn zero<'a>(
        &'a mut self,
        pid: i32,
        places: &'a [u64],
        length: usize,
    ) -> impl Iterator<Item = u64> + 'a {
        self.buffer.resize(places.len() * length, 0);
        // What comes behind a page that cannot be read is not looked at.
        let read = inspect::read_places(pid, places, length, &mut self.buffer).unwrap_or(0);
        let bytes = self.buffer.get(..read).unwrap_or_default().chunks_exact(length);
        places.iter().copied().zip(bytes).filter(|(_, bytes)| is_zero(bytes)).map(|(at, _)| at)
    }
}

/// The runs without the ranges; both ascend.
fn without(runs: &[PageRun], ranges: &[(u64, u64)]) -> Vec<PageRun> {
    let mut left = Vec::with_capacity(runs.len());
    for run in runs {
        let (mut at, end) = (run.address, run.address.saturating_add(run.count * PAGE));
        let mut keep = |from: u64, to: u64| {
            if from < to {
                left.push(PageRun { address: from, count: (to - from) / PAGE, offset: run.offset });
            }
        };
        let first = ranges.partition_point(|&(_, range_end)| range_end <= at);
        let inside = ranges.get(first..).unwrap_or_default();
        for &(from, to) in inside.iter().take_while(|&&(from, _)| from < end) {
            keep(at, from);
            at = to.min(end);
        }
        keep(at, end);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(address: u64, count: u64) -> PageRun {
        PageRun { address: address * PAGE, count, offset: 0 }
    }

    #[test]
    fn ranges_are_cut_out_of_runs() {
        let runs = [run(1, 4), run(10, 3), run(20, 2), run(30, 1)];
        let pages = |list: &[(u64, u64)]| -> Vec<(u64, u64)> {
            list.iter().map(|(from, to)| (from * PAGE, to * PAGE)).collect()
        };
        assert_eq!(without(&runs, &[]), runs);
        let some = pages(&[(1, 2), (4, 5), (11, 12), (20, 22), (40, 50)]);
        assert_eq!(without(&runs, &some), [run(2, 2), run(10, 1), run(12, 1), run(30, 1)]);
        // A range may reach over several runs, and over their ends.
        let over = pages(&[(0, 2), (12, 21), (30, 31)]);
        assert_eq!(without(&runs, &over), [run(2, 3), run(10, 2), run(21, 1)]);
        assert_eq!(without(&runs, &pages(&[(0, 100)])), []);
    }

    #[test]
    fn many_short_ranges_are_not_worth_it() {
        let mut zeros = Zeros::default();
        let mut expected = Vec::new();
        for i in 0..=GAPS as u64 {
            let (start, length) = (i * 100 * PAGE, if i % 100 == 0 { 16 } else { 15 });
            (0..length).for_each(|page| zeros.add(start + page * PAGE));
            if length == 16 {
                expected.push((start, start + LONG));
            }
            zeros.drop_short();
            assert!(i == GAPS as u64 || zeros.found.len() as u64 == i + 1);
        }
        assert_eq!(zeros.found, expected);
    }

    #[test]
    fn zero_pages_are_found_in_our_own_memory() {
        let pages = 3000;
        let mut memory = vec![0u8; (pages + 1) * PAGE_BYTES];
        let start = (memory.as_ptr() as u64).next_multiple_of(PAGE);
        let skip = (start - memory.as_ptr() as u64) as usize;
        // The first byte, the last one, and one in the middle.
        for (page, at) in [(5, 0), (6, PAGE_BYTES - 1), (1500, 2000), (2999, 127), (7, 128)] {
            memory[skip + page * PAGE_BYTES + at] = 1;
        }
        let list: Vec<u64> = (0..pages as u64).map(|page| start + page * PAGE).collect();
        let mut zeros = Zeros::default();
        list.chunks(PLACES).for_each(|batch| zeros.look(std::process::id() as i32, batch));
        let at = |page: u64| start + page * PAGE;
        let expected = [(at(0), at(5)), (at(8), at(1500)), (at(1501), at(2999))];
        assert_eq!(zeros.found, expected);
        assert!(memory.iter().any(|&byte| byte != 0));
    }
}
