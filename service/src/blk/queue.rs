//! A queue of requests, polled.

use super::execute;
use super::{BlkDevice, Features, RequestKind, Served};
use crate::backend::BlockBackend;
use crate::memory::{MemoryTable, SharedMemory};
use crate::virtqueue::{Chain, Layout, LayoutError, Queue, QueueError};

/// A request costs one unit of a poll's budget, and one more for each of these: other queues on this CPU wait meanwhile.
const DATA_BYTES_A_COUNT: u64 = 64 << 10;

/// A request costs one unit more for each of these many descriptors, too.
const DESCRIPTORS_A_COUNT: u32 = 64;

/// The outcome of a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many requests were answered.
    pub served: u32,
    /// How many of them with an error.
    pub failed: u32,
    /// The driver wants to be called: once, for all of them.
    pub call: bool,
    /// There may be more: poll again before resting.
    pub more: bool,
    /// The driver broke the queue, just now. It is not served any more.
    pub broken: Option<QueueError>,
}

/// How long a poll goes on.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// So many requests, fewer if they are large: one more counts for each 64 KiB of data and for each 64 descriptors, and a
    /// step that discards or zeroes is the last.
    pub units: u32,
    /// Whether the driver's memory may be touched, now: asked before each buffer is taken, before each step of a request, and
    /// before each is answered. What a step has begun it finishes.
    pub may: &'a dyn Fn() -> bool,
}

impl Budget<'_> {
    /// So many requests in memory that may always be touched.
    #[must_use]
    pub fn units(units: u32) -> Self {
        Self { units, may: &|| true }
    }
}

/// A queue of a block device: its state, and the room for one request.
#[derive(Debug)]
pub struct BlkQueue {
    queue: Queue,
    chain: Chain,
    /// The request in `chain`, if it was begun and is not answered. It is the next one for another device, too.
    pending: Option<execute::Progress>,
    broken: Option<QueueError>,
}

impl BlkQueue {
    /// Serves the queue from the used ring's index on, where it stopped.
    ///
    /// # Errors
    /// Why it can't be served.
    pub fn start<M: SharedMemory + ?Sized>(
        layout: Layout,
        features: Features,
        memory: &M,
    ) -> Result<Self, LayoutError> {
        let event_idx = features.contains(Features::EVENT_IDX);
        let indirect = features.contains(Features::INDIRECT_DESC);
        let chain = Chain::with_room().map_err(|_| LayoutError::OutOfMemory)?;
        let queue = Queue::start(layout, event_idx, indirect, memory).map_err(LayoutError::Outside)?;
        Ok(Self { queue, chain, pending: None, broken: None })
    }

    /// used.idx: where the next device goes on. One that is half done between two calls is begun anew there.
    #[must_use]
    pub const fn base(&self) -> u16 {
        self.queue.base()
    }

    /// How the driver broke it, if it did.
    #[must_use]
    pub const fn broken(&self) -> Option<QueueError> {
        self.broken
    }

    /// Serves requests as long as the budget allows. A large one is served in steps of [`super::STEP_BYTES`]; when the budget
    /// ends between two of them, the next call goes on. Each is in the used ring when it is done; the driver is to be called
    /// once, if [`Progress::call`] is set. If its memory may not be touched any more, the next call goes on as well, and calls
    /// the driver for what is in the used ring by then.
    pub fn poll<M: SharedMemory + ?Sized, B: BlockBackend>(
        &mut self,
        device: &BlkDevice,
        table: &MemoryTable,
        memory: &M,
        backend: &mut B,
        budget: Budget<'_>,
    ) -> Progress {
        self.poll_with(device, table, memory, backend, budget, |_| ())
    }

    /// As [`BlkQueue::poll`], and shows how each request went: for counters and traces.
    pub fn poll_with<M: SharedMemory + ?Sized, B: BlockBackend>(
        &mut self,
        device: &BlkDevice,
        table: &MemoryTable,
        memory: &M,
        backend: &mut B,
        budget: Budget<'_>,
        mut seen: impl FnMut(&Served),
    ) -> Progress {
        let mut progress = Progress::default();
        if self.broken.is_some() {
            return progress;
        }
        let result = self.serve(device, table, memory, backend, &budget, &mut |served| {
            progress.served += 1;
            progress.failed += u32::from(served.result.is_err());
            seen(served);
        });
        // The driver is called for the requests that were answered before the queue broke, too.
        let call = if (budget.may)() { self.queue.wants_call(memory) } else { Ok(false) };
        match (result, call) {
            (Ok(more), Ok(call)) => Progress { call, more, ..progress },
            (Err(why), call) => self.broke(why, Progress { call: call.unwrap_or(false), ..progress }),
            (Ok(_), Err(why)) => self.broke(why, progress),
        }
    }

    fn broke(&mut self, why: QueueError, progress: Progress) -> Progress {
        self.broken = Some(why);
        Progress { broken: Some(why), more: false, ..progress }
    }

    /// Returns whether the budget's units were used up.
    fn serve<M: SharedMemory + ?Sized, B: BlockBackend>(
        &mut self,
        device: &BlkDevice,
        table: &MemoryTable,
        memory: &M,
        backend: &mut B,
        budget: &Budget<'_>,
        seen: &mut impl FnMut(&Served),
    ) -> Result<bool, QueueError> {
        let mut left = u64::from(budget.units);
        while left > 0 {
            if !(budget.may)() {
                return Ok(false);
            }
            let (mut cost, mut progress) = match self.pending.take() {
                Some(progress) => (1, progress),
                None => {
                    if !self.queue.take(memory, table, &mut self.chain)? {
                        return Ok(false);
                    }
                    let cost = 1 + self.chain.descriptors() / DESCRIPTORS_A_COUNT;
                    (u64::from(cost), execute::begin(device, &self.chain, memory, backend))
                }
            };
            if let execute::Progress::Pending(pending) = progress {
                cost = match pending.kind() {
                    // Of a few bytes that may mean many sectors.
                    RequestKind::Discard | RequestKind::WriteZeroes => left,
                    _ => cost + pending.step_bytes() / DATA_BYTES_A_COUNT,
                };
                progress = pending.step(device, &self.chain, memory, backend);
            }
            left = left.saturating_sub(cost);
            match progress {
                // Asked again: a step may wait for the medium for longer than a lease lasts.
                execute::Progress::Ended(ended) if (budget.may)() => {
                    let served = ended.answer(&self.chain, memory);
                    // Durable now, so the driver may see it.
                    self.queue.give(memory, self.chain.head(), served.written)?;
                    seen(&served);
                }
                unanswered => self.pending = Some(unanswered),
            }
        }
        Ok(true)
    }

    /// Before the CPU rests: asks for a kick at the next request. Returns false if there is one already: poll again.
    ///
    /// A broken queue is always at rest.
    ///
    /// # Errors
    /// The driver broke the queue, just now.
    pub fn rest<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<bool, QueueError> {
        if self.broken.is_some() {
            return Ok(true);
        }
        if self.pending.is_some() {
            return Ok(false);
        }
        self.queue.rest(memory).inspect_err(|why| self.broken = Some(*why))
    }

    /// Leaves the queue to the next device, whatever the driver has done to it. Returns where that one goes on.
    pub fn stop<M: SharedMemory + ?Sized>(self, memory: &M) -> u16 {
        let base = self.base();
        self.queue.stop(memory).unwrap_or(base)
    }
}
