//! One process: what an image says of it, and that it runs on.

mod dump_common;

use std::process::Command;

use dump_common::{Victim, checkpoint};
use usercr::image::TaskState;

#[test]
fn a_sleeping_process() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut victim = Victim::start(&mut command);
    victim.wait_asleep();
    let image = checkpoint(victim.pid(), false).expect("checkpoint");
    assert_eq!(image.head.tasks.len(), 1);
    assert!(matches!(image.body.tasks[0], TaskState::Live(_)));
    assert!(victim.runs());
}
