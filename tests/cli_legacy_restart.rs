//! The command linked as `restart`: each option of the old program does what it says.
#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "says what was skipped, and why")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "common/hand_made.rs"]
mod hand_made;
#[path = "common/legacy.rs"]
mod legacy;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use hand_made::{EXIT_42, PAUSE, free_pids, image, image_with, tree};
use legacy::{command, end_of, text, wait_until};
use usercr::image::Settings;

/// Any pid: the test itself has it.
fn taken() -> i32 {
    std::process::id() as i32
}

/// A task that ends itself by SIGTERM, which is nothing to the init of a namespace.
fn by_term() -> File {
    // mov eax, 39 (getpid); syscall; mov edi, eax; mov esi, 15; mov eax, 62 (kill); syscall
    let code: &[u8] = &[
        0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc7, 0xbe, 15, 0, 0, 0, 0xb8, 62, 0, 0, 0, 0x0f, 0x05,
    ];
    image(taken(), code)
}

/// A task that exits with 0 if it has the pid of its image, else with 1.
fn has_pid(pid: i32) -> File {
    // mov eax, 39 (getpid); syscall; cmp eax, PID; setne al; movzx edi, al; mov eax, 231; syscall
    let mut code = vec![0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x3d];
    code.extend(pid.to_le_bytes());
    code.extend([0x0f, 0x95, 0xc0, 0x0f, 0xb6, 0xf8, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]);
    image(pid, &code)
}

