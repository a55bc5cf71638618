//! What inotify files watch. It is added when no file is opened, read or closed any more by the restart, as all
//! of that would be events.

use crate::image::{FileKind, Live, TaskState, Watch};
use crate::program::insn::{Insn, Op, Stage};
use crate::program::{Compiler, Program, arrive, call, exact, wait_for, wake};

/// What can be watched in the place of something else: files of /proc are never saved as watched.
const DUMMY: &[u8] = b"/proc/self/stat";
/// Bytes of an event that has no name.
const EVENT: u64 = 16;

impl Compiler<'_> {
    /// Adds the watches of the files that `task` is the first to have. `others`: there may be other tasks that
    /// still close files.
    pub(in crate::program) fn watch_paths(
        &mut self,
        p: &mut Program,
        task: usize,
        live: &Live,
        others: bool,
    ) {
        let body = self.body;
        let is = |file: usize| match body.objects.files.get(file) {
            Some(open) => matches!(open.kind, FileKind::Inotify { .. }),
            None => false,
        };
        if !(0..body.objects.files.len()).any(is) {
            return;
        }
        let closed = self.facts.layout.arrived(Stage::Closed);
        if others {
            // Whoever waits looks at the count itself.
            arrive(p, &self.facts.layout, Stage::Closed, 0, &[]);
            p.push(wake(closed));
        }
        let Some(table) = body.objects.file_tables.get(live.files) else { return };
        let own: Vec<(i32, usize)> =
            self.slots.kept(task, table).into_iter().filter(|&(_, file)| is(file)).collect();
        if own.is_empty() {
            return;
        }
        if others {
            let lives = |task: usize| matches!(body.tasks.get(task), Some(TaskState::Live(_)));
            let all = (0..body.tasks.len()).filter(|&t| lives(t) && self.restorer(t) == t).count();
            p.push(wait_for(closed, all as u64));
        }
        for (fd, file) in own {
            let Some(open) = body.objects.files.get(file) else { continue };
            if let FileKind::Inotify { watches } = &open.kind {
                self.add_watches(p, fd, watches);
            }
            // After all that was there to be read in between.
            self.signals_of(p, fd, open);
        }
    }

    /// The kernel numbers watches in the order in which they are added. At first none tells of anything but the
    /// end of the one before it.
    fn add_watches(&mut self, p: &mut Program, fd: i32, watches: &[Watch]) {
        let mut next = 1;
        for watch in watches {
            self.skip_numbers(p, fd, watch.wd.saturating_sub(next));
            self.add_watch(p, fd, watch, libc::IN_EXCL_UNLINK);
            next = watch.wd.saturating_add(1);
        }
        for watch in watches {
            self.add_watch(p, fd, watch, watch.mask);
        }
    }

    fn add_watch(&mut self, p: &mut Program, fd: i32, watch: &Watch, mask: u32) {
        let path = self.data.text(&watch.path);
        let args = [fd as u64, path, u64::from(mask | libc::IN_DONT_FOLLOW)];
        p.push(exact(libc::SYS_inotify_add_watch, &args, watch.wd as u64));
    }

    /// Watches that are removed again, one after the other; the kernel tells of each removal.
    fn skip_numbers(&mut self, p: &mut Program, fd: i32, count: i32) {
        if count <= 0 {
            return;
        }
        let dummy = self.data.text(DUMMY);
        let (number, counter) = (self.data.own(&[0; 8]), self.data.own(&[0; 8]));
        let event = self.data.own(&[0; EVENT as usize]);
        let start = p.len() as u64;
        let mask = u64::from(libc::IN_EXCL_UNLINK);
        let add = call(libc::SYS_inotify_add_watch, &[fd as u64, dummy, mask]);
        p.push(Insn { dest: number, ..add });
        let second = std::mem::offset_of!(Insn, arg) + 8;
        p.push(Insn { arg: [second as u64, number, 0, 0, 0, 0], ..Insn::new(Op::Copy) });
        p.push(call(libc::SYS_inotify_rm_watch, &[fd as u64, 0]));
        p.push(exact(libc::SYS_read, &[fd as u64, event, EVENT], EVENT));
        let again = Insn { expect: count as u64, target: start, ..Insn::new(Op::Arrive) };
        p.push(Insn { arg: [counter, 0, 0, 0, 0, 0], ..again });
    }
}
