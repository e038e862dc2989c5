//! What must be true of a BTT after a cut, whatever the cut struck.

use std::ops::ControlFlow;

use btt::bytes::SectorsMut;
use btt::check::check;
use btt::sim::Event;
use btt::{Btt, BttError, CpuIndex, ExternalLba};

use super::cut::Scene;
use super::frame::mix;
use super::medium::CutMedium;
use super::small::{LOST_TAG, PLACEMENT, SECTOR, Small, tag_of};

/// What each sector may read after a cut.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The BTT.
    pub small: Small,
    /// How many CPUs open it again.
    pub cpus: u32,
    /// For each sector the tags that it may have: the one that stands, and those of the writes under way.
    pub allowed: Vec<Vec<u64>>,
}

impl Scene for Promise {
    fn expectation(&self) -> u64 {
        let kind = u64::from(self.small.nfree) << 32 | u64::from(self.small.sectors) << 1 | u64::from(self.cpus) << 16;
        self.allowed.iter().fold(mix(kind, self.small.persistence as u64), |hash, tags| {
            tags.iter().fold(mix(hash, tags.len() as u64), |hash, tag| mix(hash, *tag))
        })
    }

    fn is_data(&self, at: u64) -> bool {
        self.small.is_data(at)
    }

    fn judge(&self, medium: &CutMedium) -> Result<Vec<Event>, String> {
        medium.set_read_only(true);
        let frozen = Btt::open(medium, PLACEMENT, self.cpus).map_err(|why| format!("it does not open: {why}"))?;
        let shown = self.read(&frozen, "read-only")?;
        drop(frozen);
        medium.set_read_only(false);
        if !medium.take_events().is_empty() {
            return Err("a read-only open stored something".into());
        }

        let btt = Btt::open(medium, PLACEMENT, self.cpus).map_err(|why| format!("recovery fails: {why}"))?;
        if self.read(&btt, "recovered")? != shown {
            return Err("the overlay of a read-only open differs from what recovery makes".into());
        }
        btt.close().map_err(|why| format!("it does not close: {why}"))?;
        let events = medium.take_events();

        let mut found = None;
        check(medium, PLACEMENT, u32::MAX, &mut |finding| found = found.or(Some(finding)), &mut |_, _| {
            ControlFlow::Continue(())
        });
        if let Some(finding) = found {
            return Err(format!("after recovery: {finding}"));
        }
        let again = Btt::open(medium, PLACEMENT, self.cpus).map_err(|why| format!("the second open fails: {why}"))?;
        if again.recovered_writes() != 0 || !medium.take_events().is_empty() {
            return Err("the second open still finds something to recover".into());
        }
        Ok(events)
    }
}

impl Promise {
    fn read<M: btt::media::Medium>(&self, btt: &Btt<M>, how: &str) -> Result<Vec<u64>, String> {
        let mut bytes = vec![0; self.allowed.len() * SECTOR];
        let mut sink = SectorsMut::new(&mut bytes, btt.sector_size()).ok_or("sectors of another size")?;
        let mut lost = vec![false; self.allowed.len()];
        let result = btt.reader(CpuIndex(0)).read(ExternalLba(0), self.allowed.len() as u64, &mut sink);
        match result {
            Ok(()) => {}
            Err(BttError::SectorError { .. }) => {
                for ((lba, lost), sector) in (0..).zip(&mut lost).zip(bytes.chunks_exact_mut(SECTOR)) {
                    let mut sink = SectorsMut::new(sector, btt.sector_size()).ok_or("sectors of another size")?;
                    match btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut sink) {
                        Ok(()) => {}
                        Err(BttError::SectorError { .. }) => *lost = true,
                        Err(why) => return Err(format!("{how}: {why}")),
                    }
                }
            }
            Err(why) => return Err(format!("{how}: {why}")),
        }
        let mut tags = Vec::with_capacity(self.allowed.len());
        for ((lba, sector), allowed) in bytes.chunks_exact(SECTOR).enumerate().zip(&self.allowed) {
            let tag = if lost[lba] { Some(LOST_TAG) } else { tag_of(sector) };
            let tag = tag.ok_or_else(|| format!("{how}: sector {lba} is torn"))?;
            if !allowed.contains(&tag) {
                return Err(format!("{how}: sector {lba} reads {tag:#x}, not one of {allowed:#x?}"));
            }
            tags.push(tag);
        }
        Ok(tags)
    }
}
