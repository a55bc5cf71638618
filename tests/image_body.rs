//! Whole images: written and read back, cut, changed, and in the order that the format asks for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use proptest::prelude::*;
use usercr::error::ImageError;
use usercr::image::records;

/// Offset, type, length and object of each record of the example in the format document.
fn example() -> Vec<String> {
    let document = include_str!("../docs/image-format.md");
    let (_, example) = document.split_once("## Example").unwrap();
    let lines: Vec<&str> = example.split("```").nth(1).unwrap().lines().skip(1).collect();
    // Two columns, the left one first.
    let columns = [0, 41].map(|from| lines.iter().filter_map(move |line| line.get(from..)));
    let records = columns.into_iter().flatten().filter_map(|record| {
        let words: Vec<&str> = record.split_whitespace().collect();
        let [offset, kind, len, rest @ ..] = words.as_slice() else { return None };
        let object = match rest {
            ["OBJREF", "type", object, "tag", tag, ..] => format!(" {object} {tag}"),
            _ => String::new(),
        };
        Some(format!("{offset} {kind} {len}{object}"))
    });
    records.collect()
}

#[test]
fn the_smallest_image_is_the_example_of_the_document() {
    let (head, body) = smallest();
    let bytes = written(&head, &body);
    let found: Vec<String> = records::walk(bytes.as_slice())
        .map(|record| {
            let r = record.unwrap();
            let object = r.objref.map_or(String::new(), |(kind, tag)| format!(" {kind} {tag}"));
            format!("{} {} {}{object}", r.offset, r.kind, r.len)
        })
        .collect();
    assert_eq!(found, example());
    assert_eq!(bytes.len(), 8571);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_written_is_read_back(seed: u64, count in 1usize..12) {
        let (head, body) = tree(seed, count, false);
        let bytes = written(&head, &body);
        let (head_back, mut body_back) = read(&bytes).unwrap();
        check_pages(&mut body_back, &bytes);
        prop_assert_eq!(&head_back, &head);
        prop_assert_eq!(&body_back, &body);
        prop_assert_eq!(written(&head_back, &body_back), bytes);
    }
}

#[test]
fn runs_longer_than_a_page_array_are_read_back() {
    let mut arrays = 0;
    for seed in 1..6 {
        let (head, body) = tree(seed * 77, 3, true);
        let bytes = written(&head, &body);
        arrays += records::walk(bytes.as_slice())
            .filter(|r| r.as_ref().is_ok_and(|r| r.len as u64 == 8 + 8192 * 4104))
            .count();
        let (_, mut back) = read(&bytes).unwrap();
        check_pages(&mut back, &bytes);
        assert_eq!(back, body);
    }
    assert!(arrays > 0, "no run was long enough");
}

/// Names of all records, and the few that messages describe closer.
fn is_named(error: &ImageError) -> bool {
    let text = error.to_string();
    text.starts_with("image, offset ") && text.split(": ").count() >= 3
}

#[test]
fn an_image_cut_anywhere_is_refused() {
    for (head, body) in [smallest(), tree(5, 4, false)] {
        let bytes = written(&head, &body);
        for cut in 0..bytes.len() {
            let error = read(&bytes[..cut]).unwrap_err();
            let (ImageError::EndsBefore { .. } | ImageError::EndsInside { .. }) = &error else {
                panic!("cut at {cut}: {error}");
            };
            assert!(is_named(&error), "{error}");
        }
    }
}

#[test]
fn bytes_behind_the_image_do_not_matter() {
    let (head, body) = smallest();
    let mut bytes = written(&head, &body);
    bytes.extend([0xff; 100]);
    read(&bytes).unwrap();
}

#[test]
fn an_image_with_a_changed_byte_is_refused_or_read() {
    let (mut refused, mut taken) = (0, 0);
    for ((head, body), masks) in
        [(smallest(), [0xff, 1, 0x80, 0x10].as_slice()), (tree(9, 2, false), &[0xff])]
    {
        let mut bytes = written(&head, &body);
        let (_, mut back) = read(&bytes).unwrap();
        let pages: Vec<_> = runs(&mut back)
            .into_iter()
            .flat_map(|(_, runs)| runs.clone())
            .map(|run| run.offset as usize..(run.offset + run.count * 4096) as usize)
            .collect();
        for at in (0..bytes.len()).filter(|at| !pages.iter().any(|page| page.contains(at))) {
            let old = bytes[at];
            for value in masks.iter().map(|mask| old ^ mask).chain([0]) {
                bytes[at] = value;
                match read(&bytes) {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        refused += 1;
                        assert!(is_named(&error), "{error}");
                    }
                }
            }
            bytes[at] = old;
        }
    }
    assert!(refused > 1000 && taken > 1000, "{refused} refused, {taken} taken");
}
