//! What is not in order is refused, with the errno that belongs to it; what may stand anywhere may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image_common;

use image_common::*;
use libc::{EINVAL, EIO, ENOMSG, ENOSYS};
use usercr::error::{Error, ImageError};
use usercr::image::records::{self, Kind};
use usercr::image::{FileKind, VmaKind, write_image};

/// Records of the smallest image, and how many of them are the head.
fn sample() -> (Vec<Record>, usize) {
    let (head, body) = smallest();
    (split(&written(&head, &body)), 12)
}

fn error(records: &[Record]) -> ImageError {
    match read(&join(records)) {
        Err(error) => error,
        Ok(_) => panic!("the image was taken"),
    }
}

/// Kind, which of them, offset, value, errno, a part of the message.
type Case = (Kind, usize, usize, &'static [u8], i32, &'static str);

const fn case(
    kind: Kind,
    offset: usize,
    value: &'static [u8],
    errno: i32,
    text: &'static str,
) -> Case {
    (kind, 0, offset, value, errno, text)
}

const MINUS_1: &[u8] = &[0xff; 4];
const NO_TAG: &[u8] = &[99, 0, 0, 0];
const PID_TAG: &[u8] = &[1, 0, 0, 0];
const CRED_TAG: &[u8] = &[2, 0, 0, 0];

