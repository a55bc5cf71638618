//! Values from an image as text that is safe wherever it is shown.
//!
//! Comes in: names, paths and numbers, none of them trusted. Goes out: one line each, without
//! anything that a terminal obeys.

/// Names of the signals from 1 on, as in signal(7), without SIG.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Bytes as text: up to the first NUL, which pads names. Control characters, bytes that are no UTF-8,
/// characters that cannot be seen and backslashes are escaped as in Rust.
pub fn printable(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let mut text = String::new();
    for chunk in bytes.get(..end).unwrap_or_default().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, Some(next));
    }
    format!("{value:.1} {}", unit.copied().unwrap_or_default())
}

/// The name of a signal; of a real-time signal or what is none its number.
pub fn signal(number: u32) -> String {
    let name = (number as usize).checked_sub(1).and_then(|i| SIGNALS.get(i));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// The numbers of the signals in a set.
pub fn signals(set: u64) -> impl Iterator<Item = u32> {
    (1..=64).filter(move |n| set >> (n - 1) & 1 != 0)
}

/// Seconds since 1970 as date and time in UTC.
pub fn time(seconds: u64) -> String {
    const DAY: u64 = 86400;
    /// Days of 400 years, after which the calendar repeats.
    const CYCLE: u64 = 146_097;
    let (mut day, second) = (seconds / DAY, seconds % DAY);
    let mut year = 1970 + day / CYCLE * 400;
    day %= CYCLE;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for days in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", day + 1)
}

/// How a task ended; `status` is in the format of wait(2).
pub fn ended(status: u32) -> String {
    match status & 0x7f {
        0 => format!("exited with {}", status >> 8 & 0xff),
        number => format!("killed by signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys() {
        assert_eq!(printable(b"sh\0\0x"), "sh");
        assert_eq!(printable(b"a\x1b[2J\n\x7f"), "a\\u{1b}[2J\\n\\u{7f}");
        assert_eq!(printable("it's \"ü\u{202e}\\".as_bytes()), "it's \"ü\\u{202e}\\\\");
        assert_eq!(printable(b"\xff\xc2\x9b"), "\\xff\\u{9b}");
    }

    #[test]
    fn sizes() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn names_of_signals() {
        assert_eq!(
            (signal(9), signal(31), signal(40), signal(0)),
            ("KILL".into(), "SYS".into(), "40".into(), "0".into())
        );
        assert_eq!(signals(1 << 63 | 1).collect::<Vec<_>>(), [1, 64]);
    }

    #[test]
    fn dates() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(time(4_102_444_799), "2099-12-31 23:59:59 UTC");
        assert!(time(u64::MAX).starts_with("584554051223-"));
    }
}
