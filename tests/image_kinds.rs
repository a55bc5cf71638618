//! Records of our own that say what is open: what cannot be is refused, and other readers fail at them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use libc::EINVAL;
use usercr::image::records::{self, FIRST_EXTRA, Kind};
use usercr::image::{
    Body, Descriptor, EpollItem, FileKind, FileLock, FileOwner, Guard, ImageHead, LockKind,
    OpenFile, Owner, PAGE, ProcessLock, Segment, Shm, TimerFd, VmaKind, Watch,
};

/// The smallest image, with a file of this kind.
fn sample(kind: FileKind) -> Vec<Record> {
    let (head, mut body) = smallest();
    body.objects.files[0].kind = kind;
    split(&written(&head, &body))
}

fn timer() -> FileKind {
    FileKind::TimerFd(TimerFd { clock: 1, ..TimerFd::default() })
}

fn pidfd() -> FileKind {
    FileKind::PidFd { task: 0, thread: false }
}

fn inotify() -> FileKind {
    let watch = |wd, path: &str| Watch { wd, mask: 2, mode: 0o40755, path: path.into() };
    FileKind::Inotify { watches: vec![watch(2, "/a"), watch(3, "/b")] }
}

/// The image is refused with EINVAL and a message that has `text` in it.
fn refused(records: &[Record], text: &str) {
    let error = read(&join(records)).expect_err("the image was taken");
    assert_eq!(error.errno(), EINVAL, "{error}");
    assert!(error.to_string().contains(text), "{error}, not {text}");
}

#[test]
fn values_that_cannot_be_are_refused() {
    let cases: &[(FileKind, Kind, usize, &[u8], &str)] = &[
        (timer(), records::TIMERFD, 8, &[2], "clock 2"),
        (timer(), records::TIMERFD, 12, &[4], "flags 0x4"),
        (pidfd(), records::PIDFD, 8, &[2], "tag 2 is the pid of no task"),
        (pidfd(), records::PIDFD, 12, &[2], "thread 2, must be 0 or 1"),
        (inotify(), records::INOTIFY, 8, &[1, 0, 1], "65537 watches, at most 65536"),
        (inotify(), records::WATCH, 8, &[0], "watch 0, must be 1 to 65536"),
        (inotify(), records::WATCH, 8, &[1, 0, 1], "watch 65537, must be 1 to 65536"),
        (inotify(), records::WATCH, 8, &[4], "watch 3, must be 5 to 65536"),
        (inotify(), records::WATCH, 12, &[0, 0x20], "mask 0x2000"),
        (inotify(), records::INOTIFY, 8, &[1], "record of type 10073 (WATCH)"),
        (timer(), records::FILE, 8, &[6], "file of type 6 that is something else too"),
        (timer(), records::FILE_NAME, 8, b"x", "absolute path"),
    ];
    for (kind, record, offset, value, text) in cases {
        let mut records = sample(kind.clone());
        patch(&mut records, *record, 0, *offset, value);
        refused(&records, text);
    }
}

/// The smallest image with an epoll file that waits for a timer behind it in the table.
fn epoll_sample() -> (ImageHead, Body) {
    let (head, mut body) = smallest();
    let items = vec![EpollItem { fd: 7, file: 1, events: 1, data: 1 << 63 | 5 }];
    let watched = OpenFile { kind: timer(), ..body.objects.files[0].clone() };
    body.objects.files[0].kind = FileKind::Epoll { items };
    body.objects.files.push(watched);
    let table = &mut body.objects.file_tables[0].descriptors;
    table.push(Descriptor { fd: table[0].fd + 1, file: 1, cloexec: false });
    (head, body)
}