const CASES: &[Case] = &[
    case(records::HEADER, 16, &[1], ENOSYS, "architecture 1"),
    case(records::HEADER, 36, &[65], EINVAL, "signal_nsig 65"),
    case(records::HEADER, 34, &[45], EINVAL, "at_vector_size 45"),
    case(records::TASK, 8, &[4], EINVAL, "flags 0x4"),
    case(records::TASK, 12, &[64], EINVAL, "state 64"),
    case(records::TASK, 16, &[16], EINVAL, "exit state 16"),
    case(records::TASK, 20, &[1], EINVAL, "exit code"),
    case(records::TASK, 24, MINUS_1, EINVAL, "exit signal -1"),
    case(records::TASK, 24, &[65], EINVAL, "exit signal 65"),
    case(records::TASK, 28, &[65], EINVAL, "parent-death signal 65"),
    case(records::TASK, 60, &[11], EINVAL, "robust lists"),
    case(records::TASK, 64, &[1], ENOSYS, "32-bit"),
    case(records::TASK, 68, &[0], EINVAL, "robust lists"),
    case(records::THREAD, 17, &[1], EINVAL, "thread flags 0x100"),
    case(records::THREAD, 18, &[2], ENOSYS, "32-bit"),
    case(records::THREAD, 20, &[4], EINVAL, "TLS"),
    case(records::THREAD, 24, &[1], ENOSYS, "TLS"),
    case(records::RESTART_BLOCK, 8, &[0], EINVAL, "function 0"),
    case(records::RESTART_BLOCK, 8, &[8], EINVAL, "function 8"),
    case(records::RESTART_BLOCK, 8, &[4], ENOSYS, "32-bit"),
    case(records::CPU, 153, &[0], EINVAL, "flags 0x2"),
    case(records::CPU, 153, &[0x32], EINVAL, "flags 0x3202"),
    case(records::CPU, 167, &[0x80], EINVAL, "fs base"),
    case(records::CPU, 180, &[0], EINVAL, "no code segment"),
    case(records::CPU, 180, &[1], ENOSYS, "segments"),
    case(records::CPU, 184, &[2], ENOSYS, "segments"),
    case(records::CPU, 188, &[2], EINVAL, "used_math 2"),
    case(records::TASK_CREDS, 8, NO_TAG, EINVAL, "tag 99 (CRED) is not known"),
    case(records::TASK_CREDS, 8, PID_TAG, ENOMSG, "tag 1 is a PID, not a CRED"),
    case(records::TASK_CREDS, 12, &[3, 0, 0, 0], ENOMSG, "tag 3 is a GROUPINFO"),
    case(records::CRED, 40, CRED_TAG, EINVAL, "tag 2 (USER) is not known"),
    case(records::CRED, 44, &[4], ENOMSG, "tag 4 is a USER"),
    case(records::CRED, 48, &[4], ENOSYS, "security labels"),
    case(records::USER, 12, &[0], EINVAL, "tag 0"),
    case(records::USER_NS, 8, &[4], EINVAL, "tag 4 (USER) is not known"),
    case(records::NS, 8, &[9], EINVAL, "tag 9 (UTS_NS) is not known"),
    case(records::NS, 16, &[9], EINVAL, "net namespace: tag 9"),
    case(records::TASK_NS, 8, CRED_TAG, ENOMSG, "not a NS"),
    case(records::GROUPINFO, 8, MINUS_1, EINVAL, "4294967295 groups need"),
    case(records::FILE_TABLE, 8, MINUS_1, EINVAL, "-1 descriptors"),
    case(records::FILE_TABLE, 8, &[2], EINVAL, "must be 302"),
    case(records::FILE_DESC, 8, CRED_TAG, ENOMSG, "not a FILE"),
    case(records::FILE_DESC, 12, MINUS_1, EINVAL, "descriptor -1"),
    case(records::FILE_DESC, 16, &[2], EINVAL, "close on exec 2"),
    case(records::FILE, 8, &[0], EINVAL, "file of type 0"),
    case(records::FILE, 8, &[2], EINVAL, "length 48, must be 56"),
    case(records::FILE, 8, &[6], EINVAL, "type 303 (FILE_NAME), must be 302"),
    case(records::FILE, 8, &[8], EINVAL, "file of type 8"),
    case(records::FILE, 16, &[0x40], EINVAL, "flags 0o100100"),
    case(records::FILE, 20, &[8], EINVAL, "tag 8 (CRED) is not known"),
    case(records::FILE, 31, &[0x80], EINVAL, "position"),
    case(records::FILE, 40, &[4], ENOSYS, "security labels"),
    case(records::FILE_NAME, 8, b"e", EINVAL, "absolute"),
    case(records::FILE_NAME, 12, &[0], EINVAL, "NUL"),
    case(records::FILE_NAME, 19, b"x", EINVAL, "NUL"),
    case(records::MM, 8, &[2], EINVAL, "must be 402"),
    case(records::MM, 8, &[0], EINVAL, "must be 405"),
    case(records::MM, 12, CRED_TAG, ENOMSG, "not a FILE"),
    case(records::MM, 16, &[1], EINVAL, "default flags 0x1"),
    case(records::MM, 32, &[1], EINVAL, "code from 0x1 to 0x0"),
    case(records::MM, 64, &[1], EINVAL, "heap from 0x1"),
    case(records::MM, 87, &[1], EINVAL, "is not one of a task"),
    case(records::VMA, 8, &[0], EINVAL, "type 0"),
    case(records::VMA, 8, &[3], EINVAL, "file tag 0"),
    case(records::VMA, 8, &[4], EINVAL, "type 4 with flags"),
    case(records::VMA, 8, &[7], EINVAL, "type 7"),
    case(records::VMA, 8, &[8], ENOSYS, "System V"),
    case(records::VMA, 8, &[9], ENOSYS, "huge pages"),
    case(records::VMA, 8, &[11], EINVAL, "type 11"),
    case(records::VMA, 12, &[8], EINVAL, "file tag 8"),
    case(records::VMA, 16, &[8], EINVAL, "inode tag 8"),
    case(records::VMA, 24, &[8], EINVAL, "a file of 8 bytes"),
    case(records::VMA, 32, &[1], EINVAL, "mapping from 0x100001"),
    case(records::VMA, 42, &[0x0f], EINVAL, "mapping from 0x100000 to 0xf1000"),
    case(records::VMA, 46, &[1], EINVAL, "mapping from"),
    case(records::VMA, 58, &[0x40], ENOSYS, "hugetlbfs"),
    case(records::VMA, 71, &[0x80], EINVAL, "offset of"),
    case(records::VMA, 72, &[21], ENOSYS, "pages of 2^21 bytes"),
    case(records::PGARR, 8, &[2], EINVAL, "4104 bytes, which are not 2 pages"),
    case(records::PGARR, 15, &[0x80], EINVAL, "pages"),
    (records::BUFFER, 7, 8, &[1], EINVAL, "page 0x100001 is not in its place"),
    (records::BUFFER, 7, 9, &[0x10], EINVAL, "page 0x101000 is not in its place"),
    (records::BUFFER, 7, 10, &[0x0f], EINVAL, "page 0xf0000 is not in its place"),
    case(records::MM_CONTEXT, 16, &[4], EINVAL, "LDT entries of 4 bytes"),
    case(records::MM_CONTEXT, 20, &[1], ENOSYS, "1 entries in the LDT"),
    case(records::FS, 9, &[2], EINVAL, "umask"),
    case(records::TASK_OBJS, 8, NO_TAG, EINVAL, "tag 99"),
    case(records::TASK_OBJS, 12, &[7], ENOMSG, "not a MM"),
    case(records::TASK_OBJS, 16, &[7], ENOMSG, "not a FS"),
    case(records::TASK_OBJS, 20, &[7], ENOSYS, "semaphore"),
    case(records::TASK_OBJS, 24, &[7], ENOMSG, "not a SIGHAND"),
    case(records::TASK_OBJS, 28, &[7], ENOMSG, "not a SIGNAL"),
    case(records::TASK_OBJS, 28, &[0], EINVAL, "tag 0"),
    case(records::SIGNAL, 8, &[1], EINVAL, "limit 0: soft 1 above hard 0"),
    case(records::SIGNAL, 312, &[3], ENOMSG, "not a TTY"),
    case(records::SIGPENDING, 8, &[1], EINVAL, "1 signals need 112"),
    case(records::SIGNAL_TASK, 9, &[1], EINVAL, "KILL"),
    case(records::TAIL, 8, &[1], EINVAL, "magic"),
];

