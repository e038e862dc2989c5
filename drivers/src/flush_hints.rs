//! Flush hints: registers of a DIMM that make what was posted to it durable when they are written (ACPI 6.5, 5.2.25.8).

use alloc::sync::Arc;
use core::ptr::{self, NonNull};

use crate::persist;
use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};

/// A mapped register.
#[derive(Clone, Copy, Debug)]
struct Hint(NonNull<u64>);

// SAFETY: the register is mapped for good, and any CPU may write it at any time: every written value flushes.
unsafe impl Send for Hint {}
// SAFETY: as for Send.
unsafe impl Sync for Hint {}

/// One hint of each DIMM of a region that has any. More hints of a DIMM would only spare CPUs from waiting for each
/// other.
#[derive(Clone, Debug)]
pub(crate) struct FlushHints(Arc<[Hint]>);

impl FlushHints {
    /// Returns no hints: stores that have left the caches are durable.
    pub(crate) fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Maps the registers.
    ///
    /// # Errors
    /// The map's; a hint that is no multiple of 8 is [`MapError::Misaligned`].
    pub(crate) fn map(phys: &impl PhysMap, hints: &[PhysAddr]) -> Result<Self, MapError> {
        let map = |&at: &PhysAddr| {
            if !at.0.is_multiple_of(8) {
                return Err(MapError::Misaligned { at });
            }
            phys.map(at, 8, Attribute::Uncached).map(|register| Hint(register.cast()))
        };
        hints.iter().map(map).collect::<Result<_, _>>().map(Self)
    }

    /// Waits until all that this CPU streamed, started to write back or stored uncached is durable. Writes the hints
    /// whatever the platform's capabilities say about its memory controller, as Linux's `nvdimm_flush` does. The first
    /// fence makes earlier stores reach the controller before the hint does, the second one waits for the hints.
    #[inline(always)]
    pub(crate) fn fence(&self) {
        persist::fence();
        if !self.0.is_empty() {
            self.write_all();
        }
    }

    /// Writes the hints, and waits for them.
    #[cold]
    fn write_all(&self) {
        for hint in &*self.0 {
            // SAFETY: the register is mapped for good and aligned; any value written flushes.
            unsafe { ptr::write_volatile(hint.0.as_ptr(), 1) };
        }
        persist::fence();
    }
}
