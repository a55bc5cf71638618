//! The programs in `c-tests`: each compiled against the public header alone, linked with the shared
//! and with the static library, and run under a time limit.
#![allow(clippy::print_stderr, reason = "says which programs were skipped, and why")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use cc::Link;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// Declares the test programs: each is two tests, and the list is compared with the folder.
macro_rules! programs {
    ($($name:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];

        mod shared_library {
            $(#[test] fn $name() { super::program(stringify!($name), super::Link::Shared); })*
        }
        mod static_library {
            $(#[test] fn $name() { super::program(stringify!($name), super::Link::Archive); })*
        }
    };
}
programs!(bystanders layout arguments errors golden fields saving freezer modes myself workloads refusals guarantees interrupt variable programs last old);

#[test]
fn every_program_is_a_test() {
    let mut found = sources(&cc::top().join("c-tests"));
    found.sort();
    let mut listed = PROGRAMS.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

/// Each is built by the other compiler as well, and those that need no time are run.
#[test]
fn clang_builds_them_too() {
    if Command::new("clang").arg("--version").output().is_err() {
        eprintln!("skipped: clang is not installed");
        return;
    }
    for name in PROGRAMS {
        let source = cc::top().join("c-tests").join(name).with_extension("c");
        let quick = matches!(*name, "layout" | "arguments" | "old" | "variable");
        let links = [Link::Shared, Link::Archive];
        for link in links.into_iter().take(1 + usize::from(quick)) {
            let program = cc::build_with("clang", &source, link, &["-DCLANG"]);
            if quick {
                let cwd = tempfile::tempdir().expect("a folder to run in");
                judge(name, link, cc::run(&program, &[], &[], cwd.path(), LIMIT));
            }
        }
    }
}

/// glibc looks at its heap at each call, and ends who has damaged it.
#[test]
fn the_heap_is_whole_after_every_call() {
    let check = "libc_malloc_debug.so.0";
    let golden = cc::top().join("golden");
    for name in ["golden", "errors", "bystanders"] {
        let program = cc::build(
            &cc::top().join("c-tests").join(name).with_extension("c"),
            Link::Shared,
            &["-DHEAP"],
        );
        let place = tempfile::tempdir().expect("a folder to run in");
        let envs = [
            ("USERCR_GOLDEN", golden.as_os_str()),
            ("USERCR_CASES", refused().as_os_str()),
            ("LD_PRELOAD", check.as_ref()),
            ("MALLOC_CHECK_", "3".as_ref()),
            ("MALLOC_PERTURB_", "165".as_ref()),
        ];
        let outcome = cc::run(&program, &[], &envs, place.path(), LIMIT);
        let missing = |text: &str| text.contains("cannot be preloaded");
        if outcome.as_ref().is_ok_and(|(_, text)| missing(text)) {
            eprintln!("skipped: no {check}");
            return;
        }
        judge(name, Link::Shared, outcome);
    }
}

/// Everything works without privileges, in a user namespace.
#[test]
fn an_ordinary_user_can_do_the_same() {
    const USER: u32 = 65534;
    // Its own copies, in a folder that it may enter: what is saved must be found again by its path.
    let place = tempfile::tempdir().expect("a folder to run in");
    let copies = place.path().join("built");
    fs::create_dir(&copies).expect("a folder");
    for name in sources(&cc::top().join("c-tests/workloads")) {
        fs::copy(workloads().join(&name), copies.join(&name)).expect("a copy of a workload");
    }
    // Where this fails the tests themselves are run by an ordinary user.
    let _ = std::os::unix::fs::chown(place.path(), Some(USER), Some(USER));
    let user = USER.to_string();
    let envs = [("USERCR_USER", user.as_ref()), ("USERCR_WORKLOADS", copies.as_os_str())];
    for (name, args) in
        [("modes", [].as_slice()), ("workloads", &["chain"]), ("workloads", &["pipes"])]
    {
        let source = cc::top().join("c-tests").join(name).with_extension("c");
        let program = place.path().join(name);
        // An option of its own gives it a file of its own: others build these at the same time.
        fs::copy(cc::build(&source, Link::Archive, &["-DORDINARY"]), &program).expect("a copy");
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        let outcome = cc::run(&program, &args, &envs, place.path(), LIMIT);
        judge(name, Link::Archive, outcome);
    }
}

/// Builds and runs one program of `c-tests`.
fn program(name: &str, link: Link) {
    let source = cc::top().join("c-tests").join(name).with_extension("c");
    let program = cc::build(&source, link, &[]);
    let cwd = tempfile::tempdir().expect("a folder to run in");
    let golden = cc::top().join("golden");
    let mut envs = vec![("USERCR_GOLDEN", golden.as_os_str())];
    match name {
        "golden" => envs.push(("USERCR_CASES", refused().as_os_str())),
        "modes" | "workloads" => envs.push(("USERCR_WORKLOADS", workloads().as_os_str())),
        _ => {}
    }
    judge(name, link, cc::run(&program, &[], &envs, cwd.path(), LIMIT));
}

/// Ends the test unless the program ended well.
fn judge(name: &str, link: Link, outcome: Result<(ExitStatus, String), String>) {
    let (status, text) = outcome.unwrap_or_else(|e| panic!("{name}, {link:?}: {e}"));
    match status.code() {
        Some(0) => {}
        Some(cc::SKIPPED) => eprintln!("{name}, {link:?}: {text}"),
        _ => panic!("{name}, {link:?}: {status}\n{text}"),
    }
}

/// The names of the C programs in a folder.
fn sources(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = entries.map(|e| e.expect("a folder that can be read").path());
    let c = paths.filter(|p| p.extension().is_some_and(|e| e == "c"));
    c.filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned())).collect()
}

/// The folder of the workloads, which are built on first use.
fn workloads() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = cc::build_dir().join("workloads");
        fs::create_dir_all(&dir).expect("a folder for the workloads");
        let sources_dir = cc::top().join("c-tests/workloads");
        for name in sources(&sources_dir) {
            let source = sources_dir.join(&name).with_extension("c");
            let out = dir.join(&name);
            let mut command = cc::cc();
            command.arg("-O2").arg("-std=gnu11").arg("-pthread");
            cc::succeeds(command.arg("-o").arg(out).arg(source));
        }
        dir
    })
}

