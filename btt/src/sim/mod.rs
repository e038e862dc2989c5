//! A medium in memory that remembers what is not durable yet, and makes the crashes that x86 allows.
//!
//! It keeps two images: what a load sees, and what is durable for sure. Between them lie the stores that no fence has
//! covered yet. [`Sim::crash`] makes a medium as a power cut could leave it, by the model of [`crate::media`]:
//! of each line's cached stores a prefix (or, on a medium that does not keep a line's order, any subset), of the
//! streamed ones any subset of 8-byte pieces.
//!
//! [`Sim::set_plan`] fails the n-th access. [`Sim::record`] keeps what is done to the medium, and [`Sim::replay`] does
//! it again to another, so that a crash can be made after each event.
//!
//! ```
//! use btt::media::{Medium, NsOffset};
//! use btt::sim::{Seeded, Sim};
//!
//! let medium = Sim::new(4096);
//! medium.store_u64(NsOffset(0), 1)?;
//! medium.start_write_back(NsOffset(0), 8)?;
//! medium.fence()?;
//! medium.store_u64(NsOffset(64), 2)?; // not fenced: it may survive, or not
//! let after = medium.crash(&mut Seeded::new(7)); // the same number makes the same cut
//! assert_eq!(after.load_u64(NsOffset(0))?, 1);
//! assert!(matches!(after.load_u64(NsOffset(64))?, 0 | 2));
//! # Ok::<(), btt::media::MediaError>(())
//! ```

mod image;
mod pending;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

// Not the locks under test: nothing waits for these.
use spin::{Mutex, MutexGuard};

use crate::media::{FenceFault, MediaError, Medium, NsOffset};
#[cfg(feature = "sim")]
pub use crate::sync::scheduled::{Access, Observer, Turn, set_observer, set_scheduler};
use image::Image;
pub use pending::{Chain, PIECE_BYTES, Pending, Persistence, Store};

/// What was done to the medium, in program order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cached store of 4 or 8 bytes.
    Store {
        /// Where.
        at: NsOffset,
        /// What.
        bytes: Box<[u8]>,
    },
    /// A streaming copy.
    Stream {
        /// Where.
        at: NsOffset,
        /// What.
        bytes: Box<[u8]>,
    },
    /// The start of a write-back.
    WriteBack {
        /// The first byte.
        at: NsOffset,
        /// How many.
        bytes: u64,
    },
    /// A fence.
    Fence,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    #[default]
    None,
    /// The access with this number (counted from now, from 0) fails, and all later ones.
    FailFrom(u64),
    /// The access with this number fails, later ones do not.
    FailOnce(u64),
    /// The fence with this number fails, and what it was to cover is never covered; all else goes on as if nothing had
    /// happened. So does a host whose disk failed: it takes the pages for clean.
    FailFence(u64),
}

#[derive(Clone, Debug)]
struct State {
    visible: Image,
    durable: Image,
    pending: Pending,
    cpu: u32,
    trace: Option<Vec<Event>>,
    plan: Plan,
    accesses: u64,
    fences: u64,
}

/// The medium.
#[derive(Debug)]
pub struct Sim {
    state: Mutex<State>,
    bytes: u64,
    persistence: Persistence,
    read_only: bool,
}

/// How a crash chooses among the stores that may or may not be there: numbers below a bound.
pub trait Choose {
    /// A number from 0 to `bound - 1`.
    fn below(&mut self, bound: u64) -> u64;
}

/// A small generator of pseudo-random numbers (xorshift64*), so that a seed replays a run.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15 | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

impl Choose for Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

