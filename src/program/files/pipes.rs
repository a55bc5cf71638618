//! Pipes.

use std::collections::BTreeSet;

use super::make::REOPEN;
use super::slots::Model;
use crate::program::{Compiler, Program, call, exact};

/// Flags that fcntl(2) can set on an end of a pipe.
const PIPE_FLAGS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// The kernel's f_mode bits.
const MODE_READ: u32 = 1;
const MODE_WRITE: u32 = 2;

/// Bytes that fit into a pipe that is as large as pipes are made.
const PIPE_SIZE: usize = 65536;

impl Compiler<'_> {
    /// Makes a pipe with its contents, and its ends under the given numbers.
    pub(super) fn make_pipe(
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
}
