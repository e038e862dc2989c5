//! Where a device's registers are: vendor capabilities in its configuration space (virtio 1.2, 4.1.4).

use super::error::VirtioError;
use super::structure::Structure;

/// The capability's id: vendor-specific.
pub(super) const VENDOR: u32 = 0x09;

/// A capability's double words: `cfg_type` in the last byte of the first, BAR, offset, length, and behind a notify
/// structure its multiplier.
pub(super) type Capability = [u32; 5];

/// A structure of registers in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The BAR's slot.
    pub(super) slot: u8,
    /// Bytes from the start of the BAR.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) bytes: u32,
}

/// The structures that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Structures {
    pub(super) common: Place,
    pub(super) notify: Place,
    pub(super) device: Place,
    /// The bytes between two queues' notify registers.
    pub(super) notify_multiplier: u32,
}

impl Structures {
    /// Finds the structures. Of several of one kind the first that is sound counts: a device lists them by preference.
    ///
    /// # Errors
    /// [`VirtioError::NoStructure`].
    pub(super) fn find(capabilities: impl Iterator<Item = Capability> + Clone) -> Result<Self, VirtioError> {
        let find = |which: Structure| {
            let sound = |[head, bar, offset, bytes, multiplier]: Capability| {
                let place = Place { slot: u8::try_from(bar & 0xff).ok()?, offset, bytes };
                let fits = place.slot <= 5
                    && bytes >= which.bytes_min()
                    && offset.is_multiple_of(4)
                    && offset.checked_add(bytes).is_some();
                (head >> 24 == which.cfg_type() && fits).then_some((place, multiplier))
            };
            capabilities.clone().find_map(sound).ok_or(VirtioError::NoStructure(which))
        };
        let ((common, _), (notify, notify_multiplier), (device, _)) =
            (find(Structure::Common)?, find(Structure::Notify)?, find(Structure::Device)?);
        Ok(Self { common, notify, device, notify_multiplier })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn capability(kind: u32, bar: u32, offset: u32, bytes: u32) -> Capability {
        [kind << 24 | 0x14_00_09, bar, offset, bytes, 4]
    }

    /// QEMU's virtio-pmem-pci.
    fn qemu() -> Vec<Capability> {
        [(1, 0, 0x1000), (3, 0x1000, 0x1000), (4, 0x2000, 0x1000), (2, 0x3000, 0x1000), (5, 0, 0)]
            .map(|(kind, offset, bytes)| capability(kind, 4, offset, bytes))
            .to_vec()
    }

    #[test]
    fn the_first_sound_structure_of_each_kind_counts() {
        let found = Structures::find(qemu().into_iter()).expect("all are there");
        let place = |offset| Place { slot: 4, offset, bytes: 0x1000 };
        let expected =
            Structures { common: place(0), notify: place(0x3000), device: place(0x2000), notify_multiplier: 4 };
        assert_eq!(found, expected);
        // What is not sound is passed over: a reserved BAR, too short, misaligned, beyond 32 bits.
        let mut more: Vec<_> = [(7, 0, 0x1000), (4, 0, 55), (4, 2, 0x1000), (4, u32::MAX - 3, 0x1000)]
            .map(|(bar, offset, bytes)| capability(1, bar, offset, bytes))
            .to_vec();
        more.extend(qemu());
        assert_eq!(Structures::find(more.into_iter()), Ok(expected));
    }

    #[test]
    fn a_structure_that_is_missing_is_named() {
        for (kind, which) in [(1, Structure::Common), (2, Structure::Notify), (4, Structure::Device)] {
            let others: Vec<_> = qemu().into_iter().filter(|capability| capability[0] >> 24 != kind).collect();
            assert_eq!(Structures::find(others.into_iter()), Err(VirtioError::NoStructure(which)));
        }
        assert!(Structures::find([[u32::MAX; 5], [0; 5]].into_iter()).is_err());
    }
}
