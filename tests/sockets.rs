//! What a checkpoint leaves of sockets, whose it reads, and what a restart does not take away. That they come
//! back is the matter of `tests/state/`.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Image, Victim, cc, checkpoint};
use usercr::image::{FileKind, Message, SocketFamily};
use usercr::sys::socket;

/// A sleeping program with these as standard input and output.
fn holder(input: OwnedFd, output: OwnedFd) -> Victim {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(input).stdout(output).stderr(Stdio::null());
    let victim = Victim::start_with(&mut command);
    victim.wait_asleep();
    victim
}

fn set(socket: &impl AsRawFd, option: i32, value: i32) {
    let size = size_of::<i32>() as u32;
    // SAFETY: the option is one int.
    let done = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// What waits in the socket behind a descriptor of the only task.
fn queue(image: &Image, fd: usize) -> &[Message] {
    let objects = &image.body.objects;
    let file = objects.file_tables[0].descriptors[fd].file;
    let FileKind::Socket { socket } = objects.files[file].kind else { panic!("no socket") };
    &objects.sockets[socket].queue
}

/// Whether exactly these messages wait there.
fn waits(image: &Image, fd: usize, texts: &[&[u8]]) -> bool {
    queue(image, fd).iter().map(|m| m.data.as_slice()).eq(texts.iter().copied())
}

#[test]
fn messages_stay_where_they_are() {
    let (one, other) = UnixDatagram::pair().expect("pair");
    for text in [b"first".as_slice(), b"second", &[7; 40_000], b"last"] {
        other.send(text).expect("send");
    }
    one.send(b"back").expect("send");
    let copies = [&one, &other].map(|end| end.try_clone().expect("copy"));
    let mut victim = holder(one.into(), other.into());
    for _ in 0..2 {
        let image = checkpoint(victim.pid(), false).expect("checkpoint");
        assert!(waits(&image, 0, &[b"first", b"second", &[7; 40_000], b"last"]));
        assert!(waits(&image, 1, &[b"back"]));
        for copy in &copies {
            let offset = socket::number(copy, libc::SOL_SOCKET, libc::SO_PEEK_OFF);
            assert_eq!(offset.expect("option"), -1);
        }
    }
    assert!(victim.runs());
    let mut room = vec![0; 50_000];
    for length in [5, 6, 40_000, 4] {
        assert_eq!(copies[0].recv(&mut room).expect("receive"), length);
    }
    assert_eq!(copies[1].recv(&mut room).expect("receive"), 4);
}

#[test]
fn a_stream_of_several_senders_is_kept_apart() {
    let (one, other) = UnixStream::pair().expect("pair");
    set(&one, libc::SO_PASSCRED, 1);
    let mut copy = one.try_clone().expect("copy");
    (&other).write_all(b"ours ").expect("write");
    let end = OwnedFd::from(other.try_clone().expect("copy"));
    let printf = Command::new("printf").arg("theirs").stdout(end).status().expect("printf");
    assert!(printf.success());
    let victim = holder(one.into(), other.into());
    let image = checkpoint(victim.pid(), false).expect("checkpoint");
    assert!(waits(&image, 0, &[b"ours ", b"theirs"]) && waits(&image, 1, &[]));
    let [first, second] = queue(&image, 0) else { panic!("two") };
    let pid = |message: &Message| message.cred.expect("credentials")[0];
    assert_eq!(pid(first), std::process::id());
    assert_ne!(pid(second), pid(first));
    let offset = socket::number(&copy, libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    assert_eq!(offset.expect("option"), -1);
    // Each read ends where another has written.
    let mut room = [0; 20];
    assert_eq!(copy.read(&mut room).expect("read"), 5);
    assert_eq!(copy.read(&mut room).expect("read"), 6);
}

/// Restarts an image that cannot be restarted; what is said.
fn refused(image: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    let out = command.args(["restart", "--new-pids"]).arg(image).output().expect("usercr runs");
    assert!(!out.status.success(), "it was restarted");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn null() -> OwnedFd {
    File::open("/dev/null").expect("open").into()
}

#[test]
fn paths_of_others_are_not_taken_away() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, image) = (folder.path().join("socket"), folder.path().join("image"));
    let listener = UnixListener::bind(&path).expect("bind");
    let victim = holder(listener.try_clone().expect("copy").into(), null());
    fs::write(&image, checkpoint(victim.pid(), true).expect("checkpoint").bytes).expect("write");
    let said = refused(&image);
    assert!(said.contains("a socket that is in use is bound there"), "{said}");
    assert!(said.contains(&*path.to_string_lossy()), "{said}");
    let client = UnixStream::connect(&path).expect("it still listens there");
    drop((client, listener));

    fs::remove_file(&path).expect("remove");
    fs::write(&path, "dear").expect("write");
    let said = refused(&image);
    assert!(said.contains("another file is there now"), "{said}");
    assert_eq!(fs::read(&path).expect("read"), b"dear");
    fs::remove_file(&path).expect("remove");

    let listener = UnixListener::bind(&path).expect("bind");
    fs::remove_file(&path).expect("remove");
    let victim = holder(listener.into(), null());
    fs::write(&image, checkpoint(victim.pid(), true).expect("checkpoint").bytes).expect("write");
    fs::write(&path, "dear").expect("write");
    let said = refused(&image);
    assert!(said.contains("a file has been made there since"), "{said}");
    assert_eq!(fs::read(&path).expect("read"), b"dear");
}

/// A port that is taken by another: said with its address.
#[test]
fn ports_of_others() {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("image");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let victim = holder(listener.try_clone().expect("copy").into(), null());
    fs::write(&image, checkpoint(victim.pid(), true).expect("checkpoint").bytes).expect("write");
    let said = refused(&image);
    assert!(said.contains(&address) && said.contains("Address already in use"), "{said}");
}

/// A victim in a network namespace of its own; it makes its pair of sockets there, if `inside`.
fn in_a_namespace(inside: bool) -> Option<Victim> {
    let mut command = Command::new("sleep");
    let (one, other) = UnixDatagram::pair().expect("pair");
    command.arg("600").stdin(OwnedFd::from(one)).stdout(OwnedFd::from(other));
    command.stderr(Stdio::null());
    let enter = move || {
        let mut pair = [0; 2];
        // SAFETY: system calls with plain numbers, and an array of two descriptors.
        let failed = unsafe {
            libc::unshare(libc::CLONE_NEWNET) < 0
                || inside
                    && (libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) < 0
                        || libc::dup2(pair[0], 0) < 0
                        || libc::dup2(pair[1], 1) < 0)
        };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: only system calls are made after the fork.
    unsafe { command.pre_exec(enter) };
    // SAFETY: a number.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: who is not root cannot make a network namespace");
        return None;
    }
    let victim = Victim::start_with(&mut command);
    victim.wait_asleep();
    Some(victim)
}

