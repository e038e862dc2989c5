//! What untorn makes of a damaged medium.

use btt::bytes::SectorsMut;
use btt::check::{Finding, check};
use btt::repair::{RepairOptions, forbid_zero_entries, repair};
use btt::sim::{Seeded, Sim};
use btt::{Btt, BttError, CpuIndex, ExternalLba, OpenError};
use uuid::Uuid;

use super::kinds::{Damage, to_old_layout};
use super::{COUNT, FIRST, PLACEMENT, Victim, content};

/// How a medium is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// There is nothing to mend.
    None,
    /// `check-namespace -R`
    Repair,
    /// `check-namespace -R -f`, where `-R` alone leaves something.
    Force,
    /// `check-namespace -L`
    RewriteLog,
    /// `check-namespace --portable`
    Portable,
}

impl Cure {
    /// As it is written in docs/repair.md.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::None => "nothing to do",
            Self::Repair => "`-R`",
            Self::Force => "`-R -f`",
            Self::RewriteLog => "`-L`",
            Self::Portable => "`--portable`",
        }
    }
}

/// What untorn found.
#[derive(Debug)]
pub struct Verdict {
    /// When it notices.
    pub detected: &'static str,
    /// The medium, mended.
    pub mended: Sim,
}

/// Looks at a damaged medium, and mends it.
///
/// # Panics
/// When it does not come out as it should.
#[must_use]
pub fn judge(damage: &Damage, medium: &Sim) -> Verdict {
    let what = damage.name;
    let detected = detected(&medium.fork());
    let mended = medium.fork();
    match damage.cure {
        Cure::None => {
            // Opened and closed: what was interrupted is finished.
            let btt = Btt::open(&mended, PLACEMENT, 1).unwrap_or_else(|why| panic!("{what}: {why}"));
            assert!(btt.close().is_ok(), "{what}");
        }
        Cure::Repair => assert!(mend(&mended, false, false), "{what}: -R leaves something"),
        Cure::Force => {
            assert!(!mend(&medium.fork(), false, false), "{what}: -R alone would do");
            assert!(mend(&mended, false, true), "{what}: -R -f leaves something");
        }
        Cure::RewriteLog => {
            mend(&mended, true, false);
        }
        Cure::Portable => {
            let btt = Btt::open(&mended, PLACEMENT, 1).unwrap_or_else(|why| panic!("{what}: {why}"));
            let written = btt.lane(CpuIndex(0)).write_out_zero_entries(&mut |_, _| ());
            assert_eq!(written, Ok(1), "{what}");
            assert!(btt.close().is_ok(), "{what}");
            forbid_zero_entries(&mended, PLACEMENT).unwrap_or_else(|why| panic!("{what}: {why}"));
        }
    }
    assert_eq!(findings(&mended), [], "{what}");
    let btt = Btt::open(&mended, PLACEMENT, 2).unwrap_or_else(|why| panic!("{what}: {why}"));
    for lba in FIRST..FIRST + COUNT {
        let expected = if damage.lost.contains(&lba) {
            Err(BttError::SectorError { lba: ExternalLba(lba) })
        } else if damage.zeroes.contains(&lba) {
            Ok(0)
        } else {
            Ok(content(lba))
        };
        assert_eq!(read(&btt, lba), expected, "{what}: LBA {lba}");
    }
    drop(btt);
    Verdict { detected, mended: mended.settled() }
}

fn detected(medium: &Sim) -> &'static str {
    let found = findings(medium);
    let btt = match Btt::open(medium, PLACEMENT, 2) {
        Ok(btt) => btt,
        Err(OpenError::NotABtt) => return "not a BTT",
        Err(_) => return "refused, names the place",
    };
    if btt.recovered_writes() > 0 {
        return "finished on attach";
    }
    if btt.arenas().any(|arena| arena.read_only.is_some()) {
        return "read-only";
    }
    if (FIRST..FIRST + COUNT).any(|lba| matches!(read(&btt, lba), Err(BttError::ReadOnly { .. }))) {
        return "at the access: read-only";
    }
    if found.is_empty() { "served" } else { "served; check" }
}

fn findings(medium: &Sim) -> Vec<Finding> {
    let mut found = Vec::new();
    check(medium, PLACEMENT, u32::MAX, &mut |finding| found.push(finding), &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    });
    found
}

fn read(btt: &Btt<&Sim>, lba: u64) -> Result<u8, BttError> {
    let size = btt.sector_size();
    let mut sector = vec![0xee; size.bytes() as usize];
    let mut sink = SectorsMut::new(&mut sector, size).expect("a whole sector");
    btt.reader(CpuIndex(0)).read(ExternalLba(lba), 1, &mut sink)?;
    assert!(sector.iter().all(|byte| *byte == sector[0]), "LBA {lba} is torn");
    Ok(sector[0])
}

/// Whether something was found, and all of it mended.
fn mend(medium: &Sim, rewrite_log: bool, force: bool) -> bool {
    let (mut found, mut left) = (0, 0);
    let options = RepairOptions {
        repair: !rewrite_log,
        rewrite_log,
        force,
        fresh_uuid: Uuid::from_u128(0x7e57),
        window_blocks: u32::MAX,
    };
    let mut count = |_: Finding, repaired: bool| {
        found += 1;
        left += u32::from(!repaired);
    };
    repair(medium, PLACEMENT, &options, &mut count, &mut |_, _| ());
    found > 0 && left == 0
}

/// Whether a medium that another program has repaired opens, is sound, and reads nothing that was not written: each sector
/// reads as it should, or is an error where it may be one.
#[must_use]
pub fn reads_right(damage: &Damage, image: Vec<u8>) -> bool {
    let medium = Sim::from_image(image);
    let Ok(btt) = Btt::open(&medium, PLACEMENT, 1) else { return false };
    let right = |lba| match read(&btt, lba) {
        Ok(byte) => byte == content(lba),
        Err(_) => damage.lost.contains(&lba),
    };
    (FIRST..FIRST + COUNT).all(right) && findings(&medium).is_empty()
}

/// Media as power cuts leave them in the rewriting of an old flog: after each of the first steps, after some of the
/// others, and at the end.
#[must_use]
pub fn old_layout_cuts(first: usize, others: usize) -> Vec<Sim> {
    let victim = Victim::sound(512);
    to_old_layout(&victim);
    let medium = victim.into_medium();
    let (replay, recording) = (medium.fork(), medium.fork());
    recording.record();
    mend(&recording, true, false);
    let events = recording.recorded();
    let mut random = Seeded::new(17);
    let mut cuts = Vec::new();
    for (number, event) in events.iter().enumerate() {
        replay.replay(event);
        let one_of_some = (number + 1).is_multiple_of(events.len() / others);
        if number < first || one_of_some || number + 1 == events.len() {
            cuts.push(replay.crash(&mut random));
        }
    }
    cuts
}
