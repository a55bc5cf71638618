//! Bodies with everything in them that there is.

use usercr::image::*;

use super::{Random, cpu, head, leader, written};

/// Makes a body with everything in it that there is, in the order that a reader meets it.
pub(super) struct Maker {
    pub(super) random: Random,
    pub(super) out: Objects,
    pub(super) big: bool,
    /// How many tasks there are.
    pub(super) tasks: usize,
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
    pub(super) fn old(&mut self, there: usize) -> Option<usize> {
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
            mdwe: flags & 16 != 0,
            mdwe_alone: flags & 48 == 48,
            no_tsc: flags & 64 != 0,
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

    pub(super) fn cred(&mut self) -> usize {
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
    pub(super) fn runs(&mut self, from: u64, to: u64) -> Vec<PageRun> {
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
            name: None,
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
                let length = self.random.below(160);
                vma.name = (length < 80)
                    .then(|| (0..length).map(|_| (32 + self.random.below(95)) as u8).collect());
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
