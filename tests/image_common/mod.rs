//! Images made up from nothing, for the tests of the image module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use usercr::error::{Error, ImageError};
use usercr::image::*;

/// Numbers that look random and are the same for the same seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word() as u8).collect()
    }
}

/// The head of an image with these tasks, each with a pid object of its own.
pub fn head(tasks: Vec<TaskIds>) -> ImageHead {
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    for index in 0..tasks.len() {
        pids.push(&[100 + index as i32]);
    }
    ImageHead {
        header: Header {
            arch_id: 2,
            kernel: [6, 18, 0],
            rev: 6,
            constants: [16, 44, 64, 65, 65, 65, 65, 65, 65, 16, 4096, 19],
            time: 1_700_000_000,
            uflags: 1,
            release: b"6.18.0".to_vec(),
            version: b"#1 SMP".to_vec(),
            machine: b"x86_64".to_vec(),
        },
        arch: Arch { has_fxsr: true, has_xsave: true, xstate_size: 832 },
        lsm_name: b"lsm_none".to_vec(),
        lsm_info: b"dummy".to_vec(),
        pids,
        tasks,
        extra: HeadExtra::default(),
    }
}

pub fn leader(tag: i32) -> TaskIds {
    TaskIds { pid: tag, ppid: if tag == 1 { 0 } else { 1 }, tgid: tag, pgid: 1, sid: 1, depth: 0 }
}

pub fn cpu() -> Cpu {
    Cpu { flags: 0x202, orig_ax: u64::MAX, ip: 0x40_1000, sp: 0x7ffc_0000_0000, ..Cpu::default() }
}

/// One task, one open file, one page: the worked example of the format document.
pub fn smallest() -> (ImageHead, Body) {
    let live = Live {
        comm: *b"example\0\0\0\0\0\0\0\0\0",
        exit_signal: 17,
        pdeath_signal: 0,
        set_child_tid: 0,
        clear_child_tid: 0,
        altstack: (0, 0),
        robust_list: 0,
        restart_block: RestartBlock { function: 1, ..RestartBlock::default() },
        cpu: cpu(),
        fpu: None,
        cred: 0,
        namespaces: Namespaces::default(),
        files: 0,
        mm: 0,
        fs: 0,
        sighand: 0,
        signal: 0,
        pending: Pending::default(),
        blocked: 0,
        rseq: None,
        settings: None,
        timers: Vec::new(),
        job_stop: None,
    };
    let page = Vma {
        start: 0x10_0000,
        end: 0x10_1000,
        flags: 0x10_0073,
        kind: VmaKind::Anon,
        pgoff: 0x100,
        file_size: 0,
        pages: vec![PageRun { address: 0x10_0000, count: 1, offset: 0 }],
        guards: Vec::new(),
    };
    let objects = Objects {
        files: vec![OpenFile {
            kind: FileKind::Named { path: b"/etc/passwd".to_vec() },
            mode: 0xd,
            flags: 0x8000,
            pos: 5,
            cred: 0,
            was: None,
            locks: Vec::new(),
            owner: None,
        }],
        file_tables: vec![FileTable {
            descriptors: vec![Descriptor { fd: 0, file: 0, cloexec: false }],
            locks: Vec::new(),
        }],
        mms: vec![Mm { auxv: vec![6, 4096, 0, 0], vmas: vec![page], ..Mm::default() }],
        fss: vec![Fs { umask: 0o22, cwd: b"/".to_vec(), root: b"/".to_vec() }],
        sighands: vec![SigHand { actions: [SigAction::default(); 64] }],
        signals: vec![Signal::default()],
        creds: vec![Cred::default()],
        ..Objects::default()
    };
    let body = Body { tasks: vec![TaskState::Live(Box::new(live))], objects };
    (head(vec![leader(1)]), body)
}

/// Makes a body with everything in it that there is, in the order that a reader meets it.
pub struct Maker {
    random: Random,
    out: Objects,
    big: bool,
    /// How many tasks there are.
    tasks: usize,
}

