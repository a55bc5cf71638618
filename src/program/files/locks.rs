//! Locks on files, and who gets signals about them.

use crate::image::{FileLock, FileOwner, LockKind, OpenFile};
use crate::program::insn::{Insn, Op};
use crate::program::{Compiler, Program, call};

/// Of linux/fcntl.h.
const F_SETOWN_EX: u64 = 15;
const F_SETSIG: u64 = 10;

/// Flags that F_SETFL sets, all at once.
const SETTABLE: i32 =
    libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME | libc::O_ASYNC;

impl Compiler<'_> {
    pub(super) fn lock(&mut self, p: &mut Program, fd: i32, lock: &FileLock) {
        let (whole, kind) = match lock.exclusive {
            true => (libc::LOCK_EX, libc::F_WRLCK),
            false => (libc::LOCK_SH, libc::F_RDLCK),
        };
        let command = match lock.kind {
            LockKind::Whole => {
                let how = whole | libc::LOCK_NB;
                return p.push(call(libc::SYS_flock, &[fd as u64, how as u64]));
            }
            LockKind::Description => libc::F_OFD_SETLK,
            LockKind::Process => libc::F_SETLK,
        };
        // struct flock: type and whence (16 bits each), start, length, pid.
        let range = self.data.words(&[kind as u64, lock.start, lock.length, 0]);
        p.push(call(libc::SYS_fcntl, &[fd as u64, command as u64, range]));
    }

    /// Who gets signals about a file. All tasks are there, and nothing is done to the file any more that a
    /// signal would tell of.
    pub(super) fn signals_of(&mut self, p: &mut Program, fd: i32, file: &OpenFile) {
        if let Some(FileOwner { who, signal }) = file.owner {
            if let Some((kind, task)) = who.map(|who| who.parts()) {
                let owner = self.data.own(&(kind as u64).to_le_bytes());
                // The second argument of the store is the pid.
                p.push(self.copy_pid(task, std::mem::offset_of!(Insn, arg) + 8));
                let arg = [owner + 4, 0, 0, 0, 0, 0];
                p.push(Insn { arg, ..Insn::new(Op::Store) });
                p.push(call(libc::SYS_fcntl, &[fd as u64, F_SETOWN_EX, owner]));
            }
            if signal != 0 {
                p.push(call(libc::SYS_fcntl, &[fd as u64, F_SETSIG, signal as u64]));
            }
        }
        let path = file.flags as i32 & libc::O_PATH != 0;
        if file.flags as i32 & libc::O_ASYNC != 0 && !path {
            let flags = file.flags as i32 & SETTABLE;
            p.push(call(libc::SYS_fcntl, &[fd as u64, libc::F_SETFL as u64, flags as u64]));
        }
    }
}
