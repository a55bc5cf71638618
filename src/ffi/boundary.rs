//! From Rust's outcomes to C's.
//!
//! In: a closure that calls the core. Out: its value, or -1 with errno. A failure is reported here,
//! once; a panic becomes a failure like any other (EIO). errno is the last thing that is touched,
//! after every guard of the call was dropped.

use std::any::Any;
use std::ffi::c_int;
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::last;
use crate::error::Error;
use crate::report::Report;

/// Runs `body`, reports its failure on `report` and returns what C gets.
pub(super) fn call(report: Report<'_>, body: impl FnOnce() -> Result<c_int, Error>) -> c_int {
    let quiet = NoSigpipe::new();
    // Nothing that `body` may leave half done is used after it panicked.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        body().map_err(|error| {
            report.error(error.to_string());
            last::note(&error);
            error.errno()
        })
    }));
    let outcome = outcome.unwrap_or_else(|payload| {
        let text = format!("internal error: {}", panic_text(payload.as_ref()));
        // A payload may panic when it is dropped; that would leave through the C caller.
        mem::forget(payload);
        let _ = catch_unwind(|| {
            last::note_text(libc::EIO, last::USERCR_STAGE_INTERNAL, &text);
            report.error(text);
        });
        Err(libc::EIO)
    });
    drop(quiet);
    outcome.unwrap_or_else(fail)
}

/// The outcome of a call without arguments, whose failure can be reported nowhere else.
pub(super) fn no_arguments() -> c_int {
    let text = "args is NULL";
    // Only memory that cannot be had could panic.
    let _ = catch_unwind(|| {
        last::note_text(libc::EFAULT, last::USERCR_STAGE_ARGUMENTS, text);
    });
    fail(libc::EFAULT)
}

/// Sets errno and returns -1.
fn fail(errno: c_int) -> c_int {
    // SAFETY: the pointer is to this thread's errno, and valid as long as the thread runs.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Ends the caller as `status` (format of wait(2)) says that the root task ended, if that was a
/// signal; a core file is written where that signal asks for one. Returns where the caller cannot
/// be ended so: the root task exited, or the caller is the init of its pid namespace.
pub(super) fn end_like(status: c_int) {
    if !libc::WIFSIGNALED(status) {
        return;
    }
    let signal = libc::WTERMSIG(status);
    // SAFETY: takes numbers only; SIGKILL, which cannot be reset, gives an error.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    set_blocked(libc::SIG_UNBLOCK, &one_signal(signal));
    // SAFETY: takes numbers only; ending this process is what the caller asked for.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// The message of a panic.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}

/// Keeps SIGPIPE, which a closed pipe at the other end of a caller's descriptor raises, from ending
/// the caller. The failed write is an error anyway.
struct NoSigpipe {
    before: libc::sigset_t,
    was_pending: bool,
}

impl NoSigpipe {
    fn new() -> NoSigpipe {
        let was_pending = is_pending(libc::SIGPIPE);
        let before = set_blocked(libc::SIG_BLOCK, &one_signal(libc::SIGPIPE));
        NoSigpipe { before, was_pending }
    }
}

impl Drop for NoSigpipe {
    fn drop(&mut self) {
        if !self.was_pending && is_pending(libc::SIGPIPE) {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the set and the time are valid for reads, and no siginfo is asked for.
            unsafe { libc::sigtimedwait(&one_signal(libc::SIGPIPE), ptr::null_mut(), &now) };
        }
        set_blocked(libc::SIG_SETMASK, &self.before);
    }
}

/// A set of one signal.
fn one_signal(signal: c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to a set of our own.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset filled it, and cannot fail for a valid pointer.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the pointer is to a set of our own; a bad number gives an error.
    unsafe { libc::sigaddset(&mut set, signal) };
    set
}

/// Whether `signal` waits for this thread or its process.
fn is_pending(signal: c_int) -> bool {
    let mut set = one_signal(signal);
    // SAFETY: the pointer is to a set of our own; a failure, which is impossible, leaves it as is.
    unsafe { libc::sigpending(&mut set) };
    // SAFETY: the pointer is to a set of our own, and the signal is a valid number.
    unsafe { libc::sigismember(&set, signal) == 1 }
}

/// Changes this thread's signal mask and returns the one before.
fn set_blocked(how: c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = *set;
    // SAFETY: both pointers are to sets of ours; a bad `how` gives an error.
    unsafe { libc::pthread_sigmask(how, set, &mut before) };
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RestartError;
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn run(body: impl FnOnce() -> Result<c_int, Error>) -> (c_int, c_int, String) {
        let mut file = tempfile::tempfile().expect("a file");
        let report = Report { err: Some(file.as_fd()), ..Report::default() };
        let value = call(report, body);
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("read the messages");
        (value, errno, text)
    }

    #[test]
    fn a_value_passes_silently() {
        let (value, _, text) = run(|| Ok(17));
        assert_eq!((value, text.as_str()), (17, ""));
    }

    #[test]
    fn an_error_is_reported_once_and_sets_errno() {
        let got = run(|| Err(RestartError::Arguments("such a thing").into()));
        assert_eq!(got, (-1, libc::EINVAL, "such a thing\n".to_owned()));
    }

    #[test]
    fn errno_is_set_after_the_guards_were_dropped() {
        struct Overwrites;
        impl Drop for Overwrites {
            fn drop(&mut self) {
                fail(libc::EXDEV);
            }
        }
        let guard = Overwrites;
        let (value, errno, _) = run(move || {
            let _guard = guard;
            Err(RestartError::Arguments("x").into())
        });
        assert_eq!((value, errno), (-1, libc::EINVAL));
    }

    #[test]
    fn a_panic_is_an_error() {
        let (value, errno, text) = run(|| panic!("task {} is missing", 3));
        assert_eq!((value, errno), (-1, libc::EIO));
        assert_eq!(text, "internal error: task 3 is missing\n");
    }

    #[test]
    fn a_payload_that_panics_does_not_leave() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let (value, errno, text) = run(|| std::panic::panic_any(Bomb));
        assert_eq!((value, errno, text.as_str()), (-1, libc::EIO, "internal error: panic\n"));
    }

    #[test]
    fn a_closed_reader_does_not_end_the_caller() {
        let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
        drop(reader);
        // SAFETY: numbers only; the Rust test runner ignores SIGPIPE, which would hide a mistake.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let report = Report { err: Some(writer.as_fd()), ..Report::default() };
        assert_eq!(call(report, || Err(RestartError::Arguments("lost").into())), -1);
        assert!(!is_pending(libc::SIGPIPE));
    }
}
