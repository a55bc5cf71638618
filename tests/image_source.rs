//! An image on a file, a pipe, a socket: read the same, and nothing behind it is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;

use image_common::*;
use usercr::image::{Body, ImageHead};
use usercr::restart::source;

const BEHIND: &[u8] = b"not a part of the image";

/// Reads the image on `fd` and checks it, its pages too, against what was written.
fn check(fd: BorrowedFd<'_>, head: &ImageHead, body: &Body) {
    let mut reader = source::open(fd).unwrap();
    assert_eq!(&reader.head().unwrap(), head);
    let mut back = reader.body(head).unwrap();
    let (file, base) = reader.source_mut().pages_file().unwrap();
    let file = File::from(file.try_clone_to_owned().unwrap());
    let mut image = vec![0; file.metadata().unwrap().len() as usize - base as usize];
    file.read_exact_at(&mut image, base).unwrap();
    check_pages(&mut back, &image);
    assert_eq!(&back, body);
}

/// An image that takes many fillings of a pipe.
fn sample() -> (ImageHead, Body, Vec<u8>) {
    large()
}

/// Feeds `to` in pieces of odd sizes, then says something else, and reads that back from `from`.
fn check_stream(from: OwnedFd, mut to: impl Write + Send + 'static, piece: usize) {
    let (head, body, bytes) = sample();
    let feeder = thread::spawn(move || {
        for part in bytes.chunks(piece) {
            to.write_all(part).unwrap();
        }
        to.write_all(BEHIND).unwrap();
    });
    check(from.as_fd(), &head, &body);
    feeder.join().unwrap();
    let mut rest = Vec::new();
    // The descriptor may be nonblocking, but all of it is there by now, the end too.
    File::from(from).read_to_end(&mut rest).unwrap();
    assert_eq!(rest, BEHIND);
}

#[test]
fn from_a_file_at_a_position() {
    let (head, body, bytes) = sample();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"in front").unwrap();
    file.write_all(&bytes).unwrap();
    file.write_all(BEHIND).unwrap();
    file.seek(SeekFrom::Start(8)).unwrap();
    check(file.as_fd(), &head, &body);
    assert_eq!(file.stream_position().unwrap(), 8, "the position has moved");
}

#[test]
fn from_a_pipe() {
    let (from, to) = pipe().unwrap();
    check_stream(from.into(), to, 7919);
}

#[test]
fn from_a_socket() {
    let (from, to) = UnixStream::pair().unwrap();
    check_stream(from.into(), to, 100_003);
}

#[test]
fn from_a_descriptor_that_does_not_block() {
    let (from, to) = UnixStream::pair().unwrap();
    from.set_nonblocking(true).unwrap();
    check_stream(from.into(), to, 1 << 20);
}

#[test]
fn byte_by_byte() {
    let (head, body) = smallest();
    let bytes = written(&head, &body);
    let (from, mut to) = UnixStream::pair().unwrap();
    from.set_nonblocking(true).unwrap();
    let feeder = thread::spawn(move || {
        for byte in bytes {
            to.write_all(&[byte]).unwrap();
        }
    });
    check(from.as_fd(), &head, &body);
    feeder.join().unwrap();
}

#[test]
fn the_head_alone_takes_no_more_than_the_next_records_header() {
    let (head, body) = smallest();
    let (mut from, mut to) = pipe().unwrap();
    to.write_all(&written(&head, &body)).unwrap();
    drop(to);
    let mut reader = source::open(from.as_fd()).unwrap();
    assert_eq!(reader.head().unwrap(), head);
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() as u64, 8571 - reader.head_end() - 8);
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    let (head, body) = smallest();
    let bytes = written(&head, &body);
    for cut in [0, 5, 72, 500, 1000, 3000, 5958, 8570] {
        let (from, mut to) = pipe().unwrap();
        to.write_all(&bytes[..cut]).unwrap();
        drop(to);
        let mut reader = source::open(from.as_fd()).unwrap();
        let error = match reader.head() {
            Err(error) => error,
            Ok(head) => reader.body(&head).unwrap_err(),
        };
        let errno = error.errno();
        assert!(errno == libc::EINVAL || errno == libc::EIO, "cut at {cut}: {error}");
    }
}

#[test]
fn a_descriptor_that_cannot_be_read_gives_its_error() {
    let file = File::options().write(true).open("/dev/null").unwrap();
    let error = source::open(file.as_fd()).unwrap().head().unwrap_err();
    assert_eq!(error.errno(), libc::EBADF, "{error}");
    let directory = File::open("/").unwrap();
    let error = source::open(directory.as_fd()).unwrap().head().unwrap_err();
    assert_eq!(error.errno(), libc::EISDIR, "{error}");
    assert!(directory.as_raw_fd() >= 0);
}
