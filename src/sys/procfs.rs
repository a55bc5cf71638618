//! Parsers of the files of proc(5).
//!
//! Comes in: what such a file holds. Goes out: numbers and names. Never: a read of its own but for
//! [`read`]; what a file lacks or has in another form is `None`, so that the caller can say where.

use std::fs::File;
use std::io::{self, Read};

/// Reads a file of /proc, whose size stat(2) does not tell.
///
/// # Errors
/// Those of open(2) and read(2); ESRCH where the task has ended.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(4096);
    let mut file = File::open(path)?;
    let mut filled = 0;
    loop {
        data.resize((filled + 4096).max(data.capacity()), 0);
        match file.read(data.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    data.truncate(filled);
    Ok(data)
}

/// /proc/PID/stat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    /// Command name, without NUL.
    pub comm: Vec<u8>,
    /// 'R', 'S', 'D', 'T', 't', 'Z', ...
    pub state: u8,
    /// Thread-group id of the parent.
    pub ppid: i32,
    /// Number of its process group.
    pub group: i32,
    /// Number of its session.
    pub session: i32,
    /// Device number of its controlling terminal, 0 for none.
    pub terminal: u32,
    /// Foreground process group of that terminal, -1 for none.
    pub foreground: i32,
    /// How many threads its group has.
    pub threads: u64,
    /// Signal that the parent gets when it ends; -1 for a thread that does not lead.
    pub exit_signal: i32,
    /// Status in the format of wait(2).
    pub exit_code: i32,
    /// start_code, end_code, start_data, end_data, start_brk, start_stack, arg_start, arg_end,
    /// env_start, env_end: user addresses.
    pub addresses: [u64; 10],
}

/// Parses /proc/PID/stat.
pub fn stat(data: &[u8]) -> Option<Stat> {
    let open = data.iter().position(|&b| b == b'(')?;
    let close = data.iter().rposition(|&b| b == b')')?;
    let comm = data.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(data.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual page, the state, is the first behind the name.
    let field = |number: usize| fields.get(number - 3).copied();
    let address = |number: usize| field(number)?.parse().ok();
    Some(Stat {
        comm,
        state: *field(3)?.as_bytes().first()?,
        ppid: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        terminal: field(7)?.parse::<i32>().ok()? as u32,
        foreground: field(8)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        exit_signal: field(38)?.parse().ok()?,
        exit_code: field(52)?.parse().ok()?,
        addresses: [
            address(26)?,
            address(27)?,
            address(45)?,
            address(46)?,
            address(47)?,
            address(28)?,
            address(48)?,
            address(49)?,
            address(50)?,
            address(51)?,
        ],
    })
}

/// /proc/PID/status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// File mode mask; a zombie has none.
    pub umask: Option<u32>,
    /// Thread group.
    pub tgid: i32,
    /// Thread group of the parent.
    pub ppid: i32,
    /// Who traces it, 0 for nobody.
    pub tracer: i32,
    /// uid: real, effective, saved, file system.
    pub uids: [u32; 4],
    /// gid: real, effective, saved, file system.
    pub gids: [u32; 4],
    /// Supplementary groups, as listed.
    pub groups: Vec<u32>,
    /// Its pid in each pid namespace, from that of the reader's /proc to its own.
    pub pids: Vec<i32>,
    /// Its thread-group id, likewise.
    pub tgids: Vec<i32>,
    /// Its process group's, likewise; 0 where the group is from outside.
    pub pgids: Vec<i32>,
    /// Its session's, likewise.
    pub sids: Vec<i32>,
    /// Pending for the thread; bit n-1 is signal n, as in all sets.
    pub pending: u64,
    /// Pending for the thread group.
    pub shared_pending: u64,
    /// Blocked.
    pub blocked: u64,
    /// Ignored.
    pub ignored: u64,
    /// Having a handler.
    pub caught: u64,
    /// Capabilities: inheritable, permitted, effective, bounding, ambient.
    pub caps: [u64; 5],
    /// prctl(2), PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Mode of seccomp(2), 0 for none.
    pub seccomp: u32,
    /// How many seccomp filters.
    pub seccomp_filters: u32,
}

