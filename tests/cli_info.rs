//! `usercr info` on a real checkpoint, on recorded images, and on broken ones.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dump_common;
#[path = "image_common/mod.rs"]
mod image_common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dump_common::{Victim, checkpoint};
use image_common::{Random, Record, join, objref, patch, position, smallest, split, tree, written};
use serde_json::Value;
use usercr::image::{FileKind, Segment, Shm, TaskState, Vma, VmaKind, records};

/// `usercr info` with these options, the image on its standard input.
fn info(options: &[&str], image: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usercr"));
    command.arg("info").args(options).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("usercr runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let image = image.to_vec();
    // It may stop reading: then there is nobody to write to.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&image)));
    let output = child.wait_with_output().expect("usercr ends");
    writer.join().expect("the writer ends");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What it shows of a good image.
fn shown(options: &[&str], image: &[u8]) -> String {
    let output = info(options, image);
    assert!(output.status.success(), "{options:?}: {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one line that it says about an image with a fault.
fn complaint(options: &[&str], image: &[u8]) -> String {
    let output = info(options, image);
    assert_eq!(output.status.code(), Some(1), "{options:?}: {}", text(&output.stdout));
    let errors = text(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors.trim_end().to_owned()
}

/// The checkpoint of a process with a bit of everything.
fn real() -> dump_common::Image {
    let victim = Victim::program("state");
    victim.wait_asleep();
    checkpoint(victim.pid(), false).expect("checkpoint")
}

/// A tree made up, as records: a good image.
fn made_up(seed: u64) -> Vec<Record> {
    let (head, body) = tree(seed, 4, false);
    split(&written(&head, &body))
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn recorded(name: &str) -> Vec<u8> {
    fs::read(golden().join(name).join("image.bin")).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn the_summary_has_every_task_and_its_files() {
    let image = real();
    let seen = shown(&[], &image.bytes);
    let has = |line: &str| assert!(seen.lines().any(|l| l == line), "no {line:?} in:\n{seen}");
    has("format         version 6, a subtree");
    assert!(seen.contains("\ncomplete       yes, read "), "{seen}");
    for (index, task) in image.body.tasks.iter().enumerate() {
        let block = seen.split(&format!("\ntask {index}: pid ")).nth(1).expect("a block");
        let block = block.split("\n\n").next().unwrap_or_default();
        match task {
            TaskState::Zombie(_) => assert!(block.contains("zombie, "), "{block}"),
            TaskState::Live(live) => {
                let fs = image.body.objects.fss.get(live.fs).expect("a directory");
                let cwd = String::from_utf8_lossy(&fs.cwd);
                let shared = block.lines().any(|l| l.starts_with("  directory       as task "));
                assert!(shared || block.contains(&*cwd), "{block}");
            }
        }
    }
    let TaskState::Live(root) = image.body.tasks.first().expect("a task") else { panic!() };
    let table = image.body.objects.file_tables.get(root.files).expect("a table");
    for descriptor in &table.descriptors {
        let file = image.body.objects.files.get(descriptor.file).expect("a file");
        let what = match &file.kind {
            FileKind::Named { path } => String::from_utf8_lossy(path).into_owned(),
            FileKind::Pipe { pipe } => format!("pipe {pipe}"),
            _ => continue,
        };
        let start = format!("  {:>15} {what}, ", descriptor.fd);
        assert!(seen.lines().any(|l| l.starts_with(&start)), "no {start:?} in:\n{seen}");
    }
}

#[test]
fn the_summary_has_the_segments_of_each_address_space() {
    let (head, mut body) = smallest();
    assert!(!shown(&[], &written(&head, &body)).contains("segments"));
    let segment = Segment {
        id: 7,
        key: -5,
        mode: 0o640,
        owner: [10, 20],
        size: 3 << 10,
        locked: true,
        ..Segment::default()
    };
    let other = Segment { id: 32_768, key: 0, removed: true, locked: false, ..segment };
    let shm = |segment| Shm { size: 4096, pages: Vec::new(), segment };
    body.objects.shms = vec![shm(Some(segment)), shm(None), shm(Some(other))];
    let mm = &mut body.objects.mms[0];
    let first = mm.vmas[0].clone();
    // The first is attached twice.
    for (index, shm) in [0, 1, 0, 2].into_iter().enumerate() {
        let start = 0x7000_0000_0000 + index as u64 * 0x10000;
        let (kind, pages) = (VmaKind::ShmAnon(shm), Vec::new());
        let (end, flags, pgoff) = (start + 4096, first.flags | 0x88, 0);
        mm.vmas.push(Vma { start, end, flags, kind, pgoff, pages, ..first.clone() });
    }
    let seen = shown(&[], &written(&head, &body));
    let rows = "
  segments        2
                7 key 0xfffffffb, 3.0 KiB, mode 640, owner 10:20, locked
            32768 no key, 3.0 KiB, mode 640, owner 10:20, removed
";
    assert!(seen.contains(rows), "{seen}");
    assert_eq!(seen.matches("segments").count(), 1);
}

#[test]
fn json_is_what_the_library_reads() {
    let image = real();
    let value: Value = serde_json::from_str(&shown(&["--json"], &image.bytes)).expect("JSON");
    let at = |path: &str| value.pointer(path).unwrap_or_else(|| panic!("no {path}")).clone();
    let number = |path: &str| at(path).as_u64().unwrap_or_else(|| panic!("{path}"));
    assert_eq!(at("/error"), Value::Null);
    assert_eq!(at("/complete"), Value::Bool(true));
    assert_eq!(number("/bytes"), image.bytes.len() as u64);
    assert_eq!(number("/counts/tasks"), image.head.tasks.len() as u64);
    let zombies = image.body.tasks.iter().filter(|t| matches!(t, TaskState::Zombie(_))).count();
    assert_eq!(number("/counts/zombies"), zombies as u64);
    let objects = &image.body.objects;
    let pipes = objects.files.iter().filter(|f| matches!(f.kind, FileKind::Pipe { .. })).count();
    assert_eq!(number("/counts/open_files/pipe"), pipes as u64);
    let vmas = objects.mms.iter().flat_map(|mm| &mm.vmas);
    let mapped: u64 = vmas.map(|vma| vma.end - vma.start).sum();
    assert_eq!(number("/counts/mapped"), mapped);
    for (name, len) in [
        ("tasks", image.body.tasks.len()),
        ("descriptor_tables", objects.file_tables.len()),
        ("open_files", objects.files.len()),
        ("address_spaces", objects.mms.len()),
        ("directories", objects.fss.len()),
        ("credentials", objects.creds.len()),
        ("thread_groups", objects.signals.len()),
    ] {
        assert_eq!(value.get(name).and_then(Value::as_array).map(Vec::len), Some(len), "{name}");
    }
    let TaskState::Live(root) = image.body.tasks.first().expect("a task") else { panic!() };
    assert_eq!(number("/tasks/0/descriptor_table"), root.files as u64);
    assert_eq!(number("/tasks/0/pid"), number("/tasks/0/sid"));
}

/// The manual has the keys, no more and no fewer.
#[test]
fn the_manual_has_the_keys_of_the_document() {
    fn keys(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                found.insert(key.clone());
                // Its keys are kinds of files.
                if key != "open_files" || value.is_array() {
                    keys(value, found);
                }
            }),
            Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let image = real();
    let document = serde_json::from_str(&shown(&["--json"], &image.bytes)).expect("JSON");
    let mut found = std::collections::BTreeSet::new();
    keys(&document, &mut found);
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/usercr.1");
    let manual = fs::read_to_string(manual).expect("the manual");
    let section = manual.split(".SS info\n").nth(1).expect("a section");
    let section = section.split(".SS ").next().unwrap_or_default();
    let mut told: std::collections::BTreeSet<String> =
        section.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    told.retain(|word| !["live", "zombie", " FILE"].contains(&word.as_str()));
    assert_eq!(found, told);
}

#[test]
fn records_are_all_of_them_with_their_fields() {
    let image = real();
    let seen = shown(&["--records"], &image.bytes);
    let lines: Vec<&str> = seen.lines().collect();
    let walked: Vec<_> = records::walk(&image.bytes[..]).map(|r| r.expect("a record")).collect();
    assert_eq!(lines.len(), walked.len());
    for (line, record) in lines.iter().zip(&walked) {
        let start =
            format!("{:>10} {:>5} {} {}", record.offset, record.kind, record.name, record.len);
        assert!(line.starts_with(&start), "{line}: {start}");
    }
    let head = &image.head.header;
    let release = String::from_utf8_lossy(&head.release);
    for part in [
        format!("HEADER 72 magic=0xfeed0cc0a2d200 arch_id=2 major={}", head.kernel[0]),
        format!("BUFFER 73 release=\"{release}\""),
        "TASK_CREDS 16 cred_ref=".into(),
        "OBJREF 16 objtype=14(CRED) objref=".into(),
        "rlim[7].rlim_cur=".into(),
        "action[9]._sa_handler=0x".into(),
        "TAIL 16 magic=0x2d2a0cc0deef00".into(),
    ] {
        assert!(seen.contains(&part), "no {part:?} in:\n{seen}");
    }
    // Every page that the image has is in a range, and no other.
    let mut pages = 0;
    let mut shared = false;
    for line in &lines {
        if let Some(rest) = line.split("vma_type=").nth(1) {
            shared = rest.starts_with("4 ");
        }
        let ranges = line.split(' ').filter_map(|word| word.split_once("-0x"));
        for (start, end) in ranges {
            let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
            let unit = if shared { 1 } else { 4096 };
            pages += (hex(end) - hex(start.trim_start_matches("0x"))) / unit;
        }
    }
    let objects = &image.body.objects;
    let private = objects.mms.iter().flat_map(|mm| &mm.vmas).flat_map(|vma| &vma.pages);
    let all = private.chain(objects.shms.iter().flat_map(|shm| &shm.pages));
    assert_eq!(pages, all.map(|run| run.count).sum::<u64>());
    let shm = |vma: &usercr::image::Vma| matches!(vma.kind, VmaKind::ShmAnon(_));
    assert!(objects.mms.iter().any(|mm| mm.vmas.iter().any(shm)), "no shared memory");
}

#[test]
fn a_strict_check_says_what_it_has_seen() {
    let image = real();
    let count = records::walk(&image.bytes[..]).count();
    let seen = shown(&["--strict"], &image.bytes);
    let start = format!("as the format says: {count} records, ");
    assert!(seen.starts_with(&start), "{seen}");
    assert!(seen.ends_with(&format!(" objects, {} bytes\n", image.bytes.len())), "{seen}");
    let both = shown(&["--records", "--strict"], &image.bytes);
    assert_eq!(both.lines().count(), count + 1);
    assert!(both.ends_with(&seen), "{both}");
}

#[test]
fn each_fault_is_told_with_its_place() {
    let good = made_up(5);
    let offset = |all: &[Record], index: usize| join(&all[..index]).len();
    let check = |all: &[Record], at: usize, message: &str| {
        let bytes = join(all);
        for options in [&["--strict"][..], &["--strict", "--records"]] {
            let expected = format!("usercr: image, offset {}: {message}", offset(all, at));
            assert_eq!(complaint(options, &bytes), expected);
        }
    };
    let objects = position(&good, records::TASK_OBJS);

    let mut all = good.clone();
    all.insert(objects, (12_345, vec![]));
    check(&all, objects, "unknown: type 12345 is not in the format");

    let mut all = good.clone();
    all[objects].1.extend([0; 8]);
    check(&all, objects, "TASK_OBJS: length 40, must be 32");

    let mut all = good.clone();
    patch(&mut all, records::TASK_OBJS, 0, 8, &i32::MAX.to_le_bytes());
    check(&all, objects, "TASK_OBJS: tag 2147483647 (FILE_TABLE) is not known");

    let mut all = good.clone();
    let tag = all[objects].1[8..12].to_vec();
    patch(&mut all, records::TASK_OBJS, 0, 8, &tag);
    let number = i32::from_le_bytes(tag.try_into().expect("four bytes"));
    check(&all, objects, &format!("TASK_OBJS: tag {number} is a FS, not a FILE_TABLE"));

    let mut all = good.clone();
    let groups = (records::GROUPINFO.number, vec![0; 8]);
    all.splice(objects..objects, [objref(16, 999), groups]);
    check(&all, objects, "OBJREF: nothing refers to the GROUPINFO with tag 999");

    let mut all = good.clone();
    patch(&mut all, records::TREE, 0, 12, &[9]);
    let tree = position(&all, records::TREE);
    check(&all, tree, "TREE: byte 12 and behind are padding, but not zero");

    let mut all = good.clone();
    all.push((records::TAIL.number, vec![0; 8]));
    check(&all, good.len(), "TAIL: something stands behind this record, the last");

    let bytes = join(&good);
    let tail = bytes.len() - 16;
    let message = format!("usercr: image, offset {tail}: TAIL: the image ends inside this record");
    assert_eq!(complaint(&["--strict"], &bytes[..tail + 9]), message);
    let message = format!("usercr: image, offset {tail}: TAIL: the image ends before this record");
    assert_eq!(complaint(&["--strict"], &bytes[..tail]), message);
    assert_eq!(complaint(&[], &bytes[..tail]), message);
}

#[test]
fn an_incomplete_image_is_shown_as_far_as_it_goes() {
    let whole = made_up(5);
    let bytes = join(&whole[..whole.len() - 1]);
    let output = info(&[], &bytes);
    assert_eq!(output.status.code(), Some(1));
    let seen = text(&output.stdout);
    assert!(seen.contains("\ncomplete       no, read "), "{seen}");
    let output = info(&["--json"], &bytes);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value.get("complete"), Some(&Value::Bool(false)));
    let error = value.get("error").and_then(Value::as_str).expect("an error");
    assert!(error.ends_with("the image ends before this record"), "{error}");
    // A cut in a record: all in front of it is shown.
    let output = info(&["--records"], &bytes[..bytes.len() - 3]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), whole.len() - 2);
    assert!(text(&output.stderr).contains("ends inside this record"));
}

#[test]
fn recorded_heads_are_shown_and_their_faults_told() {
    let mut seen = 0;
    for entry in fs::read_dir(golden()).expect("golden").map(|e| e.expect("an entry").path()) {
        let Ok(image) = fs::read(entry.join("image.bin")) else { continue };
        let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let output = info(&[], &image);
        // None of them has a body.
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).starts_with("usercr: "), "{name}");
        let strict = complaint(&["--strict"], &image);
        assert!(strict.contains("image, offset "), "{name}: {strict}");
        let shown = text(&output.stdout);
        if !name.starts_with("bad-") && !shown.is_empty() {
            assert!(shown.contains("\ncomplete       no, read "), "{name}: {shown}");
            let drawn = shown.contains("INDEX     PID SESSION   GROUP  TASK");
            assert_ne!(drawn, shown.contains("The tree cannot be drawn: "), "{name}: {shown}");
            // A child two pid namespaces below its parent.
            assert!(drawn || name.starts_with("nested-skip"), "{name}: {shown}");
            seen += 1;
        }
    }
    assert!(seen > 150, "only {seen} images");
}

#[test]
fn nothing_in_an_image_reaches_a_terminal_as_it_is() {
    let (head, mut body) = smallest();
    for task in &mut body.tasks {
        if let TaskState::Live(live) = task {
            live.comm = *b"\x1b[31m\x07<&\"'>\xff\n\0\0\0";
        }
    }
    for fs in &mut body.objects.fss {
        fs.cwd = b"/\x1b]0;x\x07".to_vec();
    }
    let image = written(&head, &body);
    for options in [&[][..], &["--json"], &["--records"]] {
        let seen = shown(options, &image);
        let wrong = seen.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(wrong, None, "{options:?}: {seen}");
        assert!(seen.contains("u{1b}[31m"), "{options:?}: {seen}");
    }
    let picture = shown(&["--svg", "-"], &image);
    let picture = roxmltree::Document::parse(&picture).expect("XML");
    let texts: Vec<&str> = picture.descendants().filter_map(|node| node.text()).collect();
    assert!(texts.iter().any(|text| text.contains("\\u{1b}[31m\\u{7}<&\"'>\\xff\\n")), "{texts:?}");
}

/// The boxes of a picture: class, and all texts in them.
fn boxes(picture: &str) -> Vec<(String, String)> {
    let document = roxmltree::Document::parse(picture).expect("XML");
    let groups = document.descendants().filter(|node| node.has_tag_name("g"));
    groups
        .map(|group| {
            let texts: Vec<&str> = group
                .descendants()
                .filter(|node| node.is_text())
                .filter_map(|node| node.text())
                .collect();
            (group.attribute("class").unwrap_or_default().to_owned(), texts.join(" "))
        })
        .collect()
}

#[test]
fn a_picture_has_a_box_for_every_task() {
    let image = real();
    let file = tempfile::tempdir().expect("a directory");
    let file = file.path().join("tree.svg");
    let path = file.to_str().expect("UTF-8");
    assert_eq!(shown(&["--svg", path], &image.bytes), "");
    let found = boxes(&fs::read_to_string(&file).expect("the picture"));
    assert_eq!(found.len(), image.body.tasks.len());
    let zombies = image.body.tasks.iter().filter(|t| matches!(t, TaskState::Zombie(_))).count();
    assert_eq!(found.iter().filter(|(class, _)| class == "zombie").count(), zombies);
    for task in &image.body.tasks {
        let comm = match task {
            TaskState::Live(live) => live.comm,
            TaskState::Zombie(zombie) => zombie.comm,
        };
        let comm = String::from_utf8_lossy(&comm).trim_matches('\0').to_owned();
        assert!(found.iter().any(|(_, text)| text.contains(&comm)), "{comm}: {found:?}");
    }
}

#[test]
fn ghosts_placeholders_and_threads_look_different() {
    let count = |image: &str, class: &str| {
        let output = info(&["--svg", "-"], &recorded(image));
        // The recorded images end behind their heads.
        assert_eq!(output.status.code(), Some(1));
        boxes(&text(&output.stdout)).iter().filter(|(of, _)| of == class).count()
    };
    assert_eq!(count("ghost-sid-two-children.pids", "ghost"), 1);
    assert_eq!(count("ghost-sid-two-children.pids", "placeholder"), 1);
    assert_eq!(count("ghost-sid-two-children.pids", "process"), 4);
    assert_eq!(count("threads-5-child.pids", "thread"), 4);
    assert_eq!(count("wide-200.pids", "process"), 200);
    assert_eq!(count("chain-50.pids", "process"), 50);
    let output = info(&["--svg", "-"], &recorded("bad-cycle-2"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(boxes(&text(&output.stdout)), []);
}

#[test]
fn options_that_exclude_each_other() {
    for options in [["--json", "--records"], ["--json", "--strict"]] {
        assert_eq!(info(&options, b"").status.code(), Some(2), "{options:?}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_usercr")).args(["info", "no/such"]).output();
    let missing = missing.expect("usercr runs");
    assert_eq!(text(&missing.stderr), "usercr: no/such: No such file or directory (os error 2)\n");
}

/// Whatever the bytes are, there is an answer in good time, fit to be read by people and programs.
#[test]
fn damaged_images_have_an_answer() {
    let mut random = Random::new(7);
    for round in 0..60 {
        let mut bytes = join(&made_up(round % 7));
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            let value = [random.word() as u8, 0xff, 0, 0x80][random.below(4) as usize];
            bytes[at] = value;
        }
        if random.one_in(4) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        for options in [&[][..], &["--json"], &["--records"], &["--strict"], &["--svg", "-"]] {
            let output = info(options, &bytes);
            let code = output.status.code();
            let told = || format!("round {round} {options:?}: {output:?}");
            assert!(matches!(code, Some(0 | 1)), "{}", told());
            let seen = text(&output.stdout);
            assert!(!seen.contains(|c: char| c.is_control() && c != '\n'), "{}", told());
            match options {
                ["--json"] => {
                    serde_json::from_str::<Value>(&seen)
                        .unwrap_or_else(|e| panic!("{e} {}", told()));
                }
                ["--svg", _] if !seen.is_empty() => {
                    roxmltree::Document::parse(&seen).unwrap_or_else(|e| panic!("{e} {}", told()));
                }
                _ => {}
            }
            assert_eq!(
                code == Some(0) || options == ["--json"],
                output.stderr.is_empty(),
                "{}",
                told()
            );
        }
    }
}
