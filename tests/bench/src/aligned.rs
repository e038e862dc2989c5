//! Memory at a page's border, as consumers' buffers are and direct I/O wants it. What begins anywhere is copied more slowly:
//! most of its pieces lie in two cache lines.

/// A page, and the largest sector.
const PAGE_BYTES: usize = 4096;

/// Zeroed bytes that begin at a page.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + PAGE_BYTES - 1];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Self { memory, start, bytes }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.bytes]
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.bytes]
    }
}
