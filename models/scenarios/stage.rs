//! What a model's CPUs do, and what must be true when they are done.

use std::ops::ControlFlow;
use std::sync::Arc;

use btt::check::{Finding, check};
use btt::commit::Writes;
use btt::info_block::Version;
use btt::media::{MediaError, NsOffset, SectorSink, SectorSource};
use btt::{Btt, BttError, CpuIndex, ExternalLba, Placement, RUN_MAX};
use uuid::Uuid;

use crate::checker::thread;
use crate::medium::{ModelMedium, TORN, tag};

const PLACEMENT: Placement = Placement { version: Version::V2_0, parent_uuid: Uuid::nil() };

/// A BTT on a [`ModelMedium`], and the CPUs that use it.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Btt<ModelMedium>>);

/// The sectors of a write: only their first bytes count.
struct Tags {
    lba: u32,
    version: u32,
}

impl SectorSource<ModelMedium> for Tags {
    fn store(&self, index: usize, media: &ModelMedium, at: NsOffset) -> Result<(), MediaError> {
        let index = u32::try_from(index).expect("a few");
        media.write_sector(at, tag(self.lba + index, self.version))
    }
}

/// Writes of one sector each: which, and its version.
struct TagList<'a>(&'a [(u32, u32)]);

impl SectorSource<ModelMedium> for TagList<'_> {
    fn store(&self, index: usize, media: &ModelMedium, at: NsOffset) -> Result<(), MediaError> {
        let (lba, version) = self.0[index];
        media.write_sector(at, tag(lba, version))
    }
}

impl Writes<ModelMedium> for TagList<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        ExternalLba(self.0[index].0.into())
    }
}

/// What the last copy of each sector of a read found. Copies are thrown away, so that a torn one means nothing yet.
struct Versions {
    lba: u32,
    found: Vec<u64>,
    /// The run that is copied, and how often it has been begun. In a model there is one try, and then the slow path.
    run: usize,
    tries: u32,
}

impl Versions {
    /// The versions, of copies that were kept.
    fn kept(self, medium: &ModelMedium) -> Vec<u32> {
        let version = |(lba, found): (u32, u64)| {
            assert!(found != TORN, "sector {lba} is torn");
            assert_eq!(found >> 32, u64::from(lba), "sector {lba} reads another sector's data");
            assert!(medium.was_named(found), "sector {lba} reads what is not committed: {found:#x}");
            u32::try_from(found & 0xffff_ffff).expect("32 bits")
        };
        (self.lba..).zip(self.found).map(version).collect()
    }
}

impl SectorSink<ModelMedium> for Versions {
    fn load(&mut self, index: usize, media: &ModelMedium, at: NsOffset) -> Result<(), MediaError> {
        if index.is_multiple_of(RUN_MAX) {
            let run = index / RUN_MAX;
            self.tries = if run == self.run { self.tries + 1 } else { 1 };
            self.run = run;
        }
        self.found.truncate(index);
        self.found.push(media.read_sector(at, self.tries.is_multiple_of(2))?);
        Ok(())
    }

    fn zero(&mut self, _: usize) {
        panic!("no entry is trimmed");
    }
}

impl Stage {
    /// A fresh BTT with `groups` free blocks, opened for `lanes` CPUs; the model touches the sectors `lbas`.
    pub(crate) fn new(groups: u32, lanes: u32, lbas: &[u32]) -> Self {
        Self::open(ModelMedium::new(groups, lbas), lanes)
    }

    /// The same behind as many block windows as there are lanes.
    #[cfg(feature = "loom")]
    pub(crate) fn behind_windows(groups: u32, windows: u32, lbas: &[u32]) -> Self {
        Self::open(ModelMedium::new(groups, lbas).behind_windows(windows), windows)
    }

    fn open(medium: ModelMedium, lanes: u32) -> Self {
        // A model's threads are fibres of one; its types know nothing of real ones.
        #[allow(clippy::arc_with_non_send_sync)]
        Self(Arc::new(Btt::open(medium, PLACEMENT, lanes).expect("a sound BTT")))
    }

    /// The medium below.
    pub(crate) fn medium(&self) -> &ModelMedium {
        self.0.media()
    }

