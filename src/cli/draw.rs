//! A plan as a picture for people: the tree of who forks whom, in the order of the forks, with the
//! reason for each task that the image does not have.
//!
//! Comes in: a plan, and the state of its tasks where that could be read. Goes out: lines of text; what
//! the image says is made harmless for terminals. Never: recursion, more than linear work.

use std::collections::HashMap;
use std::io::{self, Write};

use super::text::{ended, printable};
use crate::error::ImageError;
use crate::image::{Body, ImageHead, TaskState};
use crate::plan::{Flags, Plan, Task};

/// Deeper levels are given as a number: indented, a deep tree would be wider than it is long.
const DEEPEST: usize = 24;

/// How many tasks a reason names before it only counts them.
const NAMED: usize = 3;

/// Draws the plan. `body` is what there is behind the head of the image.
pub fn draw(
    out: &mut impl Write,
    head: &ImageHead,
    plan: &Plan,
    body: Result<Body, ImageError>,
) -> io::Result<()> {
    let count = |flag| plan.tasks.iter().filter(|t| t.flags.has(flag)).count();
    writeln!(
        out,
        "image of Linux {} ({}): tasks {}, ghosts {}, placeholders {}\n",
        printable(&head.header.release),
        printable(&head.header.machine),
        plan.image_tasks(),
        count(Flags::GHOST),
        count(Flags::DEAD)
    )?;
    tree(out, plan, body.as_ref().ok())?;
    if let Err(error) = body {
        writeln!(
            out,
            "The state behind the task table cannot be read, so names are missing: {error}"
        )?;
    }
    Ok(())
}

/// Draws the tree alone, and says what is special about it.
pub fn tree(out: &mut impl Write, plan: &Plan, body: Option<&Body>) -> io::Result<()> {
    let picture = Picture::new(plan, body);
    picture.tree(out)?;
    writeln!(
        out,
        "\nChildren stand in the order in which they are forked; - means: from outside."
    )?;
    let orphans = plan.orphans();
    if !orphans.is_empty() {
        writeln!(
            out,
            "This tree can only be restarted with --pidns: as it is the parent of tasks that stay, {} cannot exit.",
            picture.names(&orphans)
        )?;
    }
    Ok(())
}

/// A plan, and what is needed to tell of its tasks.
pub struct Picture<'a> {
    plan: &'a Plan,
    body: Option<&'a Body>,
    /// Who needs the pid of a ghost, by the ghost's index.
    users: HashMap<usize, Users>,
}

/// Tasks that need the pid of a ghost.
#[derive(Default)]
struct Users {
    session: Vec<usize>,
    group: Vec<usize>,
    threads: Vec<usize>,
}

fn users(plan: &Plan) -> HashMap<usize, Users> {
    let mut users: HashMap<usize, Users> = HashMap::new();
    let ghost = |&i: &usize| plan.tasks.get(i).is_some_and(|t| t.flags.has(Flags::GHOST));
    let mut threads: HashMap<i32, usize> = HashMap::new();
    for (index, task) in plan.tasks.iter().enumerate().filter(|(i, _)| ghost(i)) {
        threads.insert(task.pid, index);
    }
    for (index, task) in plan.tasks.iter().enumerate().filter(|(i, _)| !ghost(i)) {
        if let Some(leader) = plan.session_leader(index).filter(ghost) {
            users.entry(leader).or_default().session.push(index);
        }
        if let Some(leader) = plan.group_leader(index).filter(ghost) {
            users.entry(leader).or_default().group.push(index);
        }
        if let Some(&leader) = threads.get(&task.tgid).filter(|_| task.flags.has(Flags::THREAD)) {
            users.entry(leader).or_default().threads.push(index);
        }
    }
    users
}

