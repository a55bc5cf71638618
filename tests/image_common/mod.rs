//! Images made up from nothing, for the tests of the image module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code)]

#[path = "../common/bare.rs"]
mod bare;
mod files;
mod maker;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use maker::{large, tree};
use usercr::error::{Error, ImageError};
use usercr::image::*;

/// Numbers that look random and are the same for the same seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word() as u8).collect()
    }
}

/// The head of an image with these tasks, each with a pid object of its own.
pub fn head(tasks: Vec<TaskIds>) -> ImageHead {
    let mut pids = PidTable { offset: 1, ..PidTable::default() };
    for index in 0..tasks.len() {
        pids.push(&[100 + index as i32]);
    }
    bare::head(pids, tasks)
}

pub fn leader(tag: i32) -> TaskIds {
    TaskIds { pid: tag, ppid: if tag == 1 { 0 } else { 1 }, tgid: tag, pgid: 1, sid: 1, depth: 0 }
}

pub fn cpu() -> Cpu {
    Cpu { sp: 0x7ffc_0000_0000, ..bare::live(0x40_1000).cpu }
}

/// One task, one open file, one page: the worked example of the format document.
pub fn smallest() -> (ImageHead, Body) {
    let live = Live { comm: *b"example\0\0\0\0\0\0\0\0\0", cpu: cpu(), ..bare::live(0) };
    let page = Vma {
        start: 0x10_0000,
        end: 0x10_1000,
        flags: 0x10_0073,
        kind: VmaKind::Anon,
        pgoff: 0x100,
        file_size: 0,
        pages: vec![PageRun { address: 0x10_0000, count: 1, offset: 0 }],
        guards: Vec::new(),
        name: None,
    };
    let objects = Objects {
        files: vec![OpenFile {
            kind: FileKind::Named { path: b"/etc/passwd".to_vec() },
            mode: 0xd,
            flags: 0x8000,
            pos: 5,
            cred: 0,
            was: None,
            locks: Vec::new(),
            owner: None,
        }],
        file_tables: vec![FileTable {
            descriptors: vec![Descriptor { fd: 0, file: 0, cloexec: false }],
            locks: Vec::new(),
        }],
        mms: vec![Mm { auxv: vec![6, 4096, 0, 0], vmas: vec![page], ..Mm::default() }],
        fss: vec![Fs { umask: 0o22, cwd: b"/".to_vec(), root: b"/".to_vec() }],
        sighands: vec![SigHand { actions: [SigAction::default(); 64] }],
        signals: vec![Signal::default()],
        creds: vec![Cred::default()],
        ..Objects::default()
    };
    let body = Body { tasks: vec![TaskState::Live(Box::new(live))], objects };
    (head(vec![leader(1)]), body)
}

/// Pages whose contents tell where they belong.
pub struct Pattern;

/// The word at `address` (a multiple of 8).
pub fn pattern(from: PagesOf, address: u64) -> u64 {
    let salt = match from {
        PagesOf::Mm(index) => index as u64 * 2,
        PagesOf::Shm(index) => index as u64 * 2 + 1,
        PagesOf::Inode(index) => index as u64 + 0x8000,
    };
    (address ^ salt << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl PageSource for Pattern {
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let skip = (address & 7) as usize;
        let mut words = (address & !7..).step_by(8).map(|at| pattern(from, at).to_le_bytes());
        let (front, rest) = buf.split_at_mut(((8 - skip) % 8).min(buf.len()));
        if !front.is_empty() {
            let word = words.next().unwrap();
            front.copy_from_slice(&word[skip..skip + front.len()]);
        }
        for (piece, word) in rest.chunks_mut(8).zip(words) {
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}

pub fn written(head: &ImageHead, body: &Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_image(&mut bytes, head, body, &mut Pattern).unwrap();
    bytes
}

pub fn read(bytes: &[u8]) -> Result<(ImageHead, Body), ImageError> {
    let mut reader = Reader::new(bytes);
    let head = reader.head()?;
    let body = reader.body(&head)?;
    Ok((head, body))
}

/// Every run of pages in a body, and whose it is.
pub fn runs(body: &mut Body) -> Vec<(PagesOf, &mut Vec<PageRun>)> {
    let mms = body.objects.mms.iter_mut().enumerate().flat_map(|(index, mm)| {
        mm.vmas.iter_mut().map(move |vma| (PagesOf::Mm(index), &mut vma.pages))
    });
    let shms = body.objects.shms.iter_mut().enumerate();
    let shms = shms.map(|(index, shm)| (PagesOf::Shm(index), &mut shm.pages));
    let inodes = body.objects.inodes.iter_mut().enumerate();
    let inodes = inodes.map(|(index, inode)| (PagesOf::Inode(index), &mut inode.pages));
    mms.chain(shms).chain(inodes).collect()
}

/// Checks that each page of `body` lies where it says, then forgets where, and joins runs that only
/// the stream keeps apart.
pub fn check_pages(body: &mut Body, image: &[u8]) {
    for (of, runs) in runs(body) {
        let mut joined: Vec<PageRun> = Vec::new();
        for run in runs.iter() {
            for page in 0..run.count {
                let at = (run.offset + page * PAGE) as usize;
                let address = run.address + page * PAGE;
                for index in [0, 8, PAGE as usize - 8] {
                    let word = image[at + index..at + index + 8].try_into().unwrap();
                    assert_eq!(u64::from_le_bytes(word), pattern(of, address + index as u64));
                }
            }
            match joined.last_mut() {
                Some(last) if last.address + last.count * PAGE == run.address => {
                    last.count += run.count;
                }
                _ => joined.push(PageRun { offset: 0, ..*run }),
            }
        }
        *runs = joined;
    }
}

/// A record: number of its type, payload.
pub type Record = (u32, Vec<u8>);

/// The records of an image.
pub fn split(image: &[u8]) -> Vec<Record> {
    records::walk(image)
        .map(|record| {
            let record = record.unwrap();
            let from = record.offset as usize;
            (record.kind, image[from + 8..from + record.len as usize].to_vec())
        })
        .collect()
}

/// The image of these records.
pub fn join(records: &[Record]) -> Vec<u8> {
    let mut image = Vec::new();
    for (kind, payload) in records {
        image.extend(kind.to_le_bytes());
        image.extend((payload.len() as u32 + 8).to_le_bytes());
        image.extend(payload);
    }
    image
}

/// Where the first record of this kind is.
pub fn position(records: &[Record], kind: records::Kind) -> usize {
    records.iter().position(|(number, _)| *number == kind.number).unwrap()
}

/// Puts `bytes` at `offset` (that of the format document, header included) in the `nth` record of
/// this kind.
pub fn patch(records: &mut [Record], kind: records::Kind, nth: usize, offset: usize, bytes: &[u8]) {
    let (_, payload) =
        records.iter_mut().filter(|(number, _)| *number == kind.number).nth(nth).unwrap();
    payload[offset - 8..offset - 8 + bytes.len()].copy_from_slice(bytes);
}

/// An OBJREF record.
pub fn objref(kind: u32, tag: i32) -> Record {
    (records::OBJREF.number, [kind.to_le_bytes(), tag.to_le_bytes()].concat())
}
