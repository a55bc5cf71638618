//! Address spaces: mappings, which pages have contents of their own, and those contents.
//!
//! Comes in: the mappings of each process. Goes out: [`Mm`]s and [`Shm`]s with every page run known,
//! and [`Pages`], from which the writer takes the contents. Never: a page of the tasks kept here.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::facts::Facts;
use super::files::{Files, Key};
use super::gather::{Details, Link};
use super::segments::{self, Attached, OTHER, Segments};
use super::zeros;
use crate::error::{DumpError, Error};
use crate::image::{FileKind, Guard, Mm, PAGE, PageRun, Shm, Vma, VmaKind};
use crate::image::{PageSource, PagesOf};
use crate::sys::procfs::Mapping;
use crate::sys::remote::{Answers, Locks};
use crate::sys::{inspect, pages};

/// VM_* bits of the kernel, include/linux/mm.h.
const VM_WRITE: u64 = 0x2;
const VM_SHARED: u64 = 0x8;
const VM_MAYWRITE: u64 = 0x20;
const VM_UFFD: u64 = 0x200 | 0x1000;
const VM_PFNMAP: u64 = 0x400;
const VM_LOCKED: u64 = 0x2000;
const VM_IO: u64 = 0x4000;
const VM_LOCKONFAULT: u64 = 0x8_0000;
const VM_HUGETLB: u64 = 0x40_0000;
const VM_SOFTDIRTY: u64 = 0x800_0000;
const VM_MIXEDMAP: u64 = 0x1000_0000;
/// Where the filter of /proc/PID/coredump_filter starts in the kernel's mm flags.
const DUMP_FILTER_SHIFT: u32 = 2;

/// Why shared memory cannot be saved without CAP_CHECKPOINT_RESTORE.
const IN_PARTS: &str =
    "shared memory that is mapped in parts can be saved with CAP_CHECKPOINT_RESTORE only";

/// Device and inode of a shared object; of System V shared memory, whose ids are inodes, the ipc namespace too.
type SharedKey = ((u32, u32), u64, Option<u64>);

/// Where the contents of a shared object are.
#[derive(Debug, Clone)]
enum Shared {
    /// In a file of /proc/PID/map_files.
    File(String),
    /// In the memory of a process, from this address on.
    Mapping { pid: i32, start: u64 },
}

/// Address spaces and shared memory that were found so far.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Address spaces.
    pub mms: Vec<Mm>,
    /// Shared anonymous memory.
    pub shms: Vec<Shm>,
    /// Process that has each address space.
    owners: Vec<i32>,
    /// Where the contents of each shared object are.
    shared: Vec<Shared>,
    shm_index: HashMap<SharedKey, usize>,
    segments: Segments,
}

impl Memory {
    /// Adds the address space of a process; returns its index.
    pub fn add(
        &mut self,
        facts: &Facts,
        details: &Details,
        answers: &Answers,
        files: &mut Files,
        cred: usize,
    ) -> Result<usize, DumpError> {
        if answers.has_ldt {
            let reason = "it has entries in a local descriptor table (modify_ldt)";
            return Err(facts.refuse("its memory", reason));
        }
        let maps = &details.maps;
        let mut vmas = Vec::with_capacity(maps.len());
        for mapping in maps.iter().filter(|m| m.name != b"[vsyscall]") {
            vmas.push(self.vma(facts, mapping, &details.pages, files, cred)?);
        }
        zeros::leave_out(facts.tid, &mut vmas)?;
        let [code, code_end, data, data_end, brk, stack, arg, arg_end, env, env_end] =
            facts.stat.addresses;
        let index = self.mms.len();
        self.mms.push(Mm {
            exe: Some(program(facts, &details.program, files, cred)?),
            def_flags: def_flags(answers),
            flags: details.dump_filter << DUMP_FILTER_SHIFT,
            fields: [
                code,
                code_end,
                data,
                data_end,
                brk,
                answers.brk,
                stack,
                arg,
                arg_end,
                env,
                env_end,
            ],
            auxv: details.auxv.clone(),
            vmas,
            vdso: maps.iter().find(|m| m.name == b"[vdso]").map_or(0, |m| m.start),
        });
        self.owners.push(facts.tid);
        Ok(index)
    }

