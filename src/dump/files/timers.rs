//! timerfds: what is left of them, read as late as possible.

use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Holder;
use crate::dump::facts::Facts;
use crate::error::DumpError;
use crate::image::TimerFd;
use crate::sys::inspect;
use crate::sys::procfs::{self, FdInfo};

/// The state of a timer, by a descriptor of it.
pub(super) fn read(all: &[Facts], holder: Holder) -> Result<TimerFd, DumpError> {
    let copy = holder.copy()?;
    let path = format!("/proc/self/fdinfo/{}", copy.as_raw_fd());
    let look = || -> Result<TimerFd, DumpError> {
        let data = procfs::read(&path).map_err(holder.failed("look at"))?;
        let info = procfs::fdinfo(&data);
        let timer = info.as_ref().and_then(parse);
        timer.ok_or_else(|| holder.refuse(all, "this kernel does not tell its state"))
    };
    let mut timer = look()?;
    if timer.value == 0 && timer.ticks == 0 {
        // It does not run, or expires just now.
        timer = look()?;
    }
    if timer.interval != 0 && timer.ticks != 0 {
        // The kernel stops counting at the first expiration until somebody reads, or asks for the time
        // left, as is done here; the task cannot tell the difference.
        inspect::ask_timer(&copy).map_err(holder.failed("ask the timer at"))?;
        timer = look()?;
        if timer.value == 0 {
            // It has expired once more meanwhile, which is counted; with no time left it would not go on.
            timer.value = timer.interval;
        }
    }
    if timer.interval == 0 && timer.ticks != 0 && !cancels(&timer) {
        // It has expired after the time left was read.
        timer.value = 0;
    }
    if timer.value != 0 && timer.is_wall_clock() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        timer.value = timer.value.saturating_add(u64::try_from(now).unwrap_or(u64::MAX));
    }
    Ok(timer)
}

/// Whether a change of the clock counts as an expiration.
fn cancels(timer: &TimerFd) -> bool {
    timer.flags & libc::TFD_TIMER_CANCEL_ON_SET as u32 != 0
}

/// What /proc tells; the value is the time left.
fn parse(info: &FdInfo) -> Option<TimerFd> {
    Some(TimerFd {
        clock: info.field("clockid")?.parse().ok()?,
        flags: u32::from_str_radix(info.field("settime flags")?, 8).ok()?,
        value: nanoseconds(info.field("it_value")?)?,
        interval: nanoseconds(info.field("it_interval")?)?,
        ticks: info.field("ticks")?.parse().ok()?,
    })
}

/// `(seconds, nanoseconds)` as a number of nanoseconds.
fn nanoseconds(text: &str) -> Option<u64> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let (seconds, rest) = inner.split_once(',')?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(rest.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_tells() {
        let text = b"pos:\t0\nflags:\t02\nclockid: 1\nticks: 3\nsettime flags: 01\n\
            it_value: (4, 000000005)\nit_interval: (0, 7)\n";
        let info = procfs::fdinfo(text).expect("parses");
        let timer = TimerFd { clock: 1, flags: 1, value: 4_000_000_005, interval: 7, ticks: 3 };
        assert_eq!(parse(&info), Some(timer));
        assert_eq!(nanoseconds("(18446744073709551615, 1)"), None);
        assert_eq!(nanoseconds("(1 2)"), None);
    }
}
