//! A lane in use: the way to change sectors, and what makes their map entries durable.

use alloc::vec::Vec;

use crate::device::Btt;
use crate::error::{BttError, ReadOnlyReason};
use crate::lane::{Counters, Lane, LaneState};
use crate::map::Unfenced;
use crate::media::{LINE_BYTES, MediaError, Medium};
use crate::sync::MutexGuard;
use crate::units::{CpuIndex, LaneIndex};

/// A lane, locked: the way to write sectors. (They are read without one: [`crate::read`].)
pub struct LaneGuard<'a, M> {
    pub(crate) btt: &'a Btt<M>,
    pub(crate) index: LaneIndex,
    pub(crate) state: MutexGuard<'a, LaneState>,
}

/// Proof that the data of a run are durable: only then may its flog records be stored (invariant 3).
#[must_use]
pub(crate) struct DataDurable(());

impl<'a, M: Medium> LaneGuard<'a, M> {
    pub(crate) fn new(btt: &'a Btt<M>, index: LaneIndex) -> Self {
        Self { btt, index, state: btt.lanes[index.0 as usize].lock() }
    }

    /// The lane, if nobody has it.
    fn try_new(btt: &'a Btt<M>, index: LaneIndex) -> Option<Self> {
        btt.lanes[index.0 as usize].try_lock().map(|state| Self { btt, index, state })
    }

    /// Returns what the lane has done since the last call.
    pub fn take_counters(&mut self) -> Counters {
        core::mem::take(&mut self.state.counters)
    }

    /// Which lane this is.
    #[must_use]
    pub fn index(&self) -> LaneIndex {
        self.index
    }

    pub(crate) fn lane(&self) -> &'a Lane {
        &self.btt.lanes[self.index.0 as usize]
    }

    /// Makes the map entries of this lane's finished writes durable.
    ///
    /// # Errors
    /// The medium's error.
    pub fn drain(&mut self) -> Result<(), BttError> {
        if self.state.unfenced.is_empty() {
            return Ok(());
        }
        self.fence_data().map(|DataDurable(())| ()).map_err(|why| BttError::Drain { why })
    }

    /// The data fence, which carries the map changes of the run before.
    ///
    /// Crash before it: this run's data are wholly or partly on the medium, in blocks that no map entry names once
    /// recovery has finished the run before: old sectors stand. Crash after it: the same, and nothing waits for
    /// recovery.
    #[inline(always)]
    pub(crate) fn fence_data(&mut self) -> Result<DataDurable, MediaError> {
        let media = self.btt.media();
        for line in &self.state.unfenced {
            media.start_write_back(*line, LINE_BYTES)?;
        }
        let lines = self.state.unfenced.len() as u64;
        self.state.counters.write_backs += lines;
        self.fence()?;
        self.state.unfenced.clear();
        self.lane().count_fence();
        Ok(DataDurable(()))
    }

    #[inline(always)]
    pub(crate) fn fence(&mut self) -> Result<(), MediaError> {
        self.state.counters.fences += 1;
        self.btt.fence()
    }

    /// The epoch of the map changes that this lane makes now.
    pub(crate) fn epoch(&self) -> u64 {
        self.lane().epoch()
    }

    /// Whether `change` is another lane's, and may not be durable yet (invariant 4).
    pub(crate) fn must_settle(&mut self, change: &Unfenced) -> bool {
        let other = &self.btt.lanes[change.lane.0 as usize];
        change.lane != self.index && self.state.may_lose(change.lane, change, || other.fences())
    }
}

impl<M: Medium> Btt<M> {
    /// Waits until this CPU's stores are durable. If what they were is lost for good, all arenas turn read-only.
    ///
    /// A later fence proves nothing then: the medium may have dropped the stores that the failed fence was for,
    /// although they read back. The next record of a flog group would build on a record, or on a map entry, that a
    /// power cut takes away.
    #[inline(always)]
    pub(crate) fn fence(&self) -> Result<(), MediaError> {
        self.media().fence().inspect_err(|why| self.stop_if_not_durable(*why))
    }