#[test]
fn values_that_cannot_be_are_refused_with_their_errno() {
    for &(kind, nth, offset, value, errno, text) in CASES {
        let (mut records, _) = sample();
        patch(&mut records, kind, nth, offset, value);
        let Err(error) = read(&join(&records)) else {
            panic!("{}, offset {offset}, {value:x?} was taken", kind.name);
        };
        let message = error.to_string();
        assert!(message.contains(text), "{}, offset {offset}: {message}", kind.name);
        assert_eq!(error.errno(), errno, "{message}");
    }
}

#[test]
fn a_record_of_another_length_or_type_is_refused() {
    let (records, head) = sample();
    for index in head..records.len() {
        for change in 0..3 {
            let mut changed = records.clone();
            match change {
                0 => changed[index].1.push(0),
                1 if changed[index].1.is_empty() => continue,
                1 => drop(changed[index].1.pop()),
                _ => changed[index].0 = 77,
            }
            let error = error(&changed);
            assert!(error.errno() == EINVAL || error.errno() == EIO, "{error}");
        }
    }
}

#[test]
fn tags_must_be_positive_and_new() {
    let (records, _) = sample();
    let at = position(&records, records::OBJREF);
    for (kind, tag, errno) in [
        (14, 0, EINVAL),
        (14, -5, EINVAL),
        (14, 1, EINVAL),
        (14, 3, EINVAL),
        (0, 50, EINVAL),
        (1, 50, EINVAL),
        (2, 50, EINVAL),
        (8, 50, EINVAL),
        (24, 50, EINVAL),
        (u32::MAX, 50, EINVAL),
        (10, 50, EINVAL),
        (11, 50, EINVAL),
        (21, 50, ENOSYS),
        (20, 50, ENOSYS),
        (23, 50, ENOSYS),
    ] {
        let mut records = records.clone();
        records[at] = objref(kind, tag);
        assert_eq!(error(&records).errno(), errno, "type {kind} tag {tag}");
    }
}

#[test]
fn an_object_may_stand_in_front_of_any_record() {
    let (records, head) = sample();
    let (_, wanted) = read(&join(&records)).unwrap();
    for index in head..records.len() {
        let mut more = records.clone();
        let groups = (records::GROUPINFO.number, vec![0; 8]);
        more.splice(index..index, [objref(16, 50), groups]);
        let (_, mut body) = read(&join(&more)).unwrap_or_else(|e| panic!("before {index}: {e}"));
        let mut wanted = wanted.clone();
        for body in [&mut body, &mut wanted] {
            runs(body).into_iter().flat_map(|(_, runs)| runs).for_each(|run| run.offset = 0);
        }
        assert_eq!(body, wanted);
    }
}

#[test]
fn a_foreign_extra_record_may_stand_in_front_of_any_record() {
    let (records, head) = sample();
    for index in head..records.len() {
        let mut more = records.clone();
        more.insert(index, (12_345, vec![1; 13]));
        read(&join(&more)).unwrap_or_else(|e| panic!("before {index}: {e}"));
        // One of our own does not: each has its place.
        more[index].0 = records::VDSO.number;
        assert!(index == head || error(&more).errno() == EINVAL);
    }
}

