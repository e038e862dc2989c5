//! A namespace behind windows: [`Medium`] and [`RawMedium`], cut into commands.

use alloc::sync::Arc;
use alloc::vec::Vec;

use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};
use nvdimm::extent::Extent;

use super::mmio::WORD_BYTES;
use super::window::{Dpa, LINE, Status};
use super::windows::Windows;
use crate::persist;
use crate::pmem::Access;
use crate::raw::RawMedium;

/// The length of an access that is in range, for slices and pointers.
fn in_range(bytes: u64) -> usize {
    usize::try_from(bytes).expect("addresses have 64 bits")
}

/// A namespace behind windows.
#[derive(Clone, Debug)]
pub struct Blk {
    pub(super) windows: Arc<Windows>,
    /// The extents, each with where it begins in the namespace.
    pub(super) pieces: Arc<[(u64, Extent)]>,
    pub(super) bytes: u64,
    pub(super) access: Access,
}

/// The part of an access that one command moves.
struct Step {
    /// The first line.
    line: Dpa,
    /// Where in the line the access begins.
    skip: usize,
    /// Bytes of the access.
    bytes: usize,
    /// Bytes of the access before this.
    done: usize,
}

impl Step {
    /// Returns the bytes of the lines that it touches.
    const fn line_bytes(&self) -> usize {
        (self.skip + self.bytes).next_multiple_of(LINE)
    }

    /// Returns whether it is made of whole lines.
    const fn is_whole(&self) -> bool {
        self.skip == 0 && self.bytes.is_multiple_of(LINE)
    }
}

impl Blk {
    /// Returns how many windows reach this namespace: the most lanes that make sense.
    #[must_use]
    pub fn window_count(&self) -> u16 {
        self.windows.count()
    }

    fn check(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        match at.0.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(MediaError::OutOfRange { at, bytes }),
        }
    }

    fn check_word(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        if at.0.is_multiple_of(bytes) { self.check(at, bytes) } else { Err(MediaError::Misaligned { at }) }
    }

    fn writable(&self) -> Result<(), MediaError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(MediaError::ReadOnly),
        }
    }

    /// Returns the extent that holds a byte, and the byte's offset in it.
    fn extent_at(&self, at: u64) -> (Extent, u64) {
        let (start, extent) = self.pieces[self.pieces.partition_point(|(start, _)| *start <= at) - 1];
        (extent, at - start)
    }

    /// Returns the DIMM address of a byte.
    fn dpa(&self, at: u64) -> Dpa {
        let (extent, within) = self.extent_at(at);
        Dpa(extent.start + within)
    }

    /// Returns the byte that has this DIMM address.
    fn place_of(&self, dpa: u64) -> NsOffset {
        let holds = |(_, extent): &&(u64, Extent)| dpa.checked_sub(extent.start).is_some_and(|at| at < extent.bytes);
        let (start, extent) = self.pieces.iter().find(holds).expect("an address that an access of ours reaches");
        NsOffset(start + (dpa - extent.start))
    }

    /// Cuts an access, which is in range, where an extent ends, and into what one command moves. With `alone`, a line that
    /// the access has only a part of makes a step of its own: a write changes such a line under its lock.
    fn steps(&self, at: NsOffset, bytes: usize, alone: bool) -> impl Iterator<Item = Step> {
        let mut done = 0;
        core::iter::from_fn(move || {
            let left = bytes - done;
            if left == 0 {
                return None;
            }
            let (extent, within) = self.extent_at(at.0 + done as u64);
            let skip = usize::try_from(within % LINE_BYTES).expect("less than a line");
            let room = self.windows.transfer_bytes.min(extent.bytes - (within - skip as u64));
            let most = left.min(usize::try_from(room).expect("a transfer is 128 lines at most") - skip);
            let now = match alone {
                true if skip > 0 => most.min(LINE - skip),
                true if most > LINE => most / LINE * LINE,
                _ => most,
            };
            let step = Step { line: Dpa(extent.start + within - skip as u64), skip, bytes: now, done };
            done += now;
            Some(step)
        })
    }

    /// Translates a window's status at this place.
    fn error(&self, at: NsOffset, bytes: u64, status: Status) -> MediaError {
        if status.is_lost() {
            return self.readable(at, bytes).err().unwrap_or(MediaError::Poisoned { at });
        }
        MediaError::Device { at, status: status.0 }
    }

    /// Refuses to read bytes that the DIMM is known to have lost.
    fn readable(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let bad = &self.windows.bad;
        for step in self.steps(at, in_range(bytes), false) {
            if let Some(lost) = bad.first_in(step.line.0 + step.skip as u64, step.bytes as u64) {
                return Err(MediaError::Poisoned { at: self.place_of(lost) });
            }
        }
        Ok(())
    }

    /// Returns the word's line, and the word's offset in it.
    fn line_of(&self, at: NsOffset) -> (Dpa, usize) {
        let dpa = self.dpa(at.0);
        let within = usize::try_from(dpa.0 % LINE_BYTES).expect("less than a line");
        (Dpa(dpa.0 - dpa.0 % LINE_BYTES), within)
    }

    fn load<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        self.check_word(at, SIZE as u64)?;
        self.readable(at, SIZE as u64)?;
        let (line, within) = self.line_of(at);
        // One load of an aligned piece takes it out of the aperture: a word is never a mix of old and new.
        const { assert!(WORD_BYTES.is_multiple_of(SIZE)) };
        let mut bytes = [0_u8; LINE];
        // SAFETY: `bytes` has a line's bytes.
        let read = unsafe { self.windows.read(line, bytes.as_mut_ptr(), LINE) };
        read.map_err(|status| self.error(at, SIZE as u64, status))?;
        let mut word = [0; SIZE];
        word.copy_from_slice(&bytes[within..within + SIZE]);
        Ok(word)
    }

    fn store(&self, at: NsOffset, word: &[u8]) -> Result<(), MediaError> {
        self.writable()?;
        self.check_word(at, word.len() as u64)?;
        let (line, within) = self.line_of(at);
        let written = self.windows.change_line(line, |bytes| bytes[within..within + word.len()].copy_from_slice(word));
        written.map_err(|status| self.error(at, word.len() as u64, status))
    }
}

