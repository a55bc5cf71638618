//! The arguments, the help texts and the manual page say the same.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Words of a text, one space apart, however the lines were broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The manual page as plain text, without macros and escapes.
fn manual() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/usercr.1");
    let page = fs::read_to_string(path).expect("the manual page");
    page.lines().map(plain).collect::<Vec<_>>().join("\n").replace("\\-", "-")
}

fn plain(line: &str) -> String {
    match line.split_once(' ') {
        // Section heads stay recognisable.
        Some((".SS", name)) => format!(".SS {name}"),
        // These macros join their arguments without spaces.
        Some((".BR" | ".RB" | ".IR" | ".BI", rest)) => {
            rest.split('"').flat_map(|part| [part.trim(), " "]).collect()
        }
        Some((name, rest)) if name.starts_with('.') => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// The part of the manual page about one command.
fn section<'a>(manual: &'a str, name: &str) -> &'a str {
    let head = format!(".SS {name}\n");
    let (_, rest) = manual.split_once(&head).unwrap_or_else(|| panic!("no section {name}"));
    rest.split(".SS ").next().unwrap_or(rest)
}

fn help_of(name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_usercr"))
        .args([name, "--help"])
        .output()
        .expect("usercr runs");
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn subcommands() -> Vec<clap::Command> {
    let command = usercr::cli::command();
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let shown: Vec<clap::Command> = shown.cloned().collect();
    assert!(shown.len() >= 4, "only {} commands", shown.len());
    shown
}

#[test]
fn every_argument_is_in_help_and_manual_with_the_same_words() {
    let manual = manual();
    for command in subcommands() {
        let name = command.get_name();
        let (help, section) = (words(&help_of(name)), words(section(&manual, name)));
        let about = command.get_about().expect("a text").to_string();
        assert!(help.starts_with(&about), "{name}: {help}");
        assert!(section.starts_with(&about), "{name}: {section}");
        for argument in command.get_arguments() {
            let text = argument.get_help().expect("a help text").to_string();
            let shown = match argument.get_long() {
                Some(long) => format!("--{long}"),
                None => argument.get_id().as_str().to_uppercase(),
            };
            for (place, has) in [("help", &help), ("manual", &section)] {
                let found = has.split(&shown).skip(1).any(|rest| {
                    // The value's name stands in between, in brackets or not.
                    rest.find(&text).is_some_and(|at| at <= 10)
                });
                assert!(found, "{name} {shown}: {text:?} is not in the {place}:\n{has}");
            }
        }
    }
}

#[test]
fn the_manual_has_no_option_that_does_not_exist() {
    let mut known: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    for command in subcommands() {
        known.extend(command.get_arguments().filter_map(|a| Some(a.get_long()?.to_owned())));
    }
    let manual = manual();
    let mut seen = BTreeSet::new();
    for rest in manual.split("--").skip(1) {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        seen.insert(rest.get(..end).unwrap_or_default().to_owned());
    }
    assert_eq!(seen, known);
}

#[test]
fn the_manual_has_the_version_of_the_crate() {
    let head = manual().lines().next().unwrap_or_default().to_owned();
    assert!(head.contains(&format!("usercr {}", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[test]
fn every_command_of_the_readme_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).expect("the readme");
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.strip_prefix("usercr ")) {
        let line = line.split(" #").next().unwrap_or(line);
        let arguments = std::iter::once("usercr").chain(line.split_whitespace());
        let parsed = usercr::cli::command().try_get_matches_from(arguments);
        assert!(parsed.is_ok(), "usercr {line}: {parsed:?}");
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} commands in the readme");
}
