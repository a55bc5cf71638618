//! The last failure of each thread, for callers who want more than errno.
//!
//! In: the error that a call ended with. Out: a C struct that stays in place until the same thread
//! fails again. A call that succeeds changes nothing here, as with errno.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_long};
use std::ptr;

use crate::error::{Error, Stage};

/// usercr_error.stage: looking at the arguments.
pub const USERCR_STAGE_ARGUMENTS: c_int = 1;
/// usercr_error.stage: reading or writing the image.
pub const USERCR_STAGE_IMAGE: c_int = 2;
/// usercr_error.stage: planning the tree of the image.
pub const USERCR_STAGE_PLAN: c_int = 3;
/// usercr_error.stage: making the tasks of the image.
pub const USERCR_STAGE_RESTART: c_int = 4;
/// usercr_error.stage: reading the tasks that are to be saved.
pub const USERCR_STAGE_CHECKPOINT: c_int = 5;
/// usercr_error.stage: a system call that the library made for itself.
pub const USERCR_STAGE_SYSTEM: c_int = 6;
/// usercr_error.stage: a defect of the library.
pub const USERCR_STAGE_INTERNAL: c_int = 7;

/// A failure of cr_restart or cr_checkpoint. Later versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct UsercrError {
    /// errno of the call.
    pub code: c_int,
    /// What was being done: USERCR_STAGE_*.
    pub stage: c_int,
    /// The task, by its index in the task table. -1: no single task is the cause.
    pub task: c_int,
    /// Pid of the task: in a restart the one of the image, in a checkpoint as the caller sees it.
    /// 0: not known.
    pub pid: c_int,
    /// Where in the image, in bytes from its start, the record is that is the cause. -1: none is.
    pub offset: c_long,
    /// The message, one line without its end. Never NULL.
    pub text: *const c_char,
}

/// What a thread keeps. The struct points to the text, and both stay where they are on the heap.
struct Last {
    error: Box<UsercrError>,
    _text: CString,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Notes the failure of a call of this thread.
pub(super) fn note(error: &Error) {
    let stage = match error.stage() {
        Stage::Arguments => USERCR_STAGE_ARGUMENTS,
        Stage::Image => USERCR_STAGE_IMAGE,
        Stage::Plan => USERCR_STAGE_PLAN,
        Stage::Restart => USERCR_STAGE_RESTART,
        Stage::Checkpoint => USERCR_STAGE_CHECKPOINT,
        Stage::System => USERCR_STAGE_SYSTEM,
    };
    let number = |value: Option<usize>| value.and_then(|v| c_int::try_from(v).ok());
    let at = UsercrError {
        task: number(error.task()).unwrap_or(-1),
        pid: error.pid().unwrap_or(0),
        offset: error.offset().and_then(|o| c_long::try_from(o).ok()).unwrap_or(-1),
        ..plain(error.errno(), stage)
    };
    keep(at, error.to_string());
}

/// Notes a failure that has no place in the image and no task.
pub(super) fn note_text(errno: c_int, stage: c_int, text: &str) {
    keep(plain(errno, stage), text.to_owned());
}

fn plain(code: c_int, stage: c_int) -> UsercrError {
    UsercrError { code, stage, task: -1, pid: 0, offset: -1, text: ptr::null() }
}

fn keep(mut error: UsercrError, mut text: String) {
    text.retain(|c| c != '\0');
    let text = CString::new(text).unwrap_or_default();
    error.text = text.as_ptr();
    let last = Last { error: Box::new(error), _text: text };
    // A thread that is being torn down keeps nothing any more.
    let _ = LAST.try_with(|slot| slot.replace(Some(last)));
}

/// The last failure of cr_restart or cr_checkpoint in the calling thread. NULL: none has failed.
///
/// What it points to belongs to the library. It is valid until the thread calls cr_restart or
/// cr_checkpoint again, or ends. A call that succeeds leaves it as it is; errno stays as it is too.
#[unsafe(no_mangle)]
pub extern "C" fn usercr_last_error() -> *const UsercrError {
    let last = LAST.try_with(|slot| {
        let slot = slot.try_borrow().ok()?;
        slot.as_ref().map(|last| ptr::from_ref(last.error.as_ref()))
    });
    last.ok().flatten().unwrap_or(ptr::null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DumpError, ImageError, PlanError, RestartError, SysError};
    use std::ffi::CStr;
    use std::io;

    /// errno, stage, task, pid, offset, text of this thread's last failure.
    fn last() -> Option<(c_int, c_int, c_int, c_int, c_long, String)> {
        // SAFETY: NULL, or valid until this thread notes the next failure.
        let e = unsafe { usercr_last_error().as_ref() }?;
        // SAFETY: the text ends in NUL and lives as long as the struct.
        let text = unsafe { CStr::from_ptr(e.text) }.to_string_lossy().into_owned();
        Some((e.code, e.stage, e.task, e.pid, e.offset, text))
    }

    fn noted(error: impl Into<Error>) -> (c_int, c_int, c_int, c_int, c_long) {
        let error = error.into();
        note(&error);
        let (code, stage, task, pid, offset, text) = last().expect("it was noted");
        assert_eq!(text, error.to_string());
        (code, stage, task, pid, offset)
    }

    fn broken() -> io::Error {
        io::Error::from_raw_os_error(libc::EPIPE)
    }

    #[test]
    fn each_kind_says_where() {
        let bad = ImageError::Bad { record: "PIDS", offset: 96, reason: "x".to_owned() };
        assert_eq!(noted(bad), (libc::EINVAL, USERCR_STAGE_IMAGE, -1, 0, 96));
        let tag = PlanError::Tag { index: 3, id: "session", tag: 9 };
        assert_eq!(noted(tag), (libc::EINVAL, USERCR_STAGE_PLAN, 3, 0, -1));
        let orphans = PlanError::Orphans { indices: vec![4, 5] };
        assert_eq!(noted(orphans), (libc::EINVAL, USERCR_STAGE_PLAN, 4, 0, -1));
        let call =
            RestartError::Task { index: 2, pid: 40, what: "open".to_owned(), source: broken() };
        assert_eq!(noted(call), (libc::EPIPE, USERCR_STAGE_RESTART, 2, 40, -1));
        let self_with = RestartError::Arguments("x");
        assert_eq!(noted(self_with), (libc::EINVAL, USERCR_STAGE_ARGUMENTS, -1, 0, -1));
        let file = DumpError::Unsupported {
            index: 1,
            pid: 77,
            object: "descriptor 5".to_owned(),
            reason: "a socket".to_owned(),
        };
        assert_eq!(noted(file), (libc::ENOTSUP, USERCR_STAGE_CHECKPOINT, 1, 77, -1));
        let own = DumpError::Own(SysError::new("pipe", broken()));
        assert_eq!(noted(own), (libc::EPIPE, USERCR_STAGE_SYSTEM, -1, 0, -1));
        let sys = SysError::new("pipe", broken());
        assert_eq!(noted(sys), (libc::EPIPE, USERCR_STAGE_SYSTEM, -1, 0, -1));
        let descriptor = Error::Descriptor { field: "infd", number: -1 };
        assert_eq!(noted(descriptor), (libc::EBADF, USERCR_STAGE_ARGUMENTS, -1, 0, -1));
    }

    #[test]
    fn a_thread_sees_its_own() {
        note_text(libc::EIO, USERCR_STAGE_INTERNAL, "here\0it is");
        let other = std::thread::spawn(last).join().expect("it ends");
        assert_eq!(other, None);
        assert_eq!(last().map(|l| l.5).as_deref(), Some("hereit is"));
    }
}
