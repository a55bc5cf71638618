//! A reader needs little memory, whatever an image promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use image_common::*;
use usercr::image::records;

/// Counts the bytes that are allocated, and the most there ever were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps to the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the block came from `alloc` above, so from the system, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that reading this image takes at most.
fn peak(image: &[u8]) -> usize {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let _ = read(image);
    MOST.load(Relaxed) - before
}

/// All in one test: others would allocate at the same time.
#[test]
fn memory_is_bounded_by_what_the_image_has() {
    lengths_and_counts();
    copies_of_groups();
    pages_apart();
}

/// Lengths and counts that promise much.
fn lengths_and_counts() {
    const WINDOW: usize = 64 << 10;
    let (head, body) = tree(9, 4, false);
    let image = written(&head, &body);
    let honest = peak(&image);
    let most = WINDOW + 8 * image.len();
    assert!(honest < most, "{honest} bytes for an image of {}", image.len());
    let offsets: Vec<usize> =
        records::walk(image.as_slice()).map(|r| r.unwrap().offset as usize).collect();
    for at in offsets {
        for value in [u32::MAX, 0xffff_fff0, 0x7fff_ffff, 1 << 20] {
            // Lengths are at 4, counts at 8 or 12 or 20.
            for field in [4, 8, 12, 20] {
                let mut changed = image.clone();
                if let Some(place) = changed.get_mut(at + field..at + field + 4) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                let peak = peak(&changed);
                assert!(peak < most, "{peak} bytes, {value:#x} at {at} + {field}");
            }
        }
    }
}

/// One long list of groups, many credentials that name it.
fn copies_of_groups() {
    let (head, body) = smallest();
    let mut records = split(&written(&head, &body));
    let list = (0..65536u32).flat_map(u32::to_le_bytes);
    let groups = position(&records, records::GROUPINFO);
    records[groups].1 = [65536u32.to_le_bytes().as_slice(), &[0; 4]].concat();
    records[groups].1.splice(4..4, list);
    let cred = position(&records, records::CRED);
    let copy = records[cred].clone();
    let copies = (0..1000).flat_map(|index| [objref(14, 1000 + index), copy.clone()]);
    records.splice(cred + 1..cred + 1, copies);
    let image = join(&records);
    let peak = peak(&image);
    let error = read(&image).unwrap_err().to_string();
    assert!(error.contains("groups in all credentials"), "{error}");
    assert!(peak < 32 << 20, "{peak} bytes for an image of {}", image.len());
}

/// Pages of which no two are neighbours: the most that a reader has to remember.
fn pages_apart() {
    let (head, mut body) = smallest();
    let vma = &mut body.objects.mms[0].vmas[0];
    let count = 10_000;
    vma.end = vma.start + count * 2 * 4096;
    vma.pages = (0..count)
        .map(|index| usercr::image::PageRun {
            address: vma.start + index * 2 * 4096,
            count: 1,
            offset: 0,
        })
        .collect();
    let image = written(&head, &body);
    let start = Instant::now();
    let peak = peak(&image);
    assert!(peak < 2 << 20, "{peak} bytes for {count} pages");
    assert!(start.elapsed() < Duration::from_secs(5));
}
