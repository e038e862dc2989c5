//! A cut after which the medium has lost a map line, too: the BTT opens, without the sectors of that line.
//!
//! One run writes two sectors whose entries lie in two map lines, and then one of the lines is lost. Where a record names a
//! sector of the lost line, recovery cannot know what that sector holds: the arena takes no writes, and recovery is an
//! overlay (invariant 6). The other sector reads through it: after an acknowledged write never its old content.

use btt::bytes::{Sectors, SectorsMut};
use btt::layout::{LINE_ENTRIES, MAP_ENTRY_BYTES};
use btt::media::LINE_BYTES;
use btt::sim::{Event, Persistence, Sim};
use btt::{Btt, BttError, CpuIndex, ExternalLba};

use super::medium::CutMedium;
use super::single::{Operation, kind};
use super::small::{BYTES, PLACEMENT, SECTOR, Small, content, first_tag, tag_of};

/// The first sector that is written: the last one of the first map line.
const FIRST: u32 = LINE_ENTRIES - 1;

/// The content that is written.
const fn new_tag(lba: u32) -> u64 {
    0x4E4E_0000_0000_0000 | lba as u64
}

/// A write of two sectors, with one of their map lines lost after the cut.
#[derive(Clone, Copy, Debug)]
pub struct LostLine {
    /// The line: 0 or 1.
    pub line: u32,
    /// When what is stored persists.
    pub persistence: Persistence,
}

impl LostLine {
    const fn small(&self) -> Small {
        Small { sectors: FIRST + 2, nfree: 2, persistence: self.persistence, interrupted: false }
    }

    fn read(btt: &Btt<&CutMedium>, lba: u32) -> Result<Option<u64>, BttError> {
        let mut bytes = [0; SECTOR];
        let mut sink = SectorsMut::new(&mut bytes, btt.sector_size()).expect("one sector");
        btt.reader(CpuIndex(0)).read(ExternalLba(lba.into()), 1, &mut sink)?;
        Ok(tag_of(&bytes))
    }
}

impl Operation for LostLine {
    fn name(&self) -> String {
        format!("write, and lose map line {}{}", self.line, kind(self.persistence))
    }

    fn before(&self) -> Sim {
        Sim::from_start(self.small().make().bytes().to_vec(), BYTES).with_persistence(self.persistence)
    }

    fn act(&self, sim: &Sim) -> Result<(), String> {
        let btt = Btt::open(sim, PLACEMENT, 1).map_err(|why| why.to_string())?;
        let bytes = [FIRST, FIRST + 1].map(|lba| content(new_tag(lba))).concat();
        let source = Sectors::new(&bytes, btt.sector_size()).expect("two sectors");
        btt.lane(CpuIndex(0)).write(ExternalLba(FIRST.into()), 2, &source).map_err(|why| why.to_string())
    }

    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String> {
        let (lost, other) = (FIRST + self.line, FIRST + 1 - self.line);
        let start = self.small().geometry().mapoff + u64::from(self.line * LINE_ENTRIES) * MAP_ENTRY_BYTES;
        medium.lose(start..start + LINE_BYTES);
        let btt = Btt::open(medium, PLACEMENT, 1).map_err(|why| format!("it does not open: {why}"))?;
        let events = medium.take_events();
        let read_only = btt.arenas().any(|arena| arena.read_only.is_some());
        if done && !read_only {
            return Err("the arena takes writes, and a sector's content is not certain".into());
        }
        if read_only && !events.is_empty() {
            return Err("the arena takes no writes, and opening it stored something".into());
        }
        let tag = Self::read(&btt, other).map_err(|why| format!("sector {other}: {why}"))?;
        let allowed = [Some(new_tag(other)), Some(first_tag(other))];
        if !allowed[..if done { 1 } else { 2 }].contains(&tag) {
            return Err(format!("sector {other} reads {tag:#x?}, not one of {allowed:#x?}, the write done: {done}"));
        }
        if let Ok(tag) = Self::read(&btt, lost) {
            return Err(format!("sector {lost}, whose map line is lost, reads {tag:#x?}"));
        }
        Ok(events)
    }

    fn is_data(&self, at: u64) -> bool {
        self.small().is_data(at)
    }
}
