//! Address spaces, and where their pages lie.
#![forbid(unsafe_code)]

use super::{Object, ObjectKind, Parser, add};
use crate::error::ImageError;
use crate::image::cursor::{Fixed, Source, arrays};
use crate::image::extra::segment::{LOCKED as SEGMENT_LOCKED, REMOVED as SEGMENT_REMOVED};
use crate::image::{FileKind, Guard, Mm, PAGE, PageRun, Segment, Shm, Vma, VmaKind, records};

/// First address that no task can map.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;
/// Bits of `vm_flags`.
const SHARED: u64 = 0x8 | 0x80;
const LOCKED: u64 = 0x2000;
const LOCK_ON_FAULT: u64 = 0x8_0000;
/// Most bytes of a GUARDS record.
const GUARDS_MOST: u32 = 16 << 20;
/// Most bytes of the name of a mapping; the kernel's limit is one more, for a NUL.
const NAME_MOST: usize = 79;
const REFUSED: [(u64, &str); 4] = [
    (0x400, "mappings of physical memory"),
    (0x4000, "mappings of devices"),
    (0x40_0000, "huge pages of hugetlbfs"),
    (0x80_0000, "non-linear mappings"),
];

/// An address space.
pub(super) fn read<S: Source>(parser: &mut Parser<'_, S>) -> Result<Object, ImageError> {
    let record = parser.fixed::<120>(records::MM)?;
    let exe = match record.i32::<12>() {
        0 => None,
        tag => Some(named_file(parser, &record, tag)?),
    };
    let def_flags = record.u64::<16>();
    if ![0, LOCKED, LOCKED | LOCK_ON_FAULT].contains(&def_flags) {
        return Err(record.bad(format!("default flags {def_flags:#x}")));
    }
    let mut mm = Mm {
        exe,
        def_flags,
        flags: record.u64::<24>(),
        fields: fields(&record)?,
        auxv: auxv(parser)?,
        vmas: Vec::new(),
        vdso: 0,
    };
    let mut lowest = 0;
    for _ in 0..record.u32::<8>() {
        let vma = vma(parser, lowest)?;
        lowest = vma.end;
        mm.vmas.push(vma);
    }
    let context = parser.fixed::<24>(records::MM_CONTEXT)?;
    mm.vdso = context.u64::<8>();
    let (entry, count) = (context.u32::<16>(), context.u32::<20>());
    if entry != 8 {
        return Err(context.bad(format!("LDT entries of {entry} bytes, must be 8")));
    }
    if count != 0 {
        return Err(context.unsupported(format!("{count} entries in the LDT")));
    }
    parser.fixed::<8>(records::MM_CONTEXT_LDT)?;
    Ok(add(&mut parser.out.mms, ObjectKind::Mm, mm))
}

/// The index of a file that can be mapped.
fn named_file<S: Source, const N: usize>(
    parser: &Parser<'_, S>,
    record: &Fixed<N>,
    tag: i32,
) -> Result<usize, ImageError> {
    let index = parser.index(record, tag, ObjectKind::File)?;
    match parser.out.files.get(index).map(|file| &file.kind) {
        Some(FileKind::Named { .. } | FileKind::Unnamed { .. }) => Ok(index),
        _ => Err(record.bad(format!("tag {tag} is nothing that can be mapped"))),
    }
}

/// The marks of an address space, in the order of [`Mm::fields`].
fn fields(record: &Fixed<120>) -> Result<[u64; 11], ImageError> {
    const NAMES: [(&str, usize, usize); 5] = [
        ("code", 0, 1),
        ("data", 2, 3),
        ("heap", 4, 5),
        ("arguments", 7, 8),
        ("environment", 9, 10),
    ];
    let mut fields = [0; 11];
    for (to, from) in fields.iter_mut().zip(arrays(&record.bytes::<32, 88>())) {
        *to = u64::from_le_bytes(*from);
    }
    if let Some(address) = fields.iter().find(|&&address| address > TASK_SIZE) {
        return Err(record.bad(format!("address {address:#x} is not one of a task")));
    }
    for (name, start, end) in NAMES {
        let (start, end) = (fields[start], fields[end]);
        if start > end {
            return Err(record.bad(format!("{name} from {start:#x} to {end:#x}")));
        }
    }
    Ok(fields)
}

