//! Pseudo terminals, and the sessions that they control.

use super::slots::Model;
use crate::image::{FileKind, Pty, Terminal, Termios, Typing, Waiting};
use crate::program::insn::{Insn, Op};
use crate::program::{Compiler, Program, attempt, call, exact};

/// Requests of ioctl_tty(2).
const TCSETS2: u64 = 0x402c_542b;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCGPTPEER: u64 = 0x5441;
const TIOCPKT: u64 = 0x5420;
const TIOCEXCL: u64 = 0x540c;
const TIOCSCTTY: u64 = 0x540e;
const TIOCSPGRP: u64 = 0x5410;
const TIOCSWINSZ: u64 = 0x5414;

/// To get a number in /dev/pts all lower ones must be taken for a moment: at most so many.
const FILLERS_MOST: usize = 256;

/// So many keys of a pair are written at once: when they are in the terminal, their echo has room in front of the master.
const KEYS: usize = 4096;

/// Flags that fcntl(2) can set.
const FLAGS: i32 = libc::O_APPEND | libc::O_NONBLOCK;

/// O_LARGEFILE as the kernel has it; the C library's is 0. What is opened by its path always has it.
const LARGEFILE: i32 = 0o100_000;

fn ioctl(fd: i32, request: u64, argument: u64) -> Insn {
    call(libc::SYS_ioctl, &[fd as u64, request, argument])
}