/// The list that `golden.c` works through: every recorded image that is to be refused before a task
/// is forked.
fn refused() -> &'static Path {
    static LIST: OnceLock<PathBuf> = OnceLock::new();
    LIST.get_or_init(|| {
        let golden = cc::top().join("golden");
        let entries = fs::read_dir(&golden).unwrap_or_else(|e| panic!("{}: {e}", golden.display()));
        let dirs = entries.map(|e| e.expect("a folder that can be read").path());
        let mut lines: Vec<String> = dirs.filter(|d| d.is_dir()).filter_map(|d| case(&d)).collect();
        lines.sort();
        let path = cc::build_dir().join("refused");
        fs::write(&path, lines.concat()).expect("write the list");
        path
    })
}

/// The line for one recorded image, if it is to be refused.
fn case(dir: &Path) -> Option<String> {
    let read = |name: &str| -> Value {
        let text = fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
    };
    let (args, expected) = (read("args.json"), read("expected.json"));
    let name = expected.get("case")?.as_str()?;
    let build = expected.get("build")?;
    let orphans = build.get("orphans_required").and_then(Value::as_array);
    let kind = expected.get("kind")?.as_str()?;
    let (errno, text) = match kind {
        "malformed" => malformed(name)?,
        "nested" if name.ends_with(".nopids") => (libc::EINVAL, "-".to_owned()),
        _ => {
            let text = format!("Bad orphan task (#{}) with --no-pidns", orphans?.first()?);
            (libc::EINVAL, text)
        }
    };
    let flag = |name: &str| args.get("args").and_then(|a| a.get(name)?.as_i64()).unwrap_or(0);
    Some(format!("{name}\t{}\t{}\t{errno}\t{text}\n", flag("pids"), flag("pidns")))
}

/// The errno and the words for an image that is malformed in the way that its name says.
fn malformed(name: &str) -> Option<(i32, String)> {
    // These are good images: records that may be shorter, longer, or of 4096 bytes.
    let good = ["bad-len-8-lsm_info", "bad-len-over-lsm_info", "bad-uts-buffers-4096"];
    if good.contains(&name) {
        return None;
    }
    let (way, place) = name.rsplit_once('-')?;
    let record = match place {
        "header" | "container" | "lsm_info" | "pids" | "tree" => place.to_uppercase(),
        "arch" => "HEADER_ARCH".to_owned(),
        _ => place.to_owned(),
    };
    Some(match way {
        "bad-cut-before" => (libc::EINVAL, format!("{record}: the image ends before")),
        "bad-cut-in" => (libc::EIO, format!("{record}: the image ends inside")),
        "bad-type" | "bad-len-7" | "bad-len-8" | "bad-len-over" | "bad-len-huge" => {
            (libc::EINVAL, format!("{record}: "))
        }
        _ => (libc::EINVAL, "-".to_owned()),
    })
}
