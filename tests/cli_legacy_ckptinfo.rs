//! The command linked as `ckptinfo`: what it shows of an image.
#![cfg(feature = "cli")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "common/hand_made.rs"]
mod hand_made;
#[path = "common/legacy.rs"]
mod legacy;

use std::fs;
use std::io::{Read, Write};
use std::process::{Output, Stdio};

/// `ckptinfo` with these options, on `image`.
fn ckptinfo(options: &[&str], image: &[u8]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image");
    fs::write(&file, image).unwrap();
    legacy::command("ckptinfo", options).arg(file).output().unwrap()
}

/// The same from a pipe on standard input.
fn ckptinfo_of_stdin(options: &[&str], image: &[u8]) -> Output {
    let mut command = legacy::command("ckptinfo", options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The image fits into the pipe, so that nobody waits for anybody.
    assert!(image.len() < 60_000);
    child.stdin.take().unwrap().write_all(image).unwrap();
    legacy::end_of(child)
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
    assert_eq!(seen, lines(&ckptinfo(&["--verbose"], &image)));
    assert_eq!(seen, lines(&ckptinfo_of_stdin(&["-v"], &image)));
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
    for output in [
        ckptinfo(&["-e"], &failed()),
        ckptinfo(&["--error"], &failed()),
        ckptinfo_of_stdin(&["-e"], &failed()),
    ] {
        let seen = lines(&output);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].ends_with("error: oh\\u{1b}no"), "{seen:?}");
    }
}

/// As linux-cr left it: the text in a STRING record, and nothing behind it.
#[test]
fn e_shows_the_text_behind_an_error_record_that_is_the_end_of_the_image() {
    let mut image = image();
    image.truncate(image.len() - 16);
    let mut record = |kind: u32, payload: &[u8]| {
        image.extend(kind.to_le_bytes());
        image.extend((8 + payload.len() as u32).to_le_bytes());
        image.extend(payload);
    };
    record(9999, b"");
    record(5, b"\0no such thing\0");
    let seen = lines(&ckptinfo(&["-e"], &image));
    assert!(seen.iter().any(|line| line.ends_with("error: no such thing")), "{seen:?}");
    assert_eq!(ckptinfo(&[], &image).status.code(), Some(1));
}

#[test]
fn a_cut_image_is_a_failure_and_an_unknown_option_too() {
    let image = image();
    let output = ckptinfo(&[], &image[..image.len() - 3]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("offset"), "{output:?}");
    for wrong in [&["--no-such"][..], &["-x"], &["two", "files"]] {
        let output = ckptinfo(wrong, &image);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    let missing = legacy::command("ckptinfo", &["/no/such"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let errors = legacy::text(&missing.stderr);
    assert_eq!(errors, "ckptinfo: /no/such: No such file or directory (os error 2)\n");
    for option in ["-h", "--help"] {
        let help = legacy::command("ckptinfo", &[option]).output().unwrap();
        assert!(help.status.success() && legacy::text(&help.stdout).contains("Usage: ckptinfo"));
    }
}