impl<'a> Picture<'a> {
    /// `body` is what there is behind the head of the image.
    pub fn new(plan: &'a Plan, body: Option<&'a Body>) -> Picture<'a> {
        Picture { plan, body, users: users(plan) }
    }

    fn tree(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:>7} {:>7} {:>7} {:>7}  TASK", "INDEX", "PID", "SESSION", "GROUP")?;
        // Tasks still to be drawn: index, level, whether it is its creator's last child.
        let mut stack = vec![(0, 0, true)];
        // For each level above the current task whether more follows there.
        let mut more: Vec<bool> = Vec::new();
        while let Some((index, level, last)) = stack.pop() {
            let Some(task) = self.plan.tasks.get(index) else { continue };
            more.truncate(level);
            writeln!(
                out,
                "{index:>7} {:>7} {:>7} {:>7}  {}{}",
                task.pid,
                outside(task.sid),
                outside(task.pgid),
                indent(&more, level, last),
                self.line(index, task)
            )?;
            more.push(!last);
            let children = self.plan.children(index).iter().rev().enumerate();
            stack.extend(children.map(|(i, &child)| (child as usize, level + 1, i == 0)));
        }
        Ok(())
    }

    /// Name of a task and what is special about it.
    pub fn line(&self, index: usize, task: &Task) -> String {
        let mut text = self.name(index, task);
        for note in self.notes(index, task) {
            text.push_str(", ");
            text.push_str(&note);
        }
        text
    }

    fn name(&self, index: usize, task: &Task) -> String {
        if task.flags.has(Flags::GHOST) {
            return format!("ghost {}", self.ghost_reason(index));
        }
        if task.flags.has(Flags::DEAD) {
            return format!("placeholder {}", self.placeholder_reason(index));
        }
        let state = self.body.and_then(|body| body.tasks.get(index));
        match state {
            Some(TaskState::Live(live)) => printable(&live.comm),
            Some(TaskState::Zombie(zombie)) => {
                format!("{}, zombie ({})", printable(&zombie.comm), ended(zombie.exit_code))
            }
            None => "task".into(),
        }
    }

    fn notes(&self, index: usize, task: &Task) -> Vec<String> {
        let mut notes = Vec::new();
        let creator = task.creator.and_then(|c| self.plan.tasks.get(c));
        if task.flags.has(Flags::NEW_PIDNS) {
            notes.push("first task of a new pid namespace".into());
        }
        if task.flags.has(Flags::THREAD) {
            notes.push(format!("thread of {}", task.tgid));
        }
        if let Some(creator) = creator {
            if task.flags.has(Flags::SESSION) && leads_session(creator) {
                notes.push(format!("forked before {} calls setsid", creator.pid));
            }
            if task.flags.has(Flags::SIBLING) {
                let parent = self.plan.real_parent(index).and_then(|p| self.plan.tasks.get(p));
                let parent = parent.map_or_else(|| "outside".into(), |p| p.pid.to_string());
                notes.push(format!("a child of {parent} (CLONE_PARENT)"));
            } else if !task.flags.has(Flags::THREAD)
                && creator.flags.any(Flags::GHOST | Flags::DEAD)
                && !extra(task)
            {
                notes.push(format!("its parent shall be {}", task.ppid));
            }
        }
        if leads_session(task) && !task.flags.has(Flags::THREAD) {
            notes.push("calls setsid".into());
        }
        notes
    }

    fn ghost_reason(&self, index: usize) -> String {
        let Some(users) = self.users.get(&index) else { return "(its pid is used)".into() };
        let kinds = [
            ("session", &users.session),
            ("process group", &users.group),
            ("thread group", &users.threads),
        ];
        let reasons = kinds.iter().filter(|(_, users)| !users.is_empty());
        let reasons = reasons.map(|(kind, users)| format!("the {kind} of {}", self.names(users)));
        format!("(leader, gone, of {})", reasons.collect::<Vec<_>>().join(" and "))
    }

    fn placeholder_reason(&self, index: usize) -> String {
        let children: Vec<usize> =
            self.plan.children(index).iter().map(|&child| child as usize).collect();
        let sid = self.plan.tasks.get(index).map_or(0, |t| t.sid);
        let session = if sid == 0 { "of outside".into() } else { sid.to_string() };
        format!(
            "(for a parent, gone, in session {session}: forks {}, then exits)",
            self.names(&children)
        )
    }

    /// The pids of tasks; of many, the first and how many more.
    fn names(&self, indices: &[usize]) -> String {
        let named = indices.iter().take(NAMED).filter_map(|&i| self.plan.tasks.get(i));
        let mut text = named.map(|t| t.pid.to_string()).collect::<Vec<_>>().join(", ");
        if indices.len() > NAMED {
            text.push_str(&format!(" and {} more", indices.len() - NAMED));
        }
        text
    }
}

fn leads_session(task: &Task) -> bool {
    task.sid == task.pid
}

/// Whether the image does not have this task.
fn extra(task: &Task) -> bool {
    task.flags.any(Flags::GHOST | Flags::DEAD)
}

/// An id, - for one from outside.
pub fn outside(number: i32) -> String {
    if number == 0 { "-".into() } else { number.to_string() }
}

/// The lines from a task up to its creator.
fn indent(more: &[bool], level: usize, last: bool) -> String {
    if level == 0 {
        return String::new();
    }
    if level > DEEPEST {
        return format!("{} level {level}: ", if last { '└' } else { '├' });
    }
    let above = more.get(1..level).unwrap_or_default().iter();
    let mut text: String = above.map(|&more| if more { "│  " } else { "   " }).collect();
    text.push_str(if last { "└─ " } else { "├─ " });
    text
}
