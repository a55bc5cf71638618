//! Which descriptor numbers are open, and the files behind them.
//!
//! The descriptor table of every task is known before it exists: the kernel always gives the lowest free
//! number. So no program ever has to look at a descriptor that a call returned; a result that differs
//! from the expected number is a failure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Compiler, Facts, Program, attempt, call, exact};
use crate::image::{Body, FileKind, Live, OpenFile, TaskState};
use crate::plan::{Flags, Plan};

/// Flags of open(2) that are given again when a file is opened again.
const REOPEN: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_NOATIME
    | libc::O_SYNC
    | libc::O_DIRECTORY
    | libc::O_PATH;

/// Flags that fcntl(2) can set on an end of a pipe.
const PIPE_FLAGS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// The kernel's f_mode bits.
const MODE_READ: u32 = 1;
const MODE_WRITE: u32 = 2;

/// Bytes that fit into a pipe that is as large as pipes are made.
const PIPE_SIZE: usize = 65536;

/// Which descriptors of a task are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    open: BTreeSet<i32>,
}

impl Model {
    /// The number that the kernel gives next.
    pub(super) fn lowest(&self) -> i32 {
        (0..)
            .zip(self.open.iter())
            .find(|(n, open)| *n != **open)
            .map_or_else(|| self.open.len() as i32, |(n, _)| n)
    }

    fn take(&mut self) -> i32 {
        let fd = self.lowest();
        self.open.insert(fd);
        fd
    }
}

/// Descriptors with high numbers that the root task opens and all tasks inherit.
#[derive(Debug)]
pub(super) struct Slots {
    base: i32,
    debug: bool,
    log: bool,
    files: HashMap<usize, i32>,
    shms: HashMap<usize, i32>,
    next: i32,
    /// The pipes of which an end has a slot.
    pipes: BTreeSet<usize>,
}

impl Slots {
    /// Gives a slot to whatever more than one process uses.
    pub(super) fn new(plan: &Plan, body: &Body, facts: &Facts) -> Slots {
        let base = facts.staging;
        let mut slots = Slots {
            base,
            debug: facts.debug.is_some(),
            log: facts.log.is_some(),
            files: HashMap::new(),
            shms: HashMap::new(),
            next: base + 3,
            pipes: BTreeSet::new(),
        };
        let mut users: BTreeMap<usize, usize> = BTreeMap::new();
        let mut pipe_users: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for (index, task) in body.tasks.iter().enumerate() {
            let TaskState::Live(live) = task else { continue };
            if plan.tasks.get(index).is_some_and(|t| t.flags.has(Flags::THREAD)) {
                continue;
            }
            for file in files_of(body, live) {
                *users.entry(file).or_default() += 1;
                if let Some(FileKind::Pipe { pipe }) = body.objects.files.get(file).map(|f| &f.kind)
                {
                    pipe_users.entry(*pipe).or_default().insert(index);
                }
            }
        }
        for (&file, &count) in &users {
            let pipe = match body.objects.files.get(file).map(|f| &f.kind) {
                Some(FileKind::Pipe { pipe }) => Some(*pipe),
                _ => None,
            };
            let shared = match pipe {
                Some(pipe) => pipe_users.get(&pipe).is_some_and(|u| u.len() > 1),
                None => count > 1,
            };
            if shared {
                slots.files.insert(file, slots.next);
                slots.next += 1;
                slots.pipes.extend(pipe);
            }
        }
        for shm in 0..body.objects.shms.len() {
            slots.shms.insert(shm, slots.next);
            slots.next += 1;
        }
        slots
    }

    pub(super) fn image(&self) -> i32 {
        self.base
    }

    pub(super) fn events(&self) -> i32 {
        self.base + 1
    }

    pub(super) fn debug(&self) -> Option<i32> {
        self.debug.then_some(self.base + 2)
    }

    /// The log of restart(2): no program that has this needs another slot.
    pub(super) fn log(&self) -> Option<i32> {
        self.log.then_some(self.base + 3)
    }

    pub(super) fn file(&self, file: usize) -> Option<i32> {
        self.files.get(&file).copied()
    }

    pub(super) fn shm(&self, shm: usize) -> Option<i32> {
        self.shms.get(&shm).copied()
    }

    /// What is open in a task that has just been forked.
    pub(super) fn base_model(&self) -> Model {
        let mut open: BTreeSet<i32> = (self.base..self.next).collect();
        if !self.debug {
            open.remove(&(self.base + 2));
        }
        Model { open }
    }
}

/// Files that a process needs for its descriptors and its mappings, each once, ascending.
fn files_of(body: &Body, live: &Live) -> BTreeSet<usize> {
    let mut files = BTreeSet::new();
    if let Some(table) = body.objects.file_tables.get(live.files) {
        files.extend(table.descriptors.iter().map(|d| d.file));
    }
    if let Some(mm) = body.objects.mms.get(live.mm) {
        files.extend(super::memory::files_of(mm));
    }
    files
}

