//! Small writes of several requests that wait in a queue. The back end carries them out together, so that what makes them
//! durable serves all of them; each is answered by itself.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use super::execute::{Ended, Pending, STEP_BYTES, STEP_SECTORS, StatusPlace};
use crate::backend::{BlockBackend, SectorRun};
use crate::memory::{Segments, SharedMemory};
use crate::virtqueue::Chain;

/// The most requests: each is of a sector at least.
pub(super) const REQUESTS_MOST: usize = 32;
const _: () = assert!(REQUESTS_MOST as u64 == STEP_SECTORS);

/// The most pieces of memory that their data are in.
const PIECES_MOST: usize = 256;

/// A request whose answer waits to be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The first descriptor of its buffer.
    pub(super) head: u16,
    /// Where its status goes.
    pub(super) place: StatusPlace,
    /// How it ended.
    pub(super) ended: Ended,
}

/// The room for a batch; it is used over and over.
#[derive(Debug)]
pub(super) struct Batch {
    /// The sectors' data, one request's after the other's.
    data: Segments,
    runs: Vec<SectorRun>,
    /// For each run, its buffer, its status's place, and the request.
    requests: Vec<(u16, StatusPlace, Pending)>,
}

impl Batch {
    /// Room for a batch, all that it will ever need.
    ///
    /// # Errors
    /// There is no memory left.
    pub(super) fn with_room() -> Result<Self, TryReserveError> {
        let (mut runs, mut requests) = (Vec::new(), Vec::new());
        runs.try_reserve_exact(REQUESTS_MOST)?;
        requests.try_reserve_exact(REQUESTS_MOST)?;
        Ok(Self { data: Segments::with_room_for(PIECES_MOST)?, runs, requests })
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> u16 {
        u16::try_from(self.runs.len()).expect("at most REQUESTS_MOST")
    }

    /// Adds the request of a buffer, if it is a write that has not begun and fits.
    pub(super) fn add<M: SharedMemory + ?Sized>(&mut self, pending: &Pending, chain: &Chain, memory: &M) -> bool {
        let Some((run, data)) = pending.whole_write(chain, memory) else { return false };
        let sectors: u64 = self.runs.iter().map(|run| run.count).sum();
        if sectors + run.count > STEP_SECTORS || self.data.bytes() + data.bytes() > STEP_BYTES {
            return false;
        }
        if !self.data.append(&data) {
            return false;
        }
        self.runs.push(run);
        self.requests.push((chain.head(), StatusPlace::of(chain), *pending));
        true
    }

    /// Carries all of them out, and appends their answers to `answers`, in order. Afterwards it is empty.
    pub(super) fn write<M: SharedMemory + ?Sized, B: BlockBackend>(
        &mut self,
        memory: &M,
        backend: &mut B,
        answers: &mut Vec<Answer>,
    ) {
        let data = self.data.span(0, u64::MAX).window(memory, 0, u64::MAX);
        let mut requests = self.requests.iter();
        let mut done = |result| {
            let (head, place, pending) = requests.next().expect("a result for each run");
            answers.push(Answer { head: *head, place: *place, ended: pending.ended_write(result) });
        };
        match &self.runs[..] {
            [] => {}
            // Alone, its sectors follow one another, and a back end need not look at each.
            [run] => done(backend.write(run.first, run.count, &data)),
            runs => backend.write_all(runs, &data, done),
        }
        self.data.clear();
        self.runs.clear();
        self.requests.clear();
    }
}
