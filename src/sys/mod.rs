//! Thin safe wrappers of system calls: libc types inside, none outside.
