//! Every kind of state that an image keeps, of a process that has a bit of each.

mod dump_common;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use dump_common::{Image, Victim, cc, checkpoint};
use usercr::image::{FileKind, Live, Mm, OpenFile, TaskState, Vma, VmaKind};

const PAGE: u64 = 4096;

/// An image of the victim, and what the victim said.
struct Seen {
    victim: Victim,
    told: HashMap<String, String>,
    image: Image,
}

impl Seen {
    fn new() -> Seen {
        let victim = Victim::program("state");
        victim.wait_asleep();
        let image = checkpoint(victim.pid(), false).expect("checkpoint");
        Seen { told: victim.told(), victim, image }
    }

    fn hex(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.told[name], 16).expect("a number")
    }

    fn live(&self, index: usize) -> &Live {
        match &self.image.body.tasks[index] {
            TaskState::Live(live) => live,
            TaskState::Zombie(zombie) => panic!("task {index} is {zombie:?}"),
        }
    }

    fn file(&self, name: &str) -> (usize, &OpenFile, bool) {
        let fd = self.told[name].parse().expect("a descriptor");
        self.descriptor(fd)
    }

    fn descriptor(&self, fd: i32) -> (usize, &OpenFile, bool) {
        let objects = &self.image.body.objects;
        let table = &objects.file_tables[self.live(0).files];
        let found = table.descriptors.iter().find(|d| d.fd == fd).expect("the descriptor");
        (found.file, &objects.files[found.file], found.cloexec)
    }

    fn mm(&self) -> &Mm {
        &self.image.body.objects.mms[self.live(0).mm]
    }

    fn vma(&self, address: u64) -> &Vma {
        let vmas = &self.mm().vmas;
        vmas.iter().find(|v| v.start <= address && address < v.end).expect("a mapping")
    }

    /// A page of an address space, as the image has it.
    fn page<'a>(&'a self, runs: &[usercr::image::PageRun], address: u64) -> Option<&'a [u8]> {
        let run =
            runs.iter().find(|r| r.address <= address && address < r.address + r.count * PAGE)?;
        let at = (run.offset + address - run.address) as usize;
        self.image.bytes.get(at..at + PAGE as usize)
    }
}

