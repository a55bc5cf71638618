//! Any history has a right plan; any tables have a right plan or an error.
//!
//! The first byte says what the rest is: the choices of a history, or an image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usercr::image::{ImageHead, Reader};
use usercr::plan::{self, PlanOptions, simulate};

#[path = "../../tests/histories/mod.rs"]
mod histories;

use histories::random::{Bytes, Choices, Shape, history};

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    if first == 0 {
        if let Ok(head) = Reader::new(rest).head() {
            check(&head, false);
        }
        return;
    }
    let choices = &mut Bytes(rest);
    let mut shape = Shape::any(choices, 40);
    shape.nesting = choices.below(3);
    check(&history(choices, shape), true);
});

fn check(head: &ImageHead, possible: bool) {
    let plan = plan::build(head, &PlanOptions { pidns: true, pid_max: 4 << 20 });
    match plan {
        Ok(plan) => simulate::check(head, &plan, true).expect("the plan is wrong"),
        Err(error) => assert!(!possible, "{error}"),
    }
}
