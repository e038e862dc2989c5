//! Runs of sectors in ordinary memory, as the writes of a commit.

use core::fmt;

use crate::commit::Writes;
use crate::geometry::SectorSize;
use crate::media::{MediaError, Medium, NsOffset, SectorSource};
use crate::units::ExternalLba;

/// The first sector of a run, and the data of all its sectors.
pub type RunOf<R> = fn(&R) -> (ExternalLba, &[u8]);

/// Runs of whole sectors, one after the other.
pub struct Runs<'a, R> {
    runs: &'a [R],
    run_of: RunOf<R>,
    size: usize,
}

impl<R> fmt::Debug for Runs<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("count", &self.runs.len()).finish_non_exhaustive()
    }
}

impl<'a, R> Runs<'a, R> {
    /// These runs, each of at least one whole sector of this size.
    #[must_use]
    pub const fn new(runs: &'a [R], run_of: RunOf<R>, size: SectorSize) -> Self {
        Self { runs, run_of, size: size.bytes() as usize }
    }

    /// How many sectors each has.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().map(|run| (self.run_of)(run).1.len() / self.size)
    }

    /// Sector `index` of all: its number, and its data.
    fn sector(&self, index: usize) -> (ExternalLba, &'a [u8]) {
        let mut left = index;
        for run in self.runs {
            let (first, data) = (self.run_of)(run);
            let count = data.len() / self.size;
            if left < count {
                return (ExternalLba(first.0 + left as u64), &data[left * self.size..][..self.size]);
            }
            left -= count;
        }
        unreachable!("there is no sector {index}")
    }
}

impl<M: Medium, R> SectorSource<M> for Runs<'_, R> {
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, self.sector(index).1)
    }
}

impl<M: Medium, R> Writes<M> for Runs<'_, R> {
    fn count(&self) -> usize {
        self.counts().sum()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        self.sector(index).0
    }
}
