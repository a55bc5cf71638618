//! What /proc tells about each task without touching it, and what of it cannot be saved.

use std::os::unix::fs::MetadataExt;

use super::parallel;
use super::stop::{Place, Tree};
use crate::error::{DumpError, SysError};
use crate::sys::procfs::{self, Stat, Status};

/// Namespaces that all tasks of a tree must have in common.
const NAMESPACES: [&str; 7] = ["mnt", "user", "net", "uts", "ipc", "cgroup", "time"];

/// Those that a task may have for itself.
const SAVED: [&str; 2] = ["uts", "ipc"];

/// One task.
#[derive(Debug)]
pub(super) struct Facts {
    /// Index in the task table.
    pub index: usize,
    /// Where it is in the tree.
    pub place: Place,
    /// Thread-group id, as the checkpointer sees it.
    pub pid: i32,
    /// Thread id, likewise.
    pub tid: i32,
    /// Whether it has ended.
    pub zombie: bool,
    /// /proc/PID/task/TID/stat.
    pub stat: Stat,
    /// /proc/PID/task/TID/status.
    pub status: Status,
    /// Whether it is stopped by job control too, and by which signal.
    pub job_stop: Option<i32>,
    /// Inode numbers of [`NAMESPACES`].
    namespaces: [u64; 7],
}

impl Facts {
    /// A task of which nothing is known yet; without a thread id it is a zombie.
    pub fn new(index: usize, place: Place, pid: i32, tid: Option<i32>) -> Facts {
        Facts {
            index,
            place,
            pid,
            tid: tid.unwrap_or(pid),
            zombie: tid.is_none(),
            stat: Stat::default(),
            status: Status::default(),
            job_stop: None,
            namespaces: [0; 7],
        }
    }

    /// The error that says that this task has something that cannot be saved.
    pub fn refuse(&self, object: impl Into<String>, reason: impl Into<String>) -> DumpError {
        DumpError::Unsupported {
            index: self.index,
            pid: self.tid,
            object: object.into(),
            reason: reason.into(),
        }
    }

    /// Path of the task's file in /proc, by its name.
    pub fn path(&self, name: &str) -> String {
        // The shorter path takes the kernel less time.
        if self.tid == self.pid {
            format!("/proc/{}/{name}", self.pid)
        } else {
            format!("/proc/{}/task/{}/{name}", self.pid, self.tid)
        }
    }

    /// The task's file in /proc, by its name.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, DumpError> {
        let path = self.path(name);
        procfs::read(&path).map_err(DumpError::task(self.tid, format!("read {path}")))
    }

    /// The error for a file of /proc that does not look as it should.
    pub fn malformed(&self, file: &str) -> DumpError {
        DumpError::Malformed { pid: self.tid, file: file.to_owned() }
    }

    /// Inode numbers of its uts and ipc namespaces.
    pub fn uts_and_ipc(&self) -> (u64, u64) {
        let [_, _, _, uts, ipc, _, _] = self.namespaces;
        (uts, ipc)
    }

    /// Whether it leads its thread group.
    pub fn leads(&self) -> bool {
        self.place.thread == 0
    }
}

/// A task to look at.
struct Stub {
    index: usize,
    place: Place,
    pid: i32,
    /// None for a zombie.
    tid: Option<i32>,
    job_stop: Option<i32>,
}

/// Reads the facts of all tasks, in the order of the task table.
pub(super) fn read(tree: &Tree) -> Result<Vec<Facts>, DumpError> {
    let own = procfs::read("/proc/self/status").ok().as_deref().and_then(procfs::status);
    let own = own.unwrap_or_default();
    let stub = |(index, &place): (usize, &Place)| {
        let thread = tree.thread(place);
        Stub {
            index,
            place,
            pid: tree.process(place).map_or(0, |p| p.pid),
            tid: thread.map(|t| t.tracee.tid()),
            job_stop: thread.and_then(|t| t.job_stop),
        }
    };
    let stubs: Vec<Stub> = tree.order.iter().enumerate().map(stub).collect();
    let all = parallel::map(&stubs, |stub| task(stub, &own))?;
    check_namespaces(&all)?;
    Ok(all)
}

