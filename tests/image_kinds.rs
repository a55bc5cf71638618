//! Records of our own that say what is open: what cannot be is refused, and other readers fail at them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use libc::EINVAL;
use usercr::image::records::{self, FIRST_EXTRA, Kind};
use usercr::image::{FileKind, TimerFd};

/// The smallest image, with a file of this kind.
fn sample(kind: FileKind) -> Vec<Record> {
    let (head, mut body) = smallest();
    body.objects.files[0].kind = kind;
    split(&written(&head, &body))
}

fn timer() -> FileKind {
    FileKind::TimerFd(TimerFd { clock: 1, ..TimerFd::default() })
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
        (timer(), records::FILE, 8, &[6], "file of type 6 that is something else too"),
        (timer(), records::FILE_NAME, 8, b"x", "absolute path"),
    ];
    for (kind, record, offset, value, text) in cases {
        let mut records = sample(kind.clone());
        patch(&mut records, *record, 0, *offset, value);
        refused(&records, text);
    }
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
    for kind in [timer(), FileKind::SignalFd { mask: 1 }] {
        let mut records = sample(kind);
        records.retain(|(number, _)| *number < FIRST_EXTRA);
        let (_, body) = read(&join(&records)).expect("an image");
        let FileKind::Named { path } = &body.objects.files[0].kind else { panic!("no path") };
        assert!(path.starts_with(b"/anon_inode:["));
        assert!(!std::path::Path::new(std::str::from_utf8(path).unwrap()).exists());
    }
}
