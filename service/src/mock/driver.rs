//! A driver's side of a split virtqueue (VirtIO 1.3, section 2.7.13).

use crate::memory::{MemoryOffset, SharedMemory};
use crate::virtqueue::{Layout, LayoutError};

/// The buffer goes on at `next`.
pub const NEXT: u16 = 1;
/// The device may write it.
pub const WRITE: u16 = 2;
/// It is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// A descriptor, as a driver writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`], or anything.
    pub flags: u16,
    /// The next one's number.
    pub next: u16,
}

impl Descriptor {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.addr.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..14].copy_from_slice(&self.flags.to_le_bytes());
        out[14..].copy_from_slice(&self.next.to_le_bytes());
        out
    }
}

/// A driver of one queue. Its methods panic when they leave the memory: a test that does is wrong.
#[derive(Clone, Debug)]
pub struct Driver {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    /// avail.idx as published.
    pub published: u16,
    /// used.idx as seen.
    pub seen: u16,
}

impl Driver {
    /// Its rings lie in the memory from `at` on, which is a multiple of 16.
    #[must_use]
    pub fn new(size: u16, at: u64) -> Self {
        let avail = at + 16 * u64::from(size);
        let used = (avail + 6 + 2 * u64::from(size)).next_multiple_of(4);
        Self { size, desc: at, avail, used, published: 0, seen: 0 }
    }

    /// The first place after its rings.
    #[must_use]
    pub fn end(&self) -> u64 {
        (self.used + 6 + 8 * u64::from(self.size)).next_multiple_of(16)
    }

    /// Where its rings are, for a device.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn layout(&self, len_bytes: u64) -> Result<Layout, LayoutError> {
        let [desc, avail, used] = [self.desc, self.avail, self.used].map(MemoryOffset);
        Layout::new(self.size, desc, avail, used, len_bytes)
    }

    fn store(memory: &impl SharedMemory, at: u64, value: u16) {
        memory.store_u16(MemoryOffset(at), value).expect("the driver keeps to its memory");
    }

    fn load(memory: &impl SharedMemory, at: u64) -> u16 {
        memory.load_u16(MemoryOffset(at)).expect("the driver keeps to its memory")
    }

    /// Writes descriptor `index` of the queue's table.
    pub fn set_descriptor(&self, memory: &impl SharedMemory, index: u16, descriptor: Descriptor) {
        let at = MemoryOffset(self.desc + 16 * u64::from(index));
        memory.write(at, &descriptor.encode()).expect("the driver keeps to its memory");
    }

    /// Puts a chain's first descriptor into the available ring and publishes it.
    pub fn publish(&mut self, memory: &impl SharedMemory, head: u16) {
        self.offer(memory, head);
        self.set_available_index(memory, self.published);
    }

    /// Puts a chain's first descriptor into the available ring only.
    pub fn offer(&mut self, memory: &impl SharedMemory, head: u16) {
        Self::store(memory, self.avail + 4 + 2 * u64::from(self.published % self.size), head);
        self.published = self.published.wrapping_add(1);
    }

    /// Stores avail.idx.
    pub fn set_available_index(&self, memory: &impl SharedMemory, index: u16) {
        Self::store(memory, self.avail + 2, index);
    }

    /// Stores avail.flags: 1 asks for no calls.
    pub fn set_flags(&self, memory: &impl SharedMemory, flags: u16) {
        Self::store(memory, self.avail, flags);
    }

    /// Stores used_event: a call is wanted when the element at that index has been placed.
    pub fn set_used_event(&self, memory: &impl SharedMemory, index: u16) {
        Self::store(memory, self.avail + 4 + 2 * u64::from(self.size), index);
    }

    /// used.flags: 1 if the device wants no kicks.
    pub fn used_flags(&self, memory: &impl SharedMemory) -> u16 {
        Self::load(memory, self.used)
    }

    /// avail_event: the device wants a kick when the entry at that index has been published.
    pub fn avail_event(&self, memory: &impl SharedMemory) -> u16 {
        Self::load(memory, self.used + 4 + 8 * u64::from(self.size))
    }

    /// used.idx.
    pub fn used_index(&self, memory: &impl SharedMemory) -> u16 {
        Self::load(memory, self.used + 2)
    }

    /// Sets both indices to `index`, as if that many buffers had been served.
    pub fn start_at(&mut self, memory: &impl SharedMemory, index: u16) {
        self.published = index;
        self.seen = index;
        self.set_available_index(memory, index);
        Self::store(memory, self.used + 2, index);
    }

    /// The next buffer that the device gave back: its first descriptor and how many bytes of it were written.
    pub fn collect(&mut self, memory: &impl SharedMemory) -> Option<(u32, u32)> {
        if self.used_index(memory) == self.seen {
            return None;
        }
        let mut element = [0; 8];
        let at = self.used + 4 + 8 * u64::from(self.seen % self.size);
        memory.read(MemoryOffset(at), &mut element).expect("the driver keeps to its memory");
        self.seen = self.seen.wrapping_add(1);
        let [i0, i1, i2, i3, l0, l1, l2, l3] = element;
        Some((u32::from_le_bytes([i0, i1, i2, i3]), u32::from_le_bytes([l0, l1, l2, l3])))
    }
}
