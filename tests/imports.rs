//! Who may use whom inside the crate, and what no file may say.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate with those that it may import; the same table is in `docs/design.md`.
const TABLE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("report", &["sys", "error"]),
    ("sys", &["error"]),
    ("image", &["error"]),
    ("plan", &["image", "error"]),
    ("program", &["plan", "image", "error"]),
    ("vm", &["program::insn", "sys", "error"]),
    ("restart", &["image", "plan", "program", "vm", "sys", "report", "error"]),
    ("dump", &["image", "plan", "program", "vm", "sys", "report", "error"]),
    ("ffi", &["restart", "dump", "report", "error"]),
    ("cli", &["restart", "dump", "ffi", "image", "plan", "program", "report", "error"]),
];

/// Modules that may hold unsafe code.
const UNSAFE: &[&str] = &["sys", "vm", "ffi"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, but for what is built or fetched.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for path in entries.map(|e| e.expect("a folder that can be read").path()) {
            let name = path.file_name().unwrap_or_default();
            match path.is_dir() {
                true if name == ".git" || name == "target" => {}
                true => dirs.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// The text of a source file without comments and without the unit tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Files of a module of the crate.
fn sources(module: &str) -> Vec<PathBuf> {
    let src = top().join("src");
    let one = src.join(module).with_extension("rs");
    let sources = if one.exists() { vec![one] } else { files(&src.join(module)) };
    assert!(!sources.is_empty(), "the module {module} has no files");
    sources
}

/// The paths that stand behind `crate::` in a text, those in braces one by one.
fn paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            paths.push(rest.to_owned());
            continue;
        };
        let mut depth = 0;
        let mut path = String::new();
        for c in list.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => paths.push(std::mem::take(&mut path)),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c != ',' || depth > 0 {
                path.push(c);
            }
        }
        paths.push(path);
    }
    paths.iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

/// The part of `path` that `entry` of the table is about.
fn within(path: &str, entry: &str) -> bool {
    path.strip_prefix(entry)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn paths_are_found() {
    let text = "use crate::{dump::{a, b}, restart};\nuse crate::error::Error;\ncrate::vm::x()";
    assert_eq!(paths(text), ["dump::{a, b}", "restart", "error::Error;", "vm::x()"]);
    assert!(within("program::insn::Insn;", "program::insn"));
    assert!(!within("program::insns", "program::insn"));
}

#[test]
fn the_table_has_every_module() {
    let src = top().join("src");
    let entries = fs::read_dir(&src).expect("the folder src");
    let names = entries.map(|e| e.expect("an entry").path().with_extension(""));
    let found: BTreeSet<String> = names
        .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
        .filter(|name| name != "lib" && name != "bin")
        .collect();
    let listed: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, listed);
}

#[test]
fn modules_import_what_the_table_allows() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, allowed) in TABLE {
        for file in sources(module) {
            for path in paths(&code(&file)) {
                seen += 1;
                if !within(&path, module) && !allowed.iter().any(|entry| within(&path, entry)) {
                    let first = path.lines().next().unwrap_or_default();
                    wrong.push(format!("{}: crate::{first}", file.display()));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were found");
    assert!(wrong.is_empty(), "imports that the table does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn the_top_file_of_a_module_does_not_reach_around_the_table() {
    for (module, _) in TABLE {
        let file = sources(module).into_iter().find(|f| {
            f.ends_with(format!("{module}/mod.rs")) || f.ends_with(format!("{module}.rs"))
        });
        let file = file.unwrap_or_else(|| panic!("{module} has no top file"));
        assert!(!code(&file).contains("super::"), "{}: super:: is the crate", file.display());
    }
}

#[test]
fn unsafe_code_is_forbidden_by_attribute_elsewhere() {
    for (module, _) in TABLE.iter().filter(|(module, _)| !UNSAFE.contains(module)) {
        let forbids = |file: &PathBuf| code(file).contains("#![forbid(unsafe_code)]");
        let top_file = sources(module).into_iter().find(|f| {
            f.ends_with(format!("{module}/mod.rs")) || f.ends_with(format!("{module}.rs"))
        });
        assert!(top_file.as_ref().is_some_and(forbids), "{module} does not forbid unsafe code");
    }
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // In pieces, so that this file does not name them.
    let places =
        [["/", "work/"], ["/", "home/"], ["/", "root/"], ["/tmp", "/h/"]].map(|p| p.concat());
    let starts = |text: &str, at: usize| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/>\"}".contains(c) && c != '"')
    };
    let mut wrong = Vec::new();
    for file in files(top()).iter().filter(|f| !f.starts_with(top().join("golden"))) {
        // What is not text cannot be read as such.
        let Ok(text) = fs::read_to_string(file) else { continue };
        for (number, line) in text.lines().enumerate() {
            for place in &places {
                if line.match_indices(place.as_str()).any(|(at, _)| starts(line, at)) {
                    wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
