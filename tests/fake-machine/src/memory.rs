//! Physical memory of a machine on a host: bytes that outlive the node.

use std::ptr::{self, NonNull};

use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};

/// Persistent memory: bytes that outlive the node.
#[derive(Debug)]
pub struct Memory {
    /// Where they are.
    pub start: NonNull<u8>,
    /// How many.
    pub bytes: usize,
}

// SAFETY: the bytes are reached through the node's drivers, which allow for any number of CPUs, and by the test only
// while no node is there.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory, never freed. Pages that nothing is stored in take none of the host's.
    ///
    /// # Panics
    /// When the host has no room for it.
    #[must_use]
    #[allow(clippy::new_ret_no_self, reason = "never freed")]
    pub fn new(bytes: usize) -> &'static Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: pages of their own, where there are none.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags | libc::MAP_NORESERVE, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "room for {bytes} bytes");
        let start = NonNull::new(start.cast()).expect("no mapping begins at 0");
        Box::leak(Box::new(Self { start, bytes }))
    }

    /// Stores bytes while no node is running.
    ///
    /// # Panics
    /// When they leave the memory.
    pub fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes, "the test keeps to the memory");
        // SAFETY: within the memory, which no other code uses now.
        unsafe { self.start.add(at).as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// All bytes, while no node is running.
    #[must_use]
    pub fn copy(&self) -> Vec<u8> {
        let mut copy = vec![0; self.bytes];
        // SAFETY: as in `put`.
        unsafe { self.start.as_ptr().copy_to(copy.as_mut_ptr(), self.bytes) };
        copy
    }

    /// Makes all bytes zero, while no node is running.
    pub fn clear(&self) {
        // SAFETY: as in `put`.
        unsafe { self.start.as_ptr().write_bytes(0, self.bytes) };
    }
}

/// Physical memory: what begins where, how long it is, and where the host has it.
#[derive(Debug, Default)]
pub struct Map(pub(crate) Vec<(u64, u64, NonNull<u8>)>);

// SAFETY: the pointers reach memory that is never freed, by any thread.
unsafe impl Send for Map {}
// SAFETY: as for Send.
unsafe impl Sync for Map {}

// SAFETY:
// 1. The memory is never freed, and all threads see it.
// 2. It is no Rust object any more: only pointers lead there.
// 3. Both the ranges and the memory are page-aligned.
unsafe impl PhysMap for Map {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        let no_room = MapError::NoRoom { at, bytes };
        let end = at.0.checked_add(bytes).ok_or(no_room)?;
        let holds = |(base, length, _): &&(u64, u64, _)| *base <= at.0 && end <= base + length;
        let (base, _, start) = self.0.iter().find(holds).ok_or(no_room)?;
        // SAFETY: within the memory.
        Ok(unsafe { start.add(usize::try_from(at.0 - base).expect("small")) })
    }
}
