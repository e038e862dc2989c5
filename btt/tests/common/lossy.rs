//! A medium that loses lines.

use std::ops::Range;
use std::sync::Mutex;

use btt::media::{MediaError, Medium, NsOffset};
use btt::sim::Sim;

/// A medium that has lost what stands in some ranges, until whole lines of them are written.
pub struct Lossy {
    pub inner: Sim,
    pub lost: Mutex<Vec<Range<u64>>>,
    /// Lines that are listed as lost and are sound: they were written before the report came.
    pub late: Mutex<Vec<Range<u64>>>,
    /// Does not know of a loss before it is read: what is stored into a part of a lost line is lost with it.
    pub unaware: bool,
    /// Takes no data here.
    pub refused: Mutex<Vec<Range<u64>>>,
    /// Takes data that begin here, and keeps none of them.
    pub forgotten: Mutex<Vec<Range<u64>>>,
    /// Done once, in the middle of the next read that fails.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Lossy {
    pub fn new(inner: Sim) -> Self {
        let [lost, late, refused, forgotten] = [(); 4].map(|()| Mutex::default());
        Self { inner, lost, late, unaware: false, refused, forgotten, meanwhile: Mutex::default() }
    }

    pub fn lose(&self, at: u64, bytes: u64) {
        self.lost.lock().expect("no panic").extend((at..at + bytes).step_by(64).map(|line| line..line + 64));
    }

    fn look(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        let range = at.0..at.0 + bytes as u64;
        let lists = [&self.lost, &self.late];
        let touches = |line: &Range<u64>| line.start < range.end && range.start < line.end;
        if !lists.iter().any(|list| list.lock().expect("no panic").iter().any(touches)) {
            return Ok(());
        }
        if let Some(meanwhile) = self.meanwhile.lock().expect("no panic").take() {
            meanwhile();
        }
        Err(MediaError::Poisoned { at })
    }

    /// Refuses to store into a part of a line that is known to be lost.
    fn mends_lines(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        let range = at.0..at.0 + bytes as u64;
        let torn = self.lost.lock().expect("no panic").iter().any(|l| l.start < range.end && range.start < l.end);
        if torn && !self.unaware { Err(MediaError::Poisoned { at }) } else { Ok(()) }
    }
}

impl Medium for Lossy {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }
    fn read_only(&self) -> bool {
        self.inner.read_only()
    }
    fn keeps_line_order(&self) -> bool {
        self.inner.keeps_line_order()
    }
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.look(at, into.len())?;
        self.inner.read(at, into)
    }
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        let range = at.0..at.0 + from.len() as u64;
        if self.refused.lock().expect("no panic").iter().any(|r| r.start < range.end && range.start < r.end) {
            return Err(MediaError::Device { at, status: 3 });
        }
        if self.forgotten.lock().expect("no panic").iter().any(|r| r.contains(&at.0)) {
            return Ok(());
        }
        self.lost.lock().expect("no panic").retain(|line| !(range.start <= line.start && line.end <= range.end));
        self.mends_lines(at, from.len())?;
        self.inner.write(at, from)
    }
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.look(at, 4)?;
        self.inner.load_u32(at)
    }
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.look(at, 8)?;
        self.inner.load_u64(at)
    }
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.mends_lines(at, 4)?;
        self.inner.store_u32(at, value)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.mends_lines(at, 8)?;
        self.inner.store_u64(at, value)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.inner.start_write_back(at, bytes)
    }
    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let range = at.0..at.0 + bytes;
        self.late.lock().expect("no panic").retain(|line| !(range.start < line.end && line.start < range.end));
        Ok(())
    }
    fn order_stores(&self) {
        self.inner.order_stores();
    }
    fn fence(&self) -> Result<(), MediaError> {
        self.inner.fence()
    }
}
