//! Block data windows: a DIMM's bytes behind registers and apertures (BLK apertures), as a namespace for the BTT.
//!
//! [`BlkRegion`] owns a DIMM's windows, [`Blk`] is one namespace behind them. Every access is a command to a window:
//! see `window` for its steps.
//!
//! # Windows and lanes
//! A CPU uses the window of its number, modulo windows. A BTT here has no more lanes than there are windows, and a CPU's
//! lane is its number modulo lanes, so a lane has a window to itself. Each window has a lock of its own all the same,
//! held for one command: namespaces of one region share the windows, and opening and checking need no lane.
//! Locks: lane → map stripe → line → window. Nobody holds two windows, or two lines.
//!
//! # What a power cut leaves
//! Each store is durable when it returns: it is a window write of whole lines, fenced, flushed by the DIMM's hint, with
//! its status checked, so [`Medium::start_write_back`] and [`Medium::fence`] have nothing left to do. A cut within
//! a window write leaves any subset of its 8-byte pieces; a window promises no order among them
//! ([`Medium::keeps_line_order`] is false).
//! - A word of metadata ([`Medium::store_u32`], [`Medium::store_u64`]) lies in one piece. Its line is read, changed
//!   and written as a whole, and the other seven pieces are written as they were: the cut leaves the old word or the
//!   new one, and nothing else changes. The lock of the line keeps two CPUs from undoing each other's words.
//! - So the two halves of a flog record are two window writes, and the first is durable before the second begins. No
//!   commit half is ever on the medium without its body.
//! - Lines are lines of the DIMM: a namespace's extents begin at multiples of 64 in DIMM addresses, or it is refused, so
//!   metadata that are aligned in the namespace are aligned there, too. The BTT refuses to write others.
//!
//! This is stricter than what [`btt::media`] lets a window do, where any subset of everything since the last fence may
//! land. Each state that a cut leaves here is one of those: a cut between two stores leaves all of the earlier ones and
//! none of the later ones; a cut within one leaves a subset of its pieces. So what is explored for media without order
//! in a line holds here; `tests/tests/blk.rs` shows that the driver's stores come in that medium's order.

mod mmio;
mod window;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use btt::media::{MediaError, Medium, NsOffset};
use nvdimm::extent::Extent;
use nvdimm::region::{BlkRegion as Described, BlockWindows};
use spin::{Mutex, MutexGuard};

use crate::bad_ranges::BadRanges;
use crate::flush_hints::FlushHints;
use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};
use crate::pmem::Access;
use mmio::{Io, WORD_BYTES};
use window::{Dpa, LINE, Piece, Status, Window};

const LINE_BYTES: u64 = LINE as u64;

/// Locks of lines, by line modulo this.
const LINE_LOCKS: usize = 64;

/// The number of the CPU that calls. It may be wrong, at the price of CPUs that wait for each other.
pub type ThisCpu = fn() -> u32;

/// Why a DIMM's windows cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// Registers, apertures or flush hints cannot be mapped.
    Map(MapError),
    /// A register or an aperture of this window leaves the address range that it should be in.
    OutsideRange {
        /// The window.
        window: u16,
    },
}

impl From<MapError> for WindowError {
    fn from(why: MapError) -> Self {
        Self::Map(why)
    }
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(why) => why.fmt(f),
            Self::OutsideRange { window } => write!(f, "window {window} leaves its address range"),
        }
    }
}

impl core::error::Error for WindowError {}

/// A namespace that does not fit its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentError {
    /// An extent leaves the bytes that the windows reach.
    OutOfRange(Extent),
    /// An extent does not begin and end at lines of the DIMM, so updates of metadata could tear.
    Misaligned(Extent),
}

impl fmt::Display for ExtentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(Extent { start, bytes }) => {
                write!(f, "{bytes} bytes from DIMM address {start:#x} on leave what the windows reach")
            }
            Self::Misaligned(Extent { start, bytes }) => {
                write!(f, "{bytes} bytes from DIMM address {start:#x} on are not made of 64-byte lines")
            }
        }
    }
}

impl core::error::Error for ExtentError {}

/// A DIMM's windows, which its namespaces share.
#[derive(Clone, Debug)]
pub struct BlkRegion(Arc<Windows>);