fn start(args: &[&str], image: &File) -> Child {
    let mut command = command("restart", args);
    command.stdin(image.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn restart(args: &[&str], image: &File) -> Output {
    end_of(start(args, image))
}

/// Exit status, output and errors; `None` where the kernel does not let this user do it.
fn outcome(args: &[&str], image: &File) -> Option<(i32, String, String)> {
    let output = restart(args, image);
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    if errors.contains("not permitted") {
        eprintln!("skipped: restart {args:?}: {errors}");
        return None;
    }
    Some((output.status.code().unwrap_or(-1), out, errors))
}

/// How the root task ended, as `--copy-status` has it.
fn copied(args: &[&str], image: &File) -> Option<i32> {
    let (status, out, errors) = outcome(&[args, &["--copy-status"]].concat(), image)?;
    assert_eq!((out, errors), (String::new(), String::new()), "{args:?}");
    Some(status)
}

/// A task that was restarted and runs on by itself; killed in the end.
struct Alone(i32);

impl Alone {
    fn start(args: &[&str], image: &File) -> Option<Alone> {
        let (status, out, errors) = outcome(&[args, &["-W", "-v"]].concat(), image)?;
        assert_eq!((status, errors.as_str()), (0, ""), "{args:?}");
        Some(Alone(first_pid(&out)))
    }

    fn link(&self, name: &str) -> String {
        let link = fs::read_link(format!("/proc/{}/{name}", self.0)).unwrap();
        link.to_str().unwrap().to_owned()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        end(self.0);
        wait_until("the end of a task", || !lives(self.0));
    }
}

/// Ends a task, if it is still there.
fn end(pid: i32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// The pid in `restarted N tasks, the first is PID`.
fn first_pid(line: &str) -> i32 {
    let pid = line.trim_end().strip_prefix("restarted 1 tasks, the first is ");
    pid.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap()
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

/// A restart that waits for its task, which pauses.
struct Waiting {
    child: Option<Child>,
    out: BufReader<ChildStdout>,
    task: i32,
}

impl Waiting {
    fn start(args: &[&str]) -> Waiting {
        let mut child = start(&[args, &["-v", "--show-status"]].concat(), &image(taken(), PAUSE));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        Waiting { child: Some(child), out, task: first_pid(&line) }
    }

    fn interrupt(&self) {
        kill(self.child.as_ref().unwrap().id() as i32, libc::SIGINT);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Its last words.
    fn end(mut self) -> String {
        let mut lines = String::new();
        self.out.read_to_string(&mut lines).unwrap();
        assert!(end_of(self.child.take().unwrap()).status.success());
        lines.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(self.task);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn without_options_it_waits_gives_new_pids_and_says_nothing() {
    let done = outcome(&[], &image(taken(), EXIT_42)).unwrap();
    assert_eq!(done, (0, String::new(), String::new()));
    assert_eq!(copied(&[], &has_pid(taken())), Some(1));
}

#[test]
fn pids_and_pidns() {
    let image = has_pid(taken());
    for own_namespace in [&["-p"][..], &["--pidns"], &["--pids"], &["-p", "--pids"]] {
        if let Some(status) = copied(own_namespace, &image) {
            assert_eq!(status, 0, "{own_namespace:?}");
        }
    }
    for new_pids in [&["-P"][..], &["--no-pidns"], &["-p", "-P"], &["-P", "-p"]] {
        assert_eq!(copied(new_pids, &image), Some(1), "{new_pids:?}");
    }
    for here in [["--pids", "--no-pidns"], ["-P", "--pids"]] {
        let Some((status, _, errors)) = outcome(&here, &image) else { continue };
        assert_eq!(status, 1, "{here:?}");
        assert!(errors.contains("is taken by"), "{here:?}: {errors}");
        assert_eq!(copied(&here, &has_pid(free_pids(1))), Some(0), "{here:?}");
    }
}

#[test]
fn copy_status_is_the_way_the_root_task_ended() {
    for mode in [&[][..], &["--pidns"]] {
        let Some(status) = copied(mode, &image(taken(), EXIT_42)) else { continue };
        assert_eq!(status, 42, "{mode:?}");
        let args = [mode, &["--copy-status"]].concat();
        assert_eq!(restart(&args, &by_term()).status.signal(), Some(libc::SIGTERM), "{mode:?}");
        assert_eq!(restart(mode, &by_term()).status.code(), Some(0), "{mode:?}");
    }
}

#[test]
fn show_status_says_it_on_standard_output() {
    let shown = |image: &File| outcome(&["--show-status"], image).unwrap();
    let (status, out, errors) = shown(&image(taken(), EXIT_42));
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(out, "the root task exited with status 42\n");
    assert_eq!(shown(&by_term()).1, "the root task was killed by signal 15\n");
}

#[test]
fn no_wait_leaves_a_task_that_runs_and_the_later_of_both_counts() {
    for no_wait in [&["-W", "-v"][..], &["--no-wait", "-v"], &["-w", "--show-status", "-W", "-v"]] {
        let (status, out, _) = outcome(no_wait, &image(taken(), PAUSE)).unwrap();
        let task = Alone(first_pid(&out));
        assert_eq!(status, 0, "{no_wait:?}");
        assert!(lives(task.0), "{no_wait:?}");
    }
    for wait in [&["-W", "-w"][..], &["-W", "--wait"], &["-W", "--show-status"]] {
        let mut waiting = Waiting::start(wait);
        kill(waiting.task, libc::SIGKILL);
        assert_eq!(waiting.line(), "the root task was killed by signal 9\n", "{wait:?}");
        waiting.end();
    }
    assert_eq!(copied(&["-W"], &image(taken(), EXIT_42)), Some(42));
    assert_eq!(restart(&["--copy-status", "-W"], &by_term()).status.code(), Some(0));
}

#[test]
fn self_becomes_the_task() {
    let child = start(&["--self"], &image(taken(), EXIT_42));
    assert_eq!(end_of(child).status.code(), Some(42));
    for more in ["--pids", "--pidns", "--show-status", "--copy-status", "-F/x"] {
        let (status, _, errors) = outcome(&["--self", more], &image(taken(), EXIT_42)).unwrap();
        assert_eq!(status, 1, "{more}");
        assert!(errors.contains("self excludes pids"), "{more}: {errors}");
    }
    let (status, _, errors) = outcome(&["--self", "-P"], &image(taken(), EXIT_42)).unwrap();
    assert_eq!(status, 1);
    assert!(errors.contains("--self") && errors.contains("--no-pidns"), "{errors}");
}

#[test]
fn a_task_that_may_not_execute_what_can_be_written() {
    const PR_GET_MDWE: i32 = 66;
    // SAFETY: this option only returns a number.
    if unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) } < 0 {
        eprintln!("skipped: this kernel has no PR_SET_MDWE");
        return;
    }
    // mov eax, 157 (prctl); mov edi, PR_GET_MDWE; xor of esi, edx, r10d, r8d; syscall;
    // mov edi, eax; mov eax, 231 (exit_group); syscall
    let code: &[u8] = &[
        0xb8, 157, 0, 0, 0, 0xbf, 66, 0, 0, 0, 0x31, 0xf6, 0x31, 0xd2, 0x45, 0x31, 0xd2, 0x45,
        0x31, 0xc0, 0x0f, 0x05, 0x89, 0xc7, 0xb8, 231, 0, 0, 0, 0x0f, 0x05,
    ];
    let own = usercr::sys::process::own_settings();
    for (mdwe, mdwe_alone, seen) in [(true, true, 3), (true, false, 1), (false, false, 0)] {
        let image = image_with(
            taken(),
            code,
            Settings {
                sched: usercr::sys::sched::attributes(0).unwrap(),
                timer_slack: own.timer_slack,
                personality: own.personality,
                dumpable: true,
                mdwe,
                mdwe_alone,
                ..Settings::default()
            },
        );
        // With `--self` the last code of the restart lies in memory that was made executable.
        assert_eq!(end_of(start(&["--self"], &image)).status.code(), Some(seen));
        assert_eq!(copied(&["-W"], &image), Some(seen));
    }
}

#[test]
fn root_and_mount_namespace() {
    let pause = || image(taken(), PAUSE);
    let place = tempfile::tempdir().unwrap();
    let top = place.path().to_str().unwrap();
    for root in [&["-r", top][..], &["--root", top]] {
        let Some(task) = Alone::start(root, &pause()) else { return };
        assert_eq!(task.link("root"), top);
    }
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let link = |args: &[&str]| Alone::start(args, &pause()).unwrap().link("ns/mnt");
    assert_eq!(Path::new(&link(&[])), own);
    assert_ne!(Path::new(&link(&["--mntns"])), own);
    let missing = outcome(&["-r", &format!("{top}/missing")], &pause()).unwrap();
    assert_eq!(missing.0, 1);
    assert!(missing.2.contains("No such file or directory"), "{}", missing.2);
}

/// A root folder where /proc and devpts can be mounted, but are not.
fn bare_root() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for folder in ["proc", "dev", "dev/pts"] {
        fs::create_dir(place.path().join(folder)).unwrap();
    }
    symlink("pts/ptmx", place.path().join("dev/ptmx")).unwrap();
    place
}

#[test]
fn mount_pty_mounts_a_devpts_of_its_own() {
    let place = bare_root();
    let top = place.path().to_str().unwrap();
    let pause = image(taken(), PAUSE);
    let args = ["-r", top, "--mount-pty", "--skip-mntpty"];
    let Some(task) = Alone::start(&args, &pause) else { return };
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", task.0)).unwrap();
    assert!(mounts.contains("devpts /dev/pts devpts "), "{mounts}");
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(top));
}

#[test]
fn conditions_are_skipped_warned_of_or_fatal() {
    let place = bare_root();
    let top = place.path().to_str().unwrap();
    let pid = free_pids(1);
    let cases: [(&str, &[&str], File, &str, bool); 3] = [
        (
            "pidzero",
            &[],
            tree(&[[pid, 0, pid, 0, 0]], EXIT_42, "pidzero"),
            "a pid number in the image is 0\n",
            false,
        ),
        ("mntproc", &["-p", "-r", top], image(1, EXIT_42), "unmount of /proc: ", true),
        ("mntpty", &["--mount-pty", "-r", top], image(pid, EXIT_42), "unmount of /dev/pts: ", true),
    ];
    for (name, args, image, message, usual) in cases {
        let of = |more: &[&str]| outcome(&[args, more].concat(), &image);
        let [skip, warn, fail] = ["skip", "warn", "fail"].map(|then| format!("--{then}-{name}"));
        let Some((status, _, errors)) = of(&[]) else { continue };
        assert_eq!((status, errors.starts_with(message)), (0, usual), "{name}: {errors}");
        let silent: [&[&str]; 4] =
            [&[&skip], &["--skip-any"], &[&fail, &skip], &["--fail-any", "--skip-any"]];
        for options in silent {
            let (status, _, errors) = of(options).unwrap();
            assert_eq!((status, errors.as_str()), (0, ""), "{options:?}");
        }
        let warned: [&[&str]; 3] = [&[&warn], &["--warn-any"], &["--skip-any", &warn]];
        for options in warned {
            let (status, _, errors) = of(options).unwrap();
            assert!(status == 0 && errors.starts_with(message), "{options:?}: {errors}");
        }
        let fatal: [&[&str]; 4] = [&[&fail], &["--fail-any"], &[&skip, &fail], &[&fail, &warn]];
        for options in fatal {
            let (status, _, errors) = of(options).unwrap();
            assert!(status == 1 && !errors.is_empty(), "{options:?}: {errors}");
        }
    }
}

#[test]
fn signal_is_what_an_interrupt_becomes() {
    let by = |number: i32| format!("the root task was killed by signal {number}");
    for (args, number) in [
        (&[][..], libc::SIGINT),
        (&["--signal=TERM"], libc::SIGTERM),
        (&["--signal", "USR1"], libc::SIGUSR1),
        (&["--signal=12"], libc::SIGUSR2),
        (&["--signal=12", "--signal=15"], libc::SIGTERM),
    ] {
        let waiting = Waiting::start(args);
        waiting.interrupt();
        assert_eq!(waiting.end(), by(number), "{args:?}");
    }
    let mut waiting = Waiting::start(&["--signal=0"]);
    waiting.interrupt();
    assert_eq!(waiting.line(), "interrupted: ignored\n");
    kill(waiting.task, libc::SIGUSR1);
    assert_eq!(waiting.end(), by(libc::SIGUSR1));
}

#[test]
fn labels_that_no_image_has_are_not_restored() {
    for option in ["-k", "--keeplsm"] {
        let (status, out, errors) = outcome(&[option], &image(taken(), EXIT_42)).unwrap();
        assert_eq!((status, out.as_str()), (1, ""), "{option}");
        assert!(errors.contains("keep_lsm"), "{option}: {errors}");
    }
}

/// A freezer cgroup of our own, of version 1 or 2; thawed and removed in the end.
struct Freezer {
    dir: PathBuf,
    state: &'static str,
    thaw: &'static str,
    frozen: (&'static str, &'static str),
}

impl Freezer {
    /// In a hierarchy that is mounted, if this user may.
    fn make() -> Option<Freezer> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (top, kind, options) = (words.next()?, words.next()?, words.next()?);
            let (state, thaw, frozen) = match kind {
                "cgroup2" => ("cgroup.freeze", "0", ("cgroup.events", "frozen 1\n")),
                "cgroup" if options.split(',').any(|o| o == "freezer") => {
                    ("freezer.state", "THAWED", ("freezer.state", "FROZEN\n"))
                }
                _ => return None,
            };
            let dir = Path::new(top).join(format!("usercr-legacy-{}", taken()));
            fs::create_dir(&dir).ok()?;
            let freezer = Freezer { dir, state, thaw, frozen };
            // The top of the second version's hierarchy may be without it.
            freezer.dir.join(state).exists().then_some(freezer)
        })
    }

    fn is_frozen(&self) -> bool {
        let (file, line) = self.frozen;
        fs::read_to_string(self.dir.join(file)).unwrap().contains(line)
    }

    fn thaw(&self) {
        fs::write(self.dir.join(self.state), self.thaw).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join(self.state), self.thaw);
        wait_until("the end of the freezer", || {
            let members = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
            members.lines().filter_map(|pid| pid.parse().ok()).for_each(end);
            fs::remove_dir(&self.dir).is_ok()
        });
    }
}

