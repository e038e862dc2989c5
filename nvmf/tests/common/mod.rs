//! A host for tests: it speaks the transport byte by byte, by a codec of its own, so that no mistake of the target's can be
//! its own, too. And the disks that the target serves.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "each test uses a part of it")]

pub(crate) mod disk;
pub(crate) mod host;

use std::net::{IpAddr, Ipv4Addr};

use nvmf::{Allowed, DiskId, Endpoint, Millis, Namespace, Nqn, Random, SectorBytes, Settings, Target};
use uuid::{Uuid, uuid};

/// The BTT's uuid.
pub(crate) const UUID: Uuid = uuid!("01234567-89ab-cdef-0123-456789abcdef");
/// The node's.
pub(crate) const NODE: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000000a");
/// The name of a host that may connect.
pub(crate) const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:0b06833d-0000-4000-8000-000000000001";
/// The subsystem's.
pub(crate) const SUBSYSTEM: &str = "nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789abcdef";
/// Discovery's.
pub(crate) const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

pub(crate) const ENDPOINT: Endpoint = Endpoint { address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)), port: 4420 };

pub(crate) const SECTORS: u64 = 4096;

/// A disk of 512-byte sectors.
pub(crate) const NAMESPACE: Namespace = Namespace {
    disk: DiskId(7),
    uuid: UUID,
    sector_bytes: SectorBytes::B512,
    sectors: SECTORS,
    read_only: false,
    deallocated_reads_zero: true,
    run_sectors: 32,
};

/// A target that serves one disk to [`HOST`].
pub(crate) fn target() -> Target {
    target_of(NAMESPACE)
}

pub(crate) fn target_of(namespace: Namespace) -> Target {
    let settings = Settings { connections: 40, controller_ids: 1..=100, uuid: NODE, random: Random::new(random) };
    let target = Target::new(settings, Millis(0));
    target.export(Nqn::of_uuid(&UUID), namespace).unwrap();
    target.allow(Allowed::Host(Nqn::new(HOST).unwrap()), None, None);
    target
}

/// Bytes that differ from call to call, and are the same in each run.
fn random(bytes: &mut [u8]) {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    bytes.iter_mut().for_each(|byte| *byte = NEXT.fetch_add(7, Ordering::Relaxed));
}
