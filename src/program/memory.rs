//! Address spaces: giving up the caller's, building the image's.

use std::collections::{BTreeSet, HashMap};

use super::{Compiler, Program, attempt, call, exact};
use crate::image::{Live, Mm, PAGE, PageRun, Vma, VmaKind};

/// The kernel's VM_* bits that matter here (include/linux/mm.h; format document 2.10).
pub mod vm {
    /// Readable.
    pub const READ: u64 = 1;
    /// Writable.
    pub const WRITE: u64 = 2;
    /// Executable.
    pub const EXEC: u64 = 4;
    /// Shared.
    pub const SHARED: u64 = 8;
    /// May be made writable.
    pub const MAYWRITE: u64 = 0x20;
    /// Shared, or would be if it could be written.
    pub const MAYSHARE: u64 = 0x80;
    /// Grows down, like a stack.
    pub const GROWSDOWN: u64 = 0x100;
    /// Locked in memory.
    pub const LOCKED: u64 = 0x2000;
    /// Read in order.
    pub const SEQ_READ: u64 = 0x8000;
    /// Read in no order.
    pub const RAND_READ: u64 = 0x10000;
    /// Not copied by fork.
    pub const DONTCOPY: u64 = 0x20000;
    /// Locked when touched, where it is locked.
    pub const LOCKONFAULT: u64 = 0x80000;
    /// No swap space is reserved.
    pub const NORESERVE: u64 = 0x20_0000;
    /// Wiped in the child of a fork.
    pub const WIPEONFORK: u64 = 0x200_0000;
    /// Not in core dumps.
    pub const DONTDUMP: u64 = 0x400_0000;
    /// Huge pages wanted.
    pub const HUGEPAGE: u64 = 0x2000_0000;
    /// Huge pages not wanted.
    pub const NOHUGEPAGE: u64 = 0x4000_0000;
    /// Same-page merging wanted.
    pub const MERGEABLE: u64 = 0x8000_0000;
}

/// One read is at most this long: the kernel cuts longer ones (MAX_RW_COUNT is a little under 2 GiB).
pub(super) const READ_MAX: u64 = 1 << 30;

/// A piece of pages is first made and then read when it has at least so many bytes: that saves a fault for each
/// page. Larger pieces than the second would have left the processor's cache in between.
const FILL_MIN: u64 = 64 << 10;
const FILL_MAX: u64 = 32 << 20;

/// MADV_POPULATE_WRITE (Linux 5.14).
const POPULATE_WRITE: u64 = 23;

/// MADV_GUARD_INSTALL (Linux 6.13).
const GUARD_INSTALL: u64 = 102;
/// Flag of mlock2(2).
const MLOCK_ONFAULT: u64 = 1;

/// madvise(2) for each flag that it sets.
const ADVICE: [(u64, i32); 8] = [
    (vm::SEQ_READ, libc::MADV_SEQUENTIAL),
    (vm::RAND_READ, libc::MADV_RANDOM),
    (vm::DONTCOPY, libc::MADV_DONTFORK),
    (vm::WIPEONFORK, libc::MADV_WIPEONFORK),
    (vm::DONTDUMP, libc::MADV_DONTDUMP),
    (vm::HUGEPAGE, libc::MADV_HUGEPAGE),
    (vm::NOHUGEPAGE, libc::MADV_NOHUGEPAGE),
    (vm::MERGEABLE, libc::MADV_MERGEABLE),
];

/// What shmat(2) has made at once, of which only parts may be left, or parts with different rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attachment {
    /// Index in the table of shared memory.
    shm: usize,
    /// It was not attached with SHM_RDONLY.
    writable: bool,
    /// Address of its first byte.
    start: u64,
}

impl Attachment {
    fn of(shm: usize, part: &Vma) -> Attachment {
        let start = part.start.wrapping_sub(part.pgoff.wrapping_mul(PAGE));
        Attachment { shm, writable: part.flags & vm::MAYWRITE != 0, start }
    }
}

/// Files that an address space needs.
pub(super) fn files_of(mm: &Mm) -> BTreeSet<usize> {
    let mapped = mm.vmas.iter().filter_map(|vma| match vma.kind {
        VmaKind::File(file) | VmaKind::ShmFile(file) => Some(file),
        _ => None,
    });
    mapped.chain(mm.exe).collect()
}

