//! The records of one task.
#![forbid(unsafe_code)]

use super::{ObjectKind, Parser, signals};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source};
use crate::image::{
    Cpu, Live, Namespaces, RestartBlock, TaskIds, TaskState, Zombie, extra, records,
};

/// States of a task that has ended.
const TASK_DEAD: u32 = 64;
const EXIT_ZOMBIE: u32 = 16;
/// The task flags that there are.
const FLAGS: u32 = 3;
/// Bytes of the head of a robust futex list, and of that of a 32-bit task.
const ROBUST_HEAD: u32 = 24;
const ROBUST_HEAD_32: u32 = 12;
/// Bits of `thread_info_flags`: never written, and of a 32-bit task.
const TIF_NEVER: u32 = 1 << 8 | 1 << 22;
const TIF_IA32: u32 = 1 << 17;
/// Flags of the processor: those that a program can set, and those that are always set.
const FLAGS_FREE: u64 = 0x25_4dd5;
const FLAGS_SET: u64 = 0x202;
/// First address that no segment base can have.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// What all threads of a group share: indexes of the signal, sighand and mm objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    signal: usize,
    sighand: usize,
    mm: usize,
}

/// Reads a task: only TASK and its name where it has ended.
pub(super) fn read<S: Source>(
    parser: &mut Parser<'_, S>,
    ids: &TaskIds,
) -> Result<TaskState, ImageError> {
    let task = parser.fixed::<80>(records::TASK)?;
    let comm = comm(parser)?;
    let flags = task.u32::<8>();
    if flags & !FLAGS != 0 {
        return Err(task.bad(format!("flags {flags:#x}")));
    }
    let pdeath_signal = task.i32::<28>();
    if !(0..=64).contains(&pdeath_signal) {
        return Err(task.bad(format!("parent-death signal {pdeath_signal}")));
    }
    if task.u32::<12>() == TASK_DEAD || task.u32::<16>() != 0 {
        let (exit_code, exit_signal) = ended(&task)?;
        return Ok(TaskState::Zombie(Zombie { comm, exit_code, exit_signal, pdeath_signal }));
    }
    let exit_signal = running(&task, ids)?;
    thread(parser)?;
    let restart_block = restart_block(parser)?;
    let (cpu, fpu) = cpu(parser)?;
    let cred = creds(parser)?;
    let namespaces = namespaces(parser)?;
    let objects = objects(parser, ids)?;
    let pending = signals::pending(parser)?;
    let blocked = signals::blocked(parser)?;
    let extra = extra::read_task(parser.cursor, parser.head, ids)?;
    Ok(TaskState::Live(Box::new(Live {
        comm,
        exit_signal,
        pdeath_signal,
        set_child_tid: task.u64::<32>(),
        clear_child_tid: task.u64::<40>(),
        altstack: (task.u64::<48>(), task.u32::<56>()),
        robust_list: task.u64::<72>(),
        restart_block,
        cpu,
        fpu,
        cred,
        namespaces,
        files: objects.files,
        mm: objects.shared.mm,
        fs: objects.fs,
        sighand: objects.shared.sighand,
        signal: objects.shared.signal,
        pending,
        blocked,
        rseq: extra.rseq,
        settings: extra.settings,
        timers: extra.timers,
        job_stop: extra.job_stop,
    })))
}

/// The command name: 16 bytes, NUL padded.
fn comm<S: Source>(parser: &mut Parser<'_, S>) -> Result<[u8; 16], ImageError> {
    Ok(parser.fixed::<24>(records::STRING)?.bytes::<8, 16>())
}

/// Exit code and exit signal of a task that has ended.
fn ended(task: &Fixed<80>) -> Result<(u32, i32), ImageError> {
    let (state, exit_state) = (task.u32::<12>(), task.u32::<16>());
    if state != TASK_DEAD || exit_state != EXIT_ZOMBIE {
        return Err(task.bad(format!("state {state}, exit state {exit_state}")));
    }
    let code = task.u32::<20>();
    let (signal, core) = (code & 0x7f, code & 0x80);
    let ended_by_signal = signal != 0 || core != 0;
    if code > 0xffff || ended_by_signal && (code > 0xff || !(1..=64).contains(&signal)) {
        return Err(task.bad(format!("exit code {code:#x}")));
    }
    let exit_signal = task.i32::<24>();
    if !(-1..=64).contains(&exit_signal) {
        return Err(task.bad(format!("exit signal {exit_signal}")));
    }
    Ok((code, exit_signal))
}

