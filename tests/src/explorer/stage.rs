//! Several CPUs on one thread: each runs the real code as a coroutine, and stops where another one may go first.
//!
//! | grain | a CPU stops |
//! |---|---|
//! | [`Grain::Access`] | before each access to the medium, and before each lock |
//! | [`Grain::Lock`] | before each fence, before each lock, and before it copies a sector out |
//! | [`Grain::Fence`] | before each fence, and before it copies a sector out |
//!
//! Every CPU stops where it finds a lock taken. All between two stops is one step;
//! `docs/crash-proof.md` says why the coarser grains lose no crash state, and a test compares them.
//!
//! The medium is a [`Frame`] of what is durable, what a load sees, and [`Pending`]: the model of [`btt::sim`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};
use btt::sim::{Pending, Persistence, Turn, set_scheduler};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::frame::{Frame, mix};
use super::small::Small;

/// How much a CPU does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// One access to the medium.
    Access,
    /// All up to the next fence or lock.
    Lock,
    /// All up to the next fence.
    Fence,
}

/// Where a CPU stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before an access or a lock.
    Ready,
    /// Before something that another CPU holds.
    Waiting,
    /// It has nothing left to do.
    Done,
}

thread_local! {
    /// The running coroutine's way back; null outside.
    static RUNNING: Cell<*const Yielder<Command, Stop>> = const { Cell::new(ptr::null()) };
    /// Locks are taken without stopping.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the running CPU acts.
    static ACTING: RefCell<Option<Rc<Stage>>> = const { RefCell::new(None) };
}

fn stop(at: Stop) {
    let yielder = RUNNING.get();
    // SAFETY: a coroutine sets this to its own yielder, which lives as long as its body runs, and every caller that resumes
    // sets it to null again: so if it is not null, we are called from the body of that coroutine.
    if let Some(yielder) = unsafe { yielder.as_ref() } {
        yielder.suspend(at);
        RUNNING.set(yielder);
    }
}

fn turn(turn: Turn) {
    match turn {
        Turn::Waiting => stop(Stop::Waiting),
        Turn::Locking if QUIET.get() => {}
        Turn::Locking => {
            let stops = ACTING.with_borrow(|stage| stage.as_ref().is_some_and(|stage| stage.locking()));
            if stops {
                stop(Stop::Ready);
            }
        }
    }
}

/// Runs `f`, and does not stop before the locks that it takes.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    QUIET.set(true);
    let result = f();
    QUIET.set(false);
    result
}

enum Command {
    Run(Box<dyn FnOnce()>),
    Go,
    Quit,
}

/// CPUs that run the work they are given.
pub struct Cpus(Vec<Coroutine<Command, Stop, ()>>);

impl Cpus {
    /// `cpus` idle CPUs. Locks of the BTT ask this module from now on.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        set_scheduler(turn);
        let cpu = |_| {
            Coroutine::new(|yielder: &Yielder<Command, Stop>, mut command| {
                while let Command::Run(work) = command {
                    RUNNING.set(yielder);
                    work();
                    command = yielder.suspend(Stop::Done);
                }
            })
        };
        Self((0..cpus).map(cpu).collect())
    }

    fn resume(&mut self, cpu: usize, command: Command) -> Stop {
        let result = self.0[cpu].resume(command);
        RUNNING.set(ptr::null());
        match result {
            CoroutineResult::Yield(stop) => stop,
            CoroutineResult::Return(()) => Stop::Done,
        }
    }

    /// Gives an idle CPU work, and runs it to its first stop.
    pub fn start(&mut self, cpu: usize, work: impl FnOnce() + 'static) -> Stop {
        self.resume(cpu, Command::Run(Box::new(work)))
    }

    /// Runs a CPU to its next stop.
    pub fn go(&mut self, cpu: usize) -> Stop {
        self.resume(cpu, Command::Go)
    }
}

