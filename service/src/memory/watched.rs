//! Shared memory for tests that watches each access: one that leaves the consumer's memory panics, and bytes may change
//! once they were read.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ptr::NonNull;

use super::{MemoryOffset, OutsideMemory, SharedMemory, Words, check};

/// A memory of which the first part is a consumer's, watched. An access that leaves that part panics.
pub struct Watched {
    /// The memory as the driver accesses it, which is not watched.
    pub words: Words,
    /// The number of reads of each byte.
    pub reads: RefCell<Vec<u8>>,
    /// What the driver stores after each read, over what was read; at first nothing.
    pub changes: RefCell<Vec<u8>>,
    turn: Cell<usize>,
}

impl Watched {
    /// The consumer's memory is `consumers` bytes long; `nobodys` more follow, which no access may touch.
    #[must_use]
    pub fn new(consumers: usize, nobodys: usize) -> Self {
        Self {
            words: Words::new(consumers + nobodys),
            reads: RefCell::new(vec![0; consumers]),
            changes: RefCell::default(),
            turn: Cell::new(0),
        }
    }

    fn check(&self, at: MemoryOffset, bytes: u64) {
        let inside = check(self.reads.borrow().len() as u64, at, bytes);
        assert!(inside.is_ok(), "{bytes} bytes at {at} are not the consumer's");
    }

    /// The next of the changes, over and over.
    fn next(&self) -> Option<u8> {
        let changes = self.changes.borrow();
        let turn = self.turn.replace(self.turn.get() + 1);
        (!changes.is_empty()).then(|| changes[turn % changes.len()])
    }

    fn change(&self, at: MemoryOffset, bytes: u64) {
        if let Some(how) = self.next()
            && how < 128
            && bytes > 0
        {
            let place = MemoryOffset(at.0 + u64::from(how) % bytes);
            // What was read is in the memory, so this is, too.
            let _ = self.words.write(place, &[self.next().unwrap_or(0)]);
        }
    }
}

#[allow(unsafe_code)] // it implements the one unsafe trait
// SAFETY: It is `Words`, watched.
unsafe impl SharedMemory for Watched {
    fn len_bytes(&self) -> u64 {
        self.words.len_bytes()
    }

    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory> {
        self.check(at, into.len() as u64);
        let first = usize::try_from(at.0).expect("checked: the memory is in ours");
        for reads in &mut self.reads.borrow_mut()[first..first + into.len()] {
            *reads = reads.saturating_add(1);
        }
        self.words.read(at, into)?;
        self.change(at, into.len() as u64);
        Ok(())
    }

    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory> {
        self.check(at, from.len() as u64);
        self.words.write(at, from)
    }

    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory> {
        self.check(at, 2);
        let value = self.words.load_u16(at)?;
        self.change(at, 2);
        Ok(value)
    }

    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory> {
        self.check(at, 2);
        self.words.store_u16(at, value)
    }

    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        self.check(at, bytes);
        self.words.pointer(at, bytes)
    }
}
