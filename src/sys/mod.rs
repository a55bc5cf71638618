//! Thin safe wrappers of system calls: libc types inside, none outside.

/// Tracing other tasks: ptrace(2).
pub mod ptrace;