#[test]
fn tasks_threads_and_zombies_in_their_order() {
    let mut seen = Seen::new();
    let (head, body) = (&seen.image.head, &seen.image.body);
    // The root, its child in a session of its own with a zombie below, the root's second thread.
    assert_eq!(head.tasks.len(), 4);
    let number = |tag: i32| head.pids.object((tag - 1) as usize).expect("a tag")[0];
    let rows: Vec<[i32; 5]> = head
        .tasks
        .iter()
        .map(|t| {
            [t.pid, t.ppid, t.tgid, t.pgid, t.sid].map(|tag| if tag == 0 { 0 } else { number(tag) })
        })
        .collect();
    let (root, child) = (seen.victim.pid(), seen.hex("child") as i32);
    let zombie = rows[2][0];
    assert_eq!(rows[0], [root, 0, root, root, root]);
    assert_eq!(rows[1], [child, root, child, child, child]);
    assert_eq!(rows[2], [zombie, child, zombie, child, child]);
    assert_eq!(rows[3][1..], [0, root, root, root]);
    let TaskState::Zombie(dead) = &body.tasks[2] else { panic!("not a zombie") };
    assert_eq!((dead.exit_code, dead.exit_signal), (7 << 8, libc::SIGCHLD));
    let (leader, thread) = (seen.live(0), seen.live(3));
    assert_eq!(&leader.comm, b"a victim) S 1\0\0\0");
    assert_eq!(&thread.comm, b"idler\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!((leader.exit_signal, thread.exit_signal), (libc::SIGCHLD, -1));
    let shared = |l: &Live| (l.mm, l.files, l.fs, l.sighand, l.signal);
    assert_eq!(shared(leader), shared(thread));
    assert_ne!(shared(leader), shared(seen.live(1)));
    assert_ne!(leader.cpu.fs_base, thread.cpu.fs_base);
    assert_eq!(thread.altstack, (seen.hex("thread_stack"), 32768));
    assert!(thread.clear_child_tid != 0 && thread.rseq != leader.rseq);
    assert!(seen.image.head.extra.root_subreaper);
    assert!(seen.victim.runs());
}

#[test]
fn signals() {
    let seen = Seen::new();
    let live = seen.live(0);
    let actions = &seen.image.body.objects.sighands[live.sighand].actions;
    let usr1 = actions[libc::SIGUSR1 as usize - 1];
    assert_eq!(usr1.handler, seen.hex("usr1"));
    assert_eq!(usr1.flags & 0x1000_0004, 0x1000_0004, "SA_SIGINFO | SA_RESTART");
    assert_eq!(usr1.mask, 1 << (libc::SIGUSR2 - 1));
    assert_ne!(usr1.restorer, 0);
    assert_eq!(actions[libc::SIGPIPE as usize - 1].handler, 1);
    let chld = actions[libc::SIGCHLD as usize - 1];
    assert_eq!((chld.handler, chld.flags & 2), (0, 2), "SA_NOCLDWAIT");
    assert_eq!(actions[libc::SIGHUP as usize - 1], Default::default());
    let bit = |signal: i32| 1u64 << (signal - 1);
    assert_eq!(live.blocked, bit(libc::SIGUSR2) | bit(libc::SIGRTMIN()));
    assert_eq!(live.pending.set, bit(libc::SIGUSR2));
    let signal = &seen.image.body.objects.signals[live.signal];
    assert_eq!(signal.pending.set, bit(libc::SIGRTMIN()));
    let word = |e: &[u8; 88], at: usize| i32::from_ne_bytes(e[at..at + 4].try_into().expect("4"));
    let entry = &signal.pending.queue[0];
    assert_eq!((word(entry, 0), word(entry, 44)), (libc::SIGRTMIN(), 4711));
    assert_eq!(word(entry, 12), seen.victim.pid());
    assert_eq!(live.altstack, (seen.hex("altstack"), 65536));
    assert_eq!(live.pdeath_signal, libc::SIGWINCH);
    let (left, interval) = signal.itimers[0];
    assert_eq!(interval, 7_500_000_000);
    assert!(left > 900_000_000_000 && left <= 1_000_000_000_000, "{left}");
    assert_eq!(signal.itimers[1..], [(0, 0); 2]);
    assert!(signal.rlimits[libc::RLIMIT_NOFILE as usize].0 > 0);
}

#[test]
fn descriptors_and_pipes() {
    let seen = Seen::new();
    let objects = &seen.image.body.objects;
    let directory = seen.victim.directory().as_os_str().as_bytes().to_vec();
    let data = [directory.as_slice(), b"/data"].concat();
    let (index, file, cloexec) = seen.file("file");
    assert_eq!(file.kind, FileKind::Named { path: data.clone() });
    assert_eq!(file.flags & 0o3003, (libc::O_RDWR | libc::O_APPEND) as u32 & 0o3003);
    assert_eq!((file.pos, file.mode & 3, cloexec), (4, 3, false));
    assert_eq!(seen.descriptor(20).0, index, "a duplicate is the same description");
    let (other, again, cloexec) = seen.file("again");
    assert_eq!((&again.kind, again.pos, cloexec), (&FileKind::Named { path: data }, 0, true));
    assert_ne!(other, index);
    let (_, dir, _) = seen.file("dir");
    assert_eq!(dir.kind, FileKind::Named { path: directory.clone() });
    let (_, null, _) = seen.descriptor(0);
    assert_eq!(null.kind, FileKind::Named { path: b"/dev/null".to_vec() });
    let (_, read, _) = seen.file("read");
    let (_, write, _) = seen.file("write");
    let (FileKind::Pipe { pipe }, FileKind::Pipe { pipe: same }) = (&read.kind, &write.kind) else {
        panic!("{read:?} {write:?}")
    };
    assert_eq!((pipe, read.mode, write.mode), (same, 1, 2));
    assert_eq!(objects.pipes[*pipe].data, b"in the pipe");
    assert_ne!(read.flags & libc::O_NONBLOCK as u32, 0);
    // The child has all of them from fork.
    let tables = [0, 1].map(|task| &objects.file_tables[seen.live(task).files].descriptors);
    assert_eq!(tables[0], tables[1]);
    let fs = &objects.fss[seen.live(0).fs];
    assert_eq!((fs.umask, &fs.cwd, fs.root.as_slice()), (0o027, &directory, &b"/"[..]));
}

#[test]
fn memory() {
    let seen = Seen::new();
    let objects = &seen.image.body.objects;
    let anon = seen.hex("anon");
    let vma = seen.vma(anon);
    assert_eq!(
        (vma.kind, vma.start, vma.end, vma.flags & 7),
        (VmaKind::Anon, anon, anon + 8 * PAGE, 0)
    );
    let pages: Vec<u64> =
        vma.pages.iter().flat_map(|r| (0..r.count).map(|i| r.address + i * PAGE)).collect();
    assert_eq!(pages, [anon + 2 * PAGE, anon + 3 * PAGE]);
    assert_eq!(seen.page(&vma.pages, anon + 3 * PAGE).expect("page"), [b'A'; PAGE as usize]);

    let cow = seen.hex("cow");
    let vma = seen.vma(cow);
    let VmaKind::File(file) = vma.kind else { panic!("{vma:?}") };
    assert!(
        matches!(&objects.files[file].kind, FileKind::Named { path } if path.ends_with(b"/data"))
    );
    assert_eq!((vma.pages.len(), vma.pages[0].address, vma.pages[0].count), (1, cow + PAGE, 1));
    assert_eq!(seen.page(&vma.pages, cow + PAGE).expect("page")[0], b'C');

    let vma = seen.vma(seen.hex("shared_file"));
    assert!(matches!(vma.kind, VmaKind::ShmFile(_)) && vma.pages.is_empty(), "{vma:?}");
    assert_eq!(vma.file_size, 2 * PAGE);

    // The first three pages are unmapped, the object still has them.
    let vma = seen.vma(seen.hex("shared") + 5 * PAGE);
    let VmaKind::ShmAnon(shm) = vma.kind else { panic!("{vma:?}") };
    assert_eq!((vma.start, vma.pgoff), (seen.hex("shared") + 3 * PAGE, 3));
    let shm = &objects.shms[shm];
    assert_eq!((shm.size, objects.shms.len()), (16 * PAGE, 1));
    let page = seen.page(&shm.pages, 5 * PAGE).expect("page");
    assert_eq!((page[0], page[1]), (b'T', b'S'));

    let mm = seen.mm();
    assert_eq!(mm.fields[5], seen.hex("brk"));
    assert_ne!(seen.vma(mm.fields[6]).flags & 0x100, 0, "the stack grows down");
    assert_eq!(seen.vma(mm.vdso).kind, VmaKind::Vdso);
    assert!(mm.auxv.len() > 20 && mm.auxv.ends_with(&[0, 0]));
    let program = &objects.files[mm.exe.expect("a program")];
    assert!(matches!(&program.kind, FileKind::Named { path } if path.ends_with(b"/victim")));
}

#[test]
fn ended_when_asked() {
    let Seen { victim, told, .. } = Seen::new();
    let child = i32::from_str_radix(&told["child"], 16).expect("a pid");
    let image = checkpoint(victim.pid(), true).expect("checkpoint");
    assert_eq!(image.body.tasks.len(), 4);
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat(victim.pid()).contains(") Z "), "the root is left to its parent");
    let gone = |s: String| s.is_empty() || s.contains(") Z ");
    assert!(gone(stat(child)), "{}", stat(child));
}

#[test]
fn nobody_is_saved_inside_a_restartable_sequence() {
    let program = cc::program("restartable", "tests/state/restartable.c");
    let folder = tempfile::tempdir().expect("a folder");
    let victim = Victim::start(Command::new(program).arg(folder.path()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !folder.path().join("ready").exists() {
        assert!(Instant::now() < deadline, "it does not get ready");
        std::thread::yield_now();
    }
    let Ok(places) = std::fs::read_to_string(folder.path().join("sequence")) else {
        eprintln!("skipped: the C library does without restartable sequences");
        return;
    };
    let mut places = places.split_whitespace().map(|n| n.parse::<u64>().expect("an address"));
    let mut place = || places.next().expect("an address");
    let (start, end, abort) = (place(), place(), place());
    let mut aborted = 0;
    // It is nowhere else for long.
    for _ in 0..10 {
        let image = checkpoint(victim.pid(), false).expect("checkpoint");
        for task in &image.body.tasks {
            let TaskState::Live(live) = task else { panic!("{task:?}") };
            assert!(!(start..end).contains(&live.cpu.ip), "{:#x}", live.cpu.ip);
            aborted += u32::from(live.cpu.ip == abort);
        }
    }
    assert!(aborted > 0);
}