/// Checks the TASK record of a task that runs; its exit signal.
fn running(task: &Fixed<80>, ids: &TaskIds) -> Result<i32, ImageError> {
    let (code, exit_signal) = (task.u32::<20>(), task.i32::<24>());
    if code != 0 {
        return Err(task.bad(format!("exit code {code:#x} of a task that runs")));
    }
    let leads = ids.pid == ids.tgid;
    if leads != (0..=64).contains(&exit_signal) || !leads && exit_signal != -1 {
        return Err(task.bad(format!("exit signal {exit_signal}")));
    }
    let (compat_len, compat, len) = (task.u32::<60>(), task.u32::<64>(), task.u32::<68>());
    if len != ROBUST_HEAD || compat_len != 0 && compat_len != ROBUST_HEAD_32 {
        return Err(task.bad(format!("heads of robust lists with {len} and {compat_len} bytes")));
    }
    if compat != 0 {
        return Err(task.unsupported("the robust list of a 32-bit task"));
    }
    Ok(exit_signal)
}

/// The THREAD record: nothing in it but what a 32-bit task has.
fn thread<S: Source>(parser: &mut Parser<'_, S>) -> Result<(), ImageError> {
    let record = parser.fixed::<48>(records::THREAD)?;
    let (flags, entries, bytes) = (record.u32::<16>(), record.u16::<20>(), record.u16::<22>());
    if entries != 3 || bytes != 24 {
        return Err(record.bad(format!("{entries} TLS entries, {bytes} bytes, must be 3 and 24")));
    }
    if flags & TIF_NEVER != 0 {
        return Err(record.bad(format!("thread flags {flags:#x}")));
    }
    if flags & TIF_IA32 != 0 {
        return Err(record.unsupported("a 32-bit task"));
    }
    if record.bytes::<24, 24>() != [0; 24] {
        return Err(record.unsupported("TLS entries in the GDT"));
    }
    Ok(())
}

fn restart_block<S: Source>(parser: &mut Parser<'_, S>) -> Result<RestartBlock, ImageError> {
    let record = parser.fixed::<56>(records::RESTART_BLOCK)?;
    let function = record.u64::<8>();
    match function {
        1..=3 | 6 | 7 => {}
        4 | 5 => return Err(record.unsupported("an interrupted call of a 32-bit task")),
        _ => return Err(record.bad(format!("function {function}"))),
    }
    Ok(RestartBlock {
        function,
        args: [record.u64::<16>(), record.u64::<24>(), record.u64::<32>(), record.u64::<40>()],
        left: record.u64::<48>(),
    })
}

/// Registers, and the state of the FPU where it was used.
fn cpu<S: Source>(parser: &mut Parser<'_, S>) -> Result<(Cpu, Option<Vec<u8>>), ImageError> {
    let record = parser.fixed::<192>(records::CPU)?;
    check_cpu(&record)?;
    let cpu = Cpu {
        r15: record.u64::<8>(),
        r14: record.u64::<16>(),
        r13: record.u64::<24>(),
        r12: record.u64::<32>(),
        bp: record.u64::<40>(),
        bx: record.u64::<48>(),
        r11: record.u64::<56>(),
        r10: record.u64::<64>(),
        r9: record.u64::<72>(),
        r8: record.u64::<80>(),
        ax: record.u64::<88>(),
        cx: record.u64::<96>(),
        dx: record.u64::<104>(),
        si: record.u64::<112>(),
        di: record.u64::<120>(),
        orig_ax: record.u64::<128>(),
        ip: record.u64::<136>(),
        sp: record.u64::<144>(),
        flags: record.u64::<152>(),
        fs_base: record.u64::<160>(),
        gs_base: record.u64::<168>(),
    };
    match record.u32::<188>() {
        0 => return Ok((cpu, None)),
        1 => {}
        used => return Err(record.bad(format!("used_math {used}, must be 0 or 1"))),
    }
    let name = records::CPU_FPU.name;
    let header = parser.expect(records::CPU_FPU)?;
    let size = u32::from(parser.head.arch.xstate_size);
    if header.payload() != size {
        return Err(header.bad(name, format!("{} bytes, must be {size}", header.payload())));
    }
    Ok((cpu, Some(parser.cursor.payload(&header, name, size)?)))
}

