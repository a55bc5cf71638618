//! pidfds: who opens them, and how they get to others.
//!
//! One can only be opened when its task exists, by a task that has a number for it. So what is shared cannot be
//! inherited: the slot of such a file is at first the end of a pair of sockets, out of which everybody who needs
//! the file takes a copy of the one that its maker puts in.

use std::collections::{BTreeMap, BTreeSet};

use super::epoll::Watches;
use super::slots::{Model, files_of};
use crate::image::{Body, FileKind, TaskState};
use crate::plan::Plan;
use crate::program::{Compiler, Program, call, exact};

/// Of linux/pidfd.h.
const PIDFD_THREAD: i32 = libc::O_EXCL;

/// The ways of the pidfds of an image.
#[derive(Debug, Default)]
pub(super) struct Passages {
    by_file: BTreeMap<usize, Passage>,
}

#[derive(Debug, Default)]
struct Passage {
    /// Tasks that have it, or need it to fill an epoll file.
    users: BTreeSet<usize>,
    /// Who opens it.
    maker: Option<usize>,
    /// Some of the users may have no number for the task.
    hidden: bool,
    /// The end of the sockets that the maker sends to.
    slot: Option<i32>,
}

impl Passages {
    pub(super) fn new(
        plan: &Plan,
        body: &Body,
        restorers: &[usize],
        watches: &Watches,
    ) -> Passages {
        let is_pidfd = |file: usize| {
            let file = body.objects.files.get(file);
            file.is_some_and(|file| matches!(file.kind, FileKind::PidFd { .. }))
        };
        let mut passages = Passages::default();
        let mut needs = |task, file| {
            if is_pidfd(file) {
                passages.by_file.entry(file).or_default().users.insert(task);
            }
        };
        for (task, state) in body.tasks.iter().enumerate() {
            if let TaskState::Live(live) = state
                && restorers.get(task) == Some(&task)
            {
                files_of(body, live).into_iter().for_each(|file| needs(task, file));
            }
        }
        watches.at_hand.iter().for_each(|&(task, file)| needs(task, file));
        let lives = |&task: &usize| matches!(body.tasks.get(task), Some(TaskState::Live(_)));
        let root = restorers.first().copied().filter(lives);
        for passage in passages.by_file.values_mut() {
            // The namespace of the root task has a number for everybody.
            let depth = |task: usize| plan.numbers(task).len();
            passage.hidden = passage.users.iter().any(|&user| depth(user) != depth(0));
            passage.maker = match passage.hidden {
                true => root,
                false => passage.users.first().copied(),
            };
        }
        passages
    }

    /// Whether another has to open it for its users.
    pub(super) fn hidden(&self, file: usize) -> bool {
        self.by_file.get(&file).is_some_and(|passage| passage.hidden)
    }

    /// All pidfds that somebody needs, ascending.
    pub(super) fn files(&self) -> Vec<usize> {
        self.by_file.keys().copied().collect()
    }

    /// Where its maker is to put it.
    pub(super) fn set_slot(&mut self, file: usize, slot: i32) {
        if let Some(passage) = self.by_file.get_mut(&file) {
            passage.slot = Some(slot);
        }
    }
}

impl Compiler<'_> {
    /// Opens one. The task exists, and is seen by whoever does this.
    pub(super) fn make_pidfd(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        (task, thread): (usize, bool),
        flags: i32,
    ) -> i32 {
        let fd = model.take();
        let more = if thread { PIDFD_THREAD } else { 0 };
        let nonblock = flags & libc::O_NONBLOCK;
        let open = exact(libc::SYS_pidfd_open, &[0, (nonblock | more) as u64], fd as u64);
        self.call_on_pid(p, open, 0, task, 0);
        if flags & libc::O_CLOEXEC == 0 {
            p.push(call(libc::SYS_fcntl, &[fd as u64, libc::F_SETFD as u64, 0]));
        }
        fd
    }

    /// The sockets for a pidfd that does not exist yet: one end lies where it will be.
    pub(super) fn make_passage(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        file: usize,
        end: i32,
    ) {
        let Some(start) = self.slots.passages.by_file.get(&file).and_then(|p| p.slot) else {
            return;
        };
        let (one, other) = (model.take(), model.take());
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let pair = self.data.own(&[0; 8]);
        p.push(call(libc::SYS_socketpair, &[libc::AF_UNIX as u64, kind as u64, 0, pair]));
        self.move_to(p, model, one, start);
        self.move_to(p, model, other, end);
    }

    /// Gives the shared pidfds that `task` makes to the others, then takes those that others make.
    pub(super) fn pass_pidfds(&mut self, p: &mut Program, model: &mut Model, task: usize) {
        let (mut made, mut taken) = (Vec::new(), Vec::new());
        for (&file, passage) in &self.slots.passages.by_file {
            let (Some(start), Some(end)) = (passage.slot, self.slots.file(file)) else { continue };
            if passage.maker == Some(task) {
                made.push((file, start, end));
            } else if passage.users.contains(&task) {
                taken.push((end, passage.maker.is_some()));
            }
        }
        // Nobody waits before he has given.
        for (file, start, end) in made {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let fd = self.make(p, model, open, true);
            let message = self.passed(fd);
            p.push(exact(libc::SYS_sendmsg, &[start as u64, message, 0], 1));
            self.move_to(p, model, fd, end);
        }
        for (end, comes) in taken {
            let message = self.passed(0);
            let wait = if comes { 0 } else { libc::MSG_DONTWAIT };
            // It stays there for the others.
            let flags = libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC | wait;
            p.push(exact(libc::SYS_recvmsg, &[end as u64, message, flags as u64], 1));
            let fd = model.take();
            self.move_to(p, model, fd, end);
        }
    }

    /// Address of a struct msghdr with one byte and one descriptor.
    fn passed(&mut self, fd: i32) -> u64 {
        const LENGTH: u64 = 20;
        let mut control = LENGTH.to_le_bytes().to_vec();
        for word in [libc::SOL_SOCKET, libc::SCM_RIGHTS, fd, 0] {
            control.extend(word.to_le_bytes());
        }
        let room = control.len() as u64;
        let (control, byte) = (self.data.own(&control), self.data.own(&[0]));
        let vector = self.own_words(&[byte, 1]);
        self.own_words(&[0, 0, vector, 1, control, room, 0])
    }

    fn own_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.data.own(&bytes)
    }
}
