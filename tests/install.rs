//! `tools/install`: what it puts into a prefix works, and it takes away all of that again.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "says which compiler is missing")]
#![cfg(feature = "cli")]

mod cc;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `tools/install` on what cargo has built for the tests.
fn install(prefix: &Path, args: &[&str]) {
    let built = prefix.with_extension("built");
    fs::create_dir_all(&built).expect("a folder");
    let archive = env::current_exe().expect("path of the test").with_file_name("libusercr.a");
    for (from, name) in
        [(Path::new(env!("CARGO_BIN_EXE_usercr")), "usercr"), (&archive, "libusercr.a")]
    {
        fs::copy(from, built.join(name)).expect("a copy of what was built");
    }
    let mut command = Command::new(cc::top().join("tools/install"));
    command.arg("--prefix").arg(prefix).arg("--from").arg(built).args(args);
    cc::succeeds(&mut command);
}

fn uninstall(prefix: &Path) {
    let mut command = Command::new(cc::top().join("tools/install"));
    cc::succeeds(command.arg("--uninstall").arg("--prefix").arg(prefix));
}

/// Everything below a folder, as paths in it.
fn tree(top: &Path) -> Vec<String> {
    let list =
        cc::succeeds(Command::new("find").arg(top).args(["-mindepth", "1", "-printf", "%P\n"]));
    let mut entries: Vec<String> = list.lines().map(str::to_owned).collect();
    entries.sort();
    entries
}

/// What pkg-config says for a prefix, as words.
fn pkg_config(prefix: &Path, args: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_LIBDIR", prefix.join("lib/pkgconfig")).args(args).arg("usercr");
    cc::succeeds(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// The compilers that are here, with the language of each.
fn compilers() -> Vec<(&'static str, &'static str)> {
    let all = [("gcc", "c"), ("g++", "c++"), ("clang", "c"), ("clang++", "c++")];
    let here = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let (found, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| here(name));
    missing.iter().for_each(|(name, _)| eprintln!("skipped: {name} is not installed"));
    assert!(!found.is_empty(), "no C compiler");
    found
}

#[test]
fn programs_build_with_what_pkg_config_says() {
    let place = tempfile::tempdir().expect("a folder");
    let prefix = place.path().join("usr");
    install(&prefix, &[]);
    let source = place.path().join("program.c");
    let text = "#include <checkpoint.h>\n\
        int main(void) { return cr_restart(0) == -1 && cr_checkpoint(1, 0) == -1 && \
        usercr_last_error() && global_send_sigint == -1 ? 0 : 1; }\n";
    fs::write(&source, text).expect("write a source");
    let shared = pkg_config(&prefix, &["--cflags", "--libs"]);
    let mut archive = pkg_config(&prefix, &["--static", "--cflags", "--libs"]);
    for word in archive.iter_mut().filter(|w| *w == "-lusercr") {
        *word = "-l:libusercr.a".to_owned();
    }
    let old = cc::top().join("c-tests/old.c");
    let variants = [(&source, "-DNEW"), (&old, "-DCONDITIONS_LAST"), (&old, "-DCONDITIONS_FIRST")];
    for ((compiler, language), (source, variant)) in
        compilers().into_iter().flat_map(|c| variants.map(|v| (c, v)))
    {
        for (kind, flags) in [("so", &shared), ("a", &archive)] {
            let program: PathBuf = place.path().join(format!("{compiler}-{kind}{variant}"));
            let mut command = Command::new(compiler);
            command.args(["-Wall", "-Werror", variant, "-x", language]);
            command.arg(source).args(["-x", "none"]);
            cc::succeeds(command.arg("-o").arg(&program).args(flags));
            let mut run = Command::new(&program);
            if kind == "so" {
                run.env("LD_LIBRARY_PATH", prefix.join("lib"));
            }
            cc::succeeds(&mut run);
        }
    }
}

#[test]
fn an_uninstall_leaves_what_was_there_before() {
    let place = tempfile::tempdir().expect("a folder");
    let prefix = place.path().join("usr");
    fs::create_dir_all(prefix.join("lib")).expect("a folder");
    fs::write(prefix.join("lib/other"), "other").expect("a file of others");
    let before = tree(&prefix);
    install(&prefix, &[]);
    let plain = tree(&prefix);
    assert!(!plain.iter().any(|e| e == "bin/restart"), "{plain:#?}");
    for entry in ["bin/usercr", "lib/libusercr.so", "lib/libusercr.so.1", "lib/libusercr.a"] {
        assert!(plain.iter().any(|e| e == entry), "no {entry} in {plain:#?}");
    }
    for entry in ["include/checkpoint.h", "lib/pkgconfig/usercr.pc", "share/man/man1/usercr.1"] {
        assert!(plain.iter().any(|e| e == entry), "no {entry} in {plain:#?}");
    }
    // Over an older one, and with more.
    install(&prefix, &["--legacy-names"]);
    for name in ["restart", "checkpoint", "ckptinfo"] {
        assert_eq!(
            fs::read_link(prefix.join("bin").join(name)).expect("a link"),
            Path::new("usercr")
        );
    }
    cc::succeeds(Command::new(prefix.join("bin/usercr")).arg("--version"));
    uninstall(&prefix);
    assert_eq!(tree(&prefix), before);
}

/// Each page renders without a warning, and tells of every field and errno of its function.
#[test]
fn the_man_pages_are_whole() {
    let abi = fs::read_to_string(cc::top().join("abi/usercr.abi")).expect("read abi/usercr.abi");
    for (page, of) in
        [("cr_restart.3", "cr_restart_args"), ("cr_checkpoint.3", "cr_checkpoint_args")]
    {
        let path = cc::top().join("man").join(page);
        let text = fs::read_to_string(&path).expect("read a page");
        assert!(text.starts_with(".TH "), "{page} begins otherwise");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "ERRORS", "SEE ALSO"] {
            assert!(text.lines().any(|l| l == format!(".SH {section}")), "{page}: no {section}");
        }
        for line in abi.lines().filter(|l| l.starts_with(&format!("field {of} "))) {
            let words: Vec<&str> = line.split([' ', '*']).collect();
            let field = words.iter().rev().nth(2).expect("a field's name");
            assert!(text.contains(field), "{page}: nothing about {field}");
        }
        match Command::new("groff").args(["-ww", "-z", "-man", "-Tutf8"]).arg(&path).output() {
            Ok(out) => assert!(out.status.success() && out.stderr.is_empty(), "{page}: {out:?}"),
            Err(e) => eprintln!("skipped: groff: {e}"),
        }
    }
}
