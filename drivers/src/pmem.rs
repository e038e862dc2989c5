//! Persistent memory that is mapped: a region, and the namespaces in it.
//!
//! [`PmemRegion`] is a mapped range, with what is known to be lost of it; [`Pmem`] is one namespace of it and implements
//! [`Medium`] and [`RawMedium`].
//!
//! # Why this is sound
//! The medium is never a Rust object (invariant 14). Its bytes are reached by [`crate::persist`]'s copies and by atomic
//! accesses to aligned words, never by a reference; so stores by other CPUs, or by a peer that maps the same memory,
//! are races between machine instructions only, and the worst that they give is a mix of old and new bytes.
//!
//! | access | by | order |
//! |---|---|---|
//! | `read` | loads by AVX, SSE2 or words ([`crate::guarded`]) | none |
//! | `write` | streaming stores, cached at ragged ends | durable after the next `fence` |
//! | `load_*` | one aligned load | acquire |
//! | `store_*` | one aligned store | release; one line's stores persist in program order, unless a device flushes it |
//!
//! # What the medium has lost
//! A region keeps a list of lost lines. A line in the list is not read. If a load ends in a machine check, its handler has
//! added the line ([`crate::poison`]). Both give [`MediaError::Poisoned`]. A store that would leave a part of a lost line as
//! it is fails in the same way: its bytes would be lost with the line.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use btt::media::{FenceFault, LINE_BYTES, MediaError, Medium, NsOffset};

use crate::bad_ranges::BadRanges;
use crate::flush::Flush;
use crate::flush_hints::FlushHints;
use crate::guarded::{self, Interrupted};
use crate::persist::{self, Persist};
use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};
use crate::poison;
use crate::raw::RawMedium;

/// The number of attempts at a load that machine checks about other bytes have ended.
const LOAD_ATTEMPTS: u32 = 4;

/// Whether stores are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads and stores.
    ReadWrite,
    /// Reads; a store is refused with [`MediaError::ReadOnly`].
    ReadOnly,
}

/// A slice that does not fit its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceError {
    /// The slice would leave the region.
    OutOfRange {
        /// Where the slice would begin, in bytes from the region's start.
        at: u64,
        /// How long it would be.
        bytes: u64,
        /// How long the region is.
        region_bytes: u64,
    },
    /// The slice would not begin at a cache line, so lines would be shared between namespaces.
    Misaligned {
        /// Where it would begin.
        at: u64,
    },
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at, bytes, region_bytes } => {
                write!(f, "{bytes} bytes at {at:#x} leave the region of {region_bytes} bytes")
            }
            Self::Misaligned { at } => write!(f, "a namespace at {at:#x} would not begin at a 64-byte line"),
        }
    }
}

impl core::error::Error for SliceError {}

/// What makes stores durable.
#[derive(Clone, Debug)]
enum Durable {
    /// Write-backs from the CPU's caches, then fences, and the flush hints that there are.
    WriteBacks(FlushHints),
    /// FLUSHes of a device: the memory is a file in a host's page cache.
    Flushes(Arc<dyn Flush>),
}

impl Durable {
    /// Returns why nothing can be made durable any more.
    #[inline]
    fn fault(&self) -> Option<FenceFault> {
        match self {
            Self::WriteBacks(_) => None,
            Self::Flushes(flush) => flush.fault(),
        }
    }
}

/// A mapped range of persistent memory, which its namespaces share.
#[derive(Clone, Debug)]
pub struct PmemRegion {
    base: NonNull<u8>,
    bytes: usize,
    access: Access,
    persist: Persist,
    durable: Durable,
    /// Its offset in its region.
    start: u64,
    /// The lines that the region has lost.
    bad: Arc<BadRanges>,
}

// SAFETY: the pointer reaches memory that every CPU may access and that outlives the value; all accesses through it are
// atomic, or copies that may race (module documentation).
unsafe impl Send for PmemRegion {}
// SAFETY: as for Send.
unsafe impl Sync for PmemRegion {}