/// Parses /proc/PID/status.
pub fn status(data: &[u8]) -> Option<Status> {
    let mut found = Status::default();
    let mut ids = 0;
    for line in data.split(|&b| b == b'\n') {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        // Only the name of the command may be anything but ASCII.
        let Ok(value) = std::str::from_utf8(&value[1..]) else { continue };
        let value = value.trim();
        match name {
            b"Umask" => found.umask = Some(u32::from_str_radix(value, 8).ok()?),
            b"Tgid" => found.tgid = value.parse().ok()?,
            b"PPid" => found.ppid = value.parse().ok()?,
            b"TracerPid" => found.tracer = value.parse().ok()?,
            b"Uid" => found.uids = four(value)?,
            b"Gid" => found.gids = four(value)?,
            b"Groups" => found.groups = list(value)?,
            b"NSpid" => {
                found.pids = list(value)?;
                ids += 1;
            }
            b"NStgid" => found.tgids = list(value)?,
            b"NSpgid" => found.pgids = list(value)?,
            b"NSsid" => found.sids = list(value)?,
            b"SigPnd" => found.pending = hex(value)?,
            b"ShdPnd" => found.shared_pending = hex(value)?,
            b"SigBlk" => found.blocked = hex(value)?,
            b"SigIgn" => found.ignored = hex(value)?,
            b"SigCgt" => found.caught = hex(value)?,
            b"CapInh" => found.caps[0] = hex(value)?,
            b"CapPrm" => found.caps[1] = hex(value)?,
            b"CapEff" => found.caps[2] = hex(value)?,
            b"CapBnd" => found.caps[3] = hex(value)?,
            b"CapAmb" => found.caps[4] = hex(value)?,
            b"NoNewPrivs" => found.no_new_privs = value != "0",
            b"Seccomp" => found.seccomp = value.parse().ok()?,
            b"Seccomp_filters" => found.seccomp_filters = value.parse().ok()?,
            _ => {}
        }
    }
    (ids == 1).then_some(found)
}

fn hex(value: &str) -> Option<u64> {
    u64::from_str_radix(value, 16).ok()
}

fn list<T: std::str::FromStr>(value: &str) -> Option<Vec<T>> {
    value.split_ascii_whitespace().map(|v| v.parse().ok()).collect()
}

fn four(value: &str) -> Option<[u32; 4]> {
    list(value)?.try_into().ok()
}

/// Pids of the calling process's namespace are below this number (proc(5), pid_max).
///
/// # Errors
/// Those of reading /proc.
pub fn pid_max() -> Result<i32, crate::error::SysError> {
    let path = "/proc/sys/kernel/pid_max";
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    read(path)
        .and_then(|data| numbers(&data).and_then(|n| n.first().copied()).ok_or_else(bad))
        .map_err(|e| crate::error::SysError::new(path, e))
}

/// One mapping of /proc/PID/smaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Whether it is shared ('s' among the permissions).
    pub shared: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Device of the file, as (major, minor).
    pub device: (u32, u32),
    /// Inode of the file, 0 without one.
    pub inode: u64,
    /// Path, or a name in brackets, or empty; a newline stays escaped as \012.
    pub name: Vec<u8>,
    /// Bytes resident.
    pub resident: u64,
    /// Bytes of anonymous memory.
    pub anonymous: u64,
    /// Bytes swapped out.
    pub swapped: u64,
    /// VM_* bits of the kernel, of those that `VmFlags` names.
    pub flags: u64,
    /// Flags in `VmFlags` that this parser does not know.
    pub unknown_flags: Vec<String>,
}