impl RawMedium for Blk {
    unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError> {
        self.check(at, bytes as u64)?;
        self.readable(at, bytes as u64)?;
        let mut lines = [0_u8; LINE];
        for step in self.steps(at, bytes, true) {
            let place = at.plus(step.done as u64);
            let failed = |status| self.error(place, step.bytes as u64, status);
            // SAFETY: the step's bytes are among the caller's.
            unsafe {
                let to = to.add(step.done);
                if step.is_whole() {
                    self.windows.read(step.line, to, step.bytes).map_err(failed)?;
                } else {
                    self.windows.read(step.line, lines.as_mut_ptr(), step.line_bytes()).map_err(failed)?;
                    persist::copy_pieces(to, lines[step.skip..].as_ptr(), step.bytes);
                }
            }
        }
        Ok(())
    }

    unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError> {
        self.writable()?;
        self.check(at, bytes as u64)?;
        for step in self.steps(at, bytes, true) {
            // SAFETY: the step's bytes are among the caller's.
            let from = unsafe { from.add(step.done) };
            let written = if step.is_whole() {
                // SAFETY: as above.
                unsafe { self.windows.write(step.line, from, step.bytes) }
            } else {
                self.windows.change_line(step.line, |line| {
                    // SAFETY: as above, and such a step stays in its line.
                    unsafe { persist::copy_pieces(line[step.skip..].as_mut_ptr(), from, step.bytes) };
                })
            };
            written.map_err(|status| self.error(at.plus(step.done as u64), step.bytes as u64, status))?;
        }
        Ok(())
    }

    fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, bytes)?;
        for step in self.steps(at, in_range(bytes), false) {
            self.windows.bad.inject(step.line.0 + step.skip as u64, step.bytes as u64);
        }
        Ok(())
    }

    fn lost(&self) -> Vec<(NsOffset, u64)> {
        let of = |(start, extent): &(u64, Extent)| {
            let (start, first) = (*start, extent.start);
            let found = self.windows.bad.all_in(extent.start, extent.bytes);
            found.into_iter().map(move |(at, bytes)| (NsOffset(start + (at - first)), bytes))
        };
        self.pieces.iter().flat_map(of).collect()
    }
}

impl Medium for Blk {
    fn len_bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Never: a window may put the pieces of a line on the medium in any order.
    fn keeps_line_order(&self) -> bool {
        false
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's; the copy goes by its pointer alone.
        unsafe { self.read_raw(at, into.as_mut_ptr(), into.len()) }
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's.
        unsafe { self.write_raw(at, from.as_ptr(), from.len()) }
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

    /// Nothing to do: each store is durable when it returns.
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, bytes)
    }

    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, bytes)?;
        for step in self.steps(at, in_range(bytes), false) {
            self.windows.bad.forget_reports(step.line.0 + step.skip as u64, step.bytes as u64);
        }
        Ok(())
    }

    /// SFENCE: what a window takes is streamed.
    #[inline]
    fn order_stores(&self) {
        persist::fence();
    }

    /// Nothing to do: each store is durable when it returns, and has returned its error.
    fn fence(&self) -> Result<(), MediaError> {
        Ok(())
    }
}
