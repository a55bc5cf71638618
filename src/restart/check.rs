//! What is decided before a task is forked.
#![forbid(unsafe_code)]

use super::facts;
use super::launch::Tree;
use super::{Conditions, Mode, Options};
use crate::error::{Error, PlanError, RestartError};
use crate::image::{Body, Cred, FileKind, ImageHead, TaskState};
use crate::plan::{self, Plan, PlanOptions};
use crate::program::memory::vdso_extent;
use crate::program::spaces::makers;
use crate::program::timers::IDS_BY_COUNTING;
use crate::sys::{process, procfs};

/// Refuses what this engine cannot do.
///
/// # Errors
/// EINVAL for `keep_frozen` without `freezer`; EOPNOTSUPP for `keep_lsm`.
pub fn options(options: &Options<'_>) -> Result<(), Error> {
    if options.keep_frozen && options.freezer.is_none() {
        let text = "keep_frozen needs freezer: without a freezer cgroup nothing can be frozen";
        return Err(RestartError::Arguments(text).into());
    }
    if options.keep_lsm {
        return Err(RestartError::Labels(no_labels()).into());
    }
    Ok(())
}

/// Why there are no security labels to restore.
fn no_labels() -> &'static str {
    // Without a security module that labels tasks, reading this fails with EINVAL.
    match procfs::read("/proc/thread-self/attr/current") {
        Ok(_) => "the image holds no security labels: a checkpoint does not save them",
        Err(_) => "the kernel has no security module that labels tasks",
    }
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
    credentials(body)?;
    files(body)
}

/// Refuses ids of POSIX timers that the kernel does not give: any where the caller itself becomes the task,
/// since it may have had timers.
pub fn timers(body: &Body, by_self: bool) -> Result<(), Error> {
    if process::gives_timer_ids() {
        return Ok(());
    }
    let most = if by_self { -1 } else { IDS_BY_COUNTING };
    for (index, task) in body.tasks.iter().enumerate() {
        let TaskState::Live(live) = task else { continue };
        if let Some(timer) = live.timers.iter().find(|timer| timer.id > most) {
            let id = timer.id;
            let text = format!("task {index}: POSIX timer {id}: this kernel cannot give it its id");
            return Err(RestartError::Machine(text).into());
        }
    }
    Ok(())
}

/// Capability that new namespaces need.
const SYS_ADMIN: u64 = 1 << 21;

/// Refuses namespaces that cannot be made.
///
/// # Errors
/// EINVAL where a task could not be in its namespace, EPERM where the caller may not make any.
pub fn spaces(plan: &Plan, body: &Body) -> Result<(), Error> {
    let makers = makers(plan, body).map_err(|misplaced| {
        let (task, kind) = (misplaced.task, misplaced.kind);
        let what = "is neither that of the task that forks it nor new with it";
        RestartError::Machine(format!("task {task}: its {kind} namespace {what}"))
    })?;
    let may = facts::own_status()?.caps[2] & SYS_ADMIN != 0;
    match makers.first().filter(|_| !may) {
        Some((task, _)) => {
            let what = "it was in a uts or ipc namespace of its own";
            let text = format!("task {task}: {what}: the caller has not CAP_SYS_ADMIN");
            Err(RestartError::Credentials(text).into())
        }
        None => Ok(()),
    }
}

/// Capabilities that changes of credentials need (capabilities(7)).
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;

/// Each task takes its credentials itself, with the rights of the caller: these must suffice.
fn credentials(body: &Body) -> Result<(), Error> {
    let status = facts::own_status()?;
    let own = facts::own_cred(&status);
    for (index, task) in body.tasks.iter().enumerate() {
        let TaskState::Live(live) = task else { continue };
        let Some(cred) = body.objects.creds.get(live.cred) else { continue };
        if *cred == own {
            continue;
        }
        if let Some((what, need)) = obstacle(&own, cred) {
            let text = format!("task {index}: {what}: the caller {need}");
            return Err(RestartError::Credentials(text).into());
        }
    }
    Ok(())
}

