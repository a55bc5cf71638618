//! Regular files that no path leads to: deleted ones and memfds, made anew with their contents.

use super::make::reopen;
use super::slots::Model;
use crate::image::{Inode, Origin, PAGE, PageRun};
use crate::program::insn::{Insn, Op};
use crate::program::memory::READ_MAX;
use crate::program::{Compiler, Program, attempt, call, exact};

/// Permissions while a file is being made.
const MODE: u64 = 0o600;

/// The seals that must wait until all is mapped: a mapping that was there before may write.
fn late_seals(seals: u32) -> u32 {
    let (write, future) = (libc::F_SEAL_WRITE as u32, libc::F_SEAL_FUTURE_WRITE as u32);
    if seals & (write | future) == future { seals } else { 0 }
}

/// Whether seals are set when all is mapped.
pub(super) fn seals_late(inode: &Inode) -> bool {
    matches!(inode.origin, Origin::Memfd { seals, .. } if late_seals(seals) != 0)
}

impl Compiler<'_> {
    /// Makes a file without a name, and opens it under the given numbers.
    pub(super) fn make_unnamed(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        index: usize,
        files: &[(usize, i32)],
    ) {
        let Some(inode) = self.body.objects.inodes.get(index) else { return };
        let fd = model.take();
        let mut seals = 0;
        match &inode.origin {
            Origin::Deleted { path } => self.create_nameless(p, index, path, fd),
            Origin::Memfd { name, seals: all } => {
                seals = *all;
                let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
                let name = self.data.text(name);
                p.push(exact(libc::SYS_memfd_create, &[name, flags], fd as u64));
            }
        }
        p.push(call(libc::SYS_ftruncate, &[fd as u64, inode.size]));
        for run in &inode.pages {
            self.copy_pages(p, fd, run, inode.size);
        }
        for &(file, slot) in files {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let path = self.data.text(format!("/proc/self/fd/{fd}").as_bytes());
            let flags = (reopen(open.flags) & !libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
            let opened = model.take();
            let args = [libc::AT_FDCWD as u64, path, flags];
            p.push(exact(libc::SYS_openat, &args, opened as u64));
            self.seek(p, opened, open.pos);
            self.move_to(p, model, opened, slot);
        }
        // Only now: nobody may be kept from opening it above.
        let (uid, gid) = (inode.uid.into(), inode.gid.into());
        p.push(call(libc::SYS_fchown, &[fd as u64, uid, gid]));
        p.push(call(libc::SYS_fchmod, &[fd as u64, inode.mode.into()]));
        let times = inode.times.map(|time| {
            let second = 1_000_000_000;
            [time.div_euclid(second), time.rem_euclid(second)].map(i64::cast_unsigned)
        });
        let times = self.data.words(times.as_flattened());
        p.push(call(libc::SYS_utimensat, &[fd as u64, 0, times, 0]));
        if let Some(slot) = self.slots.sealer(index) {
            self.move_to(p, model, fd, slot);
            return;
        }
        if matches!(inode.origin, Origin::Memfd { .. }) {
            add_seals(p, fd, seals);
        }
        self.close(p, model, fd);
    }

    /// Sets the seals that had to wait.
    pub(in crate::program) fn seal(&self, p: &mut Program) {
        for (index, inode) in self.body.objects.inodes.iter().enumerate() {
            if let (Some(slot), Origin::Memfd { seals, .. }) =
                (self.slots.sealer(index), &inode.origin)
            {
                add_seals(p, slot, *seals);
            }
        }
    }

    /// Makes a file in the directory of `path` that has no name there, as descriptor `fd`.
    fn create_nameless(&mut self, p: &mut Program, index: usize, path: &[u8], fd: i32) {
        let end = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let directory = path.get(..end).unwrap_or(b"/");
        let at = libc::AT_FDCWD as u64;
        let flags = (libc::O_RDWR | libc::O_CLOEXEC) as u64;
        let (text, result) = (self.data.text(directory), self.data.own(&[0; 8]));
        let nameless = flags | libc::O_TMPFILE as u64;
        let open = attempt(libc::SYS_openat, &[at, text, nameless, MODE]);
        p.push(Insn { dest: result, ..open });
        // Where the file system cannot do that, the file has a name for a moment in which no signal
        // ends the task.
        let target = p.len() as u64 + 2;
        let arg = [result, 0, 0, 0, 0, 0];
        p.push(Insn { arg, expect: fd as u64, target, ..Insn::new(Op::Unless) });
        let target = target + 4;
        p.push(Insn { target, ..Insn::new(Op::Goto) });
        let unique = format!(".usercr-{}-{:x}-{index}", self.facts.caller, self.facts.region.0);
        let name = self.data.text(&[directory, unique.as_bytes()].concat());
        let (all, old) = (self.data.words(&[!0]), self.data.own(&[0; 8]));
        let create = flags | (libc::O_CREAT | libc::O_EXCL) as u64;
        let set = libc::SIG_SETMASK as u64;
        p.push(call(libc::SYS_rt_sigprocmask, &[set, all, old, 8]));
        p.push(exact(libc::SYS_openat, &[at, name, create, MODE], fd as u64));
        p.push(call(libc::SYS_unlinkat, &[at, name, 0]));
        p.push(call(libc::SYS_rt_sigprocmask, &[set, old, 0, 8]));
    }

    /// Copies pages of the image to a file of `size` bytes; what lies behind its end is left out.
    pub(super) fn copy_pages(&mut self, p: &mut Program, fd: i32, run: &PageRun, size: u64) {
        let total = (run.count * PAGE).min(size.saturating_sub(run.address));
        let mut done = 0;
        while done < total {
            let (to, len) = (run.address + done, (total - done).min(READ_MAX));
            let from = self.facts.image.1 + run.offset + done;
            p.push(exact(libc::SYS_lseek, &[fd as u64, to, libc::SEEK_SET as u64], to));
            let from = self.data.own(&from.to_le_bytes());
            let copy = [fd as u64, self.slots.image() as u64, from, len];
            p.push(exact(libc::SYS_sendfile, &copy, len));
            done += len;
        }
    }
}

fn add_seals(p: &mut Program, fd: i32, seals: u32) {
    // A new memfd that may be sealed has none.
    if seals != 0 {
        p.push(call(libc::SYS_fcntl, &[fd as u64, libc::F_ADD_SEALS as u64, seals.into()]));
    }
}
