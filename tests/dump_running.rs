//! A tree that is checkpointed does not notice.

mod dump_common;

use dump_common::{Victim, checkpoint};

/// How often each tree is checkpointed.
const TIMES: u32 = 5;

#[test]
fn interrupted_calls_go_on() {
    let mut victim = Victim::program("saved");
    for _ in 0..TIMES {
        checkpoint(victim.pid(), false).expect("checkpoint");
    }
    assert_eq!(victim.finish(), "ok");
}

#[test]
fn interrupted_calls_go_on_when_the_checkpoint_is_refused() {
    let mut victim = Victim::program("calls");
    for _ in 0..TIMES {
        let refused = checkpoint(victim.pid(), false).expect_err("files of /proc cannot be saved");
        assert!(refused.to_string().contains("it is a file of /proc"), "{refused}");
        assert_eq!(refused.errno(), libc::ENOTSUP);
    }
    assert_eq!(victim.finish(), "ok");
}

#[test]
fn computing_threads_go_on() {
    let mut victim = Victim::program("work");
    for _ in 0..TIMES * 4 {
        checkpoint(victim.pid(), false).expect("checkpoint");
    }
    assert_eq!(victim.finish(), "ok");
}

#[test]
fn tasks_that_come_and_go_are_all_caught() {
    let mut victim = Victim::program("forks");
    for _ in 0..TIMES * 10 {
        match checkpoint(victim.pid(), false) {
            Ok(image) => assert!(image.head.tasks.len() >= 4),
            // A vfork child has its parent's memory; while it is there, no checkpoint can be made.
            Err(e) => assert!(e.to_string().contains("its memory: it is shared with task"), "{e}"),
        }
    }
    assert_eq!(victim.finish(), "ok");
}
