//! Records of our own about files without a name, pipes and what paths led to; namespaces: what cannot be is
//! refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use libc::{EINVAL, ENOSYS};
use usercr::image::records::{self, Kind};
use usercr::image::{
    Body, FileKind, ImageHead, Inode, Ipc, Namespaces, Origin, Outside, Pipe, Pty,
};
use usercr::image::{TaskState, Uts, Waiting, Was};

/// The smallest image with a memfd as its file, in namespaces of its own.
fn unnamed() -> (ImageHead, Body) {
    let (head, mut body) = smallest();
    body.objects.files[0].kind = FileKind::Unnamed { inode: 0 };
    body.objects.inodes.push(Inode {
        origin: Origin::Memfd { name: b"name".to_vec(), seals: 1 },
        mode: 0o600,
        uid: 1,
        gid: 2,
        size: 100,
        times: [3, 4],
        pages: Vec::new(),
    });
    body.objects.uts.push(Uts { node: b"host".to_vec(), domain: Vec::new() });
    body.objects.ipcs.push(Ipc::default());
    if let TaskState::Live(live) = &mut body.tasks[0] {
        live.namespaces = Namespaces { uts: Some(0), ipc: Some(0) };
    }
    (head, body)
}

/// The same with a pipe that has two packets in it.
fn pipe() -> (ImageHead, Body) {
    let (head, mut body) = smallest();
    body.objects.files[0].kind = FileKind::Pipe { pipe: 0 };
    let pipe = Pipe { data: vec![0; 9], size: 4096, packets: vec![4, 5], waiting: true };
    body.objects.pipes.push(pipe);
    (head, body)
}

/// The same with a path that led to something.
fn path() -> (ImageHead, Body) {
    let (head, mut body) = smallest();
    body.objects.files[0].was = Some(Was { mode: 0o100_644, rdev: 0, size: 5, mtime: -1 });
    (head, body)
}

/// The same with a terminal from outside.
fn outside() -> (ImageHead, Body) {
    let (head, mut body) = smallest();
    body.objects.files[0].kind = FileKind::Tty { pty: 0, master: false };
    let outside = Outside { device: 0x8801, controls: true, foreground: 1 };
    body.objects.ptys.push(Pty { outside: Some(outside), ..Pty::default() });
    (head, body)
}

fn waiting() -> (ImageHead, Body) {
    let (head, mut body) = outside();
    let (input, ends, output) = (b"one\ntwo".to_vec(), vec![4, 7], b"out".to_vec());
    let waiting = Waiting { input, ends, output };
    body.objects.ptys[0] = Pty { modes: [0, 0, 0, 2], waiting, ..Pty::default() };
    (head, body)
}

/// The image with a field changed is refused with this errno and text.
type Case = (fn() -> (ImageHead, Body), Kind, usize, &'static [u8], i32, &'static str);

