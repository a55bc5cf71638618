//! What cannot be saved is refused: by name, before anything is written, and the tree runs on.

mod dump_common;

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dump_common::{Victim, wait_until};
use usercr::dump::{self, Options};
use usercr::error::Error;
use usercr::report::Report;
use usercr::sys::ptrace::{self, Tracee};
use usercr::sys::{inspect, process, procfs};

/// Checkpoints `pid`, which must fail without writing anything.
fn refusal(pid: i32) -> Error {
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(b"before").expect("write");
    let report = Report { log: None, err: None, verbose: false, debug: false };
    let options = Options {
        output: file.as_fd(),
        container: false,
        flags: 1,
        kill: true,
        terminal: false,
        report,
    };
    let error = dump::checkpoint(pid, &options).expect_err("it cannot be saved");
    assert_eq!(file.stream_position().expect("position"), 6, "something was written");
    error
}

/// Starts a sleeping program whose standard input is `stdin`, checks what is said about it.
fn refused_for_input(stdin: Stdio, expected: &[&str]) {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    refused(&mut Victim::start_with(&mut command), expected);
}

fn refused(victim: &mut Victim, expected: &[&str]) {
    victim.wait_asleep();
    let error = refusal(victim.pid());
    let text = error.to_string();
    let start = format!("task 0 (pid {}): ", victim.pid());
    for part in [start.as_str()].iter().chain(expected) {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert_eq!(error.errno(), libc::ENOTSUP);
    assert!(victim.runs());
}

#[test]
fn sockets() {
    let (one, _other) = UnixStream::pair().expect("pair");
    let expected = [
        "descriptor 0 (socket:[",
        "the other end of the socket is held by a process outside the tree",
    ];
    refused_for_input(OwnedFd::from(one).into(), &expected);
    let netlink = usercr::sys::socket::new(libc::AF_NETLINK, libc::SOCK_RAW, 0).expect("socket");
    refused_for_input(
        netlink.into(),
        &["descriptor 0 (socket:[", "netlink sockets cannot be saved"],
    );
}

#[test]
fn pidfds() {
    let own = process::pidfd(process::own_pid()).expect("pidfd");
    let reason = format!("it is of process {}, which is no task of the tree", process::own_pid());
    let object = "descriptor 0 (anon_inode:[pidfd])";
    refused_for_input(own.into(), &[object, reason.as_str()]);

    let mut child = Command::new("true").spawn().expect("true runs");
    let gone = process::pidfd(child.id() as i32).expect("pidfd");
    child.wait().expect("it ends");
    refused_for_input(gone.into(), &[object, "its process has ended and has been waited for"]);
}

/// An inotify file with watches.
fn inotify(paths: &[&Path], mask: u32) -> OwnedFd {
    // SAFETY: flags only; the descriptor is nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
    for path in paths {
        let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
        // SAFETY: a valid C string.
        let wd = unsafe { libc::inotify_add_watch(file.as_raw_fd(), path.as_ptr(), mask) };
        assert!(wd > 0, "{}", std::io::Error::last_os_error());
    }
    file
}

/// Whether files can be opened by their handles: CAP_DAC_READ_SEARCH.
fn may_search() -> bool {
    let status = procfs::read("/proc/self/status").expect("status");
    procfs::status(&status).expect("status").caps[2] & 1 << 2 != 0
}

#[test]
fn inotify_files() {
    const OBJECT: &str = "descriptor 0 (anon_inode:inotify)";
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("file");
    File::create(&file).expect("file");
    let told = inotify(&[folder.path()], libc::IN_DELETE);
    std::fs::remove_file(&file).expect("remove");
    refused_for_input(told.into(), &[OBJECT, "32 bytes of events wait in it to be read"]);

    let of_proc = inotify(&[Path::new("/proc/self")], libc::IN_MOVE);
    let reason = "what its watch 1 watches is a file of /proc";
    refused_for_input(of_proc.into(), &[OBJECT, reason]);

    // It is still there for who has it open.
    let open = File::create(&file).expect("file");
    let deleted = inotify(&[folder.path(), &file], libc::IN_MOVE);
    std::fs::remove_file(&file).expect("remove");
    let reason = match may_search() {
        true => "what its watch 2 watches has been deleted",
        false => "what its watch 2 watches cannot be looked for without CAP_DAC_READ_SEARCH",
    };
    refused_for_input(deleted.into(), &[OBJECT, reason]);
    drop(open);

    // Its contents are read for the image, and that is told.
    let open = File::options().read(true).write(true).create_new(true).open(&file).expect("file");
    let told = inotify(&[folder.path()], libc::IN_OPEN);
    std::fs::remove_file(&file).expect("remove");
    let mut command = Command::new("sleep");
    command.arg("600").stdin(told).stdout(open).stderr(Stdio::null());
    let reason = "bytes of events wait in it to be read";
    refused(&mut Victim::start_with(&mut command), &[OBJECT, reason]);

    let far = inotify(&[], 0);
    let path = CString::new(folder.path().as_os_str().as_bytes()).expect("a path");
    let fd = far.as_raw_fd();
    for count in 1..=65537 {
        // SAFETY: a valid C string, and room for one event without a name.
        unsafe {
            let wd = libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_CREATE);
            assert_eq!(wd, count);
            if count < 65537 {
                let mut event = [0u8; 16];
                assert_eq!(libc::inotify_rm_watch(fd, wd), 0);
                assert_eq!(libc::read(fd, event.as_mut_ptr().cast(), 16), 16);
            }
        }
    }
    let reason = "its watch 65537 has a number above 65536";
    refused_for_input(far.into(), &[OBJECT, reason]);
}

