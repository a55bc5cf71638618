//! Messages as records of the `log` crate, for Rust callers that have set a logger; without descriptors
//! for messages there is nothing else.

use std::os::fd::AsFd;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};
use usercr::dump;
use usercr::report::Report;
use usercr::restart::{Mode, Options, restart};

#[path = "common/hand_made.rs"]
mod hand_made;
use hand_made::{EXIT_42, image};

/// Keeps what it is given.
struct Keeper(Mutex<Vec<(Level, String, String)>>);

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let entry = (record.level(), record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push(entry);
    }

    fn flush(&self) {}
}

static KEEPER: Keeper = Keeper(Mutex::new(Vec::new()));

/// What was logged since the last time.
fn logged() -> Vec<(Level, String, String)> {
    std::mem::take(&mut KEEPER.0.lock().unwrap())
}

#[test]
fn a_logger_has_every_message() {
    log::set_logger(&KEEPER).unwrap();
    log::set_max_level(LevelFilter::Trace);

    let file = image(4_000, EXIT_42);
    let options =
        Options { mode: Mode::PidNs, wait: true, show_status: true, ..Options::new(file.as_fd()) };
    restart(&options).unwrap();
    let records = logged();
    let has = |level: Level, text: &str| {
        records
            .iter()
            .any(|(l, target, t)| *l == level && target.starts_with("usercr") && t.contains(text))
    };
    assert!(has(Level::Info, "restarted 1 task"), "{records:#?}");
    assert!(has(Level::Info, "exited with status 42"), "{records:#?}");
    assert!(has(Level::Debug, "all tasks exist"), "{records:#?}");
    assert!(has(Level::Trace, "the tree runs"), "{records:#?}");
    assert!(!records.iter().any(|(level, ..)| *level <= Level::Warn), "{records:#?}");

    // A failure is the caller's to report: it has the error.
    let report = Report::default();
    let output = tempfile::tempfile().unwrap();
    let options = dump::Options {
        output: output.as_fd(),
        container: false,
        flags: 1,
        kill: false,
        terminal: false,
        report,
    };
    dump::checkpoint(i32::MAX, &options).unwrap_err();
    assert!(!logged().iter().any(|(level, ..)| *level == Level::Error));
    report.error("such a thing");
    assert!(matches!(logged().as_slice(), [(Level::Error, _, text)] if text == "such a thing"));
}
