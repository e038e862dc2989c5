//! Persistent memory that is mapped: a region, and the namespaces in it.
//!
//! [`PmemRegion`] owns the knowledge about a mapped range, [`Pmem`] is one namespace of it and implements
//! [`btt::media::Medium`].
//!
//! # Why this is sound
//! The medium is never a Rust object. Its bytes are reached by [`crate::persist`]'s copies and by atomic accesses to
//! aligned words, never by a reference; so stores by other CPUs, or by a peer that maps the same memory, are races
//! between machine instructions only, and the worst that they give is a mix of old and new bytes.
//!
//! | access | by | order |
//! |---|---|---|
//! | `read` | AVX or SSE2 loads ([`crate::guarded`]) | none |
//! | `write` | streaming stores, cached at ragged ends | durable after the next `fence` |
//! | `load_*` | one aligned load | acquire |
//! | `store_*` | one aligned store | release; one line's stores persist in program order |
//!
//! # What the medium has lost
//! A region keeps a list of lost lines. What is in it is not read; what turns out to be lost while it is read (a machine
//! check, see [`crate::poison`]) is in it by then; both are [`MediaError::Poisoned`]. A store that would leave a part of a
//! lost line as it is fails in the same way: its bytes would be lost with the line.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};

use crate::bad_ranges::BadRanges;
use crate::flush_hints::FlushHints;
use crate::guarded::{self, Interrupted};
use crate::persist::Persist;
use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};
use crate::poison;

/// How often a load is tried again that machine checks about something else have ended.
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

/// A mapped range of persistent memory, which its namespaces share.
#[derive(Clone, Debug)]
pub struct PmemRegion {
    base: NonNull<u8>,
    bytes: usize,
    access: Access,
    persist: Persist,
    hints: FlushHints,
    /// Where it begins in its region.
    start: u64,
    /// What the region has lost.
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
    /// What the kernel's map says; an `at` that is no multiple of 64 or a hint that is no multiple of 8 is
    /// [`MapError::Misaligned`].
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
        Ok(Self { base, bytes: usable, access, persist, hints, start: 0, bad })
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
        Self { base, bytes, access, persist, hints: FlushHints::none(), start: 0, bad: Arc::default() }
    }

    /// The region's length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The namespace of `bytes` bytes that begins `at` bytes into the region. Nothing keeps namespaces apart but the
    /// labels that they come from.
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
            hints: self.hints.clone(),
            start: self.start + at,
            bad: Arc::clone(&self.bad),
        }))
    }
}

/// A namespace of persistent memory.
#[derive(Clone, Debug)]
pub struct Pmem(PmemRegion);

impl Pmem {
    /// The address of the `bytes` bytes at `at`.
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

    /// As `locate`, for a word of type `T`, aligned.
    #[inline]
    fn locate_word<T>(&self, at: NsOffset) -> Result<*mut T, MediaError> {
        // The base is line-aligned, so the offset alone decides.
        if !at.0.is_multiple_of(size_of::<T>() as u64) {
            return Err(MediaError::Misaligned { at });
        }
        Ok(self.locate(at, size_of::<T>())?.cast())
    }

