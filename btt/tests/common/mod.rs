//! What the tests of this crate share: small media, sectors that carry their writer's tag.
#![allow(dead_code, unreachable_pub, clippy::cast_possible_truncation)] // each test uses its part; small numbers

pub mod lossy;
pub mod sparse;

use btt::bytes::{Sectors, SectorsMut};
use btt::check::{Finding, Summary, check};
use btt::commit::Writes;
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::media::{MediaError, Medium, NsOffset, SectorSource};
use btt::sim::Sim;
use btt::{Btt, BttError, CpuIndex, ExternalLba, Placement};
use uuid::Uuid;

/// Room for the smallest arena, and 4 KiB before it.
pub const BYTES: u64 = (16 << 20) + 4096;
pub const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };

pub fn format_options(sector: u32) -> FormatOptions {
    FormatOptions {
        sector_size: SectorSize::new(sector).expect("a known size"),
        uuid: Uuid::from_u128(0x1234),
        parent_uuid: Uuid::nil(),
        version: PLACEMENT.version,
        zero_data: false,
        zero_entries: false,
    }
}

/// A fresh BTT with sectors of this size.
pub fn made(sector: u32) -> Sim {
    let sim = Sim::new(BYTES);
    format(&sim, &format_options(sector), &mut |_, _| ()).expect("a medium without faults");
    sim
}

pub fn open<M: Medium>(media: M, cpus: u32) -> Btt<M> {
    Btt::open(media, PLACEMENT, cpus).expect("a sound BTT")
}

/// A sector's content: `tag` in every 8 bytes, so that a torn one shows.
pub fn content(size: usize, tag: u64) -> Vec<u8> {
    tag.to_le_bytes().iter().copied().cycle().take(size).collect()
}

pub fn write<M: Medium>(btt: &Btt<M>, cpu: u32, lba: u64, tags: &[u64]) -> Result<(), BttError> {
    let size = btt.sector_size();
    let bytes: Vec<u8> = tags.iter().flat_map(|tag| content(size.bytes() as usize, *tag)).collect();
    let source = Sectors::new(&bytes, size).expect("whole sectors");
    btt.lane(CpuIndex(cpu)).write(ExternalLba(lba), tags.len() as u64, &source)
}

/// Writes of one sector each: which, and its tag.
pub struct Scattered<'a> {
    pub writes: &'a [(u64, u64)],
    pub sector_bytes: usize,
}

impl<M: Medium + ?Sized> SectorSource<M> for Scattered<'_> {
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, &content(self.sector_bytes, self.writes[index].1))
    }
}

impl<M: Medium + ?Sized> Writes<M> for Scattered<'_> {
    fn count(&self) -> usize {
        self.writes.len()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        ExternalLba(self.writes[index].0)
    }
}

/// One commit of the writes from number `from` on.
pub fn commit<M: Medium>(btt: &Btt<M>, cpu: u32, writes: &[(u64, u64)], from: usize) -> Result<usize, BttError> {
    let scattered = Scattered { writes, sector_bytes: btt.sector_size().bytes() as usize };
    btt.lane(CpuIndex(cpu)).commit(&scattered, from)
}

/// As many commits as these writes take.
pub fn commit_all<M: Medium>(btt: &Btt<M>, cpu: u32, writes: &[(u64, u64)]) -> Result<(), BttError> {
    let mut done = 0;
    while done < writes.len() {
        done += commit(btt, cpu, writes, done)?;
    }
    Ok(())
}

/// The tag of one sector; panics if it is torn.
pub fn read<M: Medium>(btt: &Btt<M>, cpu: u32, lba: u64) -> Result<u64, BttError> {
    read_run(btt, cpu, lba, 1).map(|tags| tags[0])
}

pub fn read_run<M: Medium>(btt: &Btt<M>, cpu: u32, lba: u64, count: u64) -> Result<Vec<u64>, BttError> {
    let size = btt.sector_size();
    let mut bytes = vec![0xee; size.bytes() as usize * count as usize];
    let mut sink = SectorsMut::new(&mut bytes, size).expect("whole sectors");
    btt.reader(CpuIndex(cpu)).read(ExternalLba(lba), count, &mut sink)?;
    Ok(bytes
        .chunks(size.bytes() as usize)
        .map(|sector| {
            let tag = u64::from_le_bytes(sector[..8].try_into().expect("8 bytes"));
            assert_eq!(sector, content(sector.len(), tag), "LBA {lba} is torn");
            tag
        })
        .collect())
}

pub fn findings<M: Medium>(media: &M) -> (Vec<Finding>, Summary) {
    let mut found = Vec::new();
    let summary =
        check(media, PLACEMENT, u32::MAX, &mut |f| found.push(f), &mut |_, _| std::ops::ControlFlow::Continue(()));
    (found, summary)
}

/// No damage, whatever waits to be finished.
pub fn assert_sound<M: Medium>(media: &M) {
    let (found, _) = findings(media);
    let damage: Vec<_> = found.into_iter().filter(Finding::is_damage).collect();
    assert!(damage.is_empty(), "{damage:?}");
}