impl Compiler<'_> {
    /// Makes a pair, with its ends under the given numbers.
    pub(super) fn make_pty(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        index: usize,
        files: &[(usize, i32)],
    ) {
        let Some(pty) = self.body.objects.ptys.get(index) else { return };
        let given = self.slots.given_terminal().filter(|_| pty.outside.is_some());
        let (off, on) = (self.data.constant(&[0; 4]), self.data.constant(&[1, 0, 0, 0]));
        let master = given.unwrap_or_else(|| {
            let fillers = self.take_lower(p, model, index, pty);
            let master = self.open_ptmx(p, model);
            for filler in fillers {
                self.close(p, model, filler);
            }
            p.push(ioctl(master, TIOCSPTLCK, off));
            master
        });
        let slave = self.open_slave(p, model, master, libc::O_RDWR);
        if !pty.outside.is_some_and(|outside| outside.is_lent()) {
            self.put_waiting(p, master, slave, pty);
            self.set_line(p, slave, pty);
        }
        if let Some(slot) = self.slots.terminal(index) {
            p.push(call(libc::SYS_dup3, &[slave as u64, slot as u64, libc::O_CLOEXEC as u64]));
            model.open.insert(slot);
        }
        for &(file, slot) in files {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let flags = (open.flags as i32 & FLAGS) as u64;
            if matches!(open.kind, FileKind::Tty { master: true, .. }) {
                let args = [master as u64, slot as u64, libc::O_CLOEXEC as u64];
                p.push(call(libc::SYS_dup3, &args));
                model.open.insert(slot);
            } else {
                let access = open.flags as i32 & (libc::O_ACCMODE | LARGEFILE);
                let fd = self.open_slave(p, model, master, access);
                self.move_to(p, model, fd, slot);
            }
            p.push(call(libc::SYS_fcntl, &[slot as u64, libc::F_SETFL as u64, flags]));
        }
        if pty.packet {
            p.push(ioctl(master, TIOCPKT, on));
        }
        if pty.exclusive {
            p.push(ioctl(slave, TIOCEXCL, 0));
        }
        if pty.locked {
            p.push(ioctl(master, TIOCSPTLCK, on));
        }
        self.close(p, model, slave);
        if given.is_none() {
            self.close(p, model, master);
        }
    }

    /// The kernel gives the lowest number: takes those that are free below the wanted one.
    fn take_lower(
        &mut self,
        p: &mut Program,
        model: &mut Model,
        index: usize,
        pty: &Pty,
    ) -> Vec<i32> {
        let made = self.body.objects.ptys.get(..index).unwrap_or_default();
        let taken = |n: u32| self.facts.ptys.contains(&n) || made.iter().any(|m| m.index == n);
        if taken(pty.index) {
            return Vec::new();
        }
        let free = (0..pty.index).filter(|&n| !taken(n)).take(FILLERS_MOST + 1).count();
        if free > FILLERS_MOST {
            return Vec::new();
        }
        (0..free).map(|_| self.open_ptmx(p, model)).collect()
    }

    fn open_ptmx(&mut self, p: &mut Program, model: &mut Model) -> i32 {
        let path = self.data.text(b"/dev/ptmx");
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let fd = model.take();
        let args = [libc::AT_FDCWD as u64, path, flags as u64];
        p.push(exact(libc::SYS_openat, &args, fd as u64));
        fd
    }

    /// Opens the slave by its master (Linux 4.13), which needs no name. Without O_CLOEXEC: here it would stay with the open
    /// file, and the next checkpoint would see it at each descriptor.
    fn open_slave(&mut self, p: &mut Program, model: &mut Model, master: i32, access: i32) -> i32 {
        let flags = access | libc::O_NOCTTY;
        let fd = model.take();
        let args = [master as u64, TIOCGPTPEER, flags as u64];
        p.push(exact(libc::SYS_ioctl, &args, fd as u64));
        fd
    }

    /// Types and prints what waits in the pair. Nobody reads: there is room for so much.
    fn put_waiting(&mut self, p: &mut Program, master: i32, slave: i32, pty: &Pty) {
        let Waiting { input, ends, output } = &pty.waiting;
        if pty.waiting.is_empty() {
            return;
        }
        let typing = Typing::new(pty);
        self.set_termios(p, slave, typing.settings());
        let keys: Vec<u8> = typing.keys(input, ends).collect();
        for some in keys.chunks(KEYS) {
            let at = self.data.constant(some);
            let args = [master as u64, at, some.len() as u64];
            p.push(exact(libc::SYS_write, &args, some.len() as u64));
        }
        // The kernel takes them in with the settings that there are when it does: they are kept until all have come back.
        let echo = self.data.own(&[0; 8]);
        for _ in 0..typing.echoes(input, ends) {
            p.push(exact(libc::SYS_read, &[master as u64, echo, 1], 1));
        }
        if !output.is_empty() {
            let at = self.data.constant(output);
            let args = [slave as u64, at, output.len() as u64];
            p.push(exact(libc::SYS_write, &args, output.len() as u64));
        }
    }

    fn set_line(&mut self, p: &mut Program, slave: i32, pty: &Pty) {
        let window: Vec<u8> = pty.window.iter().flat_map(|size| size.to_le_bytes()).collect();
        let window = self.data.constant(&window);
        self.set_termios(p, slave, &pty.termios());
        p.push(ioctl(slave, TIOCSWINSZ, window));
    }

    fn set_termios(&mut self, p: &mut Program, slave: i32, termios: &Termios) {
        let words: Vec<u8> = termios.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = self.data.constant(&words);
        p.push(ioctl(slave, TCSETS2, at));
    }

    /// The controlling terminal of the session that this task leads.
    fn terminal(&self, task: usize) -> Option<(i32, Terminal)> {
        let live = self.state(task)?;
        let terminal = self.body.objects.signals.get(live.signal)?.terminal?;
        if self.plan.session_leader(task) != Some(task) {
            return None;
        }
        Some((self.slots.terminal(terminal.pty)?, terminal))
    }

    /// A session leader takes its terminal before it forks: others of the session have it from birth.
    pub(in crate::program) fn take_terminal(&mut self, p: &mut Program, task: usize) {
        if let Some((slot, _)) = self.terminal(task) {
            p.push(ioctl(slot, TIOCSCTTY, 0));
        }
    }

    /// Names the foreground process group, when all groups are there.
    pub(in crate::program) fn set_foreground(&mut self, p: &mut Program, task: usize) {
        let Some((slot, terminal)) = self.terminal(task) else { return };
        let mut rows = self.head.tasks.iter();
        let member =
            rows.position(|row| terminal.foreground != 0 && row.pgid == terminal.foreground);
        let Some(leader) = member.and_then(|member| self.plan.group_leader(member)) else { return };
        let word = match self.known_pid(leader, task) {
            Some(pid) => self.data.words(&[pid]),
            None => {
                let word = self.data.own(&[0; 8]);
                // The second argument of the store is the pid.
                p.push(self.copy_pid(leader, std::mem::offset_of!(Insn, arg) + 8));
                p.push(Insn { arg: [word, 0, 0, 0, 0, 0], ..Insn::new(Op::Store) });
                word
            }
        };
        // The group may have ended, as one of zombies has.
        let args = [slot as u64, TIOCSPGRP, word];
        p.push(attempt(libc::SYS_ioctl, &args));
    }
}
