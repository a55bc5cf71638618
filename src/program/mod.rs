//! Programs: what each task has to do, as data.
#![forbid(unsafe_code)]
