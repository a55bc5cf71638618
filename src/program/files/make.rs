//! Making open files, one by one or in groups, and shared memory.

use super::slots::{Group, Model};
use crate::image::{FileKind, OpenFile};
use crate::program::{Compiler, Program, call, exact};

/// Flags of open(2) that are given again when a file is opened again.
const REOPEN: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_NOATIME
    | libc::O_SYNC
    | libc::O_DIRECTORY
    | libc::O_PATH;
/// The part of O_TMPFILE that is not O_DIRECTORY; an open file keeps both.
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Flags to open a file again that has these.
pub(super) fn reopen(flags: u32) -> i32 {
    let flags = flags as i32;
    let made = if flags & TMPFILE != 0 { libc::O_DIRECTORY } else { 0 };
    flags & REOPEN & !made | libc::O_NOCTTY
}

impl Compiler<'_> {
    /// Makes an open file that belongs to no group; the descriptor that it has then.
    pub(in crate::program) fn make(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        file: &OpenFile,
        cloexec: bool,
    ) -> i32 {
        // All calls that make files take these two under the same numbers.
        let mut flags = file.flags as i32 & libc::O_NONBLOCK;
        flags |= if cloexec { libc::O_CLOEXEC } else { 0 };
        match &file.kind {
            FileKind::Named { path } => self.open_named(p, model, file, path, cloexec),
            FileKind::EventFd { count, semaphore } => {
                self.make_event_fd(p, model, flags, *count, *semaphore)
            }
            FileKind::TimerFd(timer) => self.make_timer_fd(p, model, flags, timer),
            FileKind::Epoll { .. } => {
                let fd = model.take();
                let cloexec = if cloexec { libc::EPOLL_CLOEXEC as u64 } else { 0 };
                p.push(exact(libc::SYS_epoll_create1, &[cloexec], fd as u64));
                if flags & libc::O_NONBLOCK != 0 {
                    let args = [fd as u64, libc::F_SETFL as u64, libc::O_NONBLOCK as u64];
                    p.push(call(libc::SYS_fcntl, &args));
                }
                fd
            }
            FileKind::Inotify { .. } => {
                let fd = model.take();
                p.push(exact(libc::SYS_inotify_init1, &[flags as u64], fd as u64));
                fd
            }
            FileKind::PidFd { task, thread } => self.make_pidfd(p, model, (*task, *thread), flags),
            FileKind::SignalFd { mask } => self.make_signal_fd(p, model, flags, *mask),
            FileKind::Pipe { .. }
            | FileKind::Fifo { .. }
            | FileKind::Unnamed { .. }
            | FileKind::Tty { .. }
            | FileKind::Socket { .. } => -1,
        }
    }

    /// Makes the files of a group, under the given numbers.
    pub(super) fn make_group(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        group: Group,
        files: &[(usize, i32)],
    ) {
        match group {
            Group::Pipe(pipe) => self.make_pipe(p, model, pipe, files),
            Group::Unnamed(inode) => self.make_unnamed(p, model, inode, files),
            Group::Pty(pty) => self.make_pty(p, model, pty, files),
            Group::Sockets => self.make_sockets(p, model, files),
        }
    }

    /// Opens a file by its path; the descriptor that it has then.
    fn open_named(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        file: &OpenFile,
        path: &[u8],
        cloexec: bool,
    ) -> i32 {
        let mut flags = reopen(file.flags);
        // A path with links in it may have led to the file, but this one has none; only with O_PATH its end may
        // be one. What cannot send signals keeps O_ASYNC too.
        flags |= file.flags as i32 & (libc::O_NOFOLLOW | libc::O_ASYNC);
        if cloexec {
            flags |= libc::O_CLOEXEC;
        }
        let path = self.data.text(path);
        let fd = model.take();
        p.push(exact(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags as u64], fd as u64));
        self.seek(p, fd, file.pos);
        fd
    }

    /// Gives a file that was just opened its position.
    pub(super) fn seek(&self, p: &mut Program, fd: i32, pos: u64) {
        if pos != 0 {
            p.push(exact(libc::SYS_lseek, &[fd as u64, pos, libc::SEEK_SET as u64], pos));
        }
    }

    /// Gives a descriptor another number.
    pub(super) fn move_to(&mut self, p: &mut Program, model: &mut Model, from: i32, to: i32) {
        p.push(call(libc::SYS_dup3, &[from as u64, to as u64, libc::O_CLOEXEC as u64]));
        model.open.insert(to);
        self.close(p, model, from);
    }

    pub(in crate::program) fn close(&mut self, p: &mut Program, model: &mut Model, fd: i32) {
        p.push(call(libc::SYS_close, &[fd as u64]));
        model.open.remove(&fd);
    }

    /// Makes shared anonymous memory, with its contents.
    pub(super) fn make_shms(&mut self, p: &mut Program, model: &mut Model) {
        for (index, shm) in self.body.objects.shms.iter().enumerate() {
            let Some(slot) = self.slots.shm(index) else { continue };
            let name = self.data.text(b"usercr-shm");
            let fd = model.take();
            let cloexec = u64::from(libc::MFD_CLOEXEC);
            p.push(exact(libc::SYS_memfd_create, &[name, cloexec], fd as u64));
            p.push(call(libc::SYS_ftruncate, &[fd as u64, shm.size]));
            for run in &shm.pages {
                // Its size may end inside the last page; no page is left out in part.
                self.copy_pages(p, fd, run, u64::MAX);
            }
            self.move_to(p, model, fd, slot);
        }
    }
}
