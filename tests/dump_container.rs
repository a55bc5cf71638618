//! A pid namespace as a whole: its pids are those that its tasks see.

mod dump_common;

use std::process::Command;
use std::time::{Duration, Instant};

use dump_common::{Victim, checkpoint_as, descendants};

#[test]
fn an_init_and_all_below_it() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
    command.args(["sh", "-c", "cd /; sleep 600 & sleep 601 & wait"]);
    let mut victim = Victim::start(&mut command);
    let deadline = Instant::now() + Duration::from_secs(20);
    let sleeps = |pids: &[i32]| {
        let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        pids.iter().filter(|p| comm(p).is_ok_and(|c| c == "sleep\n")).count()
    };
    let inside = loop {
        let inside = descendants(victim.pid());
        if sleeps(&inside) == 2 {
            break inside;
        }
        if !victim.runs() {
            eprintln!("skipped: no user and pid namespace can be made here");
            return;
        }
        assert!(Instant::now() < deadline, "no children: {inside:?}");
        std::thread::yield_now();
    };
    let image = checkpoint_as(inside[0], false, true).expect("checkpoint");
    let pids = &image.head.pids;
    let own: Vec<i32> = image
        .head
        .tasks
        .iter()
        .map(|t| pids.object((t.pid - 1) as usize).expect("an object")[0])
        .collect();
    assert_eq!((own.len(), own[0]), (3, 1));
    assert!(own[1..].iter().all(|&pid| pid > 1 && pid < 10), "{own:?}");
    assert!(image.head.tasks.iter().all(|t| t.sid == 0 && t.depth == 0), "the session is outside");
    assert_eq!(image.head.header.uflags, 0);
    let error = checkpoint_as(inside[1], false, true).expect_err("not an init");
    assert!(error.to_string().ends_with("it is not the init of a pid namespace"), "{error}");
    assert_eq!(error.errno(), libc::EINVAL);
    assert!(victim.runs());
}
