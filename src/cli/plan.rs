//! `usercr plan`: what a restart would do, for people and for programs.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::PlanArgs;
use super::{Failure, draw, open_image};
use crate::error::{Error, PlanError};
use crate::image::{ImageHead, Reader};
use crate::plan::{self, Plan, PlanOptions};
use crate::restart::source::{self, ImageFd};
use crate::restart::{Mode, show};

/// Pids are below this where the system does not say otherwise.
const USUAL_PID_MAX: i32 = 32768;

pub fn run(args: &PlanArgs) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        return json(args, &mut out);
    }
    let mut read = read(args)?;
    if args.syscalls {
        syscalls(args, &mut out, read)?;
        return Ok(ExitCode::SUCCESS);
    }
    draw::draw(&mut out, &read.head, &read.plan, read.reader.body(&read.head))
        .and_then(|()| out.flush())
        .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// An image of which the head was read, and its plan.
struct Read {
    reader: Reader<ImageFd>,
    head: ImageHead,
    plan: Plan,
}

fn read(args: &PlanArgs) -> Result<Read, Failure> {
    let image = open_image(&args.image)?;
    let mut reader = source::open(image.as_fd())?;
    let head = reader.head().map_err(Error::from)?;
    let pid_max = args.pid_max.unwrap_or_else(system_pid_max);
    let plan = plan::build(&head, &PlanOptions { pidns: args.pidns, pid_max });
    Ok(Read { reader, head, plan: plan.map_err(Error::from)? })
}

/// Pids are below this on this system.
pub fn system_pid_max() -> i32 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(USUAL_PID_MAX)
}

/// Prints the program of every task.
fn syscalls(args: &PlanArgs, out: &mut impl Write, mut read: Read) -> Result<(), Failure> {
    let indices = if args.pidns { Vec::new() } else { read.plan.orphans() };
    if !indices.is_empty() {
        return Err(Error::from(PlanError::Orphans { indices }).into());
    }
    let body = read.reader.body(&read.head).map_err(Error::from)?;
    let mode = if args.pidns { Mode::PidNs } else { Mode::Pids };
    let listings = show::programs(&read.head, &read.plan, &body, mode)?;
    let mut write = || -> io::Result<()> {
        for listing in &listings {
            writeln!(out, "{}:", listing.title)?;
            for (number, line) in listing.lines.iter().enumerate() {
                writeln!(out, "{number:>6}  {line}")?;
            }
        }
        out.flush()
    };
    write().map_err(Failure::Output)
}

/// Prints one JSON object. That a plan would lose tasks is told in it, and no failure.
fn json(args: &PlanArgs, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let (done, code) = match read(args) {
        Ok(read) => (write_json(out, &read.plan), ExitCode::SUCCESS),
        Err(failure) => {
            let error = json!({ "error": failure.to_string() });
            (writeln!(out, "{error}"), ExitCode::FAILURE)
        }
    };
    done.and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(code)
}

/// One task after the other, so that a plan of a million tasks needs no memory a second time.
fn write_json(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    write!(out, "{{\"tasks\":[")?;
    for index in 0..plan.tasks.len() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{}", task_json(plan, index))?;
    }
    writeln!(out, "],\"orphans\":{}}}", json!(plan.orphans()))
}

fn task_json(plan: &Plan, index: usize) -> Value {
    let pid = |index: usize| plan.tasks.get(index).map_or(0, |t| t.pid);
    let Some(task) = plan.tasks.get(index) else { return Value::Null };
    let children: Vec<i32> = plan.children(index).iter().map(|&c| pid(c as usize)).collect();
    json!({
        "index": index,
        "pid": task.pid,
        "ppid": task.ppid,
        "tgid": task.tgid,
        "pgid": task.pgid,
        "sid": task.sid,
        "creator": task.creator.map_or(0, pid),
        "flags": task.flags.to_string(),
        "children": children,
    })
}
