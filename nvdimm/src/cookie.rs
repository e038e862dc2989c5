//! Interleave-set cookies: what ties a label to the DIMMs, and their order, that it was written for.

use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use crate::fletcher::fletcher64;
use crate::identity::Identity;

/// One DIMM of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetMember {
    /// Where its share begins in the range.
    pub region_offset: u64,
    /// Who it is.
    pub identity: Identity,
}

/// What labels 1.1 take of a member.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawMember11 {
    region_offset: U64,
    serial: U32,
    padding: U32,
}
const _: () = assert!(size_of::<RawMember11>() == 16);

/// What labels 1.2 take of a member (UEFI 2.10, 13.19, "SetCookie").
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawMember12 {
    region_offset: U64,
    serial: U32,
    vendor: U16,
    manufacturing_date: U16,
    manufacturing_location: u8,
    reserved: [u8; 31],
}
const _: () = assert!(size_of::<RawMember12>() == 48);

/// What labels of a CXL device take of it, as Linux has it (drivers/cxl/pmem.c).
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawMemberCxl {
    region_offset: U64,
    serial: U64,
}
const _: () = assert!(size_of::<RawMemberCxl>() == 16);

/// The cookies of an interleave set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// In labels 1.1.
    pub v1_1: u64,
    /// In labels 1.2.
    pub v1_2: u64,
    /// In labels of kernels that sorted the members by their offsets' bytes; Linux still takes it.
    pub compatible: u64,
}

impl Cookies {
    /// The cookies of these members, in whatever order they stand.
    #[must_use]
    pub fn of(members: &[SetMember]) -> Self {
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.region_offset);
        let v1_1 = cookie(&members, member_1_1);
        let v1_2 = cookie(&members, |member| RawMember12 {
            region_offset: member.region_offset.into(),
            serial: serial(member),
            // Stored as they stand in the control region: most significant byte first.
            vendor: member.identity.vendor.swap_bytes().into(),
            manufacturing_date: member.identity.manufactured.map_or(0, |(_, date)| date).swap_bytes().into(),
            manufacturing_location: member.identity.manufactured.map_or(0, |(location, _)| location),
            reserved: [0; 31],
        });
        members.sort_by_key(|member| member.region_offset.to_le_bytes());
        Self { v1_1, v1_2, compatible: cookie(&members, member_1_1) }
    }

    /// The cookies of one CXL device that is mapped from its first byte: labels of all versions have the same.
    #[must_use]
    pub fn of_cxl(serial: u64) -> Self {
        let cookie = fletcher64(RawMemberCxl { region_offset: 0.into(), serial: serial.into() }.as_bytes());
        Self { v1_1: cookie, v1_2: cookie, compatible: cookie }
    }
}

/// The serial number as it stands in the control region.
fn serial(member: &SetMember) -> U32 {
    member.identity.serial.swap_bytes().into()
}

fn member_1_1(member: &SetMember) -> RawMember11 {
    RawMember11 { region_offset: member.region_offset.into(), serial: serial(member), padding: 0.into() }
}

fn cookie<T: IntoBytes + Immutable>(members: &[SetMember], raw: impl Fn(&SetMember) -> T) -> u64 {
    let raw: Vec<T> = members.iter().map(raw).collect();
    fletcher64(raw.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(slot: u32, region_offset: u64) -> SetMember {
        let identity = Identity {
            vendor: 0x8680,
            device: 0x0100,
            revision: 0x0100,
            subsystem_vendor: 0,
            subsystem_device: 0,
            subsystem_revision: 0,
            manufactured: None,
            serial: (0x12_3456u32 + slot).swap_bytes(),
        };
        SetMember { region_offset, identity }
    }

    #[test]
    fn cookies_are_those_that_linux_computed() {
        let first = Cookies::of(&[qemu(0, 0)]);
        assert_eq!((first.v1_1, first.v1_2), (10_248_187_106_440_278, 52_512_752_653_219_036));
        assert_eq!(Cookies::of(&[qemu(1, 0)]).v1_1, 0x0024_68ae_0012_3457);
    }

    #[test]
    fn the_cookie_of_a_cxl_device_is_the_one_that_linux_computed() {
        assert_eq!(Cookies::of_cxl(0x1122_3344_5566_7788).v1_2, 13_542_080_350_419_200_716);
    }

    #[test]
    fn the_order_of_the_members_does_not_matter_but_their_offsets_do() {
        let (a, b) = (qemu(0, 0), qemu(1, 0x1000));
        assert_eq!(Cookies::of(&[a, b]), Cookies::of(&[b, a]));
        assert_ne!(Cookies::of(&[a, b]), Cookies::of(&[qemu(1, 0), qemu(0, 0x1000)]));
    }

    #[test]
    fn the_compatible_cookie_differs_where_byte_order_does() {
        let by_value = [qemu(0, 0x01ff), qemu(1, 0x0200)];
        let cookies = Cookies::of(&by_value);
        assert_ne!(cookies.v1_1, cookies.compatible);
        assert_eq!(
            Cookies::of(&[qemu(0, 0), qemu(1, 0x1000)]).v1_1,
            Cookies::of(&[qemu(0, 0), qemu(1, 0x1000)]).compatible
        );
    }
}