#[test]
fn a_failed_checkpoint_says_why_wherever_it_stopped() {
    let (records, _) = sample();
    let texts: [&[Record]; 3] = [
        &[(9999, vec![]), (5, b"\0[err -16] task 5\0".to_vec())],
        &[(9999, b"\0[err -16] task 5\0".to_vec())],
        &[(9999, vec![])],
    ];
    for index in 0..records.len() {
        for text in texts {
            let mut cut = records[..index].to_vec();
            cut.extend_from_slice(text);
            let error = error(&cut);
            let message = error.to_string();
            assert_eq!(error.errno(), EIO, "{message}");
            assert!(message.ends_with("[err -16] task 5") || message.ends_with("no reason given"));
        }
    }
}

#[test]
fn objects_inside_objects_have_an_end() {
    let (records, head) = sample();
    for count in [16, 17, 100_000] {
        let mut more = records.clone();
        let nest = (0..count).map(|index| objref(14, 1000 + index));
        more.splice(head..head, nest);
        let text = error(&more).to_string();
        assert_eq!(text.contains("more than 16 deep"), count > 16, "{text}");
    }
}

#[test]
fn threads_of_a_group_share_what_they_must() {
    let (mut head, mut body) = smallest();
    head.tasks.push(leader(1));
    head.tasks[1].pid = 2;
    head.pids.push(&[101]);
    let usercr::image::TaskState::Live(mut thread) = body.tasks[0].clone() else { panic!() };
    thread.exit_signal = -1;
    body.tasks.push(usercr::image::TaskState::Live(thread.clone()));
    assert_eq!(read(&written(&head, &body)).unwrap().1.tasks.len(), 2);
    let extra = body.objects.clone();
    body.objects.mms.extend(extra.mms);
    body.objects.sighands.extend(extra.sighands);
    body.objects.signals.extend(extra.signals);
    for change in 0..3 {
        let mut thread = thread.clone();
        match change {
            0 => thread.mm = 1,
            1 => thread.sighand = 1,
            _ => thread.signal = 1,
        }
        body.tasks[1] = usercr::image::TaskState::Live(thread);
        let error = read(&written(&head, &body)).unwrap_err();
        assert!(error.to_string().contains("threads of a group"), "{error}");
    }
    // A group of its own must not have another group's signal object.
    head.tasks[1].tgid = 2;
    thread.exit_signal = 17;
    body.tasks[1] = usercr::image::TaskState::Live(thread);
    assert!(read(&written(&head, &body)).unwrap_err().to_string().contains("threads of a group"));
}

#[test]
fn what_no_record_can_hold_is_not_written() {
    let (head, body) = smallest();
    type Change = fn(&mut usercr::image::ImageHead, &mut usercr::image::Body);
    let changes: [Change; 12] = [
        |head, _| head.tasks.push(leader(1)),
        |head, _| head.pids.offset = 0,
        |head, _| head.pids.offset = i32::MAX,
        |_, body| body.objects.creds.clear(),
        |_, body| body.objects.file_tables[0].descriptors[0].file = 1,
        |_, body| body.objects.files[0].kind = FileKind::Pipe { pipe: 0 },
        |_, body| body.objects.files[0].kind = FileKind::Named { path: vec![b'/'; 4096] },
        |_, body| body.objects.fss[0].cwd = b"relative".to_vec(),
        |_, body| body.objects.fss[0].root = b"/with\0nul".to_vec(),
        |_, body| body.objects.mms[0].auxv = vec![1; 46],
        |_, body| body.objects.mms[0].vmas[0].kind = VmaKind::ShmAnon(0),
        |_, body| body.objects.signals.clear(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let (mut head, mut body) = (head.clone(), body.clone());
        change(&mut head, &mut body);
        let error = write_image(&mut Vec::new(), &head, &body, &mut Pattern).unwrap_err();
        assert!(matches!(error, Error::Image(ImageError::Unwritable { .. })), "{index}: {error}");
    }
}

#[test]
fn a_stream_that_cannot_be_written_gives_its_error() {
    let (head, body) = smallest();
    let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let error = write_image(&mut full, &head, &body, &mut Pattern).unwrap_err();
    assert_eq!(error.errno(), libc::ENOSPC, "{error}");
}
