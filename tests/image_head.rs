//! The head of an image: written and read back, and as the historic writer made it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::path::Path;

use usercr::error::ImageError;
use usercr::image::{HeadExtra, ImageHead, PidTable, Reader, TaskIds, Vdso, write_head};

#[path = "common/bare.rs"]
mod bare;

fn sample() -> ImageHead {
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    pids.push(&[100]);
    pids.push(&[101, 1]);
    pids.push(&[102, 2, 1]);
    let tasks = vec![
        TaskIds { pid: 1, ppid: 0, tgid: 1, pgid: 1, sid: 1, depth: 0 },
        TaskIds { pid: 2, ppid: 1, tgid: 2, pgid: -4097, sid: 0, depth: 1 },
    ];
    let extra = HeadExtra {
        root_subreaper: true,
        vdso: Some(Vdso { vdso_size: 8192, vvar_size: 16384, checksum: 7 }),
    };
    ImageHead { extra, ..bare::head(pids, tasks) }
}

fn written(head: &ImageHead) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_head(&mut bytes, head).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<ImageHead, ImageError> {
    Reader::new(bytes).head()
}

#[test]
fn what_was_written_is_read_back() {
    let head = sample();
    let bytes = written(&head);
    let mut reader = Reader::new(bytes.as_slice());
    assert_eq!(reader.head().unwrap(), head);
    assert_eq!(reader.head_end(), bytes.len() as u64);
    assert_eq!(reader.head().unwrap(), head, "the head can be read again");
}

#[test]
fn a_head_cut_anywhere_is_an_error_with_record_and_offset() {
    let mut head = sample();
    head.extra = HeadExtra::default();
    let bytes = written(&head);
    let starts: Vec<u64> = usercr::image::records::walk(bytes.as_slice())
        .map_while(|record| record.ok().map(|r| r.offset))
        .collect();
    assert_eq!(starts.len(), 12);
    for cut in 0..bytes.len() {
        let error = read(&bytes[..cut]).unwrap_err();
        match error {
            ImageError::EndsBefore { offset, .. } => {
                assert_eq!(offset, cut as u64);
                assert!(starts.contains(&offset), "{error}");
                assert_eq!(error.errno(), libc::EINVAL);
            }
            ImageError::EndsInside { offset, .. } => {
                assert!(offset < cut as u64 && starts.contains(&offset), "{error}");
                assert_eq!(error.errno(), libc::EIO);
            }
            other => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn a_changed_byte_is_an_error_or_another_head() {
    let bytes = written(&sample());
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(head) = read(&changed) {
                assert_eq!(head.pids.starts.len(), head.pids.len() + 1);
                assert!(!head.tasks.is_empty());
            }
        }
    }
}

#[test]
fn magic_and_version_must_be_right() {
    let bytes = written(&sample());
    // Offsets of the magic's first byte and of the revision in the first record.
    for (at, word) in [(8, "magic"), (24, "version 7, must be 6")] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let error = read(&changed).unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn extra_records_that_are_not_known_are_passed_over() {
    let head = sample();
    let mut bytes = written(&head);
    bytes.extend(20_000u32.to_le_bytes());
    bytes.extend(11u32.to_le_bytes());
    bytes.extend([1, 2, 3]);
    let mut reader = Reader::new(bytes.as_slice());
    assert_eq!(reader.head().unwrap(), head);
    assert_eq!(reader.head_end(), bytes.len() as u64);
}

#[test]
fn an_error_record_gives_its_text() {
    let mut bytes = written(&sample());
    bytes.truncate(72);
    for (record, string) in [(b"\0[err -16] task 5".as_slice(), None), (b"", Some(b"\0busy\0"))] {
        let mut bytes = bytes.clone();
        bytes.extend(9999u32.to_le_bytes());
        bytes.extend((record.len() as u32 + 8).to_le_bytes());
        bytes.extend(record);
        if let Some(text) = string {
            bytes.extend(5u32.to_le_bytes());
            bytes.extend((text.len() as u32 + 8).to_le_bytes());
            bytes.extend(text);
        }
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.errno(), libc::EIO);
        let text = error.to_string();
        assert!(text.contains("busy") || text.contains("[err -16] task 5"), "{text}");
    }
}

/// What the historic library did with the images in `golden/`.
fn golden() -> Vec<(String, Vec<u8>, serde_json::Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut cases = Vec::new();
    let Ok(entries) = std::fs::read_dir(&root) else { return Vec::new() };
    for entry in entries {
        let dir = entry.unwrap().path();
        let Ok(image) = std::fs::read(dir.join("image.bin")) else { continue };
        let facts = std::fs::read_to_string(dir.join("expected.json")).unwrap();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        cases.push((name, image, serde_json::from_str(&facts).unwrap()));
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

/// Images that the historic library refused because of the tags in their tables, which the plan
/// judges, and images it took although they are broken.
fn read_by_us(name: &str, facts: &serde_json::Value) -> bool {
    let tables_only = ["-tag-", "bad-offset-", "bad-ppid-", "bad-more-tasks-than-4-pids"];
    if name.contains("bad-len-8-") || name == "bad-nr-pids-more" {
        return name == "bad-len-8-lsm_info";
    }
    if name.starts_with("bad-") && tables_only.iter().any(|part| name.contains(part)) {
        return true;
    }
    facts["build"]["built"] == true || !name.starts_with("bad-")
}

#[test]
fn golden_heads_are_taken_and_refused_as_they_should() {
    let cases = golden();
    if cases.is_empty() {
        eprintln!("skipped: no golden/ here (a package of the crate has none)");
        return;
    }
    assert!(cases.len() > 200, "only {} cases in golden/", cases.len());
    for (name, image, facts) in cases {
        let result = read(&image);
        if read_by_us(&name, &facts) {
            let head = result.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!head.tasks.is_empty());
            continue;
        }
        let error = result.err().unwrap_or_else(|| panic!("{name}: was taken"));
        let errno = if name.starts_with("bad-cut-in-") { libc::EIO } else { libc::EINVAL };
        assert_eq!(error.errno(), errno, "{name}: {error}");
    }
}
