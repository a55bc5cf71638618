//! Any bytes are an image or an error; what is an image can be written, and read back the same.
//!
//! The first byte of the input says what the rest is: an image, or changes to a good one, three bytes
//! each: offset (little endian) and the value to put there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usercr::error::{Error, ImageError};
use usercr::image::{Body, ImageHead, PAGE, PageRun, Reader, write_image};

#[path = "../../tests/image_common/mod.rs"]
mod image_common;

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    if first == 0 {
        return check(rest);
    }
    let (head, body) = image_common::tree(first.into(), 1 + usize::from(first % 4), false);
    let mut image = image_common::written(&head, &body);
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = image.get_mut(at) {
            *byte = change[2];
        }
    }
    check(&image);
});

fn read(image: &[u8]) -> Result<(ImageHead, Body), ImageError> {
    let mut reader = Reader::new(image);
    let head = reader.head()?;
    let mut body = reader.body(&head)?;
    for (_, runs) in image_common::runs(&mut body) {
        join(runs);
    }
    Ok((head, body))
}

/// Forgets where the pages lie, and joins runs that only the stream keeps apart.
fn join(runs: &mut Vec<PageRun>) {
    let mut joined: Vec<PageRun> = Vec::new();
    for run in runs.drain(..) {
        match joined.last_mut() {
            Some(last) if last.address + last.count * PAGE == run.address => last.count += run.count,
            _ => joined.push(PageRun { offset: 0, ..run }),
        }
    }
    *runs = joined;
}

fn check(image: &[u8]) {
    for record in usercr::image::records::walk(image) {
        let _ = record.map_err(|error| error.to_string());
    }
    let strict = usercr::image::strict::check(image);
    let (head, body) = match read(image) {
        Ok(both) => both,
        Err(error) => {
            assert!(error.errno() > 0 && !error.to_string().is_empty());
            assert!(strict.is_err(), "a fault that is none: {error}");
            return;
        }
    };
    let mut bytes = Vec::new();
    match write_image(&mut bytes, &head, &body, &mut image_common::Pattern) {
        Ok(()) => {}
        // Pid tags that leave none for objects.
        Err(Error::Image(ImageError::Unwritable { .. }))
            if !(1..1 << 30).contains(&head.pids.offset) =>
        {
            return;
        }
        Err(error) => panic!("what was read cannot be written: {error}"),
    }
    // Objects that no task refers to are gone now, and the rest is in the writer's order.
    let (head_back, body_back) = read(&bytes).expect("what was written cannot be read");
    assert_eq!(head_back, head);
    assert_eq!(body_back.tasks.len(), body.tasks.len());
    let mut again = Vec::new();
    write_image(&mut again, &head_back, &body_back, &mut image_common::Pattern)
        .expect("what was read back cannot be written");
    let (_, body_again) = read(&again).expect("what was written again cannot be read");
    assert_eq!(body_again, body_back);
    // Contents depend on the number of the address space, which may have changed once.
    assert_eq!(again.len(), bytes.len());
}
