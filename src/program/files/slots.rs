//! Which descriptor numbers are open, and which are set aside for what several processes share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::epoll::Watches;
use super::pidfds::Passages;
use super::unnamed::seals_late;
use super::{Facts, Plan, restorers};
use crate::image::{Body, Descriptor, FileKind, FileTable, Live, TaskState};

/// Which descriptors of a task are open.
#[derive(Debug, Clone, Default)]
pub(in crate::program) struct Model {
    pub(super) open: BTreeSet<i32>,
}

/// Open files that come into being together, by their index in the table of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Group {
    /// The ends of a pipe, with or without a name.
    Pipe(usize),
    /// All that is open of a regular file without a name. It is always made by the root task: it may be
    /// mapped too.
    Unnamed(usize),
    /// The ends of a pair of pseudo terminals. It is always made by the root task, so that the pairs get their
    /// numbers in order.
    Pty(usize),
    /// All sockets: they know each other by their names.
    Sockets,
}

impl Group {
    /// The group that a file belongs to, if any.
    pub(super) fn of(kind: &FileKind) -> Option<Group> {
        match *kind {
            FileKind::Pipe { pipe } | FileKind::Fifo { pipe, .. } => Some(Group::Pipe(pipe)),
            FileKind::Unnamed { inode } => Some(Group::Unnamed(inode)),
            FileKind::Tty { pty, .. } => Some(Group::Pty(pty)),
            FileKind::Socket { .. } => Some(Group::Sockets),
            FileKind::Named { .. }
            | FileKind::EventFd { .. }
            | FileKind::TimerFd(_)
            | FileKind::SignalFd { .. }
            | FileKind::PidFd { .. }
            | FileKind::Inotify { .. }
            | FileKind::Epoll { .. } => None,
        }
    }
}

impl Model {
    /// The number that the kernel gives next.
    pub(in crate::program) fn lowest(&self) -> i32 {
        (0..)
            .zip(self.open.iter())
            .find(|(n, open)| *n != **open)
            .map_or_else(|| self.open.len() as i32, |(n, _)| n)
    }

    pub(super) fn take(&mut self) -> i32 {
        let fd = self.lowest();
        self.open.insert(fd);
        fd
    }
}

/// Descriptors with high numbers that the root task opens and all tasks inherit.
#[derive(Debug)]
pub(in crate::program) struct Slots {
    pub(super) base: i32,
    debug: bool,
    log: bool,
    /// Whether there is a terminal to give to the tasks.
    terminal: bool,
    files: HashMap<usize, i32>,
    shms: HashMap<usize, i32>,
    /// ipc namespaces that have been made, by their index; the first slots of all.
    ipcs: BTreeMap<usize, i32>,
    /// Slaves that are the controlling terminal of a session.
    terminals: HashMap<usize, i32>,
    /// For memfds that are sealed last: a descriptor that may do it.
    sealers: HashMap<usize, i32>,
    /// The first number behind all slots.
    pub(super) next: i32,
    /// The groups whose files have slots.
    pub(super) groups: BTreeSet<Group>,
    /// The first process that has a descriptor of a file, by the file.
    keepers: HashMap<usize, usize>,
    /// The first process that has a descriptor table, by the table.
    table_keepers: HashMap<usize, usize>,
    /// Who fills which epoll files.
    pub(super) watches: Watches,
    /// How pidfds get to those who share them.
    pub(super) passages: Passages,
}

impl Slots {
    /// Gives a slot to whatever more than one process uses.
    pub(in crate::program) fn new(plan: &Plan, body: &Body, facts: &Facts) -> Slots {
        let base = facts.staging;
        let restorers = restorers(plan, body);
        let mut slots = Slots {
            base,
            debug: facts.debug.is_some(),
            log: facts.log.is_some(),
            terminal: facts.terminal.is_some(),
            files: HashMap::new(),
            shms: HashMap::new(),
            ipcs: BTreeMap::new(),
            terminals: HashMap::new(),
            sealers: HashMap::new(),
            next: base + 3 + i32::from(facts.terminal.is_some()),
            groups: BTreeSet::new(),
            keepers: HashMap::new(),
            table_keepers: HashMap::new(),
            watches: Watches::default(),
            passages: Passages::default(),
        };
        for &(ipc, _) in &facts.ipcs {
            slots.ipcs.insert(ipc, slots.next);
            slots.next += 1;
        }
        let group_of = |file: usize| Group::of(&body.objects.files.get(file)?.kind);
        let mut users: BTreeMap<usize, usize> = BTreeMap::new();
        let mut tables = Vec::new();
        let mut group_users: HashMap<Group, BTreeSet<usize>> = HashMap::new();
        for (index, task) in body.tasks.iter().enumerate() {
            let TaskState::Live(live) = task else { continue };
            // Of a thread group the one that opens the files.
            if restorers.get(index) != Some(&index) {
                continue;
            }
            tables.push((index, table_of(body, live)));
            slots.table_keepers.entry(live.files).or_insert(index);
            for descriptor in table_of(body, live) {
                slots.keepers.entry(descriptor.file).or_insert(index);
            }
            for file in files_of(body, live) {
                *users.entry(file).or_default() += 1;
                if let Some(group) = group_of(file) {
                    group_users.entry(group).or_default().insert(index);
                }
            }
        }
        slots.watches = Watches::new(body, &tables);
        for &(_, file) in &slots.watches.at_hand {
            // As if others had it too.
            *users.entry(file).or_default() += 2;
            if let Some(group) = group_of(file) {
                group_users.entry(group).or_default().extend([usize::MAX - 1, usize::MAX]);
            }
        }
        let passages = Passages::new(plan, body, &restorers, &slots.watches);
        for (&file, &count) in &users {
            let group = group_of(file);
            let shared = match &group {
                Some(Group::Unnamed(_) | Group::Pty(_)) => true,
                Some(group) => group_users.get(group).is_some_and(|u| u.len() > 1),
                None => count > 1 || passages.hidden(file),
            };
            if shared {
                slots.files.insert(file, slots.next);
                slots.next += 1;
                slots.groups.extend(group);
            }
        }
        slots.passages = passages;
        for file in slots.passages.files() {
            if slots.files.contains_key(&file) {
                slots.passages.set_slot(file, slots.next);
                slots.next += 1;
            }
        }
        for signal in &body.objects.signals {
            if let Some(terminal) = signal.terminal {
                slots.terminals.insert(terminal.pty, slots.next);
                slots.next += 1;
            }
        }
        for (index, shm) in body.objects.shms.iter().enumerate() {
            // System V shared memory is attached by its id.
            if shm.segment.is_none() {
                slots.shms.insert(index, slots.next);
                slots.next += 1;
            }
        }
        for (index, inode) in body.objects.inodes.iter().enumerate() {
            if seals_late(inode) && slots.groups.contains(&Group::Unnamed(index)) {
                slots.sealers.insert(index, slots.next);
                slots.next += 1;
            }
        }
        slots
    }