impl Sim {
    /// A blank medium that keeps a line's order, as mapped memory does.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::from_start(Vec::new(), bytes)
    }

    /// A medium with these bytes, all durable.
    #[must_use]
    pub fn from_image(image: Vec<u8>) -> Self {
        let bytes = image.len() as u64;
        Self::from_start(image, bytes)
    }

    /// A medium of `bytes` bytes that begins with these, all durable, and is zero behind them.
    ///
    /// # Panics
    /// If there are more of them than that, or than this machine can count.
    #[must_use]
    pub fn from_start(start: Vec<u8>, bytes: u64) -> Self {
        let len = usize::try_from(bytes).expect("the medium's length is one that this machine can count");
        assert!(start.len() <= len, "the start of a medium is not longer than it");
        Self::with(Image::new(start, len))
    }

    fn with(image: Image) -> Self {
        let bytes = image.len() as u64;
        let state = State {
            visible: image.clone(),
            durable: image,
            pending: Pending::new(Persistence::Lines),
            cpu: 0,
            trace: None,
            plan: Plan::None,
            accesses: 0,
            fences: 0,
        };
        Self { state: Mutex::new(state), bytes, persistence: Persistence::Lines, read_only: false }
    }

    /// The same medium behind a block data window: no order within a line.
    #[must_use]
    pub fn without_line_order(self) -> Self {
        self.with_persistence(Persistence::Pieces)
    }

    /// The same medium as virtio-pmem: each fence is a FLUSH, which covers what any CPU has stored. Until then any piece
    /// may persist, in any order, and starting a write-back does nothing.
    #[must_use]
    pub fn behind_flushes(self) -> Self {
        self.with_persistence(Persistence::Flushes)
    }

    /// The same medium, whose stores persist so.
    #[must_use]
    pub fn with_persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self.state().pending.set_persistence(persistence);
        self
    }

    /// When its stores persist.
    #[must_use]
    pub const fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// The same medium, not to be written.
    #[must_use]
    pub const fn as_read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sets the CPU (below 64) that accesses the medium from now on: fences cover only its own write-backs.
    pub fn set_cpu(&self, cpu: u32) {
        assert!(cpu < 64, "a CPU is a bit of a 64-bit set");
        self.state().cpu = cpu;
    }

    /// What goes wrong from now on.
    pub fn set_plan(&self, plan: Plan) {
        let mut state = self.state();
        state.plan = plan;
        state.accesses = 0;
        state.fences = 0;
    }

    /// How many accesses there have been since the plan was set.
    pub fn accesses(&self) -> u64 {
        self.state().accesses
    }

    /// Starts to record events.
    pub fn record(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// Stops recording, and gives what was recorded.
    pub fn recorded(&self) -> Vec<Event> {
        self.state().trace.take().unwrap_or_default()
    }

    /// A second medium in the same state, not durable stores included.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.trace = None;
        state.plan = Plan::None;
        let Self { bytes, persistence, read_only, .. } = *self;
        Self { state: Mutex::new(state), bytes, persistence, read_only }
    }

    /// Does again what was done to a medium that was in the same state.
    ///
    /// # Panics
    /// If the event cannot have happened here.
    pub fn replay(&self, event: &Event) {
        let result = match event {
            Event::Store { at, bytes } => self.store(*at, bytes),
            Event::Stream { at, bytes } => self.write(*at, bytes),
            Event::WriteBack { at, bytes } => self.start_write_back(*at, *bytes),
            Event::Fence => self.fence(),
        };
        assert!(result.is_ok(), "{event:?}: {result:?}");
    }

    /// The same bytes, all durable, on a medium of its own.
    #[must_use]
    pub fn settled(&self) -> Self {
        let visible = self.state().visible.clone();
        let mut other = self.like(visible);
        other.read_only = false;
        other
    }

    /// What a load sees.
    pub fn image(&self) -> Vec<u8> {
        self.state().visible.to_vec()
    }

    /// Copies out what is durable for sure at `at`.
    ///
    /// # Panics
    /// If the range leaves the medium.
    pub fn durable(&self, at: NsOffset, into: &mut [u8]) {
        self.state().durable.read(index(at.0), into);
    }

    /// Copies out what a load sees at `at`, without counting as an access.
    ///
    /// # Panics
    /// If the range leaves the medium.
    pub fn visible(&self, at: NsOffset, into: &mut [u8]) {
        self.state().visible.read(index(at.0), into);
    }

    /// What is stored and not durable yet.
    pub fn pending(&self) -> Pending {
        self.state().pending.clone()
    }

    /// Whether a crash has a choice.
    pub fn has_pending(&self) -> bool {
        !self.state().pending.stores().is_empty()
    }

    /// The medium as a power cut right now could leave it.
    pub fn crash(&self, choose: &mut impl Choose) -> Self {
        let state = self.state();
        let mut image = state.durable.clone();
        let stores = state.pending.stores();
        let mut lands = vec![false; stores.len()];
        for chain in state.pending.chains() {
            let kept = choose.below(chain.len() as u64 + 1);
            for &number in &chain[..index(kept)] {
                lands[number] = true;
            }
        }
        for (store, _) in stores.iter().zip(lands).filter(|(_, lands)| *lands) {
            image.write(index(store.at()), store.bytes());
        }
        drop(state);
        self.like(image)
    }

    /// A medium of the same kind with these bytes, all durable.
    fn like(&self, image: Image) -> Self {
        let mut other = Self::with(image);
        other.read_only = self.read_only;
        other.with_persistence(self.persistence)
    }

    /// Counts an access, checks its range, and lets the plan strike.
    fn access(&self, at: NsOffset, bytes: u64, align: u64) -> Result<MutexGuard<'_, State>, MediaError> {
        let mut state = self.state();
        let number = state.accesses;
        state.accesses += 1;
        let fails = match state.plan {
            Plan::None | Plan::FailFence(_) => false,
            Plan::FailFrom(first) => number >= first,
            Plan::FailOnce(one) => number == one,
        };
        if fails {
            return Err(MediaError::Device { at, status: 2 });
        }
        if at.0.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(MediaError::OutOfRange { at, bytes });
        }
        if !at.0.is_multiple_of(align) {
            return Err(MediaError::Misaligned { at });
        }
        Ok(state)
    }

    fn access_to_store(&self, at: NsOffset, bytes: u64, align: u64) -> Result<MutexGuard<'_, State>, MediaError> {
        let state = self.access(at, bytes, align)?;
        if self.read_only { Err(MediaError::ReadOnly) } else { Ok(state) }
    }

    fn store(&self, at: NsOffset, value: &[u8]) -> Result<(), MediaError> {
        let mut state = self.access_to_store(at, value.len() as u64, value.len() as u64)?;
        state.put(at.0, value, false);
        state.log(|| Event::Store { at, bytes: value.into() });
        Ok(())
    }

    fn load<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        let state = self.access(at, SIZE as u64, SIZE as u64)?;
        let mut value = [0; SIZE];
        state.visible.read(index(at.0), &mut value);
        Ok(value)
    }
}

