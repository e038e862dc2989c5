//! What a cut left, as the medium of the code that recovers it: a frame of bytes, and zeroes elsewhere.
//!
//! It notes what is done to it. Bytes may be *undecided*: a cut could have left either of two contents. As long as
//! no code reads them, both give the same outcome; so it notes whether they are read.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{Ordering, fence};

use btt::media::{MediaError, Medium, NsOffset};
use btt::sim::{Event, Persistence};

use super::frame::{Frame, Windows};

/// The medium. One thread's.
#[derive(Debug)]
pub struct CutMedium {
    windows: RefCell<Windows>,
    bytes: RefCell<Vec<u8>>,
    undecided: RefCell<Vec<Range<u64>>>,
    touched: Cell<bool>,
    events: RefCell<Vec<Event>>,
    len: u64,
    persistence: Persistence,
    read_only: Cell<bool>,
    lost: RefCell<Range<u64>>,
}

impl CutMedium {
    /// A medium of `len` bytes, all zero until [`CutMedium::load`].
    #[must_use]
    pub fn new(len: u64, persistence: Persistence) -> Self {
        Self {
            windows: RefCell::new(Windows::new(&[])),
            bytes: RefCell::default(),
            undecided: RefCell::default(),
            touched: Cell::new(false),
            events: RefCell::default(),
            len,
            persistence,
            read_only: Cell::new(false),
            lost: RefCell::default(),
        }
    }

    /// When what is stored to it persists.
    #[must_use]
    pub const fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Begins anew with these bytes, of which some are undecided.
    pub fn load(&self, frame: &Frame, undecided: &[Range<u64>]) {
        if *self.windows.borrow() != *frame.windows() {
            self.windows.replace(frame.windows().clone());
        }
        let mut own = self.bytes.borrow_mut();
        own.clear();
        own.extend_from_slice(frame.bytes());
        let mut ranges = self.undecided.borrow_mut();
        ranges.clear();
        ranges.extend_from_slice(undecided);
        self.touched.set(false);
        self.events.borrow_mut().clear();
        self.read_only.set(false);
        self.lose(0..0);
    }

    /// Whether undecided bytes have been read.
    pub fn touched(&self) -> bool {
        self.touched.get()
    }

    /// Refuses stores from now on, or does not.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.set(read_only);
    }

    /// Fails loads from these bytes from now on: the medium has lost them.
    pub fn lose(&self, range: Range<u64>) {
        self.lost.replace(range);
    }

    /// What has been stored since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    fn check(&self, at: NsOffset, bytes: u64, align: u64) -> Result<(), MediaError> {
        if at.0.checked_add(bytes).is_none_or(|end| end > self.len) {
            return Err(MediaError::OutOfRange { at, bytes });
        }
        if at.0.is_multiple_of(align) { Ok(()) } else { Err(MediaError::Misaligned { at }) }
    }

    fn get(&self, at: NsOffset, into: &mut [u8], align: u64) -> Result<(), MediaError> {
        self.check(at, into.len() as u64, align)?;
        let past = at.0 + into.len() as u64;
        if self.undecided.borrow().iter().any(|range| range.start < past && at.0 < range.end) {
            self.touched.set(true);
        }
        let lost = self.lost.borrow();
        if lost.start < past && at.0 < lost.end {
            return Err(MediaError::Poisoned { at: NsOffset(lost.start.max(at.0)) });
        }
        self.windows.borrow().read(&self.bytes.borrow(), at.0, into);
        Ok(())
    }

    fn put(&self, at: NsOffset, from: &[u8], align: u64, event: impl FnOnce() -> Event) -> Result<(), MediaError> {
        self.check(at, from.len() as u64, align)?;
        if self.read_only.get() {
            return Err(MediaError::ReadOnly);
        }
        // What recovers a state stores only where something stood before the cut.
        let place = self.windows.borrow().place(at.0, from.len()).ok_or(MediaError::Device { at, status: 3 })?;
        self.bytes.borrow_mut()[place..place + from.len()].copy_from_slice(from);
        self.events.borrow_mut().push(event());
        Ok(())
    }

    fn word<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        let mut word = [0; SIZE];
        self.get(at, &mut word, SIZE as u64)?;
        Ok(word)
    }

    fn store(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.put(at, from, from.len() as u64, || Event::Store { at, bytes: from.into() })
    }
}

impl Medium for CutMedium {
    fn len_bytes(&self) -> u64 {
        self.len
    }

    fn read_only(&self) -> bool {
        self.read_only.get()
    }

    fn keeps_line_order(&self) -> bool {
        self.persistence.keeps_line_order()
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.get(at, into, 1)
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.put(at, from, 1, || Event::Stream { at, bytes: from.into() })
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.word(at).map(u32::from_le_bytes)
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.word(at).map(u64::from_le_bytes)
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes())
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes())
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, bytes, 1)?;
        self.events.borrow_mut().push(Event::WriteBack { at, bytes });
        Ok(())
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        self.events.borrow_mut().push(Event::Fence);
        Ok(())
    }
}
