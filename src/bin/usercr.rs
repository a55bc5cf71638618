//! The `usercr` command.
fn main() {}