/// What nobody in the tree uses is found by its handle only.
#[test]
fn watches_that_may_not_be_looked_for() {
    /// Of capabilities(7), and linux/capability.h.
    const DAC_READ_SEARCH: u32 = 2;
    const VERSION_3: u32 = 0x2008_0522;
    let folder = tempfile::tempdir().expect("folder");
    let file = inotify(&[folder.path()], libc::IN_OPEN);
    let drop_it = || {
        let mut header = [VERSION_3, 0];
        let mut sets = [0u32; 6];
        // SAFETY: the header and two structures of three words each, as version 3 has them.
        unsafe {
            let (header, sets) = (header.as_mut_ptr(), sets.as_mut_ptr());
            assert_eq!(libc::syscall(libc::SYS_capget, header, sets), 0);
            *sets &= !(1 << DAC_READ_SEARCH);
            assert_eq!(libc::syscall(libc::SYS_capset, header, sets), 0);
        }
    };
    let reason = "what its watch 1 watches cannot be looked for without CAP_DAC_READ_SEARCH";
    std::thread::scope(|scope| {
        // Capabilities are a thread's own.
        scope.spawn(|| {
            drop_it();
            refused_for_input(file.into(), &["descriptor 0 (anon_inode:inotify)", reason]);
        });
    });
}

/// Connections that have not been accepted, by whom, and what cannot wait in a socket.
#[test]
fn what_waits_in_sockets() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    let client = UnixStream::connect(&path).expect("connect");
    let refused = |expected: &str| {
        let copy = OwnedFd::from(listener.try_clone().expect("copy"));
        refused_for_input(copy.into(), &["descriptor 0 (socket:[", expected]);
    };
    refused("a connection of a process outside the tree waits to be accepted");
    drop(client);
    refused("a connection waits to be accepted whose other end has been closed");

    let named = UnixDatagram::bind(folder.path().join("named")).expect("bind");
    let other = UnixDatagram::bind(folder.path().join("other")).expect("bind");
    other.send_to(b"x", folder.path().join("named")).expect("send");
    let expected = ["descriptor 0 (socket:[", "from a socket that is not in the tree"];
    refused_for_input(OwnedFd::from(named).into(), &expected);
}

#[test]
fn sockets_whose_path_leads_elsewhere() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, b"another").expect("write");
    let expected = ["descriptor 0 (socket:[", "now leads to another file"];
    refused_for_input(OwnedFd::from(listener).into(), &expected);
}

