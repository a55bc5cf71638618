//! Thin safe wrappers of system calls: libc types inside, none outside.

/// The channel from tasks to their coordinator.
pub mod events;

/// Waiting for a word in shared memory.
pub mod futex;

/// Shared mappings and memfds.
pub mod memory;

/// Processes: pidfds, waiting, ending.
pub mod process;

/// Tracing other tasks: ptrace(2).
pub mod ptrace;

/// Files in memory and waiting for input.
pub mod stream;

/// Whether tasks share an object: kcmp(2).
pub mod kcmp;

/// Parsers of the files of proc(5).
pub mod procfs;

/// The vdso of this process.
pub mod vdso;

/// Signal masks and actions.
pub mod signal;

/// Code that a stopped task runs for its tracer.
pub mod remote;

/// Looking at a task: descriptors, pipes, pages.
pub mod inspect;
