//! A queue of requests, polled.
//!
//! # Why gathered writes keep their promises
//! Small writes that wait one after the other are gathered ([`super::batch`]) and written together. A request that is no
//! such write is carried out only after the batch before it: so a read, a FLUSH or a discard sees what was asked for before
//! it. Within a batch the later write counts where two meet. Each is answered only after its own sectors are durable, in
//! the order in which the driver made them available: buffers are used in order, and used.idx is all the state that a
//! restart needs (invariant 12). A device that ends before an answer leaves requests whose sectors are old or new, and
//! whatever serves the queue next carries them out from the beginning.
//!
//! Nothing waits for a batch to grow: one that finds a single write is that write.

use alloc::vec::Vec;

use super::batch::{Answer, Batch, REQUESTS_MOST};
use super::execute::{self, StatusPlace};
use super::{BlkDevice, Features, RequestKind, Served};
use crate::backend::BlockBackend;
use crate::memory::{MemoryTable, SharedMemory};
use crate::virtqueue::{Chain, Layout, LayoutError, Queue, QueueError};

/// A buffer costs one unit more for each of these many descriptors.
const DESCRIPTORS_A_UNIT: u32 = 64;

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
    /// What is done at most. A unit is a sector that is written, discarded or zeroed, 4 KiB that are read, or a request that
    /// does none of these; and 64 descriptors of a buffer. What would go beyond it waits for the next poll, unless nothing
    /// was done before it.
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

    /// Whether work of that cost may be done when so many units are left: whatever it costs, if it is the first.
    fn fits(&self, cost: u64, left: u64) -> bool {
        cost <= left || left == u64::from(self.units)
    }
}

/// A queue of a block device: its state, and the room for one large request and a batch of small ones.
#[derive(Debug)]
pub struct BlkQueue {
    queue: Queue,
    chain: Chain,
    batch: Batch,
    /// The answers of a batch that are not given yet, the last one first. These are the next ones for another device, too.
    answers: Vec<Answer>,
    /// The request in `chain`, if it was begun and is not answered. It comes after those.
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
        let batch = Batch::with_room().map_err(|_| LayoutError::OutOfMemory)?;
        let mut answers = Vec::new();
        answers.try_reserve_exact(REQUESTS_MOST).map_err(|_| LayoutError::OutOfMemory)?;
        let queue = Queue::start(layout, event_idx, indirect, memory).map_err(LayoutError::Outside)?;
        Ok(Self { queue, chain, batch, answers, pending: None, broken: None })
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

    /// Serves requests as long as the budget allows. A large one is served in steps of [`super::STEP_SECTORS`]; when the budget
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
        loop {
            // Asked again and again: a step may wait for the medium for longer than a lease lasts.
            if !(budget.may)() {
                return Ok(false);
            }
            if let Some(Answer { head, place, ended }) = self.answers.pop() {
                self.give(head, place, ended, memory, seen)?;
                continue;
            }
            match self.pending.take() {
                Some(execute::Progress::Ended(ended)) => {
                    self.give(self.chain.head(), StatusPlace::of(&self.chain), ended, memory, seen)?;
                }
                // What was begun goes on with the next poll.
                pending if left == 0 => {
                    self.pending = pending;
                    return Ok(true);
                }
                Some(execute::Progress::Pending(pending)) => {
                    let cost = pending.cost() + cost(&self.chain);
                    if !budget.fits(cost, left) {
                        self.pending = Some(execute::Progress::Pending(pending));
                        return Ok(true);
                    }
                    left = left.saturating_sub(cost);
                    self.pending = Some(pending.step(device, &self.chain, memory, backend));
                }
                None => {
                    if !self.gather(device, table, memory, backend, budget, &mut left)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Takes small writes for as long as they come one after the other, and carries them out; then it begins what comes behind
    /// them. Returns whether there was anything.
    fn gather<M: SharedMemory + ?Sized, B: BlockBackend>(
        &mut self,
        device: &BlkDevice,
        table: &MemoryTable,
        memory: &M,
        backend: &mut B,
        budget: &Budget<'_>,
        left: &mut u64,
    ) -> Result<bool, QueueError> {
        let mut behind = None;
        while *left > 0 && (self.batch.len() == 0 || (budget.may)()) {
            match self.queue.take(self.batch.len(), memory, table, &mut self.chain) {
                Ok(true) => {}
                Ok(false) => break,
                // The writes before it are carried out; it is found again after them.
                Err(_) if self.batch.len() > 0 => break,
                Err(why) => return Err(why),
            }
            let request = execute::parse(&self.chain, memory);
            if !request.is_ok_and(|request| request.kind == RequestKind::Out) {
                behind = Some(request);
                break;
            }
            let begun = execute::begin(request, device, &self.chain, memory, backend);
            match &begun {
                execute::Progress::Pending(pending)
                    if budget.fits(pending.cost() + cost(&self.chain), *left)
                        && self.batch.add(pending, &self.chain, memory) =>
                {
                    *left = left.saturating_sub(pending.cost() + cost(&self.chain));
                }
                _ => {
                    self.pending = Some(begun);
                    break;
                }
            }
        }
        let any = self.batch.len() > 0 || self.pending.is_some() || behind.is_some();
        self.batch.write(memory, backend, &mut self.answers);
        self.answers.reverse();
        // What it does may depend on the batch. If it may not be begun now, it is taken again.
        if let Some(request) = behind.filter(|_| self.answers.is_empty() || (budget.may)()) {
            self.pending = Some(execute::begin(request, device, &self.chain, memory, backend));
        }
        if let Some(execute::Progress::Ended(_)) = self.pending {
            *left = left.saturating_sub(1 + cost(&self.chain));
        }
        Ok(any)
    }

    /// Answers the next request, and gives its buffer back.
    fn give<M: SharedMemory + ?Sized>(
        &mut self,
        head: u16,
        place: StatusPlace,
        ended: execute::Ended,
        memory: &M,
        seen: &mut impl FnMut(&Served),
    ) -> Result<(), QueueError> {
        let served = ended.answer(place, memory);
        // Durable now, so the driver may see it.
        self.queue.give(memory, head, served.written)?;
        seen(&served);
        Ok(())
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
        if self.pending.is_some() || !self.answers.is_empty() {
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

/// The cost of a buffer, whatever its request is, in a poll's units.
fn cost(chain: &Chain) -> u64 {
    u64::from(chain.descriptors() / DESCRIPTORS_A_UNIT)
}
