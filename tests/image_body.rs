//! Whole images: written and read back, cut, changed, and in the order that the format asks for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use proptest::prelude::*;
use usercr::error::ImageError;
use usercr::image::records;

/// Offset, type, length and object of each record of the worked example of the format document.
const EXAMPLE: &str = "
    0 1 72, 72 4 73, 145 4 73, 218 4 73, 291 2 16, 307 3 8, 315 4 19, 334 7 13, 347 101 24, 371 4 16,
    387 102 16, 403 4 32, 435 103 80, 515 5 24, 539 107 48, 587 106 56, 643 108 192, 835 6 16 14 2,
    851 6 16 16 3, 867 117 16, 883 6 16 15 4, 899 6 16 13 5, 915 114 16, 931 116 16, 947 115 96,
    1043 118 16, 1059 6 16 9 6, 1075 109 24, 1099 104 16, 1115 6 16 3 7, 1131 301 16, 1147 6 16 4 8,
    1163 304 48, 1211 303 20, 1231 302 24, 1255 6 16 5 9, 1271 401 120, 1391 4 360, 1751 402 80,
    1831 403 16, 1847 4 4112, 5959 403 16, 5975 405 24, 5999 202 8, 6007 6 16 6 10, 6023 451 16,
    6039 303 10, 6049 303 10, 6059 6 16 7 11, 6075 601 2056, 8131 105 32, 8163 602 328, 8491 604 24,
    8515 604 24, 8539 603 16, 8555 9001 16";

#[test]
fn the_smallest_image_is_the_worked_example() {
    let (head, body) = smallest();
    let bytes = written(&head, &body);
    let found: Vec<String> = records::walk(bytes.as_slice())
        .map(|record| {
            let r = record.unwrap();
            let object = r.objref.map_or(String::new(), |(kind, tag)| format!(" {kind} {tag}"));
            format!("{} {} {}{object}", r.offset, r.kind, r.len)
        })
        .collect();
    let wanted: Vec<&str> = EXAMPLE.split(',').map(str::trim).collect();
    assert_eq!(found, wanted);
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
