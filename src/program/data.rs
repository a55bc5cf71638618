//! The bytes that system calls refer to: paths, structures, arrays.

use std::collections::HashMap;

/// Bytes at known addresses, each different piece once.
#[derive(Debug)]
pub struct Data {
    base: u64,
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u64>,
}

impl Data {
    /// Nothing yet; the first byte will lie at `base`, a multiple of 16.
    pub fn new(base: u64) -> Data {
        Data { base, bytes: Vec::new(), known: HashMap::new() }
    }

    /// Address of a copy of `bytes`, aligned to 16; the same for the same bytes.
    pub fn constant(&mut self, bytes: &[u8]) -> u64 {
        if let Some(&at) = self.known.get(bytes) {
            return at;
        }
        let at = self.append(bytes);
        self.known.insert(bytes.to_vec(), at);
        at
    }

    /// Address of `bytes` with a NUL behind them.
    pub fn text(&mut self, bytes: &[u8]) -> u64 {
        let mut text = bytes.to_vec();
        text.push(0);
        self.constant(&text)
    }

    /// Address of 64-bit words.
    pub fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.constant(&bytes)
    }

    /// Address of a copy that nobody else is given: for structures that the kernel or a task changes.
    pub fn own(&mut self, bytes: &[u8]) -> u64 {
        self.append(bytes)
    }

    /// Address of a copy that is aligned to 64 bytes.
    pub fn aligned(&mut self, bytes: &[u8]) -> u64 {
        const ALIGN: usize = 64;
        let skew = self.base as usize % ALIGN;
        let at = (self.bytes.len() + skew).next_multiple_of(ALIGN) - skew;
        self.bytes.resize(at, 0);
        self.append(bytes)
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn append(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let at = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        at
    }
}

/// What lies at `address`, up to the end of everything, where `bytes` lie at `base`.
pub fn slice(bytes: &[u8], base: u64, address: u64) -> Option<&[u8]> {
    let offset = usize::try_from(address.checked_sub(base)?).ok()?;
    bytes.get(offset..).filter(|rest| !rest.is_empty())
}