/// A place in an image whose bounds have been checked.
fn index(at: u64) -> usize {
    usize::try_from(at).expect("the image is in memory")
}

impl State {
    fn log(&mut self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.trace {
            trace.push(event());
        }
    }

    fn put(&mut self, at: u64, value: &[u8], streaming: bool) {
        self.visible.write(index(at), value);
        self.pending.store(self.cpu, at, value, streaming);
    }

    fn fence(&mut self) {
        let durable = &mut self.durable;
        self.pending.fence(self.cpu, |store| durable.write(index(store.at()), store.bytes()));
    }
}

impl Medium for Sim {
    fn len_bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn keeps_line_order(&self) -> bool {
        self.persistence.keeps_line_order()
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        let state = self.access(at, into.len() as u64, 1)?;
        state.visible.read(index(at.0), into);
        Ok(())
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        let mut state = self.access_to_store(at, from.len() as u64, 1)?;
        state.put(at.0, from, true);
        state.log(|| Event::Stream { at, bytes: from.into() });
        Ok(())
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.load(at).map(u32::from_le_bytes)
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.load(at).map(u64::from_le_bytes)
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes())
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes())
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let mut state = self.access(at, bytes, 1)?;
        let cpu = state.cpu;
        state.pending.write_back(cpu, at.0, bytes);
        state.log(|| Event::WriteBack { at, bytes });
        Ok(())
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        let mut state = self.access(NsOffset(0), 0, 1)?;
        let number = state.fences;
        state.fences += 1;
        if matches!(state.plan, Plan::FailFence(one) if number == one) {
            let cpu = state.cpu;
            state.pending.abandon(cpu);
            return Err(MediaError::NotDurable(FenceFault::Refused { status: 1 }));
        }
        state.fence();
        state.log(|| Event::Fence);
        Ok(())
    }
}