/// `VmFlags` of smaps and the bits of include/linux/mm.h, x86_64.
const VM_FLAGS: [(&str, u64); 30] = [
    ("rd", 0x1),
    ("wr", 0x2),
    ("ex", 0x4),
    ("sh", 0x8),
    ("mr", 0x10),
    ("mw", 0x20),
    ("me", 0x40),
    ("ms", 0x80),
    ("gd", 0x100),
    ("um", 0x200),
    ("pf", 0x400),
    ("uw", 0x1000),
    ("lo", 0x2000),
    ("io", 0x4000),
    ("sr", 0x8000),
    ("rr", 0x10000),
    ("dc", 0x20000),
    ("de", 0x40000),
    ("lf", 0x80000),
    ("ac", 0x10_0000),
    ("nr", 0x20_0000),
    ("ht", 0x40_0000),
    ("sf", 0x80_0000),
    ("wf", 0x200_0000),
    ("dd", 0x400_0000),
    ("sd", 0x800_0000),
    ("mm", 0x1000_0000),
    ("hg", 0x2000_0000),
    ("nh", 0x4000_0000),
    ("mg", 0x8000_0000),
];

/// Parses /proc/PID/smaps.
pub fn smaps(data: &[u8]) -> Option<Vec<Mapping>> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in data.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        // Only the line of a mapping starts with a lower-case hexadecimal digit.
        if line.first().is_some_and(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            found.push(mapping(line)?);
            continue;
        }
        let last = found.last_mut()?;
        if let Some(value) = line.strip_prefix(b"Rss:") {
            last.resident = kibibytes(value)?;
        } else if let Some(value) = line.strip_prefix(b"Anonymous:") {
            last.anonymous = kibibytes(value)?;
        } else if let Some(value) = line.strip_prefix(b"Swap:") {
            last.swapped = kibibytes(value)?;
        } else if let Some(value) = line.strip_prefix(b"VmFlags:") {
            for name in std::str::from_utf8(value).ok()?.split_ascii_whitespace() {
                match VM_FLAGS.iter().find(|(known, _)| *known == name) {
                    Some((_, bit)) => last.flags |= bit,
                    None => last.unknown_flags.push(name.to_owned()),
                }
            }
        }
    }
    Some(found)
}

fn kibibytes(value: &[u8]) -> Option<u64> {
    let value = std::str::from_utf8(value).ok()?.trim().strip_suffix(" kB")?;
    value.parse::<u64>().ok()?.checked_mul(1024)
}

/// A line such as `7f00-7f80 r-xp 00001000 fe:01 1234    /usr/bin/x`.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?;
    let offset = word()?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let blank = rest.iter().take_while(|&&b| b == b' ').count();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        shared: permissions.as_bytes().get(3) == Some(&b's'),
        offset: hex(offset)?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        name: rest.get(blank..)?.to_vec(),
        ..Mapping::default()
    })
}

/// /proc/PID/fdinfo/FD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// File position in bytes.
    pub position: u64,
    /// Flags of open(2), O_CLOEXEC among them.
    pub flags: u32,
    /// All of it, for the lines that only some kinds of files have.
    text: String,
}

impl FdInfo {
    /// What stands behind `name` and a colon, on the first line that begins so.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// What stands behind `name` and a colon, on each line that begins so.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let values = self.text.lines().filter_map(move |l| l.strip_prefix(name)?.strip_prefix(':'));
        values.map(str::trim)
    }
}

/// Parses /proc/PID/fdinfo/FD.
pub fn fdinfo(data: &[u8]) -> Option<FdInfo> {
    let text = String::from_utf8_lossy(data);
    let (mut position, mut flags) = (None, None);
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("pos:") {
            // A position may be negative for files such as /proc/PID/mem.
            position = value.trim().parse::<i64>().ok().map(|p| p as u64);
        } else if let Some(value) = line.strip_prefix("flags:") {
            flags = u32::from_str_radix(value.trim(), 8).ok();
        }
    }
    let (position, flags) = (position?, flags?);
    Some(FdInfo { position, flags, text: text.into_owned() })
}

