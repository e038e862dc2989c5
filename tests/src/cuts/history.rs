//! What a load has written, computed anew from its seed.
//!
//! A load on one CPU, or a thread of a consumer, writes its runs one after the other, each with a version one higher, and
//! begins none before the last one is acknowledged. So the highest version V that is found decides all: every run below V was
//! acknowledged, and its sectors hold the last such version; the sectors of run V hold it or what they held before. Where
//! it is known that run V was acknowledged, they hold it.

use std::collections::BTreeMap;
use std::ops::Range;

use service::pattern::{Choices, Verdict, verify};

/// The load: as `bench` on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its seed.
    pub seed: u64,
    /// How many of a hundred runs write.
    pub write_percent: u64,
    /// Sectors of a run.
    pub run: u32,
}

/// Holds each of the load's sectors against what it must have left there. `sector` reads one; the version `acknowledged`,
/// and all below it, are known to have been. The highest version.
///
/// # Errors
/// The first sector that is not as it must be.
pub fn judge<'a>(
    load: Load,
    cpus: u32,
    sectors: Range<u32>,
    acknowledged: u64,
    sector: impl Fn(u32) -> &'a [u8],
) -> Result<u64, String> {
    let mut found = BTreeMap::new();
    for lba in sectors.clone() {
        match verify(sector(lba)) {
            Verdict::Blank => {}
            Verdict::Whole(tag) if tag.lba.0 == u64::from(lba) && tag.seed == load.seed => {
                found.insert(lba, tag.version);
            }
            other => return Err(format!("sector {lba} is {other:?}")),
        }
    }
    let last = found.values().copied().max().unwrap_or(0).max(acknowledged);
    if cpus > 1 {
        // Which run came first is unknown.
        return Ok(last);
    }
    let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
    let mut choices = Choices::new(load.seed, 0);
    let mut version = 0;
    while version < last {
        let lba = choices.below((sectors.end - sectors.start - load.run + 1).into());
        if choices.below(100) >= load.write_percent {
            continue;
        }
        version += 1;
        let lba = sectors.start + u32::try_from(lba).map_err(|_| "too many sectors")?;
        for lba in lba..lba + load.run {
            if version < last || version <= acknowledged || found.get(&lba) == Some(&last) {
                expected.insert(lba, version);
            }
        }
    }
    let differs = sectors.clone().find(|lba| expected.get(lba) != found.get(lba));
    match differs {
        None => Ok(last),
        Some(lba) => Err(format!(
            "sector {lba} holds version {:?}, not {:?}, and version {last} was the last to be written",
            found.get(&lba),
            expected.get(&lba)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::lba::Lba;
    use service::pattern::{Tag, fill};

    #[test]
    fn a_lost_and_a_torn_sector_are_seen_and_one_that_was_being_written_is_not() {
        let load = Load { seed: 7, write_percent: 50, run: 4 };
        let sectors = 64;
        let mut disk = vec![[0; 512]; sectors as usize];
        let (mut choices, mut version) = (Choices::new(7, 0), 0);
        let (mut before_last, mut last) = (disk.clone(), 0);
        while version < 9 {
            let lba = u32::try_from(choices.below(u64::from(sectors) - 4 + 1)).expect("small");
            if choices.below(100) < 50 {
                version += 1;
                (before_last, last) = (disk.clone(), lba);
                for lba in lba..lba + 4 {
                    fill(&mut disk[lba as usize], Tag { lba: Lba(lba.into()), version, seed: 7 });
                }
            }
        }
        let judged_after =
            |acknowledged, disk: &Vec<[u8; 512]>| judge(load, 1, 0..sectors, acknowledged, |lba| &disk[lba as usize]);
        let judged = |disk: &Vec<[u8; 512]>| judged_after(8, disk);
        assert_eq!(judged(&disk), Ok(9));
        assert_eq!(judged_after(9, &disk), Ok(9));
        let mut half = disk.clone();
        half[last as usize] = before_last[last as usize];
        assert_eq!(judged(&half), Ok(9), "the last run was being written");
        assert!(judged_after(9, &half).is_err(), "the last run was acknowledged");
        assert_eq!(judged(&before_last), Ok(8), "nothing of the last run came down");
        assert!(judged_after(9, &before_last).is_err(), "the last run is lost");
        let lost = (0..sectors).find(|lba| !(last..last + 4).contains(lba) && disk[*lba as usize] != [0; 512]);
        let lost = lost.expect("another run") as usize;
        let mut other = disk.clone();
        other[lost] = [0; 512];
        assert!(judged(&other).is_err(), "an acknowledged run is lost");
        let mut torn = disk;
        torn[lost][256..264].fill(1);
        assert!(judged(&torn).is_err(), "a sector is torn");
    }
}
