//! The table of records says what the published headers say (`tests/records.json`, made from them with a
//! compiler and a debugger on x86_64), and what the format document says.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use usercr::image::fields::{self, Field, Form, Kind, Struct};
use usercr::image::records::{self, FIRST_EXTRA, KINDS};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn published() -> BTreeMap<String, Value> {
    serde_json::from_str(&file("tests/records.json")).expect("JSON")
}

/// Structs that the table has only as bytes, or as a list behind them.
const NOT_IN_TABLE: &[&str] = &[
    "ckpt_hdr",
    "ckpt_pids",
    "ckpt_task_pids",
    "ckpt_netdev_addr",
    "ckpt_eventpoll_item",
    "ckpt_sigset",
];

/// All structs of the table by name, those in others too.
fn structs() -> BTreeMap<&'static str, &'static Struct> {
    let mut found = BTreeMap::new();
    let mut next: Vec<&'static Struct> = Vec::new();
    for kind in KINDS {
        match fields::form(kind.number).expect("a form") {
            Form::Fields(of) => next.push(of),
            Form::List(of, list) => {
                next.push(of);
                next.extend(inner(&list.entry));
            }
            Form::Selected(of) => next.extend(of.iter().map(|(_, of)| of)),
            Form::Text | Form::Bytes | Form::Never => {}
        }
    }
    while let Some(of) = next.pop() {
        next.extend(of.fields.iter().filter_map(|field| inner(&field.kind)));
        found.insert(of.name, of);
    }
    found
}

fn inner(kind: &Kind) -> Option<&'static Struct> {
    match kind {
        Kind::Struct(of, _) => Some(of),
        _ => None,
    }
}

#[test]
fn every_record_is_described() {
    for kind in KINDS {
        assert!(fields::form(kind.number).is_some(), "{kind:?} is not in the table");
    }
    assert!(KINDS.is_sorted_by_key(|kind| kind.number));
    assert!(fields::form(10).is_none() && fields::form(u32::MAX).is_none());
}

/// What the headers say about a field: name, offset, size, and the name of the struct that it is.
fn in_headers(field: &Value) -> Option<(String, u64, u64, Option<String>)> {
    let text = |name: &str| field.get(name).and_then(Value::as_str).expect("text").to_owned();
    let number = |name: &str| field.get(name).and_then(Value::as_u64).expect("a number");
    let of = text("type");
    let of = of.strip_prefix("struct ckpt_").map(|of| format!("ckpt_{of}"));
    let of = of.map(|of| of.split('[').next().unwrap_or_default().to_owned());
    // The record's own header, lists of no fixed length, and sets of signals.
    if of.as_deref() == Some("ckpt_hdr") || number("size") == 0 {
        return None;
    }
    Some((text("name"), number("offset"), number("size"), of.filter(|of| of != "ckpt_sigset")))
}

fn in_table(field: &Field) -> (String, u64, u64, Option<String>) {
    let of = inner(&field.kind).map(|of| of.name.to_owned());
    (field.name.to_owned(), field.offset.into(), field.kind.size().into(), of)
}

#[test]
fn structs_are_those_of_the_headers() {
    let table = structs();
    let mut compared = 0;
    for (name, facts) in published() {
        let Some(size) = facts.get("sizeof_x86_64").and_then(Value::as_u64) else { continue };
        if NOT_IN_TABLE.contains(&name.as_str()) {
            continue;
        }
        let of = table.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(u64::from(of.size), size, "{name}");
        let theirs = facts.get("fields").and_then(Value::as_array).expect("fields");
        let theirs: Vec<_> = theirs.iter().filter_map(in_headers).collect();
        // The header inside struct ckpt_hdr_ipc_perms is padding.
        let ours = of.fields.iter().filter(|field| field.name != "h");
        assert_eq!(ours.map(in_table).collect::<Vec<_>>(), theirs, "{name}");
        compared += 1;
    }
    let own = table.values().filter(|of| !of.name.starts_with("ckpt_")).count();
    assert_eq!(compared + own, table.len());
}

#[test]
fn numbers_and_names_are_those_of_the_headers() {
    let mut numbers: BTreeMap<u64, String> = BTreeMap::new();
    for (name, number) in
        published().get("_constants").and_then(Value::as_object).expect("constants")
    {
        if let Some(name) = name.strip_prefix("CKPT_HDR_") {
            numbers.insert(number.as_u64().expect("a number"), name.to_owned());
        }
    }
    let theirs: BTreeSet<(u64, String)> = numbers.into_iter().collect();
    let ours: BTreeSet<(u64, String)> = KINDS
        .iter()
        .filter(|kind| kind.number < FIRST_EXTRA)
        .map(|kind| (kind.number.into(), kind.name.to_owned()))
        .collect();
    assert_eq!(ours, theirs);
}

/// Each record with a fixed length of a struct, and which struct it is.
#[test]
fn records_have_the_structs_of_the_headers() {
    let structs_of = |kind: &records::Kind| -> BTreeSet<&str> {
        match fields::form(kind.number).expect("a form") {
            Form::Fields(of) | Form::List(of, _) => [of.name].into(),
            Form::Selected(of) => of.iter().map(|(_, of)| of.name).collect(),
            Form::Text | Form::Bytes | Form::Never => BTreeSet::new(),
        }
    };
    let published = published();
    for kind in KINDS.iter().filter(|kind| kind.number < FIRST_EXTRA) {
        let of_kind =
            |facts: &Value| facts.get("type").and_then(Value::as_u64) == Some(kind.number.into());
        let theirs: BTreeSet<&str> = published
            .iter()
            .filter(|(name, facts)| of_kind(facts) && name.starts_with("ckpt_"))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(structs_of(kind), theirs, "{}", kind.name);
    }
}

/// Length of a record as the format document has it, where that is one number.
fn length(form: &Form) -> Option<u32> {
    match form {
        Form::Fields(of) => Some(of.size),
        Form::List(_, list) => match list.count {
            fields::Count::Always(count) => {
                Some(list.offset + count * list.entry.size() + list.behind)
            }
            fields::Count::At(_) | fields::Count::Rest => None,
        },
        _ => None,
    }
}

#[test]
fn the_format_document_has_the_same_numbers_names_and_lengths() {
    let document = file("docs/image-format.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| "));
    let (mut seen, mut own) = (0, BTreeSet::new());
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [number, name, len, ..] = cells[..] else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        let Some(kind) = records::kind(number).filter(|kind| kind.name == name) else { continue };
        let form = fields::form(number).expect("a form");
        if let Some(len) = len.parse().ok().filter(|_| !matches!(form, Form::Text | Form::Bytes)) {
            assert_eq!(length(form), Some(len), "{name}");
        }
        seen += 1;
        own.extend((kind.number >= FIRST_EXTRA).then_some(number));
    }
    assert!(seen > 40, "only {seen} records in the document");
    let ours: BTreeSet<u32> =
        KINDS.iter().map(|k| k.number).filter(|&n| n >= FIRST_EXTRA).collect();
    assert_eq!(own, ours, "our own records in the document, and in the table");
}

#[test]
fn objects_that_fields_refer_to_exist() {
    let objects: BTreeSet<&str> = (0..24).map(records::object_name).collect();
    for of in structs().values() {
        for field in of.fields {
            if let Kind::Tag(object, _) = field.kind {
                assert!(objects.contains(object), "{}: {object}", field.name);
            }
            // No field is deeper than `Found` can say.
            let deep =
                inner(&field.kind).filter(|of| of.fields.iter().any(|f| inner(&f.kind).is_some()));
            assert!(deep.is_none(), "{}.{}", of.name, field.name);
        }
    }
}