#[test]
fn freezer_keeps_the_tasks_frozen() {
    let missing = outcome(&["-F", "/no/such/group"], &image(taken(), EXIT_42)).unwrap();
    assert_eq!(missing.0, 1);
    assert!(missing.2.contains("/no/such/group"), "{}", missing.2);
    let Some(freezer) = Freezer::make() else {
        eprintln!("skipped: no freezer cgroup can be made here");
        return;
    };
    let name = freezer.dir.to_str().unwrap();
    for option in [&["-F", name][..], &["--freezer", name]] {
        let Some(task) = Alone::start(option, &image(taken(), PAUSE)) else { return };
        let members = fs::read_to_string(freezer.dir.join("cgroup.procs")).unwrap();
        assert_eq!(members, format!("{}\n", task.0), "{option:?}");
        assert!(freezer.is_frozen(), "{option:?}");
        freezer.thaw();
        drop(task);
    }
}

/// Bytes of an image whose checkpoint has failed.
fn failed() -> Vec<u8> {
    let mut bytes = Vec::new();
    image(taken(), EXIT_42).read_to_end(&mut bytes).unwrap();
    let tail = bytes.split_off(bytes.len() - 16);
    bytes.extend([9999u32, 14].map(u32::to_le_bytes).concat());
    bytes.extend(b"\0no wa");
    bytes.extend(tail);
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn inspect_looks_for_error_records_before_restart_2_does() {
    let image = file(&failed());
    // A kernel without restart(2) has ENOSYS for an unused number.
    let with_number = |args: &[&str]| {
        let mut command = command("restart", args);
        command.env("USERCR_RESTART_NR", "999").stdin(image.try_clone().unwrap());
        text(&end_of(command.stderr(Stdio::piped()).spawn().unwrap()).stderr)
    };
    let (without, with) = (with_number(&[]), with_number(&["--inspect"]));
    assert!(!without.contains("no wa"), "{without}");
    assert!(with.contains("no wa"), "{with}");
    // This library's own engine always looks.
    for args in [&[][..], &["--inspect"]] {
        let (status, _, errors) = outcome(args, &image).unwrap();
        assert!(status == 1 && errors.contains("no wa"), "{errors}");
    }
}

/// An image in a file with a name.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let mut file = File::create(place.path("image")).unwrap();
        std::io::copy(&mut image(taken(), EXIT_42), &mut file).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

fn nothing() -> File {
    File::open("/dev/null").unwrap()
}

/// `restart` with `redirection` of the shell, in which the words are $1, $2 and so on.
fn with_shell(args: &str, redirection: &str, words: &[&str]) -> Output {
    let script = format!("exec -a restart \"$0\" {args} {redirection}");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_usercr")]).args(words).stdin(Stdio::null());
    end_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn the_image_is_a_file_or_a_descriptor() {
    let place = Place::new();
    let name = place.path("image");
    for input in [&["-i", &name][..], &["--input", &name]] {
        assert_eq!(copied(input, &nothing()), Some(42), "{input:?}");
    }
    let done = with_shell("--copy-status --input-fd=9", "9<\"$1\"", &[&name]);
    assert_eq!(done.status.code(), Some(42), "{}", text(&done.stderr));
    for (wrong, message) in [
        (&["--input-fd=99"][..], "descriptor 99: Bad file descriptor"),
        (&["--input-fd=-1"], "--input-fd"),
        (&["--input-fd=x"], "--input-fd"),
        (&["-i", &name, "--input-fd=0"], "cannot be used with"),
        (&["-i", "/no/such"], "/no/such: No such file or directory"),
        (&[], "image"),
    ] {
        let (status, out, errors) = outcome(wrong, &nothing()).unwrap();
        assert_eq!((status, out.as_str()), (1, ""), "{wrong:?}");
        assert!(errors.contains(message), "{wrong:?}: {errors}");
    }
}

#[test]
fn the_log_says_why_it_failed() {
    let place = Place::new();
    let log = place.path("log");
    let read = || fs::read_to_string(&log).unwrap();
    let message = |errors: &str| errors.lines().next().unwrap_or_default().to_owned();
    for option in ["-l", "--logfile"] {
        let (status, _, errors) = outcome(&[option, &log], &file(&[0; 100])).unwrap();
        assert_eq!(status, 1, "{option}");
        assert!(errors.starts_with("image, offset 0: "), "{option}: {errors}");
        assert_eq!(read(), format!("the restart failed: {errors}"), "{option}");
        fs::remove_file(&log).unwrap();
    }
    fs::write(&log, "the old one, which is not written over").unwrap();
    let (status, _, errors) = outcome(&["-l", &log], &image(taken(), EXIT_42)).unwrap();
    assert_eq!(status, 1);
    assert_eq!(message(&errors), format!("restart: {log}: File exists (os error 17)"));
    assert!(read().starts_with("the old one"));
    for force in ["-f", "--force"] {
        let done = outcome(&[force, "-l", &log], &image(taken(), EXIT_42)).unwrap();
        assert_eq!(done.0, 0, "{force}");
        assert!(read().ends_with('\n') && !read().contains("old one"), "{force}: {}", read());
        fs::write(&log, "the old one").unwrap();
    }
    let done = with_shell("--logfile-fd=9", "9>\"$1\" <\"$2\"", &[&log, "/dev/null"]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(read(), format!("the restart failed: {}", text(&done.stderr)));
    let (status, ..) = outcome(&["-l", &log, "--logfile-fd=2"], &nothing()).unwrap();
    assert_eq!(status, 1);
}

#[test]
fn verbose_goes_to_standard_output_and_debug_to_standard_error() {
    for option in ["-v", "--verbose"] {
        let (status, out, errors) = outcome(&[option], &image(taken(), EXIT_42)).unwrap();
        assert_eq!((status, errors.as_str()), (0, ""), "{option}");
        assert!(first_pid(&out) > 0);
    }
    for option in ["-d", "--debug"] {
        let (status, out, errors) = outcome(&[option], &image(taken(), EXIT_42)).unwrap();
        assert_eq!((status, out.as_str()), (0, ""), "{option}");
        assert!(errors.contains("all tasks exist"), "{option}: {errors}");
    }
}

#[test]
fn help_lists_the_options_and_wrong_arguments_are_status_1() {
    for option in ["-h", "--help"] {
        let (status, out, errors) = outcome(&[option], &nothing()).unwrap();
        assert_eq!((status, errors.as_str()), (0, ""), "{option}");
        assert!(out.contains("--copy-status") && out.contains("Usage: restart"), "{out}");
    }
    for wrong in [
        &["--no-such-option"][..],
        &["-x"],
        &["image.img"],
        &["--signal=NONE"],
        &["--signal=65"],
        &["--signal"],
        &["--pid"],
        &["--warn-nothing"],
    ] {
        let (status, out, errors) = outcome(wrong, &image(taken(), EXIT_42)).unwrap();
        assert_eq!((status, out.as_str()), (1, ""), "{wrong:?}");
        assert!(errors.starts_with("error: "), "{wrong:?}: {errors}");
    }
    // The start of a long option is enough, as it was.
    assert_eq!(restart(&["--copy"], &image(taken(), EXIT_42)).status.code(), Some(42));
}
