//! `tools/install`: what it puts into a prefix works, and it takes away all of that again.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "says which compiler is missing")]
#![cfg(feature = "cli")]

mod cc;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names of the old programs.
const LEGACY: [&str; 3] = ["restart", "checkpoint", "ckptinfo"];

/// Runs `tools/install` on what cargo has built for the tests.
fn install(prefix: &Path, args: &[&str]) {
    let built = prefix.with_extension("built");
    let prefix = prefix.to_str().expect("a path in UTF-8");
    install_from(&built, &[&["--prefix", prefix], args].concat());
}

/// As [`install`], with a folder for what was built.
fn install_from(built: &Path, args: &[&str]) {
    fs::create_dir_all(built).expect("a folder");
    let archive = env::current_exe().expect("path of the test").with_file_name("libusercr.a");
    for (from, name) in
        [(Path::new(env!("CARGO_BIN_EXE_usercr")), "usercr"), (&archive, "libusercr.a")]
    {
        fs::copy(from, built.join(name)).expect("a copy of what was built");
    }
    let mut command = Command::new(cc::top().join("tools/install"));
    cc::succeeds(command.arg("--from").arg(built).args(args));
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
        let mut object = PathBuf::new();
        for standard in standards(language) {
            object = place.path().join(format!("{compiler}-{standard}{variant}.o"));
            let mut command = Command::new(compiler);
            command.args(["-Wall", "-Wextra", "-Werror", variant, "-x", language, "-c"]);
            command.arg(format!("-std={standard}")).arg(source).arg("-o").arg(&object);
            cc::succeeds(command.args(pkg_config(&prefix, &["--cflags"])));
        }
        for (kind, flags) in [("so", &shared), ("a", &archive)] {
            let program: PathBuf = place.path().join(format!("{compiler}-{kind}{variant}"));
            cc::succeeds(Command::new(compiler).arg("-o").arg(&program).arg(&object).args(flags));
            let mut run = Command::new(&program);
            if kind == "so" {
                run.env("LD_LIBRARY_PATH", prefix.join("lib"));
            }
            cc::succeeds(&mut run);
        }
    }
}

/// Versions of a language that callers may be written in; the last one is a usual one.
fn standards(language: &str) -> &'static [&'static str] {
    match language {
        "c" => &["gnu89", "c99", "c17", "gnu11"],
        _ => &["c++98", "c++11", "c++20", "gnu++17"],
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
    for name in LEGACY {
        let places = ["bin/", "share/man/man1/", "share/bash-completion/completions/"]
            .map(|p| p.to_owned() + name);
        assert!(!plain.iter().any(|e| places.iter().any(|p| e.starts_with(p))), "{plain:#?}");
    }
    for entry in ["bin/usercr", "lib/libusercr.so", "lib/libusercr.so.1", "lib/libusercr.a"] {
        assert!(plain.iter().any(|e| e == entry), "no {entry} in {plain:#?}");
    }
    for entry in ["include/checkpoint.h", "lib/pkgconfig/usercr.pc", "share/man/man1/usercr.1"] {
        assert!(plain.iter().any(|e| e == entry), "no {entry} in {plain:#?}");
    }
    // Over an older one, and with more.
    install(&prefix, &["--legacy-names"]);
    for name in LEGACY {
        let link = prefix.join("bin").join(name);
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("usercr"));
        let help = cc::succeeds(Command::new(link).arg("--help"));
        assert!(help.contains(&format!("Usage: {name} ")), "{help}");
    }
    cc::succeeds(Command::new(prefix.join("bin/usercr")).arg("--version"));
    // And with less again.
    install(&prefix, &[]);
    assert_eq!(tree(&prefix), plain);
    uninstall(&prefix);
    assert_eq!(tree(&prefix), before);
}