#[test]
fn items_of_epoll_files_come_behind_the_files_that_they_name() {
    let (head, mut body) = epoll_sample();
    let image = written(&head, &body);
    assert_eq!(read(&image).expect("an image").1.objects.files, body.objects.files);
    let records = split(&image);
    let last = records.iter().rposition(|(kind, _)| *kind == records::FILE_DESC.number);
    assert_eq!(last.map(|at| at + 1), Some(position(&records, records::EPOLL_ITEMS)));
    body.objects.file_tables[0].descriptors.pop();
    let error = usercr::image::Layout::new(&head, &body).expect_err("it was written");
    assert!(error.to_string().contains("no descriptor leads to"), "{error}");
}

#[test]
fn items_of_epoll_files_that_cannot_be_are_refused() {
    let (head, body) = epoll_sample();
    let records = split(&written(&head, &body));
    let at = position(&records, records::EPOLL_ITEMS);
    let changed = |index: usize, offset: usize, value: &[u8]| {
        let mut records = records.clone();
        records[index].1[offset - 8..offset - 8 + value.len()].copy_from_slice(value);
        records
    };
    refused(&changed(at, 12, &[0]), "0 items, must be 1 to 1048576");
    refused(&changed(at, 12, &[2]), "24 bytes for 2 items of 24");
    refused(&changed(at, 12, &[0xff; 4]), "4294967295 items");
    refused(&changed(at, 8, &[99]), "tag 99 (FILE) is not known");
    refused(&changed(at + 1, 19, &[0x80]), "an item with descriptor -2147483641");
    refused(&changed(at + 1, 20, &[99]), "tag 99 (FILE) is not known");
    let mut twice = records.clone();
    twice.splice(at..at, records[at..at + 2].iter().cloned());
    refused(&twice, "comes twice for this file");
    let mut same = changed(at, 12, &[2]);
    same[at + 1].1.extend(records[at + 1].1.clone());
    refused(&same, "descriptor 7 twice, with the same file");
    let mut other = records.clone();
    other.remove(at + 1);
    refused(&other, "must be 4");
    let tag: [u8; 4] = records[at + 1].1[12..16].try_into().expect("four bytes");
    refused(&changed(at, 8, &tag), "the file is no epoll file");
}

#[test]
fn locks_and_owners_that_cannot_be_are_refused() {
    let (head, mut body) = smallest();
    let lock = |kind, start| FileLock { kind, exclusive: true, start, length: 0 };
    body.objects.files[0].locks = vec![lock(LockKind::Whole, 0), lock(LockKind::Description, 5)];
    body.objects.files[0].owner = Some(FileOwner { who: Some(Owner::Group(0)), signal: 64 });
    let fd = body.objects.file_tables[0].descriptors[0].fd;
    let held = ProcessLock { fd, lock: lock(LockKind::Process, i64::MAX as u64) };
    body.objects.file_tables[0].locks = vec![held];
    let image = written(&head, &body);
    let objects = read(&image).expect("an image").1.objects;
    assert_eq!(objects.files, body.objects.files);
    assert_eq!(objects.file_tables, body.objects.file_tables);
    let cases: &[(Kind, usize, usize, &[u8], &str)] = &[
        (records::FILE_LOCK, 0, 8, &[3], "a lock of kind 3 does not belong here"),
        (records::FILE_LOCK, 0, 8, &[0], "a lock of kind 0"),
        (records::FILE_LOCK, 2, 8, &[2], "a lock of kind 2 does not belong here"),
        (records::FILE_LOCK, 0, 12, &[2], "exclusive 2"),
        (records::FILE_LOCK, 0, 16, &[1], "0 bytes from 1 of kind Whole"),
        (records::FILE_LOCK, 1, 23, &[0x80], "bytes from 9223372036854775813"),
        (records::FILE_LOCK, 2, 24, &[2], "2 bytes from 9223372036854775807"),
        (records::FILE_OWNER, 0, 8, &[3], "the owner is tag 1 of kind 3, which is no task"),
        (records::FILE_OWNER, 0, 12, &[2], "the owner is tag 2 of kind 2, which is no task"),
        (records::FILE_OWNER, 0, 16, &[65], "signal 65"),
    ];
    for (record, nth, offset, value, text) in cases {
        let mut records = split(&image);
        patch(&mut records, *record, *nth, *offset, value);
        refused(&records, text);
    }
    let mut twice = split(&image);
    let at = position(&twice, records::FILE_OWNER);
    twice.insert(at, twice[at].clone());
    refused(&twice, "FILE_OWNER: comes twice");
    body.objects.files[0].owner = Some(FileOwner { who: Some(Owner::Thread(1)), signal: 0 });
    let error = usercr::image::Layout::new(&head, &body).expect_err("it was written");
    assert!(error.to_string().contains("task 1 owns a file"), "{error}");
}

