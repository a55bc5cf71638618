//! Restart of the caller itself: the calling process becomes the image's only task.
#![forbid(unsafe_code)]

use super::facts::{self, Handed};
use super::{
    Mode, Options, Restarted, check, files, finish, place, segments, sockets, source, terminal,
};
use crate::error::{Error, RestartError, SysError};
use crate::image::{Body, Live, TaskState};
use crate::plan::{self, PlanOptions};
use crate::program::myself::{self, Farewell};
use crate::report;
use crate::sys::events::Events;
use crate::sys::{procfs, vdso};
use crate::vm;

/// The caller becomes the image's task. Comes back only where that has failed before anything of the
/// caller was given up; what fails later ends the process.
///
/// # Errors
/// EINVAL where the image has more than one task; EBUSY where the caller has more than one thread.
pub fn restart(options: &Options<'_>) -> Result<Restarted, Error> {
    check::options(options)?;
    let mut reader = source::open(options.image)?;
    let head = reader.head()?;
    let plan = plan::build(&head, &PlanOptions { pidns: false, pid_max: procfs::pid_max()? })?;
    let body = reader.body(&head)?;
    let live = only_task(&body)?;
    check::machine(&head, &body)?;
    terminal::check(&plan, &body, options)?;
    check::timers(&body, true)?;
    sockets::check(&body, options)?;
    check::spaces(&plan, &body)?;
    segments::refuse(&body)?;
    files::check(&plan, &body, options)?;
    one_thread()?;
    let farewell = farewell(&body, live)?;

    let events = Events::new()?;
    let (compiled, region) = {
        let (image, base) = reader
            .source_mut()
            .pages_file()
            .map_err(|e| SysError::new("copy the image to memory", e))?;
        let sender = events.sender().ok_or(RestartError::Arguments("no event channel"))?;
        super::load(|| {
            let segments = &segments::Segments::default();
            let handed = Handed { image, base, events: sender, segments };
            let options = Options { mode: Mode::NewPids, ..*options };
            let mut facts = facts::gather(&options, &plan, &body, &handed)?;
            // Nothing resets the caller's handlers: all actions are set.
            facts.ignored = !0;
            // Nobody looks after more than this thread.
            facts.readers = 0;
            Ok(myself::compile(&head, &plan, &body, &facts, &farewell))
        })?
    };
    place::enter(options)?;
    report::engine(options.engine_log, "the caller becomes the task of the image");
    let _ = compiled;
    region.enter(0, 0)
}

fn only_task(body: &Body) -> Result<&Live, Error> {
    match body.tasks.as_slice() {
        [TaskState::Live(live)] => Ok(live),
        _ => Err(RestartError::Arguments("self needs an image of exactly one live task").into()),
    }
}

/// Threads of the caller would be left without memory.
fn one_thread() -> Result<(), Error> {
    let path = "/proc/self/task";
    let threads = std::fs::read_dir(path).map_err(|e| SysError::new(path, e))?.count();
    match threads {
        1 => Ok(()),
        _ => Err(RestartError::Threads(threads).into()),
    }
}

/// The last code, in the unused end of the vdso as the task knows it.
fn farewell(body: &Body, live: &Live) -> Result<Farewell, Error> {
    let own = vdso::own()?;
    let code = vm::farewell(&finish::registers(live), live.blocked);
    let end = vdso::contents_end(&own.code).unwrap_or(own.code.len() as u64).next_multiple_of(16);
    let mm = body.objects.mms.get(live.mm);
    if end + code.len() as u64 > own.code.len() as u64 || mm.is_none() {
        let text = "the vdso of this kernel has no room for the last code of a task";
        return Err(RestartError::Machine(text.to_owned()).into());
    }
    let start = mm.map_or(0, |mm| mm.vdso);
    let mapping = (start, start + own.code.len() as u64);
    Ok(Farewell { code, address: start + end, mapping })
}
