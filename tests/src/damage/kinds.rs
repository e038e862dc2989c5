//! The kinds of damage.

use btt::geometry::SectorSize;
use btt::info_block::InfoBlock;
use btt::map::MapEntry;
use btt::media::{Medium as _, NsOffset};
use btt::sim::Sim;
use btt::{PostmapAba, PremapAba};
use uuid::Uuid;

use super::{BYTES, COUNT, Cure, FIRST, Victim};
use crate::dimm::MIB;

/// One kind of damage.
#[derive(Clone, Debug)]
pub struct Damage {
    /// What docs/repair.md calls it.
    pub name: &'static str,
    /// How untorn is asked to mend it.
    pub cure: Cure,
    /// Sectors that are errors once it is mended.
    pub lost: &'static [u64],
    /// Sectors that read zero.
    pub zeroes: &'static [u64],
    /// The size of a sector.
    pub sector: u32,
    make: fn(Victim) -> Sim,
}

impl Damage {
    /// The damaged medium.
    #[must_use]
    pub fn medium(&self) -> Sim {
        (self.make)(Victim::sound(self.sector))
    }
}

/// Changes a victim in place.
macro_rules! changed {
    (|$victim:ident| $change:expr) => {
        |$victim: Victim| {
            $change;
            $victim.into_medium()
        }
    };
}

const fn row(name: &'static str, cure: Cure, lost: &'static [u64], make: fn(Victim) -> Sim) -> Damage {
    Damage { name, cure, lost, zeroes: &[], sector: 512, make }
}

/// A sector that some kinds of damage are about, and the next one.
const HIT: u64 = FIRST + 5;
const NEXT: u64 = HIT + 1;
/// Groups that two CPUs use: Linux's lanes are its CPUs.
const BUSY: [u64; 2] = [0, 1];
/// A group that was never used.
const IDLE: u64 = 250;

/// None at all.
#[must_use]
pub const fn none() -> Damage {
    row("none", Cure::None, &[], Victim::into_medium)
}

/// All kinds.
#[must_use]
pub fn all() -> Vec<Damage> {
    use Cure::{Force, None, Portable, Repair, RewriteLog};
    let mut rows = vec![
        row("first info block gone, backup sound", Repair, &[], changed!(|v| v.put(0, &[0; 4096]))),
        row(
            "first info block torn (its checksum is wrong), backup sound",
            Repair,
            &[],
            changed!(|v| v.put(88, &[1; 8])),
        ),
        row("a later arena's info block gone, backup sound", Repair, &[], |_| later_arena_without_info_block()),
        row("backup info block gone", Repair, &[], changed!(|v| v.put(v.geometry.info2off, &[0; 4096]))),
        row(
            "both info blocks gone, one arena",
            Repair,
            &[],
            changed!(|v| {
                v.put(0, &[0; 4096]);
                v.put(v.geometry.info2off, &[0; 4096]);
            }),
        ),
        row(
            "info block with the right checksum whose flog lies past the end, backup sound",
            Repair,
            &[],
            changed!(|v| {
                v.change_info(false, |info| info.geometry.logoff = BYTES);
            }),
        ),
        row(
            "info blocks of another namespace",
            Repair,
            &[],
            changed!(|v| {
                v.change_info(true, |info| info.parent_uuid = Uuid::from_u128(0xf0e));
            }),
        ),
        row(
            "error flag in the info block",
            Repair,
            &[],
            changed!(|v| {
                v.change_info(true, |info| info.flags |= InfoBlock::ERROR_FLAG);
            }),
        ),
        row(
            "interrupted write",
            None,
            &[],
            changed!(|v| {
                let (group, slot) = v.used_group();
                let record = v.read_slot(group, slot);
                v.words(v.entry(record.lba.get().into()), &[0xc000_0000 | record.old_map.get()]);
            }),
        ),
        row(
            "flog group with sequence numbers 1 and 1",
            Repair,
            &[],
            changed!(|v| {
                let free = v.geometry.external_nlba + 250;
                v.words(v.slot(IDLE, 0), &[250, free, free, 1, 250, free, free, 1]);
            }),
        ),
        row(
            "flog groups with sequence number 2 beside an empty slot",
            Repair,
            &[],
            changed!(|v| {
                for group in BUSY {
                    let free = v.free_block(group);
                    v.words(v.slot(group, 0), &[0, free, free, 2, 0, 0, 0, 0]);
                }
            }),
        ),
        row("flog all zero", Repair, &[], changed!(|v| v.put(v.geometry.logoff, &[0; 256 * 64]))),
        row(
            "flog group that names a block past the end",
            Repair,
            &[],
            changed!(|v| {
                let past = v.geometry.internal_nlba + 5;
                v.words(v.slot(IDLE, 0), &[250, past, past]);
            }),
        ),
        row(
            "flog group that names a sector past the end",
            Repair,
            &[],
            changed!(|v| {
                v.words(v.slot(IDLE, 0), &[v.geometry.external_nlba + 5]);
            }),
        ),
        row(
            "two flog groups free one block",
            Repair,
            &[],
            changed!(|v| {
                let taken = v.geometry.external_nlba + 251;
                v.words(v.slot(IDLE, 0) + 4, &[taken, taken]);
            }),
        ),
        row(
            "flog groups that free the blocks of sectors",
            Force,
            &[HIT, NEXT],
            changed!(|v| {
                for (group, lba) in BUSY.into_iter().zip([HIT, NEXT]) {
                    let taken = v.map_word(lba) & 0x3fff_ffff;
                    v.words(v.slot(group, 0), &[0, taken, taken, 1, 0, 0, 0, 0]);
                }
            }),
        ),
        row(
            "flog groups of both layouts",
            Repair,
            &[],
            changed!(|v| {
                let free = v.geometry.external_nlba + 250;
                v.words(v.slot(IDLE, 2), &[250, free, free, 2]);
            }),
        ),
        row("old flog layout (0,2) throughout", RewriteLog, &[], changed!(|v| to_old_layout(&v))),
        row(
            "map entry past the end",
            Force,
            &[HIT],
            changed!(|v| {
                v.words(v.entry(HIT), &[0xc000_0000 | (v.geometry.internal_nlba + 5)]);
            }),
        ),
        row("two sectors share a block", Force, &[HIT, NEXT], changed!(|v| v.words(v.entry(NEXT), &[v.map_word(HIT)]))),
        row(
            "error entry in the map",
            None,
            &[HIT],
            changed!(|v| {
                v.words(v.entry(HIT), &[MapEntry::Error(block(&v, HIT)).encode()]);
            }),
        ),
        row(
            "error flag in a flog group's old_map",
            None,
            &[],
            changed!(|v| {
                let free = v.geometry.external_nlba + 250;
                v.words(v.slot(IDLE, 0) + 4, &[0x4000_0000 | free]);
            }),
        ),
    ];
    rows.push(Damage {
        zeroes: &[FIRST],
        ..row(
            "TRIM entry (state Z) in the map",
            Portable,
            &[],
            changed!(|v| {
                v.words(v.entry(FIRST), &[MapEntry::Zero(block(&v, FIRST)).encode()]);
            }),
        )
    });
    for (sector, name) in [
        (520, "none; sectors of 520 bytes"),
        (4104, "none; sectors of 4104 bytes"),
        (4160, "none; sectors of 4160 bytes"),
        (4224, "none; sectors of 4224 bytes"),
    ] {
        rows.push(Damage { sector, ..row(name, None, &[], Victim::into_medium) });
    }
    rows.push(Damage {
        sector: 520,
        ..row(
            "flog group with sequence numbers 1 and 1; sectors of 520 bytes",
            Repair,
            &[],
            changed!(|v| {
                let free = v.geometry.external_nlba + 250;
                v.words(v.slot(IDLE, 0), &[250, free, free, 1, 250, free, free, 1]);
            }),
        )
    });
    rows
}