/// Flags and segments that only a 64-bit task has.
fn check_cpu(record: &Fixed<192>) -> Result<(), ImageError> {
    let flags = record.u64::<152>();
    if flags & !FLAGS_FREE != FLAGS_SET {
        return Err(record.bad(format!("flags {flags:#x}")));
    }
    for (name, base) in [("fs", record.u64::<160>()), ("gs", record.u64::<168>())] {
        if base >= TASK_SIZE {
            return Err(record.bad(format!("{name} base {base:#x}")));
        }
    }
    let [fs, gs, cs, ss, ds, es] = [
        record.u16::<176>(),
        record.u16::<178>(),
        record.u16::<180>(),
        record.u16::<182>(),
        record.u16::<184>(),
        record.u16::<186>(),
    ];
    if cs == 0 {
        return Err(record.bad("no code segment"));
    }
    if [fs, gs, cs, ss, ds, es] != [0, 0, 3, 4, 0, 0] {
        return Err(record.unsupported(format!(
            "segments cs {cs} ss {ss} ds {ds} es {es} fs {fs} gs {gs}, only a 64-bit task's are"
        )));
    }
    Ok(())
}

/// The task's credentials; those that it acts with are the same.
fn creds<S: Source>(parser: &mut Parser<'_, S>) -> Result<usize, ImageError> {
    let record = parser.fixed::<16>(records::TASK_CREDS)?;
    let real = parser.index(&record, record.i32::<8>(), ObjectKind::Cred)?;
    let acting = parser.index(&record, record.i32::<12>(), ObjectKind::Cred)?;
    if real != acting {
        return Err(record.unsupported("a task that acts with other credentials than its own"));
    }
    Ok(real)
}

fn namespaces<S: Source>(parser: &mut Parser<'_, S>) -> Result<Namespaces, ImageError> {
    let record = parser.fixed::<16>(records::TASK_NS)?;
    match record.i32::<8>() {
        0 => Ok(Namespaces::default()),
        tag => {
            let index = parser.index(&record, tag, ObjectKind::Ns)?;
            Ok(parser.namespaces.get(index).copied().unwrap_or_default())
        }
    }
}

/// The objects of a task.
struct TaskObjects {
    files: usize,
    fs: usize,
    shared: Shared,
}

/// TASK_OBJS, and behind it the SIGNAL object where this task is the first that has it.
fn objects<S: Source>(
    parser: &mut Parser<'_, S>,
    ids: &TaskIds,
) -> Result<TaskObjects, ImageError> {
    let record = parser.fixed::<32>(records::TASK_OBJS)?;
    let files = parser.index(&record, record.i32::<8>(), ObjectKind::FileTable)?;
    let mm = parser.index(&record, record.i32::<12>(), ObjectKind::Mm)?;
    let fs = parser.index(&record, record.i32::<16>(), ObjectKind::Fs)?;
    if record.i32::<20>() != 0 {
        return Err(record.unsupported("semaphore adjustments"));
    }
    let sighand = parser.index(&record, record.i32::<24>(), ObjectKind::SigHand)?;
    let signal = signal(parser, &record, ids)?;
    let shared = Shared { signal, sighand, mm };
    let known = *parser.thread_groups.entry(ids.tgid).or_insert(shared);
    if known != shared || parser.signal_owners.get(signal) != Some(&ids.tgid) {
        return Err(record.bad(
            "the threads of a group must have one mm, one sighand and one signal object, \
             and the latter for themselves",
        ));
    }
    Ok(TaskObjects { files, fs, shared })
}

/// The SIGNAL object: it has no OBJREF, it comes behind the first TASK_OBJS that names it.
fn signal<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<32>,
    ids: &TaskIds,
) -> Result<usize, ImageError> {
    let tag = record.i32::<28>();
    if tag <= 0 {
        return Err(record.bad(format!("tag {tag} of the signal object, must be positive")));
    }
    if parser.find(tag).is_some() {
        return parser.index(record, tag, ObjectKind::Signal);
    }
    let signal = signals::signal(parser)?;
    let object = super::add(&mut parser.out.signals, ObjectKind::Signal, signal);
    parser.define(record, tag, object)?;
    parser.signal_owners.push(ids.tgid);
    Ok(object.1)
}
