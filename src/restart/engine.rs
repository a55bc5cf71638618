//! Which engine restores the tasks.
#![forbid(unsafe_code)]

use crate::error::{Error, RestartError};

/// Restores the tasks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// This library, on any kernel.
    Native,
    /// A kernel with restart(2), whose number this is.
    Syscall(i64),
}

/// Names the number of restart(2) where the kernel has it under another than the historic one.
const NUMBER: &str = "USERCR_RESTART_NR";

/// Kernels with restart(2) have this file; on others the historic number means another call.
const SYSCTL: &str = "/proc/sys/kernel/ckpt_unpriv_allowed";

/// The number of restart(2) on x86_64 in the last published kernels that had it.
const HISTORIC: i64 = 314;

/// Chooses the engine. A number is never guessed: either the kernel has the sysctl that came with
/// restart(2), or the user names the number.
///
/// # Errors
/// EINVAL where the user's number is none.
pub fn choose() -> Result<Engine, Error> {
    if let Some(number) = std::env::var_os(NUMBER) {
        let number = number.to_str().and_then(|n| n.parse().ok()).filter(|&n: &i64| n > 0);
        let bad = RestartError::Arguments("USERCR_RESTART_NR is not the number of a system call");
        return number.map(Engine::Syscall).ok_or_else(|| bad.into());
    }
    if std::path::Path::new(SYSCTL).exists() {
        return Ok(Engine::Syscall(HISTORIC));
    }
    Ok(Engine::Native)
}