    /// Turns all arenas read-only, if this is a failure for good.
    #[cold]
    pub(crate) fn stop_if_not_durable(&self, why: MediaError) {
        if let MediaError::NotDurable(fault) = why {
            for arena in &self.arenas {
                // An arena that takes no writes has its reason, which stands.
                let _ = arena.turn_read_only(ReadOnlyReason::NotDurable(fault));
            }
        }
    }

    /// Takes the lane of `cpu`, and waits for another CPU that has it. The guard writes sectors.
    ///
    /// Until the guard is dropped, it must stay with one CPU, or what moves it must order stores as a locked
    /// instruction does (a thread switch does): a fence covers only what its own CPU started to write back.
    #[allow(clippy::cast_possible_truncation)] // nfree is far below 2^32
    pub fn lane(&self, cpu: CpuIndex) -> LaneGuard<'_, M> {
        let index = cpu.0 % self.lanes.len() as u32;
        LaneGuard::new(self, LaneIndex(index))
    }

    /// As [`Btt::lane`], but does not wait: `None` if another CPU has it.
    #[allow(clippy::cast_possible_truncation)] // nfree is far below 2^32
    pub fn try_lane(&self, cpu: CpuIndex) -> Option<LaneGuard<'_, M>> {
        let index = cpu.0 % self.lanes.len() as u32;
        LaneGuard::try_new(self, LaneIndex(index))
    }

    /// As [`Btt::drain`], but waits for nobody: a lane in use is left out. Its holder's next run, or the next call, makes its
    /// map entries durable. For what is done now and then by a CPU that must not be stuck when another one is.
    ///
    /// # Errors
    /// The medium's error.
    pub fn drain_idle(&self) -> Result<(), BttError> {
        for (index, _) in (0..).zip(&self.lanes) {
            if let Some(mut lane) = LaneGuard::try_new(self, LaneIndex(index)) {
                lane.drain()?;
            }
        }
        Ok(())
    }

    /// Makes every finished write's map entry durable, lane by lane. A cut would not lose a write without this:
    /// recovery would finish it. It comes before the medium is read directly or given away; and now and then, for lanes
    /// without another write: until then a lost flog line takes an acknowledged write with it.
    ///
    /// # Errors
    /// The medium's error.
    pub fn drain(&self) -> Result<(), BttError> {
        for (index, _) in (0..).zip(&self.lanes) {
            LaneGuard::new(self, LaneIndex(index)).drain()?;
        }
        Ok(())
    }

    /// Runs `f` on the drained medium, with all lanes taken: no other CPU writes sectors meanwhile. Others may read, so
    /// `f` changes no map entry, and no byte of a block; and one that finds damage may set the error flag in the info blocks.
    ///
    /// # Errors
    /// The medium's error while it is drained.
    pub fn exclusively<T>(&self, f: impl FnOnce(&M) -> T) -> Result<T, BttError> {
        let mut guards = self.all_lanes();
        for guard in &mut guards {
            guard.drain()?;
        }
        Ok(f(self.media()))
    }

    /// Runs `f` with the lane of `cpu`, with all lanes taken: what it reads is as it was until it has written, whatever other
    /// CPUs write. For what compares before it writes, which is seldom.
    #[allow(clippy::cast_possible_truncation)] // nfree is far below 2^32
    pub fn alone<T>(&self, cpu: CpuIndex, f: impl FnOnce(&mut LaneGuard<'_, M>) -> T) -> T {
        let mut guards = self.all_lanes();
        let index = cpu.0 % guards.len() as u32;
        f(&mut guards[index as usize])
    }

    /// Takes all lanes, in order (invariant 9).
    fn all_lanes(&self) -> Vec<LaneGuard<'_, M>> {
        (0..).zip(&self.lanes).map(|(index, _)| LaneGuard::new(self, LaneIndex(index))).collect()
    }

    /// Gives the medium back. What is not durable yet is made so first.
    ///
    /// # Errors
    /// The medium's error; the medium is dropped then.
    pub fn close(self) -> Result<M, BttError> {
        self.drain()?;
        Ok(self.into_media())
    }
}