/// Names in /proc/PID/limits, in the order of the RLIMIT_* numbers.
const LIMITS: [&str; 16] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];

/// Parses /proc/PID/limits: soft and hard limit by RLIMIT_* number, `u64::MAX` for none.
pub fn limits(data: &[u8]) -> Option<[(u64, u64); 16]> {
    let text = std::str::from_utf8(data).ok()?;
    let mut found = [(u64::MAX, u64::MAX); 16];
    for (slot, name) in found.iter_mut().zip(LIMITS) {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let mut values = line.split_ascii_whitespace().map(|value| match value {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        *slot = (values.next()??, values.next()??);
    }
    Some(found)
}

/// Parses a list of numbers, such as /proc/PID/task/TID/children.
pub fn numbers(data: &[u8]) -> Option<Vec<i32>> {
    list(std::str::from_utf8(data).ok()?)
}

/// Parses /proc/PID/auxv: 64-bit words, up to and with the AT_NULL pair.
pub fn auxv(data: &[u8]) -> Vec<u64> {
    let mut words = Vec::new();
    for pair in data.chunks_exact(16) {
        let (kind, value) = pair.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or(0);
        words.extend([word(kind), word(value)]);
        if word(kind) == 0 {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_name_that_looks_like_fields() {
        let line = b"7 (a) S (b) T 1 7 3 0 -1 4194560 106 0 0 0 1 2 3 4 20 0 5 0 98 8192 99 \
            18446744073709551615 26 27 28 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 45 46 47 48 49 50 51 \
            256\n";
        let stat = stat(line).expect("parses");
        assert_eq!(stat.comm, b"a) S (b");
        assert_eq!((stat.state, stat.ppid, stat.threads), (b'T', 1, 5));
        assert_eq!((stat.exit_signal, stat.exit_code), (17, 256));
        assert_eq!(stat.addresses, [26, 27, 45, 46, 47, 28, 48, 49, 50, 51]);
    }

    #[test]
    fn cut_lines_are_none_and_never_a_crash() {
        let line = b"7 (a) S 1 7 3 0 -1 4194560 106 0 0 0 1 2 3 4 20 0 5";
        for end in 0..line.len() {
            assert_eq!(stat(&line[..end]), None);
        }
        assert_eq!(mapping(b"7f00 r-xp"), None);
        assert_eq!(mapping(b"7f00-7f01 r-xp 0 0"), None);
        assert_eq!(fdinfo(b"pos:\t0\n"), None);
        assert_eq!(limits(b"Max cpu time unlimited"), None);
        assert_eq!(status(b"Tgid:\tx\n"), None);
        assert_eq!(auxv(&[1; 15]), Vec::<u64>::new());
    }

    #[test]
    fn own_files_parse() {
        let pid = std::process::id() as i32;
        let stat = stat(&read("/proc/self/stat").expect("stat")).expect("parses");
        let status = status(&read("/proc/self/status").expect("status")).expect("parses");
        assert_eq!(status.tgid, pid);
        assert_eq!(status.ppid, stat.ppid);
        assert_eq!(status.pids.first(), Some(&pid));
        let limits = limits(&read("/proc/self/limits").expect("limits")).expect("parses");
        assert!(limits[libc::RLIMIT_NOFILE as usize].0 > 2);
        let auxv = auxv(&read("/proc/self/auxv").expect("auxv"));
        assert_eq!(auxv.len() % 2, 0);
        assert_eq!(auxv[auxv.len() - 2], 0);
    }

    #[test]
    fn a_mapping_with_all_it_has() {
        let text =
            b"7f00-8000 rw-s 00001000 fe:01 1234                       /a b\\012c (deleted)\n\
            Size:      4 kB\nRss:     8 kB\nAnonymous:    12 kB\nSwap:  16 kB\n\
            VmFlags: rd wr sh mr zz \nffff-1ffff --xp 0 00:00 0 \nVmFlags: \n";
        let maps = smaps(text).expect("parses");
        assert_eq!(maps.len(), 2);
        let first = &maps[0];
        assert_eq!((first.start, first.end, first.offset), (0x7f00, 0x8000, 0x1000));
        assert_eq!((first.device, first.inode, first.shared), ((0xfe, 1), 1234, true));
        assert_eq!(first.name, b"/a b\\012c (deleted)");
        assert_eq!((first.resident, first.anonymous, first.swapped), (8192, 12288, 16384));
        assert_eq!((first.flags, &first.unknown_flags), (0x1b, &vec!["zz".to_owned()]));
        assert_eq!(maps[1].name, b"");
    }

    #[test]
    fn descriptors_with_and_without_locks() {
        let plain = fdinfo(b"pos:\t12\nflags:\t02100001\nmnt_id:\t5\n").expect("parses");
        assert_eq!((plain.position, plain.flags), (12, 0o2100001));
        assert_eq!(plain.field("lock"), None);
        let locked =
            fdinfo(b"pos:\t0\nflags:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 1 2:3:4 0 EOF\n");
        assert!(locked.expect("parses").field("lock").expect("has one").contains("FLOCK"));
    }
}

/// One entry of /proc/PID/timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// Its id, as timer_create(2) gave it.
    pub id: i32,
    /// The clock, as it was given to timer_create(2).
    pub clock: i32,
    /// Signal that it sends.
    pub signal: i32,
    /// Value that the signal carries.
    pub value: u64,
    /// SIGEV_SIGNAL (0), SIGEV_NONE (1) or SIGEV_THREAD (2).
    pub notify: i32,
    /// The thread that gets the signal, as this /proc numbers it; None: any thread of the process.
    pub thread: Option<i32>,
}

/// Parses /proc/PID/timers.
pub fn timers(data: &[u8]) -> Option<Vec<Timer>> {
    let text = std::str::from_utf8(data).ok()?;
    let mut lines = text.lines();
    let mut timers = Vec::new();
    while let Some(first) = lines.next() {
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
        let id = first.strip_prefix("ID: ")?.parse().ok()?;
        let (signal, value) = field("signal")?.split_once('/')?;
        let (kind, target) = field("notify")?.split_once('/')?;
        let clock = field("ClockID")?.parse().ok()?;
        timers.push(Timer {
            id,
            clock,
            signal: signal.parse().ok()?,
            value: u64::from_str_radix(value, 16).ok()?,
            notify: ["signal", "none", "thread"].iter().position(|k| *k == kind)? as i32,
            thread: match target.split_once('.')? {
                ("tid", tid) => Some(tid.parse().ok()?),
                _ => None,
            },
        });
    }
    Some(timers)
}

#[cfg(test)]
mod timer_tests {
    use super::{Timer, timers};

    #[test]
    fn posix_timers() {
        let text = b"ID: 7\nsignal: 60/00007fff86e452a8\nnotify: signal/tid.2634\nClockID: 1\n\
            ID: 0\nsignal: 10/0000000000000007\nnotify: none/pid.5\nClockID: -6\n";
        let all = timers(text).expect("timers");
        let first = Timer {
            id: 7,
            clock: 1,
            signal: 60,
            value: 0x7fff_86e4_52a8,
            notify: 0,
            thread: Some(2634),
        };
        assert_eq!(all.first(), Some(&first));
        let second = Timer { id: 0, clock: -6, signal: 10, value: 7, notify: 1, thread: None };
        assert_eq!(all.get(1), Some(&second));
        assert_eq!(timers(b""), Some(vec![]));
        assert_eq!(timers(b"ID: 7\n"), None);
    }
}
