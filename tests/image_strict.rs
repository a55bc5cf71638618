//! What the strict check takes, and the place and reason of each fault that it finds.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod image_common;

use image_common::*;
use usercr::image::records::{self, Kind};
use usercr::image::{Rseq, TaskState, Vdso, strict};

/// Records of an image with a bit of everything, our own records too.
fn sample() -> Vec<Record> {
    let needed = [records::VMA, records::FILE_DESC, records::GROUPINFO, records::PIPE_BUF];
    let all = |all: &Vec<Record>| {
        needed.iter().all(|kind| all.iter().any(|(number, _)| *number == kind.number))
    };
    (0..100).map(sample_of).find(all).expect("a tree with all of it")
}

fn sample_of(seed: u64) -> Vec<Record> {
    let (mut head, mut body) = tree(seed, 4, false);
    head.extra.root_subreaper = true;
    head.extra.vdso = Some(Vdso { vdso_size: 8192, vvar_size: 16384, checksum: 77 });
    for task in &mut body.tasks {
        if let TaskState::Live(live) = task {
            live.rseq = Some(Rseq { address: 64, length: 32, signature: 7 });
        }
    }
    split(&written(&head, &body))
}

/// The offset of record `index`.
fn offset(records: &[Record], index: usize) -> u64 {
    join(&records[..index]).len() as u64
}

fn error(records: &[Record]) -> String {
    strict::check(&join(records)[..]).expect_err("a fault").to_string()
}

#[test]
fn what_the_writer_writes_is_taken() {
    for seed in 0..60 {
        let (head, body) = tree(seed, 1 + seed as usize % 9, false);
        let bytes = written(&head, &body);
        let checked = strict::check(&bytes[..]).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let all = split(&bytes);
        assert_eq!(checked.bytes, bytes.len() as u64);
        assert_eq!(checked.records, all.len() as u64);
        let objrefs = all.iter().filter(|(kind, _)| *kind == records::OBJREF.number).count() as u64;
        assert!(checked.objects >= objrefs, "{checked:?}");
    }
    strict::check(&join(&sample())[..]).expect("the sample");
}

/// Puts `bytes` at `offset` of the first record of a kind, and says where that record is.
fn patched(kind: Kind, offset: usize, bytes: &[u8]) -> (Vec<Record>, u64) {
    let mut records = sample();
    patch(&mut records, kind, 0, offset, bytes);
    let at = self::offset(&records, position(&records, kind));
    (records, at)
}

#[test]
fn values_that_a_reader_passes_over_are_faults() {
    for (kind, at, reason) in [
        (records::HEADER, 26, "byte 26 and behind are padding, but not zero"),
        (records::HEADER_ARCH, 14, "byte 14 and behind are padding, but not zero"),
        (records::TREE, 12, "byte 12 and behind are padding, but not zero"),
        (records::CRED, 52, "byte 52 and behind are padding, but not zero"),
        (records::CRED, 92, "byte 92 and behind are padding, but not zero"),
        (records::FILE_DESC, 20, "byte 20 and behind are padding, but not zero"),
        (records::VMA, 74, "byte 74 and behind are padding, but not zero"),
    ] {
        let (records, place) = patched(kind, at, &[1]);
        read(&join(&records)).expect("a reader takes it");
        assert_eq!(error(&records), format!("image, offset {place}: {}: {reason}", kind.name));
    }
}

#[test]
fn strings_of_the_head_have_their_length() {
    let mut all = sample();
    let release = position(&all, records::BUFFER);
    all[release].1.push(0);
    read(&join(&all)).expect("a reader takes it");
    let place = offset(&all, release);
    assert_eq!(error(&all), format!("image, offset {place}: release: 66 bytes, must be 65"));
    let mut all = sample();
    all[release].1[64] = b'x';
    assert_eq!(
        error(&all),
        format!("image, offset {place}: release: something stands behind its NUL")
    );
}

#[test]
fn unknown_records_are_faults_wherever_they_stand() {
    let good = sample();
    for at in 13..good.len() {
        let mut all = good.clone();
        all.insert(at, (19_999, vec![1, 2, 3]));
        if read(&join(&all)).is_err() {
            continue;
        }
        let place = offset(&all, at);
        let expected = format!("image, offset {place}: unknown: type 19999 is not in the format");
        assert_eq!(error(&all), expected);
    }
}