/// The auxiliary vector, up to and with the AT_NULL pair. Where there is none, the last pair
/// becomes one.
fn auxv<S: Source>(parser: &mut Parser<'_, S>) -> Result<Vec<u64>, ImageError> {
    const NAME: &str = "BUFFER (auxv)";
    let header = parser.expect(records::BUFFER)?;
    let need = u32::from(parser.head.header.constants[1]) * 8;
    if header.payload() != need {
        return Err(header.bad(NAME, format!("{} bytes, must be {need}", header.payload())));
    }
    let bytes = parser.cursor.payload(&header, NAME, need)?;
    let mut auxv = Vec::new();
    let last = bytes.len() / 16;
    for (index, pair) in arrays::<16>(&bytes).enumerate() {
        let (kind, value) = pair.split_at(8);
        let mut words =
            [kind, value].map(|word| word.first_chunk().map_or(0, |&w| u64::from_le_bytes(w)));
        if index + 1 == last || words[0] == 0 {
            words = [0; 2];
        }
        auxv.extend(words);
        if words[0] == 0 {
            break;
        }
    }
    Ok(auxv)
}

/// A mapping, which must not begin in front of `lowest`, and the pages in it.
fn vma<S: Source>(parser: &mut Parser<'_, S>, lowest: u64) -> Result<Vma, ImageError> {
    let guards = guards(parser)?;
    let name = name(parser)?;
    let segment = segment(parser)?;
    let record = parser.fixed::<80>(records::VMA)?;
    let number = record.u32::<8>();
    let mut vma = Vma {
        start: record.u64::<32>(),
        end: record.u64::<40>(),
        flags: record.u64::<56>(),
        kind: VmaKind::Vdso,
        pgoff: record.u64::<64>(),
        file_size: record.u64::<24>(),
        pages: Vec::new(),
        guards,
        name,
    };
    check(&record, &vma, lowest)?;
    let shared = vma.flags & SHARED != 0;
    if matches!(number, 1..=6) && shared != matches!(number, 4..=6) {
        return Err(record.bad(format!("type {number} with flags {:#x}", vma.flags)));
    }
    if segment.is_some() && number != 4 {
        return Err(record.bad(format!("type {number} behind {}", records::SEGMENT.name)));
    }
    if vma.name.is_some() && number != 2 {
        return Err(record.bad(format!("type {number} behind {}", records::VMA_NAME.name)));
    }
    let file = |parser: &Parser<'_, S>| named_file(parser, &record, record.i32::<12>());
    match number {
        1 => refs(&record, false, false)?,
        2 => {
            refs(&record, false, false)?;
            vma.kind = VmaKind::Anon;
            vma.pages = pages(parser, vma.start, vma.end, 1)?;
        }
        3 => {
            refs(&record, true, false)?;
            vma.kind = VmaKind::File(file(parser)?);
            vma.pages = pages(parser, vma.start, vma.end, 1)?;
        }
        4 | 5 => {
            refs(&record, false, true)?;
            vma.kind = VmaKind::ShmAnon(shm(parser, &record, number == 4, segment)?);
            inside(parser, &record, &vma)?;
            vma.file_size = 0;
        }
        6 => {
            refs(&record, true, true)?;
            let file = file(parser)?;
            vma.kind = VmaKind::ShmFile(file);
            inode(parser, &record, file)?;
        }
        0 | 7 => return Err(record.bad(format!("type {number} is never written"))),
        8 => return Err(record.unsupported("System V shared memory")),
        9 | 10 => return Err(record.unsupported("huge pages of hugetlbfs")),
        _ => return Err(record.bad(format!("type {number}"))),
    }
    Ok(vma)
}

/// The guard regions in front of a VMA.
fn guards<S: Source>(parser: &mut Parser<'_, S>) -> Result<Vec<Guard>, ImageError> {
    let name = records::GUARDS.name;
    let header = parser.next(records::VMA.name)?;
    if header.kind != records::GUARDS.number {
        return Ok(Vec::new());
    }
    let bytes = parser.cursor.payload(&header, name, GUARDS_MOST)?;
    let mut guards: Vec<Guard> = Vec::new();
    for pair in arrays::<16>(&bytes) {
        let [start, end] = [pair.first_chunk(), pair.last_chunk()]
            .map(|word: Option<&[u8; 8]>| word.map_or(0, |word| u64::from_le_bytes(*word)));
        let aligned = start % PAGE == 0 && end % PAGE == 0;
        if !aligned || start >= end || guards.last().is_some_and(|last| last.end >= start) {
            return Err(header.bad(name, format!("from {start:#x} to {end:#x}")));
        }
        guards.push(Guard { start, end });
    }
    if bytes.is_empty() || bytes.len() % 16 != 0 {
        return Err(header.bad(name, "must have pairs of addresses"));
    }
    Ok(guards)
}

