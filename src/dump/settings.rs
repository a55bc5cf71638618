//! Scheduling and the other settings of a task that are kept in a record of our own.

use super::facts::Facts;
use crate::error::DumpError;
use crate::image::Settings;
use crate::sys::remote::Answers;
use crate::sys::sched;

/// The settings of a live task; `online` are the CPUs in use, where known.
pub(super) fn read(
    facts: &Facts,
    answers: &Answers,
    online: Option<&[u64]>,
) -> Result<Settings, DumpError> {
    let failed = |what: &'static str| DumpError::task(facts.tid, what);
    let affinity = sched::affinity(facts.tid).map_err(failed("get its CPUs"))?;
    let all = online.is_some_and(|online| covers(&affinity, online));
    let [mdwe, mdwe_alone] = [1, 2].map(|bit| answers.mdwe & bit != 0);
    if answers.mdwe & !3 != 0 {
        return Err(facts.refuse("the task", "it has a flag of PR_SET_MDWE that is not known"));
    }
    Ok(Settings {
        sched: sched::attributes(facts.tid).map_err(failed("get its scheduling"))?,
        affinity: if all { Vec::new() } else { affinity },
        io_priority: sched::io_priority(facts.tid).map_err(failed("get its I/O priority"))?,
        timer_slack: answers.timer_slack,
        personality: number(facts, "personality", |text| u32::from_str_radix(text, 16).ok())?,
        oom_score_adj: number(facts, "oom_score_adj", |text| text.parse().ok())?,
        no_new_privs: facts.status.no_new_privs,
        subreaper: answers.subreaper,
        // 2 is what the kernel sets by itself, when credentials change; no program can ask for it.
        dumpable: answers.dumpable == 1,
        thp_disabled: answers.thp_disabled,
        mdwe,
        mdwe_alone,
        no_tsc: answers.no_tsc,
        ambient: facts.status.caps[4],
    })
}

/// A file of /proc with one number in it.
fn number<T>(facts: &Facts, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, DumpError> {
    let data = facts.file(name)?;
    parse(String::from_utf8_lossy(&data).trim()).ok_or_else(|| facts.malformed(name))
}

/// Whether every CPU of `wanted` is in `set`.
fn covers(set: &[u64], wanted: &[u64]) -> bool {
    wanted.iter().enumerate().all(|(i, word)| set.get(i).copied().unwrap_or(0) & word == *word)
}