#[test]
fn a_file_is_one_thing() {
    let mut records = sample(timer());
    let at = position(&records, records::TIMERFD);
    let again = records[at].clone();
    records.insert(at, again);
    refused(&records, "TIMERFD: the file is something else already");
}

#[test]
fn elsewhere_they_are_refused() {
    let mut records = sample(timer());
    let record = records.remove(position(&records, records::TIMERFD));
    for kind in [records::FILE_DESC, records::TASK_OBJS, records::TAIL] {
        let mut records = records.clone();
        records.insert(position(&records, kind), record.clone());
        refused(&records, "TIMERFD");
    }
}

#[test]
fn readers_that_do_not_know_them_find_no_such_file() {
    for kind in [timer(), FileKind::SignalFd { mask: 1 }, pidfd()] {
        let mut records = sample(kind);
        records.retain(|(number, _)| *number < FIRST_EXTRA);
        let (_, body) = read(&join(&records)).expect("an image");
        let FileKind::Named { path } = &body.objects.files[0].kind else { panic!("no path") };
        assert!(path.starts_with(b"/anon_inode:["));
        assert!(!std::path::Path::new(std::str::from_utf8(path).unwrap()).exists());
    }
}

#[test]
fn guard_regions_that_cannot_be_are_refused() {
    let (head, mut body) = smallest();
    let vma = &mut body.objects.mms[0].vmas[0];
    vma.end = vma.start + 8 * PAGE;
    let (start, end) = (vma.start, vma.end);
    vma.guards = vec![
        Guard { start: start + PAGE, end: start + 2 * PAGE },
        Guard { start: start + 4 * PAGE, end },
    ];
    let guards = vma.guards.clone();
    let image = written(&head, &body);
    assert_eq!(read(&image).expect("an image").1.objects.mms[0].vmas[0].guards, guards);
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let cases: [(Vec<u8>, &str); 7] = [
        (Vec::new(), "pairs of addresses"),
        (words(&[start]), "pairs of addresses"),
        (words(&[start, start]), "from 0x"),
        (words(&[start, start + 1]), "from 0x"),
        (words(&[start, start + PAGE, start + PAGE, end]), "from 0x"),
        (words(&[start - PAGE, end]), "not inside it"),
        (words(&[start, end + PAGE]), "not inside it"),
    ];
    for (payload, text) in cases {
        let mut records = split(&image);
        let at = position(&records, records::GUARDS);
        records[at].1 = payload;
        refused(&records, text);
    }
}

#[test]
fn names_of_mappings_that_cannot_be_are_refused() {
    let (head, mut body) = smallest();
    let vma = &mut body.objects.mms[0].vmas[0];
    let guard = Guard { start: vma.start, end: vma.end };
    let without = written(&head, &body);
    for name in ["", "stack of thread 7", &"n".repeat(79)] {
        let vma = &mut body.objects.mms[0].vmas[0];
        (vma.name, vma.guards) = (Some(name.into()), vec![guard]);
        let image = written(&head, &body);
        let vma = &read(&image).expect("an image").1.objects.mms[0].vmas[0];
        assert_eq!((vma.name.as_deref(), vma.guards.len()), (Some(name.as_bytes()), 1));
        // Without these two records it is the image of before.
        let mut records = split(&image);
        records.retain(|(number, _)| {
            ![records::VMA_NAME.number, records::GUARDS.number].contains(number)
        });
        assert!(join(&records) == without);
    }
    let image = written(&head, &body);
    for (payload, text) in [
        (vec![b'n'; 80], "VMA_NAME"),
        (b"n\0".to_vec(), "printable"),
        (b"n\n".to_vec(), "printable"),
        (vec![0xc3, 0xa4], "printable"),
    ] {
        let mut records = split(&image);
        let at = position(&records, records::VMA_NAME);
        records[at].1 = payload;
        refused(&records, text);
    }
    // Only private memory has one.
    body.objects.mms[0].vmas[0].kind = VmaKind::File(0);
    refused(&split(&written(&head, &body)), "type 3 behind VMA_NAME");
}