    /// Lets a CPU of its own do something.
    pub(crate) fn cpu<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let stage = self.clone();
        thread::spawn(move || run(&stage))
    }

    /// Writes `count` sectors from `lba` on, all of this version.
    pub(crate) fn try_write(&self, cpu: u32, lba: u32, count: u64, version: u32) -> Result<(), BttError> {
        self.medium().set_cpu(cpu);
        self.0.lane(CpuIndex(cpu)).write(ExternalLba(lba.into()), count, &Tags { lba, version })
    }

    /// As `try_write`, on a medium without faults.
    #[cfg(feature = "loom")]
    pub(crate) fn write(&self, cpu: u32, lba: u32, count: u64, version: u32) {
        self.try_write(cpu, lba, count, version).expect("no faults");
    }

    /// Writes these versions of these sectors, and returns how many each commit took.
    pub(crate) fn try_commit(&self, cpu: u32, writes: &[(u32, u32)]) -> Result<Vec<usize>, BttError> {
        self.medium().set_cpu(cpu);
        let mut taken = Vec::new();
        while taken.iter().sum::<usize>() < writes.len() {
            taken.push(self.0.lane(CpuIndex(cpu)).commit(&TagList(writes), taken.iter().sum())?);
        }
        Ok(taken)
    }

    /// As `try_commit`, on a medium without faults.
    #[cfg(feature = "loom")]
    pub(crate) fn commit(&self, cpu: u32, writes: &[(u32, u32)]) -> Vec<usize> {
        self.try_commit(cpu, writes).expect("no faults")
    }

    /// Marks a sector as an error.
    #[cfg(feature = "loom")]
    pub(crate) fn mark_error(&self, cpu: u32, lba: u32) {
        self.medium().set_cpu(cpu);
        self.0.lane(CpuIndex(cpu)).mark_errors(ExternalLba(lba.into()), 1).expect("no faults");
    }

    /// Clears a sector of its error: it is of version 0 then. Says how many that were.
    #[cfg(feature = "loom")]
    pub(crate) fn clear_error(&self, cpu: u32, lba: u32) -> u64 {
        self.medium().set_cpu(cpu);
        self.0.lane(CpuIndex(cpu)).clear_errors(ExternalLba(lba.into()), 1).expect("no faults")
    }

    /// Reads `count` sectors from `lba` on, and returns which versions they are.
    pub(crate) fn try_read(&self, cpu: u32, lba: u32, count: u64) -> Result<Vec<u32>, BttError> {
        let mut versions = Versions { lba, found: Vec::new(), run: 0, tries: 0 };
        self.medium().set_cpu(cpu);
        self.0.reader(CpuIndex(cpu)).read(ExternalLba(lba.into()), count, &mut versions)?;
        Ok(versions.kept(self.medium()))
    }

    /// As `try_read`, on a medium without faults.
    pub(crate) fn read(&self, cpu: u32, lba: u32, count: u64) -> Vec<u32> {
        self.try_read(cpu, lba, count).expect("no faults")
    }

    /// When all CPUs are done: the medium is sound as it stands, and if the power went now and took all that is not
    /// durable; and either way each sector holds one of the versions given for it.
    pub(crate) fn judge(&self, expected: &[(u32, &[u32])]) {
        for (what, medium) in [("as it stands", self.medium().visible()), ("after a cut", self.medium().durable())] {
            let mut damage = Vec::new();
            let mut report = |finding: Finding| damage.extend(finding.is_damage().then_some(finding));
            check(&medium, PLACEMENT, u32::MAX, &mut report, &mut |_, _| ControlFlow::Continue(()));
            assert!(damage.is_empty(), "{what}: {damage:?}");
            let opened = Self::open(medium, 1);
            for (lba, versions) in expected {
                let found = opened.read(0, *lba, 1)[0];
                assert!(versions.contains(&found), "{what}: sector {lba} holds {found}, none of {versions:?}");
            }
        }
    }
}

/// Waits for a CPU to be done.
pub(crate) fn join<T>(cpu: thread::JoinHandle<T>) -> T {
    cpu.join().expect("a CPU's failure is the model's")
}
