//! The C compiler, the two libraries that C programs are linked with, and a guard for their runs.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What the static library needs of the system, as `tools/link-shared` has it.
pub const SYSTEM_LIBS: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// A program's exit status that means "not possible here".
pub const SKIPPED: i32 = 77;

/// How a program is linked with the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// With the shared library that an install would have.
    Shared,
    /// With the static library, the system's libraries shared.
    Archive,
    /// With the static library, everything static.
    Static,
}

/// The libraries under test.
pub struct Libraries {
    /// `libusercr.a` as cargo built it.
    pub archive: PathBuf,
    /// Where `tools/link-shared` put the shared library.
    pub dir: PathBuf,
}

/// The top folder of the crate.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what this test binary builds.
pub fn build_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let exe = env::current_exe().expect("path of the test binary");
        let name = exe.file_name().expect("a file name");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).expect("remove what an earlier run built");
        }
        fs::create_dir_all(&dir).expect("make a folder to build in");
        dir
    })
}

/// The libraries, linked once for each test binary.
pub fn libraries() -> &'static Libraries {
    static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        // cargo leaves the static library beside the test binaries.
        let exe = env::current_exe().expect("path of the test binary");
        let archive = exe.with_file_name("libusercr.a");
        assert!(archive.exists(), "{} is missing", archive.display());
        let dir = build_dir().join("lib");
        succeeds(Command::new(top().join("tools/link-shared")).arg(&archive).arg(&dir));
        Libraries { archive, dir }
    })
}

/// A run of the C compiler (`CC`, else `cc`) with every warning an error.
pub fn cc() -> Command {
    compiler("CC", "cc")
}

/// A run of the C++ compiler (`CXX`, else `c++`) with every warning an error.
pub fn cxx() -> Command {
    compiler("CXX", "c++")
}

fn compiler(variable: &str, usual: &str) -> Command {
    strict(env::var_os(variable).unwrap_or_else(|| usual.into()))
}

fn strict(compiler: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(compiler);
    command.args(["-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    command
}

/// Compiles `source` against the public header alone, links it, and gives the program's path.
pub fn build(source: &Path, link: Link, options: &[&str]) -> PathBuf {
    build_by(cc(), source, link, options)
}

/// As [`build`], with a compiler of this name. An option of its own gives it a file of its own.
pub fn build_with(compiler: &str, source: &Path, link: Link, options: &[&str]) -> PathBuf {
    build_by(strict(compiler), source, link, options)
}

fn build_by(mut command: Command, source: &Path, link: Link, options: &[&str]) -> PathBuf {
    let stem = source.file_stem().expect("a file name").to_string_lossy();
    let name = format!("{stem}-{link:?}{}", options.concat().replace(['/', '='], "_"));
    let program = build_dir().join(name);
    let libraries = libraries();
    command.arg("-std=gnu11").arg("-I").arg(top().join("include")).args(options);
    command.arg("-o").arg(&program).arg(source);
    match link {
        Link::Shared => {
            let dir = libraries.dir.display();
            command.arg(format!("-L{dir}")).arg("-lusercr").arg(format!("-Wl,-rpath,{dir}"));
        }
        Link::Archive => {
            command.arg(&libraries.archive).args(SYSTEM_LIBS);
        }
        Link::Static => {
            command.arg("-static").arg(&libraries.archive);
            command.args(SYSTEM_LIBS.map(|l| if l == "-lgcc_s" { "-lgcc_eh" } else { l }));
        }
    }
    succeeds(command.arg("-pthread"));
    program
}

/// A program of the tests that does without the library: `source`, from the top folder, compiled at its first use to
/// a file of this name.
pub fn program(name: &str, source: &str) -> PathBuf {
    static BUILT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let program = build_dir().join(name);
    if !built.contains(&program) {
        let mut command = cc();
        command.args(["-std=gnu11", "-pthread"]).arg(top().join(source)).arg("-lutil");
        succeeds(command.arg("-o").arg(&program));
        built.push(program.clone());
    }
    program
}

/// Runs a tool to its end, and gives what it printed.
pub fn succeeds(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{errors}", out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A program under test. Dropped before its end, it is killed; it is reaped in any case.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program in the folder `cwd` until it and all that hold its output are gone.
///
/// # Errors
/// What it printed, if it is not gone within `limit`.
pub fn run(
    program: &Path,
    args: &[&OsStr],
    envs: &[(&str, &OsStr)],
    cwd: &Path,
    limit: Duration,
) -> Result<(ExitStatus, String), String> {
    let (mut output, theirs) = UnixStream::pair().expect("a pair of sockets");
    let theirs = OwnedFd::from(theirs);
    let mut command = Command::new(program);
    command.args(args).envs(envs.iter().copied()).current_dir(cwd).stdin(Stdio::null());
    command.stderr(theirs.try_clone().expect("a second descriptor")).stdout(theirs);
    let mut running = Running(command.spawn().unwrap_or_else(|e| panic!("{program:?}: {e}")));
    // It holds our copies of the other end; with them there would be no end of the output.
    drop(command);
    let end = Instant::now() + limit;
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = String::from_utf8_lossy(&text);
            return Err(format!("not gone after {} s; printed:\n{text}", limit.as_secs()));
        }
        output.set_read_timeout(Some(left)).expect("a time limit");
        match output.read(&mut part) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // A program that is killed with unread input in its socket.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => return Err(format!("read its output: {e}")),
        }
    }
    let status = running.0.wait().map_err(|e| format!("wait: {e}"))?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}
