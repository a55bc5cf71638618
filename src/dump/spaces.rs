//! uts and ipc namespaces: which tasks are in which, and what each has for itself.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::facts::Facts;
use crate::error::{DumpError, SysError};
use crate::image::{Ipc, Namespaces, Uts};
use crate::sys::{inspect, procfs, space};

/// What an ipc namespace has for itself.
#[derive(Debug)]
pub(super) struct Found {
    /// As an image has it.
    pub ipc: Ipc,
    /// Ids of the System V shared memory in it.
    segments: Vec<i32>,
}

/// Namespaces that were found so far.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    /// uts namespaces.
    pub uts: Vec<Uts>,
    /// ipc namespaces.
    pub ipcs: Vec<Found>,
    /// By inode number; None is that of the restart.
    uts_index: HashMap<u64, Option<usize>>,
    ipc_index: HashMap<u64, Option<usize>>,
}

impl Spaces {
    /// The namespaces of a task. Those that the first task has in common with the checkpointer are the
    /// machine's: a restarted tree has those of its restarter instead.
    pub fn of(&mut self, facts: &Facts) -> Result<Namespaces, DumpError> {
        let (uts, ipc) = facts.uts_and_ipc();
        Ok(Namespaces {
            uts: find(&mut self.uts_index, &mut self.uts, facts, ("uts", uts), read_uts)?,
            ipc: find(&mut self.ipc_index, &mut self.ipcs, facts, ("ipc", ipc), read_ipc)?,
        })
    }

    /// Refuses namespaces with System V shared memory that no task has attached: it would go with them. `all`
    /// are the tasks, `attached` says of a namespace and an id whether some task has.
    pub fn finish(
        &self,
        all: &[Facts],
        attached: impl Fn(u64, i32) -> bool,
    ) -> Result<(), DumpError> {
        for (&inode, &index) in &self.ipc_index {
            let Some(found) = index.and_then(|index| self.ipcs.get(index)) else { continue };
            let Some(&id) = found.segments.iter().find(|&&id| !attached(inode, id)) else {
                continue;
            };
            let mut tasks = all.iter().filter(|facts| !facts.zombie);
            if let Some(facts) = tasks.find(|facts| facts.uts_and_ipc().1 == inode) {
                let reason = format!("System V segment {id} is in it, which no task has attached");
                return Err(facts.refuse("ipc namespace", reason));
            }
        }
        Ok(())
    }
}

fn find<T: Send>(
    index: &mut HashMap<u64, Option<usize>>,
    table: &mut Vec<T>,
    facts: &Facts,
    (kind, inode): (&'static str, u64),
    read: fn() -> io::Result<Result<T, &'static str>>,
) -> Result<Option<usize>, DumpError> {
    if let Some(&known) = index.get(&inode) {
        return Ok(known);
    }
    let own = format!("/proc/self/ns/{kind}");
    // A kernel without this kind of namespace has only one of it, with the number 0.
    let same =
        inode == 0 || std::fs::metadata(&own).map_err(|e| SysError::new(own, e))?.ino() == inode;
    if index.is_empty() && same {
        index.insert(inode, None);
        return Ok(None);
    }
    let path = facts.path(&format!("ns/{kind}"));
    let failed = DumpError::task(facts.tid, format!("look into its {kind} namespace"));
    let found = File::open(path).and_then(|namespace| space::inside(&namespace, read));
    let found = found.map_err(failed)?;
    table.push(found.map_err(|reason| facts.refuse(format!("{kind} namespace"), reason))?);
    let new = Some(table.len() - 1);
    index.insert(inode, new);
    Ok(new)
}

fn read_uts() -> io::Result<Result<Uts, &'static str>> {
    let [node, domain] = inspect::host_names()?;
    Ok(Ok(Uts { node, domain }))
}

fn read_ipc() -> io::Result<Result<Found, &'static str>> {
    for kind in ["msg", "sem"] {
        if !ids(kind)?.is_empty() {
            return Ok(Err(
                "there are semaphores or message queues of System V in it, which cannot be saved",
            ));
        }
    }
    let segments = ids("shm")?;
    let mut ipc = Ipc::default();
    for (limit, name) in ipc.shm.iter_mut().zip(["shmmax", "shmall"]) {
        *limit = sysctl(name)?.first().copied().ok_or(io::ErrorKind::InvalidData)?;
    }
    let mut others = Vec::new();
    for name in ["shmmni", "msgmax", "msgmnb", "msgmni", "sem"] {
        others.extend(sysctl(name)?);
    }
    if others.len() != ipc.others.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for (limit, number) in ipc.others.iter_mut().zip(others) {
        *limit = i32::try_from(number).unwrap_or(i32::MAX);
    }
    Ok(Ok(Found { ipc, segments }))
}

/// Ids of the System V objects in the calling thread's namespace.
fn ids(kind: &str) -> io::Result<Vec<i32>> {
    let list = procfs::read(&format!("/proc/sysvipc/{kind}"))?;
    let text = String::from_utf8_lossy(&list);
    // One line of titles, and one for each: key, id, ...
    let ids = text.lines().skip(1).map(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    ids.collect::<Option<_>>().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The numbers of a setting below kernel, as the calling thread's namespace has it.
fn sysctl(name: &str) -> io::Result<Vec<u64>> {
    let data = procfs::read(&format!("/proc/sys/kernel/{name}"))?;
    let text = String::from_utf8_lossy(&data);
    let numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
    numbers.collect::<Option<_>>().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