/// Extent of the kernel's own pages (data in front, code behind) in an address space.
pub fn vdso_extent(mm: &Mm) -> Option<(u64, u64)> {
    let mut own = mm.vmas.iter().filter(|vma| vma.kind == VmaKind::Vdso);
    let first = own.next()?;
    let last = own.next_back().unwrap_or(first);
    Some((first.start, last.end))
}

impl Compiler<'_> {
    /// Gives up all memory but the shared region and the vdso.
    pub(super) fn leave_memory(&mut self, p: &mut Program) {
        if let Some((address, lengths)) = &self.facts.rseq {
            // The kernel writes there at every preemption: it must not, once the memory is gone.
            for &length in lengths {
                const UNREGISTER: u64 = 1;
                const GLIBC_SIGNATURE: u64 = 0x5305_3053;
                let args = [*address, u64::from(length), UNREGISTER, GLIBC_SIGNATURE];
                p.push(attempt(libc::SYS_rseq, &args));
            }
        }
        let vdso = &self.facts.vdso;
        let mut keep = vec![self.facts.region];
        if let (Some(first), Some(last)) = (vdso.first(), vdso.last()) {
            keep.push((first.0, last.1));
        }
        keep.sort_unstable();
        let mut from = 0;
        for (start, end) in keep {
            if start > from {
                p.push(call(libc::SYS_munmap, &[from, start - from]));
            }
            from = end;
        }
        if self.facts.address_end > from {
            p.push(call(libc::SYS_munmap, &[from, self.facts.address_end - from]));
        }
    }

    /// Builds the address space of a process.
    pub(super) fn memory(&mut self, p: &mut Program, task: usize, live: &Live) {
        let Some(mm) = self.body.objects.mms.get(live.mm) else { return };
        let mut model = self.slots.base_model();
        let mut fds: HashMap<usize, i32> = HashMap::new();
        let mut local = Vec::new();
        for file in files_of(mm) {
            let Some(open) = self.body.objects.files.get(file) else { continue };
            let fd = self.slots.file(file).unwrap_or_else(|| {
                let fd = self.make(p, &mut model, open, true);
                local.push(fd);
                fd
            });
            fds.insert(file, fd);
        }
        self.move_vdso(p, mm);
        // Before anything is mapped: an executable cannot be replaced while it is mapped, and the one
        // before may be the same file.
        self.describe_mm(p, mm, &fds);
        self.raise_memlock(p, mm);
        let attachments = self.attachments(mm);
        for vma in &mm.vmas {
            self.map(p, task, vma, &fds, &attachments);
        }
        self.lock_new(p, mm);
        for fd in local {
            self.close(p, &mut model, fd);
        }
    }

    /// Moves the kernel's own pages to where the program knows them.
    fn move_vdso(&mut self, p: &mut Program, mm: &Mm) {
        let (Some((to, to_end)), Some(&(from, _))) = (vdso_extent(mm), self.facts.vdso.first())
        else {
            return;
        };
        if to == from {
            return;
        }
        let len = to_end - to;
        // Where the two places overlap, go by way of a third.
        let via = if to.abs_diff(from) < len { vec![self.facts.scratch, to] } else { vec![to] };
        let mut at = from;
        for place in via {
            for &(start, end) in &self.facts.vdso {
                let (old, new) = (start - from + at, start - from + place);
                let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                p.push(exact(libc::SYS_mremap, &[old, end - start, end - start, flags, new], new));
            }
            at = place;
        }
    }

    /// Maps one area and fills it.
    fn map(
        &mut self,
        p: &mut Program,
        task: usize,
        vma: &Vma,
        fds: &HashMap<usize, i32>,
        attachments: &HashMap<Attachment, Vec<&Vma>>,
    ) {
        let len = vma.end - vma.start;
        if let VmaKind::ShmAnon(shm) = vma.kind
            && let Some(id) = self.segment(shm)
        {
            let attachment = Attachment::of(shm, vma);
            let parts = attachments.get(&attachment).map_or(&[][..], Vec::as_slice);
            self.attach(p, vma, id, attachment, parts);
            self.advise(p, vma, vma.flags & (vm::READ | vm::WRITE | vm::EXEC));
            return;
        }
        // A mapping of a file that was not opened for writing has only the second flag.
        let shared = vma.flags & (vm::SHARED | vm::MAYSHARE) != 0;
        let mut flags = libc::MAP_FIXED | if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let (fd, offset) = match vma.kind {
            VmaKind::Vdso => return,
            VmaKind::Anon => {
                flags |= libc::MAP_ANONYMOUS;
                (-1, 0)
            }
            VmaKind::File(file) | VmaKind::ShmFile(file) => {
                (fds.get(&file).copied().unwrap_or(-1), vma.pgoff * PAGE)
            }
            VmaKind::ShmAnon(shm) => (self.slots.shm(shm).unwrap_or(-1), vma.pgoff * PAGE),
        };
        if vma.flags & vm::NORESERVE != 0 {
            flags |= libc::MAP_NORESERVE;
        }
        if vma.flags & vm::GROWSDOWN != 0 {
            flags |= libc::MAP_GROWSDOWN;
        }
        let wanted = vma.flags & (vm::READ | vm::WRITE | vm::EXEC);
        let first = if vma.pages.is_empty() { wanted } else { wanted | vm::WRITE };
        // VM_READ, _WRITE and _EXEC are the same bits as PROT_READ, _WRITE and _EXEC.
        let args = [vma.start, len, first, flags as u64, fd as i64 as u64, offset];
        p.push(exact(libc::SYS_mmap, &args, vma.start));
        self.read_shared_out(p, task, &vma.pages);
        if first != wanted {
            p.push(call(libc::SYS_mprotect, &[vma.start, len, wanted]));
        }
        self.advise(p, vma, wanted);
    }

    /// The id of System V shared memory, which has been made.
    pub(super) fn segment(&self, shm: usize) -> Option<i32> {
        let segment = self.body.objects.shms.get(shm)?.segment?;
        Some(self.facts.segments.get(&shm).copied().unwrap_or(segment.id))
    }

    /// The mappings of System V shared memory, by what they are parts of.
    fn attachments<'m>(&self, mm: &'m Mm) -> HashMap<Attachment, Vec<&'m Vma>> {
        let mut attachments: HashMap<Attachment, Vec<&Vma>> = HashMap::new();
        for vma in &mm.vmas {
            if let VmaKind::ShmAnon(shm) = vma.kind
                && self.segment(shm).is_some()
            {
                attachments.entry(Attachment::of(shm, vma)).or_default().push(vma);
            }
        }
        attachments
    }

    /// Attaches System V shared memory once for all mappings that are parts of one attachment: shmdt(2) takes
    /// them all.
    fn attach(&self, p: &mut Program, vma: &Vma, id: i32, attachment: Attachment, parts: &[&Vma]) {
        let size = self.body.objects.shms.get(attachment.shm).map_or(0, |shm| shm.size);
        if parts.first().is_some_and(|first| first.start == vma.start) {
            let whole = (vma.pgoff, vma.end - vma.start) == (0, size);
            let at = if whole { vma.start } else { self.facts.scratch };
            let flags = if attachment.writable { 0 } else { libc::SHM_RDONLY as u64 };
            p.push(exact(libc::SYS_shmat, &[id as u64, at, flags], at));
            for part in parts.iter().filter(|_| !whole) {
                let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                let len = part.end - part.start;
                let args = [at + part.pgoff * PAGE, len, len, how, part.start];
                p.push(exact(libc::SYS_mremap, &args, part.start));
            }
            if !whole {
                p.push(call(libc::SYS_munmap, &[at, size]));
            }
        }
        let wanted = vma.flags & (vm::READ | vm::WRITE | vm::EXEC);
        let now = if attachment.writable { vm::READ | vm::WRITE } else { vm::READ };
        if now != wanted {
            p.push(call(libc::SYS_mprotect, &[vma.start, vma.end - vma.start, wanted]));
        }
    }

    /// What was asked for a mapping besides.
    fn advise(&mut self, p: &mut Program, vma: &Vma, wanted: u64) {
        let len = vma.end - vma.start;
        for (flag, advice) in ADVICE {
            if vma.flags & flag != 0 {
                p.push(call(libc::SYS_madvise, &[vma.start, len, advice as u64]));
            }
        }
        if let Some(name) = &vma.name {
            // A kernel without names of mappings (CONFIG_ANON_VMA_NAME) says EINVAL.
            let name = self.data.text(name);
            let (call, what) = (libc::PR_SET_VMA as u64, libc::PR_SET_VMA_ANON_NAME as u64);
            p.push(attempt(libc::SYS_prctl, &[call, what, vma.start, len, name]));
        }
        for guard in &vma.guards {
            let args = [guard.start, guard.end - guard.start, GUARD_INSTALL];
            p.push(call(libc::SYS_madvise, &args));
        }
        if vma.flags & vm::LOCKED != 0 {
            let on_fault = if vma.flags & vm::LOCKONFAULT != 0 { MLOCK_ONFAULT } else { 0 };
            let args = [vma.start, len, on_fault];
            let lock = call(libc::SYS_mlock2, &args);
            // Where pages cannot be filled, the mapping is locked too, but the call says ENOMEM.
            let fills = wanted != 0 && vma.guards.is_empty() && matches!(vma.kind, VmaKind::Anon);
            p.push(if fills { lock } else { attempt(libc::SYS_mlock2, &args) });
        }
    }

    /// Lets the caller's limit not stand in the way of those that had a higher one: `limits` sets it later.
    fn raise_memlock(&mut self, p: &mut Program, mm: &Mm) {
        if self.raises_memlock(mm) {
            let (_, hard) = self.facts.rlimits[libc::RLIMIT_MEMLOCK as usize];
            let limit = self.data.words(&[hard, hard]);
            p.push(call(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_MEMLOCK), limit, 0]));
        }
    }

    /// Whether the address space has something that is locked.
    pub(super) fn raises_memlock(&self, mm: &Mm) -> bool {
        let locked = mm.def_flags != 0 || mm.vmas.iter().any(|vma| vma.flags & vm::LOCKED != 0);
        let (soft, hard) = self.facts.rlimits[libc::RLIMIT_MEMLOCK as usize];
        locked && soft < hard
    }

    /// mlockall(2) for mappings to come.
    fn lock_new(&self, p: &mut Program, mm: &Mm) {
        let mut flags = libc::MCL_FUTURE;
        if mm.def_flags & vm::LOCKONFAULT != 0 {
            flags |= libc::MCL_ONFAULT;
        }
        if mm.def_flags != 0 {
            p.push(call(libc::SYS_mlockall, &[flags as u64]));
        }
    }

    pub(super) fn read_pages(&mut self, p: &mut Program, run: &PageRun) {
        let (mut done, total) = (0, run.count * PAGE);
        while done < total {
            let len = (total - done).min(FILL_MAX);
            let from = self.facts.image.1 + run.offset + done;
            if len >= FILL_MIN {
                let args = [run.address + done, len, POPULATE_WRITE];
                p.push(attempt(libc::SYS_madvise, &args));
            }
            let args = [self.slots.image() as u64, run.address + done, len, from];
            p.push(exact(libc::SYS_pread64, &args, len));
            done += len;
        }
    }

    /// Tells the kernel what is what: code, data, heap, stack, arguments, auxiliary vector, executable.
    fn describe_mm(&mut self, p: &mut Program, mm: &Mm, fds: &HashMap<usize, i32>) {
        let used = mm.auxv.chunks_exact(2).take_while(|pair| pair.first() != Some(&0)).count() * 2;
        let mut auxv = mm.auxv.get(..used).unwrap_or(&[]).to_vec();
        auxv.extend([0, 0]);
        let auxv_size = (auxv.len() * 8) as u64;
        let exe = match mm.exe.and_then(|exe| fds.get(&exe)) {
            Some(&fd) if self.facts.privileged => fd,
            _ => -1,
        };
        // struct prctl_mm_map: eleven addresses, the vector, its size and the descriptor as u32.
        let mut map = mm.fields.to_vec();
        map.push(self.data.words(&auxv));
        map.push(auxv_size | u64::from(exe as u32) << 32);
        let at = self.data.words(&map);
        let args =
            [libc::PR_SET_MM as u64, libc::PR_SET_MM_MAP as u64, at, (map.len() * 8) as u64, 0];
        p.push(call(libc::SYS_prctl, &args));
    }

    /// Whether the word at `address` can be written by the program that has this address space.
    pub(super) fn is_writable(&self, live: &Live, address: u64, len: u64) -> bool {
        let Some(mm) = self.body.objects.mms.get(live.mm) else { return false };
        let Some(end) = address.checked_add(len) else { return false };
        let index = mm.vmas.partition_point(|vma| vma.end <= address);
        mm.vmas
            .get(index)
            .is_some_and(|vma| vma.start <= address && end <= vma.end && vma.flags & vm::WRITE != 0)
    }
}