/// The name of the VMA to come.
fn name<S: Source>(parser: &mut Parser<'_, S>) -> Result<Option<Vec<u8>>, ImageError> {
    let kind = records::VMA_NAME;
    let header = parser.next(records::VMA.name)?;
    if header.kind != kind.number {
        return Ok(None);
    }
    let name = parser.cursor.payload(&header, kind.name, NAME_MOST as u32)?;
    match name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(Some(name)),
        false => Err(header.bad(kind.name, "must have printable characters")),
    }
}

/// What the shared memory is that the VMA to come is the first mapping of.
fn segment<S: Source>(parser: &mut Parser<'_, S>) -> Result<Option<Segment>, ImageError> {
    let kind = records::SEGMENT;
    let header = parser.next(records::VMA.name)?;
    if header.kind != kind.number {
        return Ok(None);
    }
    let record = parser.cursor.fixed::<48>(&header, kind.name)?;
    let (mode, flags) = (record.u32::<16>(), record.u32::<20>());
    let segment = Segment {
        id: record.i32::<8>(),
        key: record.i32::<12>(),
        mode,
        owner: [record.u32::<24>(), record.u32::<28>()],
        creator: [record.u32::<32>(), record.u32::<36>()],
        size: record.u64::<40>(),
        removed: flags & SEGMENT_REMOVED != 0,
        locked: flags & SEGMENT_LOCKED != 0,
    };
    if segment.id < 0 || mode & !0o777 != 0 || flags & !(SEGMENT_REMOVED | SEGMENT_LOCKED) != 0 {
        let reason = format!("segment {} with mode {mode:#o}, flags {flags:#x}", segment.id);
        return Err(record.bad(reason));
    }
    if segment.removed && segment.key != 0 {
        return Err(record.bad(format!("a removed segment with key {:#x}", segment.key)));
    }
    if segment.size == 0 || segment.size > TASK_SIZE {
        return Err(record.bad(format!("a segment of {} bytes", segment.size)));
    }
    Ok(Some(segment))
}

/// What holds for mappings of every type.
fn check(record: &Fixed<80>, vma: &Vma, lowest: u64) -> Result<(), ImageError> {
    let (start, end) = (vma.start, vma.end);
    if start >= end || end > TASK_SIZE || start % PAGE != 0 || end % PAGE != 0 {
        return Err(record.bad(format!("mapping from {start:#x} to {end:#x}")));
    }
    if vma.guards.first().is_some_and(|first| first.start < start)
        || vma.guards.last().is_some_and(|last| last.end > end)
    {
        return Err(record.bad("its guard regions are not inside it"));
    }
    if start < lowest {
        return Err(record.bad(format!("mapping from {start:#x} begins in front of {lowest:#x}")));
    }
    // The offset of the last byte must fit in 63 bits.
    if vma.pgoff.saturating_add((end - start) / PAGE) > i64::MAX as u64 / PAGE {
        return Err(record.bad(format!("offset of {:#x} pages", vma.pgoff)));
    }
    if vma.file_size > i64::MAX as u64 {
        return Err(record.bad(format!("file of {} bytes", vma.file_size)));
    }
    // The kernel's own pages are physical memory.
    let own = record.u32::<8>() == 1;
    if let Some((_, what)) = REFUSED.iter().find(|(flag, _)| !own && vma.flags & flag != 0) {
        return Err(record.unsupported(*what));
    }
    match record.u16::<72>() {
        0 | 12 => Ok(()),
        shift => Err(record.unsupported(format!("pages of 2^{shift} bytes"))),
    }
}

/// Which references and sizes a mapping must have: of a file, of an inode; no others.
fn refs(record: &Fixed<80>, file: bool, inode: bool) -> Result<(), ImageError> {
    let (file_tag, inode_tag, size) = (record.i32::<12>(), record.i32::<16>(), record.u64::<24>());
    for (name, tag, wanted) in [("file", file_tag, file), ("inode", inode_tag, inode)] {
        if tag < 0 || (tag != 0) != wanted {
            return Err(record.bad(format!("type {} with {name} tag {tag}", record.u32::<8>())));
        }
    }
    if !file && !inode && size != 0 {
        return Err(record.bad(format!("a file of {size} bytes behind private memory")));
    }
    Ok(())
}

