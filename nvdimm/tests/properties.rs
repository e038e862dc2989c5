//! No bytes make the crate panic, run away, or give a region or namespace that leaves what it is cut from.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/sound.rs"]
mod sound;

use nvdimm::discover;
use nvdimm::label::NoLabels;
use proptest::prelude::*;

use common::{Areas, Builder, Spec, area, seal, seal_table};
use sound::check;

const TABLES: &[&[u8]] = &[
    include_bytes!("fixtures/nfit/qemu-one-dimm.nfit"),
    include_bytes!("fixtures/nfit/qemu-two-dimms-unarmed-memctrl.nfit"),
    include_bytes!("fixtures/nfit/qemu-four-dimms-cpu.nfit"),
    include_bytes!("fixtures/broken/good.nfit"),
];

/// So many of them a real machine gave.
const REAL_TABLES: usize = 3;

const AREAS: &[&[u8]] = &[
    include_bytes!("fixtures/labels/l11-512.bin"),
    include_bytes!("fixtures/labels/l12-512.bin"),
    include_bytes!("fixtures/labels/l12-two.bin"),
];

#[test]
fn every_truncation_of_a_table_is_bounded() {
    for table in TABLES {
        for length in 0..table.len() {
            let cut = &table[..length];
            let inventory = discover(&[cut], &mut NoLabels);
            assert!(inventory.regions.is_empty() && inventory.findings().count() == 1, "{length}");
            // As if the firmware had meant it.
            let mut meant = cut.to_vec();
            seal_table(&mut meant);
            check(&discover(&[meant], &mut NoLabels));
        }
    }
}

#[test]
fn every_byte_of_a_table_may_be_anything() {
    for (number, table) in TABLES.iter().enumerate() {
        for at in 0..table.len() {
            // Of the tables that a real QEMU made, everything is tried; of the larger one, what lies at an edge.
            let edges = [0, 1, 0x7f, 0x80, 0xff, table[at] ^ 1, table[at] ^ 0x80, table[at].wrapping_add(1)];
            let all: Vec<u8> = (0..=255).collect();
            for &value in if number < REAL_TABLES { &all[..] } else { &edges[..] } {
                let mut changed = table.to_vec();
                changed[at] = value;
                if value != table[at] {
                    let inventory = discover(&[&changed], &mut NoLabels);
                    assert!(inventory.regions.is_empty(), "the checksum catches any one byte");
                    check(&inventory);
                }
                seal_table(&mut changed);
                check(&discover(&[changed], &mut NoLabels));
            }
        }
    }
}

#[test]
fn every_byte_of_a_label_area_may_be_anything() {
    for golden in AREAS {
        let used = golden.iter().rposition(|&byte| byte != 0).unwrap();
        for at in 0..=used {
            for value in [0, 0xff, golden[at] ^ 1, golden[at] ^ 0x80] {
                let mut changed = golden.to_vec();
                changed[at] = value;
                let mut areas = Areas([(1, changed.clone())].into());
                check(&discover(&TABLES[..1], &mut areas));
                // As if software had meant it.
                for block in changed[..512].chunks_mut(256) {
                    seal(block, 64);
                }
                for label in changed[512..].chunks_mut(256) {
                    seal(label, 248);
                }
                let mut areas = Areas([(1, changed)].into());
                check(&discover(&TABLES[..1], &mut areas));
            }
        }
    }
}

fn structure() -> impl Strategy<Value = (u16, Vec<u8>)> {
    (0u16..9, prop::collection::vec(any::<u8>(), 0..90))
}

/// Structures of the right size, with small numbers, so that they refer to each other.
fn plausible() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let sizes =
        prop::sample::select(vec![(0u16, 52usize), (1, 44), (2, 20), (2, 28), (4, 76), (4, 28), (5, 36), (6, 20)]);
    let bytes = prop::collection::vec(prop::sample::select(vec![0u8, 0, 0, 0, 1, 1, 2, 4, 8, 16, 64, 128, 255]), 76);
    let pmem = prop::sample::select(vec![
        uuid::uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb"),
        uuid::uuid!("92f701f6-13b4-405d-910b-299367e8234c"),
        uuid::uuid!("91af0530-5d86-470e-a6b0-0a2db9408249"),
    ]);
    (sizes, bytes, pmem).prop_map(|((kind, size), mut bytes, guid)| {
        bytes.truncate(size);
        if kind == 0 {
            bytes[12..28].copy_from_slice(&guid.to_bytes_le());
        }
        (kind, bytes)
    })
}

proptest! {
    #[test]
    fn random_bytes_are_no_table(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&discover(&[bytes], &mut NoLabels));
    }

    #[test]
    fn random_structures_are_bounded(structures in prop::collection::vec(prop_oneof![structure(), plausible()], 0..40)) {
        let table = structures.into_iter().fold(Builder::default(), |table, (kind, body)| table.raw(kind, &body));
        check(&discover(&[table.table()], &mut NoLabels));
    }

    #[test]
    fn random_bytes_are_no_labels(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        check(&discover(&TABLES[..1], &mut Areas([(1, bytes)].into())));
    }

    #[test]
    fn random_labels_are_kept_apart(
        labels in prop::collection::vec((0u8..4, 0u32..16, 0u16..3, 0u16..2, 0u64..20, 0u64..20), 0..12),
        sequences in any::<[u32; 2]>(),
    ) {
        let cookie = discover(&TABLES[..1], &mut NoLabels).regions[0].cookies().unwrap().v1_2;
        let specs: Vec<_> = labels
            .into_iter()
            .map(|(uuid, flags, labels, position, dpa, bytes)| {
                Spec { uuid, name: "", flags, labels, position, cookie, dpa: dpa << 22, bytes: bytes << 22 }
            })
            .collect();
        check(&discover(&TABLES[..1], &mut Areas([(1, area(sequences, &specs))].into())));
    }
}
