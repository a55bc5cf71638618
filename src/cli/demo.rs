//! `usercr demo`: the whole way in one command, through the C interface.
//!
//! Comes in: nothing. Goes out: a story on standard output, of which every number was seen to happen.
//! Nothing is left behind, whichever way it ends; and it ends, within the time limits.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use crate::ffi::call;
use crate::report::Report;
use crate::restart::{Conditions, Mode, Options};

/// Up to where the tree counts before its checkpoint.
const BEFORE: u64 = 7;

/// How many numbers it has to count afterwards.
const AFTER: u64 = 5;

/// Each step must be done within this time.
const LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at whether something has happened.
const TICK: Duration = Duration::from_millis(5);

pub fn run() -> Result<ExitCode, Failure> {
    call::end_on_request();
    // What this process was given by whoever started it is no business of the tree.
    call::keep_descriptors();
    call::adopt_orphans().map_err(Failure::file("prctl"))?;
    let dir = Folder::create()?;
    match story(&dir) {
        Err(Failure::File { what, source }) => {
            // What the library and the tree had to say comes first: it is the cause.
            for line in dir.messages().lines() {
                super::complain(line);
            }
            Err(Failure::File { what, source })
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn story(dir: &Folder) -> Result<(), Failure> {
    let mut tree = Tree::start(dir)?;
    say(format!(
        "started a tree of three processes that count, its root is process {}",
        tree.root
    ))?;
    let mut counter = Counter::open(dir)?;
    counter.watch(BEFORE)?;

    let image = File::create_new(dir.file("image")).map_err(Failure::file("image"))?;
    let start = Instant::now();
    let report = Report { err: Some(dir.messages.as_fd()), ..Report::default() };
    call::checkpoint(tree.root, image.as_fd(), false, 0, &report)
        .map_err(Failure::file("cr_checkpoint"))?;
    let took = start.elapsed();
    let bytes = image.metadata().map_err(Failure::file("image"))?.len();
    let size = format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
    say(format!("cr_checkpoint wrote its image, {size}, in {}", millis(took)))?;

    tree.end()?;
    let stopped = counter.catch_up()?;
    say(format!("killed all three; they had counted to {stopped}"))?;

    let start = Instant::now();
    tree.restart(dir)?;
    say(format!("cr_restart brought them back in {}", millis(start.elapsed())))?;
    let reached = counter.watch(stopped + AFTER)?;
    tree.end()?;
    say(format!("the tree went on counting from {stopped} to {reached}"))
}

fn say(line: String) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::Output)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Waits until `done` is true.
fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let end = Instant::now() + LIMIT;
    while !done()? {
        if Instant::now() > end {
            return Err(Failure::file(what)(io::ErrorKind::TimedOut.into()));
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// A folder of the demo's own, which goes away with it.
struct Folder {
    path: PathBuf,
    /// Takes what the library and the tree have to say.
    messages: File,
}

impl Folder {
    fn create() -> Result<Folder, Failure> {
        let path = env::temp_dir().join(format!("usercr-demo-{}", process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Failure::file(path.display()))?;
        let messages = Folder::open_messages(&path).inspect_err(|_| {
            let _ = fs::remove_dir_all(&path);
        });
        Ok(Folder { messages: messages.map_err(Failure::file("messages"))?, path })
    }

    fn open_messages(path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path.join("messages"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.file("messages")).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            super::complain(format!("{}: {e}", self.path.display()));
        }
    }
}

/// The tree: a process group of its own, ended when this is dropped.
struct Tree {
    /// Pid of its root, which is also the number of the group; 0 while there is none.
    root: i32,
}

impl Tree {
    fn start(dir: &Folder) -> Result<Tree, Failure> {
        let spawn = || {
            let root = Command::new(env::current_exe()?)
                .args(["demo-worker", &process::id().to_string()])
                .current_dir(&dir.path)
                .stdin(Stdio::null())
                .stdout(File::create_new(dir.file("numbers"))?)
                .stderr(dir.messages.try_clone()?)
                .process_group(0)
                .spawn()?;
            Ok(Tree { root: root.id() as i32 })
        };
        spawn().map_err(Failure::file("start the tree"))
    }

    /// Kills all processes of the tree, and waits until they are gone and their pids free.
    fn end(&mut self) -> Result<(), Failure> {
        if self.root == 0 {
            return Ok(());
        }
        call::kill_group(self.root).map_err(Failure::file("kill the tree"))?;
        wait_for("the end of the tree", || {
            let left = call::reap_group(self.root).map_err(Failure::file("the end of the tree"))?;
            Ok(!left)
        })?;
        self.root = 0;
        Ok(())
    }

    /// Restarts it, with its own pids where that is allowed.
    fn restart(&mut self, dir: &Folder) -> Result<(), Failure> {
        let attempt = |mode| {
            let image = File::open(dir.file("image"))?;
            let errors = Folder::open_messages(&dir.path)?;
            let options = Options {
                mode,
                warn: Conditions::USUAL,
                report: Report { err: Some(errors.as_fd()), ..Report::default() },
                ..Options::new(image.as_fd())
            };
            call::restart(&options, false).map(|restarted| restarted.pid)
        };
        self.root = match attempt(Mode::Pids) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                say("(this user may not choose pids, so the tree gets new ones)".into())?;
                attempt(Mode::NewPids)
            }
            result => result,
        }
        .map_err(Failure::file("cr_restart"))?;
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            super::complain(failure);
        }
    }
}

/// What the tree has counted, as its file shows.
struct Counter {
    file: File,
    /// What was read and is no whole line yet.
    rest: String,
    last: u64,
}

impl Counter {
    fn open(dir: &Folder) -> Result<Counter, Failure> {
        let file = File::open(dir.file("numbers")).map_err(Failure::file("numbers"))?;
        Ok(Counter { file, rest: String::new(), last: 0 })
    }

    /// Shows the numbers as they come, until `until` was seen: the last.
    fn watch(&mut self, until: u64) -> Result<u64, Failure> {
        show("counting:")?;
        wait_for("the next number", || {
            let seen = self.last;
            let last = self.catch_up()?;
            for number in seen + 1..=last {
                show(&format!(" {number}"))?;
            }
            if call::asked_to_end() {
                return Err(Failure::file("the demo")(io::ErrorKind::Interrupted.into()));
            }
            Ok(last >= until)
        })?;
        say(String::new())?;
        Ok(self.last)
    }

    /// Reads what has come, and checks it: every process of the tree has the same number, one more
    /// than before. The last number.
    fn catch_up(&mut self) -> Result<u64, Failure> {
        let mut text = std::mem::take(&mut self.rest);
        self.file.read_to_string(&mut text).map_err(Failure::file("numbers"))?;
        let (lines, rest) = text.rsplit_once('\n').unwrap_or(("", &text));
        self.rest = rest.to_owned();
        for line in lines.lines() {
            let next = self.last + 1;
            if line != format!("{next} {next} {next}") {
                let wrong = format!("after {} the tree counted {line:?}", self.last);
                return Err(Failure::file("numbers")(io::Error::other(wrong)));
            }
            self.last = next;
        }
        Ok(self.last)
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::Output)
}