#[derive(Debug)]
struct Windows {
    windows: Box<[Mutex<Window>]>,
    /// Bytes that one command moves at most.
    transfer_bytes: u64,
    /// The DIMM addresses that they reach.
    reach: Extent,
    access: Access,
    hints: FlushHints,
    lines: Box<[Mutex<()>]>,
    this_cpu: ThisCpu,
    /// What the DIMM has lost, by DIMM address.
    bad: BadRanges,
}

impl BlkRegion {
    /// Maps a DIMM's windows, no more of them than there are CPUs, and one of its flush hints if it has any.
    ///
    /// # Errors
    /// [`WindowError`].
    pub fn map(
        phys: &impl PhysMap,
        region: &Described,
        flush_hints: &[PhysAddr],
        access: Access,
        cpus: u32,
        this_cpu: ThisCpu,
    ) -> Result<Self, WindowError> {
        let places = Places::of(&region.windows, cpus)?;
        let (control, data) = places.map(phys)?;
        let windows = places.0.iter().map(|place| Mutex::new(place.mapped(control, data)));
        Ok(Self(Arc::new(Windows {
            windows: windows.collect(),
            transfer_bytes: region.windows.transfer_bytes,
            reach: Extent { start: region.mapping.dpa, bytes: region.mapping.bytes },
            access,
            hints: FlushHints::map(phys, flush_hints)?,
            lines: (0..LINE_LOCKS).map(|_| Mutex::new(())).collect(),
            this_cpu,
            bad: BadRanges::default(),
        })))
    }

    /// Windows in use.
    #[must_use]
    pub fn windows(&self) -> u16 {
        u16::try_from(self.0.windows.len()).unwrap_or(u16::MAX)
    }

    /// The namespace that these extents make, one after the other.
    ///
    /// # Errors
    /// [`ExtentError`].
    pub fn namespace(&self, extents: &[Extent], access: Access) -> Result<Blk, ExtentError> {
        let mut pieces = Vec::with_capacity(extents.len());
        let mut bytes = 0_u64;
        for &extent in extents {
            if !extent.start.is_multiple_of(LINE_BYTES) || !extent.bytes.is_multiple_of(LINE_BYTES) {
                return Err(ExtentError::Misaligned(extent));
            }
            let reach = self.0.reach;
            let inside = extent.start.checked_sub(reach.start).and_then(|from| from.checked_add(extent.bytes));
            if inside.is_none_or(|end| end > reach.bytes) {
                return Err(ExtentError::OutOfRange(extent));
            }
            pieces.push((bytes, extent));
            bytes = bytes.checked_add(extent.bytes).ok_or(ExtentError::OutOfRange(extent))?;
        }
        let access = if self.0.access == Access::ReadOnly { Access::ReadOnly } else { access };
        Ok(Blk { region: self.clone(), pieces: pieces.into(), bytes, access })
    }
}

/// Where each window's parts lie in physical addresses.
struct Places(Vec<Place>);

struct Place {
    command: u64,
    status: u64,
    /// Addresses and lengths.
    aperture: Vec<(u64, u64)>,
}

/// A mapped stretch of physical addresses.
#[derive(Clone, Copy)]
struct Stretch {
    at: u64,
    io: Io,
}

impl Stretch {
    fn find(self, address: u64) -> Io {
        // Stretches are mapped from the lowest to the highest address that is looked for, so the distance fits a usize.
        let distance = usize::try_from(address - self.at).unwrap_or(0);
        // SAFETY: within the stretch, as said.
        unsafe { self.io.add(distance) }
    }
}

impl Places {
    /// `nvdimm` has checked what is computed here; it is checked again, as addresses come of it.
    fn of(windows: &BlockWindows, cpus: u32) -> Result<Self, WindowError> {
        let count = u32::from(windows.count).min(cpus.max(1));
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        (0..count).map(|window| Self::one(windows, window)).collect::<Result<_, _>>().map(Self)
    }