#[test]
fn sockets_in_another_network_namespace() {
    let Some(victim) = in_a_namespace(true) else { return };
    let image = checkpoint(victim.pid(), false).expect("checkpoint");
    let peers: Vec<Option<usize>> = image
        .body
        .objects
        .sockets
        .iter()
        .map(|socket| match &socket.family {
            SocketFamily::Unix(unix) => unix.peer,
            SocketFamily::Inet(_) => None,
        })
        .collect();
    assert_eq!(peers.len(), 2);
    assert!(peers.contains(&Some(0)) && peers.contains(&Some(1)), "{peers:?}");

    let Some(mut victim) = in_a_namespace(false) else { return };
    let said = checkpoint(victim.pid(), false).expect_err("it cannot be saved").to_string();
    assert!(said.contains("it belongs to another network namespace than the tree"), "{said}");
    assert!(victim.runs());
}

#[test]
fn a_path_in_a_root_directory() {
    // SAFETY: a number.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: who is not root cannot change its root directory");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let program = cc::build_dir().join("jailed");
    let source = cc::top().join("tests/dump_victim/jailed.c");
    cc::succeeds(cc::cc().arg("-std=gnu11").arg(source).arg("-o").arg(&program));
    let mut victim = Victim::start(Command::new(program).arg(folder.path()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !folder.path().join("ready").exists() {
        assert!(victim.runs() && Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    victim.wait_asleep();
    let said = checkpoint(victim.pid(), false).expect_err("it cannot be saved").to_string();
    assert!(said.contains("its path /socket does not lead to it, or only in a root"), "{said}");
    assert!(victim.runs());
}