impl Drop for Cpus {
    fn drop(&mut self) {
        for cpu in 0..self.0.len() {
            self.resume(cpu, Command::Quit);
        }
    }
}

/// The medium's bytes.
#[derive(Clone, Debug)]
struct Bytes {
    /// What a load sees.
    visible: Vec<u8>,
    /// What is durable for sure.
    durable: Frame,
    pending: Pending,
}

/// A medium that several CPUs share, with what has happened on it.
#[derive(Debug)]
pub struct Stage {
    bytes: RefCell<Bytes>,
    small: Small,
    grain: Grain,
    cpu: Cell<u32>,
    /// The run is over: every access fails, so that all work ends soon.
    over: Cell<bool>,
    /// For each CPU, all that it did and saw.
    seen: RefCell<Vec<u64>>,
    /// For each line of metadata, who stored to it or wrote it back, in order.
    lines: RefCell<HashMap<u64, u64>>,
    story: RefCell<Option<Vec<String>>>,
}

impl Stage {
    /// A stage for so many CPUs, with these bytes.
    #[must_use]
    pub fn new(small: Small, start: &Frame, grain: Grain, cpus: usize) -> Rc<Self> {
        let (visible, durable) = (start.bytes().to_vec(), start.clone());
        Rc::new(Self {
            bytes: RefCell::new(Bytes { visible, durable, pending: Pending::new(small.persistence) }),
            small,
            grain,
            cpu: Cell::new(0),
            over: Cell::new(false),
            seen: RefCell::new(vec![0; cpus]),
            lines: RefCell::default(),
            story: RefCell::new(None),
        })
    }

    /// From now on this CPU acts.
    pub fn set_cpu(self: &Rc<Self>, cpu: u32) {
        self.cpu.set(cpu);
        ACTING.set(Some(Rc::clone(self)));
    }

    /// From now on every access fails.
    pub fn end(&self) {
        self.over.set(true);
    }

    /// Copies out what a load sees.
    pub fn visible(&self, at: u64, into: &mut [u8]) {
        let bytes = self.bytes.borrow();
        bytes.durable.windows().read(&bytes.visible, at, into);
    }

    /// What a power cut finds: what is durable, and what is pending. `f` leaves the frame as it was.
    pub fn with_durable<T>(&self, f: impl FnOnce(&mut Frame, &Pending) -> T) -> T {
        let bytes = &mut *self.bytes.borrow_mut();
        f(&mut bytes.durable, &bytes.pending)
    }

    /// Keeps what happens as text from now on.
    pub fn tell(&self) {
        self.story.replace(Some(Vec::new()));
    }

    /// What has happened.
    pub fn story(&self) -> Vec<String> {
        self.story.take().unwrap_or_default()
    }