/// A tree of `count` tasks. `big`: with runs of more pages than a page array takes.
pub fn tree(seed: u64, count: usize, big: bool) -> (ImageHead, Body) {
    let (random, out) = (Random::new(seed), Objects::default());
    let mut maker = Maker { random, out, big, tasks: count };
    let (mut ids, mut tasks, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..count {
        let tag = index as i32 + 1;
        let group = match groups.len() {
            n if n > 0 && maker.random.one_in(3) => {
                Some(groups[maker.random.below(n as u64) as usize])
            }
            _ => None,
        };
        if group.is_none() && index > 0 && maker.random.one_in(4) {
            ids.push(leader(tag));
            tasks.push(TaskState::Zombie(maker.zombie()));
            continue;
        }
        let live = maker.live(group.map(|(_, shared)| shared));
        let tgid = group.map_or(tag, |(tgid, _)| tgid);
        ids.push(TaskIds { tgid, ..leader(tag) });
        if group.is_none() {
            groups.push((tag, (live.mm, live.sighand, live.signal)));
        }
        tasks.push(TaskState::Live(Box::new(live)));
    }
    let mut head = head(ids);
    head.extra.root_subreaper = maker.random.one_in(2);
    if maker.random.one_in(2) {
        head.extra.vdso = Some(Vdso { vdso_size: 8192, vvar_size: 16384, checksum: seed });
    }
    (head, Body { tasks, objects: maker.out })
}

/// A tree whose image has more than 10 MiB, and that image.
pub fn large() -> (ImageHead, Body, Vec<u8>) {
    let trees = (77..177).map(|seed| tree(seed, 6, true));
    let images = trees.map(|(head, body)| {
        let bytes = written(&head, &body);
        (head, body, bytes)
    });
    let large = |(_, _, bytes): &(ImageHead, Body, Vec<u8>)| bytes.len() > 10 << 20;
    images.into_iter().find(large).expect("a large tree")
}

impl Maker {
    /// An object that is there, or none: then a new one is to be made.
    fn old(&mut self, there: usize) -> Option<usize> {
        let pick = self.random.below(there as u64 * 2 + 1) as usize;
        (pick < there).then_some(pick)
    }

    fn comm(&mut self) -> [u8; 16] {
        let mut comm = [0; 16];
        comm[..8].copy_from_slice(&self.random.word().to_le_bytes());
        comm
    }

    fn zombie(&mut self) -> Zombie {
        let exit_code = match self.random.below(3) {
            0 => self.random.below(256) as u32 * 256,
            1 => 1 + self.random.below(64) as u32,
            _ => 0x80 + 11,
        };
        Zombie {
            comm: self.comm(),
            exit_code,
            exit_signal: self.random.below(66) as i32 - 1,
            pdeath_signal: self.random.below(65) as i32,
        }
    }

    fn live(&mut self, group: Option<(usize, usize, usize)>) -> Live {
        let comm = self.comm();
        let fpu = self.random.one_in(2).then(|| self.random.bytes(832));
        let cred = self.cred();
        let namespaces = self.namespaces();
        let files = self.file_table();
        let mm = group.map_or_else(|| self.mm(), |g| g.0);
        let fs = self.fs();
        let sighand = group.map_or_else(|| self.sighand(), |g| g.1);
        let signal = group.map_or_else(|| self.signal(), |g| g.2);
        let mut cpu = cpu();
        (cpu.ax, cpu.fs_base) = (self.random.word(), self.random.below(1 << 46));
        Live {
            comm,
            exit_signal: if group.is_some() { -1 } else { self.random.below(65) as i32 },
            pdeath_signal: self.random.below(65) as i32,
            set_child_tid: self.random.word(),
            clear_child_tid: self.random.word(),
            altstack: (self.random.word(), self.random.word() as u32),
            robust_list: self.random.word(),
            restart_block: RestartBlock {
                function: [1, 2, 3, 6, 7][self.random.below(5) as usize],
                args: [self.random.word(), 1, 2, 3],
                left: self.random.word(),
            },
            cpu,
            fpu,
            cred,
            namespaces,
            files,
            mm,
            fs,
            sighand,
            signal,
            pending: self.pending(),
            blocked: self.random.word() & !(1 << 8 | 1 << 18),
            rseq: self.random.one_in(2).then(|| Rseq {
                address: self.random.word(),
                length: 32,
                signature: 0x5305_3053,
            }),
            settings: self.random.one_in(2).then(|| self.settings()),
            timers: if group.is_none() { self.timers() } else { Vec::new() },
            job_stop: (group.is_none() && self.random.one_in(3)).then(|| JobStop {
                signal: JobStop::SIGNALS[self.random.below(4) as usize],
                untold: self.random.one_in(2),
            }),
        }
    }

    fn timers(&mut self) -> Vec<PosixTimer> {
        let timer = |id| PosixTimer {
            id,
            clock: self.random.below(12) as i32,
            signal: self.random.below(65) as i32,
            notify: self.random.below(3) as i32,
            value: self.random.word(),
            thread: None,
            left: self.random.word(),
            interval: self.random.word(),
        };
        [0, 3, 77].map(timer).to_vec()
    }

    fn settings(&mut self) -> Settings {
        let flags = self.random.word();
        let affinity = (0..self.random.below(3)).map(|_| self.random.word()).collect();
        Settings {
            sched: [(); 6].map(|()| self.random.word()),
            affinity,
            io_priority: self.random.word() as u32,
            timer_slack: self.random.word(),
            personality: self.random.word() as u32,
            oom_score_adj: self.random.below(2001) as i32 - 1000,
            no_new_privs: flags & 1 != 0,
            subreaper: flags & 2 != 0,
            dumpable: flags & 4 != 0,
            thp_disabled: flags & 8 != 0,
            ambient: self.random.word(),
        }
    }

    fn pending(&mut self) -> Pending {
        let queue = (0..self.random.below(3)).map(|_| {
            let mut entry = [7; 88];
            // Padding.
            entry[84..].fill(0);
            entry[..4].copy_from_slice(&(1 + self.random.below(64) as u32).to_le_bytes());
            entry
        });
        Pending { queue: queue.collect(), set: self.random.word() }
    }

    fn namespaces(&mut self) -> Namespaces {
        let mut namespaces = Namespaces::default();
        if self.random.one_in(2) {
            let old = self.old(self.out.uts.len());
            let node = self.path();
            namespaces.uts = Some(old.unwrap_or_else(|| {
                self.out.uts.push(Uts { node, domain: Vec::new() });
                self.out.uts.len() - 1
            }));
        }
        if self.random.one_in(2) {
            let old = self.old(self.out.ipcs.len());
            let shm = [self.random.word(), 1];
            namespaces.ipc = Some(old.unwrap_or_else(|| {
                self.out.ipcs.push(Ipc { shm, ..Ipc::default() });
                self.out.ipcs.len() - 1
            }));
        }
        namespaces
    }

    fn cred(&mut self) -> usize {
        if let Some(old) = self.old(self.out.creds.len()) {
            return old;
        }
        let groups = (0..self.random.below(4) as u32).map(|i| i * 7 + 3).collect();
        let uid = self.random.below(3) as u32;
        self.out.creds.push(Cred {
            uids: [uid, 1, 2, 3],
            gids: [4, 5, 6, 7],
            groups,
            caps: [self.random.word(), self.random.word(), self.random.word(), 1 << 40],
            securebits: 3,
        });
        self.out.creds.len() - 1
    }

    fn path(&mut self) -> Vec<u8> {
        format!("/dir/{}", self.random.below(1 << 20)).into_bytes()
    }

    /// An open file; one that can be mapped where it is `mapped`.
    fn file(&mut self, mapped: bool) -> usize {
        let can = |kind: &FileKind| {
            matches!(kind, FileKind::Named { .. } | FileKind::Unnamed { .. }) || !mapped
        };
        let old = self.old(self.out.files.len());
        if let Some(old) = old.filter(|&i| can(&self.out.files[i].kind)) {
            return old;
        }
        let cred = self.cred();
        let mut was = None;
        let kind = match self.random.below(if mapped { 3 } else { 8 }) {
            0 | 1 => {
                was = self.random.one_in(2).then(|| Was {
                    mode: self.random.word() as u32,
                    rdev: self.random.word(),
                    size: self.random.below(1 << 63),
                    mtime: self.random.word().cast_signed(),
                });
                FileKind::Named { path: self.path() }
            }
            2 => FileKind::Unnamed { inode: self.inode() },
            3 => self.nameless(),
            4 => FileKind::Pipe { pipe: self.pipe() },
            5 => FileKind::Socket { socket: self.socket() },
            6 => {
                let pty = self.pty();
                let inside = self.out.ptys[pty].outside.is_none();
                FileKind::Tty { pty, master: inside && self.random.one_in(2) }
            }
            _ => FileKind::Fifo { pipe: self.pipe(), path: self.path() },
        };
        let mut locks = Vec::new();
        while self.random.one_in(4) {
            let kind = [LockKind::Whole, LockKind::Description][self.random.below(2) as usize];
            locks.push(self.lock(kind));
        }
        let owner = self.random.one_in(4).then(|| FileOwner {
            who: Owner::new(
                self.random.below(4) as i32,
                self.random.below(self.tasks as u64) as usize,
            ),
            signal: self.random.below(65) as i32,
        });
        self.out.files.push(OpenFile {
            kind,
            mode: self.random.below(32) as u32,
            flags: 0x8000 | self.random.below(4) as u32,
            pos: self.random.below(1 << 63),
            cred,
            was,
            locks,
            owner,
        });
        self.out.files.len() - 1
    }

    fn pipe(&mut self) -> usize {
        if let Some(old) = self.old(self.out.pipes.len()) {
            return old;
        }
        let (mut len, mut packets) = (self.random.below(5000) as usize, Vec::new());
        if self.random.one_in(2) {
            packets =
                (0..self.random.below(4)).map(|_| 1 + self.random.below(4096) as u32).collect();
            len = packets.iter().sum::<u32>() as usize;
        }
        let data = self.random.bytes(len);
        let (size, waiting) = (self.random.below(3) as u32 * 4096, self.random.one_in(2));
        self.out.pipes.push(Pipe { data, size, packets, waiting });
        self.out.pipes.len() - 1
    }

    fn inode(&mut self) -> usize {
        if let Some(old) = self.old(self.out.inodes.len()) {
            return old;
        }
        let origin = match self.random.below(2) {
            0 => Origin::Deleted { path: self.path() },
            _ => Origin::Memfd { name: self.path(), seals: self.random.below(64) as u32 },
        };
        let size = self.random.below(60_000);
        let inode = Inode {
            origin,
            mode: self.random.below(0o10000) as u32,
            uid: self.random.word() as u32,
            gid: self.random.word() as u32,
            size,
            times: [self.random.word().cast_signed(), -1],
            pages: self.runs(0, size.next_multiple_of(PAGE)),
        };
        self.out.inodes.push(inode);
        self.out.inodes.len() - 1
    }

    fn nameless(&mut self) -> FileKind {
        match self.random.below(5) {
            // See `epoll_items`.
            3 => FileKind::Epoll { items: Vec::new() },
            0 => FileKind::EventFd {
                count: self.random.below(u64::MAX),
                semaphore: self.random.one_in(2),
            },
            4 => FileKind::PidFd {
                task: self.random.below(self.tasks as u64) as usize,
                thread: true,
            },
            1 => FileKind::SignalFd { mask: self.random.word() },
            _ => FileKind::TimerFd(TimerFd {
                clock: TimerFd::CLOCKS[self.random.below(5) as usize] as u32,
                flags: self.random.below(4) as u32,
                value: self.random.word(),
                interval: self.random.word(),
                ticks: self.random.word(),
            }),
        }
    }

    /// A socket that stands alone, or the second of a pair: the first is made in front of it.
    fn socket(&mut self) -> usize {
        if let Some(old) = self.old(self.out.sockets.len()) {
            return old;
        }
        let kind = [SocketKind::Stream, SocketKind::Datagram, SocketKind::SeqPacket]
            [self.random.below(3) as usize];
        let next = self.out.sockets.len();
        if self.random.one_in(3) {
            let v6 = self.random.one_in(2);
            let tcp = self.random.one_in(2);
            let kind = if tcp { SocketKind::Stream } else { SocketKind::Datagram };
            let local = Some(self.address(v6));
            let remote = (!tcp && self.random.one_in(2)).then(|| self.address(v6));
            let state = match remote {
                Some(_) => SocketState::Connected,
                None if tcp => SocketState::Listening { backlog: self.random.word() as u32 },
                None => SocketState::Unconnected,
            };
            let family = SocketFamily::Inet(InetSocket { v6, local, remote });
            let socket = self.bare_socket(kind, state, family);
            self.out.sockets.push(socket);
            return next;
        }
        if self.random.one_in(3) {
            let state = match kind {
                SocketKind::Datagram => SocketState::Unconnected,
                _ => SocketState::Listening { backlog: self.random.word() as u32 },
            };
            let unix = UnixSocket { name: self.unix_name(), ..UnixSocket::default() };
            let mut socket = self.bare_socket(kind, state, SocketFamily::Unix(unix));
            if kind == SocketKind::Datagram {
                socket.queue = self.messages(None);
            }
            self.out.sockets.push(socket);
            return next;
        }
        let closed = self.random.one_in(3);
        for (peer, from) in [(next + 1, next), (next, next + 1)] {
            let place = self.random.below(4) as u32;
            let unix = UnixSocket { name: self.unix_name(), peer: Some(peer), place };
            let family = SocketFamily::Unix(unix);
            let mut socket = self.bare_socket(kind, SocketState::Connected, family);
            socket.closed = closed && from == next;
            socket.reset = self.random.one_in(4);
            socket.shutdown = self.random.below(4) as u8;
            if !socket.closed {
                socket.queue = self.messages(Some(peer));
            }
            self.out.sockets.push(socket);
        }
        next + 1
    }

    fn bare_socket(
        &mut self,
        kind: SocketKind,
        state: SocketState,
        family: SocketFamily,
    ) -> Socket {
        let mut options = Vec::new();
        for &(level, name) in SOCKET_OPTIONS {
            if self.random.one_in(9) {
                // Flags are 1 where they are set.
                options.push(SocketOption { level, name, value: 1 });
            }
        }
        // One is its value in a new socket.
        for option in &mut options {
            if (option.level, option.name) == (libc::SOL_SOCKET, libc::SO_RCVLOWAT) {
                option.value = 7;
            }
        }
        options.sort_unstable();
        let settings = SocketSettings {
            receive_buffer: self.random.below(1 << 31) as i32,
            send_buffer: self.random.below(1 << 31) as i32,
            locks: self.random.below(4) as u8,
            receive_timeout: self.random.one_in(2).then(|| self.random.below(1 << 40)),
            send_timeout: self.random.one_in(2).then(|| self.random.below(1 << 40)),
            linger: self.random.one_in(2).then(|| self.random.word() as u32),
            options,
        };
        let (closed, reset, shutdown, queue) = (false, false, 0, Vec::new());
        Socket { kind, state, closed, reset, shutdown, settings, queue, family }
    }

    fn address(&mut self, v6: bool) -> SocketAddr {
        let port = 1 + self.random.below(65535) as u16;
        if v6 {
            let ip = Ipv6Addr::from_bits(u128::from(self.random.word()) << 64 | 1);
            let (flow, scope) = (self.random.word() as u32, self.random.word() as u32);
            SocketAddrV6::new(ip, port, flow, scope).into()
        } else {
            SocketAddrV4::new(Ipv4Addr::from_bits(self.random.word() as u32), port).into()
        }
    }

    fn unix_name(&mut self) -> Option<UnixName> {
        let file = self.random.one_in(2).then(|| SocketFile {
            mode: self.random.below(0o10000) as u32,
            uid: self.random.word() as u32,
            gid: self.random.word() as u32,
        });
        match self.random.below(4) {
            0 => None,
            1 => {
                let length = self.random.below(107) as usize;
                let address = [vec![0], self.random.bytes(length)].concat();
                Some(UnixName { address, directory: None, file: None })
            }
            2 => {
                // The longest has no room for its NUL.
                let length = 107 - self.random.below(9) as usize;
                let address = [vec![b'/'], vec![b'x'; length]].concat();
                Some(UnixName { address, directory: None, file })
            }
            _ => {
                let directory = Some(self.path());
                Some(UnixName { address: b"name".to_vec(), directory, file })
            }
        }
    }

    fn messages(&mut self, from: Option<usize>) -> Vec<Message> {
        let count = self.random.below(4);
        let one = |_| {
            let length = self.random.below(300) as usize;
            let cred = self.random.one_in(2).then(|| {
                let [uid, gid] = [self.random.word() as u32, self.random.word() as u32];
                [1 + self.random.below(9) as u32, uid, gid]
            });
            Message { data: self.random.bytes(length), from, cred }
        };
        (0..count).map(one).collect()
    }

    fn lock(&mut self, kind: LockKind) -> FileLock {
        let start = self.random.below(1 << 63);
        let length = self.random.below((1 << 63) - start);
        let (start, length) = if kind == LockKind::Whole { (0, 0) } else { (start, length) };
        FileLock { kind, exclusive: self.random.one_in(2), start, length }
    }

    /// Items are written when their table is complete: they name files that are there by then.
    fn epoll_items(&mut self, epoll: usize) {
        let (random, files) = (&mut self.random, &mut self.out.files);
        let count = files.len() as u64;
        let FileKind::Epoll { items } = &mut files[epoll].kind else { return };
        for fd in 0..random.below(4) as i32 {
            let (file, events) = (random.below(count) as usize, random.word() as u32);
            items.push(EpollItem { fd: fd * 7, file, events, data: random.word() });
        }
    }

    fn file_table(&mut self) -> usize {
        if let Some(old) = self.old(self.out.file_tables.len()) {
            return old;
        }
        let before = self.out.files.len();
        let mut descriptors = Vec::new();
        let mut fd = self.random.below(3) as i32;
        for _ in 0..self.random.below(5) {
            let file = self.file(false);
            descriptors.push(Descriptor { fd, file, cloexec: self.random.one_in(2) });
            fd += 1 + self.random.below(9) as i32;
        }
        for epoll in before..self.out.files.len() {
            self.epoll_items(epoll);
        }
        let mut locks = Vec::new();
        for descriptor in &descriptors {
            while self.random.one_in(4) {
                locks.push(ProcessLock { fd: descriptor.fd, lock: self.lock(LockKind::Process) });
            }
        }
        self.out.file_tables.push(FileTable { descriptors, locks });
        self.out.file_tables.len() - 1
    }

    fn fs(&mut self) -> usize {
        if let Some(old) = self.old(self.out.fss.len()) {
            return old;
        }
        let (cwd, root) = (self.path(), b"/".to_vec());
        self.out.fss.push(Fs { umask: self.random.below(512) as u32, cwd, root });
        self.out.fss.len() - 1
    }

    fn sighand(&mut self) -> usize {
        if let Some(old) = self.old(self.out.sighands.len()) {
            return old;
        }
        let mut actions = [SigAction::default(); 64];
        for action in &mut actions {
            *action = SigAction {
                handler: self.random.word(),
                flags: 0x0400_0000,
                restorer: self.random.word(),
                mask: self.random.word(),
            };
        }
        self.out.sighands.push(SigHand { actions });
        self.out.sighands.len() - 1
    }

    fn pty(&mut self) -> usize {
        let known = self.out.ptys.len();
        if known > 0 && self.random.one_in(2) {
            return self.random.below(known as u64) as usize;
        }
        let mut word = || self.random.word() as u32;
        let pty = Pty {
            index: word(),
            modes: [(); 4].map(|()| word()),
            speeds: [word(), word()],
            line: 0,
            characters: [word() as u8; 19],
            window: [(); 4].map(|()| word() as u16),
            packet: word() % 2 == 0,
            locked: word() % 2 == 0,
            exclusive: word() % 2 == 0,
            outside: None,
        };
        let outside = Outside { device: word(), controls: word() % 2 == 0, foreground: 1 };
        let pty = Pty { outside: self.random.one_in(3).then_some(outside), ..pty };
        self.out.ptys.push(pty);
        known
    }

    fn signal(&mut self) -> usize {
        let mut signal = Signal::default();
        for (index, limit) in signal.rlimits.iter_mut().enumerate() {
            *limit = (index as u64, u64::MAX);
        }
        for timer in &mut signal.itimers {
            *timer = (self.random.word(), self.random.word());
        }
        signal.pending = self.pending();
        if self.random.one_in(3) {
            let foreground = i32::from(self.random.one_in(2));
            signal.terminal = Some(Terminal { pty: self.pty(), foreground });
        }
        self.out.signals.push(signal);
        self.out.signals.len() - 1
    }

    /// Runs of pages inside `from..to`; neighbours are never next to each other, as these would come
    /// back as one.
    fn runs(&mut self, from: u64, to: u64) -> Vec<PageRun> {
        let mut runs = Vec::new();
        let mut address = from;
        loop {
            address += self.random.below(3) * PAGE;
            let most = if self.big { 9000 } else { 3 };
            let count = 1 + self.random.below(most);
            if address + count * PAGE > to {
                return runs;
            }
            runs.push(PageRun { address, count, offset: 0 });
            address += (count + 1) * PAGE;
        }
    }

    fn mm(&mut self) -> usize {
        if let Some(old) = self.old(self.out.mms.len()) {
            return old;
        }
        let exe = self.random.one_in(2).then(|| self.file(true));
        let mut start = 0x10_0000;
        let mut vmas = Vec::new();
        for _ in 0..self.random.below(7) {
            start += self.random.below(2) * PAGE;
            let most = if self.big { 20000 } else { 9 };
            let end = start + (1 + self.random.below(most)) * PAGE;
            vmas.push(self.vma(start, end));
            start = end;
        }
        let mut fields = [0; 11];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = (index as u64 + 1) * 0x1000;
        }
        self.out.mms.push(Mm {
            exe,
            def_flags: [0, 0x2000, 0x8_2000][self.random.below(3) as usize],
            flags: self.random.word(),
            fields,
            auxv: vec![3, 0x40_0040, 6, 4096, 0, 0],
            vmas,
            vdso: self.random.word(),
        });
        self.out.mms.len() - 1
    }

    fn vma(&mut self, start: u64, end: u64) -> Vma {
        let mut vma = Vma {
            start,
            end,
            flags: 0x73,
            kind: VmaKind::Vdso,
            pgoff: self.random.below(1 << 30),
            file_size: 0,
            pages: Vec::new(),
            guards: Vec::new(),
        };
        if self.random.one_in(4) {
            let guard =
                |run: PageRun| Guard { start: run.address, end: run.address + run.count * PAGE };
            vma.guards = self.runs(start, end).into_iter().map(guard).collect();
        }
        match self.random.below(5) {
            0 => {}
            1 => {
                vma.kind = VmaKind::Anon;
                vma.pages = self.runs(start, end);
            }
            2 => {
                vma.kind = VmaKind::File(self.file(true));
                vma.file_size = self.random.below(1 << 40);
                vma.pages = self.runs(start, end);
            }
            3 => {
                vma.flags |= 0x88;
                vma.kind = VmaKind::ShmAnon(self.old(self.out.shms.len()).unwrap_or_else(|| {
                    let size = 1 + self.random.below(60_000);
                    let pages = self.runs(0, size / PAGE * PAGE);
                    let segment = self.segment(size);
                    let size = if segment.is_some() { size.next_multiple_of(PAGE) } else { size };
                    self.out.shms.push(Shm { size, pages, segment });
                    self.out.shms.len() - 1
                }));
                if let VmaKind::ShmAnon(index) = vma.kind
                    && let shm = &self.out.shms[index]
                    && shm.segment.is_some()
                {
                    // No mapping reaches beyond it.
                    (vma.pgoff, vma.end) = (0, end.min(start + shm.size));
                    vma.guards.clear();
                }
            }
            _ => {
                vma.flags |= 0x88;
                vma.kind = VmaKind::ShmFile(self.file(true));
                vma.file_size = self.random.below(1 << 40);
            }
        }
        vma
    }

    /// What shared memory of this size may be besides.
    fn segment(&mut self, size: u64) -> Option<Segment> {
        if !self.random.one_in(3) {
            return None;
        }
        let removed = self.random.one_in(2);
        let mut word = || self.random.word() as u32;
        Some(Segment {
            id: (word() >> 1) as i32,
            key: if removed { 0 } else { word() as i32 },
            mode: word() & 0o777,
            owner: [word(), word()],
            creator: [word(), word()],
            size,
            removed,
            locked: word() & 1 != 0,
        })
    }
}

