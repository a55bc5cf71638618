//! What is told about an image in every form.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::super::text::printable;
use super::Failure;
use crate::error::{Error, ImageError, PlanError};
use crate::image::{
    Body, FileKind, ImageHead, Mm, Objects, OpenFile, Origin, PAGE, Reader, Source, TaskState,
};
use crate::plan::{self, Plan, PlanOptions};

/// An image, as far as it could be read.
pub struct Info {
    pub head: ImageHead,
    /// The tree; an error where its ids contradict each other.
    pub plan: Result<Plan, PlanError>,
    /// What is behind the head.
    pub body: Result<Body, ImageError>,
    /// How far it was read, in bytes.
    pub bytes: u64,
}

impl Info {
    /// Reads an image. It fails only where the head cannot be read.
    pub fn read<S: Source>(mut reader: Reader<S>) -> Result<Info, Failure> {
        let head = reader.head().map_err(Error::from)?;
        let body = reader.body(&head);
        let options = PlanOptions { pidns: false, pid_max: super::super::plan::system_pid_max() };
        // Nested pid namespaces can be planned in a new one only.
        let plan = plan::build(&head, &options).or_else(|error| {
            plan::build(&head, &PlanOptions { pidns: true, ..options }).map_err(|_| error)
        });
        Ok(Info { head, plan, body, bytes: reader.position() })
    }

    /// The body, if it could be read.
    pub fn body(&self) -> Option<&Body> {
        self.body.as_ref().ok()
    }

    /// What is wrong with the image, if anything.
    pub fn error(&self) -> Option<String> {
        let body = self.body.as_ref().err().map(ImageError::to_string);
        body.or_else(|| self.plan.as_ref().err().map(PlanError::to_string))
    }

    /// The end of the command: success, or what is wrong with the image.
    pub fn done(self) -> Result<ExitCode, Failure> {
        self.body.map_err(Error::from)?;
        self.plan.map_err(Error::from)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Counts what there is.
    pub fn counts(&self) -> Counts {
        let rows = &self.head.tasks;
        let processes = rows.iter().filter(|row| row.pid == row.tgid).count();
        let mut counts =
            Counts { tasks: rows.len(), processes, threads: rows.len(), ..Counts::default() };
        let Some(body) = self.body() else { return counts };
        let zombie = |task: &&TaskState| matches!(task, TaskState::Zombie(_));
        counts.zombies = body.tasks.iter().filter(zombie).count();
        counts.threads -= counts.zombies.min(counts.threads);
        for file in &body.objects.files {
            *counts.files.entry(what(&file.kind, &body.objects).0).or_default() += 1;
        }
        for mm in &body.objects.mms {
            let (mapped, saved) = memory(mm);
            counts.mapped = counts.mapped.saturating_add(mapped);
            counts.saved = counts.saved.saturating_add(saved);
        }
        let inodes = body.objects.inodes.iter().map(|inode| &inode.pages);
        for pages in body.objects.shms.iter().map(|shm| &shm.pages).chain(inodes) {
            let pages = pages.iter().map(|run| run.count).fold(0, u64::saturating_add);
            counts.saved = counts.saved.saturating_add(pages.saturating_mul(PAGE));
        }
        counts
    }
}

/// How many of everything.
#[derive(Debug, Default)]
pub struct Counts {
    /// Rows of the task table.
    pub tasks: usize,
    /// Thread groups.
    pub processes: usize,
    /// Tasks that run.
    pub threads: usize,
    /// Tasks that have ended.
    pub zombies: usize,
    /// Open file objects by kind.
    pub files: BTreeMap<&'static str, usize>,
    /// Bytes mapped in all address spaces.
    pub mapped: u64,
    /// Bytes of pages in the image.
    pub saved: u64,
}

/// Bytes mapped in an address space, and bytes of its private pages in the image.
pub fn memory(mm: &Mm) -> (u64, u64) {
    let mut both = (0u64, 0u64);
    for vma in &mm.vmas {
        both.0 = both.0.saturating_add(vma.end.saturating_sub(vma.start));
        let pages = vma.pages.iter().map(|run| run.count).fold(0, u64::saturating_add);
        both.1 = both.1.saturating_add(pages.saturating_mul(PAGE));
    }
    both
}

/// The kind of an open file in one word, and what it is.
pub fn what(kind: &FileKind, objects: &Objects) -> (&'static str, String) {
    match kind {
        FileKind::Named { path } => ("file", printable(path)),
        FileKind::Pipe { pipe } => ("pipe", format!("pipe {pipe}")),
        FileKind::Fifo { path, .. } => ("fifo", printable(path)),
        FileKind::Unnamed { inode } => match objects.inodes.get(*inode).map(|i| &i.origin) {
            Some(Origin::Memfd { name, .. }) => ("memfd", format!("memfd {}", printable(name))),
            Some(Origin::Deleted { path }) => ("deleted", format!("{} (deleted)", printable(path))),
            None => ("deleted", "deleted".to_owned()),
        },
        FileKind::Tty { pty, master } => {
            let pty = objects.ptys.get(*pty);
            let number = pty.map_or(0, |pty| pty.index);
            let end = match pty.and_then(|pty| pty.outside) {
                Some(_) => "from outside",
                None if *master => "master",
                None => "slave",
            };
            ("terminal", format!("terminal {number}, {end}"))
        }
        FileKind::Socket { socket } => ("socket", format!("socket {socket}")),
        FileKind::EventFd { count, .. } => ("eventfd", format!("eventfd, count {count}")),
        FileKind::TimerFd(timer) => ("timerfd", format!("timerfd, clock {}", timer.clock)),
        FileKind::Epoll { items } => ("epoll", format!("epoll, {} items", items.len())),
        FileKind::PidFd { task, .. } => ("pidfd", format!("pidfd of task {task}")),
        FileKind::Inotify { watches } => ("inotify", format!("inotify, {} watches", watches.len())),
        FileKind::SignalFd { .. } => ("signalfd", "signalfd".to_owned()),
    }
}

/// What a file was opened for.
pub fn access(file: &OpenFile) -> &'static str {
    match file.flags & libc::O_ACCMODE as u32 {
        0 => "read",
        1 => "write",
        _ => "read and write",
    }
}
