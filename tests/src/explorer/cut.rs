//! All choices among the stores that a cut may lose, each judged once.
//!
//! What is pruned, and why nothing is lost by it:
//! - *Equal images.* A state is an image and what is expected of it. Both are hashed to 64 bits; a state whose hash has
//!   been seen is not judged again, nor counted. (Among ten million states the chance that two different ones share a
//!   hash is three in a million.)
//! - *Stores that change nothing* of what is durable already, where no other store goes to the piece.
//! - *Unread data.* Streamed data stay undecided, [`super::medium`], until recovery or a read of any sector
//!   touches them. If none does, every choice among their pieces gives the same outcome. If one does, they are
//!   decided: none of them, all, each one alone, each one missing. That is enough, because every piece of a sector
//!   carries the tag of its write: where two choices differ in a piece that is read, one of these shows a mixture.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use btt::sim::{Choose as _, Event, PIECE_BYTES, Pending, Persistence, Seeded, Store};

use super::frame::{Frame, mix};
use super::medium::CutMedium;
use super::{Stop, Violation};

/// More choices than this at one cut are sampled, not enumerated. Only creation has so many.
const CHOICES_MAX: u64 = 1 << 18;
/// How many random choices are made of those.
const SAMPLES: u64 = 2000;
const SHARDS: usize = 64;

/// What the workers of one run share.
#[derive(Debug)]
pub struct Shared {
    seen: Vec<Mutex<HashSet<u64>>>,
    states: AtomicU64,
    sampled: AtomicU64,
    again: AtomicU64,
    stop: AtomicBool,
    until: Option<Instant>,
    seed: u64,
}

impl Shared {
    /// A run that ends at `until`, if that is given. `seed` is for what is sampled.
    #[must_use]
    pub fn new(until: Option<Instant>, seed: u64) -> Self {
        Self {
            seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
            states: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            again: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            until,
            seed,
        }
    }

    /// How many different states have been judged.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }

    /// How many of them are cuts inside a recovery.
    #[must_use]
    pub fn second_cuts(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// How many cuts had too many choices to try them all.
    #[must_use]
    pub fn sampled_cuts(&self) -> u64 {
        self.sampled.load(Ordering::Relaxed)
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the run is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn is_new(&self, state: u64) -> bool {
        let shard = &self.seen[usize::try_from(state >> 58).unwrap_or(0) % SHARDS];
        shard.lock().is_ok_and(|mut seen| seen.insert(state))
    }
}

/// What is expected at one cut.
pub trait Scene {
    /// A number that differs where what is expected differs.
    fn expectation(&self) -> u64;

    /// Whether the store at `at` is sector data, which may stay undecided.
    fn is_data(&self, at: u64) -> bool;

    /// Recovers the medium and holds it to every promise. What it stored in the part that a second cut may strike
    /// is returned; the explorer then makes those cuts.
    ///
    /// # Errors
    /// The promise that is broken.
    fn judge(&self, medium: &CutMedium) -> Result<Vec<Event>, String>;
}

/// One worker.
#[derive(Debug)]
pub struct Explorer<'a> {
    shared: &'a Shared,
    medium: CutMedium,
    /// The hashes of all images, if they are to be kept for comparison.
    pub keep_images: Option<HashSet<u64>>,
}

/// How many recoveries in a row are cut. Recoveries of recoveries end in states that have been seen.
const DEPTH_MAX: u32 = 8;

impl<'a> Explorer<'a> {
    /// A worker of a run, for media of `len` bytes.
    #[must_use]
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, medium: CutMedium::new(0, Persistence::Lines), keep_images: None }
    }

    /// The run.
    #[must_use]
    pub const fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// From now on media have this size and kind.
    pub fn set_medium(&mut self, len: u64, persistence: Persistence) {
        self.medium = CutMedium::new(len, persistence);
    }

    /// Judges every state that a cut can leave: all of `durable`, and any choice of what is pending.
    ///
    /// # Errors
    /// A violation, without its scenario and events.
    pub fn cut(&mut self, durable: &mut Frame, pending: &Pending, scene: &dyn Scene) -> Result<(), Stop> {
        self.cut_at(durable, pending, scene, 0)
    }

    fn cut_at(&mut self, durable: &mut Frame, pending: &Pending, scene: &dyn Scene, depth: u32) -> Result<(), Stop> {
        if self.shared.is_over() {
            return Err(Stop::Time);
        }
        let stores = pending.stores();
        let mut undecided: Vec<usize> = Vec::new();
        let mut chains: Vec<Vec<usize>> = Vec::new();
        for chain in pending.chains() {
            let first = &stores[chain[0]];
            if first.is_streaming() && scene.is_data(first.at()) {
                undecided.push(chain[0]);
            } else if chain.len() > 1 || changes(durable, stores, chain[0]) {
                chains.push(chain);
            }
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for store in undecided.iter().map(|&number| &stores[number]) {
            let (begin, end) = (store.at(), store.at() + store.bytes().len() as u64);
            match ranges.last_mut() {
                Some(last) if last.end == begin => last.end = end,
                _ => ranges.push(begin..end),
            }
        }
        let cut = Cut { stores, chains: &chains, undecided: &undecided, ranges: &ranges, scene, depth };
        let options = chains.iter().try_fold(1_u64, |all, chain| all.checked_mul(chain.len() as u64 + 1));
        let mut kept = vec![0; chains.len()];
        if options.is_some_and(|options| options <= CHOICES_MAX) {
            loop {
                self.one(durable, &cut, &kept)?;
                // The next choice: an odometer whose digits are the chains.
                let Some(digit) = (0..chains.len()).find(|&digit| kept[digit] < chains[digit].len()) else {
                    return Ok(());
                };
                kept[digit] += 1;
                kept[..digit].fill(0);
            }
        }
        self.shared.sampled.fetch_add(1, Ordering::Relaxed);
        let full: Vec<usize> = chains.iter().map(Vec::len).collect();
        self.one(durable, &cut, &kept)?;
        self.one(durable, &cut, &full)?;
        for digit in 0..chains.len() {
            for (begin, change) in [(&kept, full[digit]), (&full, 0)] {
                let mut choice = begin.clone();
                choice[digit] = change;
                self.one(durable, &cut, &choice)?;
            }
            let mut first = kept.clone();
            first[..digit].copy_from_slice(&full[..digit]);
            self.one(durable, &cut, &first)?;
        }
        let mut random = Seeded::new(self.shared.seed);
        for turn in 0..SAMPLES {
            // Thin, even and thick choices in turn.
            let odds = 1 + turn % 7;
            for (digit, most) in full.iter().enumerate() {
                kept[digit] = if random.below(8) < odds { *most } else { 0 };
            }
            self.one(durable, &cut, &kept)?;
        }
        Ok(())
    }

    /// Judges one choice, and all choices of the data that turn out to matter.
    fn one(&mut self, frame: &mut Frame, cut: &Cut<'_>, kept: &[usize]) -> Result<(), Stop> {
        let mut lands: Vec<usize> = cut.chains.iter().zip(kept).flat_map(|(chain, &n)| &chain[..n]).copied().collect();
        lands.sort_unstable(); // program order
        if self.image(frame, cut, &lands, cut.ranges)? {
            let all = cut.undecided;
            let mut decide = |chosen: &mut dyn Iterator<Item = usize>| {
                let mut more: Vec<usize> = lands.iter().copied().chain(chosen).collect();
                more.sort_unstable();
                self.image(frame, cut, &more, &[]).map(|_| ())
            };
            decide(&mut std::iter::empty())?;
            decide(&mut all.iter().copied())?;
            for &one in all {
                decide(&mut std::iter::once(one))?;
                decide(&mut all.iter().copied().filter(|other| *other != one))?;
            }
        }
        Ok(())
    }

    /// Judges the image in which these stores have landed. Says whether it read what is undecided.
    fn image(
        &mut self,
        frame: &mut Frame,
        cut: &Cut<'_>,
        lands: &[usize],
        undecided: &[Range<u64>],
    ) -> Result<bool, Stop> {
        let mut undo = Vec::with_capacity(lands.len());
        for store in lands.iter().map(|&number| &cut.stores[number]) {
            undo.push(frame.put(store.at(), store.bytes()));
        }
        let state = undecided
            .iter()
            .fold(mix(frame.hash(), cut.scene.expectation()), |hash, range| mix(hash, mix(range.start, range.end)));
        if let Some(images) = &mut self.keep_images {
            images.insert(frame.hash());
        }
        let result = if self.shared.is_new(state) { self.judge(frame, cut, undecided) } else { Ok(false) };
        for before in undo.into_iter().rev() {
            frame.restore(before);
        }
        result.map_err(|stop| match stop {
            Stop::Violation(mut violation) => {
                violation.landed.splice(0..0, cut.describe(lands, undecided));
                Stop::Violation(violation)
            }
            Stop::Time => Stop::Time,
        })
    }

    fn judge(&mut self, frame: &Frame, cut: &Cut<'_>, undecided: &[Range<u64>]) -> Result<bool, Stop> {
        self.medium.load(frame, undecided);
        self.shared.states.fetch_add(1, Ordering::Relaxed);
        if cut.depth > 0 {
            self.shared.again.fetch_add(1, Ordering::Relaxed);
        }
        let result = cut.scene.judge(&self.medium);
        if self.medium.touched() {
            // This was not one state but many; they follow.
            return Ok(true);
        }
        let events = result.map_err(|why| {
            let (scenario, events, landed) = (String::new(), Vec::new(), Vec::new());
            Stop::Violation(Box::new(Violation { scenario, events, landed, why }))
        })?;
        if events.is_empty() || cut.depth >= DEPTH_MAX {
            return Ok(false);
        }
        // The power goes again, at each fence of the recovery.
        let mut durable = frame.clone();
        let mut pending = Pending::new(self.medium.persistence());
        for event in &events {
            if *event == Event::Fence {
                self.cut_at(&mut durable, &pending, cut.scene, cut.depth + 1)?;
            }
            apply(event, &mut durable, &mut pending);
        }
        self.cut_at(&mut durable, &pending, cut.scene, cut.depth + 1)?;
        Ok(false)
    }
}

