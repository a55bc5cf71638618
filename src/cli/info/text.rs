//! An image for people: a summary, the tree, and each task.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::super::draw;
use super::super::text::{ended, printable, signal, signals, size, time};
use super::facts::{self, Info};
use crate::image::{Body, Cred, Live, Mm, Objects, Segment, TaskState, VmaKind, Zombie};

/// Most groups and threads that are named before they are only counted.
const NAMED: usize = 16;

pub fn print(out: &mut impl Write, info: &Info) -> io::Result<()> {
    summary(out, info)?;
    writeln!(out)?;
    match &info.plan {
        Ok(plan) => draw::tree(out, plan, info.body())?,
        Err(error) => writeln!(out, "The tree cannot be drawn: {error}")?,
    }
    let Some(body) = info.body() else { return Ok(()) };
    let mut tasks = Tasks { info, body, told: Told::new(&body.objects) };
    for (index, task) in body.tasks.iter().enumerate() {
        tasks.print(out, index, task)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, name: &str, text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<14} {text}")
}

fn summary(out: &mut impl Write, info: &Info) -> io::Result<()> {
    let (head, counts) = (&info.head, info.counts());
    let h = &head.header;
    let scope = if h.uflags & 1 != 0 { "a subtree" } else { "a whole container" };
    line(out, "format", format_args!("version {}, {scope}", h.rev))?;
    line(out, "time", time(h.time))?;
    let [release, version, machine] = [&h.release, &h.version, &h.machine].map(|s| printable(s));
    line(out, "kernel", format_args!("Linux {release} {version} {machine}"))?;
    let mut cpu = format!("{} bytes of FPU state", head.arch.xstate_size);
    for (has, name) in [(head.arch.has_fxsr, "FXSAVE"), (head.arch.has_xsave, "XSAVE")] {
        cpu.push_str(if has { ", " } else { ", no " });
        cpu.push_str(name);
    }
    line(out, "processor", cpu)?;
    if let Some(vdso) = head.extra.vdso {
        let text = format!("{} bytes, checksum {:#018x}", vdso.vdso_size, vdso.checksum);
        line(out, "vdso", text)?;
    }
    line(out, "security", printable(&head.lsm_name))?;
    let complete = if info.body.is_ok() { "yes" } else { "no" };
    line(out, "complete", format_args!("{complete}, read {}", size(info.bytes)))?;
    let mut tasks = format!("{}: processes {}", counts.tasks, counts.processes);
    if info.body.is_ok() {
        tasks.push_str(&format!(", threads {}, zombies {}", counts.threads, counts.zombies));
    }
    line(out, "tasks", tasks)?;
    let Some(body) = info.body() else { return Ok(()) };
    let (mapped, saved) = (size(counts.mapped), size(counts.saved));
    line(out, "memory", format_args!("{mapped} mapped, {saved} in the image"))?;
    let kinds: Vec<String> = counts.files.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    line(out, "open files", format_args!("{}: {}", body.objects.files.len(), kinds.join(", ")))
}

/// What has been told already: of each object the task where it was.
struct Told {
    file_tables: Vec<Option<usize>>,
    mms: Vec<Option<usize>>,
    fss: Vec<Option<usize>>,
    creds: Vec<Option<usize>>,
    signals: Vec<Option<usize>>,
}

impl Told {
    fn new(objects: &Objects) -> Told {
        Told {
            file_tables: vec![None; objects.file_tables.len()],
            mms: vec![None; objects.mms.len()],
            fss: vec![None; objects.fss.len()],
            creds: vec![None; objects.creds.len()],
            signals: vec![None; objects.signals.len()],
        }
    }
}

/// The task that told of an object already; else it is this one.
fn teller(told: &mut [Option<usize>], object: usize, task: usize) -> Option<usize> {
    told.get_mut(object).and_then(|teller| match *teller {
        None => {
            *teller = Some(task);
            None
        }
        known => known,
    })
}

struct Tasks<'a> {
    info: &'a Info,
    body: &'a Body,
    told: Told,
}

