//! Pipes, with and without a name.

use std::collections::BTreeSet;

use super::make::reopen;
use super::slots::Model;
use crate::image::{FileKind, OpenFile, Pipe};
use crate::program::{Compiler, Program, call, exact};

/// Flags that fcntl(2) can set on an end of a pipe.
const PIPE_FLAGS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// The kernel's f_mode bits.
const MODE_READ: u32 = 1;
const MODE_WRITE: u32 = 2;

/// Bytes that fit into a pipe that is as large as pipes are made.
const PIPE_SIZE: u32 = 65536;

impl Compiler<'_> {
    /// Makes a pipe with its contents, and its ends under the given numbers.
    pub(super) fn make_pipe(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        pipe: usize,
        ends: &[(usize, i32)],
    ) {
        let Some(pipe) = self.body.objects.pipes.get(pipe) else { return };
        let name =
            ends.iter().find_map(|&(file, _)| match &self.body.objects.files.get(file)?.kind {
                FileKind::Fifo { path, .. } => Some(path),
                _ => None,
            });
        let Some(name) = name else { return self.make_unnamed_pipe(p, model, pipe, ends) };
        // With both ends open, no other end has to wait. But readers that have not had a writer yet
        // must not see one come and go.
        let maker = (!pipe.waiting).then(|| {
            let path = self.data.text(name);
            let flags = (libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) as u64;
            let fd = model.take();
            p.push(exact(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags], fd as u64));
            self.fill_pipe(p, pipe, fd);
            fd
        });
        for &(file, slot) in ends {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            self.open_end(p, model, name, open, slot);
        }
        if let Some(fd) = maker {
            self.close(p, model, fd);
        }
    }

    fn make_unnamed_pipe(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        pipe: &Pipe,
        ends: &[(usize, i32)],
    ) {
        let pair = self.data.own(&[0; 8]);
        let (read, write) = (model.take(), model.take());
        p.push(call(libc::SYS_pipe2, &[pair, libc::O_CLOEXEC as u64]));
        self.fill_pipe(p, pipe, write);
        let mut taken = BTreeSet::new();
        for &(file, slot) in ends {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let both = open.mode & (MODE_READ | MODE_WRITE) == MODE_READ | MODE_WRITE;
            let end = if open.mode & MODE_WRITE != 0 { write } else { read };
            if both || !taken.insert(end) {
                // A further description of the same end, as made by opening /proc/PID/fd/N.
                let path = format!("/proc/self/fd/{end}");
                self.open_end(p, model, path.as_bytes(), open, slot);
            } else {
                let cloexec = libc::O_CLOEXEC as u64;
                p.push(call(libc::SYS_dup3, &[end as u64, slot as u64, cloexec]));
                model.open.insert(slot);
                set_flags(p, slot, open.flags as i32 & PIPE_FLAGS);
            }
        }
        self.close(p, model, read);
        self.close(p, model, write);
    }

    /// Gives a pipe its size and its contents, by a write end.
    fn fill_pipe(&mut self, p: &mut Program, pipe: &Pipe, write: i32) {
        let least = pipe.data.len() as u32;
        let size = if pipe.size == 0 { PIPE_SIZE.max(least) } else { pipe.size };
        if size != PIPE_SIZE {
            p.push(call(
                libc::SYS_fcntl,
                &[write as u64, libc::F_SETPIPE_SZ as u64, u64::from(size)],
            ));
        }
        if pipe.data.is_empty() {
            return;
        }
        let mut at = self.data.own(&pipe.data);
        if pipe.packets.is_empty() {
            let len = pipe.data.len() as u64;
            p.push(exact(libc::SYS_write, &[write as u64, at, len], len));
            return;
        }
        set_flags(p, write, libc::O_DIRECT);
        for &packet in &pipe.packets {
            let len = u64::from(packet);
            p.push(exact(libc::SYS_write, &[write as u64, at, len], len));
            at += len;
        }
    }

    /// Opens an end of a pipe by a path, and puts it under `slot`. Nobody waits for another end.
    fn open_end(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        path: &[u8],
        open: &OpenFile,
        slot: i32,
    ) {
        let path = self.data.text(path);
        // Packet mode cannot be asked for here.
        let flags = (reopen(open.flags) & !libc::O_DIRECT | libc::O_NONBLOCK) as u64;
        let fd = model.take();
        p.push(exact(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags], fd as u64));
        self.move_to(p, model, fd, slot);
        set_flags(p, slot, open.flags as i32 & PIPE_FLAGS);
    }
}

fn set_flags(p: &mut Program, fd: i32, flags: i32) {
    p.push(call(libc::SYS_fcntl, &[fd as u64, libc::F_SETFL as u64, flags as u64]));
}
