//! The arguments, the help texts and the manual page say the same.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Words of a text, one space apart, however the lines were broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The manual page of `usercr` as plain text, without macros and escapes.
fn manual() -> String {
    manual_of("usercr")
}

fn manual_of(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("man/{name}.1"));
    let page = fs::read_to_string(path).expect("the manual page");
    let text = page.lines().map(plain).collect::<Vec<_>>().join("\n");
    ["\\fB", "\\fI", "\\fR"]
        .iter()
        .fold(text.replace("\\-", "-"), |text, font| text.replace(font, ""))
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

/// What `usercr` says with these arguments, called by `name`.
fn help_of(name: &str, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_usercr"))
        .arg0(name)
        .args(args)
        .output()
        .expect("usercr runs");
    assert!(output.status.success(), "{name} {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn subcommands() -> Vec<clap::Command> {
    let command = usercr::cli::command();
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let shown: Vec<clap::Command> = shown.cloned().collect();
    assert!(shown.len() >= 4, "only {} commands", shown.len());
    shown
}

/// Whether help and manual have what a command is about, and each of its arguments, with the same words.
fn compare(command: &clap::Command, help: &str, manual: &str) {
    let (name, help, manual) = (command.get_name(), words(help), words(manual));
    let about = command.get_about().expect("a text").to_string();
    assert!(help.starts_with(&about), "{name}: {help}");
    assert!(manual.contains(&about), "{name}: {manual}");
    for argument in command.get_arguments() {
        let text = argument.get_help().expect("a help text").to_string();
        let shown = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (_, Some(long)) => format!("--{long}"),
            _ => argument.get_id().as_str().to_uppercase(),
        };
        // The value's name stands in between, in brackets or not.
        let values = argument.get_value_names().unwrap_or_default();
        let between = 6 + values.iter().map(|value| value.len()).sum::<usize>();
        for (place, has) in [("help", &help), ("manual", &manual)] {
            let mut places = has.split(&shown).skip(1);
            let found = places.any(|rest| rest.find(&text).is_some_and(|at| at <= between));
            assert!(found, "{name} {shown}: {text:?} is not in the {place}:\n{has}");
        }
    }
}

#[test]
fn every_argument_is_in_help_and_manual_with_the_same_words() {
    let manual = manual();
    for command in subcommands() {
        let name = command.get_name();
        compare(&command, &help_of("usercr", &[name, "--help"]), section(&manual, name));
    }
    for command in usercr::cli::legacy_commands() {
        let name = command.get_name();
        let manual = manual_of(name);
        compare(&command, &help_of(name, &["--help"]), &manual);
    }
}

/// The long options in a text, without the two that all commands have.
fn options_in(text: &str) -> BTreeSet<String> {
    let starts = text.split("--").skip(1);
    let names = starts.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default().to_owned()
    });
    names.filter(|name| !["help", "version"].contains(&name.as_str())).collect()
}

fn options_of(command: &clap::Command) -> BTreeSet<String> {
    command.get_arguments().filter_map(|a| Some(a.get_long()?.to_owned())).collect()
}

#[test]
fn the_manual_has_no_option_that_does_not_exist() {
    let known: BTreeSet<String> = subcommands().iter().flat_map(options_of).collect();
    assert_eq!(options_in(&manual()), known);
    for command in usercr::cli::legacy_commands() {
        let name = command.get_name();
        assert_eq!(options_in(&manual_of(name)), options_of(&command), "{name}");
    }
}

#[test]
fn the_manual_has_the_version_of_the_crate() {
    for name in ["usercr", "restart", "checkpoint", "ckptinfo"] {
        let head = manual_of(name).lines().next().unwrap_or_default().to_owned();
        assert!(head.contains(&format!("usercr {}", env!("CARGO_PKG_VERSION"))), "{head}");
    }
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