    /// Adds a line to what has happened.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut *self.story.borrow_mut() {
            story.push(format!("cpu {}: {}", self.cpu.get(), line()));
        }
    }

    /// A number that tells two courses of events apart, unless they differ only in the order of steps that do not
    /// depend on each other: what each CPU did and saw, and for each line who changed it in which order.
    pub fn course(&self) -> u64 {
        let own = self.seen.borrow().iter().fold(0, |all, seen| mix(all, *seen));
        self.lines.borrow().iter().fold(own, |all, (line, order)| all ^ mix(mix(*line, *order), 7))
    }

    /// The running CPU is about to take what another one may have: it stops, whatever the grain.
    pub fn contend(&self) {
        if !self.over.get() {
            self.note(4);
            stop(Stop::Ready);
        }
    }

    /// Whether the running CPU stops before it takes a lock.
    fn locking(&self) -> bool {
        let stops = self.grain != Grain::Fence && !self.over.get();
        if stops {
            self.note(1);
        }
        stops
    }

    fn note(&self, what: u64) {
        let seen = &mut self.seen.borrow_mut()[self.cpu.get() as usize];
        *seen = mix(*seen, what);
    }

    fn note_line(&self, at: u64, kind: u64) {
        // A FLUSH covers others' data, too.
        if !self.small.is_data(at) || self.small.persistence == Persistence::Flushes {
            let mut lines = self.lines.borrow_mut();
            let order = lines.entry(at / LINE_BYTES).or_insert(0);
            *order = mix(*order, u64::from(self.cpu.get()) << 8 | kind);
        }
    }

    fn before(&self, at: NsOffset, is_stop: bool) -> Result<(), MediaError> {
        if (is_stop || self.grain == Grain::Access) && !self.over.get() {
            self.note(2);
            stop(Stop::Ready);
        }
        if self.over.get() { Err(MediaError::Device { at, status: 4 }) } else { Ok(()) }
    }

    fn store(&self, at: NsOffset, from: &[u8], streaming: bool) -> Result<(), MediaError> {
        self.before(at, false)?;
        let what = || {
            format!(
                "{} {} bytes to {at}: {:02x?}",
                if streaming { "stream" } else { "store" },
                from.len(),
                &from[..from.len().min(8)]
            )
        };
        self.say(what);
        let word = from.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        self.note(mix(at.0, word ^ from.len() as u64));
        self.note_line(at.0, if streaming { 1 } else { 2 });
        let bytes = &mut *self.bytes.borrow_mut();
        let place = bytes.durable.windows().place(at.0, from.len());
        let place = place.ok_or(MediaError::OutOfRange { at, bytes: from.len() as u64 })?;
        bytes.visible[place..place + from.len()].copy_from_slice(from);
        bytes.pending.store(self.cpu.get(), at.0, from, streaming);
        Ok(())
    }

    fn load<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        self.before(at, false)?;
        let mut word = [0; SIZE];
        self.visible(at.0, &mut word);
        self.note(word.iter().fold(at.0, |all, byte| mix(all, u64::from(*byte))));
        self.say(|| format!("load {at}: {word:02x?}"));
        Ok(word)
    }
}

/// A [`Stage`] as the BTT's medium.
#[derive(Clone, Debug)]
pub struct Acting(pub Rc<Stage>);

impl Medium for Acting {
    fn len_bytes(&self) -> u64 {
        super::small::BYTES
    }

    fn read_only(&self) -> bool {
        false
    }

    fn keeps_line_order(&self) -> bool {
        self.0.small.persistence.keeps_line_order()
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.0.before(at, self.0.small.is_data(at.0))?;
        self.0.visible(at.0, into);
        let (words, _) = into.as_chunks::<8>();
        self.0.note(words.iter().fold(at.0, |all, word| mix(all, u64::from_le_bytes(*word))));
        self.0.say(|| format!("read {} bytes at {at}", into.len()));
        Ok(())
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.0.store(at, from, true)
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.0.load(at).map(u32::from_le_bytes)
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.0.load(at).map(u64::from_le_bytes)
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.0.store(at, &value.to_le_bytes(), false)
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.0.store(at, &value.to_le_bytes(), false)
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.0.before(at, false)?;
        self.0.note(mix(at.0, bytes));
        self.0.note_line(at.0, 3);
        self.0.say(|| format!("start write-back of {bytes} bytes at {at}"));
        self.0.bytes.borrow_mut().pending.write_back(self.0.cpu.get(), at.0, bytes);
        Ok(())
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        self.0.before(NsOffset(0), true)?;
        self.0.note(3);
        if self.0.small.persistence == Persistence::Flushes {
            let mut lines = self.0.lines.borrow_mut();
            lines.values_mut().for_each(|order| *order = mix(*order, u64::from(self.0.cpu.get()) << 8 | 4));
        }
        self.0.say(|| "fence".into());
        let bytes = &mut *self.0.bytes.borrow_mut();
        let durable = &mut bytes.durable;
        bytes.pending.fence(self.0.cpu.get(), |store| {
            durable.put(store.at(), store.bytes());
        });
        Ok(())
    }
}