impl Tasks<'_> {
    fn print(&mut self, out: &mut impl Write, index: usize, task: &TaskState) -> io::Result<()> {
        let name = match task {
            TaskState::Live(live) => printable(&live.comm),
            TaskState::Zombie(zombie) => printable(&zombie.comm),
        };
        let ids = self.info.plan.as_ref().ok().and_then(|plan| plan.tasks.get(index));
        match ids {
            Some(ids) => writeln!(out, "\ntask {index}: pid {}, {name}", ids.pid)?,
            None => writeln!(out, "\ntask {index}: {name}")?,
        }
        match task {
            TaskState::Live(live) => item(out, "state", state(live))?,
            TaskState::Zombie(zombie) => item(out, "state", dead(zombie))?,
        }
        if let Some(ids) = ids {
            let [parent, session, group] = [ids.ppid, ids.sid, ids.pgid].map(|id| match id {
                0 => "-".to_owned(),
                id => id.to_string(),
            });
            let text = format!("parent {parent}, session {session}, process group {group}");
            item(out, "ids", text)?;
        }
        match task {
            TaskState::Live(live) => self.live(out, index, live),
            TaskState::Zombie(_) => Ok(()),
        }
    }

    fn live(&mut self, out: &mut impl Write, index: usize, live: &Live) -> io::Result<()> {
        let objects = &self.body.objects;
        self.threads(out, index)?;
        let shared = |task| format!("as task {task}");

        let teller_of_cred = teller(&mut self.told.creds, live.cred, index);
        if let Some(cred) = objects.creds.get(live.cred) {
            item(out, "credentials", teller_of_cred.map_or_else(|| credentials(cred), shared))?;
        }
        let teller_of_mm = teller(&mut self.told.mms, live.mm, index);
        if let Some(mm) = objects.mms.get(live.mm) {
            let text = || {
                let (mapped, saved) = facts::memory(mm);
                let file = mm.exe.and_then(|exe| objects.files.get(exe));
                let program =
                    file.map_or_else(|| "-".into(), |file| facts::what(&file.kind, objects).1);
                let (mapped, saved) = (size(mapped), size(saved));
                format!("{mapped} mapped, {saved} in the image, program {program}")
            };
            item(out, "memory", teller_of_mm.map_or_else(text, shared))?;
            if teller_of_mm.is_none() {
                segments(out, mm, objects)?;
            }
        }
        let teller_of_fs = teller(&mut self.told.fss, live.fs, index);
        if let Some(fs) = objects.fss.get(live.fs) {
            let text = || {
                let (cwd, root) = (printable(&fs.cwd), printable(&fs.root));
                format!("{cwd}, root {root}, umask {:03o}", fs.umask)
            };
            item(out, "directory", teller_of_fs.map_or_else(text, shared))?;
        }
        item(out, "blocked", names(live.blocked))?;
        item(out, "pending", pending(&live.pending))?;
        let teller_of_signal = teller(&mut self.told.signals, live.signal, index);
        if let Some(group) = objects.signals.get(live.signal) {
            let text = || pending(&group.pending);
            item(out, "group pending", teller_of_signal.map_or_else(text, shared))?;
        }
        if let Some(other) = teller(&mut self.told.file_tables, live.files, index) {
            return item(out, "files", shared(other));
        }
        let table = objects.file_tables.get(live.files);
        let descriptors = table.map(|table| table.descriptors.as_slice()).unwrap_or_default();
        item(out, "files", descriptors.len())?;
        for descriptor in descriptors {
            let Some(file) = objects.files.get(descriptor.file) else { continue };
            let (_, what) = facts::what(&file.kind, objects);
            let mut text = format!("{what}, {}", facts::access(file));
            if file.pos != 0 {
                text.push_str(&format!(", at {}", file.pos));
            }
            if descriptor.cloexec {
                text.push_str(", closed on exec");
            }
            writeln!(out, "  {:>15} {text}", descriptor.fd)?;
        }
        Ok(())
    }

    /// The threads of the process that this task leads.
    fn threads(&self, out: &mut impl Write, index: usize) -> io::Result<()> {
        let rows = &self.info.head.tasks;
        let Some(row) = rows.get(index).filter(|row| row.pid == row.tgid) else { return Ok(()) };
        // They stand behind their leader, after the subtrees of its children: only who has some looks.
        let Ok(plan) = &self.info.plan else { return Ok(()) };
        let of_group = |&&child: &&u32| {
            rows.get(child as usize).is_some_and(|r| r.tgid == row.tgid && r.pid != r.tgid)
        };
        let mut pids: Vec<String> = Vec::new();
        let mut count = 1;
        for &child in plan.children(index).iter().filter(of_group) {
            count += 1;
            let task = plan.tasks.get(child as usize).filter(|_| pids.len() < NAMED);
            pids.extend(task.map(|task| task.pid.to_string()));
        }
        if count > pids.len() + 1 {
            pids.push("...".into());
        }
        match pids.is_empty() {
            true => item(out, "threads", count),
            false => item(out, "threads", format_args!("{count}: itself, {}", pids.join(", "))),
        }
    }
}

