//! The kernel's own pages in this process: vdso(7) and the data in front of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::SysError;
use crate::sys::procfs;

/// Where the pages lie, and the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdso {
    /// Start and end of each mapping, ascending; the last is the code.
    pub mappings: Vec<(u64, u64)>,
    /// The bytes of the code.
    pub code: Vec<u8>,
}

/// Looks up the vdso of the calling process.
///
/// # Errors
/// ENOENT where there is none (a kernel booted with vdso=0); those of reading /proc/self.
pub fn own() -> Result<Vdso, SysError> {
    let path = "/proc/self/maps";
    let data = procfs::read(path).map_err(|e| SysError::new(path, e))?;
    let maps = procfs::smaps(&data)
        .ok_or_else(|| SysError::new(path, std::io::ErrorKind::InvalidData.into()))?;
    let own = |m: &&procfs::Mapping| m.name.starts_with(b"[vvar") || m.name == b"[vdso]";
    let mappings: Vec<(u64, u64)> = maps.iter().filter(own).map(|m| (m.start, m.end)).collect();
    let missing = || SysError::new("the vdso", std::io::Error::from_raw_os_error(libc::ENOENT));
    let &(start, end) = mappings.last().ok_or_else(missing)?;
    let mut code = vec![0; (end - start) as usize];
    File::open("/proc/self/mem")
        .and_then(|mem| mem.read_exact_at(&mut code, start))
        .map_err(|e| SysError::new("read the vdso", e))?;
    Ok(Vdso { mappings, code })
}

impl Vdso {
    /// First address of the data.
    pub fn start(&self) -> u64 {
        self.mappings.first().map_or(0, |m| m.0)
    }

    /// Bytes of data and code.
    pub fn size(&self) -> u64 {
        self.mappings.last().map_or(0, |m| m.1) - self.start()
    }

    /// Bytes of data in front of the code.
    pub fn data_size(&self) -> u64 {
        self.size() - self.code.len() as u64
    }

    /// FNV-1a (64 bit) of the code: tells the vdso of one kernel from that of another.
    pub fn checksum(&self) -> u64 {
        checksum(&self.code)
    }

    /// Offset in the code of a `syscall` instruction.
    pub fn syscall_offset(&self) -> Option<u64> {
        let at = self.code.windows(2).position(|bytes| bytes == [0x0f, 0x05])?;
        Some(at as u64)
    }
}

/// FNV-1a (64 bit).
pub fn checksum(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// End of what a vdso's program headers say is its contents: behind it only section headers and zeros
/// follow, which nothing reads in memory. The code may be placed there.
pub fn contents_end(image: &[u8]) -> Option<u64> {
    let half = |at: usize| Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_le_bytes(image.get(at..at + 8)?.try_into().ok()?));
    const PT_LOAD: u16 = 1;
    if image.get(..4)? != b"\x7fELF" {
        return None;
    }
    let (table, size, count) = (word(32)? as usize, half(54)? as usize, half(56)? as usize);
    let mut end = 0;
    for i in 0..count {
        let at = table.checked_add(size.checked_mul(i)?)?;
        if half(at)? == PT_LOAD {
            end = end.max(word(at.checked_add(16)?)?.checked_add(word(at.checked_add(40)?)?)?);
        }
    }
    (end != 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_vdso_has_code_behind_data() {
        let vdso = own().expect("this kernel has a vdso");
        assert!(vdso.code.starts_with(b"\x7fELF"));
        assert!(vdso.data_size() > 0 && vdso.syscall_offset().is_some());
    }

    #[test]
    fn checksum_is_fnv_1a() {
        assert_eq!(checksum(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(checksum(b"foobar"), 0x85944171f73967e8);
    }
}
