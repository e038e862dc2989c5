//! Kinds of numbers that must not be mixed up.

use core::fmt;

macro_rules! unit {
    ($(#[doc = $doc:literal] $name:ident($inner:ty);)*) => {
        $(#[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        })*
    };
}

unit! {
    /// The host's name for a command while it is in flight (Base 2.0, section 3.3.3.1). Any 16 bits: never an index.
    CommandId(u16);
    /// The number of a queue: 0 is the admin queue.
    QueueId(u16);
    /// The number of a controller in its subsystem (Base 2.0, section 3.1.1).
    ControllerId(u16);
    /// The number of a namespace in its subsystem. A subsystem has number 1, or none.
    NamespaceId(u32);
    /// A logical block: a sector of a namespace, in units of its own size.
    Lba(u64);
    /// What the owner of the target calls a disk: [`crate::Storage`] gets it back.
    DiskId(u32);
    /// Milliseconds since any one start, which never go back. The owner has the clock.
    Millis(u64);
}

impl QueueId {
    /// The admin queue.
    pub const ADMIN: Self = Self(0);
}

impl NamespaceId {
    /// The one namespace that a subsystem may have.
    pub const ONLY: Self = Self(1);
    /// All of them (Base 2.0, section 3.2.1.2).
    pub const ALL: Self = Self(u32::MAX);
}

impl Millis {
    /// So many milliseconds later.
    #[must_use]
    pub const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// A length on the wire.
///
/// # Panics
/// If it is beyond all of [`crate::limits`].
pub(crate) fn wire_length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("lengths on the wire are bounded")
}
