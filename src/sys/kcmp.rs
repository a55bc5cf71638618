//! Whether two tasks share a kernel object: kcmp(2).

use std::cmp::Ordering;
use std::io;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Address spaces.
    Vm,
    /// Descriptor tables.
    Files,
    /// Current directories, roots and umasks.
    Fs,
    /// Tables of signal actions.
    SigHand,
}

/// KCMP_* of linux/kcmp.h.
const FILE: i32 = 0;
const EPOLL_TARGET: i32 = 7;

impl Kind {
    fn number(self) -> i32 {
        match self {
            Kind::Vm => 1,
            Kind::Files => 2,
            Kind::Fs => 3,
            Kind::SigHand => 4,
        }
    }
}

/// Orders the objects of two tasks; equal means that they share one. The order holds until the
/// machine restarts, and has no meaning.
///
/// # Errors
/// ESRCH, EPERM; ENOSYS on a kernel without kcmp.
pub fn compare(kind: Kind, one: i32, other: i32) -> io::Result<Ordering> {
    kcmp(one, other, kind.number(), 0, 0)
}

/// Orders the open file descriptions behind two descriptors, each given as (pid, descriptor).
///
/// # Errors
/// As [`compare`]; EBADF.
pub fn compare_files(one: (i32, i32), other: (i32, i32)) -> io::Result<Ordering> {
    kcmp(one.0, other.0, FILE, one.1, other.1)
}

/// Orders the open file description behind a descriptor and that of an item of an epoll file. The item is
/// the `nth` of those that were registered with descriptor `target.0`, from 0.
///
/// # Errors
/// As [`compare_files`]; ENOENT where there is no such item.
pub fn compare_epoll_target(
    one: (i32, i32),
    epoll: (i32, i32),
    target: (i32, u32),
) -> io::Result<Ordering> {
    // struct kcmp_epoll_slot of linux/kcmp.h.
    let slot = [epoll.1.cast_unsigned(), target.0.cast_unsigned(), target.1];
    let (slot, number) = (slot.as_ptr(), i64::from(one.1));
    // SAFETY: the kernel reads three numbers at `slot`.
    let result =
        unsafe { libc::syscall(libc::SYS_kcmp, one.0, epoll.0, EPOLL_TARGET, number, slot) };
    order(result)
}

fn kcmp(one: i32, other: i32, kind: i32, a: i32, b: i32) -> io::Result<Ordering> {
    // SAFETY: kcmp takes five numbers and touches no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            one,
            other,
            kind,
            i64::from(a) as usize,
            i64::from(b) as usize,
        )
    };
    order(result)
}

fn order(result: libc::c_long) -> io::Result<Ordering> {
    match result {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        -1 => Err(io::Error::last_os_error()),
        // 3: not equal, and the kernel gives no order.
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_copy_is_equal_and_another_open_is_not() {
        let pid = std::process::id() as i32;
        let null = std::fs::File::open("/dev/null").expect("open");
        let copy = null.try_clone().expect("dup");
        let other = std::fs::File::open("/dev/null").expect("open");
        let pair = |f: &std::fs::File| (pid, f.as_raw_fd());
        assert_eq!(compare_files(pair(&null), pair(&copy)).expect("kcmp"), Ordering::Equal);
        let one_way = compare_files(pair(&null), pair(&other)).expect("kcmp");
        assert_ne!(one_way, Ordering::Equal);
        assert_eq!(compare_files(pair(&other), pair(&null)).expect("kcmp"), one_way.reverse());
        assert_eq!(compare(Kind::Vm, pid, pid).expect("kcmp"), Ordering::Equal);
        assert!(compare_files((pid, 1 << 20), pair(&null)).is_err());
    }
}