impl Compiler<'_> {
    /// Keeps of the caller's descriptors only what the tasks need, under numbers of their own.
    pub(super) fn leave_descriptors(&mut self, p: &mut Program) {
        let base = self.slots.base;
        let (_, hard) = self.facts.rlimits[libc::RLIMIT_NOFILE as usize];
        if self.raises_nofile() {
            let limit = self.data.words(&[hard, hard]);
            p.push(call(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), limit, 0]));
        }
        let mut keep = vec![(self.facts.image.0, base), (self.facts.events, base + 1)];
        keep.extend(self.facts.debug.zip(self.slots.debug()));
        keep.extend(self.facts.log.zip(self.slots.log()));
        let mut free = 0;
        for &(fd, slot) in &keep {
            p.push(call(libc::SYS_dup3, &[fd as u64, slot as u64, libc::O_CLOEXEC as u64]));
        }
        for (_, slot) in keep {
            if slot > free {
                p.push(call(libc::SYS_close_range, &[free as u64, slot as u64 - 1, 0]));
            }
            free = slot + 1;
        }
        p.push(call(libc::SYS_close_range, &[free as u64, u64::from(u32::MAX), 0]));
    }

    /// Whether the tasks need higher descriptor numbers during the restart than the caller may use.
    pub(super) fn raises_nofile(&self) -> bool {
        let (soft, hard) = self.facts.rlimits[libc::RLIMIT_NOFILE as usize];
        soft < self.slots.next as u64 + 256 && soft < hard
    }

    /// Opens what several processes share, in the root task.
    pub(super) fn open_shared(&mut self, p: &mut Program) {
        let mut model = self.slots.base_model();
        model.open.retain(|&fd| fd < self.slots.base + 3);
        let mut files: Vec<(usize, i32)> = self.slots.files.iter().map(|(&f, &s)| (f, s)).collect();
        files.sort_unstable();
        for &(file, slot) in &files {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            if let FileKind::Named { .. } = open.kind {
                let fd = self.open_named(p, &mut model, open, false);
                self.move_to(p, &mut model, fd, slot);
            }
        }
        for pipe in self.slots.pipes.clone() {
            let ends: Vec<(usize, i32)> =
                files.iter().copied().filter(|&(f, _)| self.pipe_of(f) == Some(pipe)).collect();
            self.make_pipe(p, &mut model, pipe, &ends);
        }
        self.make_shms(p, &mut model);
    }

    fn pipe_of(&self, file: usize) -> Option<usize> {
        match self.body.objects.files.get(file)?.kind {
            FileKind::Pipe { pipe } => Some(pipe),
            FileKind::Named { .. } => None,
        }
    }

    /// Opens a file by its path; the descriptor that it has then.
    pub(super) fn open_named(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        file: &OpenFile,
        cloexec: bool,
    ) -> i32 {
        let FileKind::Named { path } = &file.kind else { return -1 };
        let mut flags = (file.flags as i32 & REOPEN) | libc::O_NOCTTY;
        if cloexec {
            flags |= libc::O_CLOEXEC;
        }
        let path = self.data.text(path);
        let fd = model.take();
        p.push(exact(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags as u64], fd as u64));
        if file.pos != 0 {
            let args = [fd as u64, file.pos, libc::SEEK_SET as u64];
            p.push(exact(libc::SYS_lseek, &args, file.pos));
        }
        fd
    }

    fn move_to(&mut self, p: &mut Program, model: &mut Model, from: i32, to: i32) {
        p.push(call(libc::SYS_dup3, &[from as u64, to as u64, libc::O_CLOEXEC as u64]));
        model.open.insert(to);
        self.close(p, model, from);
    }

    pub(super) fn close(&mut self, p: &mut Program, model: &mut Model, fd: i32) {
        p.push(call(libc::SYS_close, &[fd as u64]));
        model.open.remove(&fd);
    }

    /// Makes a pipe with its contents, and its ends under the given numbers.
    fn make_pipe(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        pipe: usize,
        ends: &[(usize, i32)],
    ) {
        let pair = self.data.own(&[0; 8]);
        let (read, write) = (model.take(), model.take());
        p.push(call(libc::SYS_pipe2, &[pair, libc::O_CLOEXEC as u64]));
        if let Some(data) = self.body.objects.pipes.get(pipe).map(|p| &p.data)
            && !data.is_empty()
        {
            let (fd, len) = (write as u64, data.len() as u64);
            if data.len() > PIPE_SIZE {
                p.push(call(libc::SYS_fcntl, &[fd, libc::F_SETPIPE_SZ as u64, len]));
            }
            let at = self.data.own(data);
            p.push(exact(libc::SYS_write, &[fd, at, len], len));
        }
        let mut taken = BTreeSet::new();
        for &(file, slot) in ends {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let both = open.mode & (MODE_READ | MODE_WRITE) == MODE_READ | MODE_WRITE;
            let end = if open.mode & MODE_WRITE != 0 { write } else { read };
            let flags = (open.flags as i32 & PIPE_FLAGS) as u64;
            if both || !taken.insert(end) {
                // A further description of the same end, as made by opening /proc/PID/fd/N.
                let path = self.data.text(format!("/proc/self/fd/{end}").as_bytes());
                let flags = (open.flags as i32 & REOPEN | libc::O_NONBLOCK) as u64;
                let fd = model.take();
                let at = libc::AT_FDCWD as u64;
                p.push(exact(libc::SYS_openat, &[at, path, flags], fd as u64));
                self.move_to(p, model, fd, slot);
            } else {
                let cloexec = libc::O_CLOEXEC as u64;
                p.push(call(libc::SYS_dup3, &[end as u64, slot as u64, cloexec]));
                model.open.insert(slot);
            }
            p.push(call(libc::SYS_fcntl, &[slot as u64, libc::F_SETFL as u64, flags]));
        }
        self.close(p, model, read);
        self.close(p, model, write);
    }

    /// Makes shared anonymous memory, with its contents.
    fn make_shms(&mut self, p: &mut Program, model: &mut Model) {
        for (index, shm) in self.body.objects.shms.iter().enumerate() {
            let Some(slot) = self.slots.shm(index) else { continue };
            let name = self.data.text(b"usercr-shm");
            let fd = model.take();
            let cloexec = u64::from(libc::MFD_CLOEXEC);
            p.push(exact(libc::SYS_memfd_create, &[name, cloexec], fd as u64));
            p.push(call(libc::SYS_ftruncate, &[fd as u64, shm.size]));
            for run in &shm.pages {
                let (len, from) = (run.count * crate::image::PAGE, self.facts.image.1 + run.offset);
                let place = [fd as u64, run.address, libc::SEEK_SET as u64];
                p.push(exact(libc::SYS_lseek, &place, run.address));
                let from = self.data.own(&from.to_le_bytes());
                let copy = [fd as u64, self.slots.image() as u64, from, len];
                p.push(exact(libc::SYS_sendfile, &copy, len));
            }
            self.move_to(p, model, fd, slot);
        }
    }

    /// Gives a process its descriptors.
    pub(super) fn descriptors(&mut self, p: &mut Program, live: &Live) {
        let Some(table) = self.body.objects.file_tables.get(live.files) else { return };
        let mut model = self.slots.base_model();
        let mut at: HashMap<usize, i32> = HashMap::new();
        self.local_pipes(p, &mut model, live, &mut at);
        for descriptor in &table.descriptors {
            let Some(file) = self.body.objects.files.get(descriptor.file) else { continue };
            let source = self.slots.file(descriptor.file).or(at.get(&descriptor.file).copied());
            let cloexec = if descriptor.cloexec { libc::O_CLOEXEC as u64 } else { 0 };
            let (from, fresh) = match source {
                Some(fd) => (fd, false),
                None => (self.open_named(p, &mut model, file, descriptor.cloexec), true),
            };
            if from != descriptor.fd {
                let args = [from as u64, descriptor.fd as u64, cloexec];
                p.push(exact(libc::SYS_dup3, &args, descriptor.fd as u64));
                model.open.insert(descriptor.fd);
                if fresh {
                    self.close(p, &mut model, from);
                }
            }
            at.entry(descriptor.file).or_insert(descriptor.fd);
        }
    }

    /// Makes the pipes that only this process has, above all numbers that it uses.
    fn local_pipes(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        live: &Live,
        at: &mut HashMap<usize, i32>,
    ) {
        let mut pipes: BTreeMap<usize, Vec<(usize, i32)>> = BTreeMap::new();
        let mut slot = self.slots.next;
        for file in files_of(self.body, live) {
            if let Some(pipe) = self.pipe_of(file)
                && self.slots.file(file).is_none()
            {
                pipes.entry(pipe).or_default().push((file, slot));
                at.insert(file, slot);
                slot += 1;
            }
        }
        for (pipe, ends) in pipes {
            self.make_pipe(p, model, pipe, &ends);
        }
    }

    /// Closes what was only there for the restart.
    pub(super) fn close_slots(&self, p: &mut Program) {
        let first = self.slots.base as u64;
        p.push(call(libc::SYS_close_range, &[first, u64::from(u32::MAX), 0]));
    }

    /// Current directory, file mode mask.
    pub(super) fn place(&mut self, p: &mut Program, live: &Live) {
        let Some(fs) = self.body.objects.fss.get(live.fs) else { return };
        let cwd = self.data.text(&fs.cwd);
        p.push(call(libc::SYS_chdir, &[cwd]));
        p.push(attempt(libc::SYS_umask, &[u64::from(fs.umask)]));
    }
}
