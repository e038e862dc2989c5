//! DIMMs' label areas, which outlive the node, and can fail.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};

/// A label area: bytes that outlive the node, and how many writes the power lasts for.
#[derive(Debug)]
pub struct LabelArea {
    /// The area.
    pub bytes: Mutex<Vec<u8>>,
    writes_left: Mutex<usize>,
    /// Whether it can be read no more after the next write.
    fails_after_write: AtomicBool,
    unreadable: AtomicBool,
}

impl LabelArea {
    /// A blank one, never freed.
    #[must_use]
    #[allow(clippy::new_ret_no_self, reason = "never freed")]
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            bytes: Mutex::new(vec![0; 128 << 10]),
            writes_left: Mutex::new(usize::MAX),
            fails_after_write: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
        }))
    }

    /// Whether it can be read no more after the next write.
    pub fn fail_after_write(&self, fails: bool) {
        self.fails_after_write.store(fails, Ordering::Relaxed);
        self.unreadable.store(false, Ordering::Relaxed);
    }

    /// Lets the power fail after so many more writes; None: not at all.
    ///
    /// # Panics
    /// When a thread panicked while it wrote.
    pub fn cut_after(&self, writes: Option<usize>) {
        *self.writes_left.lock().expect("no panic") = writes.unwrap_or(usize::MAX);
    }

    /// Makes it blank, as a new one is.
    ///
    /// # Panics
    /// When a thread panicked while it wrote.
    pub fn clear(&self) {
        self.bytes.lock().expect("no panic").fill(0);
        self.cut_after(None);
        self.fails_after_write.store(false, Ordering::Relaxed);
        self.unreadable.store(false, Ordering::Relaxed);
    }
}

/// Those of a machine, by device handle.
#[derive(Clone)]
pub(crate) struct Areas(pub(crate) Vec<(u32, &'static LabelArea)>);

impl Areas {
    fn of(&self, dimm: DeviceHandle) -> Result<&'static LabelArea, LabelError> {
        let found = self.0.iter().find(|(handle, _)| *handle == dimm.0);
        found.map(|(_, area)| *area).ok_or(LabelError::NoAnswer)
    }
}

impl LabelSource for Areas {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(self.of(dimm).ok().map(|area| area.bytes.lock().expect("no panic").len() as u64))
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let area = self.of(dimm)?;
        if area.unreadable.load(Ordering::Relaxed) {
            return Err(LabelError::NoAnswer);
        }
        let (start, bytes) = (usize::try_from(offset).expect("small"), area.bytes.lock().expect("no panic"));
        into.copy_from_slice(&bytes[start..start + into.len()]);
        Ok(())
    }
}

impl LabelStore for Areas {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let area = self.of(dimm)?;
        let mut left = area.writes_left.lock().expect("no panic");
        *left = left.checked_sub(1).ok_or(LabelError::NoAnswer)?;
        area.unreadable.store(area.fails_after_write.load(Ordering::Relaxed), Ordering::Relaxed);
        let start = usize::try_from(offset).expect("small");
        area.bytes.lock().expect("no panic")[start..start + from.len()].copy_from_slice(from);
        Ok(())
    }
}
