//! Checkpoint and restart of process trees.
//!
//! **An image becomes a plan, a plan becomes programs, and the forked tasks do nothing but run their
//! program.**
//!
//! ```text
//!         caller (any C program)
//!             │ cr_restart(args)                       cr_checkpoint(pid, args)
//!    ffi ─────┴───────────────────────────────────────────────┴────────── the only extern "C"
//!             │
//!    image    │  head: header, arch, container, pids, tree   → ImageHead
//!             │  body: per-task state, shared objects, pages  → Body
//!    plan     │  pid tables → tasks, ghosts, creators, orphan check → Plan
//!    program  │  Plan + Body → one Program a task: a flat list of system calls
//!    restart  │  launch the root, watch, finish, wait, clean up
//!             ▼
//!    vm       a few hundred bytes of position-independent code that runs a Program
//!    dump     the way back: stop tasks, read their state, write an image
//!    sys      thin safe wrappers: fds, clone3, pidfd, ptrace, memory, mounts
//! ```

// The library runs in a stranger's process: it may neither end it nor write to its terminal.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("usercr runs on x86_64 Linux only, so far");
#[cfg(panic = "abort")]
compile_error!(
    "usercr must be built with panic = \"unwind\": it may never end its caller's process"
);

/// The C boundary: the exported functions and the one exported variable.
pub mod ffi;

/// The checkpoint image: types, reader and writer.
pub mod image;

/// From the pid tables of an image to the tree of tasks to fork.
pub mod plan;

/// From plan and state to one list of system calls a task.
pub mod program;

/// The interpreter that runs a program, and the memory it shares with the coordinator.
pub mod vm;

/// Restart: launch, watch, finish, wait, clean up.
pub mod restart;

/// Checkpoint: stop tasks, read their state, write an image.
pub mod dump;

/// Thin safe wrappers of system calls.
pub mod sys;

/// Messages to the descriptors that the caller gave.
pub mod report;

/// What can go wrong, and its errno.
pub mod error;

/// The `usercr` command.
#[cfg(feature = "cli")]
pub mod cli;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