#[test]
fn descriptors_on_their_way() {
    // The other end is in the victim too.
    let (one, other) = UnixStream::pair().expect("pair");
    let byte = [1u8];
    // A record of ancillary data: length, level and type, one descriptor.
    let rights = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
    let control = [20, rights, other.as_raw_fd() as u64];
    let mut vector = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: msghdr is numbers and pointers, for which all zeros is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = 24;
    // SAFETY: all that the message points to lives as long as the call.
    let sent = unsafe { libc::sendmsg(one.as_raw_fd(), &raw const message, 0) };
    assert_eq!(sent, 1);
    let mut command = Command::new("sleep");
    command.arg("600").stdin(OwnedFd::from(one)).stdout(OwnedFd::from(other)).stderr(Stdio::null());
    let expected = ["descriptor 1 (socket:[", "descriptors are on their way in it (SCM_RIGHTS)"];
    let mut victim = Victim::start_with(&mut command);
    drop(command);
    refused(&mut victim, &expected);
}

#[test]
fn epoll_files_that_wait_for_what_is_outside() {
    // SAFETY: two calls that make descriptors, which nobody else has.
    let [epoll, outside] = unsafe {
        [libc::epoll_create1(libc::EPOLL_CLOEXEC), libc::eventfd(0, libc::EFD_CLOEXEC)]
            .map(|fd| OwnedFd::from_raw_fd(fd))
    };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    let (fd, add) = (outside.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: the event lives as long as the call.
    let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, fd, &raw mut event) };
    assert_eq!(added, 0);
    let expected = format!("it waits for descriptor {fd}, a file that no task has");
    refused_for_input(epoll.into(), &["descriptor 0 (anon_inode:[eventpoll])", &expected]);
}

#[test]
fn tcp_connections() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    refused_for_input(
        OwnedFd::from(listener.try_clone().expect("copy")).into(),
        &["descriptor 0 (socket:[", "1 connections wait for it to accept them"],
    );
    let (accepted, _) = listener.accept().expect("accept");
    (&stream).write_all(b"what is never read resets the connection").expect("write");
    let expected = ["descriptor 0 (socket:[", "TCP connections cannot be saved"];
    refused_for_input(OwnedFd::from(accepted).into(), &expected);
    refused_for_input(OwnedFd::from(stream).into(), &["TCP connections that have ended"]);
}

#[test]
fn pipes_from_outside() {
    refused_for_input(
        Stdio::piped(),
        &[
            "descriptor 0 (pipe:[",
            "the write end of the pipe is held by a process outside the tree",
        ],
    );
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let expected = ["descriptor 1 (pipe:[", "the read end of the pipe is held"];
    refused(&mut Victim::start_with(&mut command), &expected);
}

#[test]
fn terminals() {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: two places for descriptors; the other pointers may be null.
    let made = unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
    assert_eq!(made, 0);
    // SAFETY: openpty has just made both for us.
    let [master, slave] = [master, slave].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let again = || slave.try_clone().expect("a descriptor").into();
    refused_for_input(again(), &["descriptor 0 (/dev/pts/", "held by a process outside the tree"]);
    // With the master in the tree too, what waits is saved, but not where it could not be put back.
    let mut master = File::from(master);
    master.write_all(b"a line\n").expect("write");
    // SAFETY: a descriptor that is open, and numbers.
    let flow = |how| assert_eq!(unsafe { libc::tcflow(slave.as_raw_fd(), how) }, 0);
    // The echo is there.
    wait_until("the echo", || inspect::poll_now(&master, libc::POLLIN).expect("poll") != 0);
    flow(libc::TCOOFF);
    let mut command = Command::new("sleep");
    command.arg("600").stdin(again()).stdout(master).stderr(Stdio::null());
    let expected =
        ["descriptor ", "bytes wait in the terminal to be read, and its output is stopped"];
    let mut victim = Victim::start_with(&mut command);
    refused(&mut victim, &expected);
    // It is given time to pass: whoever holds the terminal may do that.
    let pid = victim.pid();
    let slave = slave.try_clone().expect("a descriptor");
    let reader = std::thread::spawn(move || {
        wait_until("a look", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
            !status.contains("TracerPid:\t0\n")
        });
        // SAFETY: as above.
        assert_eq!(unsafe { libc::tcflow(slave.as_raw_fd(), libc::TCOON) }, 0);
    });
    dump_common::checkpoint(pid, false).expect("checkpoint");
    reader.join().expect("join");
    assert!(victim.runs());
}