/// What a caller with credentials `own` cannot give to a task, and why not.
fn obstacle(own: &Cred, wanted: &Cred) -> Option<(String, &'static str)> {
    let [_, own_permitted, own_effective, own_bounding] = own.caps;
    let [inheritable, permitted, _, bounding] = wanted.caps;
    let may = |capability: u64| own_effective & capability != 0;
    // real, saved, effective, file system
    if wanted.uids.iter().any(|id| !own.uids.contains(id)) && !may(SETUID) {
        let what = format!("it ran as uid {}", wanted.uids[2]);
        return Some((what, "is another user and has not CAP_SETUID"));
    }
    if wanted.gids.iter().any(|id| !own.gids.contains(id)) && !may(SETGID) {
        return Some((format!("it ran with gid {}", wanted.gids[2]), "has not CAP_SETGID"));
    }
    if wanted.groups != own.groups && !may(SETGID) {
        return Some(("it had other supplementary groups".into(), "has not CAP_SETGID"));
    }
    if permitted & !own_permitted != 0 || inheritable & !(own_permitted | own.caps[0]) != 0 {
        return Some(("it had more capabilities".into(), "cannot give away what it has not"));
    }
    if bounding & !own_bounding != 0 {
        return Some(("its capability bounding set was larger".into(), "cannot extend its own"));
    }
    if (bounding != own_bounding || wanted.securebits != own.securebits) && !may(SETPCAP) {
        let what = "its bounding set or securebits were other ones".into();
        return Some((what, "has not CAP_SETPCAP"));
    }
    None
}

/// Open files that only a caller with certain rights can make.
fn files(body: &Body) -> Result<(), Error> {
    /// See capabilities(7).
    const WAKE_ALARM: u64 = 1 << 35;
    let own = facts::own_cred(&facts::own_status()?);
    let may = |capability: u64| own.caps.get(2).is_some_and(|set| set & capability != 0);
    for file in &body.objects.files {
        if let FileKind::TimerFd(timer) = &file.kind
            && timer.is_alarm()
            && !may(WAKE_ALARM)
        {
            let text = "a timerfd wakes the machine up: the caller has not CAP_WAKE_ALARM";
            return Err(RestartError::Credentials(text.to_owned()).into());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cred(id: u32, caps: u64) -> Cred {
        let sets = [0, caps, caps, u64::MAX];
        Cred { uids: [id; 4], gids: [id; 4], groups: vec![id], caps: sets, securebits: 0 }
    }

    #[test]
    fn root_may_become_anybody() {
        assert_eq!(obstacle(&cred(0, u64::MAX), &cred(1000, 0)), None);
        let fewer = Cred { securebits: 1, caps: [0, 0, 0, 1], ..cred(0, 0) };
        assert_eq!(obstacle(&cred(0, u64::MAX), &fewer), None);
    }

    #[test]
    fn others_may_not() {
        let own = cred(1000, 0);
        let reason = |wanted: Cred| obstacle(&own, &wanted).expect("an obstacle");
        let (what, why) = reason(cred(0, 0));
        assert_eq!(
            (what.as_str(), why),
            ("it ran as uid 0", "is another user and has not CAP_SETUID")
        );
        assert_eq!(reason(Cred { gids: [1000, 5, 5, 5], ..own.clone() }).1, "has not CAP_SETGID");
        assert_eq!(reason(Cred { groups: vec![], ..own.clone() }).1, "has not CAP_SETGID");
        let more = Cred { caps: [0, 1, 0, u64::MAX], ..own.clone() };
        assert_eq!(reason(more).1, "cannot give away what it has not");
        assert_eq!(reason(Cred { securebits: 1, ..own.clone() }).1, "has not CAP_SETPCAP");
        let bounded = Cred { caps: [0, 0, 0, 1], ..own.clone() };
        assert_eq!(obstacle(&bounded, &own).expect("an obstacle").1, "cannot extend its own");
    }

    #[test]
    fn a_user_may_give_up_its_own() {
        let own = cred(1000, 3);
        assert_eq!(obstacle(&own, &cred(1000, 1)), None);
        let switched = Cred { uids: [1000, 0, 1000, 1000], ..own.clone() };
        assert_eq!(obstacle(&switched, &Cred { uids: [0; 4], ..own }), None);
    }
}
