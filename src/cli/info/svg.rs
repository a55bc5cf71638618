//! The tree as a picture in SVG: a box for each task, from left to right who forks whom.
//!
//! Sessions are told by the colour of the boxes, process groups by that of the bar at their left.
//! Never: recursion, more than linear work.

use std::collections::HashMap;
use std::io::{self, Write};

use super::super::draw::{Picture, outside};
use super::super::text::{ended, printable};
use super::facts::Info;
use crate::image::TaskState;
use crate::plan::{Flags, Plan, Task};

/// Size of a box, and the space between boxes.
const WIDTH: f64 = 196.0;
const HEIGHT: f64 = 44.0;
const GAP: (f64, f64) = (44.0, 12.0);
/// Space around everything, and that of the title.
const MARGIN: f64 = 20.0;
const TITLE: f64 = 40.0;
/// One line of the legend.
const LINE: f64 = 22.0;
/// Sessions and groups that the legend names.
const NAMED: usize = 10;
/// Characters of a name that fit in a box.
const FIT: usize = 18;

/// Colours of sessions and of process groups; they begin again where there are more.
const SESSIONS: [&str; 8] =
    ["#dbeafe", "#dcfce7", "#fef3c7", "#fce7f3", "#ede9fe", "#ffedd5", "#ccfbf1", "#fee2e2"];
const GROUPS: [&str; 8] =
    ["#2563eb", "#16a34a", "#d97706", "#db2777", "#7c3aed", "#ea580c", "#0d9488", "#dc2626"];
/// For what is from outside.
const OUTSIDE: &str = "#f1f5f9";
const OUTSIDE_GROUP: &str = "#94a3b8";

/// Draws the tree. Where it could not be planned there is only the reason.
pub fn draw(out: &mut impl Write, info: &Info) -> io::Result<()> {
    match &info.plan {
        Ok(plan) => Drawing::new(info, plan).draw(out),
        Err(error) => {
            open(out, 800.0, 60.0)?;
            let text = escape(&error.to_string());
            writeln!(out, r#"<text x="{MARGIN}" y="36" font-size="14">{text}</text>"#)?;
            writeln!(out, "</svg>")
        }
    }
}

fn open(out: &mut impl Write, width: f64, height: f64) -> io::Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#0f172a">"##
    )?;
    writeln!(out, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##)
}

/// Text for XML. Control characters have been escaped before.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

struct Drawing<'a> {
    info: &'a Info,
    plan: &'a Plan,
    picture: Picture<'a>,
    /// Tasks in the order in which they are drawn, with their levels.
    order: Vec<(usize, usize)>,
    /// The row of each task; between two rows where it has several children.
    rows: Vec<f64>,
    /// Number of each session and process group that there is, in the order of the tasks.
    sessions: Numbers,
    groups: Numbers,
}

/// Ids in the order in which they come.
#[derive(Default)]
struct Numbers {
    by_id: HashMap<i32, usize>,
    ids: Vec<i32>,
}

impl Numbers {
    fn add(&mut self, id: i32) {
        if id != 0 && !self.by_id.contains_key(&id) {
            self.by_id.insert(id, self.ids.len());
            self.ids.push(id);
        }
    }

    fn colour<'c>(&self, id: i32, colours: &[&'c str; 8], outside: &'c str) -> &'c str {
        let number = self.by_id.get(&id);
        number.and_then(|n| colours.get(n % colours.len())).copied().unwrap_or(outside)
    }
}