    fn one(windows: &BlockWindows, window: u16) -> Result<Place, WindowError> {
        let outside = WindowError::OutsideRange { window };
        let registers = &windows.registers;
        let start = u64::from(window).checked_mul(registers.window_bytes).ok_or(outside)?;
        let register = |offset: u64, bytes: u64| {
            let (at, together) = windows.control.locate(start.checked_add(offset)?)?;
            (together >= bytes && at.is_multiple_of(bytes)).then_some(at)
        };
        let mut aperture = Vec::new();
        let mut at = u64::from(window)
            .checked_mul(windows.data_stride)
            .and_then(|start| start.checked_add(windows.data_offset))
            .ok_or(outside)?;
        let mut left = windows.transfer_bytes;
        while left > 0 {
            let (address, together) = windows.data.locate(at).ok_or(outside)?;
            let bytes = together.min(left);
            if !address.is_multiple_of(LINE_BYTES) || !bytes.is_multiple_of(LINE_BYTES) {
                return Err(WindowError::Map(MapError::Misaligned { at: PhysAddr(address) }));
            }
            aperture.push((address, bytes));
            (at, left) = (at + bytes, left - bytes);
        }
        Ok(Place {
            command: register(registers.command_offset, 8).ok_or(outside)?,
            status: register(registers.status_offset, 4).ok_or(outside)?,
            aperture,
        })
    }

    /// Maps the registers of all windows, and all apertures: each from the lowest to the highest address in use.
    fn map(&self, phys: &impl PhysMap) -> Result<(Stretch, Stretch), MapError> {
        let registers = self.0.iter().flat_map(|it| [(it.command, 8), (it.status, 4)]);
        let apertures = self.0.iter().flat_map(|it| it.aperture.iter().copied());
        // Apertures may be cached: a DIMM is memory to the CPU. What caches may hold of them is dropped before it is read.
        Ok((stretch(phys, registers, Attribute::Uncached)?, stretch(phys, apertures, Attribute::WriteBack)?))
    }
}

impl Place {
    fn mapped(&self, control: Stretch, data: Stretch) -> Window {
        let piece = |&(at, bytes): &(u64, u64)| Piece { at: data.find(at), bytes: usize::try_from(bytes).unwrap_or(0) };
        Window {
            command: control.find(self.command),
            status: control.find(self.status),
            aperture: self.aperture.iter().map(piece).collect(),
        }
    }
}

fn stretch(
    phys: &impl PhysMap,
    parts: impl Iterator<Item = (u64, u64)> + Clone,
    attribute: Attribute,
) -> Result<Stretch, MapError> {
    let at = parts.clone().map(|(at, _)| at).min().unwrap_or(0);
    let end = parts.map(|(at, bytes)| at.saturating_add(bytes)).max().unwrap_or(0);
    let mapped = phys.map(PhysAddr(at), end - at, attribute)?;
    // SAFETY: mapped for good; device memory is no Rust object (PhysMap).
    Ok(Stretch { at, io: unsafe { Io::new(mapped) } })
}

impl Windows {
    /// This CPU's window.
    fn window(&self) -> MutexGuard<'_, Window> {
        let index = (self.this_cpu)() as usize % self.windows.len();
        self.windows[index].lock()
    }

    /// Reads whole lines, no more than a command moves.
    ///
    /// # Safety
    /// As [`Window::read`].
    unsafe fn read(&self, at: Dpa, to: *mut u8, bytes: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        let read = || unsafe { self.window().read(at, to, bytes, &self.hints) };
        read().or_else(|status| {
            // What reads well line by line, as a whole once more: something else has passed. Metadata are not called
            // damaged for that.
            if status.is_lost() && !self.find_lost(at, bytes) { read() } else { Err(status) }
        })
    }

    /// Writes whole lines, no more than a command moves.
    ///
    /// # Safety
    /// As [`Window::write`].
    unsafe fn write(&self, at: Dpa, from: *const u8, bytes: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        unsafe { self.window().write(at, from, bytes, &self.hints) }?;
        self.bad.written(at.0, bytes as u64);
        Ok(())
    }

    /// Some line of these is lost: looks which, one by one, and says whether any is.
    #[cold]
    fn find_lost(&self, at: Dpa, bytes: usize) -> bool {
        let mut line = [0_u8; LINE];
        let mut found = false;
        for start in (at.0..at.0 + bytes as u64).step_by(LINE) {
            // SAFETY: `line` has a line's bytes.
            let read = unsafe { self.window().read(Dpa(start), line.as_mut_ptr(), LINE, &self.hints) };
            if read.is_err_and(Status::is_lost) {
                self.bad.add(start, LINE_BYTES);
                found = true;
            }
        }
        found
    }

    fn line_lock(&self, at: Dpa) -> MutexGuard<'_, ()> {
        let index = usize::try_from(at.0 / LINE_BYTES % LINE_LOCKS as u64).unwrap_or(0);
        self.lines[index].lock()
    }

    /// Changes a part of a line, by writing all of it. A cut leaves each of its 8-byte pieces old or new.
    fn change_line(&self, at: Dpa, change: impl FnOnce(&mut [u8; LINE])) -> Result<(), Status> {
        let _changing = self.line_lock(at);
        if self.bad.first_in(at.0, LINE_BYTES).is_some() {
            return Err(Status(Status::UNCORRECTABLE));
        }
        let mut line = [0_u8; LINE];
        // SAFETY: `line` has a line's bytes.
        unsafe { self.read(at, line.as_mut_ptr(), LINE)? };
        change(&mut line);
        // SAFETY: as above.
        unsafe { self.write(at, line.as_ptr(), LINE) }
    }
}