#[test]
fn every_tag_is_looked_at() {
    let (records, place) = patched(records::TASK_CREDS, 8, &i32::MAX.to_le_bytes());
    let text = error(&records);
    assert!(text.starts_with(&format!("image, offset {place}: TASK_CREDS: tag")), "{text}");
    // The first task's FILE_TABLE where its MM belongs.
    let all = sample();
    let (_, objects) = &all[position(&all, records::TASK_OBJS)];
    let (records, place) = patched(records::TASK_OBJS, 12, &objects[..4]);
    let text = error(&records);
    assert!(text.starts_with(&format!("image, offset {place}: TASK_OBJS: tag")), "{text}");
    assert!(text.ends_with("is a FILE_TABLE, not a MM"), "{text}");
}

#[test]
fn tags_of_the_task_table_are_looked_at() {
    let mut all = sample();
    let table = position(&all, records::TREE) + 1;
    all[table].1[24 + 4..24 + 8].copy_from_slice(&(-7i32).to_le_bytes());
    let place = offset(&all, table);
    let reason = "tree_buf: task 1: parent: tag -7 is no pid object";
    assert_eq!(error(&all), format!("image, offset {place}: {reason}"));
}

#[test]
fn nothing_is_there_that_nobody_refers_to() {
    let mut all = sample();
    let at = position(&all, records::TASK_CREDS);
    let groups = (records::GROUPINFO.number, vec![0; 8]);
    all.splice(at..at, [objref(16, 100_000), groups]);
    read(&join(&all)).expect("a reader takes it");
    let reason = "OBJREF: nothing refers to the GROUPINFO with tag 100000";
    assert_eq!(error(&all), format!("image, offset {}: {reason}", offset(&all, at)));

    let (mut head, body) = tree(3, 4, false);
    head.pids.push(&[999]);
    let all = split(&written(&head, &body));
    let tag = head.pids.offset + head.pids.len() as i32 - 1;
    let place = offset(&all, position(&all, records::PIDS) + 1);
    let reason = format!("pids_buf: no task refers to the pid object with tag {tag}");
    assert_eq!(error(&all), format!("image, offset {place}: {reason}"));
}

#[test]
fn nothing_is_behind_the_last_record() {
    let mut bytes = join(&sample());
    let end = bytes.len();
    bytes.push(0);
    let error = strict::check(&bytes[..]).expect_err("a fault");
    assert_eq!(
        error.to_string(),
        format!("image, offset {end}: TAIL: something stands behind this record, the last")
    );
}

#[test]
fn the_fault_that_comes_first_is_told() {
    let mut all = sample();
    patch(&mut all, records::TAIL, 0, 8, &[1]);
    let tail = offset(&all, all.len() - 1);
    let text = error(&all);
    assert!(text.starts_with(&format!("image, offset {tail}: TAIL: magic")), "{text}");
    patch(&mut all, records::TREE, 0, 12, &[1]);
    let tree = offset(&all, position(&all, records::TREE));
    let text = error(&all);
    assert!(text.starts_with(&format!("image, offset {tree}: TREE: byte 12")), "{text}");
}

#[test]
fn an_image_cut_anywhere_is_at_fault() {
    let bytes = join(&sample());
    for cut in (0..bytes.len()).step_by(7).chain(bytes.len() - 20..bytes.len()) {
        assert!(strict::check(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// Whatever the bytes are: an answer, and a reader's error is a fault too.
#[test]
fn changed_bytes_are_faults_or_not_but_have_an_answer() {
    let mut random = Random::new(11);
    let good = join(&sample());
    let (mut faults, mut more) = (0, 0);
    for _ in 0..1500 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.word() as u8;
        }
        let (strict, lax) = (strict::check(&bytes[..]), read(&bytes));
        assert!(strict.is_err() || lax.is_ok(), "{lax:?}");
        faults += usize::from(strict.is_err());
        more += usize::from(strict.is_err() && lax.is_ok());
    }
    assert!(faults > 100 && more > 10, "{faults} faults, {more} of them only strict ones");
}
