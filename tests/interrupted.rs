//! SIGINT to the caller in the course of a restart, at each point of it: the tree gets what the caller
//! chose, once it runs; the caller lives on, and has its own way with SIGINT again afterwards.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, Ordering};

use usercr::restart::{Mode, Observer, Options, Point, restart};

#[path = "common/hand_made.rs"]
mod hand_made;
use hand_made::{EXIT_42, PAUSE, image};

/// What SIGINT does in this process.
fn disposition() -> usize {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the pointer is to an action of our own, all of whose bytes are set.
    unsafe {
        assert_eq!(libc::sigaction(libc::SIGINT, std::ptr::null(), action.as_mut_ptr()), 0);
        action.assume_init().sa_sigaction
    }
}

/// Restarts one task that runs `code`, with a SIGINT at one point: how the task ended, in the format of
/// wait(2), and what the choice is afterwards.
fn interrupted(mode: Mode, at: Point, code: &[u8], choice: i32) -> (i32, i32) {
    let file = image(if mode == Mode::PidNs { 1 } else { 4_000 }, code);
    let sent = AtomicI32::new(0);
    let observe = |point: Point, _: &[i32]| {
        if point == at {
            sent.fetch_add(1, Ordering::Relaxed);
            // SAFETY: a signal to this process, which ends it unless it is taken care of.
            unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
        }
    };
    let choice = AtomicI32::new(choice);
    let options = Options {
        mode,
        wait: true,
        interrupt: Some(&choice),
        observer: Some(Observer(&observe)),
        ..Options::new(file.as_fd())
    };
    let before = disposition();
    let restarted = restart(&options).unwrap_or_else(|e| panic!("{mode:?}, {at:?}: {e}"));
    assert_eq!(disposition(), before, "{mode:?}, {at:?}");
    assert_eq!(sent.load(Ordering::Relaxed), 1, "{mode:?}, {at:?}");
    (restarted.status.expect("it was waited for"), choice.load(Ordering::Relaxed))
}

#[test]
fn an_interrupt_in_the_course_of_a_restart_reaches_the_tree() {
    // These have no ghosts, so that point does not come.
    for at in Point::ALL.into_iter().filter(|&point| point != Point::Settled) {
        let case = |mode, code, choice| interrupted(mode, at, code, choice);
        let (int, term, kill) = (libc::SIGINT, libc::SIGTERM, libc::SIGKILL);
        assert_eq!(case(Mode::NewPids, PAUSE, -1), (int, int), "{at:?}");
        assert_eq!(case(Mode::NewPids, PAUSE, term), (term, term), "{at:?}");
        assert_eq!(case(Mode::NewPids, EXIT_42, 0), (42 << 8, 0), "{at:?}");
        assert_eq!(case(Mode::PidNs, PAUSE, -1), (kill, kill), "{at:?}");
    }
}
