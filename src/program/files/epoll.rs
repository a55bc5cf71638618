//! Epoll files: who adds what they wait for, and how.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::slots::Model;
use crate::image::{Body, Descriptor, EpollItem, FileKind, Live};
use crate::program::insn::{Insn, Op};
use crate::program::{Compiler, Program, call, exact};

/// Which task fills which epoll files. All items of one are added by the same task, with the descriptors that
/// they were registered with wherever it has these: a signalfd wakes those up who wait for signals of the
/// process that added it.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_task: BTreeMap<usize, Vec<usize>>,
    /// Tasks, with files that they need for it without having a descriptor of them.
    pub(super) at_hand: BTreeSet<(usize, usize)>,
}

impl Watches {
    /// `tables` are the descriptors of each process, with the task that restores it.
    pub(super) fn new(body: &Body, tables: &[(usize, &[Descriptor])]) -> Watches {
        let mut watches = Watches::default();
        for (epoll, open) in body.objects.files.iter().enumerate() {
            let FileKind::Epoll { items } = &open.kind else { continue };
            let wanted: HashSet<(i32, usize)> = items.iter().map(|i| (i.fd, i.file)).collect();
            let rank = |table: &[Descriptor]| {
                let has = table.iter().any(|d| d.file == epoll);
                (has, table.iter().filter(|d| wanted.contains(&(d.fd, d.file))).count())
            };
            // Of equals the first.
            let best = tables.iter().rev().max_by_key(|(_, table)| rank(table));
            let Some((task, table)) = best else { continue };
            watches.by_task.entry(*task).or_default().push(epoll);
            let has: HashSet<usize> = table.iter().map(|d| d.file).collect();
            let needed = items.iter().map(|item| item.file).chain([epoll]);
            let lacking = needed.filter(|file| !has.contains(file));
            watches.at_hand.extend(lacking.map(|file| (*task, file)));
        }
        watches
    }

    fn of(&self, task: usize) -> Vec<usize> {
        self.by_task.get(&task).cloned().unwrap_or_default()
    }
}

impl Compiler<'_> {
    /// Adds what epoll files wait for. The descriptors of the task are in place; `at` says where files are.
    pub(super) fn watch(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        (task, live): (usize, &Live),
        at: &HashMap<usize, i32>,
    ) {
        let body = self.body;
        let Some(table) = body.objects.file_tables.get(live.files) else { return };
        let own: HashMap<i32, &Descriptor> = table.descriptors.iter().map(|d| (d.fd, d)).collect();
        for epoll in self.slots.watches.of(task) {
            let Some(FileKind::Epoll { items }) = body.objects.files.get(epoll).map(|f| &f.kind)
            else {
                continue;
            };
            let number = |file: usize| at.get(&file).copied().or(self.slots.file(file));
            let Some(epoll_fd) = number(epoll) else { continue };
            let sources: Vec<Option<i32>> = items.iter().map(|item| number(item.file)).collect();
            // Those that are spent come first: nothing else is there that could be reported.
            let mut order: Vec<(&EpollItem, i32)> =
                items.iter().zip(sources).filter_map(|(item, fd)| Some((item, fd?))).collect();
            order.sort_by_key(|(item, _)| !item.is_spent());
            for (item, source) in order {
                match own.get(&item.fd) {
                    Some(own) if own.file == item.file => self.add(p, epoll_fd, item),
                    Some(other) => {
                        // Its number has been given to another file.
                        let aside = model.take();
                        p.push(exact(libc::SYS_dup, &[item.fd as u64], aside as u64));
                        dup(p, source, item.fd, false);
                        self.add(p, epoll_fd, item);
                        dup(p, aside, item.fd, other.cloexec);
                        self.close(p, model, aside);
                    }
                    None => {
                        dup(p, source, item.fd, false);
                        self.add(p, epoll_fd, item);
                        p.push(call(libc::SYS_close, &[item.fd as u64]));
                    }
                }
            }
        }
    }

    fn add(&mut self, p: &mut Program, epoll: i32, item: &EpollItem) {
        if item.is_spent() {
            return self.add_spent(p, epoll, item);
        }
        self.control(p, epoll, libc::EPOLL_CTL_ADD, item, item.events);
    }

    fn control(&mut self, p: &mut Program, epoll: i32, what: i32, item: &EpollItem, events: u32) {
        let mut event = events.to_le_bytes().to_vec();
        event.extend(item.data.to_le_bytes());
        let event = self.data.constant(&event);
        let args = [epoll as u64, what as u64, item.fd as u64, event];
        p.push(call(libc::SYS_epoll_ctl, &args));
    }

    /// The kernel adds errors to the events of whatever is registered; only an item that has had its event
    /// has none. So it gets one, if there is one to be had; if not, it is left with errors only.
    fn add_spent(&mut self, p: &mut Program, epoll: i32, item: &EpollItem) {
        const ANY: u32 =
            (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;
        self.control(p, epoll, libc::EPOLL_CTL_ADD, item, item.events | ANY);
        let (event, count) = (self.data.own(&[0; 16]), self.data.own(&[0; 8]));
        let wait = call(libc::SYS_epoll_wait, &[epoll as u64, event, 1, 0]);
        p.push(Insn { dest: count, ..wait });
        let mut unless = Insn::new(Op::Unless);
        unless.arg = [count, 0, 0, 0, 0, 0];
        unless.target = (p.len() + 2) as u64;
        p.push(unless);
        self.control(p, epoll, libc::EPOLL_CTL_MOD, item, item.events);
    }
}

fn dup(p: &mut Program, from: i32, to: i32, cloexec: bool) {
    let flags = if cloexec { libc::O_CLOEXEC as u64 } else { 0 };
    p.push(exact(libc::SYS_dup3, &[from as u64, to as u64, flags], to as u64));
}