/// Does to `durable` and `pending` what one CPU did to a medium.
pub fn apply(event: &Event, durable: &mut Frame, pending: &mut Pending) {
    match event {
        Event::Store { at, bytes } => pending.store(0, at.0, bytes, false),
        Event::Stream { at, bytes } => pending.store(0, at.0, bytes, true),
        Event::WriteBack { at, bytes } => pending.write_back(0, at.0, *bytes),
        Event::Fence => pending.fence(0, |store| {
            durable.put(store.at(), store.bytes());
        }),
    }
}

/// Whether it makes a difference if this store lands.
fn changes(durable: &Frame, stores: &[Store], number: usize) -> bool {
    let store = &stores[number];
    !durable.has(store.at(), store.bytes())
        || stores
            .iter()
            .enumerate()
            .any(|(other, s)| other != number && s.at() / PIECE_BYTES == store.at() / PIECE_BYTES)
}

struct Cut<'a> {
    stores: &'a [Store],
    chains: &'a [Vec<usize>],
    undecided: &'a [usize],
    ranges: &'a [Range<u64>],
    scene: &'a dyn Scene,
    depth: u32,
}

impl Cut<'_> {
    fn describe(&self, lands: &[usize], undecided: &[Range<u64>]) -> Vec<String> {
        let mut lines = Vec::new();
        if self.depth > 0 {
            lines.push(format!("in the recovery after that, cut number {}:", self.depth + 1));
        }
        let described = |number: &usize| self.chains.iter().flatten().chain(self.undecided).any(|n| n == number);
        for (number, store) in self.stores.iter().enumerate().filter(|(number, _)| described(number)) {
            if undecided.is_empty() || !self.undecided.contains(&number) {
                let fate = if lands.contains(&number) { "landed" } else { "lost" };
                lines.push(format!("{fate} {:#x}: {:02x?}", store.at(), store.bytes()));
            }
        }
        lines
    }
}
