//! uts and ipc namespaces: the first task that is in one makes it, and all others are born in it.

use super::{Compiler, Program, call, exact, restorers};
use crate::image::{Body, Ipc, Namespaces, TaskState, Uts};
use crate::plan::{Flags, Plan};

/// A task that could not be brought to be in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misplaced {
    /// Its index.
    pub task: usize,
    /// "uts" or "ipc".
    pub kind: &'static str,
}

/// The tasks that leave the namespaces they are born in, each with those that it makes.
///
/// # Errors
/// The first task whose namespace is neither that of the task that forks it nor new with it.
pub fn makers(plan: &Plan, body: &Body) -> Result<Vec<(usize, Namespaces)>, Misplaced> {
    let restorers = restorers(plan, body);
    let place = |task: usize| {
        let restorer = restorers.get(task).copied().unwrap_or(task);
        match body.tasks.get(restorer) {
            Some(TaskState::Live(live)) => Some(live.namespaces),
            _ => None,
        }
    };
    let creator = |task: usize| plan.tasks.get(task)?.creator;
    let mut makers = Vec::new();
    let (mut uts, mut ipc) =
        (vec![false; body.objects.uts.len()], vec![false; body.objects.ipcs.len()]);
    for (task, row) in plan.tasks.iter().enumerate() {
        let Some(TaskState::Live(live)) = body.tasks.get(task) else { continue };
        if row.flags.has(Flags::THREAD) {
            let group = place(task).unwrap_or(live.namespaces);
            check(task, live.namespaces, group)?;
            continue;
        }
        // Tasks that are not in the image stay where they are born.
        let mut from = creator(task);
        let born = loop {
            match from {
                None => break Namespaces::default(),
                Some(forker) => match place(forker) {
                    Some(namespaces) => break namespaces,
                    None => from = creator(forker),
                },
            }
        };
        let own = live.namespaces;
        let made = Namespaces {
            uts: fresh(own.uts, born.uts, &mut uts).ok_or(Misplaced { task, kind: "uts" })?,
            ipc: fresh(own.ipc, born.ipc, &mut ipc).ok_or(Misplaced { task, kind: "ipc" })?,
        };
        if made != Namespaces::default() {
            makers.push((task, made));
        }
    }
    Ok(makers)
}

/// A thread is where its group is.
fn check(task: usize, thread: Namespaces, group: Namespaces) -> Result<(), Misplaced> {
    if thread == group {
        return Ok(());
    }
    Err(Misplaced { task, kind: if thread.uts == group.uts { "ipc" } else { "uts" } })
}

/// The namespace that a task must make, if any; None where it has been made by another.
fn fresh(own: Option<usize>, born: Option<usize>, made: &mut [bool]) -> Option<Option<usize>> {
    if own == born {
        return Some(None);
    }
    let first = made.get_mut(own?)?;
    (!std::mem::replace(first, true)).then_some(own)
}

impl Compiler<'_> {
    /// Makes the namespaces that this task is the first to be in.
    pub(super) fn make_spaces(&mut self, p: &mut Program, task: usize) {
        // Where they cannot be made so, the restart was refused before.
        let Ok(makers) = &self.makers else { return };
        let Some(&(_, made)) = makers.iter().find(|(maker, _)| *maker == task) else { return };
        // One with System V shared memory has been made.
        let there = made.ipc.and_then(|ipc| self.slots.ipc(ipc));
        let new = made.ipc.filter(|_| there.is_none());
        let flags = [(made.uts, libc::CLONE_NEWUTS), (new, libc::CLONE_NEWIPC)];
        let flags = flags.iter().filter(|(made, _)| made.is_some()).fold(0, |all, (_, f)| all | f);
        if flags != 0 {
            p.push(call(libc::SYS_unshare, &[flags as u64]));
        }
        if let Some(slot) = there {
            p.push(call(libc::SYS_setns, &[slot as u64, libc::CLONE_NEWIPC as u64]));
        }
        let objects = &self.body.objects;
        if let Some(uts) = made.uts.and_then(|index| objects.uts.get(index)) {
            self.name_host(p, uts);
        }
        if let Some(ipc) = made.ipc.and_then(|index| objects.ipcs.get(index)) {
            self.limit_ipc(p, ipc);
        }
    }

    fn name_host(&mut self, p: &mut Program, uts: &Uts) {
        let calls = [(libc::SYS_sethostname, &uts.node), (libc::SYS_setdomainname, &uts.domain)];
        for (number, name) in calls {
            let at = self.data.text(name);
            p.push(exact(number, &[at, name.len() as u64], 0));
        }
    }

    /// Sets the limits that a new namespace does not have anyway: /proc/sys may not be writable.
    fn limit_ipc(&mut self, p: &mut Program, ipc: &Ipc) {
        let new = Ipc::default();
        let names = ["shmmax", "shmall"];
        for ((name, limit), now) in names.iter().zip(ipc.shm).zip(new.shm) {
            if limit != now {
                self.limit(p, name, limit.to_string());
            }
        }
        let (single, sem) = ipc.others.split_at(4);
        let names = ["shmmni", "msgmax", "msgmnb", "msgmni"];
        for ((name, limit), now) in names.iter().zip(single).zip(new.others) {
            if *limit != now {
                self.limit(p, name, limit.to_string());
            }
        }
        if !new.others.ends_with(sem) {
            let numbers: Vec<String> = sem.iter().map(i32::to_string).collect();
            self.limit(p, "sem", numbers.join(" "));
        }
    }

    fn limit(&mut self, p: &mut Program, name: &str, value: String) {
        self.write_proc(p, format!("/proc/sys/kernel/{name}").as_bytes(), value);
    }
}
