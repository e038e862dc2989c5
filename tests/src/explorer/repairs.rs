//! Repairs and the rewriting of a flog, cut anywhere: the same repair then goes on, and cutting that one changes nothing.

use std::ops::ControlFlow;

use btt::check::check;
use btt::info_block::{InfoBlock, read_raw};
use btt::layout::{FLOG_GROUP_BYTES, FLOG_SLOT_BYTES, MAP_ENTRY_BYTES};
use btt::map::MapEntry;
use btt::media::{Medium, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::{Event, Persistence, Sim};
use btt::{Btt, PostmapAba};
use uuid::Uuid;
use zerocopy::IntoBytes as _;

use super::cut::Scene as _;
use super::medium::CutMedium;
use super::promise::Promise;
use super::single::{Operation, kind};
use super::small::{BYTES, LOST_TAG, PLACEMENT, Small, first_tag};

/// What is to be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// None: the flog has the old layout, and is to get the new one.
    OldLayout,
    /// None: the flog is to get one record a group.
    WornFlog,
    /// Writes that were interrupted.
    Interrupted,
    /// A flog group whose sequence numbers do not follow.
    Group,
    /// Two flog groups.
    Groups,
    /// A flog group whose newest record, in its second slot, has lost its number. The older one beside it would be sound
    /// alone, and is of long ago: the block that it freed is in use.
    OlderInFirstSlot,
    /// The same with the slots changed.
    OlderInSecondSlot,
    /// A flog group whose write was interrupted: what its sector holds has no certain answer.
    DoubtfulGroup,
    /// The first info block.
    Primary,
    /// The backup info block.
    Backup,
    /// The error flag in the info block.
    ErrorFlag,
    /// Two sectors with one block.
    SharedBlock,
    /// A map entry that leads out of the arena.
    LostEntry,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OldLayout,
        Self::WornFlog,
        Self::Interrupted,
        Self::Group,
        Self::Groups,
        Self::OlderInFirstSlot,
        Self::OlderInSecondSlot,
        Self::DoubtfulGroup,
        Self::Primary,
        Self::Backup,
        Self::ErrorFlag,
        Self::SharedBlock,
        Self::LostEntry,
    ];
}

/// The repair of some damage.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// What is damaged.
    pub damage: Damage,
    /// When what is stored persists.
    pub persistence: Persistence,
}

impl Repair {
    const fn small(&self) -> Small {
        let interrupted = matches!(self.damage, Damage::Interrupted | Damage::DoubtfulGroup | Damage::OldLayout);
        Small { sectors: 6, nfree: 4, persistence: self.persistence, interrupted }
    }

    /// Whether the BTT opens before, and so at every moment. (The error flag's change may tear the first info block: then
    /// its copy, written before, has the new flags.)
    const fn opens(&self) -> bool {
        matches!(self.damage, Damage::OldLayout | Damage::WornFlog | Damage::Interrupted | Damage::Backup)
    }

    const fn options(&self) -> RepairOptions {
        RepairOptions {
            repair: !matches!(self.damage, Damage::OldLayout | Damage::WornFlog),
            rewrite_log: matches!(self.damage, Damage::OldLayout | Damage::WornFlog),
            force: matches!(self.damage, Damage::DoubtfulGroup | Damage::SharedBlock | Damage::LostEntry),
            fresh_uuid: Uuid::from_u128(0x1234),
            window_blocks: u32::MAX,
        }
    }

    fn mend<M: Medium>(&self, media: &M) {
        repair(media, PLACEMENT, &self.options(), &mut |_, _| (), &mut |_, _| ());
    }

    fn groups_have_one_record(&self, medium: &CutMedium) -> bool {
        let Small { nfree, .. } = self.small();
        let groups = (0..u64::from(nfree)).map(|number| self.small().geometry().logoff + number * FLOG_GROUP_BYTES);
        let mut others = groups.flat_map(|group| (group + FLOG_SLOT_BYTES..group + FLOG_GROUP_BYTES).step_by(8));
        others.all(|at| medium.load_u64(NsOffset(at)) == Ok(0))
    }

    fn promise(&self) -> Promise {
        let small = self.small();
        let mut allowed: Vec<Vec<u64>> = (0..small.sectors).map(|lba| vec![first_tag(lba)]).collect();
        match self.damage {
            Damage::SharedBlock => allowed[4..6].fill(vec![LOST_TAG]),
            Damage::DoubtfulGroup => allowed[2] = vec![LOST_TAG],
            Damage::LostEntry => allowed[5] = vec![LOST_TAG],
            _ => {}
        }
        Promise { small, cpus: 2, allowed }
    }
}

