//! BTTs of a few sectors: any geometry that the code accepts will do, and a small one makes small images.

use btt::Placement;
use btt::geometry::{Geometry, SectorSize};
use btt::info_block::{InfoBlock, Version};
use btt::layout::{ARENA_MIN_BYTES, FLOG_GROUP_BYTES, MAP_ENTRY_BYTES, PAGE_BYTES, RawFlogGroup, RawFlogSlot};
use btt::map::MapEntry;
use btt::media::{Medium as _, NsOffset};
use btt::sim::{Persistence, Sim};
use uuid::Uuid;
use zerocopy::IntoBytes;

use super::frame::{Frame, Windows};

/// Where the BTTs of the explorer are.
pub const PLACEMENT: Placement = Placement { version: Version::V2_0, parent_uuid: Uuid::nil() };
/// How large a medium of theirs is; only its first few pages are used.
pub const BYTES: u64 = ARENA_MIN_BYTES;
/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// A BTT of a few sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// Sectors that the user sees.
    pub sectors: u32,
    /// Free blocks, and flog groups.
    pub nfree: u32,
    /// When what is stored persists.
    pub persistence: Persistence,
    /// Whether worn flog groups wait for recovery: their sectors' map entries still name the older blocks.
    pub interrupted: bool,
}

/// What a sector reads that was never written: its number, marked.
#[must_use]
pub const fn first_tag(lba: u32) -> u64 {
    0xF1F1_0000_0000_0000 | lba as u64
}

/// What a sector that is marked as lost "reads".
pub const LOST_TAG: u64 = u64::MAX;

/// A sector's content: its tag in every piece, so that a torn one shows.
#[must_use]
pub fn content(tag: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    bytes.chunks_exact_mut(8).for_each(|piece| piece.copy_from_slice(&tag.to_le_bytes()));
    bytes
}

/// The tag of a sector, if all its pieces carry the same.
#[must_use]
pub fn tag_of(sector: &[u8]) -> Option<u64> {
    let (pieces, _) = sector.as_chunks::<8>();
    pieces.iter().all(|piece| *piece == pieces[0]).then(|| u64::from_le_bytes(pieces[0]))
}

impl Small {
    /// The areas one after the other, map and flog at lines.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let internal_nlba = self.sectors + self.nfree;
        let dataoff = PAGE_BYTES;
        let mapoff = dataoff + u64::from(internal_nlba) * SECTOR as u64;
        let logoff = mapoff + (u64::from(self.sectors) * MAP_ENTRY_BYTES).next_multiple_of(64);
        Geometry {
            external_lbasize: SectorSize::new(512).expect("a known size"),
            external_nlba: self.sectors,
            internal_lbasize: 512,
            internal_nlba,
            nfree: self.nfree,
            nextoff: 0,
            dataoff,
            mapoff,
            logoff,
            info2off: logoff + u64::from(self.nfree) * FLOG_GROUP_BYTES,
        }
    }

    /// Where anything stands.
    #[must_use]
    pub fn windows(&self) -> Windows {
        Windows::new(std::slice::from_ref(&(0..self.geometry().info2off + PAGE_BYTES)))
    }

    /// Whether a place is in the data area.
    #[must_use]
    pub fn is_data(&self, at: u64) -> bool {
        (PAGE_BYTES..self.geometry().mapoff).contains(&at)
    }

    /// Which of the user's sectors a load finds in the map, by hand: not by the code that is explored.
    #[must_use]
    pub fn visible(&self, load: impl Fn(u64, &mut [u8]), lba: u32) -> Option<u64> {
        let geometry = self.geometry();
        let mut word = [0; 4];
        load(geometry.mapoff + u64::from(lba) * MAP_ENTRY_BYTES, &mut word);
        let word = u32::from_le_bytes(word);
        let block = match word >> 30 {
            0 => lba,
            1 => return Some(LOST_TAG),
            2 => return Some(0),
            _ => word & 0x3fff_ffff,
        };
        let mut sector = [0; SECTOR];
        load(geometry.dataoff + u64::from(block) * SECTOR as u64, &mut sector);
        tag_of(&sector)
    }

    /// A fresh one: sectors with an odd number have been written once, so that both kinds of map entry are there.
    #[must_use]
    pub fn make(&self) -> Frame {
        let geometry = self.geometry();
        let (uuid, parent_uuid) = (Uuid::from_u128(0x1234), Uuid::nil());
        let flags = InfoBlock::ZERO_ENTRIES;
        let info = InfoBlock { uuid, parent_uuid, flags, version: PLACEMENT.version, geometry };
        let sim = Sim::new(BYTES);
        let put = |at: u64, bytes: &[u8]| sim.write(NsOffset(at), bytes).expect("within the medium");
        for lba in 0..self.sectors {
            put(geometry.dataoff + u64::from(lba) * SECTOR as u64, &content(first_tag(lba)));
            if lba % 2 == 1 {
                let word = MapEntry::Normal(btt::PostmapAba(lba)).encode();
                put(geometry.mapoff + u64::from(lba) * MAP_ENTRY_BYTES, &word.to_le_bytes());
            }
        }
        for group in 0..self.nfree {
            let (lba, free) = (group % self.sectors, self.sectors + group);
            if self.interrupted && group % 4 != 0 {
                let word = MapEntry::Normal(btt::PostmapAba(free)).encode();
                put(geometry.mapoff + u64::from(lba) * MAP_ENTRY_BYTES, &word.to_le_bytes());
            }
            put(geometry.logoff + u64::from(group) * FLOG_GROUP_BYTES, self.group(group).as_bytes());
        }
        put(0, info.encode().as_bytes());
        put(geometry.info2off, info.encode().as_bytes());
        Frame::new(self.windows(), |at, into| sim.visible(NsOffset(at), into))
    }

    /// A flog group whose newer record is finished. The four groups of each four are fresh, or worn so that the newer
    /// record has sequence number 2, 3 or 1: then the next one goes to either slot.
    fn group(&self, group: u32) -> RawFlogGroup {
        let (lba, free) = (group % self.sectors, self.sectors + group);
        let slot = |old: u32, new: u32, seq: u32| RawFlogSlot {
            lba: lba.into(),
            old_map: old.into(),
            new_map: new.into(),
            seq: seq.into(),
        };
        let mut raw = RawFlogGroup::default();
        (raw[0], raw[1]) = match group % 4 {
            0 => (slot(free, free, 1), RawFlogSlot::default()),
            1 => (slot(free, free, 1), slot(free, lba, 2)),
            2 => (slot(free, lba, 3), slot(lba, free, 2)),
            _ => (slot(lba, free, 3), slot(free, lba, 1)),
        };
        raw
    }
}
