//! What is decided before a task is forked.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::facts;
use super::launch::Tree;
use super::{Conditions, Mode, Options};
use crate::error::{Error, PlanError, RestartError, SysError};
use crate::image::{Body, ImageHead, TaskState};
use crate::plan::{self, Plan, PlanOptions};
use crate::program::memory::vdso_extent;
use crate::sys::procfs;

/// Refuses what this engine cannot do.
pub fn options(options: &Options<'_>) -> Result<(), Error> {
    let unsupported = [
        (options.keep_frozen, "leaving the tasks frozen (keep_frozen)"),
        (options.keep_lsm, "restoring security labels (keep_lsm)"),
    ];
    match unsupported.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(RestartError::Unsupported(what).into()),
        None => Ok(()),
    }
}

/// A freezer cgroup must let its tasks run.
pub fn thaw(options: &Options<'_>) -> Result<(), Error> {
    let Some(dir) = options.freezer else { return Ok(()) };
    let path = Path::new(OsStr::from_bytes(dir.to_bytes())).join("freezer.state");
    let thaw = || {
        let mut file = std::fs::OpenOptions::new().write(true).open(&path)?;
        std::io::Write::write_all(&mut file, b"THAWED\0")
    };
    thaw().map_err(|e| SysError::new(format!("thaw the freezer: {}", path.display()), e).into())
}

/// Makes the plan, and refuses one that would lose tasks.
pub fn plan(head: &ImageHead, options: &Options<'_>) -> Result<Plan, Error> {
    let pidns = options.mode == Mode::PidNs;
    let plan = plan::build(head, &PlanOptions { pidns, pid_max: procfs::pid_max()? })?;
    if plan.pid_zero {
        if options.fail.has(Conditions::PIDZERO) {
            return Err(RestartError::Arguments("a pid number in the image is 0").into());
        }
        if options.warn.has(Conditions::PIDZERO) {
            options.report.error("a pid number in the image is 0");
        }
    }
    let indices = if pidns { Vec::new() } else { plan.orphans() };
    if indices.is_empty() {
        return Ok(plan);
    }
    for index in &indices {
        options.report.error(format!("Bad orphan task (#{index}) with --no-pidns"));
    }
    Err(PlanError::Orphans { indices }.into())
}

/// Refuses an image whose tasks cannot run on this machine, by this caller.
pub fn machine(head: &ImageHead, body: &Body) -> Result<(), Error> {
    let vdso = crate::sys::vdso::own()?;
    if let Some(other) = head.extra.vdso
        && (other.vdso_size, other.checksum) != (vdso.code.len() as u64, vdso.checksum())
    {
        let kernel = String::from_utf8_lossy(&head.header.release).into_owned();
        let text = format!("the image was made on another kernel ({kernel}): its vdso differs");
        return Err(RestartError::Machine(text).into());
    }
    for mm in &body.objects.mms {
        if vdso_extent(mm).is_none_or(|(start, end)| {
            end - start != vdso.size() || mm.vdso.wrapping_sub(start) != vdso.data_size()
        }) {
            let text = "the vdso of a task lies otherwise than on this kernel".to_owned();
            return Err(RestartError::Machine(text).into());
        }
    }
    credentials(body)
}

/// The tasks run with the caller's credentials, so these must be the image's.
fn credentials(body: &Body) -> Result<(), Error> {
    let own = facts::own_status()?;
    for (index, task) in body.tasks.iter().enumerate() {
        let TaskState::Live(live) = task else { continue };
        let Some(cred) = body.objects.creds.get(live.cred) else { continue };
        // status has real, effective, saved, fs; the image real, saved, effective, fs.
        let order = |ids: [u32; 4]| [ids[0], ids[2], ids[1], ids[3]];
        let caps = [own.caps[0], own.caps[1], own.caps[2]];
        let groups = {
            let mut groups = own.groups.clone();
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        if cred.groups != groups || cred.caps.get(..3) != Some(&caps[..]) {
            let text = format!("task {index}: its groups or capabilities differ from the caller's");
            return Err(RestartError::Credentials(text).into());
        }
        if cred.uids != order(own.uids) || cred.gids != order(own.gids) {
            let text = format!(
                "task {index}: it ran as uid {} gid {}, this restart runs as uid {} gid {}",
                cred.uids[2], cred.gids[2], own.uids[1], own.gids[1]
            );
            return Err(RestartError::Credentials(text).into());
        }
    }
    Ok(())
}

/// Tells what failed in setting up mounts and was tolerated.
pub fn notes(tree: &Tree, options: &Options<'_>) {
    let told = [(0, Conditions::MNTPROC, "/proc"), (1, Conditions::MNTPTY, "/dev/pts")];
    for (note, condition, place) in told {
        let result = tree.region.note(note);
        if result < 0 && options.warn.has(condition) {
            let why = std::io::Error::from_raw_os_error(-result as i32);
            options.report.error(format!("unmount of {place}: {why}"));
        }
    }
}
