//! Thin safe wrappers of system calls: libc types inside, none outside.

pub mod events;

pub mod futex;

pub mod memory;
pub mod pages;

pub mod process;

pub mod ptrace;

pub mod stream;

pub mod socket;

pub mod sockdiag;

pub mod space;

pub mod kcmp;

pub mod keeper;

pub mod procfs;

pub mod vdso;

pub mod sched;

pub mod sysv;

pub mod session;

pub mod signal;

pub mod terminal;

pub mod remote;

pub mod inspect;

pub mod watch;

/// Mount namespace, root directory and mounts of this process.
pub mod mount;

/// restart(2), where the kernel has it.
pub mod restart2;

/// The result of a call of libc, or what errno says where that is -1.
fn check<T: Copy + Into<i64>>(result: T) -> std::io::Result<T> {
    if result.into() == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
