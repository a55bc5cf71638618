//! The freezer cgroup of a restart: a folder of cgroup v1 (`freezer.state`, `tasks`) or v2
//! (`cgroup.freeze`, `cgroup.procs`), chosen by what files it has.
//!
//! In: the caller's folder. Out: the tasks are members of it, and frozen where that was asked for. The
//! coordinator does all of it from outside, so neither `root` nor a new namespace changes what the path
//! means; a coordinator task ("usercr-init") never joins.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Options;
use crate::error::{Error, RestartError, SysError};
use crate::sys::process;

/// How long a cgroup may take to say that it is frozen, once nothing in it can run any more.
const SETTLE: Duration = Duration::from_secs(1);

/// Between two looks.
const TICK: Duration = Duration::from_millis(1);

/// What the two kinds of cgroup call the same things.
#[derive(Debug)]
struct Kind {
    /// File that freezes and thaws.
    state: &'static str,
    thaw: &'static str,
    freeze: &'static str,
    /// File that takes pids.
    members: &'static str,
    /// File with a line that says that all is frozen, and that line.
    frozen: (&'static str, &'static str),
    /// File with a line that says that a cgroup above is frozen, once this one is not, and that line.
    above: (&'static str, &'static str),
}

/// Kernel documentation: admin-guide/cgroup-v1/freezer-subsystem.rst, admin-guide/cgroup-v2.rst.
static KINDS: [Kind; 2] = [
    Kind {
        state: "freezer.state",
        thaw: "THAWED\0",
        freeze: "FROZEN",
        members: "tasks",
        frozen: ("freezer.state", "FROZEN"),
        above: ("freezer.parent_freezing", "1"),
    },
    Kind {
        state: "cgroup.freeze",
        thaw: "0",
        freeze: "1",
        members: "cgroup.procs",
        frozen: ("cgroup.events", "frozen 1"),
        above: ("cgroup.events", "frozen 1"),
    },
];

/// A freezer cgroup that lets its tasks run, open for writing.
#[derive(Debug)]
pub struct Freezer {
    kind: &'static Kind,
    dir: PathBuf,
    state: File,
    members: File,
    /// Whether the tasks are to be left frozen.
    keep: bool,
}

/// The freezer cgroup that the caller has named, thawed.
///
/// # Errors
/// That it is no freezer, that it cannot be written to, that it cannot be thawed since one above is
/// frozen (EBUSY), that it would freeze the caller (EINVAL).
pub fn open(options: &Options<'_>) -> Result<Option<Freezer>, Error> {
    let Some(dir) = options.freezer else { return Ok(None) };
    let dir = PathBuf::from(OsStr::from_bytes(dir.to_bytes()));
    let failed =
        |what: &str, path: &Path, e| SysError::new(format!("{what}: {}", path.display()), e);
    fs::read_dir(&dir).map_err(|e| failed("freezer cgroup", &dir, e))?;
    let kind = KINDS.iter().find(|kind| dir.join(kind.state).exists()).ok_or_else(|| {
        let none = io::Error::from_raw_os_error(libc::ENOENT);
        failed("no freezer cgroup (neither freezer.state nor cgroup.freeze)", &dir, none)
    })?;
    let writable = |name: &str| {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).open(&path);
        file.map_err(|e| failed("open the freezer", &path, e))
    };
    let (state, members) = (writable(kind.state)?, writable(kind.members)?);
    let freezer = Freezer { kind, state, members, keep: options.keep_frozen, dir };
    if freezer.keep && holds_caller(&freezer.dir) {
        let text = "keep_frozen would freeze the caller, which is in the freezer cgroup itself";
        return Err(RestartError::Arguments(text).into());
    }
    freezer.set(kind.thaw).map_err(|e| failed("thaw the freezer", &dir_of(&freezer), e))?;
    if freezer.says(kind.above) {
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        return Err(failed("a cgroup above the freezer is frozen", &freezer.dir, busy).into());
    }
    Ok(Some(freezer))
}

fn dir_of(freezer: &Freezer) -> PathBuf {
    freezer.dir.join(freezer.kind.state)
}

impl Freezer {
    /// Makes tasks members; `pids` as the caller's pid namespace numbers them, 0: none.
    ///
    /// # Errors
    /// Those of writing to `tasks` or `cgroup.procs` (cgroups(7)).
    pub fn join(&self, pids: &[i32]) -> Result<(), Error> {
        for pid in pids.iter().filter(|&&pid| pid != 0) {
            let joined = (&self.members).write_all(pid.to_string().as_bytes());
            joined.map_err(|e| {
                let path = self.dir.join(self.kind.members);
                SysError::new(format!("put pid {pid} into {}", path.display()), e)
            })?;
        }
        Ok(())
    }

    /// Freezes the tasks, where that is asked for. They must be stopped: those that run may have run on.
    ///
    /// # Errors
    /// Those of writing to the cgroup. Then it is thawed, so that its tasks can be ended.
    pub fn freeze(&self) -> Result<(), Error> {
        if !self.keep {
            return Ok(());
        }
        self.set(self.kind.freeze).map_err(|e| {
            let _ = self.set(self.kind.thaw);
            SysError::new(format!("freeze: {}", dir_of(self).display()), e).into()
        })
    }

    /// Waits until the cgroup says that it is frozen, for those who look. Its tasks cannot run anyway; what
    /// else is in it may keep it from saying so.
    pub fn settle(&self) {
        let start = Instant::now();
        while self.keep && !self.says(self.kind.frozen) && start.elapsed() < SETTLE {
            std::thread::sleep(TICK);
        }
    }

    fn set(&self, word: &str) -> io::Result<()> {
        (&self.state).write_all(word.as_bytes())
    }

    fn says(&self, (name, line): (&str, &str)) -> bool {
        let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        text.lines().any(|l| l == line)
    }
}

/// Whether this process is in a cgroup or in one below it.
fn holds_caller(dir: &Path) -> bool {
    let own = process::own_pid().to_string();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        if members.lines().any(|pid| pid == own) {
            return true;
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        dirs.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    false
}