#[test]
fn files_that_cannot_be_found_again() {
    refused_for_input(
        File::open("/proc/self/status").expect("file").into(),
        &["descriptor 0 (/proc/", "it is a file of /proc"],
    );
    let folder = tempfile::tempdir().expect("folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    std::fs::create_dir(&other).expect("folder");
    let open = File::create(&one).expect("file");
    std::fs::hard_link(&one, other.join("name")).expect("link");
    std::fs::remove_file(&one).expect("unlink");
    refused_for_input(open.into(), &["descriptor 0 (", "its name was taken away"]);
    let gone = File::open(&other).expect("folder");
    std::fs::remove_dir_all(&other).expect("remove");
    refused_for_input(gone.into(), &["descriptor 0 (", "it has been deleted"]);
}

#[test]
fn huge_pages() {
    // SAFETY: a name, and flags.
    let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), libc::MFD_HUGETLB) };
    if fd < 0 {
        let why = std::io::Error::last_os_error();
        eprintln!("skipped: no huge pages here: {why}");
        return;
    }
    // SAFETY: the kernel has just given it to us.
    let huge = unsafe { OwnedFd::from_raw_fd(fd) };
    refused_for_input(huge.into(), &["descriptor 0 (/memfd:huge", "huge pages of hugetlbfs"]);
}

#[test]
fn named_pipes_that_others_hold() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    let both = File::options().read(true).write(true).open(&path).expect("open");
    let reader = File::open(&path).expect("open");
    let outside = "is held by a process outside the tree";
    refused_for_input(reader.into(), &["descriptor 0 (/", "the write end of the pipe", outside]);
    let mut command = Command::new("sleep");
    let writer = File::options().write(true).open(&path).expect("open");
    command.arg("600").stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let expected = ["descriptor 1 (/", "the read end of the pipe", outside];
    refused(&mut Victim::start_with(&mut command), &expected);
    drop(both);
}

