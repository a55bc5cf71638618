//! Programs as text.

use super::data;
use super::insn::{Insn, Op};

/// How an argument reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number, signed.
    Int,
    /// A number, in hexadecimal: an address, flags.
    Hex,
    /// The address of a text in the data.
    Text,
    /// A descriptor that may be AT_FDCWD.
    Dir,
    /// The address of a sockaddr.
    Sockaddr,
}

use Kind::{Dir, Hex, Int, Sockaddr, Text};

/// Name and arguments of the system calls that programs make, in the order of their use.
const CALLS: &[(libc::c_long, &str, &[Kind])] = &[
    (libc::SYS_rseq, "rseq", &[Hex, Int, Int, Hex]),
    (libc::SYS_munmap, "munmap", &[Hex, Hex]),
    (libc::SYS_mremap, "mremap", &[Hex, Hex, Hex, Hex, Hex]),
    (libc::SYS_mmap, "mmap", &[Hex, Hex, Hex, Hex, Int, Hex]),
    (libc::SYS_shmat, "shmat", &[Int, Hex, Hex]),
    (libc::SYS_mprotect, "mprotect", &[Hex, Hex, Hex]),
    (libc::SYS_madvise, "madvise", &[Hex, Hex, Int]),
    (libc::SYS_mlock, "mlock", &[Hex, Hex]),
    (libc::SYS_pread64, "pread64", &[Int, Hex, Int, Int]),
    (libc::SYS_prlimit64, "prlimit64", &[Int, Int, Hex, Hex]),
    (libc::SYS_dup3, "dup3", &[Int, Int, Hex]),
    (libc::SYS_close, "close", &[Int]),
    (libc::SYS_close_range, "close_range", &[Int, Int, Hex]),
    (libc::SYS_openat, "openat", &[Dir, Text, Hex]),
    (libc::SYS_lseek, "lseek", &[Int, Int, Int]),
    (libc::SYS_fcntl, "fcntl", &[Int, Int, Hex]),
    (libc::SYS_ioctl, "ioctl", &[Int, Hex, Hex]),
    (libc::SYS_eventfd2, "eventfd2", &[Int, Hex]),
    (libc::SYS_timerfd_create, "timerfd_create", &[Int, Hex]),
    (libc::SYS_timerfd_settime, "timerfd_settime", &[Int, Hex, Hex, Hex]),
    (libc::SYS_signalfd4, "signalfd4", &[Int, Hex, Int, Hex]),
    (libc::SYS_epoll_create1, "epoll_create1", &[Hex]),
    (libc::SYS_epoll_ctl, "epoll_ctl", &[Int, Int, Int, Hex]),
    (libc::SYS_epoll_wait, "epoll_wait", &[Int, Hex, Int, Int]),
    (libc::SYS_flock, "flock", &[Int, Hex]),
    (libc::SYS_dup, "dup", &[Int]),
    (libc::SYS_pipe2, "pipe2", &[Hex, Hex]),
    (libc::SYS_read, "read", &[Int, Hex, Int]),
    (libc::SYS_write, "write", &[Int, Hex, Int]),
    (libc::SYS_socket, "socket", &[Int, Hex, Int]),
    (libc::SYS_socketpair, "socketpair", &[Int, Hex, Int, Hex]),
    (libc::SYS_bind, "bind", &[Int, Sockaddr, Int]),
    (libc::SYS_listen, "listen", &[Int, Int]),
    (libc::SYS_connect, "connect", &[Int, Sockaddr, Int]),
    (libc::SYS_accept4, "accept4", &[Int, Hex, Hex, Hex]),
    (libc::SYS_setsockopt, "setsockopt", &[Int, Int, Int, Hex, Int]),
    (libc::SYS_getsockopt, "getsockopt", &[Int, Int, Int, Hex, Hex]),
    (libc::SYS_recvmsg, "recvmsg", &[Int, Hex, Hex]),
    (libc::SYS_inotify_init1, "inotify_init1", &[Hex]),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", &[Int, Text, Hex]),
    (libc::SYS_inotify_rm_watch, "inotify_rm_watch", &[Int, Int]),
    (libc::SYS_pidfd_open, "pidfd_open", &[Int, Hex]),
    (libc::SYS_sendmsg, "sendmsg", &[Int, Hex, Hex]),
    (libc::SYS_shutdown, "shutdown", &[Int, Int]),
    (libc::SYS_unlinkat, "unlinkat", &[Dir, Text, Hex]),
    (libc::SYS_fchownat, "fchownat", &[Dir, Text, Int, Int, Hex]),
    (libc::SYS_fchmodat, "fchmodat", &[Dir, Text, Hex]),
    (libc::SYS_sendto, "sendto", &[Int, Hex, Int, Hex]),
    (libc::SYS_sendfile, "sendfile", &[Int, Int, Hex, Int]),
    (libc::SYS_memfd_create, "memfd_create", &[Text, Hex]),
    (libc::SYS_ftruncate, "ftruncate", &[Int, Int]),
    (libc::SYS_unlinkat, "unlinkat", &[Dir, Text, Hex]),
    (libc::SYS_fchown, "fchown", &[Int, Int, Int]),
    (libc::SYS_fchmod, "fchmod", &[Int, Hex]),
    (libc::SYS_utimensat, "utimensat", &[Int, Hex, Hex, Hex]),
    (libc::SYS_chdir, "chdir", &[Text]),
    (libc::SYS_chroot, "chroot", &[Text]),
    (libc::SYS_umask, "umask", &[Hex]),
    (libc::SYS_setns, "setns", &[Int, Hex]),
    (libc::SYS_unshare, "unshare", &[Hex]),
    (libc::SYS_sethostname, "sethostname", &[Text, Int]),
    (libc::SYS_setdomainname, "setdomainname", &[Text, Int]),
    (libc::SYS_mount, "mount", &[Text, Text, Text, Hex, Text]),
    (libc::SYS_umount2, "umount2", &[Text, Hex]),
    (libc::SYS_clone3, "clone3", &[Hex, Int]),
    (libc::SYS_getpid, "getpid", &[]),
    (libc::SYS_getppid, "getppid", &[]),
    (libc::SYS_gettid, "gettid", &[]),
    (libc::SYS_setsid, "setsid", &[]),
    (libc::SYS_setpgid, "setpgid", &[Int, Int]),
    (libc::SYS_prctl, "prctl", &[Int, Hex]),
    (libc::SYS_rt_sigaction, "rt_sigaction", &[Int, Hex, Hex, Int]),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", &[Int, Hex, Hex, Int]),
    (libc::SYS_sigaltstack, "sigaltstack", &[Hex, Hex]),
    (libc::SYS_set_robust_list, "set_robust_list", &[Hex, Int]),
    (libc::SYS_set_tid_address, "set_tid_address", &[Hex]),
    (libc::SYS_futex, "futex", &[Hex, Int, Int]),
    (libc::SYS_wait4, "wait4", &[Int, Hex, Hex, Hex]),
    (libc::SYS_waitid, "waitid", &[Int, Int, Hex, Hex]),
    (libc::SYS_poll, "poll", &[Hex, Int, Int]),
    (libc::SYS_kill, "kill", &[Int, Int]),
    (libc::SYS_arch_prctl, "arch_prctl", &[Hex, Hex]),
    (libc::SYS_process_vm_readv, "process_vm_readv", &[Int, Hex, Int, Hex, Int, Hex]),
    (libc::SYS_tgkill, "tgkill", &[Int, Int, Int]),
    (libc::SYS_rt_sigqueueinfo, "rt_sigqueueinfo", &[Int, Int, Hex]),
    (libc::SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo", &[Int, Int, Int, Hex]),
    (libc::SYS_setitimer, "setitimer", &[Int, Hex, Hex]),
    (libc::SYS_exit, "exit", &[Int]),
    (libc::SYS_exit_group, "exit_group", &[Int]),
];

/// One instruction as text; `data` and `base` are what addresses of texts refer to.
///
/// System calls look as in strace(1). What is not known before the task runs (a pid) shows as `?`.
pub fn describe(insn: &Insn, previous: Option<&Insn>, bytes: &[u8], base: u64) -> String {
    match insn.op {
        Op::Copy => format!("copy the word at {:#x}", insn.arg[1]),
        Op::Wait => format!("wait until word {:#x} is {}", insn.arg[0], insn.expect),
        Op::Arrive => format!("arrive at {:#x}, number {} goes on", insn.arg[0], insn.expect),
        Op::Unless => {
            format!("unless word {:#x} is {}: go to {}", insn.arg[0], insn.expect, insn.target)
        }
        Op::Store => format!("store {} at {:#x}", insn.arg[1], insn.arg[0]),
        Op::Or => format!("set bits {:#x} at {:#x}", insn.arg[1], insn.arg[0]),
        Op::Fpu => format!("load the FPU from {:#x}", insn.arg[0]),
        Op::Leave => {
            format!("munmap({:#x}, {:#x}) and go on as the image says", insn.arg[0], insn.arg[1])
        }
        Op::Goto => format!("go to {}", insn.target as i64),
        Op::Fork => format!("clone3 of task {}", insn.target),
        Op::TryFork => format!("clone3 of a thread that runs program {} (may fail)", insn.target),
        Op::Call | Op::Try | Op::Exact | Op::Call32 => system_call(insn, previous, bytes, base),
    }
}

fn system_call(insn: &Insn, previous: Option<&Insn>, bytes: &[u8], base: u64) -> String {
    let known = CALLS.iter().find(|(nr, _, _)| *nr == libc::c_long::from(insn.nr));
    let Some((_, name, kinds)) = known else { return format!("system call {}", insn.nr) };
    let patched = previous.filter(|p| p.op == Op::Copy).map(|p| p.arg[0]);
    let arguments: Vec<String> = kinds
        .iter()
        .zip(&insn.arg)
        .enumerate()
        .map(|(i, (kind, &value))| {
            if patched == Some(std::mem::offset_of!(Insn, arg) as u64 + 8 * i as u64) {
                return "?".to_owned();
            }
            match kind {
                Int => (value as i64).to_string(),
                Hex => format!("{value:#x}"),
                Dir if value as i32 == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
                Dir => value.to_string(),
                Text => text(value, bytes, base),
                Sockaddr => sockaddr(value, insn.arg[2], bytes, base),
            }
        })
        .collect();
    let mut line = format!("{name}({})", arguments.join(", "));
    if insn.op == Op::Exact && patched != Some(std::mem::offset_of!(Insn, expect) as u64) {
        line.push_str(&format!(" = {}", insn.expect as i64));
    }
    if insn.op == Op::Try {
        line.push_str(" (may fail)");
    }
    line
}

fn text(address: u64, bytes: &[u8], base: u64) -> String {
    let Some(rest) = data::slice(bytes, base, address) else { return format!("{address:#x}") };
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    format!("\"{}\"", String::from_utf8_lossy(rest.get(..end).unwrap_or(rest)).escape_debug())
}

/// A sockaddr_un, sockaddr_in or sockaddr_in6.
fn sockaddr(address: u64, length: u64, bytes: &[u8], base: u64) -> String {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let unknown = || format!("{address:#x}");
    let rest = data::slice(bytes, base, address);
    let Some([f0, f1, rest @ ..]) = rest.and_then(|rest| rest.get(..length as usize)) else {
        return unknown();
    };
    let ip: IpAddr = match i32::from(u16::from_le_bytes([*f0, *f1])) {
        libc::AF_UNIX => return format!("\"{}\"", String::from_utf8_lossy(rest).escape_debug()),
        libc::AF_INET => match rest.get(2..).and_then(|ip| ip.first_chunk()) {
            Some(ip) => Ipv4Addr::from(*ip).into(),
            None => return unknown(),
        },
        libc::AF_INET6 => match rest.get(6..).and_then(|ip| ip.first_chunk()) {
            Some(ip) => Ipv6Addr::from(*ip).into(),
            None => return unknown(),
        },
        _ => return unknown(),
    };
    let [p0, p1, ..] = rest else { return unknown() };
    SocketAddr::new(ip, u16::from_be_bytes([*p0, *p1])).to_string()
}