fn task(stub: &Stub, own: &Status) -> Result<Facts, DumpError> {
    let mut facts = Facts::new(stub.index, stub.place, stub.pid, stub.tid);
    facts.stat = procfs::stat(&facts.file("stat")?).ok_or_else(|| facts.malformed("stat"))?;
    facts.status =
        procfs::status(&facts.file("status")?).ok_or_else(|| facts.malformed("status"))?;
    if facts.zombie {
        return Ok(facts);
    }
    facts.job_stop = stub.job_stop;
    refuse_privileges(&facts, own)?;
    facts.namespaces = namespaces(&facts)?;
    Ok(facts)
}

/// Restrictions that the image has no place for. Those that the checkpointer is under itself are
/// taken for those of the machine: whoever restarts there is under them too.
fn refuse_privileges(facts: &Facts, own: &Status) -> Result<(), DumpError> {
    let status = &facts.status;
    if (status.seccomp, status.seccomp_filters) != (own.seccomp, own.seccomp_filters) {
        return Err(facts.refuse("the task", "it is restricted by seccomp"));
    }
    Ok(())
}

/// The namespaces that a task is in.
fn namespaces(facts: &Facts) -> Result<[u64; 7], DumpError> {
    let directory = facts.path("ns");
    // A kernel without a kind of namespace has only one of it.
    let inode = |name| std::fs::metadata(format!("{directory}/{name}")).map_or(0, |m| m.ino());
    let link = |name: &str| std::fs::read_link(format!("{directory}/{name}")).ok();
    if link("pid") != link("pid_for_children") {
        let reason = "its children would be born in another one";
        return Err(facts.refuse("pid namespace", reason));
    }
    Ok(NAMESPACES.map(inode))
}

/// All tasks must be in the namespaces of the root task; but for pid namespaces, which may nest, and those
/// that are saved ([`SAVED`]).
fn check_namespaces(all: &[Facts]) -> Result<(), DumpError> {
    let Some(root) = all.iter().find(|f| !f.zombie) else { return Ok(()) };
    for facts in all.iter().filter(|f| !f.zombie) {
        let pairs = NAMESPACES.iter().zip(facts.namespaces.iter().zip(&root.namespaces));
        let mut pairs = pairs.filter(|(name, _)| !SAVED.contains(name));
        if let Some((name, _)) = pairs.find(|(_, (own, roots))| own != roots) {
            let object = format!("{name} namespace");
            return Err(facts.refuse(object, "it is not that of the root task"));
        }
    }
    Ok(())
}

/// A network namespace cannot be saved. One that the checkpointer is in too need not be: it is the
/// machine's.
pub(super) fn refuse_network(all: &[Facts]) -> Result<(), DumpError> {
    let Some(root) = all.first() else { return Ok(()) };
    let path = "/proc/self/ns/net";
    let own = std::fs::metadata(path).map_err(|e| SysError::new(path, e))?.ino();
    let [_, _, net, ..] = root.namespaces;
    if net != own {
        let reason = "one of the tree's own cannot be saved (CHECKPOINT_NETNS)";
        return Err(root.refuse("net namespace", reason));
    }
    Ok(())
}

/// The root must be the init of its pid namespace, and all that is in it must be below the root.
pub(super) fn check_container(tree: &Tree, all: &[Facts]) -> Result<(), DumpError> {
    let Some(root) = all.first() else { return Ok(()) };
    if root.status.pids.last() != Some(&1) {
        let reason = "it is not the init of a pid namespace";
        return Err(DumpError::Argument { pid: root.pid, reason });
    }
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(root.pid);
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| tree.processes.iter().all(|p| p.pid != *pid)) {
        if inside.is_some() && namespace(pid) == inside {
            let reason = "it is in the pid namespace, but not below its init";
            return Err(DumpError::Argument { pid, reason });
        }
    }
    Ok(())
}