impl PmemRegion {
    /// Maps `bytes` bytes at physical `at` and one flush hint address for each DIMM that has any.
    ///
    /// # Errors
    /// The map's; an `at` that is no multiple of 64 or a hint that is no multiple of 8 is [`MapError::Misaligned`].
    pub fn map(
        phys: &impl PhysMap,
        at: PhysAddr,
        bytes: u64,
        flush_hints: &[PhysAddr],
        access: Access,
        persist: Persist,
    ) -> Result<Self, MapError> {
        if !at.0.is_multiple_of(LINE_BYTES) {
            return Err(MapError::Misaligned { at });
        }
        let usable = usize::try_from(bytes).map_err(|_| MapError::BeyondPhysicalWidth { at, bytes })?;
        let base = phys.map(at, bytes, Attribute::WriteBack)?;
        let hints = FlushHints::map(phys, flush_hints)?;
        let bad = Arc::default();
        poison::watch(at, bytes, &bad);
        Ok(Self { base, bytes: usable, access, persist, durable: Durable::WriteBacks(hints), start: 0, bad })
    }

    /// The same region, whose stores this device's FLUSHes make durable, and nothing else does.
    #[must_use]
    pub fn flushed_by(self, flush: Arc<dyn Flush>) -> Self {
        Self { durable: Durable::Flushes(flush), ..self }
    }

    /// A region over memory that is mapped already: a file mapping on a host.
    ///
    /// # Safety
    /// 1. `bytes` bytes from `base` on are readable, and writable unless `access` is [`Access::ReadOnly`], as long as
    ///    this region or a namespace of it is used.
    /// 2. No Rust reference to any of them exists in that time.
    ///
    /// # Panics
    /// If `base` is not 64-byte aligned.
    #[must_use]
    pub unsafe fn from_mapping(base: NonNull<u8>, bytes: usize, access: Access, persist: Persist) -> Self {
        assert!(base.addr().get().is_multiple_of(64), "a mapping of persistent memory begins at a line");
        let durable = Durable::WriteBacks(FlushHints::none());
        Self { base, bytes, access, persist, durable, start: 0, bad: Arc::default() }
    }

    /// Returns what makes stores durable and how they are made, in words: `clwb, avx copies`.
    #[must_use]
    pub fn durability(&self) -> String {
        match &self.durable {
            Durable::WriteBacks(_) => self.persist.to_string(),
            Durable::Flushes(_) => format!("FLUSHes of its device, {} copies", self.persist.copy_name()),
        }
    }

    /// Returns the region's length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Returns the namespace of `bytes` bytes that begins `at` bytes into the region. Only the labels keep namespaces apart:
    /// this does not check that they are disjoint.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn namespace(&self, at: u64, bytes: u64, access: Access) -> Result<Pmem, SliceError> {
        let out_of_range = SliceError::OutOfRange { at, bytes, region_bytes: self.len_bytes() };
        if !at.is_multiple_of(LINE_BYTES) {
            return Err(SliceError::Misaligned { at });
        }
        let start = usize::try_from(at).map_err(|_| out_of_range)?;
        let bytes = usize::try_from(bytes).map_err(|_| out_of_range)?;
        if start > self.bytes || bytes > self.bytes - start {
            return Err(out_of_range);
        }
        let access = if self.access == Access::ReadOnly { Access::ReadOnly } else { access };
        // SAFETY: `start` is at most the length of the mapping.
        let base = unsafe { self.base.add(start) };
        Ok(Pmem(Self {
            base,
            bytes,
            access,
            persist: self.persist,
            durable: self.durable.clone(),
            start: self.start + at,
            bad: Arc::clone(&self.bad),
        }))
    }
}

/// A namespace of persistent memory.
#[derive(Clone, Debug)]
pub struct Pmem(PmemRegion);

impl Pmem {
    /// Returns the address of the `bytes` bytes at `at`.
    #[inline]
    fn locate(&self, at: NsOffset, bytes: usize) -> Result<*mut u8, MediaError> {
        match usize::try_from(at.0) {
            Ok(start) if start <= self.0.bytes && bytes <= self.0.bytes - start => {
                // SAFETY: `start` is at most the length of the mapping.
                let place = unsafe { self.0.base.add(start) };
                Ok(place.as_ptr())
            }
            _ => Err(MediaError::OutOfRange { at, bytes: bytes as u64 }),
        }
    }

