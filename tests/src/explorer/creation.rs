//! Creation, cut anywhere: what stood before, nothing, or a complete new BTT.

use std::ops::ControlFlow;

use btt::bytes::SectorsMut;
use btt::check::check;
use btt::format::{FormatOptions, format};
use btt::geometry::{Geometry, SectorSize};
use btt::info_block::{Version, read_raw};
use btt::layout::{ARENA_MIN_BYTES, PAGE_BYTES, RawInfoBlock};
use btt::media::{Medium as _, NsOffset};
use btt::sim::{Event, Sim};
use btt::{Btt, CpuIndex, ExternalLba, OpenError, Placement};
use uuid::Uuid;

use super::medium::CutMedium;
use super::single::Operation;

/// How large the namespace is: one arena.
const BYTES: u64 = ARENA_MIN_BYTES + PAGE_BYTES;
const SECTOR: u32 = 4096;
const OTHER_SECTOR: u32 = 512;
/// Sectors that are looked at.
const SECTORS: u64 = 3;
const OLD: u128 = 0x01d;
const NEW: u128 = 0x2e3;

/// Creation of a BTT.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// The version, which fixes where the first info block is.
    pub version: Version,
    /// What stands there before.
    pub over: Over,
}

/// What is on the medium before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Blank,
    /// Another BTT, of this version, with data.
    Btt(Version),
    /// What a cut left of another creation, of the same version with other sectors: its info blocks lack only the first
    /// 8 bytes, so that they would be sound with those of the new ones.
    Remains,
}

fn format_options(version: Version, uuid: u128, zero_data: bool) -> FormatOptions {
    let sector_size = SectorSize::new(SECTOR).expect("a known size");
    let (uuid, parent_uuid) = (Uuid::from_u128(uuid), Uuid::nil());
    FormatOptions { sector_size, uuid, parent_uuid, version, zero_data, zero_entries: false }
}

/// Leaves on the medium what [`Over::Remains`] describes.
fn begin_another(sim: &Sim, version: Version) {
    let sector_size = SectorSize::new(OTHER_SECTOR).expect("a known size");
    let options = FormatOptions { sector_size, ..format_options(version, OLD, false) };
    format(sim, &options, &mut |_, _| ()).expect("a sound medium");
    let at = version.initial_offset();
    let raw = read_raw(sim, at).expect("a sound medium");
    for copy in [at, at.plus(raw.info2off.get())] {
        sim.write(copy, &[0; 8]).expect("a sound medium");
    }
}

const fn placement(version: Version) -> Placement {
    Placement { version, parent_uuid: Uuid::nil() }
}

impl Creation {
    /// A BTT that opened: it is the old one with its data, or the new one without any.
    fn look(&self, btt: &Btt<&CutMedium>, medium: &CutMedium, placement: Placement) -> Result<(), String> {
        let new = btt.uuid() == Uuid::from_u128(NEW);
        if !new && !matches!(self.over, Over::Btt(_)) {
            return Err("a BTT that nobody made".into());
        }
        let mut sectors = vec![0xee; SECTOR as usize];
        for lba in 0..SECTORS {
            let mut sink = SectorsMut::new(&mut sectors, btt.sector_size()).ok_or("sectors of another size")?;
            btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut sink).map_err(|why| why.to_string())?;
            let tag = if new { 0 } else { 0x51 };
            if sectors.iter().any(|byte| *byte != tag) {
                return Err(format!(
                    "sector {lba} of the {} BTT reads {:#x}",
                    if new { "new" } else { "old" },
                    sectors[0]
                ));
            }
        }
        let mut found = None;
        check(medium, placement, u32::MAX, &mut |finding| found = found.or(Some(finding)), &mut |_, _| {
            ControlFlow::Continue(())
        });
        // The old BTT's copy goes first or last: where only that is lost, the BTT is whole.
        match found {
            Some(btt::check::Finding::Backup { .. }) if !new => Ok(()),
            Some(finding) => Err(finding.to_string()),
            None => Ok(()),
        }
    }

    fn open(&self, medium: &CutMedium, version: Version) -> Result<Shown, String> {
        let placement = placement(version);
        match Btt::open(medium, placement, 1) {
            Ok(btt) => {
                self.look(&btt, medium, placement)?;
                let new = btt.uuid() == Uuid::from_u128(NEW);
                Ok(if new { Shown::New } else { Shown::Old })
            }
            Err(OpenError::NotABtt | OpenError::InfoBlock { backup: None, .. }) => Ok(Shown::None),
            Err(OpenError::InfoBlock { backup: Some(copy), at, .. }) => {
                // A repair takes the copy: then it must be one of the two, and whole.
                let mut page = [0; size_of::<RawInfoBlock>()];
                medium.read(copy, &mut page).map_err(|why| why.to_string())?;
                medium.write(at, &page).map_err(|why| why.to_string())?;
                let btt = Btt::open(medium, placement, 1).map_err(|why| format!("with its copy restored: {why}"))?;
                self.look(&btt, medium, placement).map_err(|why| format!("with its copy restored: {why}"))?;
                Ok(Shown::None)
            }
            Err(why) => Err(why.to_string()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Shown {
    None,
    Old,
    New,
}

impl Operation for Creation {
    fn name(&self) -> String {
        let over = match self.over {
            Over::Blank => "a blank namespace".into(),
            Over::Btt(version) => format!("a BTT {version}"),
            Over::Remains => "what is left of another creation".into(),
        };
        format!("create {} over {over}", self.version)
    }

    fn before(&self) -> Sim {
        let sim = Sim::new(BYTES);
        if self.over == Over::Remains {
            begin_another(&sim, self.version);
        }
        if let Over::Btt(version) = self.over {
            format(&sim, &format_options(version, OLD, false), &mut |_, _| ()).expect("a sound medium");
            let btt = Btt::open(&sim, placement(version), 1).expect("a fresh BTT");
            let bytes = [0x51; SECTOR as usize].repeat(usize::try_from(SECTORS).expect("a few"));
            let source = btt::bytes::Sectors::new(&bytes, btt.sector_size()).expect("whole sectors");
            btt.lane(CpuIndex(0)).write(ExternalLba(0), SECTORS, &source).expect("a sound medium");
            btt.drain().expect("a sound medium");
        }
        sim.settled()
    }

    fn act(&self, sim: &Sim) -> Result<(), String> {
        format(sim, &format_options(self.version, NEW, true), &mut |_, _| ()).map_err(|why| why.to_string())
    }

    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String> {
        let found = self.open(medium, self.version)?;
        if done && found != Shown::New {
            return Err("creation has ended, and there is no new BTT".into());
        }
        if let Over::Btt(old) = self.over
            && old != self.version
            && found == Shown::New
            && self.open(medium, old)? != Shown::None
        {
            return Err("the new BTT is there, and so is the old one".into());
        }
        Ok(Vec::new())
    }

    fn is_data(&self, at: u64) -> bool {
        let start = self.version.initial_offset().0;
        let geometry = Geometry::for_new(BYTES - start, SectorSize::new(SECTOR).expect("a known size"), false);
        let Ok(geometry) = geometry else { return false };
        // Not where the other version's info block would be: that is looked at.
        at >= 2 * PAGE_BYTES && NsOffset(start).plus(geometry.dataoff).0 <= at && at < start + geometry.mapoff
    }
}
