//! Where a split virtqueue's three parts are (VirtIO 1.3, section 2.7).

use core::fmt;

use crate::memory::{MemoryOffset, OutsideMemory, check};

/// The most entries that a queue of ours has. The specification knows 32768.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// Why a queue can't be where it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The size is no power of two, or above [`QUEUE_SIZE_MAX`].
    Size {
        /// What it is.
        found: u16,
    },
    /// A part does not begin at a multiple of its alignment.
    Misaligned {
        /// Where it begins.
        at: MemoryOffset,
    },
    /// A part is not in the shared memory.
    Outside(OutsideMemory),
    /// There is no memory left for the queue's own state.
    OutOfMemory,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found } => write!(f, "a queue of {found} entries, not a power of two up to {QUEUE_SIZE_MAX}"),
            Self::Misaligned { at } => write!(f, "the part of a queue at {at} is not aligned"),
            Self::Outside(outside) => outside.fmt(f),
            Self::OutOfMemory => write!(f, "there is no memory left for a queue"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// The three parts, all in a shared memory of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u16,
    desc: MemoryOffset,
    avail: MemoryOffset,
    used: MemoryOffset,
}

impl Layout {
    /// A queue of `size` entries in a memory of `len_bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(
        size: u16,
        desc: MemoryOffset,
        avail: MemoryOffset,
        used: MemoryOffset,
        len_bytes: u64,
    ) -> Result<Self, LayoutError> {
        if !size.is_power_of_two() || size > QUEUE_SIZE_MAX {
            return Err(LayoutError::Size { found: size });
        }
        let entries = u64::from(size);
        // 2.7: alignment and size of each part. The event words at the ends are counted in.
        for (at, alignment, bytes) in
            [(desc, 16, 16 * entries), (avail, 2, 6 + 2 * entries), (used, 4, 6 + 8 * entries)]
        {
            if !at.0.is_multiple_of(alignment) {
                return Err(LayoutError::Misaligned { at });
            }
            check(len_bytes, at, bytes).map_err(LayoutError::Outside)?;
        }
        Ok(Self { size, desc, avail, used })
    }

    /// How many entries each ring has.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    const fn entry(&self, index: u16) -> u64 {
        (index & (self.size - 1)) as u64
    }

    /// Descriptor `index`; the caller has checked that it is below the size.
    pub(super) const fn descriptor(&self, index: u16) -> MemoryOffset {
        self.desc.plus(16 * index as u64)
    }

    pub(super) const fn avail_flags(&self) -> MemoryOffset {
        self.avail
    }

    pub(super) const fn avail_idx(&self) -> MemoryOffset {
        self.avail.plus(2)
    }

    pub(super) const fn avail_ring(&self, index: u16) -> MemoryOffset {
        self.avail.plus(4 + 2 * self.entry(index))
    }

    pub(super) const fn used_event(&self) -> MemoryOffset {
        self.avail.plus(4 + 2 * self.size as u64)
    }

    pub(super) const fn used_flags(&self) -> MemoryOffset {
        self.used
    }

    pub(super) const fn used_idx(&self) -> MemoryOffset {
        self.used.plus(2)
    }

    pub(super) const fn used_ring(&self, index: u16) -> MemoryOffset {
        self.used.plus(4 + 8 * self.entry(index))
    }

    pub(super) const fn avail_event(&self) -> MemoryOffset {
        self.used.plus(4 + 8 * self.size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_cannot_be_are_refused_with_their_reason() {
        let queue = |size, desc, avail, used| {
            Layout::new(size, MemoryOffset(desc), MemoryOffset(avail), MemoryOffset(used), 0x1000).map(|_| ())
        };
        let outside = |at, bytes| Err(LayoutError::Outside(OutsideMemory { at: MemoryOffset(at), bytes }));
        assert_eq!(queue(16, 0xF00, 0x100, 0x200), Ok(()), "the last byte of a table may be the memory's");
        for size in [0, 3, 2048, u16::MAX] {
            assert_eq!(queue(size, 0, 0x100, 0x200), Err(LayoutError::Size { found: size }));
        }
        for (desc, avail, used, at) in [(8, 0, 0, 8), (0, 1, 0, 1), (0, 0, 2, 2)] {
            assert_eq!(queue(16, desc, avail, used), Err(LayoutError::Misaligned { at: MemoryOffset(at) }));
        }
        assert_eq!(queue(16, 0xF10, 0, 0), outside(0xF10, 256));
        assert_eq!(queue(16, 0, 0xFDC, 0), outside(0xFDC, 38), "the event word counts");
        assert_eq!(queue(16, 0, 0, 0xF7C), outside(0xF7C, 134), "the event word counts");
        assert_eq!(queue(16, 0, 0xFFFF_FFFF_FFFF_FFF0, 0), outside(0xFFFF_FFFF_FFFF_FFF0, 38));
    }
}
