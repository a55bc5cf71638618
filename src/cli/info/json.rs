//! An image as one JSON document. Its keys are told in the manual; new ones may come.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::text::{printable, signals};
use super::Failure;
use super::facts::{self, Info};
use crate::image::{
    Body, Cred, FileTable, Fs, Mm, Objects, OpenFile, Pending, Reader, Signal, Source, TaskState,
};
use crate::plan::Task;

/// Prints the document. What is wrong with the image is told in it.
pub fn print<S: Source>(out: &mut impl Write, reader: Reader<S>) -> Result<ExitCode, Failure> {
    let (done, code) = match Info::read(reader) {
        Ok(info) => {
            let whole = info.error().is_none();
            let code = if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            (document(out, &info), code)
        }
        Err(failure) => {
            let error = json!({ "error": failure.to_string() });
            (writeln!(out, "{error}"), ExitCode::FAILURE)
        }
    };
    done.and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(code)
}

fn document(out: &mut impl Write, info: &Info) -> io::Result<()> {
    let counts = info.counts();
    write!(out, "{{\"error\":{}", json!(info.error()))?;
    write!(out, ",\"complete\":{}", json!(info.body.is_ok()))?;
    write!(out, ",\"bytes\":{}", info.bytes)?;
    write!(out, ",\"head\":{}", head(info))?;
    let numbers = json!({
        "tasks": counts.tasks,
        "processes": counts.processes,
        "threads": counts.threads,
        "zombies": counts.zombies,
        "open_files": counts.files,
        "mapped": counts.mapped,
        "saved": counts.saved,
    });
    write!(out, ",\"counts\":{numbers}")?;
    let tasks = (0..info.head.tasks.len()).map(|index| task(info, index));
    list(out, "tasks", tasks)?;
    // One value after the other, so that a large image needs no memory a second time.
    let empty = Body::default();
    let objects = &info.body().unwrap_or(&empty).objects;
    list(out, "descriptor_tables", objects.file_tables.iter().map(table))?;
    list(out, "open_files", objects.files.iter().map(|f| file(f, objects)))?;
    list(out, "address_spaces", objects.mms.iter().map(mm))?;
    list(out, "directories", objects.fss.iter().map(fs))?;
    list(out, "credentials", objects.creds.iter().map(cred))?;
    list(out, "thread_groups", objects.signals.iter().map(group))?;
    writeln!(out, "}}")
}

fn list(out: &mut impl Write, name: &str, values: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    for (index, value) in values.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{value}")?;
    }
    write!(out, "]")
}

fn head(info: &Info) -> Value {
    let (h, arch, extra) = (&info.head.header, &info.head.arch, &info.head.extra);
    json!({
        "version": h.rev,
        "architecture": h.arch_id,
        "time": h.time,
        "flags": h.uflags,
        "release": printable(&h.release),
        "kernel_version": printable(&h.version),
        "machine": printable(&h.machine),
        "xstate_size": arch.xstate_size,
        "security_module": printable(&info.head.lsm_name),
        "root_is_subreaper": extra.root_subreaper,
        "vdso": extra.vdso.map(|vdso| json!({
            "size": vdso.vdso_size,
            "data_size": vdso.vvar_size,
            "checksum": format!("{:#018x}", vdso.checksum),
        })),
    })
}

fn task(info: &Info, index: usize) -> Value {
    let plan = info.plan.as_ref().ok();
    let ids = plan.and_then(|plan| plan.tasks.get(index));
    let id = |of: fn(&Task) -> i32| ids.map(of);
    let mut value = json!({
        "index": index,
        "pid": id(|task| task.pid),
        "pids": plan.map(|plan| plan.numbers(index)),
        "ppid": id(|task| task.ppid),
        "tgid": id(|task| task.tgid),
        "pgid": id(|task| task.pgid),
        "sid": id(|task| task.sid),
    });
    let state = info.body().and_then(|body| body.tasks.get(index));
    let state = match state {
        Some(TaskState::Live(live)) => json!({
            "name": printable(&live.comm),
            "state": "live",
            "syscall": Some(live.cpu.orig_ax as i64).filter(|&number| number != -1),
            "blocked": numbers(live.blocked),
            "pending": pending(&live.pending),
            "descriptor_table": live.files,
            "address_space": live.mm,
            "directory": live.fs,
            "credentials": live.cred,
            "thread_group": live.signal,
        }),
        Some(TaskState::Zombie(zombie)) => json!({
            "name": printable(&zombie.comm),
            "state": "zombie",
            "wait_status": zombie.exit_code,
        }),
        None => json!({}),
    };
    if let (Some(value), Value::Object(state)) = (value.as_object_mut(), state) {
        value.extend(state);
    }
    value
}

fn numbers(set: u64) -> Vec<u32> {
    signals(set).collect()
}

fn pending(pending: &Pending) -> Value {
    json!({ "signals": numbers(pending.set), "queued": pending.queue.len() })
}

fn table(table: &FileTable) -> Value {
    let entry =
        |d: &crate::image::Descriptor| json!({ "fd": d.fd, "file": d.file, "cloexec": d.cloexec });
    table.descriptors.iter().map(entry).collect()
}

fn file(file: &OpenFile, objects: &Objects) -> Value {
    let (kind, what) = facts::what(&file.kind, objects);
    json!({
        "kind": kind,
        "what": what,
        "access": facts::access(file),
        "flags": file.flags,
        "position": file.pos,
        "credentials": file.cred,
    })
}

fn mm(mm: &Mm) -> Value {
    let (mapped, saved) = facts::memory(mm);
    json!({ "mappings": mm.vmas.len(), "mapped": mapped, "saved": saved, "program": mm.exe })
}

fn fs(fs: &Fs) -> Value {
    json!({ "current": printable(&fs.cwd), "root": printable(&fs.root), "umask": fs.umask })
}

fn cred(cred: &Cred) -> Value {
    let [ruid, suid, euid, fsuid] = cred.uids;
    let [rgid, sgid, egid, fsgid] = cred.gids;
    let [inheritable, permitted, effective, bounding] = cred.caps.map(|set| format!("{set:#x}"));
    json!({
        "uid": ruid, "suid": suid, "euid": euid, "fsuid": fsuid,
        "gid": rgid, "sgid": sgid, "egid": egid, "fsgid": fsgid,
        "groups": cred.groups,
        "capabilities": {
            "inheritable": inheritable,
            "permitted": permitted,
            "effective": effective,
            "bounding": bounding,
        },
        "securebits": cred.securebits,
    })
}

fn group(signal: &Signal) -> Value {
    let limit = |value: u64| (value != u64::MAX).then_some(value);
    let limits: Vec<[Option<u64>; 2]> =
        signal.rlimits.iter().map(|&(soft, hard)| [limit(soft), limit(hard)]).collect();
    json!({ "pending": pending(&signal.pending), "limits": limits })
}
