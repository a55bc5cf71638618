//! Open files of every kind, as [`Maker`] makes them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use usercr::image::*;

use super::maker::Maker;

impl Maker {
    pub(super) fn path(&mut self) -> Vec<u8> {
        format!("/dir/{}", self.random.below(1 << 20)).into_bytes()
    }

    /// An open file; one that can be mapped where it is `mapped`.
    pub(super) fn file(&mut self, mapped: bool) -> usize {
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
        match self.random.below(6) {
            // See `epoll_items`.
            3 => FileKind::Epoll { items: Vec::new() },
            0 => FileKind::EventFd {
                count: self.random.below(u64::MAX),
                semaphore: self.random.one_in(2),
            },
            5 => FileKind::Inotify { watches: self.watches() },
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

    fn watches(&mut self) -> Vec<Watch> {
        let mut watches = Vec::new();
        let mut wd = 0;
        while self.random.one_in(2) {
            wd += 1 + self.random.below(100) as i32;
            watches.push(Watch {
                wd,
                mask: self.random.word() as u32 & Watch::MASK,
                mode: self.random.word() as u32,
                path: self.path(),
            });
        }
        watches
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

    pub(super) fn file_table(&mut self) -> usize {
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

    pub(super) fn fs(&mut self) -> usize {
        if let Some(old) = self.old(self.out.fss.len()) {
            return old;
        }
        let (cwd, root) = (self.path(), b"/".to_vec());
        self.out.fss.push(Fs { umask: self.random.below(512) as u32, cwd, root });
        self.out.fss.len() - 1
    }

    pub(super) fn pty(&mut self) -> usize {
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
            waiting: Waiting::default(),
        };
        let outside = Outside { device: word(), controls: word() % 2 == 0, foreground: 1 };
        let waiting = match word() % 3 {
            0 => Waiting::default(),
            kind => {
                let input: Vec<u8> = (0..word() % 50).map(|_| word() as u8).collect();
                let canonical = pty.modes[3] & 2 != 0;
                let lines = if canonical { word() % 5 } else { 0 };
                let mut ends: Vec<u32> =
                    (0..lines).map(|_| word() % (input.len() as u32 + 1)).collect();
                ends.sort_unstable();
                let output = (0..(kind - 1) * 20).map(|_| word() as u8).collect();
                Waiting { input, ends, output }
            }
        };
        let pty = match self.random.one_in(3) {
            true => Pty { outside: Some(outside), ..pty },
            false => Pty { waiting, ..pty },
        };
        self.out.ptys.push(pty);
        known
    }
}