    /// The medium has lost the lines that hold `bytes` bytes from `at` on: reads of them fail with
    /// [`MediaError::Poisoned`] until they are written again as a whole. Kept in memory only.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`].
    pub fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.locate(at, usize::try_from(bytes).map_err(|_| MediaError::OutOfRange { at, bytes })?)?;
        self.0.bad.add(self.0.start + at.0, bytes);
        Ok(())
    }

    /// What the medium has lost: places and lengths in bytes.
    #[must_use]
    pub fn lost(&self) -> Vec<(NsOffset, u64)> {
        let own = self.0.bad.all_in(self.0.start, self.0.len_bytes());
        own.into_iter().map(|(at, bytes)| (NsOffset(at - self.0.start), bytes)).collect()
    }

    /// Refuses to read what the medium has lost.
    #[inline]
    fn readable(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        match self.0.bad.first_in(self.0.start + at.0, bytes as u64) {
            None => Ok(()),
            Some(lost) => Err(MediaError::Poisoned { at: NsOffset(lost - self.0.start) }),
        }
    }

    /// Copies bytes out of the namespace, as [`Medium::read`] does, to where no Rust object is: a peer's memory.
    ///
    /// # Errors
    /// As [`Medium::read`].
    ///
    /// # Safety
    /// `bytes` bytes from `to` on are writable and not this namespace's, and no Rust reference to them exists.
    #[inline]
    pub unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError> {
        let from = self.locate(at, bytes)?;
        // SAFETY: `locate` checked the one range, the caller answers for the other.
        self.unless_lost(at, bytes, || unsafe { self.0.persist.load(to, from, bytes) })
    }

    /// Loads what `load` loads of these bytes, if they are there.
    #[inline]
    fn unless_lost<T>(
        &self,
        at: NsOffset,
        bytes: usize,
        load: impl Fn() -> Result<T, Interrupted>,
    ) -> Result<T, MediaError> {
        for _ in 0..LOAD_ATTEMPTS {
            self.readable(at, bytes)?;
            if let Ok(loaded) = load() {
                // Again: what was lost meanwhile may have come as any bytes.
                return self.readable(at, bytes).map(|()| loaded);
            }
            // A machine check on this CPU, about these bytes or about others.
        }
        Err(MediaError::Poisoned { at })
    }

    /// Refuses a store that leaves a part of a lost line as it is.
    #[inline]
    fn mends_lines(&self, at: NsOffset, bytes: usize) -> Result<(), MediaError> {
        match self.0.bad.torn_by(self.0.start + at.0, bytes as u64) {
            None => Ok(()),
            Some(lost) => Err(MediaError::Poisoned { at: NsOffset(lost.saturating_sub(self.0.start)) }),
        }
    }

    /// Copies bytes into the namespace, as [`Medium::write`] does, from where no Rust object is: a peer's memory.
    ///
    /// # Errors
    /// As [`Medium::write`].
    ///
    /// # Safety
    /// `bytes` bytes from `from` on are readable and not this namespace's. They may change meanwhile.
    #[inline]
    pub unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError> {
        self.writable()?;
        let to = self.locate(at, bytes)?;
        self.mends_lines(at, bytes)?;
        // SAFETY: `locate` checked the one range, the caller answers for the other. The copy is made of instructions, not
        // of accesses that the compiler knows, and loads each byte once.
        unsafe { self.0.persist.stream(to, from, bytes) };
        self.0.bad.written(self.0.start + at.0, bytes as u64);
        Ok(())
    }

    #[inline]
    fn writable(&self) -> Result<(), MediaError> {
        match self.0.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(MediaError::ReadOnly),
        }
    }
}

impl Medium for Pmem {
    #[inline]
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    #[inline]
    fn read_only(&self) -> bool {
        self.0.access == Access::ReadOnly
    }

    /// Always: stores to mapped memory go through one cache line, which is written back whole.
    #[inline]
    fn keeps_line_order(&self) -> bool {
        true
    }

