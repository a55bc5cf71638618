//! Writes images: the way back from [`ImageHead`] and [`Body`] to records.
//!
//! Comes in: state that was collected. Goes out: a [`Layout`], from which the image is made part by
//! part; a [`PageSource`] gives the contents of pages when their turn comes. Tags are given in the order of
//! first writing, behind those of the pid objects; every padding byte is zero.
#![forbid(unsafe_code)]

mod body;
mod head;
mod kinds;
mod layout;
mod locks;
mod memory;
mod objects;
mod sockets;
mod spaces;
mod terminals;
mod unnamed;

use std::collections::{HashMap, VecDeque};
use std::io::Write;

pub use layout::{Layout, Room};

use super::records::{self, Kind};
use super::{Body, EpollItem, ImageHead, Namespaces};
use crate::error::{Error, ImageError};

/// Whose pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagesOf {
    /// An address space: index in `Objects::mms`; addresses are those of the tasks.
    Mm(usize),
    /// Shared anonymous memory: index in `Objects::shms`; addresses are offsets in it.
    Shm(usize),
    /// A file without a name: index in `Objects::inodes`; addresses are offsets in it.
    Inode(usize),
}

/// Gives the contents of pages.
pub trait PageSource {
    /// Fills `buf`, all of it, with what is at `address` and behind. It lies inside one run of pages,
    /// but need not begin or end with a page.
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error>;
}

/// Writes a whole image, front to end in large pieces, and asks `pages` for contents of pages in the
/// order of the image. Objects that no task refers to are left out.
///
/// # Errors
/// Those of `out`, of `pages`, and of [`Layout::new`]. What was written until then is no image.
pub fn write_image(
    out: &mut impl Write,
    head: &ImageHead,
    body: &Body,
    pages: &mut dyn PageSource,
) -> Result<(), Error> {
    let layout = Layout::new(head, body)?;
    let (mut offset, mut room) = (0, Room::new());
    while offset < layout.len() {
        let part = layout.part(offset, &mut room, pages)?;
        out.write_all(part).map_err(|source| ImageError::Write { offset, source })?;
        offset += part.len() as u64;
    }
    Ok(())
}

/// Writes the head alone, with the records of ours that belong to it: what an engine needs that
/// hands the image on with other pids.
///
/// # Errors
/// Those of `out`, and where `head` cannot be put in records.
pub fn write_head(out: &mut impl Write, head: &ImageHead) -> Result<(), ImageError> {
    let mut layout = Layout::default();
    head::write(&mut layout, head)?;
    out.write_all(&layout.into_bytes()).map_err(|source| ImageError::Write { offset: 0, source })
}

/// See [`Layout::new`].
fn layout(head: &ImageHead, body: &Body) -> Result<Layout, ImageError> {
    if head.tasks.len() != body.tasks.len() {
        let reason = format!("{} rows for {} tasks", head.tasks.len(), body.tasks.len());
        return Err(unwritable(records::TREE, reason));
    }
    let mut out = Layout::default();
    head::write(&mut out, head)?;
    let (epolls, waiting) = (Vec::new(), VecDeque::new());
    let mut writer = Writer { out, head, body, tags: Tags::new(head)?, waiting, epolls };
    for task in &body.tasks {
        writer.task(task)?;
    }
    if !writer.epolls.is_empty() {
        let reason = "an epoll file waits for a file that no descriptor leads to".to_owned();
        return Err(unwritable(records::EPOLL_ITEMS, reason));
    }
    writer.out.record(records::TAIL, |r| {
        r.u64(records::MAGIC_TAIL);
    })?;
    Ok(writer.out)
}

/// The state of writing a body.
struct Writer<'a> {
    out: Layout,
    head: &'a ImageHead,
    body: &'a Body,
    tags: Tags<'a>,
    /// Sockets that were written without what waits in them.
    waiting: VecDeque<usize>,
    /// Epoll files, with their tags, and what they wait for: to be written when all of that is.
    epolls: Vec<(i32, &'a [EpollItem])>,
}

/// The tags that were given, and the next one.
struct Tags<'a> {
    next: i32,
    objects: HashMap<Thing<'a>, i32>,
}

/// What has a tag: an object by its index, or something that has no table by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing<'a> {
    FileTable(usize),
    File(usize),
    Pipe(usize),
    /// An end of a pair: its index, and whether it is the master.
    Tty(usize, bool),
    /// A file without a name.
    Unnamed(usize),
    Socket(usize),
    Mm(usize),
    Shm(usize),
    Fs(usize),
    SigHand(usize),
    Signal(usize),
    Cred(usize),
    Groups(&'a [u32]),
    User(u32),
    UserNs,
    Ns(Namespaces),
    Uts(usize),
    Ipc(usize),
    /// The file of a shared mapping, by its path.
    Inode(&'a [u8]),
}

impl Thing<'_> {
    /// The number of its object type.
    fn number(self) -> u32 {
        match self {
            Thing::Pipe(_) | Thing::Unnamed(_) | Thing::Shm(_) | Thing::Inode(_) => 2,
            Thing::FileTable(_) => 3,
            Thing::File(_) => 4,
            Thing::Mm(_) => 5,
            Thing::Fs(_) => 6,
            Thing::SigHand(_) => 7,
            Thing::Signal(_) => 8,
            Thing::Ns(_) => 9,
            Thing::Uts(_) => 10,
            Thing::Ipc(_) => 11,
            Thing::UserNs => 13,
            Thing::Cred(_) => 14,
            Thing::User(_) => 15,
            Thing::Groups(_) => 16,
            Thing::Tty(..) => 18,
            Thing::Socket(_) => 17,
        }
    }
}

impl<'a> Tags<'a> {
    fn new(head: &ImageHead) -> Result<Self, ImageError> {
        // The pid objects have the first tags.
        let next = i64::from(head.pids.offset).saturating_add_unsigned(head.pids.len() as u64);
        match i32::try_from(next) {
            Ok(next) if head.pids.offset > 0 => Ok(Tags { next, objects: HashMap::new() }),
            _ => Err(unwritable(
                records::PIDS,
                format!("{} pid objects from tag {}", head.pids.len(), head.pids.offset),
            )),
        }
    }

    /// The tag of a thing that has one.
    fn known(&self, thing: Thing<'a>) -> Option<i32> {
        self.objects.get(&thing).copied()
    }

    /// The tag of a thing, and whether it was given just now.
    fn get(&mut self, thing: Thing<'a>) -> Result<(i32, bool), ImageError> {
        if let Some(&tag) = self.objects.get(&thing) {
            return Ok((tag, false));
        }
        let tag = self.next;
        self.next = tag
            .checked_add(1)
            .ok_or_else(|| unwritable(records::OBJREF, "more objects than tags".into()))?;
        self.objects.insert(thing, tag);
        Ok((tag, true))
    }
}

/// The body has something that no record can hold.
fn unwritable(record: Kind, reason: String) -> ImageError {
    ImageError::Unwritable { record: record.name, reason }
}

/// An entry of a table of the body.
fn entry<T>(table: &[T], index: usize, record: Kind) -> Result<&T, ImageError> {
    table
        .get(index)
        .ok_or_else(|| unwritable(record, format!("index {index} in a table of {}", table.len())))
}