/// The inode of a shared file mapping. It says which mappings are of one file; the path does too.
fn inode<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<80>,
    file: usize,
) -> Result<(), ImageError> {
    let tag = record.i32::<16>();
    if let Some(FileKind::Unnamed { inode }) = parser.out.files.get(file).map(|file| &file.kind) {
        return match parser.find(tag) {
            Some((ObjectKind::Unnamed, found)) if found == *inode => Ok(()),
            _ => Err(record.bad(format!("tag {tag} is not the inode of the file"))),
        };
    }
    if parser.find(tag).is_some() {
        return parser.index(record, tag, ObjectKind::FileInode).map(|_| ());
    }
    parser.define(record, tag, (ObjectKind::FileInode, 0))
}

/// Shared anonymous memory; its contents come with the first mapping.
fn shm<S: Source>(
    parser: &mut Parser<'_, S>,
    record: &Fixed<80>,
    first: bool,
    segment: Option<Segment>,
) -> Result<usize, ImageError> {
    let (tag, size) = (record.i32::<16>(), record.u64::<24>());
    if first {
        if size == 0 || size > TASK_SIZE {
            return Err(record.bad(format!("shared memory of {size} bytes")));
        }
        if segment.is_some_and(|segment| segment.size.next_multiple_of(PAGE) != size) {
            return Err(record.bad(format!("a segment of another size than {size} bytes")));
        }
        let pages = pages(parser, 0, size, PAGE)?;
        let shm = Shm { size, pages, segment };
        let shm = add(&mut parser.out.shms, ObjectKind::ShmInode, shm);
        parser.define(record, tag, shm)?;
        return Ok(shm.1);
    }
    let index = parser.index(record, tag, ObjectKind::ShmInode)?;
    match parser.out.shms.get(index) {
        Some(shm) if shm.size == size => Ok(index),
        _ => Err(record.bad(format!("shared memory of {size} bytes had another size before"))),
    }
}

/// No mapping reaches beyond the end of a segment.
fn inside<S: Source>(
    parser: &Parser<'_, S>,
    record: &Fixed<80>,
    vma: &Vma,
) -> Result<(), ImageError> {
    let VmaKind::ShmAnon(index) = vma.kind else { return Ok(()) };
    let Some(shm) = parser.out.shms.get(index).filter(|shm| shm.segment.is_some()) else {
        return Ok(());
    };
    if vma.pgoff.saturating_mul(PAGE).saturating_add(vma.end - vma.start) > shm.size {
        return Err(record.bad(format!("it reaches beyond a segment of {} bytes", shm.size)));
    }
    Ok(())
}

/// The page arrays of a mapping: where the pages lie that are between `from` and `to` bytes. The image
/// counts in units of `unit` bytes: 1 where it has addresses, a page where it has indexes.
pub(super) fn pages<S: Source>(
    parser: &mut Parser<'_, S>,
    from: u64,
    to: u64,
    unit: u64,
) -> Result<Vec<PageRun>, ImageError> {
    const NAME: &str = "BUFFER (pages)";
    let mut runs: Vec<PageRun> = Vec::new();
    let mut lowest = from;
    loop {
        let count = parser.fixed::<16>(records::PGARR)?.u64::<8>();
        if count == 0 {
            return Ok(runs);
        }
        let buffer = parser.expect(records::BUFFER)?;
        let need = count.checked_mul(8 + PAGE);
        if need != Some(u64::from(buffer.payload())) {
            let have = buffer.payload();
            return Err(buffer.bad(NAME, format!("{have} bytes, which are not {count} pages")));
        }
        // The number fits in 32 bits, as it is less than the payload's.
        let mut offset = buffer.offset + 8 + count * 8;
        parser.cursor.enter(&buffer);
        parser.cursor.read(count as usize * 8, &buffer, NAME, |bytes| {
            for word in arrays(bytes) {
                let number = u64::from_le_bytes(*word);
                let address = number.saturating_mul(unit);
                if address < lowest || address >= to || address % PAGE != 0 {
                    return Err(buffer.bad(NAME, format!("page {number:#x} is not in its place")));
                }
                match runs.last_mut() {
                    Some(run) if continues(run, address, offset) => run.count += 1,
                    _ => runs.push(PageRun { address, count: 1, offset }),
                }
                lowest = address + PAGE;
                offset += PAGE;
            }
            Ok(())
        })?;
        parser.cursor.skip(count * PAGE, &buffer, NAME)?;
    }
}

/// Whether the page at `address`, found at `offset`, is the next one of this run.
fn continues(run: &PageRun, address: u64, offset: u64) -> bool {
    let bytes = run.count * PAGE;
    run.address + bytes == address && run.offset + bytes == offset
}
