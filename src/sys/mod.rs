//! Thin safe wrappers of system calls: libc types inside, none outside.

/// Tracing other tasks: ptrace(2).
pub mod ptrace;

/// Files in memory and waiting for input.
pub mod stream;
