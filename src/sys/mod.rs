//! Thin safe wrappers of system calls: libc types inside, none outside.

/// Tracing other tasks: ptrace(2).
pub mod ptrace;

/// Files in memory and waiting for input.
pub mod stream;

/// Whether tasks share an object: kcmp(2).
pub mod kcmp;

/// Parsers of the files of proc(5).
pub mod procfs;
