//! Which descriptor numbers are open, and the files behind them.
//!
//! The descriptor table of every task is known before it exists: the kernel always gives the lowest free
//! number. So no program ever has to look at a descriptor that a call returned; a result that differs
//! from the expected number is a failure.

mod epoll;
mod inotify;
mod kinds;
mod locks;
mod make;
mod pidfds;
mod pipes;
mod slots;
mod sockets;
mod terminals;
mod unnamed;

use std::collections::{BTreeMap, HashMap};

use super::{Compiler, Facts, Plan, Program, attempt, call, exact, restorers};
use crate::image::{FileKind, Live};
use slots::{Group, files_of};
pub(super) use slots::{Model, Slots};
pub use sockets::bound_names;

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
        keep.extend(self.facts.terminal.zip(self.slots.given_terminal()));
        for &(ipc, fd) in &self.facts.ipcs {
            keep.extend(self.slots.ipc(ipc).map(|slot| (fd, slot)));
        }
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
        let mut model = self.slots.first_model();
        let files = self.slots.shared();
        for &(file, slot) in &files {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            if matches!(open.kind, FileKind::PidFd { .. }) {
                self.make_passage(p, &mut model, file, slot);
            } else if self.group_of(file).is_none() {
                let fd = self.make(p, &mut model, open, false);
                self.move_to(p, &mut model, fd, slot);
            }
        }
        for group in self.slots.groups.clone() {
            let ends: Vec<(usize, i32)> =
                files.iter().copied().filter(|&(f, _)| self.group_of(f) == Some(group)).collect();
            self.make_group(p, &mut model, group, &ends);
        }
        self.make_shms(p, &mut model);
        if let Some(master) = self.slots.given_terminal() {
            // Whoever holds it must be able to hang up.
            self.close(p, &mut model, master);
        }
    }

    fn group_of(&self, file: usize) -> Option<Group> {
        Group::of(&self.body.objects.files.get(file)?.kind)
    }

    /// Gives a process its descriptors.
    pub(super) fn descriptors(&mut self, p: &mut Program, task: usize, live: &Live) {
        let Some(table) = self.body.objects.file_tables.get(live.files) else { return };
        let mut model = self.slots.base_model();
        let mut at: HashMap<usize, i32> = HashMap::new();
        self.pass_pidfds(p, &mut model, task);
        self.local_groups(p, &mut model, live, &mut at);
        for descriptor in &table.descriptors {
            let Some(file) = self.body.objects.files.get(descriptor.file) else { continue };
            let source = self.slots.file(descriptor.file).or(at.get(&descriptor.file).copied());
            let cloexec = if descriptor.cloexec { libc::O_CLOEXEC as u64 } else { 0 };
            let (from, fresh) = match source {
                Some(fd) => (fd, false),
                None => (self.make(p, &mut model, file, descriptor.cloexec), true),
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
        self.watch(p, &mut model, (task, live), &at);
    }

    /// Makes the groups of files that only this process has, above all numbers that it uses.
    fn local_groups(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        live: &Live,
        at: &mut HashMap<usize, i32>,
    ) {
        let mut groups: BTreeMap<Group, Vec<(usize, i32)>> = BTreeMap::new();
        let mut slot = self.slots.next;
        for file in files_of(self.body, live) {
            if let Some(group) = self.group_of(file)
                && self.slots.file(file).is_none()
            {
                groups.entry(group).or_default().push((file, slot));
                at.insert(file, slot);
                slot += 1;
            }
        }
        let sockets = groups.contains_key(&Group::Sockets);
        for (group, ends) in groups {
            self.make_group(p, model, group, &ends);
        }
        if sockets && sockets::any_relative(self.body) {
            // Binding them took the process to other directories.
            self.place(p, live);
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

    /// Root directory: when no path of the image is needed any more. The current directory stays.
    pub(super) fn change_root(&mut self, p: &mut Program, live: &Live) {
        let Some(fs) = self.body.objects.fss.get(live.fs).filter(|fs| fs.root != b"/") else {
            return;
        };
        let root = self.data.text(&fs.root);
        p.push(call(libc::SYS_chroot, &[root]));
    }
}