#[test]
fn leases() {
    let file = tempfile::NamedTempFile::new().expect("file");
    let path = file.into_temp_path();
    let open = File::open(&path).expect("open");
    // SAFETY: three numbers.
    if unsafe { libc::fcntl(open.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } != 0 {
        eprintln!("skipped: no leases here: {}", std::io::Error::last_os_error());
        return;
    }
    refused_for_input(open.into(), &["descriptor 0 (", "a lease is held (F_SETLEASE)"]);
}

#[test]
fn signals_about_files() {
    let folder = tempfile::tempdir().expect("folder");
    let open = File::open(folder.path()).expect("open");
    /// Of linux/fcntl.h.
    const DN_CREATE: i32 = 4;
    let mut command = Command::new("sleep");
    command.arg("600").stdin(open).stdout(Stdio::null()).stderr(Stdio::null());
    let watch = || {
        // SAFETY: three numbers.
        match unsafe { libc::fcntl(0, libc::F_NOTIFY, DN_CREATE) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: only a system call is made after the fork.
    unsafe { command.pre_exec(watch) };
    let reason = "signals tell of changes in it (F_NOTIFY)";
    refused(&mut Victim::start_with(&mut command), &["descriptor 0 (", reason]);

    let (read, write) = std::io::pipe().expect("pipe");
    let own = std::process::id() as i32;
    // SAFETY: three numbers.
    let set = unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETOWN, own) };
    assert_eq!(set, 0);
    let mut command = Command::new("sleep");
    command.arg("600").stdin(read).stdout(write).stderr(Stdio::null());
    let mut victim = Victim::start_with(&mut command);
    drop(command);
    let reason = format!("it sends signals to process {own}, which is no task of the tree");
    refused(&mut victim, &["descriptor 0 (pipe:[", &reason]);
}

#[test]
fn restrictions() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let confine = || {
        /// BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
        const ALLOW: libc::sock_filter =
            libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
        let mut filter = [ALLOW];
        let program = libc::sock_fprog { len: 1, filter: filter.as_mut_ptr() };
        // SAFETY: two system calls; the kernel copies the filter.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: only system calls are made after the fork.
    unsafe { command.pre_exec(confine) };
    refused(&mut Victim::start(&mut command), &["the task: it is restricted by seccomp"]);
}

#[test]
fn system_calls_that_become_signals() {
    if Command::new("perl").arg("-v").output().is_err() {
        eprintln!("skipped: perl is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    // PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON: none of those made from this range, which is everything.
    let script = "my $done = syscall(157, 59, 1, 4096, 1 << 47, 0);
        open(F, '>', $ARGV[0]) and print F $done and close F; sleep 600";
    let mut command = Command::new("perl");
    command.args(["-e", script]).arg(&told);
    let mut victim = Victim::start(&mut command);
    let deadline = Instant::now() + Duration::from_secs(20);
    let done = loop {
        match std::fs::read_to_string(&told) {
            Ok(done) if !done.is_empty() => break done,
            _ => assert!(Instant::now() < deadline, "perl does not get there"),
        }
        std::thread::yield_now();
    };
    let (major, minor) = kernel();
    if done != "0" || (major, minor) < (6, 4) {
        eprintln!("skipped: this kernel has no such thing, or does not tell: {done}");
        return;
    }
    refused(
        &mut victim,
        &["the task: its system calls become signals (PR_SET_SYSCALL_USER_DISPATCH)"],
    );
}

fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

#[test]
fn other_namespaces() {
    let mut shell = Command::new("sh");
    let mut victim = Victim::start(shell.args(["-c", "unshare --user sleep 600; exit 0"]));
    let deadline = Instant::now() + Duration::from_secs(20);
    let asleep = |pid: &i32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm == "sleep\n")
    };
    while !dump_common::descendants(victim.pid()).iter().any(asleep) {
        if !victim.runs() {
            eprintln!("skipped: no new user namespace can be made here");
            return;
        }
        assert!(Instant::now() < deadline, "no child");
        std::thread::yield_now();
    }
    let text = refusal(victim.pid()).to_string();
    assert!(text.starts_with("task 1 (pid "), "{text}");
    assert!(text.ends_with("user namespace: it is not that of the root task"), "{text}");
    assert!(victim.runs());
}

#[test]
fn namespaces_that_no_fork_gives() {
    // Both children stay where they are when their parent goes.
    let mut shell = Command::new("sh");
    let script = "sleep 600 & sleep 600 & exec unshare --uts sleep 600";
    let mut victim = Victim::start(shell.args(["-c", script]));
    let space = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/uts")).ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while space(victim.pid()) == space(std::process::id() as i32) {
        if !victim.runs() {
            eprintln!("skipped: no new uts namespace can be made here");
            return;
        }
        assert!(Instant::now() < deadline, "no new namespace");
        std::thread::yield_now();
    }
    let text = refusal(victim.pid()).to_string();
    assert!(text.starts_with("task 2 (pid "), "{text}");
    let reason = "uts namespace: it is neither that of the task that forks it nor new with it";
    assert!(text.ends_with(reason), "{text}");
    assert!(victim.runs());
}

#[test]
fn traced_by_another() {
    let mut command = Command::new("sleep");
    let victim = Victim::start(command.arg("600"));
    victim.wait_asleep();
    let tracee = Tracee::seize(victim.pid(), ptrace::Options::NONE).expect("seize");
    let pid = victim.pid();
    let error = std::thread::spawn(move || refusal(pid)).join().expect("thread");
    let expected = format!("pid {pid}: cannot be stopped: it is traced by pid ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(error.errno(), libc::EBUSY);
    drop(tracee);
}

#[test]
fn pids_that_name_no_tree() {
    let error = refusal(std::process::id() as i32);
    assert!(error.to_string().contains("the process that makes the checkpoint"), "{error}");
    assert_eq!(error.errno(), libc::EINVAL);
    for pid in [0, -1, i32::MAX] {
        assert_eq!(refusal(pid).errno(), libc::ESRCH);
    }
    let mut dead = Command::new("true").spawn().expect("starts");
    let stat = format!("/proc/{}/stat", dead.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&stat).expect("stat").contains(") Z ") {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    let error = refusal(dead.id() as i32);
    assert!(error.to_string().contains("it has ended"), "{error}");
    dead.wait().expect("wait");
}
