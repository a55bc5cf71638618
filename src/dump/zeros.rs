//! Pages that were written but hold nothing but zeros: an image does without them, as memory that
//! nobody has touched reads the same.
//!
//! Comes in: address spaces, or shared memory, with the pages that have contents. Goes out: the same
//! without the zero pages. Pages that cannot be looked at stay. Where there are many, several threads look.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::parallel;
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
/// Pages that one thread looks at in one go: then it asks whether the checkpoint is to end. A thread more is started for each
/// few of these.
const PIECE: u64 = 2048;
const PAGE_BYTES: usize = PAGE as usize;

/// Leaves the zero pages out of an address space; `pid` has it. What a private mapping of a file holds stays: there
/// a page that is left out reads as the file.
pub(super) fn leave_out(pid: i32, vmas: &mut [Vma]) -> Result<(), DumpError> {
    let readable = |vma: &&Vma| vma.kind == VmaKind::Anon && vma.flags & VM_READ != 0;
    let runs = || vmas.iter().filter(readable).flat_map(|vma| &vma.pages);
    if runs().map(|run| run.count).sum::<u64>() < FEWEST {
        return Ok(());
    }
    let found = find(runs, |zeros, addresses| {
        let mut batch = Vec::with_capacity(PLACES);
        loop {
            batch.clear();
            batch.extend(addresses.take(PLACES));
            if batch.is_empty() {
                break;
            }
            zeros.look(pid, &batch);
        }
    })?;
    if found.is_empty() {
        return Ok(());
    }
    for vma in vmas.iter_mut().filter(|vma| vma.kind == VmaKind::Anon) {
        vma.pages = without(&vma.pages, &found);
    }
    Ok(())
}

/// Leaves the zero pages of shared memory out; `file` is that memory. Where the checkpoint is to end meanwhile all
/// stay, and it ends at the next point at which it can.
pub(super) fn leave_out_of_file(file: &File, pages: &[PageRun]) -> Vec<PageRun> {
    let found = find(
        || pages.iter(),
        |zeros, addresses| {
            let mut page = [0u8; PAGE_BYTES];
            for address in addresses {
                let (sample, rest) = page.split_at_mut(SAMPLE);
                let nothing =
                    |buf: &mut [u8], at| file.read_exact_at(buf, at).is_ok() && is_zero(buf);
                if nothing(sample, address) && nothing(rest, address + SAMPLE as u64) {
                    zeros.add(address, PAGE);
                }
            }
        },
    );
    without(pages, &found.unwrap_or_default())
}

/// The ranges of zero pages that are worth it among the pages of `runs`. `look` is called for a piece of the
/// pages at a time, where there are many pages by several threads.
fn find<'a, R: Iterator<Item = &'a PageRun>>(
    runs: impl Fn() -> R + Sync,
    look: impl Fn(&mut Zeros, &mut dyn Iterator<Item = u64>) + Sync,
) -> Result<Vec<(u64, u64)>, DumpError> {
    let found = parallel::map(&pieces(runs()), |piece| {
        let mut zeros = Zeros::default();
        look(&mut zeros, &mut piece.addresses(runs()));
        Ok(zeros.found)
    })?;
    let mut zeros = Zeros::default();
    for (start, end) in found.into_iter().flatten() {
        zeros.add(start, end - start);
    }
    zeros.drop_short();
    Ok(zeros.found)
}

/// Some of the pages of a list of runs, which can be many: so it only says where they are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// The first run that has some of them.
    first: usize,
    /// Pages of that run that are not among them.
    skip: u64,
    /// How many they are.
    count: u64,
}

impl Piece {
    /// The addresses of its pages; `runs` is the whole list.
    fn addresses<'a>(&self, runs: impl Iterator<Item = &'a PageRun>) -> impl Iterator<Item = u64> {
        let mut skip = self.skip;
        let pages = runs.skip(self.first).flat_map(move |run| {
            let (start, from) = (run.address, std::mem::take(&mut skip));
            (from..run.count).map(move |page| start.wrapping_add(page.wrapping_mul(PAGE)))
        });
        pages.take(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

/// All pages of the runs, in pieces of [`PIECE`]; the last one has what is left.
fn pieces<'a>(runs: impl Iterator<Item = &'a PageRun>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Piece { first: 0, skip: 0, count: 0 };
    for (index, run) in runs.enumerate() {
        let mut done = 0;
        while done < run.count {
            if piece.count == 0 {
                piece = Piece { first: index, skip: done, count: 0 };
            }
            let more = (PIECE - piece.count).min(run.count - done);
            done += more;
            piece.count += more;
            if piece.count == PIECE {
                pieces.push(piece);
                piece.count = 0;
            }
        }
    }
    if piece.count != 0 {
        pieces.push(piece);
    }
    pieces
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
    fn add(&mut self, address: u64, length: u64) {
        let behind = address.saturating_add(length);
        match self.found.last_mut() {
            Some((_, end)) if *end == address => *end = behind,
            _ => self.found.push((address, behind)),
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
            zero.into_iter().for_each(|address| self.add(address, PAGE));
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
    fn pieces_have_all_pages_in_order() {
        let addresses = |runs: &[PageRun]| -> Vec<u64> {
            let pages = |run: &PageRun| (0..run.count).map(move |page| page * PAGE);
            runs.iter().flat_map(|run| pages(run).map(|page| run.address + page)).collect()
        };
        for runs in [
            vec![],
            vec![run(1, 0)],
            vec![run(1, 1)],
            vec![run(1, PIECE)],
            vec![run(1, PIECE), run(PIECE + 5, 1)],
            vec![
                run(1, PIECE - 1),
                run(PIECE + 5, 0),
                run(PIECE + 6, 3),
                run(PIECE * 2, 5 * PIECE),
            ],
            (0..2 * PIECE + 10).map(|i| run(2 * i, 1)).collect(),
        ] {
            let all = pieces(runs.iter());
            let got: Vec<u64> = all.iter().flat_map(|p| p.addresses(runs.iter())).collect();
            assert_eq!(got, addresses(&runs));
            assert!(all.iter().rev().skip(1).all(|piece| piece.count == PIECE));
            assert!(all.iter().all(|piece| (1..=PIECE).contains(&piece.count)));
        }
    }

    #[test]
    fn ranges_go_on_from_piece_to_piece() {
        // So much that several threads look at it, in a file with holes, which read as zeros.
        let pages = 40 * PIECE;
        let file = crate::sys::memory::memfd(c"zeros", pages * PAGE).expect("a file");
        let written = [0, 3 * PIECE - 1, 20 * PIECE, pages - 1];
        for page in written {
            file.write_all_at(b"x", page * PAGE + 4000).expect("a byte");
        }
        let expected: Vec<PageRun> = written.iter().map(|&page| run(page, 1)).collect();
        assert_eq!(leave_out_of_file(&file, &[run(0, pages)]), expected);
    }

    #[test]
    fn many_short_ranges_are_not_worth_it() {
        let mut zeros = Zeros::default();
        let mut expected = Vec::new();
        for i in 0..=GAPS as u64 {
            let (start, length) = (i * 100 * PAGE, if i % 100 == 0 { 16 } else { 15 });
            (0..length).for_each(|page| zeros.add(start + page * PAGE, PAGE));
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
