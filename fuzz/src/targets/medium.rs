//! A whole BTT: info block, its copy, map and flog, with any content.
//!
//! | bytes | |
//! |---|---|
//! | 0 | bits: 0 mend the checksum, 1 spoil the copy, 2 no order within a line, 3 a second info block where the first says |
//! | 1 | how many map entries follow the info block |
//! | 2 | the info block's first 128 bytes; the rest of it is zeroes, but for the checksum |
//! | 130 | map entries of 4 bytes, put where the map is by the info block |
//! | behind them | the flog, put where it is by the info block |

use btt::bytes::{Sectors, SectorsMut};
use btt::check::{Finding, check};
use btt::checksum::fletcher64;
use btt::info_block::Version;
use btt::layout::{ARENA_MIN_BYTES, RawInfoBlock};
use btt::media::{Medium as _, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::Sim;
use btt::{Btt, BttError, CpuIndex, ExternalLba, OpenError, Placement, ReadOnlyReason};
use uuid::Uuid;
use zerocopy::{FromZeros, IntoBytes};

use crate::choices::Choices;

const BYTES: u64 = ARENA_MIN_BYTES;
const PLACEMENT: Placement = Placement { version: Version::V2_0, parent_uuid: Uuid::nil() };
const INFO_BYTES: usize = 128;
/// Small, so that a check goes over the map more than once.
const WINDOW_BLOCKS: u32 = 64;
/// How many sectors are looked at, from either end.
const LOOKED_AT: u64 = 12;
const BLOCKS_MARKED: u64 = 32;

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (bits, entries) = (choices.byte(), choices.byte());
    let mut raw = RawInfoBlock::new_zeroed();
    raw.as_mut_bytes()[..INFO_BYTES].copy_from_slice(&choices.array::<INFO_BYTES>());
    if bits & 1 != 0 {
        raw.checksum = fletcher64(raw.as_bytes()).into();
    }
    let map = choices.take(usize::from(entries) * 4);
    let media = Sim::from_start(Vec::new(), BYTES);
    // The areas may lie anywhere by the info block: only what fits is there.
    let put = |at: u64, bytes: &[u8]| {
        if at.checked_add(bytes.len() as u64).is_some_and(|end| end <= BYTES) && !bytes.is_empty() {
            media.write(NsOffset(at), bytes).expect("within the medium");
        }
    };
    // Each block begins with its number.
    for block in 0..BLOCKS_MARKED {
        let at =
            u64::from(raw.internal_lbasize.get()).checked_mul(block).and_then(|at| raw.dataoff.get().checked_add(at));
        put(at.unwrap_or(u64::MAX), &(0xB10C + block).to_le_bytes());
    }
    put(raw.mapoff.get(), map);
    put(raw.logoff.get(), choices.0);
    if bits & 8 != 0 {
        put(raw.nextoff.get(), raw.as_bytes());
    }
    let copy = if bits & 2 != 0 { RawInfoBlock::new_zeroed() } else { raw.clone() };
    put(raw.info2off.get(), copy.as_bytes());
    put(0, raw.as_bytes());
    let media = media.settled();
    let media = if bits & 4 != 0 { media.without_line_order() } else { media };
    try_all(&media);
}

fn try_all(media: &Sim) {
    let before = findings(media);
    let overlay = sectors(&media.fork().as_read_only());
    let media = media.fork();
    let found = sectors(&media);
    assert_eq!(overlay, found, "recovery in memory shows what recovery makes");
    if found.is_some() {
        let again = Btt::open(&media, PLACEMENT, 2).map(|btt| btt.recovered_writes());
        assert_eq!(again.ok(), Some(0), "it is recovered");
        let after = findings(&media);
        assert!(!before.is_empty() || after.is_empty(), "recovery left damage: {after:?}");
    }
    if before.is_empty() {
        write(&media);
    }
    mend(&media);
}

fn findings(media: &Sim) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut progress = |done, of| {
        assert!(done <= of);
        std::ops::ControlFlow::Continue(())
    };
    check(media, PLACEMENT, WINDOW_BLOCKS, &mut |finding| findings.push(finding), &mut progress);
    findings
}

/// What a sector reads.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Its bytes add up to that.
    Sum(u64),
    /// It is marked as an error.
    Lost,
    /// Its map entry cannot be followed.
    Refused,
}

fn seen(bytes: &[u8]) -> Seen {
    Seen::Sum(fletcher64(bytes))
}

/// What the first and last sectors read, if the BTT opens.
fn sectors(media: &Sim) -> Option<Vec<Seen>> {
    let btt = match Btt::open(media, PLACEMENT, 2) {
        Ok(btt) => btt,
        Err(OpenError::Media(why)) => panic!("opening: {why}, and the medium is sound"),
        Err(_) => return None,
    };
    let (count, size) = (btt.capacity_sectors(), btt.sector_size());
    let read = |lba: u64| {
        let mut sector = vec![0; size.bytes() as usize];
        let mut room = SectorsMut::new(&mut sector, size).expect("a sector");
        let result = btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut room);
        match result {
            Ok(()) => seen(&sector),
            Err(BttError::SectorError { .. }) => Seen::Lost,
            Err(BttError::ReadOnly { why: ReadOnlyReason::Metadata(why), .. } | BttError::Data { why, .. }) => {
                panic!("LBA {lba}: {why}, and the medium is sound")
            }
            Err(BttError::ReadOnly { .. }) => Seen::Refused,
            Err(why @ (BttError::OutOfRange { .. } | BttError::Drain { .. })) => panic!("LBA {lba}: {why}"),
        }
    };
    let last = count.saturating_sub(LOOKED_AT).max(LOOKED_AT.min(count));
    Some((0..count.min(LOOKED_AT)).chain(last..count).map(read).collect())
}

/// On a sound BTT: each CPU writes, all reads as written, and it stays sound.
fn write(media: &Sim) {
    let btt = Btt::open(media, PLACEMENT, 2).expect("what the checker finds sound opens");
    if btt.arenas().any(|arena| arena.read_only.is_some()) {
        return;
    }
    let (count, size) = (btt.capacity_sectors().min(LOOKED_AT), btt.sector_size());
    let content = |lba: u64| vec![u8::try_from(lba).unwrap_or(0) + 1; size.bytes() as usize];
    for lba in 0..count {
        let bytes = content(lba);
        let source = Sectors::new(&bytes, size).expect("a sector");
        let cpu = CpuIndex(u32::from(lba % 2 == 1));
        media.set_cpu(cpu.0);
        btt.lane(cpu).write(ExternalLba(lba), 1, &source).expect("a sound BTT takes writes");
    }
    btt.drain().expect("nothing fails");
    drop(btt);
    let read = sectors(media).expect("it opens again");
    for (lba, sector) in (0..count).zip(read) {
        assert_eq!(sector, seen(&content(lba)), "sector {lba}");
    }
    assert_eq!(findings(media), [], "it stays sound");
}

/// Repairs it with all that is allowed. What is reported as repaired is not found again.
fn mend(media: &Sim) {
    let options = RepairOptions {
        repair: true,
        rewrite_log: true,
        force: true,
        fresh_uuid: Uuid::from_u128(0xF022),
        window_blocks: WINDOW_BLOCKS,
    };
    let mut left = 0;
    repair(media, PLACEMENT, &options, &mut |_, repaired| left += u32::from(!repaired), &mut |_, _| ());
    let after = findings(media);
    assert!(left > 0 || after.is_empty(), "told as repaired, and still there: {after:?}");
    if after.is_empty() {
        assert!(sectors(media).is_some(), "what the checker finds sound opens");
    }
}
