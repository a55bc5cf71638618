//! An image on its way to a file, a pipe, a socket: the same bytes, whoever writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use image_common::*;
use usercr::dump::output;
use usercr::error::{Error, ImageError};
use usercr::image::{Layout, PageSource, PagesOf};

/// A layout that is large enough for two threads, and its image.
fn sample() -> (Layout, Vec<u8>) {
    let (head, body, bytes) = large();
    (Layout::new(&head, &body).unwrap(), bytes)
}

fn all_of(file: &mut File) -> Vec<u8> {
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn to_a_file_from_its_position_on() {
    let (layout, bytes) = sample();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"in front").unwrap();
    let sources = AtomicUsize::new(0);
    let source = || {
        sources.fetch_add(1, Ordering::Relaxed);
        Pattern
    };
    output::write(file.as_fd(), &layout, source).unwrap();
    assert_eq!(sources.into_inner(), 2, "one thread has written all");
    file.write_all(b"behind").unwrap();
    let all = all_of(&mut file);
    assert!(all == [b"in front", bytes.as_slice(), b"behind"].concat());
}

#[test]
fn to_the_end_of_a_file() {
    let (layout, bytes) = sample();
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), b"in front").unwrap();
    let file = File::options().append(true).open(named.path()).unwrap();
    output::write(file.as_fd(), &layout, || Pattern).unwrap();
    assert!(std::fs::read(named.path()).unwrap() == [b"in front", bytes.as_slice()].concat());
}

#[test]
fn to_a_pipe_and_to_a_socket_that_does_not_block() {
    let (layout, bytes) = sample();
    let (mut from, to) = pipe().unwrap();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    });
    output::write(to.as_fd(), &layout, || Pattern).unwrap();
    drop(to);
    assert!(reader.join().unwrap() == bytes);

    let (mut from, to) = UnixStream::pair().unwrap();
    to.set_nonblocking(true).unwrap();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    });
    output::write(to.as_fd(), &layout, || Pattern).unwrap();
    drop(to);
    assert!(reader.join().unwrap() == bytes);
}

/// Has no pages behind some address.
struct Broken;

impl PageSource for Broken {
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        match address {
            0x200_0000.. => Err(ImageError::EndsBefore { record: "test", offset: address }.into()),
            _ => Pattern.read(from, address, buf),
        }
    }
}

#[test]
fn a_page_that_cannot_be_read_ends_it() {
    let (layout, _) = sample();
    let file = tempfile::tempfile().unwrap();
    let error = output::write(file.as_fd(), &layout, || Broken).unwrap_err();
    assert!(matches!(error, Error::Image(ImageError::EndsBefore { .. })), "{error}");
}

#[test]
fn a_descriptor_that_cannot_be_written_gives_its_error() {
    let (layout, _) = sample();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = output::write(full.as_fd(), &layout, || Pattern).unwrap_err();
    assert_eq!(error.errno(), libc::ENOSPC, "{error}");
    let unwritable = File::open("/proc/self/exe").unwrap();
    let error = output::write(unwritable.as_fd(), &layout, || Pattern).unwrap_err();
    assert_eq!(error.errno(), libc::EBADF, "{error}");
}