    fn vma(
        &mut self,
        facts: &Facts,
        mapping: &Mapping,
        all: &pages::Pages,
        files: &mut Files,
        cred: usize,
    ) -> Result<Vma, DumpError> {
        let mut vma = Vma {
            start: mapping.start,
            end: mapping.end,
            flags: mapping.flags & !VM_SOFTDIRTY,
            kind: VmaKind::Vdso,
            pgoff: mapping.offset / PAGE,
            file_size: 0,
            pages: Vec::new(),
            guards: Vec::new(),
            name: None,
        };
        if matches!(mapping.name.as_slice(), b"[vdso]" | b"[vvar]" | b"[vvar_vclock]") {
            return Ok(vma);
        }
        let refuse = |reason: &str| facts.refuse(object(mapping), reason);
        let droppable = check(mapping).map_err(refuse)?;
        (vma.kind, vma.file_size) = self.kind(facts, mapping, files, cred)?;
        vma.name = name(mapping, vma.kind);
        let has_own = match vma.kind {
            VmaKind::Anon => mapping.resident + mapping.swapped != 0,
            VmaKind::File(_) => mapping.anonymous + mapping.swapped != 0,
            _ => false,
        };
        let found = all.within(mapping.start, mapping.end);
        if has_own && !droppable {
            vma.pages = found.own.into_iter().map(run).collect();
        }
        let guard = |(start, count)| Guard { start, end: start + count * PAGE };
        vma.guards = found.guards.into_iter().map(guard).collect();
        Ok(vma)
    }

    /// What a mapping maps, and the size of the file behind it.
    fn kind(
        &mut self,
        facts: &Facts,
        mapping: &Mapping,
        files: &mut Files,
        cred: usize,
    ) -> Result<(VmaKind, u64), DumpError> {
        let name = mapping.name.as_slice();
        let refuse = |reason: &str| facts.refuse(object(mapping), reason);
        let anonymous = mapping.inode == 0 || (!mapping.shared && name == b"/dev/zero");
        if anonymous && !mapping.shared {
            return Ok((VmaKind::Anon, 0));
        }
        let segment = self.segments.has(mapping)?;
        if segment && !mapping.shared {
            return Err(refuse("a private mapping of System V shared memory cannot be saved"));
        }
        let anonymous = name.starts_with(b"/dev/zero") || name.starts_with(b"[anon_shmem:");
        if segment || anonymous || is_only_memory(facts, mapping, files) {
            let shm = self.shm(facts, mapping, segment)?;
            let size = self.shms.get(shm).map_or(0, |s| s.size);
            return Ok((VmaKind::ShmAnon(shm), size));
        }
        let file = mapped_file(facts, mapping, &unescape(name), files);
        let (file, size) = file.map_err(|reason| refuse(&reason))?;
        if mapping.flags & VM_SHARED != 0 || mapping.shared {
            let writable = mapping.flags & (VM_WRITE | VM_MAYWRITE) != 0;
            return Ok((VmaKind::ShmFile(files.mapped(&file, writable, cred)), size));
        }
        Ok((VmaKind::File(files.mapped(&file, false, cred)), size))
    }

    /// Index of a shared object, whose pages are found when it is first met.
    fn shm(&mut self, facts: &Facts, mapping: &Mapping, segment: bool) -> Result<usize, DumpError> {
        let (_, ipc) = facts.uts_and_ipc();
        let key = (mapping.device, mapping.inode, segment.then_some(ipc));
        let end = mapping.offset.saturating_add(mapping.end - mapping.start);
        if let Some(&known) = self.shm_index.get(&key) {
            self.segments.count(known);
            if self.shms.get(known).is_some_and(|shm| shm.size < end) {
                return Err(facts.refuse(object(mapping), IN_PARTS));
            }
            return Ok(known);
        }
        let segment = if segment { Some(segments::read(facts, mapping)?) } else { None };
        let path = link(facts, mapping);
        let failed = |what: &str| DumpError::task(facts.pid, format!("{what} {path}"));
        let (mut shm, contents) = match File::open(&path) {
            Ok(file) => (shared_file(&file).map_err(failed("read"))?, Shared::File(path)),
            // Only with CAP_CHECKPOINT_RESTORE; without it there is the mapping itself.
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => shared_mapping(facts, mapping)?,
            Err(e) => return Err(failed("open")(e)),
        };
        let index = self.shms.len();
        if let Some(found) = segment {
            let segment = found.segment;
            if shm.size != segment.size.next_multiple_of(PAGE) {
                let reason = if matches!(contents, Shared::File(_)) { OTHER } else { IN_PARTS };
                return Err(facts.refuse(object(mapping), reason));
            }
            if shm.size < end {
                return Err(
                    facts.refuse(object(mapping), "it reaches beyond the end of the segment")
                );
            }
            shm.segment = Some(segment);
            self.segments.add(facts, index, &found);
        }
        self.shms.push(shm);
        self.shared.push(contents);
        self.shm_index.insert(key, index);
        Ok(index)
    }

