//! Namespaces.
#![forbid(unsafe_code)]

use super::{Thing, Writer, entry, unwritable};
use crate::error::ImageError;
use crate::image::{Namespaces, records};

/// Bytes of a name, its NUL included.
const NAME: usize = 65;

impl Writer<'_> {
    /// The namespaces of a task.
    pub(super) fn ns(&mut self, namespaces: Namespaces) -> Result<i32, ImageError> {
        let (tag, new) = self.objref(Thing::Ns(namespaces))?;
        if new {
            let uts = namespaces.uts.map_or(Ok(0), |index| self.uts(index))?;
            let ipc = namespaces.ipc.map_or(Ok(0), |index| self.ipc(index))?;
            self.out.record(records::NS, |r| {
                r.i32(uts).i32(ipc).zeros(8);
            })?;
        }
        Ok(tag)
    }

    fn uts(&mut self, index: usize) -> Result<i32, ImageError> {
        let uts = entry(&self.body.objects.uts, index, records::UTS_NS)?;
        let (tag, new) = self.objref(Thing::Uts(index))?;
        if !new {
            return Ok(tag);
        }
        let header = &self.head.header;
        let names: [&[u8]; 6] =
            [b"Linux", &uts.node, &header.release, &header.version, &header.machine, &uts.domain];
        if let Some(long) = names.iter().find(|name| name.len() >= NAME || name.contains(&0)) {
            let reason = format!("a name of {} bytes", long.len());
            return Err(unwritable(records::UTS_NS, reason));
        }
        self.out.record(records::UTS_NS, |r| {
            for name in names {
                r.padded(name, NAME);
            }
            r.zeros(2);
        })?;
        Ok(tag)
    }

    fn ipc(&mut self, index: usize) -> Result<i32, ImageError> {
        let ipc = entry(&self.body.objects.ipcs, index, records::IPC_NS)?;
        let (tag, new) = self.objref(Thing::Ipc(index))?;
        if !new {
            return Ok(tag);
        }
        self.out.record(records::IPC_NS, |r| {
            for limit in ipc.shm {
                r.u64(limit);
            }
            for limit in ipc.others {
                r.i32(limit);
            }
        })?;
        for kind in [records::IPC_SHM, records::IPC_MSG, records::IPC_SEM] {
            self.out.record(records::IPC, |r| {
                r.u32(kind.number).u32(0);
            })?;
        }
        Ok(tag)
    }
}
