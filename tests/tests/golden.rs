//! Every golden image, read back sector by sector by `btt`, in process.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::ops::ControlFlow;

use btt::bytes::SectorsMut;
use btt::check::{Finding, check};
use btt::file::FileMedium;
use btt::info_block::Version;
use btt::{Btt, BttError, CpuIndex, ExternalLba, Placement};
use tests::dimm::Dimm;
use tests::golden::{self, Golden, GoldenNamespace};
use uuid::Uuid;

fn namespace(dimm: &Dimm, golden: &GoldenNamespace, read_only: bool) -> (FileMedium, Placement) {
    let version = match golden.btt_version.as_str() {
        "1.1" => Version::V1_1,
        "2.0" => Version::V2_0,
        other => panic!("BTT {other}"),
    };
    let media = FileMedium::part(dimm.file(), golden.ns_offset, golden.ns_size, read_only).unsynced();
    (media, Placement { version, parent_uuid: Uuid::parse_str(&golden.parent_uuid).unwrap() })
}

/// Reads every sector that the image's description names.
fn read_back(btt: &Btt<FileMedium>, golden: &GoldenNamespace, id: &str) {
    for (&lba, expected) in &golden.expected {
        let mut sector = vec![0xa5; golden.lbasize as usize];
        let mut sink = SectorsMut::new(&mut sector, btt.sector_size()).unwrap();
        let outcome = btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut sink);
        let found = match outcome {
            Ok(()) => golden::digest(&sector[..golden.io_size as usize]),
            Err(BttError::SectorError { .. }) => "EIO".to_owned(),
            Err(other) => panic!("{id}: LBA {lba}: {other}"),
        };
        assert_eq!(&found, expected, "{id}: LBA {lba}");
        if let Some(allowed) = golden.allowed.get(&lba) {
            assert!(allowed.contains(&found), "{id}: LBA {lba} is neither the acknowledged version nor the next");
        }
    }
}

fn check_geometry(btt: &Btt<FileMedium>, golden: &GoldenNamespace, id: &str) {
    assert_eq!(btt.capacity_sectors(), golden.nlba, "{id}");
    assert_eq!(btt.uuid(), Uuid::parse_str(&golden.btt_uuid).unwrap(), "{id}");
    let first = btt.arenas().next().unwrap();
    let (ours, linux) = (first.info.geometry, &golden.geometry);
    assert_eq!(first.at.0, golden.btt_offset_in_ns, "{id}");
    assert_eq!(
        [ours.external_lbasize.bytes(), ours.internal_lbasize, ours.external_nlba, ours.internal_nlba, ours.nfree],
        [linux.ext_lbasize, linux.int_lbasize, linux.ext_nlba, linux.int_nlba, linux.nfree],
        "{id}"
    );
    assert_eq!(
        [ours.nextoff, ours.dataoff, ours.mapoff, ours.logoff, ours.info2off],
        [linux.nextoff, linux.dataoff, linux.mapoff, linux.logoff, linux.info2off],
        "{id}"
    );
}

fn each(mut judge: impl FnMut(&Golden, &Dimm, &GoldenNamespace)) {
    let goldens = golden::all();
    assert!(goldens.len() >= 18, "all images are there: {}", goldens.len());
    for golden in &goldens {
        let dimm = golden.unpack();
        golden.namespaces.iter().for_each(|namespace| judge(golden, &dimm, namespace));
    }
}

#[test]
fn every_sector_reads_as_linux_wrote_it_and_a_read_only_medium_stays_as_it_is() {
    each(|golden, dimm, namespace| {
        let small = golden.file_size < 1 << 30;
        let before = small.then(|| dimm.digest());
        let (media, placement) = self::namespace(dimm, namespace, true);
        let btt = Btt::open(media, placement, 2).unwrap_or_else(|error| panic!("{}: {error}", golden.id));
        check_geometry(&btt, namespace, &golden.id);
        read_back(&btt, namespace, &golden.id);
        drop(btt);
        assert_eq!(before, small.then(|| dimm.digest()), "{} was written", golden.id);
    });
}

#[test]
fn recovery_finishes_what_was_pending_and_leaves_a_sound_btt() {
    each(|golden, dimm, namespace| {
        let id = &golden.id;
        let (media, placement) = self::namespace(dimm, namespace, false);
        let btt = Btt::open(media, placement, 4).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(btt.recovered_writes() as usize, namespace.pending.len(), "{id}");
        read_back(&btt, namespace, id);
        let media = btt.close().unwrap();

        let mut findings: Vec<Finding> = Vec::new();
        let counts = check(&media, placement, 1 << 24, &mut |finding| findings.push(finding), &mut |_, _| {
            ControlFlow::Continue(())
        });
        assert!(findings.is_empty(), "{id}: {findings:?}");
        let linux = &namespace.map_counts;
        // With more than one arena the description counts the second one's sectors only.
        if namespace.geometry.nextoff == 0 {
            let trimmed_and_failing = (counts.zero, counts.error);
            assert_eq!(trimmed_and_failing, (linux.trim, linux.error), "{id}");
            assert_eq!(counts.initial + counts.normal, linux.initial + linux.normal, "{id}");
        }
    });
}

#[test]
fn every_image_can_be_written_and_read_again() {
    each(|golden, dimm, namespace| {
        let id = &golden.id;
        let (media, placement) = self::namespace(dimm, namespace, false);
        let btt = Btt::open(media, placement, 3).unwrap();
        let size = namespace.lbasize as usize;
        let last = namespace.nlba - 1;
        for (cpu, lba) in [(0, 0), (1, last), (2, last), (0, last / 2)] {
            let data = vec![u8::try_from(cpu + 1).unwrap(); size];
            let source = btt::bytes::Sectors::new(&data, btt.sector_size()).unwrap();
            btt.lane(CpuIndex(cpu)).write(ExternalLba(lba), 1, &source).unwrap_or_else(|error| panic!("{id}: {error}"));
        }
        let media = btt.close().unwrap();
        let btt = Btt::open(media, placement, 1).unwrap();
        for (byte, lba) in [(1, 0), (3, last), (1, last / 2)] {
            let mut data = vec![0; size];
            let mut sink = SectorsMut::new(&mut data, btt.sector_size()).unwrap();
            btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut sink).unwrap();
            assert!(data.iter().all(|&found| found == byte), "{id}: LBA {lba}");
        }
    });
}
