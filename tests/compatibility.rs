//! docs/compatibility.md is about every defect of the legacy library, and the tests that it names exist;
//! docs/state.md names every program of the state tests.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How many defects the legacy library was found to have.
const DEFECTS: u32 = 32;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The rows of all tables but for their heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = rows.map(|row| row.split(" |").map(str::trim).collect::<Vec<_>>());
    rows.filter(|row| !["behaviour", "---"].iter().any(|head| row.first() == Some(head)))
}

/// Whether a Rust or C file has a test, or a part of one, with this name.
fn defines(path: &str, name: &str) -> bool {
    let text = read(path);
    let rust = path.ends_with(".rs") && text.contains(&format!("fn {name}("));
    let c =
        |line: &str| !line.starts_with(['\t', ' ', '/', '*']) && line.contains(&format!("{name}("));
    rust || path.ends_with(".c") && text.lines().any(c)
}

#[test]
fn every_row_is_complete_and_its_tests_exist() {
    let text = read("docs/compatibility.md");
    let mut seen = 0;
    for row in rows(&text) {
        seen += 1;
        let [behaviour, here, _, tests] = row.as_slice() else { panic!("columns: {row:?}") };
        assert!(["same", "better", "refused"].contains(here), "{behaviour}: {here}");
        assert!(!tests.is_empty(), "{behaviour}: no test");
        for test in tests.split("; ") {
            let parts: Vec<&str> = test.split('`').collect();
            let [_, path, _, rest @ ..] = parts.as_slice() else { panic!("{behaviour}: {test}") };
            match rest {
                [name, _] => assert!(defines(path, name), "{behaviour}: {path} has no {name}"),
                // A whole file.
                _ => assert!(!read(path).is_empty()),
            }
        }
    }
    assert!(seen > 60, "{seen} rows");
}

#[test]
fn every_defect_has_a_row() {
    let text = read("docs/compatibility.md");
    let numbers = rows(&text).flat_map(|row| {
        let behaviour = row.first().copied().unwrap_or_default().to_owned();
        let inside = behaviour
            .rsplit_once('(')
            .map_or("", |(_, rest)| rest.trim_end_matches(')'))
            .to_owned();
        inside.split(", ").filter_map(|n| n.parse::<u32>().ok()).collect::<Vec<_>>()
    });
    let found: BTreeSet<u32> = numbers.collect();
    assert_eq!(found, (1..=DEFECTS).collect::<BTreeSet<u32>>());
}

#[test]
fn every_program_of_the_state_tests_is_run_and_in_the_table() {
    let (tests, table) = (read("tests/state.rs"), read("docs/state.md"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state");
    let files = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let programs = files.filter(|path| path.extension().is_some_and(|end| end == "c"));
    let mut seen = 0;
    for path in programs {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        assert!(tests.contains(&format!("    {name},\n")), "tests/state.rs does not run {name}");
        assert!(table.contains(&format!("`{name}`")), "docs/state.md does not name {name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} programs");
}