impl<'a> Drawing<'a> {
    fn new(info: &'a Info, plan: &'a Plan) -> Drawing<'a> {
        let mut order = Vec::new();
        let mut stack = vec![(0, 0)];
        while let Some((index, level)) = stack.pop() {
            order.push((index, level));
            let children = plan.children(index).iter().rev();
            stack.extend(children.map(|&child| (child as usize, level + 1)));
        }
        let mut rows = vec![0.0; plan.tasks.len()];
        let mut next = 0.0;
        for &(index, _) in &order {
            if plan.children(index).is_empty() {
                set(&mut rows, index, next);
                next += 1.0;
            }
        }
        // Children come behind their creators, so they have their rows already.
        for &(index, _) in order.iter().rev() {
            let row = |child: Option<&u32>| child.and_then(|&c| rows.get(c as usize)).copied();
            let children = plan.children(index);
            if let Some((first, last)) = row(children.first()).zip(row(children.last())) {
                set(&mut rows, index, (first + last) / 2.0);
            }
        }
        let (mut sessions, mut groups) = (Numbers::default(), Numbers::default());
        for &(index, _) in &order {
            if let Some(task) = plan.tasks.get(index) {
                sessions.add(task.sid);
                groups.add(task.pgid);
            }
        }
        let picture = Picture::new(plan, info.body());
        Drawing { info, plan, picture, order, rows, sessions, groups }
    }

    fn draw(&self, out: &mut impl Write) -> io::Result<()> {
        let levels = self.order.iter().map(|(_, level)| level + 1).max().unwrap_or(1) as f64;
        let leaves = self.order.iter().filter(|(i, _)| self.plan.children(*i).is_empty()).count();
        let legend_lines =
            2 + self.sessions.ids.len().min(NAMED + 1).max(self.groups.ids.len().min(NAMED + 1));
        let tree = TITLE + MARGIN + leaves as f64 * (HEIGHT + GAP.1);
        let height = tree + legend_lines as f64 * LINE + MARGIN;
        let width = (2.0 * MARGIN + levels * (WIDTH + GAP.0) - GAP.0).max(760.0);
        open(out, width, height)?;
        let release = escape(&printable(&self.info.head.header.release));
        writeln!(
            out,
            r#"<text x="{MARGIN}" y="34" font-size="16" font-weight="bold">Image of Linux {release}, tasks {}</text>"#,
            self.plan.image_tasks()
        )?;
        for &(index, level) in &self.order {
            self.edges(out, index, level)?;
        }
        for &(index, level) in &self.order {
            if let Some(task) = self.plan.tasks.get(index) {
                self.task(out, index, level, task)?;
            }
        }
        self.legend(out, tree)?;
        writeln!(out, "</svg>")
    }

    /// Upper left corner of a box.
    fn place(&self, index: usize, level: usize) -> (f64, f64) {
        let row = self.rows.get(index).copied().unwrap_or(0.0);
        (MARGIN + level as f64 * (WIDTH + GAP.0), TITLE + MARGIN + row * (HEIGHT + GAP.1))
    }

    /// Lines to the children.
    fn edges(&self, out: &mut impl Write, index: usize, level: usize) -> io::Result<()> {
        let (x, y) = self.place(index, level);
        for &child in self.plan.children(index) {
            let child = child as usize;
            let (to_x, to_y) = self.place(child, level + 1);
            let Some(task) = self.plan.tasks.get(child) else { continue };
            let parent = self.plan.tasks.get(index).map(|parent| parent.pid);
            let apart = Flags::THREAD | Flags::GHOST | Flags::DEAD;
            let own = task.flags.any(apart) || Some(task.ppid) == parent;
            let dash = if own { "" } else { r#" stroke-dasharray="3 4""# };
            writeln!(
                out,
                r##"<path d="M{} {} H{} V{} H{to_x}" fill="none" stroke="#64748b"{dash}/>"##,
                x + WIDTH,
                y + HEIGHT / 2.0,
                x + WIDTH + GAP.0 / 2.0,
                to_y + HEIGHT / 2.0,
            )?;
        }
        Ok(())
    }

    fn task(
        &self,
        out: &mut impl Write,
        index: usize,
        level: usize,
        task: &Task,
    ) -> io::Result<()> {
        let look = Look::of(self.info, index, task);
        let (x, y) = self.place(index, level);
        let fill = self.sessions.colour(task.sid, &SESSIONS, OUTSIDE);
        let group = self.groups.colour(task.pgid, &GROUPS, OUTSIDE_GROUP);
        let fill = if look.extra { "#ffffff" } else { fill };
        writeln!(out, r#"<g class="{}">"#, look.class)?;
        writeln!(out, "<title>{}</title>", escape(&self.picture.line(index, task)))?;
        rect(out, (x, y), fill, &look, task.sid == task.pid)?;
        if !look.extra {
            writeln!(
                out,
                r#"<rect x="{}" y="{}" width="5" height="{}" rx="2" fill="{group}"/>"#,
                x + 7.0,
                y + 8.0,
                HEIGHT - 16.0
            )?;
        }
        let (left, right) = (x + 20.0, x + WIDTH - 12.0);
        let name = escape(&look.name);
        let style = look.style;
        writeln!(
            out,
            r#"<text x="{left}" y="{}" font-weight="bold"{style}>{name}</text><text x="{right}" y="{}" text-anchor="end">{}</text>"#,
            y + 18.0,
            y + 18.0,
            task.pid
        )?;
        let bold = |leads| if leads { r#" font-weight="bold""# } else { "" };
        let below = match &look.note {
            Some(note) => escape(note),
            None => format!(
                "session <tspan{}>{}</tspan>, group <tspan{}>{}</tspan>",
                bold(task.sid == task.pid),
                outside(task.sid),
                bold(task.pgid == task.pid),
                outside(task.pgid)
            ),
        };
        writeln!(
            out,
            r##"<text x="{left}" y="{}" font-size="11" fill="#475569">{below}</text></g>"##,
            y + 35.0
        )
    }

    fn legend(&self, out: &mut impl Write, top: f64) -> io::Result<()> {
        let text = |out: &mut dyn Write, x: f64, y: f64, text: &str| {
            writeln!(out, r##"<text x="{x}" y="{y}" fill="#475569">{}</text>"##, escape(text))
        };
        let words = "Thick frame: leads its session. Bold number: leads what it names. \
                     Dashed line: forked by, but not a child of.";
        text(out, MARGIN, top + 16.0, words)?;
        let top = top + LINE;
        let columns = [
            (MARGIN, "session", &self.sessions, &SESSIONS),
            (MARGIN + 200.0, "process group", &self.groups, &GROUPS),
        ];
        for (x, name, numbers, colours) in columns {
            let width = if name == "session" { 16.0 } else { 5.0 };
            for (line, &id) in numbers.ids.iter().take(NAMED).enumerate() {
                let y = top + line as f64 * LINE;
                let colour = numbers.colour(id, colours, OUTSIDE);
                writeln!(
                    out,
                    r##"<rect x="{x}" y="{}" width="{width}" height="16" rx="2" fill="{colour}" stroke="#64748b" stroke-width="0.5"/>"##,
                    y + 4.0
                )?;
                text(out, x + 24.0, y + 16.0, &format!("{name} {id}"))?;
            }
            if numbers.ids.len() > NAMED {
                let more = format!("and {} more", numbers.ids.len() - NAMED);
                text(out, x + 24.0, top + NAMED as f64 * LINE + 16.0, &more)?;
            }
        }
        Ok(())
    }
}

fn set(rows: &mut [f64], index: usize, row: f64) {
    if let Some(to) = rows.get_mut(index) {
        *to = row;
    }
}

fn rect(
    out: &mut impl Write,
    (x, y): (f64, f64),
    fill: &str,
    look: &Look,
    leads: bool,
) -> io::Result<()> {
    let width = if leads && !look.extra { 2.5 } else { 1.0 };
    let dash = look.dash;
    let radius = look.radius;
    let fill = if look.class == "zombie" { "#cbd5e1" } else { fill };
    writeln!(
        out,
        r##"<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{radius}" fill="{fill}" stroke="#334155" stroke-width="{width}"{dash}/>"##
    )
}

/// How a task looks.
struct Look {
    class: &'static str,
    name: String,
    /// What stands below the name, instead of its session and group.
    note: Option<String>,
    /// Not in the image.
    extra: bool,
    dash: &'static str,
    radius: f64,
    style: &'static str,
}

impl Look {
    fn of(info: &Info, index: usize, task: &Task) -> Look {
        let mut look = Look {
            class: "process",
            name: "task".into(),
            note: None,
            extra: false,
            dash: "",
            radius: 4.0,
            style: "",
        };
        if task.flags.any(Flags::GHOST | Flags::DEAD) {
            let ghost = task.flags.has(Flags::GHOST);
            look.class = if ghost { "ghost" } else { "placeholder" };
            look.name = look.class.into();
            look.note = Some(
                if ghost { "a leader that is gone" } else { "forks others, then exits" }.into(),
            );
            look.extra = true;
            look.dash =
                if ghost { r#" stroke-dasharray="7 4""# } else { r#" stroke-dasharray="2 3""# };
            look.style = r##" font-style="italic" fill="#64748b""##;
            return look;
        }
        match info.body().and_then(|body| body.tasks.get(index)) {
            Some(TaskState::Live(live)) => look.name = printable(&live.comm),
            Some(TaskState::Zombie(zombie)) => {
                look.class = "zombie";
                look.name = printable(&zombie.comm);
                look.note = Some(format!("zombie, {}", ended(zombie.exit_code)));
                look.style = r##" text-decoration="line-through" fill="#475569""##;
            }
            None => {}
        }
        if task.flags.has(Flags::THREAD) {
            look.class = if look.class == "zombie" { "zombie" } else { "thread" };
            look.radius = HEIGHT / 2.0;
            look.note = look.note.or_else(|| Some(format!("thread of {}", task.tgid)));
        }
        if look.name.chars().count() > FIT {
            look.name = look.name.chars().take(FIT - 1).chain(['…']).collect();
        }
        look
    }
}