    #[inline]
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's, and no `&mut [u8]` can overlap the medium. The copy goes by its pointer alone.
        unsafe { self.read_raw(at, into.as_mut_ptr(), into.len()) }
    }

    #[inline]
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        // SAFETY: the range is the slice's, and no `&[u8]` can overlap the medium.
        unsafe { self.write_raw(at, from.as_ptr(), from.len()) }
    }

    #[inline]
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        let word = self.locate_word::<u32>(at)?;
        // SAFETY: the word is mapped and aligned; racing accesses to the medium are atomic or machine copies.
        self.unless_lost(at, 4, || unsafe { guarded::load_u32(word) }).map(u32::from_le)
    }

    #[inline]
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        let word = self.locate_word::<u64>(at)?;
        // SAFETY: as in `load_u32`.
        self.unless_lost(at, 8, || unsafe { guarded::load_u64(word) }).map(u64::from_le)
    }

    #[inline]
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.writable()?;
        let word = self.locate_word::<u32>(at)?;
        self.mends_lines(at, 4)?;
        // SAFETY: as in `load_u32`, and the mapping is writable.
        unsafe { AtomicU32::from_ptr(word) }.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    #[inline]
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.writable()?;
        let word = self.locate_word::<u64>(at)?;
        self.mends_lines(at, 8)?;
        // SAFETY: as in `store_u32`.
        unsafe { AtomicU64::from_ptr(word) }.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    #[inline]
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let length = usize::try_from(bytes).map_err(|_| MediaError::OutOfRange { at, bytes })?;
        let from = self.locate(at, length)?;
        // SAFETY: `locate` checked the range.
        unsafe { self.0.persist.write_back(from, length) };
        Ok(())
    }

    /// Also writes the flush hints.
    #[inline]
    fn fence(&self) -> Result<(), MediaError> {
        self.0.hints.fence();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;
    use memmap2::MmapMut;
    use std::vec;

    const MIB: u64 = 1 << 20;

    fn region(mapping: &mut MmapMut, access: Access) -> PmemRegion {
        let base = NonNull::new(mapping.as_mut_ptr()).expect("a mapping");
        // SAFETY: each test keeps its mapping until its region is gone, and looks at it through the region only.
        unsafe { PmemRegion::from_mapping(base, mapping.len(), access, Persist::detect(false)) }
    }

    fn anonymous(bytes: u64) -> MmapMut {
        MmapMut::map_anon(usize::try_from(bytes).expect("fits")).expect("anonymous memory")
    }

    #[test]
    fn what_is_written_reads_back_and_nothing_beside_it_changes() {
        let mut mapping = anonymous(MIB);
        let pmem = region(&mut mapping, Access::ReadWrite).namespace(0, MIB, Access::ReadWrite).expect("whole region");
        for (at, bytes) in [(0, 512), (4096, 4096), (65_536, 520), (MIB - 512, 512), (777, 1000)] {
            let sent: Vec<u8> = (0..bytes).map(|i: u64| u8::try_from((i + at) % 255 + 1).expect("a byte")).collect();
            pmem.write(NsOffset(at), &sent).expect("in range");
            pmem.fence().expect("no hints");
            let mut got = vec![0; sent.len()];
            pmem.read(NsOffset(at), &mut got).expect("in range");
            assert_eq!(got, sent, "{bytes} at {at}");
        }
        let mut beside = [9; 8];
        pmem.read(NsOffset(65_536 + 520), &mut beside).expect("in range");
        assert_eq!(beside, [0; 8]);
    }

    #[test]
    fn words_are_little_endian_and_aligned() {
        let mut mapping = anonymous(MIB);
        let pmem = region(&mut mapping, Access::ReadWrite).namespace(4096, 8192, Access::ReadWrite).expect("a slice");
        pmem.store_u64(NsOffset(8), 0x0807_0605_0403_0201).expect("aligned");
        pmem.store_u32(NsOffset(16), 0x0c0b_0a09).expect("aligned");
        pmem.start_write_back(NsOffset(8), 12).expect("in range");
        pmem.fence().expect("no hints");
        let mut bytes = [0; 12];
        pmem.read(NsOffset(8), &mut bytes).expect("in range");
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(pmem.load_u32(NsOffset(12)), Ok(0x0807_0605));
        assert_eq!(pmem.load_u64(NsOffset(8)), Ok(0x0807_0605_0403_0201));
        for at in [1, 2, 3, 5] {
            assert_eq!(pmem.load_u32(NsOffset(at)), Err(MediaError::Misaligned { at: NsOffset(at) }));
            assert_eq!(pmem.store_u32(NsOffset(at), 0), Err(MediaError::Misaligned { at: NsOffset(at) }));
        }
        assert_eq!(pmem.load_u64(NsOffset(4)), Err(MediaError::Misaligned { at: NsOffset(4) }));
        assert_eq!(pmem.store_u64(NsOffset(4), 0), Err(MediaError::Misaligned { at: NsOffset(4) }));
    }

    #[test]
    fn accesses_that_leave_the_namespace_are_refused_and_store_nothing() {
        let mut mapping = anonymous(MIB);
        let region = region(&mut mapping, Access::ReadWrite);
        let pmem = region.namespace(4096, 4096, Access::ReadWrite).expect("a slice");
        let whole = region.namespace(0, MIB, Access::ReadWrite).expect("whole region");
        for (at, bytes) in [(4096, 1), (4095, 2), (0, 4097), (u64::MAX, 1), (u64::MAX - 3, 8), (1 << 63, 64)] {
            let at = NsOffset(at);
            let refused = Err(MediaError::OutOfRange { at, bytes: bytes as u64 });
            assert_eq!(pmem.write(at, &vec![0xff; bytes]), refused);
            assert_eq!(pmem.read(at, &mut vec![0; bytes]), refused);
            assert_eq!(pmem.start_write_back(at, bytes as u64), refused);
        }
        let at = NsOffset(4096);
        assert_eq!(pmem.store_u32(at, 1), Err(MediaError::OutOfRange { at, bytes: 4 }));
        assert_eq!(pmem.store_u64(at, 1), Err(MediaError::OutOfRange { at, bytes: 8 }));
        assert_eq!(
            pmem.start_write_back(NsOffset(0), u64::MAX),
            Err(MediaError::OutOfRange { at: NsOffset(0), bytes: u64::MAX })
        );
        pmem.read(at, &mut []).expect("no bytes at the end are in range");
        let mut all = vec![1; mapping.len()];
        whole.read(NsOffset(0), &mut all).expect("in range");
        assert!(all.iter().all(|&b| b == 0));
    }

    #[test]
    fn read_only_of_the_region_or_of_the_namespace_refuses_every_store() {
        let mut mapping = anonymous(MIB);
        for (of_region, of_namespace) in [(Access::ReadOnly, Access::ReadWrite), (Access::ReadWrite, Access::ReadOnly)]
        {
            let pmem = region(&mut mapping, of_region).namespace(0, 4096, of_namespace).expect("a slice");
            assert!(pmem.read_only());
            assert_eq!(pmem.write(NsOffset(0), &[1]), Err(MediaError::ReadOnly));
            assert_eq!(pmem.store_u32(NsOffset(0), 1), Err(MediaError::ReadOnly));
            assert_eq!(pmem.store_u64(NsOffset(0), 1), Err(MediaError::ReadOnly));
            assert_eq!(pmem.load_u64(NsOffset(0)), Ok(0));
        }
    }

    #[test]
    fn what_is_lost_cannot_be_read_by_any_namespace_until_whole_lines_are_written() {
        let mut mapping = anonymous(MIB);
        let region = region(&mut mapping, Access::ReadWrite);
        let pmem = region.namespace(4096, 8192, Access::ReadWrite).expect("a slice");
        let whole = region.namespace(0, MIB, Access::ReadWrite).expect("whole region");
        pmem.lose(NsOffset(130), 100).expect("in range");
        let poisoned = |at| Err(MediaError::Poisoned { at: NsOffset(at) });
        assert_eq!(pmem.read(NsOffset(0), &mut [0; 512]), poisoned(128));
        assert_eq!(pmem.load_u64(NsOffset(192)).map(|_| ()), poisoned(192));
        assert_eq!(whole.load_u32(NsOffset(4096 + 252)).map(|_| ()), poisoned(4096 + 252));
        assert_eq!(pmem.lost(), [(NsOffset(128), 128)]);
        // A line that is written in part stays lost, and would take with it what is stored.
        assert_eq!(pmem.write(NsOffset(130), &[1; 126]), Err(MediaError::Poisoned { at: NsOffset(128) }));
        assert_eq!(pmem.store_u64(NsOffset(248), 1), Err(MediaError::Poisoned { at: NsOffset(192) }));
        assert_eq!((whole.store_u32(NsOffset(4096 + 256), 1), whole.lost().len()), (Ok(()), 1));
        pmem.write(NsOffset(100), &[1; 156]).expect("each lost line wholly");
        assert_eq!(whole.lost(), []);
        pmem.lose(NsOffset(511), 1).expect("in range");
        whole.write(NsOffset(4096), &[2; 512]).expect("in range");
        assert_eq!((pmem.lost(), pmem.read(NsOffset(0), &mut [0; 512])), (vec![], Ok(())));
        assert!(pmem.lose(NsOffset(8192), 1).is_err());
    }

    #[test]
    fn slices_outside_the_region_or_inside_a_line_are_refused() {
        let mut mapping = anonymous(MIB);
        let region = region(&mut mapping, Access::ReadWrite);
        for (at, bytes) in [(0, MIB + 1), (MIB, 64), (MIB - 64, 128), (64, u64::MAX), (u64::MAX - 63, 64)] {
            assert_eq!(
                region.namespace(at, bytes, Access::ReadWrite).err(),
                Some(SliceError::OutOfRange { at, bytes, region_bytes: MIB })
            );
        }
        assert_eq!(region.namespace(8, 64, Access::ReadWrite).err(), Some(SliceError::Misaligned { at: 8 }));
    }

    #[test]
    fn a_copy_that_races_with_stores_gives_a_mix_of_old_and_new() {
        let mut mapping = anonymous(MIB);
        let pmem = region(&mut mapping, Access::ReadWrite).namespace(0, 4096, Access::ReadWrite).expect("a slice");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2000 {
                    pmem.write(NsOffset(0), &[if round % 2 == 0 { 0 } else { 0xff }; 4096]).expect("in range");
                }
            });
            for _ in 0..2000 {
                let mut seen = [7; 4096];
                pmem.read(NsOffset(0), &mut seen).expect("in range");
                assert!(seen.iter().all(|&b| b == 0 || b == 0xff));
            }
        });
    }

    /// Physical memory of one anonymous page, which remembers how it was mapped.
    struct OnePage {
        page: RefCell<MmapMut>,
        asked: RefCell<Vec<(u64, u64, Attribute)>>,
    }

    // SAFETY: the page lives as long as the tests that use it; it is reached through this map only. (Its addresses all
    // lead to the one page, which the tests here allow for.)
    unsafe impl PhysMap for OnePage {
        fn map(&self, at: PhysAddr, bytes: u64, attribute: Attribute) -> Result<NonNull<u8>, MapError> {
            self.asked.borrow_mut().push((at.0, bytes, attribute));
            let in_page = usize::try_from(at.0 % 4096).expect("fits");
            if in_page as u64 + bytes > 4096 {
                return Err(MapError::NoRoom { at, bytes });
            }
            Ok(NonNull::new(self.page.borrow_mut()[in_page..].as_mut_ptr()).expect("a mapping"))
        }
    }

    #[test]
    fn a_fence_writes_each_dimms_flush_hint() {
        let phys = OnePage { page: RefCell::new(anonymous(4096)), asked: RefCell::default() };
        let hints = [PhysAddr(0xfee0_0800), PhysAddr(0xfee0_0808)];
        let region = PmemRegion::map(&phys, PhysAddr(1 << 32), 4096, &hints, Access::ReadWrite, Persist::detect(false))
            .expect("mapped");
        let pmem = region.namespace(0, 4096, Access::ReadWrite).expect("whole region");
        assert_eq!(pmem.load_u64(NsOffset(0x800)), Ok(0));
        pmem.fence().expect("no error is possible");
        assert_eq!(pmem.load_u64(NsOffset(0x800)), Ok(1));
        assert_eq!(pmem.load_u64(NsOffset(0x808)), Ok(1));
        assert_eq!(
            *phys.asked.borrow(),
            [
                (1 << 32, 4096, Attribute::WriteBack),
                (0xfee0_0800, 8, Attribute::Uncached),
                (0xfee0_0808, 8, Attribute::Uncached)
            ]
        );
    }

    #[test]
    fn misaligned_regions_and_hints_are_not_mapped() {
        let phys = OnePage { page: RefCell::new(anonymous(4096)), asked: RefCell::default() };
        let map = |at, hints: &[PhysAddr]| {
            PmemRegion::map(&phys, at, 64, hints, Access::ReadWrite, Persist::detect(false)).err()
        };
        assert_eq!(map(PhysAddr(0x123), &[]), Some(MapError::Misaligned { at: PhysAddr(0x123) }));
        let hint = PhysAddr(0xfed0_0003);
        assert_eq!(map(PhysAddr(0), &[hint]), Some(MapError::Misaligned { at: hint }));
        assert_eq!(map(PhysAddr(4096 - 32), &[]), Some(MapError::Misaligned { at: PhysAddr(4096 - 32) }));
    }
}