fn shm(kind: &VmaKind) -> Option<usize> {
    if let VmaKind::ShmAnon(shm) = kind { Some(*shm) } else { None }
}

/// The System V shared memory that is attached in an address space, each once.
fn segments(out: &mut impl Write, mm: &Mm, objects: &Objects) -> io::Result<()> {
    let attached: BTreeSet<usize> = mm.vmas.iter().filter_map(|vma| shm(&vma.kind)).collect();
    let shms = attached.into_iter().filter_map(|shm| objects.shms.get(shm));
    let segments: Vec<Segment> = shms.filter_map(|shm| shm.segment).collect();
    if segments.is_empty() {
        return Ok(());
    }
    item(out, "segments", segments.len())?;
    for segment in segments {
        let key = match segment.key {
            0 => "no key".to_owned(),
            key => format!("key {key:#010x}"),
        };
        let ([uid, gid], mode) = (segment.owner, segment.mode);
        let mut text = format!("{key}, {}, mode {mode:03o}, owner {uid}:{gid}", size(segment.size));
        for (is, word) in [(segment.removed, ", removed"), (segment.locked, ", locked")] {
            text.push_str(if is { word } else { "" });
        }
        writeln!(out, "  {:>15} {text}", segment.id)?;
    }
    Ok(())
}

fn item(out: &mut impl Write, name: &str, text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(out, "  {name:<15} {text}")
}

fn state(live: &Live) -> String {
    match live.cpu.orig_ax as i64 {
        -1 => "runs".into(),
        number => format!("in system call {number}"),
    }
}

fn dead(zombie: &Zombie) -> String {
    format!("zombie, {}", ended(zombie.exit_code))
}

fn credentials(cred: &Cred) -> String {
    let ids = |ids: [u32; 4]| {
        let [real, saved, effective, fs] = ids;
        match ids.iter().all(|&id| id == real) {
            true => real.to_string(),
            false => format!("{real} (saved {saved}, effective {effective}, files {fs})"),
        }
    };
    let mut groups: Vec<String> =
        cred.groups.iter().take(NAMED).map(|group| group.to_string()).collect();
    if cred.groups.len() > NAMED {
        groups.push(format!("and {} more", cred.groups.len() - NAMED));
    }
    let groups = if groups.is_empty() { "-".into() } else { groups.join(" ") };
    let [_, _, effective, _] = cred.caps;
    format!(
        "uid {}, gid {}, groups {groups}, capabilities {effective:#x}",
        ids(cred.uids),
        ids(cred.gids)
    )
}

fn names(set: u64) -> String {
    let names: Vec<String> = signals(set).map(signal).collect();
    if names.is_empty() { "-".into() } else { names.join(" ") }
}

fn pending(pending: &crate::image::Pending) -> String {
    match pending.queue.len() {
        0 => names(pending.set),
        queued => format!("{} (queued {queued})", names(pending.set)),
    }
}
