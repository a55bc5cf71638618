//! The command under the names of the old programs.
#![cfg(feature = "cli")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "common/hand_made.rs"]
mod hand_made;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

/// `ckptinfo` with these options, on `image`.
fn ckptinfo(options: &[&str], image: &[u8]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let (link, file) = (dir.path().join("ckptinfo"), dir.path().join("image"));
    symlink(env!("CARGO_BIN_EXE_usercr"), &link).unwrap();
    fs::write(&file, image).unwrap();
    Command::new(link).args(options).arg(file).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn image() -> Vec<u8> {
    let mut bytes = Vec::new();
    hand_made::image(77, &[]).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The image with an error record in front of its last record, which has 16 bytes.
fn failed() -> Vec<u8> {
    let mut bytes = image();
    let tail = bytes.split_off(bytes.len() - 16);
    bytes.extend(9999u32.to_le_bytes());
    bytes.extend(14u32.to_le_bytes());
    bytes.extend(b"\0oh\x1bno");
    bytes.extend(tail);
    bytes
}

#[test]
fn without_options_the_records_are_counted() {
    let seen = lines(&ckptinfo(&[], &failed()));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].ends_with("errors 1"), "{seen:?}");
}

#[test]
fn v_shows_every_record_where_it_is() {
    let image = image();
    let seen = lines(&ckptinfo(&["-v"], &image));
    let mut expected = 0;
    for record in usercr::image::records::walk(image.as_slice()) {
        let record = record.unwrap();
        let start =
            format!("{:>10} {:>5} {} {}", record.offset, record.kind, record.name, record.len);
        assert!(seen[expected].starts_with(&start), "{}: {start}", seen[expected]);
        expected += 1;
    }
    assert_eq!(seen.len(), expected + 1);
}

#[test]
fn e_shows_the_text_of_an_error_record_and_nothing_that_a_terminal_obeys() {
    let seen = lines(&ckptinfo(&["-e"], &failed()));
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].ends_with("error: oh\\u{1b}no"), "{seen:?}");
}

#[test]
fn a_cut_image_is_a_failure_and_an_unknown_option_too() {
    let image = image();
    let output = ckptinfo(&[], &image[..image.len() - 3]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("offset"), "{output:?}");
    assert_eq!(ckptinfo(&["--no-such"], &image).status.code(), Some(2));
}
