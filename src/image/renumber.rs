//! New pid numbers in the head of an image, everything else as it was.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// How many records stand in front of the buffer with the pid objects.
const RECORDS_BEFORE: usize = 9;

/// Gives every pid object whose outermost number is a key of `new` the value as its outermost number,
/// in the bytes of a head that could be read. All are replaced at once: two may exchange their numbers.
pub fn renumber(head: &mut [u8], new: &HashMap<i32, i32>) {
    let word = |head: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let mut at = 0;
    for _ in 0..RECORDS_BEFORE {
        let Some(length) = word(head, at + 4) else { return };
        at += length as usize;
    }
    let Some(length) = word(head, at + 4) else { return };
    let end = at + length as usize;
    at += 8;
    while at < end {
        let (Some(depth), Some(number)) = (word(head, at), word(head, at + 4)) else { return };
        if let (Some(pid), Some(field)) = (new.get(&(number as i32)), head.get_mut(at + 4..at + 8))
        {
            field.copy_from_slice(&pid.to_le_bytes());
        }
        at += 8 + 4 * depth as usize;
    }
}