    /// Refuses what was found to be more than the tree's own.
    pub fn finish(&mut self) -> Result<Attached, DumpError> {
        std::mem::take(&mut self.segments).finish()
    }

    /// Where the writer takes the contents from.
    pub fn pages(&self, files: &Files) -> Pages {
        Pages {
            owners: self.owners.clone(),
            shared: self.shared.clone(),
            inodes: files.sources.clone(),
            open: None,
        }
    }
}

/// A shared object that can be opened: its size, and the pages that are not zero.
fn shared_file(file: &File) -> io::Result<Shm> {
    let size = file.metadata()?.len().next_multiple_of(PAGE);
    Ok(Shm { size, pages: data_pages(file)?, segment: None })
}

/// The pages of a file that are neither holes nor hold nothing but zeros. The last one may reach beyond its end.
pub(super) fn data_pages(file: &File) -> io::Result<Vec<PageRun>> {
    let (mut pages, mut from) = (Vec::<PageRun>::new(), 0);
    while let Some((start, end)) = inspect::next_data(file, from)? {
        // Blocks of the file system may be smaller than pages.
        let (start, end) = (start / PAGE * PAGE, end.next_multiple_of(PAGE));
        let count = (end - start) / PAGE;
        match pages.last_mut() {
            Some(last) if last.address + last.count * PAGE == start => last.count += count,
            _ => pages.push(run((start, count))),
        }
        from = end;
    }
    Ok(zeros::leave_out_of_file(file, &pages))
}

/// A shared object that is seen through a mapping of all of it: the pages that are not zero.
fn shared_mapping(facts: &Facts, mapping: &Mapping) -> Result<(Shm, Shared), DumpError> {
    if mapping.offset != 0 {
        return Err(facts.refuse(object(mapping), IN_PARTS));
    }
    let path = format!("/proc/{}/mem", facts.tid);
    let failed = |what: &str| DumpError::task(facts.pid, format!("{what} {path}"));
    let memory = File::open(&path).map_err(failed("open"))?;
    let size = mapping.end - mapping.start;
    let (mut pages, mut buffer) = (Vec::<PageRun>::new(), vec![0u8; 256 * PAGE as usize]);
    let mut at = 0;
    while at < size {
        let wanted = (size - at).min(buffer.len() as u64) as usize;
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        memory.read_exact_at(chunk, mapping.start + at).map_err(failed("read"))?;
        for page in chunk.chunks(PAGE as usize) {
            if page.iter().any(|&b| b != 0) {
                match pages.last_mut() {
                    Some(last) if last.address + last.count * PAGE == at => last.count += 1,
                    _ => pages.push(run((at, 1))),
                }
            }
            at += PAGE;
        }
    }
    let shm = Shm { size, pages, segment: None };
    Ok((shm, Shared::Mapping { pid: facts.pid, start: mapping.start }))
}

/// The name that was given to private memory, which smaps shows in brackets. Shared memory comes back as a memfd,
/// which cannot have one.
fn name(mapping: &Mapping, kind: VmaKind) -> Option<Vec<u8>> {
    let name = mapping.name.strip_prefix(b"[anon:").filter(|_| kind == VmaKind::Anon)?;
    name.strip_suffix(b"]").map(<[u8]>::to_vec)
}

/// What new mappings of the process are to be (mlockall(2), MCL_FUTURE).
fn def_flags(answers: &Answers) -> u64 {
    match answers.locks {
        Locks::Nothing => 0,
        Locks::AtOnce => VM_LOCKED,
        Locks::OnFault => VM_LOCKED | VM_LOCKONFAULT,
    }
}

fn run((address, count): (u64, u64)) -> PageRun {
    PageRun { address, count, offset: 0 }
}

