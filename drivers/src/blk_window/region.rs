//! A DIMM behind block data windows, as a region that its namespaces share.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use btt::media::LINE_BYTES;
use nvdimm::extent::Extent;
use nvdimm::region::BlkRegion as Described;
use spin::Mutex;

use super::namespace::Blk;
use super::places::{Places, WindowError};
use super::windows::{ThisCpu, Windows};
use crate::flush_hints::FlushHints;
use crate::phys::{PhysAddr, PhysMap};
use crate::pmem::Access;

/// A namespace that does not fit its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentError {
    /// An extent leaves the bytes that the windows reach.
    OutOfRange(Extent),
    /// An extent does not begin and end at lines of the DIMM, so updates of metadata could tear.
    Misaligned(Extent),
}

impl fmt::Display for ExtentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(Extent { start, bytes }) => {
                write!(f, "{bytes} bytes from DIMM address {start:#x} on leave what the windows reach")
            }
            Self::Misaligned(Extent { start, bytes }) => {
                write!(f, "{bytes} bytes from DIMM address {start:#x} on are not made of 64-byte lines")
            }
        }
    }
}

impl core::error::Error for ExtentError {}

/// A DIMM's windows, which its namespaces share.
#[derive(Clone, Debug)]
pub struct BlkRegion(Arc<Windows>);

impl BlkRegion {
    /// Maps a DIMM's windows, no more of them than there are CPUs, and one of its flush hints if it has any.
    ///
    /// # Errors
    /// [`WindowError`].
    pub fn map(
        phys: &impl PhysMap,
        region: &Described,
        flush_hints: &[PhysAddr],
        access: Access,
        cpus: u32,
        this_cpu: ThisCpu,
    ) -> Result<Self, WindowError> {
        let places = Places::of(&region.windows, cpus)?;
        let (control, data) = places.map(phys)?;
        let windows = places.0.iter().map(|place| Mutex::new(place.mapped(control, data))).collect();
        let reach = Extent { start: region.mapping.dpa, bytes: region.mapping.bytes };
        let hints = FlushHints::map(phys, flush_hints)?;
        Ok(Self(Arc::new(Windows::new(windows, region.windows.transfer_bytes, reach, access, hints, this_cpu))))
    }

    /// Returns the namespace that these extents make, one after the other.
    ///
    /// # Errors
    /// [`ExtentError`].
    pub fn namespace(&self, extents: &[Extent], access: Access) -> Result<Blk, ExtentError> {
        let mut pieces = Vec::with_capacity(extents.len());
        let mut bytes = 0_u64;
        for &extent in extents {
            if !extent.start.is_multiple_of(LINE_BYTES) || !extent.bytes.is_multiple_of(LINE_BYTES) {
                return Err(ExtentError::Misaligned(extent));
            }
            let reach = self.0.reach;
            let inside = extent.start.checked_sub(reach.start).and_then(|from| from.checked_add(extent.bytes));
            if inside.is_none_or(|end| end > reach.bytes) {
                return Err(ExtentError::OutOfRange(extent));
            }
            pieces.push((bytes, extent));
            bytes = bytes.checked_add(extent.bytes).ok_or(ExtentError::OutOfRange(extent))?;
        }
        let access = if self.0.access == Access::ReadOnly { Access::ReadOnly } else { access };
        Ok(Blk { windows: Arc::clone(&self.0), pieces: pieces.into(), bytes, access })
    }
}