    /// Does what `locate` does, for an aligned word of type `T`.
    #[inline]
    fn locate_word<T>(&self, at: NsOffset) -> Result<*mut T, MediaError> {
        // The base is line-aligned, so the offset alone decides.
        if !at.0.is_multiple_of(size_of::<T>() as u64) {
            return Err(MediaError::Misaligned { at });
        }
        Ok(self.locate(at, size_of::<T>())?.cast())
    }

    /// Refuses to read bytes that the medium has lost.
    #[inline]
    fn readable(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        match self.0.bad.first_in(self.0.start + at.0, bytes as u64) {
            None => Ok(()),
            Some(lost) => Err(MediaError::Poisoned { at: NsOffset(lost - self.0.start) }),
        }
    }

    /// Runs `load`, which loads these bytes, and fails if they are lost before or after it.
    #[inline(always)]
    fn unless_lost<T>(
        &self,
        at: NsOffset,
        bytes: usize,
        load: impl Fn() -> Result<T, Interrupted>,
    ) -> Result<T, MediaError> {
        // Nothing is lost at all: the way of nearly all loads. A line that is lost meanwhile may read as any bytes.
        if self.0.bad.is_empty()
            && let Ok(loaded) = load()
            && self.0.bad.is_empty()
        {
            return Ok(loaded);
        }
        self.load_beside_lost(at, bytes, load)
    }

    /// As [`Pmem::unless_lost`], where something is lost.
    #[cold]
    #[inline(never)]
    fn load_beside_lost<T>(
        &self,
        at: NsOffset,
        bytes: usize,
        load: impl Fn() -> Result<T, Interrupted>,
    ) -> Result<T, MediaError> {
        for _ in 0..LOAD_ATTEMPTS {
            self.readable(at, bytes)?;
            if let Ok(loaded) = load() {
                return self.readable(at, bytes).map(|()| loaded);
            }
            // A machine check ended the load: about these bytes, or about others.
        }
        Err(MediaError::Poisoned { at })
    }

    /// Refuses a store that leaves a part of a lost line as it is.
    #[inline(always)]
    fn mends_lines(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        match self.0.bad.torn_by(self.0.start + at.0, bytes as u64) {
            None => Ok(()),
            Some(lost) => Err(MediaError::Poisoned { at: NsOffset(lost - self.0.start) }),
        }
    }

    #[inline(always)]
    fn writable(&self) -> Result<(), MediaError> {
        match (self.0.access, self.0.durable.fault()) {
            (Access::ReadWrite, None) => Ok(()),
            (Access::ReadWrite, Some(why)) => Err(MediaError::NotDurable(why)),
            (Access::ReadOnly, _) => Err(MediaError::ReadOnly),
        }
    }
}

impl RawMedium for Pmem {
    #[inline(always)]
    unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError> {
        let from = self.locate(at, bytes)?;
        // SAFETY: `locate` checked the one range, the caller vouches for the other.
        self.unless_lost(at, bytes, || unsafe { self.0.persist.load(to, from, bytes) })
    }

    #[inline(always)]
    unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError> {
        self.writable()?;
        let to = self.locate(at, bytes)?;
        self.mends_lines(at, bytes)?;
        // SAFETY: `locate` checked the one range, the caller vouches for the other. The copy is made of instructions, not
        // of accesses that the compiler knows, and loads each byte once.
        unsafe { self.0.persist.stream(to, from, bytes) };
        self.0.bad.written(self.0.start + at.0, bytes as u64);
        Ok(())
    }

    fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.locate(at, usize::try_from(bytes).map_err(|_| MediaError::OutOfRange { at, bytes })?)?;
        self.0.bad.inject(self.0.start + at.0, bytes);
        Ok(())
    }

    fn lost(&self) -> Vec<(NsOffset, u64)> {
        let own = self.0.bad.all_in(self.0.start, self.0.len_bytes());
        own.into_iter().map(|(at, bytes)| (NsOffset(at - self.0.start), bytes)).collect()
    }
}