/// Pages whose contents tell where they belong.
pub struct Pattern;

/// The word at `address` (a multiple of 8).
pub fn pattern(from: PagesOf, address: u64) -> u64 {
    let salt = match from {
        PagesOf::Mm(index) => index as u64 * 2,
        PagesOf::Shm(index) => index as u64 * 2 + 1,
        PagesOf::Inode(index) => index as u64 + 0x8000,
    };
    (address ^ salt << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl PageSource for Pattern {
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let skip = (address & 7) as usize;
        let mut words = (address & !7..).step_by(8).map(|at| pattern(from, at).to_le_bytes());
        let (front, rest) = buf.split_at_mut(((8 - skip) % 8).min(buf.len()));
        if !front.is_empty() {
            let word = words.next().unwrap();
            front.copy_from_slice(&word[skip..skip + front.len()]);
        }
        for (piece, word) in rest.chunks_mut(8).zip(words) {
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}

pub fn written(head: &ImageHead, body: &Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_image(&mut bytes, head, body, &mut Pattern).unwrap();
    bytes
}

pub fn read(bytes: &[u8]) -> Result<(ImageHead, Body), ImageError> {
    let mut reader = Reader::new(bytes);
    let head = reader.head()?;
    let body = reader.body(&head)?;
    Ok((head, body))
}

/// Every run of pages in a body, and whose it is.
pub fn runs(body: &mut Body) -> Vec<(PagesOf, &mut Vec<PageRun>)> {
    let mms = body.objects.mms.iter_mut().enumerate().flat_map(|(index, mm)| {
        mm.vmas.iter_mut().map(move |vma| (PagesOf::Mm(index), &mut vma.pages))
    });
    let shms = body.objects.shms.iter_mut().enumerate();
    let shms = shms.map(|(index, shm)| (PagesOf::Shm(index), &mut shm.pages));
    let inodes = body.objects.inodes.iter_mut().enumerate();
    let inodes = inodes.map(|(index, inode)| (PagesOf::Inode(index), &mut inode.pages));
    mms.chain(shms).chain(inodes).collect()
}

/// Checks that each page of `body` lies where it says, then forgets where, and joins runs that only
/// the stream keeps apart.
pub fn check_pages(body: &mut Body, image: &[u8]) {
    for (of, runs) in runs(body) {
        let mut joined: Vec<PageRun> = Vec::new();
        for run in runs.iter() {
            for page in 0..run.count {
                let at = (run.offset + page * PAGE) as usize;
                let address = run.address + page * PAGE;
                for index in [0, 8, PAGE as usize - 8] {
                    let word = image[at + index..at + index + 8].try_into().unwrap();
                    assert_eq!(u64::from_le_bytes(word), pattern(of, address + index as u64));
                }
            }
            match joined.last_mut() {
                Some(last) if last.address + last.count * PAGE == run.address => {
                    last.count += run.count;
                }
                _ => joined.push(PageRun { offset: 0, ..*run }),
            }
        }
        *runs = joined;
    }
}

/// A record: number of its type, payload.
pub type Record = (u32, Vec<u8>);

/// The records of an image.
pub fn split(image: &[u8]) -> Vec<Record> {
    records::walk(image)
        .map(|record| {
            let record = record.unwrap();
            let from = record.offset as usize;
            (record.kind, image[from + 8..from + record.len as usize].to_vec())
        })
        .collect()
}

/// The image of these records.
pub fn join(records: &[Record]) -> Vec<u8> {
    let mut image = Vec::new();
    for (kind, payload) in records {
        image.extend(kind.to_le_bytes());
        image.extend((payload.len() as u32 + 8).to_le_bytes());
        image.extend(payload);
    }
    image
}

/// Where the first record of this kind is.
pub fn position(records: &[Record], kind: records::Kind) -> usize {
    records.iter().position(|(number, _)| *number == kind.number).unwrap()
}

/// Puts `bytes` at `offset` (that of the format document, header included) in the `nth` record of
/// this kind.
pub fn patch(records: &mut [Record], kind: records::Kind, nth: usize, offset: usize, bytes: &[u8]) {
    let (_, payload) =
        records.iter_mut().filter(|(number, _)| *number == kind.number).nth(nth).unwrap();
    payload[offset - 8..offset - 8 + bytes.len()].copy_from_slice(bytes);
}

/// An OBJREF record.
pub fn objref(kind: u32, tag: i32) -> Record {
    (records::OBJREF.number, [kind.to_le_bytes(), tag.to_le_bytes()].concat())
}