fn is_clean(media: &CutMedium) -> Result<(), String> {
    let mut found = None;
    check(media, PLACEMENT, u32::MAX, &mut |finding| found = found.or(Some(finding)), &mut |_, _| {
        ControlFlow::Continue(())
    });
    found.map_or(Ok(()), |finding| Err(finding.to_string()))
}

impl Operation for Repair {
    fn name(&self) -> String {
        format!("repair {:?}{}", self.damage, kind(self.persistence))
    }

    fn before(&self) -> Sim {
        let small = self.small();
        let geometry = small.geometry();
        let sim = Sim::from_start(small.make().bytes().to_vec(), BYTES).with_persistence(self.persistence);
        let put = |at: u64, bytes: &[u8]| sim.write(NsOffset(at), bytes).expect("within the medium");
        let group = |number: u64| geometry.logoff + number * FLOG_GROUP_BYTES;
        let entry = |lba: u64| geometry.mapoff + lba * MAP_ENTRY_BYTES;
        match self.damage {
            Damage::OldLayout => {
                for number in 0..u64::from(small.nfree) {
                    let mut slot = [0; 16];
                    sim.visible(NsOffset(group(number) + FLOG_SLOT_BYTES), &mut slot);
                    put(group(number) + 2 * FLOG_SLOT_BYTES, &slot);
                    put(group(number) + FLOG_SLOT_BYTES, &[0; 16]);
                }
            }
            Damage::WornFlog | Damage::Interrupted => {}
            Damage::Group => put(group(1) + 12, &2_u32.to_le_bytes()),
            Damage::Groups => [0, 1].into_iter().for_each(|number| put(group(number) + 12, &7_u32.to_le_bytes())),
            Damage::OlderInFirstSlot | Damage::OlderInSecondSlot => {
                // The group moved sector 4 from block 1 to its own, and then sector 1 to block 1: block 7 is free now.
                let slot = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
                let in_first = self.damage == Damage::OlderInFirstSlot;
                let older = slot([4, 1, 4, if in_first { 1 } else { 2 }]);
                // Its number was the next one.
                let newest = slot([1, 7, 1, 7]);
                put(group(1), &if in_first { [older, newest] } else { [newest, older] }.concat());
            }
            Damage::DoubtfulGroup => put(group(2) + 12, &7_u32.to_le_bytes()),
            // Where its copy is must be left: that of so small a BTT is not at the end.
            Damage::Primary => put(16, &[0x55; 16]),
            Damage::Backup => put(geometry.info2off + 80, &[0x55; 100]),
            Damage::ErrorFlag => {
                let (uuid, parent_uuid) = (Uuid::from_u128(0x1234), Uuid::nil());
                let flags = InfoBlock::ERROR_FLAG | InfoBlock::ZERO_ENTRIES;
                let info = InfoBlock { uuid, parent_uuid, flags, version: PLACEMENT.version, geometry };
                put(0, info.encode().as_bytes());
                put(geometry.info2off, info.encode().as_bytes());
            }
            Damage::SharedBlock => put(entry(4), &MapEntry::Normal(PostmapAba(5)).encode().to_le_bytes()),
            Damage::LostEntry => put(entry(5), &MapEntry::Normal(PostmapAba(9999)).encode().to_le_bytes()),
        }
        sim.settled()
    }

    fn act(&self, sim: &Sim) -> Result<(), String> {
        self.mend(sim);
        Ok(())
    }

    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String> {
        if self.opens() {
            medium.set_read_only(true);
            Btt::open(medium, PLACEMENT, 2).map_err(|why| format!("a sound BTT does not open any more: {why}"))?;
            medium.set_read_only(false);
        }
        // Linux takes a namespace with neither for one that may be formatted.
        let is_info = |at| {
            let raw = read_raw(medium, NsOffset(at));
            raw.is_ok_and(|raw| InfoBlock::decode(&raw, PLACEMENT.version, PLACEMENT.parent_uuid, BYTES).is_ok())
        };
        if !is_info(0) && !is_info(self.small().geometry().info2off) {
            return Err("no info block is sound".into());
        }
        if done {
            is_clean(medium).map_err(|why| format!("the repair has ended: {why}"))?;
            // The next write would use the other slots of some groups, and those of the old layout beside them are
            // more than Linux takes.
            if self.options().rewrite_log && !self.groups_have_one_record(medium) {
                return Err("the repair has ended, and a flog group still has two records".into());
            }
        }
        self.mend(medium);
        let events = medium.take_events();
        is_clean(medium).map_err(|why| format!("repaired again: {why}"))?;
        self.promise().judge(medium)?;
        Ok(events)
    }

    fn is_data(&self, at: u64) -> bool {
        self.small().is_data(at)
    }
}