/// Refuses mappings that no restart could make; says whether the kernel may drop the contents at any
/// time, so that they need not be saved.
fn check(mapping: &Mapping) -> Result<bool, &'static str> {
    let flags = mapping.flags;
    if mapping.name.starts_with(b"/memfd:usercr-vm.") {
        return Err("the task is being restarted");
    }
    if flags & VM_HUGETLB != 0 {
        return Err("huge pages of hugetlbfs cannot be saved");
    }
    if flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP) != 0 {
        return Err("memory of a device cannot be saved");
    }
    if flags & VM_UFFD != 0 {
        return Err("it is watched by userfaultfd");
    }
    if mapping.name.starts_with(b"/secretmem") {
        return Err("secret memory cannot be saved");
    }
    if mapping.name.starts_with(b"/[aio]") || mapping.name.starts_with(b"[aio]") {
        return Err("asynchronous I/O (io_setup) cannot be saved");
    }
    if mapping.name.starts_with(b"anon_inode:") || mapping.name == b"[uprobes]" {
        return Err("mappings of this kind cannot be saved");
    }
    let mut droppable = false;
    for flag in &mapping.unknown_flags {
        match flag.as_str() {
            "dp" => droppable = true,
            // Its guard regions are looked for anyway.
            "gu" => {}
            "sl" => return Err("it is sealed (mseal)"),
            "ss" => return Err("shadow stacks cannot be saved"),
            "ui" => return Err("it is watched by userfaultfd"),
            _ => return Err("it has a flag in VmFlags that is not known"),
        }
    }
    Ok(droppable)
}

/// What /proc/PID/smaps tells of the identity of a mapped file.
fn key(mapping: &Mapping) -> Key {
    let (major, minor) = mapping.device;
    (libc::makedev(major, minor), mapping.inode)
}

/// The link to a mapped file; to follow it takes CAP_CHECKPOINT_RESTORE.
fn link(facts: &Facts, mapping: &Mapping) -> String {
    format!("/proc/{}/map_files/{:x}-{:x}", facts.tid, mapping.start, mapping.end)
}

/// Whether a mapping is of a memfd that can be seen only through it: then it is as good as anonymous
/// memory.
fn is_only_memory(facts: &Facts, mapping: &Mapping, files: &mut Files) -> bool {
    let only = mapping.shared
        && mapping.name.starts_with(b"/memfd:")
        && files.link_to(key(mapping)).is_none()
        && std::fs::metadata(link(facts, mapping)).is_err();
    if only {
        files.only_mapped(key(mapping));
    }
    only
}

/// A mapped file, by its path or by its contents; and its size.
fn mapped_file(
    facts: &Facts,
    mapping: &Mapping,
    path: &[u8],
    files: &mut Files,
) -> Result<(FileKind, u64), String> {
    let (mut source, mut key) = (link(facts, mapping), key(mapping));
    if let Some(lost) = files.names.mismatch(path, key.0, key.1) {
        if let Ok(real) = std::fs::metadata(&source) {
            // Some file systems give stat(2) another device than they give the kernel's own lists.
            key = (real.dev(), real.ino());
        } else if let Some(link) = files.link_to(key) {
            source = link.clone();
        } else {
            return Err(format!("{lost}; CAP_CHECKPOINT_RESTORE is needed to look at the file"));
        }
    }
    let file = files.regular(&source, path, key)?;
    let size = size(&file, files);
    Ok((file, size))
}

/// Bytes of a file.
fn size(file: &FileKind, files: &mut Files) -> u64 {
    match file {
        FileKind::Named { path } => files.names.look_up(path).map_or(0, |found| found.was.size),
        FileKind::Unnamed { inode } => files.inodes.get(*inode).map_or(0, |inode| inode.size),
        _ => 0,
    }
}

/// Index of the executable.
fn program(
    facts: &Facts,
    program: &Link,
    files: &mut Files,
    cred: usize,
) -> Result<usize, DumpError> {
    let path = program.path.as_slice();
    let file = files.regular(&facts.path("exe"), path, (program.device, program.inode));
    let refuse =
        |reason: String| facts.refuse(format!("program {}", String::from_utf8_lossy(path)), reason);
    Ok(files.mapped(&file.map_err(refuse)?, false, cred))
}

pub(super) fn object(mapping: &Mapping) -> String {
    let name = String::from_utf8_lossy(&mapping.name);
    format!("mapping {:x}-{:x} ({name})", mapping.start, mapping.end)
}

/// Paths in smaps have a newline as \012.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(tail) => {
                path.push(b'\n');
                rest = tail;
            }
            None => {
                path.push(first);
                rest = tail;
            }
        }
    }
    path
}

