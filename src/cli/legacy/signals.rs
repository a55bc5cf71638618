//! Signals by number, or by name without `SIG`.

use libc as c;

/// The names of signal(7) and their numbers.
const NAMES: &[(&str, i32)] = &[
    ("HUP", c::SIGHUP),
    ("INT", c::SIGINT),
    ("QUIT", c::SIGQUIT),
    ("ILL", c::SIGILL),
    ("TRAP", c::SIGTRAP),
    ("ABRT", c::SIGABRT),
    ("IOT", c::SIGIOT),
    ("BUS", c::SIGBUS),
    ("FPE", c::SIGFPE),
    ("KILL", c::SIGKILL),
    ("USR1", c::SIGUSR1),
    ("SEGV", c::SIGSEGV),
    ("USR2", c::SIGUSR2),
    ("PIPE", c::SIGPIPE),
    ("ALRM", c::SIGALRM),
    ("TERM", c::SIGTERM),
    ("STKFLT", c::SIGSTKFLT),
    ("CHLD", c::SIGCHLD),
    ("CLD", c::SIGCHLD),
    ("CONT", c::SIGCONT),
    ("STOP", c::SIGSTOP),
    ("TSTP", c::SIGTSTP),
    ("TTIN", c::SIGTTIN),
    ("TTOU", c::SIGTTOU),
    ("URG", c::SIGURG),
    ("XCPU", c::SIGXCPU),
    ("XFSZ", c::SIGXFSZ),
    ("VTALRM", c::SIGVTALRM),
    ("PROF", c::SIGPROF),
    ("WINCH", c::SIGWINCH),
    ("IO", c::SIGIO),
    ("POLL", c::SIGPOLL),
    ("PWR", c::SIGPWR),
    ("SYS", c::SIGSYS),
];

/// The last signal number there is.
const LAST: i32 = 64;

/// The number of a signal; 0, which is none, too.
pub fn parse(text: &str) -> Result<i32, String> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| text.parse().ok().filter(|n| (0..=LAST).contains(n)));
    number.ok_or_else(|| "no such signal; it is a name without SIG, or a number to 64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [("TERM", 15), ("USR1", 10), ("KILL", 9), ("0", 0), ("64", 64)] {
            assert_eq!(parse(text), Ok(number));
        }
        for text in ["", "65", "-1", "SIGTERM", "term", "9x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