    pub(in crate::program) fn image(&self) -> i32 {
        self.base
    }

    pub(in crate::program) fn events(&self) -> i32 {
        self.base + 1
    }

    pub(in crate::program) fn debug(&self) -> Option<i32> {
        self.debug.then_some(self.base + 2)
    }

    /// The log of restart(2): no program that has this needs another slot.
    pub(in crate::program) fn log(&self) -> Option<i32> {
        self.log.then_some(self.base + 3)
    }

    /// The master of the terminal that takes the place of the one from outside.
    pub(in crate::program) fn given_terminal(&self) -> Option<i32> {
        self.terminal.then_some(self.base + 3)
    }

    /// What is open in the root task, before it has made anything.
    pub(super) fn first_model(&self) -> Model {
        let mut model = self.base_model();
        model.open.retain(|&fd| fd < self.base + 3);
        model.open.extend(self.given_terminal());
        model.open.extend(self.ipcs.values());
        model
    }

    /// Files that have a slot, with it, ascending.
    pub(super) fn shared(&self) -> Vec<(usize, i32)> {
        let mut files: Vec<(usize, i32)> = self.files.iter().map(|(&f, &s)| (f, s)).collect();
        files.sort_unstable();
        files
    }

    /// The files of this table that `task` is the first to have, with their first descriptor.
    pub(super) fn kept(&self, task: usize, table: &FileTable) -> Vec<(i32, usize)> {
        let mut seen = BTreeSet::new();
        let own = table.descriptors.iter().filter(|d| self.keepers.get(&d.file) == Some(&task));
        own.filter(|d| seen.insert(d.file)).map(|d| (d.fd, d.file)).collect()
    }

    /// Whether `task` is the first process that has this table.
    pub(super) fn keeps_table(&self, task: usize, table: usize) -> bool {
        self.table_keepers.get(&table) == Some(&task)
    }

    pub(in crate::program) fn file(&self, file: usize) -> Option<i32> {
        self.files.get(&file).copied()
    }

    /// A slave that is the controlling terminal of a session.
    pub(in crate::program) fn terminal(&self, pty: usize) -> Option<i32> {
        self.terminals.get(&pty).copied()
    }

    pub(in crate::program) fn shm(&self, shm: usize) -> Option<i32> {
        self.shms.get(&shm).copied()
    }

    /// The descriptor of an ipc namespace that has been made.
    pub(in crate::program) fn ipc(&self, ipc: usize) -> Option<i32> {
        self.ipcs.get(&ipc).copied()
    }

    pub(super) fn sealer(&self, inode: usize) -> Option<i32> {
        self.sealers.get(&inode).copied()
    }

    /// What is open in a task that has just been forked.
    pub(in crate::program) fn base_model(&self) -> Model {
        let mut open: BTreeSet<i32> = (self.base..self.next).collect();
        if !self.debug {
            open.remove(&(self.base + 2));
        }
        if let Some(closed) = self.given_terminal() {
            open.remove(&closed);
        }
        Model { open }
    }
}

fn table_of<'a>(body: &'a Body, live: &Live) -> &'a [Descriptor] {
    body.objects.file_tables.get(live.files).map_or(&[], |table| &table.descriptors)
}

/// Files that a process needs for its descriptors and its mappings, each once, ascending.
pub(super) fn files_of(body: &Body, live: &Live) -> BTreeSet<usize> {
    let mut files: BTreeSet<usize> = table_of(body, live).iter().map(|d| d.file).collect();
    if let Some(mm) = body.objects.mms.get(live.mm) {
        files.extend(crate::program::memory::files_of(mm));
    }
    files
}