/// Contents of the pages, read while the image is written: the tasks are still stopped.
#[derive(Debug)]
pub(super) struct Pages {
    owners: Vec<i32>,
    shared: Vec<Shared>,
    /// Links of /proc to the files without a name.
    inodes: Vec<String>,
    /// What was read from last.
    open: Option<(PagesOf, File)>,
}

impl Pages {
    /// The same, for another thread.
    pub fn another(&self) -> Pages {
        let (owners, shared) = (self.owners.clone(), self.shared.clone());
        Pages { owners, shared, inodes: self.inodes.clone(), open: None }
    }
}

impl PageSource for Pages {
    fn read(&mut self, from: PagesOf, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let (mut address, mut buf) = (address, buf);
        let (pid, path) = match from {
            PagesOf::Mm(mm) => {
                let pid = self.owners.get(mm).copied().unwrap_or(0);
                // Half as costly as the file, which copies twice; but only the file has what the
                // process itself may not read.
                let count = inspect::read_memory(pid, address, buf).unwrap_or(0).min(buf.len());
                (address, buf) = (address + count as u64, &mut buf[count..]);
                if buf.is_empty() {
                    return Ok(());
                }
                (pid, format!("/proc/{pid}/mem"))
            }
            PagesOf::Shm(shm) => match self.shared.get(shm) {
                Some(Shared::Mapping { pid, start }) => {
                    address = address.saturating_add(*start);
                    (*pid, format!("/proc/{pid}/mem"))
                }
                Some(Shared::File(path)) => (0, path.clone()),
                None => (0, String::new()),
            },
            PagesOf::Inode(inode) => (0, self.inodes.get(inode).cloned().unwrap_or_default()),
        };
        let start = address;
        let failed = || DumpError::task(pid, format!("read {path} at {start:#x}"));
        if self.open.as_ref().is_none_or(|(of, _)| *of != from) {
            self.open = Some((from, File::open(&path).map_err(failed())?));
        }
        let Some((_, file)) = &self.open else { return Ok(()) };
        if matches!(from, PagesOf::Mm(_)) {
            return file.read_exact_at(buf, address).map_err(failed()).map_err(Error::from);
        }
        // A file may end inside its last page.
        while !buf.is_empty() {
            match file.read_at(buf, address) {
                Ok(0) => {
                    buf.fill(0);
                    break;
                }
                Ok(count) => (address, buf) = (address + count as u64, &mut buf[count..]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed()(e).into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_in_paths() {
        assert_eq!(unescape(b"/a\\012b\\0c"), b"/a\nb\\0c");
    }

    #[test]
    fn names_of_mappings() {
        let of = |shown: &str, kind| {
            let maps =
                format!("7f00-8000 rw-p 00000000 00:00 0                          {shown}\n");
            let maps = crate::sys::procfs::smaps(maps.as_bytes()).expect("parses");
            name(&maps[0], kind)
        };
        let some = |name: &str| Some(name.as_bytes().to_vec());
        assert_eq!(of("[anon:a  b: (c) ]", VmaKind::Anon), some("a  b: (c) "));
        assert_eq!(of("[anon:]", VmaKind::Anon), some(""));
        for shown in ["", "[heap]", "[stack]", "[anon_shmem:x]", "[anon:x"] {
            assert_eq!(of(shown, VmaKind::Anon), None, "{shown}");
        }
        assert_eq!(of("[anon_shmem:x]", VmaKind::ShmAnon(0)), None);
        assert_eq!(of("[anon:x]", VmaKind::Vdso), None);
    }

    #[test]
    fn flags_that_no_restart_could_make_are_refused() {
        let with = |flags, unknown: &[&str]| Mapping {
            flags,
            unknown_flags: unknown.iter().map(|&f| f.to_owned()).collect(),
            ..Mapping::default()
        };
        assert_eq!(check(&with(0x73, &[])), Ok(false));
        assert_eq!(check(&with(0x73, &["dp"])), Ok(true));
        for (flags, unknown) in [(VM_HUGETLB, ""), (VM_IO, ""), (0x200, ""), (0, "sl"), (0, "zz")] {
            let unknown: Vec<&str> = [unknown].into_iter().filter(|u| !u.is_empty()).collect();
            assert!(check(&with(flags, &unknown)).is_err(), "{flags:x} {unknown:?}");
        }
    }
}
