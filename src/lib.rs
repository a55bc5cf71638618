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

pub mod ffi;

pub mod image;

pub mod plan;

pub mod program;

pub mod vm;

pub mod restart;

pub mod dump;

pub mod sys;

pub mod report;

pub mod error;

#[cfg(feature = "cli")]
pub mod cli;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
