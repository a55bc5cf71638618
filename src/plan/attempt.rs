//! One planner after the other, until a plan is right.
//!
//! Comes in: a [`Forest`] without creators. Goes out: a [`Plan`] that the simulator has proved.

use super::ghosts::Forest;
use super::pids::{Id, Ids};
use super::{Flags, NONE, Plan, Task, creators, inherit, simulate};
use crate::error::PlanError;
use crate::image::PidTable;

/// The first plan that is right: the historic one, else one that leaves nobody orphaned, else any.
///
/// # Errors
/// What is wrong with the last one; EOVERFLOW where no pid is left for a placeholder.
pub(super) fn first_right(
    forest: &mut Forest,
    ids: &Ids,
    pids: &PidTable,
) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut proved = |forest: &mut Forest| {
        finish(forest, &mut plan)?;
        // With orphans reaped; whether there may be any is for the orphan check.
        let right = simulate::prove(ids, pids, &plan, true);
        if right.is_err() {
            forest.pids = std::mem::take(&mut plan.pids);
        }
        right
    };
    let mut right = creators::assign(forest)?.is_ok() && proved(forest).is_ok();
    if !right {
        forest.reset();
        right = inherit::assign(forest, false).is_ok() && proved(forest).is_ok();
    }
    if !right {
        forest.reset();
        inherit::assign(forest, true)?;
        proved(forest)?;
    }
    Ok(plan)
}

/// Turns the finished forest into a plan, which takes its pid objects.
fn finish(forest: &mut Forest, plan: &mut Plan) -> Result<(), PlanError> {
    plan.image_tasks = forest.image;
    plan.tasks.clear();
    plan.tasks.reserve_exact(forest.rows.len());
    for (at, row) in forest.rows.iter().enumerate() {
        let at = at as u32;
        let above = if at == 0 { 0 } else { forest.depth(row.creator) };
        let new_pidns = match forest.depth(at).checked_sub(above) {
            Some(0) => Flags::default(),
            Some(1) => Flags::NEW_PIDNS,
            _ => {
                let reason = "is not in the pid namespace of its creator or one below";
                return Err(forest.error(at, reason));
            }
        };
        plan.tasks.push(Task {
            pid: forest.number(Id::of(row.pid)),
            ppid: forest.number(row.ppid),
            tgid: forest.number(Id::of(row.tgid)),
            pgid: forest.number(row.pgid),
            sid: forest.number(row.sid),
            flags: row.flags | new_pidns,
            creator: (row.creator != NONE).then_some(row.creator as usize),
            object: row.object,
            levels: row.levels,
            group: forest.holder(row.pgid),
            session: forest.holder(row.sid),
        });
    }
    list_children(forest, plan);
    plan.pids = std::mem::take(&mut forest.pids);
    Ok(())
}

/// Lists the children of each row: those before setsid first, each kind from the last attached to the
/// first.
fn list_children(forest: &Forest, plan: &mut Plan) {
    // Where the next child of each row goes: first the early ones, then the others.
    let mut early = vec![0u32; forest.rows.len()];
    let mut late = early.clone();
    for row in &forest.rows {
        let kind = if row.flags.has(Flags::SESSION) { &mut early } else { &mut late };
        if let Some(count) = kind.get_mut(row.creator as usize) {
            *count += 1;
        }
    }
    plan.child_starts.clear();
    plan.child_starts.reserve_exact(forest.rows.len() + 1);
    let mut next = 0;
    for (early, late) in early.iter_mut().zip(&mut late) {
        plan.child_starts.push(next);
        let first_late = next + std::mem::replace(early, next);
        next = first_late + std::mem::replace(late, first_late);
    }
    plan.child_starts.push(next);
    plan.child_list.clear();
    plan.child_list.resize(next as usize, 0);
    for &child in forest.attached.iter().rev() {
        let row = &forest.rows[child as usize];
        let kind = if row.flags.has(Flags::SESSION) { &mut early } else { &mut late };
        let place = &mut kind[row.creator as usize];
        plan.child_list[*place as usize] = child;
        *place += 1;
    }
}