#[test]
fn a_destdir_is_no_part_of_what_is_installed() {
    let place = tempfile::tempdir().expect("a folder");
    let destdir = place.path().join("package");
    let there = destdir.to_str().expect("a path in UTF-8");
    let args = ["--destdir", there, "--prefix", "/opt/usercr"];
    install_from(&place.path().join("built"), &args);
    assert_eq!(tree(&destdir).first().map(String::as_str), Some("opt"));
    let prefix = destdir.join("opt/usercr");
    cc::succeeds(Command::new(prefix.join("bin/usercr")).arg("--version"));
    let flags = pkg_config(&prefix, &["--cflags", "--libs"]);
    assert!(flags.contains(&"-I/opt/usercr/include".to_owned()), "{flags:?}");
    assert!(flags.contains(&"-L/opt/usercr/lib".to_owned()), "{flags:?}");
    let texts = ["lib/pkgconfig/usercr.pc", "share/usercr/installed"];
    for text in texts.map(|name| fs::read_to_string(prefix.join(name)).expect("a file")) {
        assert!(!text.contains(there), "{text}");
    }
    let mut command = Command::new(cc::top().join("tools/install"));
    cc::succeeds(command.arg("--uninstall").args(args));
    assert_eq!(tree(&destdir), ["opt", "opt/usercr"]);
}

#[test]
fn man_finds_the_pages() {
    let place = tempfile::tempdir().expect("a folder");
    let prefix = place.path().join("usr");
    install(&prefix, &["--legacy-names"]);
    let mut pages = vec![("usercr", "1"), ("cr_restart", "3"), ("cr_checkpoint", "3")];
    pages.extend(LEGACY.map(|name| (name, "1")));
    for (name, section) in pages {
        let file = prefix.join(format!("share/man/man{section}/{name}.{section}"));
        let text = fs::read_to_string(&file).expect("a page");
        assert!(text.starts_with(".TH "), "{name}");
        let mut man = Command::new("man");
        man.arg("-M").arg(prefix.join("share/man")).args([section, name]);
        let Ok(shown) = man.env("MANPAGER", "cat").env("LC_ALL", "C").output() else {
            eprintln!("skipped: man is not installed");
            continue;
        };
        let text = String::from_utf8_lossy(&shown.stdout);
        let head = format!("{}({section})", name.to_uppercase());
        assert!(shown.status.success() && text.contains("SYNOPSIS"), "{name}: {shown:?}");
        assert!(text.contains(&head), "{name}: {text}");
    }
}

/// What bash has to offer for the last of these words, with the file that was installed.
fn completed(prefix: &Path, words: &[&str]) -> Vec<String> {
    let script = "source \"$1/share/bash-completion/completions/$2\" || exit\n\
        shift; COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMP_LINE=\"$*\" COMP_POINT=${#COMP_LINE}\n\
        entry=$(complete -p \"$1\") || exit\n\
        function=${entry#*-F } function=${function%% *}\n\
        \"$function\" \"$1\" \"${!#}\" \"${COMP_WORDS[COMP_CWORD-1]}\"\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).arg(prefix).args(words);
    cc::succeeds(&mut bash).lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_the_arguments() {
    let place = tempfile::tempdir().expect("a folder");
    let prefix = place.path().join("usr");
    install(&prefix, &["--legacy-names"]);
    assert_eq!(completed(&prefix, &["usercr", "che"]), ["checkpoint"]);
    assert_eq!(completed(&prefix, &["usercr", "checkpoint", "--ki"]), ["--kill"]);
    assert_eq!(completed(&prefix, &["restart", "--copy"]), ["--copy-status"]);
    assert_eq!(completed(&prefix, &["checkpoint", "--netn"]), ["--netns"]);
    assert_eq!(completed(&prefix, &["ckptinfo", "--err"]), ["--error"]);
    assert!(!completed(&prefix, &["usercr", "demo"]).iter().any(|w| w.contains("worker")));
    for name in ["usercr"].iter().chain(&LEGACY) {
        for (shell, file, words) in [
            ("zsh", format!("zsh/site-functions/_{name}"), format!("#compdef {name}\n")),
            ("fish", format!("fish/vendor_completions.d/{name}.fish"), format!("-c {name} ")),
        ] {
            let file = prefix.join("share").join(file);
            let text = fs::read_to_string(&file).expect("a file");
            assert!(text.contains(&words), "{text}");
            match Command::new(shell).arg("-n").arg(file).output() {
                Ok(read) => assert!(read.status.success(), "{read:?}"),
                Err(e) => eprintln!("skipped: {shell}: {e}"),
            }
        }
    }
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
