//! Address spaces and the contents of their pages.
#![forbid(unsafe_code)]

use super::{PagesOf, Thing, Writer, entry, unwritable};
use crate::error::ImageError;
use crate::image::{FileKind, Mm, PAGE, PageRun, Segment, Vma, VmaKind, records};

/// Most pages in one page array.
const BATCH: u64 = 8192;

impl<'a> Writer<'a> {
    /// An address space with everything in it.
    pub(super) fn mm(&mut self, index: usize) -> Result<i32, ImageError> {
        let mm = entry(&self.body.objects.mms, index, records::MM)?;
        let (tag, new) = self.objref(Thing::Mm(index))?;
        if !new {
            return Ok(tag);
        }
        self.mm_record(mm)?;
        for vma in &mm.vmas {
            self.vma(index, vma)?;
        }
        self.out.record(records::MM_CONTEXT, |r| {
            r.u64(mm.vdso).u32(8).u32(0);
        })?;
        self.out.record(records::MM_CONTEXT_LDT, |_| ())?;
        Ok(tag)
    }

    /// MM and the auxiliary vector.
    fn mm_record(&mut self, mm: &Mm) -> Result<(), ImageError> {
        let exe = match mm.exe {
            Some(file) => self.file(file)?,
            None => 0,
        };
        let Ok(count) = u32::try_from(mm.vmas.len()) else {
            return Err(unwritable(records::MM, format!("{} mappings", mm.vmas.len())));
        };
        self.out.record(records::MM, |r| {
            r.u32(count).i32(exe).u64(mm.def_flags).u64(mm.flags);
            for field in mm.fields {
                r.u64(field);
            }
        })?;
        let room = usize::from(self.head.header.constants[1]);
        if mm.auxv.len() > room {
            let have = mm.auxv.len();
            return Err(unwritable(records::MM, format!("auxv of {have} words, room for {room}")));
        }
        self.out.record(records::BUFFER, |r| {
            for &word in &mm.auxv {
                r.u64(word);
            }
            r.zeros((room - mm.auxv.len()) * 8);
        })
    }

    /// A mapping of address space `mm`, and what is in it.
    fn vma(&mut self, mm: usize, vma: &'a Vma) -> Result<(), ImageError> {
        self.guards(vma)?;
        self.name(vma)?;
        match vma.kind {
            VmaKind::Vdso => self.vma_record(1, vma, 0, 0, 0)?,
            VmaKind::Anon => {
                self.vma_record(2, vma, 0, 0, 0)?;
                self.page_arrays(PagesOf::Mm(mm), &vma.pages, 1)?;
            }
            VmaKind::File(file) => {
                let file = self.file(file)?;
                self.vma_record(3, vma, file, 0, vma.file_size)?;
                self.page_arrays(PagesOf::Mm(mm), &vma.pages, 1)?;
            }
            VmaKind::ShmAnon(index) => {
                let shm = entry(&self.body.objects.shms, index, records::VMA)?;
                let (inode, new) = self.tags.get(Thing::Shm(index))?;
                if let Some(segment) = shm.segment.as_ref().filter(|_| new) {
                    self.segment(segment)?;
                }
                self.vma_record(if new { 4 } else { 5 }, vma, 0, inode, shm.size)?;
                if new {
                    self.page_arrays(PagesOf::Shm(index), &shm.pages, PAGE)?;
                }
            }
            VmaKind::ShmFile(file) => {
                let tag = self.file(file)?;
                let inode = match &entry(&self.body.objects.files, file, records::FILE)?.kind {
                    FileKind::Named { path } => Thing::Inode(path),
                    FileKind::Unnamed { inode } => Thing::Unnamed(*inode),
                    _ => {
                        let reason = format!("file {file} cannot be mapped");
                        return Err(unwritable(records::VMA, reason));
                    }
                };
                let (inode, _) = self.tags.get(inode)?;
                self.vma_record(6, vma, tag, inode, vma.file_size)?;
            }
        }
        Ok(())
    }

    /// The guard regions of the mapping to come.
    fn guards(&mut self, vma: &Vma) -> Result<(), ImageError> {
        if vma.guards.is_empty() {
            return Ok(());
        }
        self.out.record(records::GUARDS, |r| {
            for guard in &vma.guards {
                r.u64(guard.start).u64(guard.end);
            }
        })
    }

    /// The name of the mapping to come.
    fn name(&mut self, vma: &Vma) -> Result<(), ImageError> {
        let Some(name) = &vma.name else { return Ok(()) };
        self.out.record(records::VMA_NAME, |r| {
            r.bytes(name);
        })
    }

    /// What the shared memory is whose first mapping follows.
    fn segment(&mut self, segment: &Segment) -> Result<(), ImageError> {
        use crate::image::extra::segment::{LOCKED, REMOVED};
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(segment.removed, REMOVED) | flag(segment.locked, LOCKED);
        self.out.record(records::SEGMENT, |r| {
            r.i32(segment.id).i32(segment.key).u32(segment.mode).u32(flags);
            for id in segment.owner.into_iter().chain(segment.creator) {
                r.u32(id);
            }
            r.u64(segment.size);
        })
    }

    fn vma_record(
        &mut self,
        number: u32,
        vma: &Vma,
        file: i32,
        inode: i32,
        size: u64,
    ) -> Result<(), ImageError> {
        self.out.record(records::VMA, |r| {
            r.u32(number).i32(file).i32(inode).zeros(4).u64(size);
            r.u64(vma.start).u64(vma.end).u64(0).u64(vma.flags).u64(vma.pgoff).zeros(8);
        })
    }

    /// The page arrays of `runs`, with addresses counted in units of `unit` bytes.
    pub(super) fn page_arrays(
        &mut self,
        of: PagesOf,
        runs: &[PageRun],
        unit: u64,
    ) -> Result<(), ImageError> {
        let mut batch = Vec::new();
        let mut room = BATCH;
        for run in runs {
            let (mut address, mut left) = (run.address, run.count);
            while left > 0 {
                let count = left.min(room);
                batch.push((address, count));
                // An address that runs over does not get past the reader.
                address = address.wrapping_add(count.wrapping_mul(PAGE));
                left -= count;
                room -= count;
                if room == 0 {
                    self.page_array(of, &batch, BATCH, unit)?;
                    batch.clear();
                    room = BATCH;
                }
            }
        }
        if !batch.is_empty() {
            self.page_array(of, &batch, BATCH - room, unit)?;
        }
        self.out.record(records::PGARR, |r| {
            r.u64(0);
        })?;
        Ok(())
    }

    /// One page array: `count` (at most [`BATCH`]) pages that lie in `runs` of (address, pages).
    fn page_array(
        &mut self,
        of: PagesOf,
        runs: &[(u64, u64)],
        count: u64,
        unit: u64,
    ) -> Result<(), ImageError> {
        self.out.record(records::PGARR, |r| {
            r.u64(count);
        })?;
        self.out.record_with_pages(records::BUFFER, count * PAGE, |r| {
            for &(address, pages) in runs {
                for page in 0..pages {
                    r.u64(address.wrapping_add(page * PAGE) / unit);
                }
            }
        })?;
        for &(address, pages) in runs {
            self.out.pages(of, address, pages);
        }
        Ok(())
    }
}
