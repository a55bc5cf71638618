//! Which pages of another task have contents of their own, and which are guards: its page map.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Categories of pages in PAGEMAP_SCAN, from linux/fs.h.
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// Since Linux 6.15.
const PAGE_IS_GUARD: u64 = 1 << 8;
/// `_IOWR('f', 16, struct pm_scan_arg)`, Linux 6.7.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610u32 as libc::Ioctl;
/// Bits of an entry of /proc/PID/pagemap.
const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;

const PAGE: u64 = 4096;

/// Pages of an address range, in runs of (first address, pages), ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Those that differ from what is mapped there.
    pub own: Vec<(u64, u64)>,
    /// Those that nobody can touch (madvise(2), MADV_GUARD_INSTALL).
    pub guards: Vec<(u64, u64)>,
}

impl Pages {
    /// Those in an address range.
    pub fn within(&self, start: u64, end: u64) -> Pages {
        let cut = |runs: &[(u64, u64)]| {
            let first = runs.partition_point(|(at, count)| at + count * PAGE <= start);
            let runs = runs.iter().skip(first).take_while(|(at, _)| *at < end);
            let cut = runs.map(|(at, count)| {
                let from = start.max(*at);
                (from, (end.min(at + count * PAGE) - from) / PAGE)
            });
            cut.collect()
        };
        Pages { own: cut(&self.own), guards: cut(&self.guards) }
    }
}

/// The pages of ascending address ranges of a process; perhaps more than these. Of each range it is told
/// whether it may have pages with contents of its own. `pagemap` is the opened /proc/PID/pagemap.
///
/// # Errors
/// Those of reading it.
pub fn of(pagemap: &File, ranges: &[(u64, u64, bool)]) -> io::Result<Pages> {
    let (Some(&(start, ..)), Some(&(_, end, _))) = (ranges.first(), ranges.last()) else {
        return Ok(Pages::default());
    };
    let present = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    // One call for all costs less than one for each.
    match scan(pagemap, (start, end), present | PAGE_IS_GUARD) {
        Err(e) if is_unknown(&e) => {}
        other => return other,
    }
    // A kernel without that category: it has no guards, or cannot tell.
    match scan(pagemap, (start, end), present) {
        Err(e) if is_unknown(&e) => {}
        other => return other,
    }
    let mut runs = Runs::default();
    for &(start, end, _) in ranges.iter().filter(|(.., own)| *own) {
        read(pagemap, (start, end), &mut runs)?;
    }
    Ok(Pages { own: runs.found, guards: Vec::new() })
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

/// Pages with one of the `wanted` categories that are neither zero pages nor those of a file.
/// PAGEMAP_SCAN steps over holes at once.
fn scan(pagemap: &File, (start, end): (u64, u64), wanted: u64) -> io::Result<Pages> {
    #[repr(C)]
    struct Scan {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        vec: u64,
        vec_len: u64,
        max_pages: u64,
        category_inverted: u64,
        category_mask: u64,
        category_anyof_mask: u64,
        return_mask: u64,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Region {
        start: u64,
        end: u64,
        categories: u64,
    }
    let mut regions = vec![Region::default(); 512];
    let (mut own, mut guards) = (Runs::default(), Runs::default());
    let mut from = start;
    while from < end {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start: from,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_anyof_mask: wanted,
            return_mask: wanted,
        };
        // SAFETY: the struct is as the kernel has it, and `vec` has room for `vec_len` regions.
        let got = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        for region in regions.iter().take(got as usize) {
            let guard = region.categories & PAGE_IS_GUARD != 0;
            let runs = if guard { &mut guards } else { &mut own };
            runs.add(region.start, region.end.saturating_sub(region.start) / PAGE);
        }
        if scan.walk_end <= from {
            break;
        }
        from = scan.walk_end;
    }
    Ok(Pages { own: own.found, guards: guards.found })
}

/// The pages with contents, from the entries of the file: one of 8 bytes for each page, mapped or not.
fn read(pagemap: &File, (start, end): (u64, u64), runs: &mut Runs) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut at = start;
    while at < end {
        let wanted = buffer.len().min(((end - at) / PAGE * 8) as usize);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        pagemap.read_exact_at(chunk, at / PAGE * 8)?;
        for entry in chunk.chunks_exact(8) {
            let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
            if entry & (ENTRY_PRESENT | ENTRY_SWAPPED) != 0 && entry & ENTRY_FILE == 0 {
                runs.add(at, 1);
            }
            at += PAGE;
        }
    }
    Ok(())
}

/// Joins what touches.
#[derive(Default)]
struct Runs {
    found: Vec<(u64, u64)>,
}

impl Runs {
    fn add(&mut self, address: u64, pages: u64) {
        match self.found.last_mut() {
            Some((start, count)) if *start + *count * PAGE == address => *count += pages,
            _ => self.found.push((address, pages)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_the_ends_of_a_range() {
        let pages = Pages { own: vec![(0x1000, 4), (0x8000, 2)], guards: vec![(0x5000, 3)] };
        let cut = |start, end| {
            let cut = pages.within(start, end);
            (cut.own, cut.guards)
        };
        assert_eq!(cut(0, 0x10000), (pages.own.clone(), pages.guards.clone()));
        assert_eq!(cut(0x2000, 0x4000), (vec![(0x2000, 2)], vec![]));
        assert_eq!(cut(0x4000, 0x9000), (vec![(0x4000, 1), (0x8000, 1)], vec![(0x5000, 3)]));
        assert_eq!(cut(0x5000, 0x8000), (vec![], vec![(0x5000, 3)]));
        assert_eq!(cut(0xa000, 0xb000), (vec![], vec![]));
    }

    #[test]
    fn all_ways_to_find_pages_agree() {
        let length = 64 * PAGE as usize;
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let base = memory as u64;
        for page in [3, 4, 5, 20] {
            // SAFETY: the page is in the mapping, which nothing else uses.
            unsafe { memory.cast::<u8>().add(page * PAGE as usize).write(1) };
        }
        let pagemap = File::open("/proc/self/pagemap").expect("open");
        let (start, end) = (base + 2 * PAGE, base + 40 * PAGE);
        let expected = [(base + 3 * PAGE, 3), (base + 20 * PAGE, 1)];
        let mut runs = Runs::default();
        read(&pagemap, (start, end), &mut runs).expect("read");
        assert_eq!(runs.found, expected);
        let ranges = [(start, base + 10 * PAGE, true), (base + 10 * PAGE, end, false)];
        let found = of(&pagemap, &ranges).expect("scan");
        assert_eq!((found.own.as_slice(), found.guards.as_slice()), (&expected[..], &[][..]));
        // SAFETY: the page is in the mapping, which nothing else uses.
        let made = unsafe { libc::madvise(memory.add(4 * PAGE as usize), PAGE as usize, 102) };
        if made == 0 {
            let found = of(&pagemap, &ranges).expect("scan");
            let guard = [(base + 4 * PAGE, 1)];
            assert_eq!(found.guards, guard);
            assert_eq!(found.own.first(), Some(&(base + 3 * PAGE, 1)));
        }
        assert_eq!(of(&pagemap, &[]).expect("nothing to do"), Pages::default());
        // SAFETY: the mapping is not used any more.
        assert_eq!(unsafe { libc::munmap(memory, length) }, 0);
    }
}
