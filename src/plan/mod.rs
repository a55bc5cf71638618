//! The plan: which task forks which, in which order, so that every task of the image comes up with the
//! pid, parent, session and thread group that the image says (`docs/tree.md`).
#![forbid(unsafe_code)]
