//! A tree of five tasks and a ghost, and a look at what is left of it.

use std::fs::File;
use std::time::{Duration, Instant};

use super::hand_made::{PAUSE, free_pids, tree};

/// A root, a child that leads a session, one in its group, one in the root's, and a ghost's group.
pub fn family() -> File {
    let root = free_pids(10);
    tree(
        &[
            [root, 0, root, root, root],
            [root + 1, root, root + 1, root + 1, root + 1],
            [root + 2, root + 1, root + 2, root + 1, root + 1],
            [root + 3, root + 2, root + 3, root + 9, root + 1],
            [root + 4, root, root + 4, root, root],
        ],
        PAUSE,
        &comm(),
    )
}

/// Command name of the tasks of this test.
pub fn comm() -> String {
    let test = std::env::var("USERCR_TEST_PID").unwrap_or_else(|_| std::process::id().to_string());
    format!("hm-{test}")
}

/// Processes that still share memory with a coordinator, or run what `family` runs.
pub fn leftovers(coordinator: u32) -> Vec<String> {
    let (vm, name) = (format!("usercr-vm.{coordinator} "), comm());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().into_string().unwrap().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // What has ended and was inherited by the system's init is that one's to reap.
        let dead = stat.contains(") Z ") && !stat.contains(&format!(") Z {} ", std::process::id()));
        if !dead && (maps.contains(&vm) || comm.trim_end() == name) {
            found.push(stat);
        }
    }
    found
}

pub fn assert_nothing_left(coordinator: u32, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = leftovers(coordinator);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: left behind: {found:#?}");
        std::thread::yield_now();
    }
}