#[test]
fn values_that_cannot_be_are_refused() {
    let high = &[0, 0, 0, 0, 0, 0, 0, 0x80];
    let cases: &[Case] = &[
        (unnamed, records::UNNAMED, 8, &[0], EINVAL, "tag 0 of the inode"),
        (unnamed, records::UNNAMED, 8, &[2], 0, "is a CRED"),
        (unnamed, records::INODE, 8, &[1], EINVAL, "origin 1 with seals 0x1"),
        (unnamed, records::INODE, 8, &[3], EINVAL, "origin 3"),
        (unnamed, records::INODE, 12, &[0, 0x10], EINVAL, "mode 0o10000"),
        (unnamed, records::INODE, 32, high, EINVAL, "a file of 9223372036854775808 bytes"),
        (unnamed, records::FILE_NAME, 8, b"/not", EINVAL, "origin 2"),
        (unnamed, records::FILE, 8, &[2], EINVAL, "length 48, must be 56"),
        (unnamed, records::UTS_NS, 73, &[b'x'; 65], EINVAL, "a name without NUL"),
        (unnamed, records::IPC_NS, 24, &[0, 0, 0, 0x80], EINVAL, "a limit below 0"),
        (unnamed, records::IPC, 8, &[0], EINVAL, "group 256, must be 502"),
        (unnamed, records::IPC, 12, &[1], ENOSYS, "System V IPC"),
        (pipe, records::PIPE_STATE, 12, &[2], EINVAL, "flags 0x2 of a pipe"),
        (pipe, records::PIPE_STATE, 8, &[0, 0, 0, 0xff], EINVAL, "size 4278190080"),
        (pipe, records::PIPE_PACKETS, 8, &[0], EINVAL, "packets have 1 to 4096 bytes"),
        (pipe, records::PIPE_PACKETS, 8, &[5], EINVAL, "9 bytes, in packets 10"),
        (outside, records::TTY_OUTSIDE, 8, &[2], ENOSYS, "a terminal from outside with flags 0x2"),
        (outside, records::TTY_OUTSIDE, 12, &[99], EINVAL, "tag 99"),
        (outside, records::TTY, 10, &[2], EINVAL, "TTY_OUTSIDE belongs to a master"),
        (outside, records::FILE, 48, &[9], EINVAL, "master of a terminal from outside is open"),
        (waiting, records::TTY_LINES, 8, &[8], EINVAL, "must ascend, up to 7"),
        (waiting, records::TTY_LINES, 12, &[3], EINVAL, "must ascend, up to 7"),
        (waiting, records::TTY, 52, &[0], EINVAL, "it has no lines, but TTY_LINES"),
        (waiting, records::TTY, 10, &[2], EINVAL, "what waits belongs to a master"),
        (path, records::FILE_WAS, 24, high, EINVAL, "a file of 9223372036854775808 bytes"),
    ];
    for (sample, record, offset, value, errno, text) in cases {
        let (head, body) = sample();
        let mut records = split(&written(&head, &body));
        let good = read(&join(&records)).expect("an image").1;
        assert_eq!(good.objects.files, body.objects.files);
        patch(&mut records, *record, 0, *offset, value);
        let error = read(&join(&records)).expect_err("the image was taken");
        assert!(error.to_string().contains(text), "{error}, not {text}");
        assert!(*errno == 0 || error.errno() == *errno, "{error}: {}", error.errno());
    }
}

#[test]
fn what_waits_in_a_terminal_has_limits() {
    let (head, body) = waiting();
    let records = split(&written(&head, &body));
    let good = read(&join(&records)).expect("an image").1;
    assert_eq!(good.objects.ptys, body.objects.ptys);
    let changed = |kind: Kind, payload: &[u8]| {
        let mut records = records.clone();
        let at = position(&records, kind);
        records[at].1 = payload.to_vec();
        read(&join(&records)).expect_err("the image was taken").to_string()
    };
    for (kind, payload, text) in [
        (records::TTY_INPUT, &[b'x'; 4094] as &[u8], "length 4102, at most 4101"),
        (records::TTY_OUTPUT, &[b'x'; 4094], "length 4102, at most 4101"),
        (records::TTY_INPUT, &[], "must have contents"),
        (records::TTY_LINES, &[4, 0, 0, 0, 7], "must have numbers of 32 bits"),
        (records::TTY_LINES, &[0; 4 * 4087], "more than 4093 lines and bytes"),
    ] {
        let error = changed(kind, payload);
        assert!(error.contains(text), "{error}, not {text}");
    }
    // They are in this order, and not of a terminal from outside.
    let mut records = split(&written(&head, &body));
    let at = position(&records, records::TTY_LINES);
    records.swap(at, at - 1);
    read(&join(&records)).expect_err("the image was taken");
    let (head, mut body) = waiting();
    body.objects.ptys[0].outside = Some(Outside::default());
    let error = read(&written(&head, &body)).expect_err("the image was taken");
    assert!(error.to_string().contains("is not the tree's"), "{error}");
}

#[test]
fn records_stand_in_front_of_what_they_are_about() {
    let between = |from: fn() -> (ImageHead, Body), kind: Kind, to: fn() -> (ImageHead, Body)| {
        let ((head, body), (other_head, other)) = (from(), to());
        let record = {
            let records = split(&written(&head, &body));
            records[position(&records, kind)].clone()
        };
        let mut records = split(&written(&other_head, &other));
        let at = position(&records, records::FILE);
        records.insert(at, record);
        read(&join(&records)).expect_err("the image was taken").to_string()
    };
    let wrong = "does not go with what is in front of it";
    assert!(between(pipe, records::PIPE_STATE, path).contains(wrong));
    assert!(between(path, records::FILE_WAS, pipe).contains(wrong));
    assert!(between(pipe, records::PIPE_STATE, pipe).contains("comes twice"));
    assert!(between(path, records::FILE_WAS, path).contains("comes twice"));
}