/// A namespace behind windows.
#[derive(Clone, Debug)]
pub struct Blk {
    region: BlkRegion,
    /// The extents, each with where it begins in the namespace.
    pieces: Arc<[(u64, Extent)]>,
    bytes: u64,
    access: Access,
}

/// What one command moves of an access.
struct Step {
    /// The first line.
    line: Dpa,
    /// Where in it the access begins.
    skip: usize,
    /// Bytes of the access.
    bytes: usize,
    /// Bytes of the access before this.
    done: usize,
}

impl Step {
    /// The lines that it touches, in bytes.
    const fn line_bytes(&self) -> usize {
        (self.skip + self.bytes).next_multiple_of(LINE)
    }

    /// Whether it is made of whole lines.
    const fn is_whole(&self) -> bool {
        self.skip == 0 && self.bytes.is_multiple_of(LINE)
    }
}

impl Blk {
    fn windows(&self) -> &Windows {
        &self.region.0
    }

    /// How many windows this namespace is reached through: the most lanes that make sense.
    #[must_use]
    pub fn window_count(&self) -> u16 {
        self.region.windows()
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

    /// The extent that holds a byte, and how far into it that is.
    fn extent_at(&self, at: u64) -> (Extent, u64) {
        let (start, extent) = self.pieces[self.pieces.partition_point(|(start, _)| *start <= at) - 1];
        (extent, at - start)
    }

    /// The DIMM address of a byte.
    fn dpa(&self, at: u64) -> Dpa {
        let (extent, within) = self.extent_at(at);
        Dpa(extent.start + within)
    }

    /// The byte that has this DIMM address.
    fn place_of(&self, dpa: u64) -> NsOffset {
        let holds = |(_, extent): &&(u64, Extent)| dpa.checked_sub(extent.start).is_some_and(|at| at < extent.bytes);
        NsOffset(self.pieces.iter().find(holds).map_or(0, |(start, extent)| start + (dpa - extent.start)))
    }

    /// Cuts an access, which is in range, where an extent ends, and into what one command moves. To write, lines of which
    /// only a part is written come alone.
    fn steps(&self, at: NsOffset, bytes: usize, alone: bool) -> impl Iterator<Item = Step> {
        let mut done = 0;
        core::iter::from_fn(move || {
            let left = bytes - done;
            if left == 0 {
                return None;
            }
            let (extent, within) = self.extent_at(at.0 + done as u64);
            let skip = usize::try_from(within % LINE_BYTES).unwrap_or(0);
            let room = usize::try_from(self.windows().transfer_bytes.min(extent.bytes - (within - skip as u64)));
            let most = left.min(room.unwrap_or(usize::MAX) - skip);
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

    /// What a window's status means at this place.
    fn error(&self, at: NsOffset, bytes: u64, status: Status) -> MediaError {
        if status.is_lost() {
            return self.readable(at, bytes).err().unwrap_or(MediaError::Poisoned { at });
        }
        MediaError::Device { at, status: status.0 }
    }

    /// Refuses to read what the DIMM is known to have lost.
    fn readable(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let bad = &self.windows().bad;
        for step in self.steps(at, usize::try_from(bytes).unwrap_or(usize::MAX), false) {
            if let Some(lost) = bad.first_in(step.line.0 + step.skip as u64, step.bytes as u64) {
                return Err(MediaError::Poisoned { at: self.place_of(lost) });
            }
        }
        Ok(())
    }

    /// Copies bytes out of the namespace, as [`Medium::read`] does, to where no Rust object is: a peer's memory.
    ///
    /// # Errors
    /// As [`Medium::read`].
    ///
    /// # Safety
    /// `bytes` bytes from `to` on are writable, and no Rust reference to them exists.
    pub unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError> {
        self.check(at, bytes as u64)?;
        self.readable(at, bytes as u64)?;
        let mut lines = [0_u8; LINE];
        for step in self.steps(at, bytes, true) {
            let place = at.plus(step.done as u64);
            let failed = |status| self.error(place, step.bytes as u64, status);
            // SAFETY: the step's bytes are the caller's.
            unsafe {
                let to = to.add(step.done);
                if step.is_whole() {
                    self.windows().read(step.line, to, step.bytes).map_err(failed)?;
                } else {
                    self.windows().read(step.line, lines.as_mut_ptr(), step.line_bytes()).map_err(failed)?;
                    crate::persist::copy_pieces(to, lines[step.skip..].as_ptr(), step.bytes);
                }
            }
        }
        Ok(())
    }

    /// Copies bytes into the namespace, as [`Medium::write`] does, from where no Rust object is: a peer's memory.
    ///
    /// # Errors
    /// As [`Medium::write`].
    ///
    /// # Safety
    /// `bytes` bytes from `from` on are readable. They may change meanwhile.
    pub unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError> {
        self.writable()?;
        self.check(at, bytes as u64)?;
        for step in self.steps(at, bytes, true) {
            // SAFETY: the step's bytes are the caller's.
            let from = unsafe { from.add(step.done) };
            let written = if step.is_whole() {
                // SAFETY: as above.
                unsafe { self.windows().write(step.line, from, step.bytes) }
            } else {
                self.windows().change_line(step.line, |line| {
                    // SAFETY: as above, and such a step stays in its line.
                    unsafe { crate::persist::copy_pieces(line[step.skip..].as_mut_ptr(), from, step.bytes) };
                })
            };
            written.map_err(|status| self.error(at.plus(step.done as u64), step.bytes as u64, status))?;
        }
        Ok(())
    }

    /// The word's line, and where the 8-byte piece with the word is in it.
    fn line_of(&self, at: NsOffset) -> (Dpa, usize) {
        let dpa = self.dpa(at.0);
        let within = usize::try_from(dpa.0 % LINE_BYTES).unwrap_or(0);
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
        let read = unsafe { self.windows().read(line, bytes.as_mut_ptr(), LINE) };
        read.map_err(|status| self.error(at, SIZE as u64, status))?;
        let mut word = [0; SIZE];
        word.copy_from_slice(&bytes[within..within + SIZE]);
        Ok(word)
    }

    fn store(&self, at: NsOffset, word: &[u8]) -> Result<(), MediaError> {
        self.writable()?;
        self.check_word(at, word.len() as u64)?;
        let (line, within) = self.line_of(at);
        let written =
            self.windows().change_line(line, |bytes| bytes[within..within + word.len()].copy_from_slice(word));
        written.map_err(|status| self.error(at, word.len() as u64, status))
    }

    /// The medium has lost the lines that hold `bytes` bytes from `at` on: reads of them fail with
    /// [`MediaError::Poisoned`] until they are written again as a whole. Kept in memory only.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`].
    pub fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, bytes)?;
        for step in self.steps(at, usize::try_from(bytes).unwrap_or(usize::MAX), false) {
            self.windows().bad.add(step.line.0 + step.skip as u64, step.bytes as u64);
        }
        Ok(())
    }

    /// What the medium has lost: places and lengths in bytes.
    #[must_use]
    pub fn lost(&self) -> Vec<(NsOffset, u64)> {
        let of = |(start, extent): &(u64, Extent)| {
            let (start, first) = (*start, extent.start);
            let found = self.windows().bad.all_in(extent.start, extent.bytes);
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

    /// Nothing to do: each store is durable when it returns, and whatever went wrong with it has been told.
    fn fence(&self) -> Result<(), MediaError> {
        Ok(())
    }
}
