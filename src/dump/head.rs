//! The head of an image, but for its two tables: the machine that it is made on.
//!
//! Comes in: the running kernel, the vdso of the root task. Goes out: [`ImageHead`].

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::collect::{Processes, maps_of};
use super::facts::Facts;
use super::inject;
use crate::error::{DumpError, SysError};
use crate::image::{Arch, HeadExtra, Header, ImageHead, Mm, PidTable, TaskIds, Vdso};
use crate::sys::inspect::kernel_names;
use crate::sys::{self, vdso};

/// `arch_id` of x86_64.
const X86_64: u16 = 2;
/// Format version.
const REVISION: u16 = 6;
/// `ckpt_const` on x86_64 with 32-bit emulation (format document 2.1).
const CONSTANTS: [u16; 12] = [16, 44, 64, 65, 65, 65, 65, 65, 65, 16, 4096, 19];
/// What a module without anything to say writes.
const LSM_NAME: &[u8] = b"lsm_none";
const LSM_INFO: &[u8] = b"dummy";

/// Kernel, format and constants.
pub(super) fn header(flags: u32) -> Result<Header, DumpError> {
    let failed = |source| DumpError::Own(SysError::new("uname", source));
    let [release, version, machine] = kernel_names().map_err(failed)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Ok(Header {
        arch_id: X86_64,
        kernel: kernel_version(&release),
        rev: REVISION,
        constants: CONSTANTS,
        time,
        uflags: flags.into(),
        release,
        version,
        machine,
    })
}

/// The first three numbers of a release such as "6.18.0-rc1".
fn kernel_version(release: &[u8]) -> [u16; 3] {
    let text = String::from_utf8_lossy(release);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Makes the header's at_vector_size what the longest auxiliary vector needs: kernels have added to it.
pub(super) fn fit_auxv(header: &mut Header, mms: &[Mm]) {
    let words = mms.iter().map(|mm| mm.auxv.len()).max().unwrap_or(0);
    let [_, size, ..] = &mut header.constants;
    *size = (*size).max(words.min(usize::from(u16::MAX)) as u16);
}

/// Puts the head together.
pub(super) fn head(
    header: Header,
    xstate_size: usize,
    pids: PidTable,
    tasks: Vec<TaskIds>,
    extra: HeadExtra,
) -> ImageHead {
    ImageHead {
        header,
        arch: Arch {
            has_fxsr: true,
            // The legacy FXSAVE area alone has 512 bytes.
            has_xsave: xstate_size > 512,
            xstate_size: xstate_size.min(usize::from(u16::MAX)) as u16,
        },
        lsm_name: LSM_NAME.to_vec(),
        lsm_info: LSM_INFO.to_vec(),
        pids,
        tasks,
        extra,
    }
}

/// Identity of the vdso. All tasks must have that of the running kernel, in one size; else a restart
/// could not give it to them. What lies behind its contents is not looked at.
pub(super) fn vdso(
    all: &[Facts],
    processes: &Processes,
    own: &sys::vdso::Vdso,
) -> Result<Option<Vdso>, DumpError> {
    let end = vdso::contents_end(&own.code).map_or(own.code.len(), |end| end as usize);
    let mut compared = false;
    for facts in all.iter().filter(|f| f.leads() && !f.zombie) {
        let refuse = || facts.refuse("vdso", "it is not that of the running kernel");
        let maps = maps_of(processes, facts.pid);
        let code = inject::vdso(maps).ok_or_else(refuse)?;
        let data = maps.iter().filter(|m| m.name.starts_with(b"[vvar")).map(|m| m.end - m.start);
        if (code.end - code.start, data.sum()) != (own.code.len() as u64, own.data_size()) {
            return Err(refuse());
        }
        // The others have it from fork or from the same kernel: the sizes would tell.
        if !std::mem::replace(&mut compared, true) {
            let path = format!("/proc/{}/mem", facts.tid);
            let mut image = vec![0u8; own.code.len()];
            let read = File::open(&path).and_then(|f| f.read_exact_at(&mut image, code.start));
            read.map_err(DumpError::task(facts.pid, format!("read {path}")))?;
            if image.get(..end) != own.code.get(..end) {
                return Err(refuse());
            }
        }
    }
    Ok(Some(Vdso {
        vdso_size: own.code.len() as u64,
        vvar_size: own.data_size(),
        checksum: own.checksum(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(kernel_version(b"6.18.44-fc-v669"), [6, 18, 44]);
        assert_eq!(kernel_version(b"5.10"), [5, 10, 0]);
    }
}
