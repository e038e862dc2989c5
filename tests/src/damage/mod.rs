//! Damaged BTTs, one kind of damage each, with what can and what cannot be read of them: the rows of docs/repair.md.
//!
//! `tests/damage.rs` shows them to each program that knows the format.

mod kinds;
mod untorn;

use btt::bytes::Sectors;
use btt::format::{FormatOptions, format};
use btt::geometry::{Geometry, SectorSize};
use btt::info_block::{InfoBlock, Version, read_raw};
use btt::layout::{FLOG_GROUP_BYTES, FLOG_SLOT_BYTES, MAP_ENTRY_BYTES, RawFlogSlot};
use btt::media::{Medium as _, NsOffset};
use btt::sim::Sim;
use btt::{Btt, CpuIndex, ExternalLba, Placement};
use uuid::Uuid;
use zerocopy::{FromZeros as _, IntoBytes as _};

pub use kinds::{Damage, all, none};
pub use untorn::{Cure, Verdict, judge, old_layout_cuts, reads_right};

use crate::dimm::{Dimm, MIB};

/// As a namespace without labels has it.
pub const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };
/// The size of a medium with one arena.
pub const BYTES: u64 = 32 * MIB;
/// The sectors that the media have: away from where Linux writes.
pub const FIRST: u64 = 100;
/// How many.
pub const COUNT: u64 = 8;

/// The byte that fills a sector.
#[must_use]
pub fn content(lba: u64) -> u8 {
    u8::try_from(lba).expect("a small LBA")
}

/// A medium to be damaged, and where things are in its arena.
#[derive(Debug)]
pub struct Victim {
    sim: Sim,
    at: u64,
    geometry: Geometry,
}

impl Victim {
    /// A sound one, whose sectors have been written twice or more, from two CPUs.
    ///
    /// # Panics
    /// Never: it is sound.
    #[must_use]
    pub fn sound(sector: u32) -> Self {
        let sim = Sim::new(BYTES);
        let sector_size = SectorSize::new(sector).expect("a known size");
        let uuid = Uuid::from_u128(0x7e57_0000 + u128::from(sector));
        let options = FormatOptions {
            sector_size,
            uuid,
            parent_uuid: Uuid::nil(),
            version: PLACEMENT.version,
            zero_data: false,
            zero_entries: false,
        };
        format(&sim, &options, &mut |_, _| ()).expect("a medium without faults");
        let btt = Btt::open(sim, PLACEMENT, 2).expect("it is sound");
        let bytes = sector_size.bytes() as usize;
        let all = FIRST..FIRST + COUNT;
        let twice = all.clone().map(|lba| (lba, content(lba) ^ 0x80)).chain(all.map(|lba| (lba, content(lba))));
        // An odd number of writes by each CPU: its newest record stands in its group's second slot.
        for (lba, byte) in twice.chain([FIRST, FIRST + 1].map(|lba| (lba, content(lba)))) {
            let data = vec![byte; bytes];
            let source = Sectors::new(&data, sector_size).expect("a whole sector");
            let cpu = CpuIndex(u32::try_from(lba % 2).expect("0 or 1"));
            btt.lane(cpu).write(ExternalLba(lba), 1, &source).expect("a medium without faults");
        }
        Self::of(btt.close().expect("a medium without faults").settled())
    }

    /// Where things are in the first arena of a sound medium.
    fn of(sim: Sim) -> Self {
        let arena = Btt::open(&sim, PLACEMENT, 1).expect("it is sound").arenas().next().expect("an arena");
        Self { at: arena.at.0, geometry: arena.info.geometry, sim }
    }

    /// What has come of it.
    #[must_use]
    pub fn into_medium(self) -> Sim {
        self.sim.settled()
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.sim.write(NsOffset(self.at + offset), bytes).expect("within the medium");
    }

    fn words(&self, offset: u64, words: &[u32]) {
        words.iter().zip(0..).for_each(|(word, number)| self.put(offset + 4 * number, &word.to_le_bytes()));
    }

    /// The offset of a sector's map entry.
    const fn entry(&self, lba: u64) -> u64 {
        self.geometry.mapoff + lba * MAP_ENTRY_BYTES
    }

    fn map_word(&self, lba: u64) -> u32 {
        self.sim.load_u32(NsOffset(self.at + self.entry(lba))).expect("within the medium")
    }

    /// The offset of a flog group's slot.
    const fn slot(&self, group: u64, slot: u64) -> u64 {
        self.geometry.logoff + group * FLOG_GROUP_BYTES + slot * FLOG_SLOT_BYTES
    }

    fn read_slot(&self, group: u64, slot: u64) -> RawFlogSlot {
        let mut raw = RawFlogSlot::new_zeroed();
        self.sim.read(NsOffset(self.at + self.slot(group, slot)), raw.as_mut_bytes()).expect("within the medium");
        raw
    }

    /// The newer slot of a group.
    fn newer_slot(&self, group: u64) -> u64 {
        let [first, second] = [0, 1].map(|slot| self.read_slot(group, slot).seq.get());
        u64::from(second != 0 && second == first % 3 + 1)
    }

    /// The block that a group frees.
    fn free_block(&self, group: u64) -> u32 {
        self.read_slot(group, self.newer_slot(group)).old_map.get() & 0x3fff_ffff
    }

    /// A group whose record is the last of its sector, and in which slot that stands.
    fn used_group(&self) -> (u64, u64) {
        let is_last = |group, slot| {
            let record = self.read_slot(group, slot);
            record.old_map != record.new_map
                && self.map_word(record.lba.get().into()) & 0x3fff_ffff == record.new_map.get()
        };
        let groups = 0..u64::from(self.geometry.nfree);
        let mut newer = groups.map(|group| (group, self.newer_slot(group)));
        newer.find(|(group, slot)| is_last(*group, *slot)).expect("sectors have been written")
    }

    /// The first info block, changed, with a right checksum, in its place and, if `both`, in its copy's.
    fn change_info(&self, both: bool, change: impl Fn(&mut InfoBlock)) {
        let raw = read_raw(&self.sim, NsOffset(self.at)).expect("within the medium");
        let mut info = InfoBlock::decode(&raw, PLACEMENT.version, Uuid::nil(), BYTES).expect("it is sound");
        change(&mut info);
        self.put(0, info.encode().as_bytes());
        if both {
            self.put(self.geometry.info2off, info.encode().as_bytes());
        }
    }
}

/// A medium's bytes as an NVDIMM.
///
/// # Panics
/// When the file cannot be made.
#[must_use]
pub fn to_dimm(medium: &Sim) -> Dimm {
    let image = medium.image();
    let dimm = Dimm::blank(image.len() as u64);
    let file = dimm.file();
    for (number, page) in (0..).zip(image.chunks(4096)) {
        if page.iter().any(|&byte| byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, page, number * 4096).expect("an NVDIMM file is written");
        }
    }
    dimm
}
