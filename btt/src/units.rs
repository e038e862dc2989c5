//! Numbers that must not be mixed up, each its own type; and the one bound that all modules share.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// An LBA as the user of the device counts, over all arenas, in external sectors.
    ExternalLba(u64)
}
number! {
    /// An LBA inside an arena, before the map: an index of the map.
    PremapAba(u32)
}
number! {
    /// A block of an arena, after the map: an index of the data area.
    PostmapAba(u32)
}
number! {
    /// The place of an arena in the chain, from 0.
    ArenaIndex(u32)
}
number! {
    /// A lane, from 0.
    LaneIndex(u32)
}
number! {
    /// The number of a CPU as the caller counts them, from 0.
    CpuIndex(u32)
}

/// The most sectors that share the fences of one run. Longer requests are cut up.
pub const RUN_MAX: usize = crate::sync::sized(32, 2);

/// The smaller of the two.
#[inline]
pub(crate) fn clamp_u32(value: u64, most: u32) -> u32 {
    u32::try_from(value).map_or(most, |value| value.min(most))
}