impl Medium for Pmem {
    #[inline]
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    #[inline]
    fn read_only(&self) -> bool {
        self.0.access == Access::ReadOnly || self.0.durable.fault().is_some()
    }

    /// Where the caches are written back: stores to mapped memory go through one line, which is written back whole. A
    /// host's disk takes a page's sectors in any order, and promises nothing about what is in one.
    #[inline]
    fn keeps_line_order(&self) -> bool {
        matches!(self.0.durable, Durable::WriteBacks(_))
    }

    #[inline(always)]
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's, and no `&mut [u8]` can overlap the medium. The copy goes by its pointer alone.
        unsafe { self.read_raw(at, into.as_mut_ptr(), into.len()) }
    }

    #[inline(always)]
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's, and no `&[u8]` can overlap the medium.
        unsafe { self.write_raw(at, from.as_ptr(), from.len()) }
    }

    #[inline(always)]
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        let word = self.locate_word::<u32>(at)?;
        // SAFETY: the word is mapped and aligned; racing accesses to the medium are atomic or machine copies.
        self.unless_lost(at, 4, || unsafe { guarded::load_u32(word) }).map(u32::from_le)
    }

    #[inline(always)]
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        let word = self.locate_word::<u64>(at)?;
        // SAFETY: as in `load_u32`.
        self.unless_lost(at, 8, || unsafe { guarded::load_u64(word) }).map(u64::from_le)
    }

    #[inline(always)]
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.writable()?;
        let word = self.locate_word::<u32>(at)?;
        self.mends_lines(at, 4)?;
        // SAFETY: as in `load_u32`, and the mapping is writable.
        unsafe { AtomicU32::from_ptr(word) }.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    #[inline(always)]
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.writable()?;
        let word = self.locate_word::<u64>(at)?;
        self.mends_lines(at, 8)?;
        // SAFETY: as in `store_u32`.
        unsafe { AtomicU64::from_ptr(word) }.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    /// With one look at the range, and at what is lost of it.
    #[inline(always)]
    fn store_pair(&self, at: NsOffset, [first, second]: [u64; 2]) -> Result<(), MediaError> {
        self.writable()?;
        if !at.0.is_multiple_of(8) {
            return Err(MediaError::Misaligned { at });
        }
        let words = self.locate(at, 16)?.cast::<u64>();
        self.mends_lines(at, 16)?;
        // SAFETY: as in `store_u64`, for each of the two.
        unsafe {
            AtomicU64::from_ptr(words).store(first.to_le(), Ordering::Release);
            AtomicU64::from_ptr(words.add(1)).store(second.to_le(), Ordering::Release);
        }
        Ok(())
    }

    #[inline(always)]
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let length = usize::try_from(bytes).map_err(|_| MediaError::OutOfRange { at, bytes })?;
        let from = self.locate(at, length)?;
        // A host reads its page cache through the CPUs' caches: a FLUSH needs no write-back.
        if let Durable::WriteBacks(_) = self.0.durable {
            // SAFETY: `locate` checked the range.
            unsafe { self.0.persist.write_back(from, length) };
        }
        Ok(())
    }

    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.locate(at, usize::try_from(bytes).map_err(|_| MediaError::OutOfRange { at, bytes })?)?;
        self.0.bad.forget_reports(self.0.start + at.0, bytes);
        Ok(())
    }

    #[inline]
    fn will_store(&self, at: NsOffset) {
        if let Ok(line) = self.locate(at, 1) {
            // SAFETY: `locate` checked the place; a prefetch changes nothing that a program can read, and never faults.
            unsafe { persist::prefetch_to_store(line) };
        }
    }

    /// SFENCE: streaming stores are not ordered after earlier stores without it.
    #[inline]
    fn order_stores(&self) {
        persist::fence();
    }

    /// Also writes the flush hints, or is a FLUSH.
    #[inline(always)]
    fn fence(&self) -> Result<(), MediaError> {
        match &self.0.durable {
            Durable::WriteBacks(hints) => {
                hints.fence();
                Ok(())
            }
            Durable::Flushes(flush) => flush.flush().map_err(MediaError::NotDurable),
        }
    }
}