#[test]
fn settings_with_flags_that_cannot_be_are_refused() {
    let (head, mut body) = smallest();
    let usercr::image::TaskState::Live(live) = &mut body.tasks[0] else { panic!("no live task") };
    live.settings =
        Some(usercr::image::Settings { mdwe: true, mdwe_alone: true, ..Default::default() });
    let image = written(&head, &body);
    assert_eq!(read(&image).expect("an image").1.tasks, body.tasks);
    // PR_MDWE_NO_INHERIT alone, and what nobody has ever written.
    for flags in [32u32, 34, 128, 1 << 31] {
        let mut records = split(&image);
        let at = position(&records, records::SETTINGS);
        records[at].1[68..72].copy_from_slice(&flags.to_le_bytes());
        refused(&records, &format!("flags {flags:#x}"));
    }
}

#[test]
fn segments_are_what_the_kernel_can_have() {
    let (head, mut body) = smallest();
    let segment = Segment {
        id: 7,
        key: -5,
        mode: 0o640,
        owner: [1, 2],
        creator: [3, 4],
        size: PAGE + 1,
        removed: false,
        locked: true,
    };
    body.objects.shms.push(Shm { size: 2 * PAGE, pages: Vec::new(), segment: Some(segment) });
    let vma = &mut body.objects.mms[0].vmas[0];
    (vma.kind, vma.flags, vma.pgoff) = (VmaKind::ShmAnon(0), 0xfb, 1);
    vma.end = vma.start + PAGE;
    vma.pages.clear();
    let image = written(&head, &body);
    assert_eq!(read(&image).expect("an image").1.objects.shms, body.objects.shms);
    usercr::image::strict::check(&image[..]).expect("strictly");
    let change = |offset: usize, bytes: &[u8], text: &str| {
        let mut records = split(&image);
        let at = position(&records, records::SEGMENT);
        records[at].1[offset - 8..offset - 8 + bytes.len()].copy_from_slice(bytes);
        refused(&records, text);
    };
    change(8, &[0xff; 4], "segment -1");
    change(16, &0o1640u32.to_le_bytes(), "mode 0o1640");
    change(20, &[4], "flags 0x4");
    change(20, &[1], "a removed segment with key");
    change(40, &[0; 8], "a segment of 0 bytes");
    change(40, &u64::MAX.to_le_bytes(), "bytes");
    change(40, &(2 * PAGE + 1).to_le_bytes(), "another size");
    body.objects.mms[0].vmas[0].pgoff = 2;
    let error = read(&written(&head, &body)).unwrap_err().to_string();
    assert!(error.contains("reaches beyond a segment"), "{error}");
    // It stands in front of the first mapping of shared memory only.
    body.objects.mms[0].vmas[0].pgoff = 1;
    let mut records = split(&image);
    let at = position(&records, records::SEGMENT);
    let vma = at
        + records[at..].iter().position(|(kind, _)| *kind == records::VMA.number).expect("a VMA");
    records[vma].1[0] = 2;
    records[vma].1[8] = 0;
    records[vma].1[56 - 8] = 0x73;
    refused(&records, "type 2 behind SEGMENT");
}
