//! Findings: what is not as it should be, and where. Each layer has a list of its own kind of fault.
//!
//! Nothing here stops the bring-up. A thing that cannot be trusted is refused, with a finding; what does not refer to it
//! goes on.

use alloc::vec::Vec;
use core::fmt;

use crate::identity::DeviceHandle;

/// A place in what the firmware or a DIMM gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In an NFIT.
    Nfit {
        /// Which table, from 0 on, in the order given.
        table: usize,
        /// The offset of the structure in it, in bytes.
        offset: usize,
    },
    /// In a DIMM's label area.
    Labels {
        /// The DIMM.
        dimm: DeviceHandle,
        /// The offset in its label area, in bytes.
        offset: u64,
    },
    /// A virtio-pmem device.
    VirtioPmem(PciPlace),
    /// A CXL memory device.
    Cxl(PciPlace),
    /// An entry of firmware's memory map.
    MemoryMap {
        /// The first physical address.
        start: u64,
        /// Its type: 7 is ACPI's persistent memory, 12 is what older firmware says for it.
        kind: u32,
    },
}

/// A PCI address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciPlace {
    /// The segment.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// The device.
    pub device: u8,
    /// The function.
    pub function: u8,
}

impl fmt::Display for PciPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, bus, device, function } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nfit { table: 0, offset } => write!(f, "NFIT offset {offset}"),
            Self::Nfit { table, offset } => write!(f, "NFIT {table} offset {offset}"),
            Self::Labels { dimm, offset } => write!(f, "label area of DIMM {dimm}, offset {offset}"),
            Self::VirtioPmem(device) => write!(f, "virtio-pmem {device}"),
            Self::Cxl(device) => write!(f, "CXL {device}"),
            Self::MemoryMap { start, kind } => write!(f, "memory map, type {kind} at {start:#x}"),
        }
    }
}

/// What a layer can find: a sentence, and whether the thing is left out because of it.
pub trait Fault: Copy + fmt::Display {
    /// Whether the thing at that place was left out because of this; otherwise it is a remark.
    fn refuses(&self) -> bool;
}

/// A fault, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<F> {
    /// Where.
    pub at: Place,
    /// What.
    pub what: F,
}

impl<F: fmt::Display> fmt::Display for Found<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// Faults of one layer, up to a bound.
#[derive(Clone, Debug)]
pub struct Findings<F> {
    list: Vec<Found<F>>,
    dropped: usize,
}

impl<F> Default for Findings<F> {
    fn default() -> Self {
        Self { list: Vec::new(), dropped: 0 }
    }
}

impl<F: Copy> Findings<F> {
    /// How many are kept: enough for people, and a bound for hostile tables.
    const LIMIT: usize = 512;

    /// Notes a fault.
    pub fn note(&mut self, at: Place, what: F) {
        if self.list.len() < Self::LIMIT {
            self.list.push(Found { at, what });
        } else {
            self.dropped += 1;
        }
    }

    /// Those that are kept, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = Found<F>> + '_ {
        self.list.iter().copied()
    }

    /// The place of the last one that is kept, and how many were not, if there were more.
    #[must_use]
    pub fn dropped(&self) -> Option<(Place, usize)> {
        self.list.last().filter(|_| self.dropped > 0).map(|last| (last.at, self.dropped))
    }
}

/// Makes a layer's faults: an enum, a sentence for each variant, and whether it refuses or remarks.
macro_rules! faults {
    ($(#[$head:meta])* $vis:vis enum $enum:ident {$(
        $(#[$doc:meta])*
        $weight:ident $name:ident $({ $($field:ident : $type:ty),* })? => $($text:expr),+ ;
    )*}) => {
        $(#[$head])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant says what its fields are")]
        $vis enum $enum {
            $( $(#[$doc])* $name $({ $($field: $type),* })? , )*
        }

        impl $crate::finding::Fault for $enum {
            fn refuses(&self) -> bool {
                match self { $( Self::$name { .. } => $crate::finding::faults!(@$weight), )* }
            }
        }

        impl core::fmt::Display for $enum {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self { $( Self::$name $({ $($field),* })? => write!(f, $($text),+), )* }
            }
        }
    };
    (@refused) => { true };
    (@remark) => { false };
}
pub(crate) use faults;