fn block(victim: &Victim, lba: u64) -> PostmapAba {
    let premap = PremapAba(u32::try_from(lba).expect("a small LBA"));
    MapEntry::decode(victim.map_word(lba), premap).block()
}

/// The flog as Linux before 4.15 wrote it: each second slot one further.
pub(super) fn to_old_layout(victim: &Victim) {
    for group in 0..u64::from(victim.geometry.nfree) {
        let slot = victim.read_slot(group, 1);
        victim.put(victim.slot(group, 1), &[0; 16]);
        victim.put(victim.slot(group, 2), zerocopy::IntoBytes::as_bytes(&slot));
    }
}

/// Two arenas as small as can be (their sizes are the maker's affair), the second without its first info block.
fn later_arena_without_info_block() -> Sim {
    const ARENA: u64 = 16 * MIB;
    let size = SectorSize::new(512).expect("a known size");
    let medium = Sim::new(3 * ARENA);
    let first = Victim::sound(512);
    // The first arena: what a medium of its size would have, and more follows.
    let (mut at, mut geometries) = (4096, Vec::new());
    for (bytes, more) in [(ARENA, true), (2 * ARENA - 4096, false)] {
        geometries.push((at, btt::geometry::Geometry::for_new(bytes, size, more).expect("large enough")));
        at += bytes;
    }
    for (at, geometry) in &geometries {
        let raw = btt::info_block::read_raw(&first.sim, NsOffset(first.at)).expect("within the medium");
        let version = super::PLACEMENT.version;
        let info = InfoBlock::decode(&raw, version, uuid::Uuid::nil(), BYTES).expect("it is sound");
        let info = InfoBlock { geometry: *geometry, ..info };
        let put = |offset: u64, bytes: &[u8]| medium.write(NsOffset(at + offset), bytes).expect("within the medium");
        for place in [0, geometry.info2off] {
            put(place, zerocopy::IntoBytes::as_bytes(&info.encode()));
        }
        for group in 0..geometry.nfree {
            let free = geometry.external_nlba + group;
            let words = [group, free, free, 1].map(u32::to_le_bytes).concat();
            put(geometry.logoff + u64::from(group) * 64, &words);
        }
    }
    let victim = Victim::of(medium);
    let (at, geometry) = geometries[0];
    for lba in FIRST..FIRST + COUNT {
        let sector = geometry.dataoff + lba * u64::from(geometry.internal_lbasize);
        victim.sim.write(NsOffset(at + sector), &[super::content(lba); 512]).expect("within the medium");
    }
    victim.sim.write(NsOffset(geometries[1].0), &[0; 4096]).expect("within the medium");
    victim.into_medium()
}
