//! The tree that the demo checkpoints: a leader and two members, connected by pipes. Each counts in its
//! own memory; the leader writes all three numbers to its standard output, line after line.
//!
//! They hold what a checkpoint can save: memory, pipes within the tree, regular files, /dev/null.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::parent_id;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use super::Failure;

/// Between two numbers.
const PAUSE: Duration = Duration::from_millis(60);

/// A tree that nobody ends does so by itself after this many numbers.
const MOST: u64 = 2000;

/// A leader for the process `reader`, or a member.
pub fn run(reader: Option<u32>) -> Result<ExitCode, Failure> {
    let done = match reader {
        Some(reader) => lead(reader),
        None => follow(),
    };
    done.map_err(Failure::file("demo-worker"))?;
    Ok(ExitCode::SUCCESS)
}

/// Counts until the process that reads the numbers is gone.
fn lead(reader: u32) -> io::Result<()> {
    let mut members = [Member::start()?, Member::start()?];
    let mut out = io::stdout().lock();
    for count in 1..=MOST {
        if parent_id() != reader {
            break;
        }
        let mut line = count.to_string();
        for member in &mut members {
            line.push_str(&format!(" {}", member.count()?));
        }
        // One write for a line: a reader never sees half of one.
        out.write_all(format!("{line}\n").as_bytes())?;
        out.flush()?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Answers each line with the next number, until there are no more lines.
fn follow() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (line, count) in io::stdin().lock().lines().zip(1u64..) {
        line?;
        out.write_all(format!("{count}\n").as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

struct Member {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Member {
    fn start() -> io::Result<Member> {
        let mut child = Command::new(env::current_exe()?)
            .arg("demo-worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Member { requests: child.stdin.take(), child, answers: BufReader::new(answers) })
    }

    /// Has it count: its number.
    fn count(&mut self) -> io::Result<u64> {
        if let Some(requests) = &mut self.requests {
            requests.write_all(b"\n")?;
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| io::Error::other(format!("no number: {answer:?}")))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}
