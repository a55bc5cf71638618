//! What is open where version 6 has no type for it: a record of our own in front of the FILE.
#![forbid(unsafe_code)]

use super::layout::Payload;
use super::{Thing, Writer, unwritable};
use crate::error::ImageError;
use crate::image::records::{self, Kind};
use crate::image::{EpollItem, OpenFile, TimerFd, Watch};

impl Writer<'_> {
    /// A record of our own that says what is open, then a FILE that no other reader can take for
    /// something else: its path leads nowhere.
    pub(super) fn stand_in(
        &mut self,
        record: Kind,
        file: &OpenFile,
        cred: i32,
        path: &[u8],
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), ImageError> {
        self.out.record(record, fill)?;
        self.file_record(1, file, cred, |_| ())?;
        self.path(path)
    }

    pub(super) fn timer_fd(
        &mut self,
        timer: &TimerFd,
        file: &OpenFile,
        cred: i32,
    ) -> Result<(), ImageError> {
        self.stand_in(records::TIMERFD, file, cred, b"/anon_inode:[timerfd]", |r| {
            r.u32(timer.clock).u32(timer.flags);
            r.u64(timer.value).u64(timer.interval).u64(timer.ticks);
        })
    }

    pub(super) fn signal_fd(
        &mut self,
        mask: u64,
        file: &OpenFile,
        cred: i32,
    ) -> Result<(), ImageError> {
        self.stand_in(records::SIGNALFD, file, cred, b"/anon_inode:[signalfd]", |r| {
            r.u64(mask);
        })
    }

    pub(super) fn pid_fd(
        &mut self,
        task: usize,
        thread: bool,
        file: &OpenFile,
        cred: i32,
    ) -> Result<(), ImageError> {
        let Some(row) = self.head.tasks.get(task) else {
            let reason = format!("task {task} is not in the table");
            return Err(unwritable(records::PIDFD, reason));
        };
        self.stand_in(records::PIDFD, file, cred, b"/anon_inode:[pidfd]", |r| {
            r.i32(row.pid).u32(thread.into());
        })
    }

    /// Not by [`Writer::stand_in`]: more than one record says what it is.
    pub(super) fn inotify(
        &mut self,
        watches: &[Watch],
        file: &OpenFile,
        cred: i32,
    ) -> Result<(), ImageError> {
        self.out.record(records::INOTIFY, |r| {
            r.u32(watches.len() as u32).zeros(4);
        })?;
        for watch in watches {
            self.out.record(records::WATCH, |r| {
                r.i32(watch.wd).u32(watch.mask).u32(watch.mode).zeros(4);
            })?;
            self.path(&watch.path)?;
        }
        self.file_record(1, file, cred, |_| ())?;
        self.path(b"/anon_inode:inotify")
    }

    /// What epoll files wait for, as far as all the files have been written.
    pub(super) fn epoll_items(&mut self) -> Result<(), ImageError> {
        for (epoll, items) in std::mem::take(&mut self.epolls) {
            let tag = |item: &EpollItem| self.tags.known(Thing::File(item.file));
            let Some(tags) = items.iter().map(tag).collect::<Option<Vec<i32>>>() else {
                self.epolls.push((epoll, items));
                continue;
            };
            self.out.record(records::EPOLL_ITEMS, |r| {
                r.i32(epoll).u32(items.len() as u32);
            })?;
            self.out.record(records::BUFFER, |r| {
                for (item, tag) in items.iter().zip(tags) {
                    r.u64(item.data).i32(item.fd).i32(tag).u32(item.events).zeros(4);
                }
            })?;
        }
        Ok(())
    }
}
