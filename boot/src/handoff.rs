//! Makes the `BootInfo` from a firmware memory map, and starts the kernel.
//!
//! The map is checked and sorted here, once: ranges may overlap, be empty, leave 64 bits or come in any order. In the
//! result, *usable* means RAM in whole pages that no other range claims and the image does not occupy; the regions are
//! sorted and do not overlap.

use core::fmt;
use core::ops::Range;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::loader::{FirmwareRange, MAX_FIRMWARE_RANGES};

/// The most regions that come out: every claimed range can split a usable one.
pub const MAX_REGIONS: usize = 2 * MAX_FIRMWARE_RANGES + 2;

const PAGE_BYTES: u64 = 4096;

/// Why a memory map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapFault {
    /// More ranges than [`MAX_FIRMWARE_RANGES`], or a map so cut up that its parts do not fit.
    TooManyRanges,
    /// No usable memory is left outside the image.
    NoUsableMemory,
}

impl fmt::Display for MapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRanges => write!(f, "the firmware's memory map has too many ranges"),
            Self::NoUsableMemory => write!(f, "the firmware's memory map names no usable memory"),
        }
    }
}

/// Sorts a firmware memory map: writes regions to `into`, sorted and without overlap, and returns how many. Usable
/// regions are whole pages outside every other range and outside `image`; other regions keep the type of their range.
///
/// # Errors
/// A [`MapFault`].
pub fn tidy(ranges: &[FirmwareRange], image: &Range<u64>, into: &mut [MemoryRegion]) -> Result<usize, MapFault> {
    if ranges.len() > MAX_FIRMWARE_RANGES {
        return Err(MapFault::TooManyRanges);
    }
    let mut count = 0;
    let mut usable = false;
    let mut at = 0;
    // Walks the address space from boundary to boundary. Each step ends at a boundary above `at`, so there are at most
    // as many steps as boundaries.
    while let Some(next) = next_boundary(ranges, image, at) {
        let kind = if image.contains(&at) { Some(MemoryRegionKind::Bootloader) } else { claimed_as(ranges, at) };
        if let Some(kind) = kind {
            let region = if kind == MemoryRegionKind::Usable { whole_pages(at, next) } else { Some((at, next)) };
            if let Some((start, end)) = region {
                usable |= kind == MemoryRegionKind::Usable;
                match into[..count].last_mut() {
                    Some(last) if last.end == start && last.kind == kind => last.end = end,
                    _ => {
                        *into.get_mut(count).ok_or(MapFault::TooManyRanges)? = MemoryRegion { start, end, kind };
                        count += 1;
                    }
                }
            }
        }
        at = next;
    }
    if usable { Ok(count) } else { Err(MapFault::NoUsableMemory) }
}

/// Returns the nearest start or end of a range, or of the image, above `at`.
fn next_boundary(ranges: &[FirmwareRange], image: &Range<u64>, at: u64) -> Option<u64> {
    let ends = ranges.iter().filter(|range| range.bytes > 0).flat_map(|range| [range.start, range.end()]);
    ends.chain([image.start, image.end]).filter(|boundary| *boundary > at).min()
}

/// Returns what `at` is: RAM only if no other range claims it.
fn claimed_as(ranges: &[FirmwareRange], at: u64) -> Option<MemoryRegionKind> {
    let mut kind = None;
    for range in ranges.iter().filter(|range| range.start <= at && at < range.end()) {
        if range.kind != FirmwareRange::RAM {
            return Some(MemoryRegionKind::UnknownBios(range.kind));
        }
        kind = Some(MemoryRegionKind::Usable);
    }
    kind
}

/// Returns the whole pages inside a range.
fn whole_pages(start: u64, end: u64) -> Option<(u64, u64)> {
    let start = start.checked_next_multiple_of(PAGE_BYTES)?;
    let end = end - end % PAGE_BYTES;
    (start < end).then_some((start, end))
}

#[cfg(all(feature = "image", not(test)))]
mod jump {
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;

    use bootloader_api::BootInfo;
    use bootloader_api::info::{MemoryRegion, MemoryRegions, Optional};

    use super::{MAX_REGIONS, tidy};
    use crate::loader::{CommandLine, LoaderInfo, RootPointer};
    use crate::root_pointer::ROOT_POINTER_BYTES;
    use crate::{PHYSICAL_MEMORY_OFFSET, image};

    /// A static that `enter_kernel` fills once: it holds what the kernel gets.
    struct Place<T>(UnsafeCell<T>);

    // SAFETY: `enter_kernel` alone writes them. It runs once, before the kernel and the other CPUs are started.
    unsafe impl<T> Sync for Place<T> {}

    static REGIONS: Place<[MemoryRegion; MAX_REGIONS]> = Place(UnsafeCell::new([MemoryRegion::empty(); MAX_REGIONS]));
    static BOOT_INFO: Place<MaybeUninit<BootInfo>> = Place(UnsafeCell::new(MaybeUninit::uninit()));
    static ROOT_POINTER: Place<[u8; ROOT_POINTER_BYTES]> = Place(UnsafeCell::new([0; ROOT_POINTER_BYTES]));
    static COMMAND_LINE: Place<CommandLine> = Place(UnsafeCell::new(CommandLine::EMPTY));

    // `BootInfo` is `repr(C)`, and meant for this; only its non-exhaustiveness makes the compiler ask.
    #[allow(improper_ctypes)]
    unsafe extern "C" {
        /// The kernel's entry, which `bootloader_api::entry_point!` exports.
        fn _start(boot_info: &'static mut BootInfo) -> !;
    }

    /// Returns the command line that the loader passed on: `BootInfo` has no room for it.
    #[must_use]
    pub fn command_line() -> &'static CommandLine {
        // SAFETY: the kernel calls this; `enter_kernel`, which alone writes there, has ended in the kernel's start.
        unsafe { &*COMMAND_LINE.0.get() }
    }

    /// Makes the `BootInfo` and starts the kernel with it.
    ///
    /// # Panics
    /// When the memory map is unusable.
    ///
    /// # Safety
    /// Called at most once, by the boot CPU, with the first page tables active.
    pub(crate) unsafe fn enter_kernel(loader: &LoaderInfo) -> ! {
        // SAFETY: the caller runs this once: no other code has these places yet.
        let (regions, place, root_pointer, command_line) = unsafe {
            (&mut *REGIONS.0.get(), &mut *BOOT_INFO.0.get(), &mut *ROOT_POINTER.0.get(), &mut *COMMAND_LINE.0.get())
        };
        command_line.clone_from(&loader.command_line);
        let whole = image::whole();
        let count = match tidy(loader.memory.ranges(), &whole, regions) {
            Ok(count) => count,
            Err(fault) => panic!("{fault}"),
        };
        let info = place.write(BootInfo::new(MemoryRegions::from(&mut regions[..count])));
        info.rsdp_addr = match loader.root_pointer {
            RootPointer::Untold => Optional::None,
            RootPointer::At(at) => Optional::Some(at),
            RootPointer::Copy(bytes) => {
                *root_pointer = bytes;
                Optional::Some(ROOT_POINTER.0.get() as u64)
            }
        };
        info.physical_memory_offset = Optional::Some(PHYSICAL_MEMORY_OFFSET);
        info.kernel_addr = whole.start;
        info.kernel_len = whole.end - whole.start;
        info.kernel_image_offset = whole.start;
        let stack = image::boot_stack();
        info.kernel_stack_bottom = stack.start;
        info.kernel_stack_len = stack.end - stack.start;
        // SAFETY: the linker takes `_start` from the kernel's `entry_point!`, which has this signature.
        unsafe { _start(info) }
    }
}

#[cfg(all(feature = "image", not(test)))]
pub use jump::command_line;
#[cfg(all(feature = "image", not(test)))]
pub(crate) use jump::enter_kernel;

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Range<u64> = 0x10_0000..0x18_0000;

    fn ram(start: u64, bytes: u64) -> FirmwareRange {
        FirmwareRange { start, bytes, kind: FirmwareRange::RAM }
    }

    fn reserved(start: u64, bytes: u64) -> FirmwareRange {
        FirmwareRange { start, bytes, kind: 2 }
    }

    fn usable(ranges: &[FirmwareRange]) -> Result<std::vec::Vec<(u64, u64)>, MapFault> {
        let mut into = [MemoryRegion::empty(); MAX_REGIONS];
        let count = tidy(ranges, &IMAGE, &mut into)?;
        for pair in into[..count].windows(2) {
            assert!(pair[0].end <= pair[1].start, "regions overlap or are out of order: {pair:?}");
        }
        let usable = into[..count].iter().filter(|region| region.kind == MemoryRegionKind::Usable);
        Ok(usable.map(|region| (region.start, region.end)).collect())
    }

    #[test]
    fn the_image_is_cut_out_of_the_memory_it_lies_in() {
        let map = [ram(0, 0x9_fc00), reserved(0x9_fc00, 0x400), ram(0x10_0000, 0x700_0000)];
        assert_eq!(usable(&map), Ok(std::vec![(0, 0x9_f000), (0x18_0000, 0x710_0000)]));
    }

    #[test]
    fn memory_that_anything_else_claims_is_not_usable() {
        let map = [ram(0x20_0000, 0x10_0000), reserved(0x24_0800, 0x1000), ram(0x28_0000, 0x10_0000)];
        assert_eq!(usable(&map), Ok(std::vec![(0x20_0000, 0x24_0000), (0x24_2000, 0x38_0000)]));
    }

    #[test]
    fn unsorted_empty_and_endless_ranges_do_no_harm() {
        let map = [reserved(0x8000_0000, u64::MAX), ram(0x20_0000, u64::MAX), ram(5, 0), reserved(0x30_0000, 0)];
        let found = usable(&map);
        assert_eq!(found, Ok(std::vec![(0x20_0000, 0x8000_0000)]));
    }

    #[test]
    fn neighbours_of_one_type_are_one_region_and_what_overlaps_is_cut() {
        let of = |kind, start, bytes| FirmwareRange { start, bytes, kind };
        let map = [
            ram(0x20_0000, 0x10_0000),
            of(7, 0x2_0000_0000, 0x4000_0000),
            of(7, 0x1_8000_0000, 0x8000_0000),
            of(12, 0x2_4000_0000, 0x1000),
            of(7, 0x2_4000_0800, 0x1800),
        ];
        let mut into = [MemoryRegion::empty(); MAX_REGIONS];
        let count = tidy(&map, &IMAGE, &mut into).expect("few");
        let found = into[..count].iter().filter_map(|region| match region.kind {
            MemoryRegionKind::UnknownBios(kind) => Some((kind, region.start, region.end)),
            _ => None,
        });
        let expected = [(7, 0x1_8000_0000, 0x2_4000_0000), (12, 0x2_4000_0000, 0x2_4000_1000)];
        let last = (7, 0x2_4000_1000, 0x2_4000_2000);
        assert_eq!(found.collect::<std::vec::Vec<_>>(), [&expected[..], &[last]].concat());
    }

    #[test]
    fn a_map_without_memory_is_refused() {
        assert_eq!(usable(&[]), Err(MapFault::NoUsableMemory));
        assert_eq!(usable(&[reserved(0, 1 << 30)]), Err(MapFault::NoUsableMemory));
        assert_eq!(usable(&[ram(0x20_0001, 0x1fff)]), Ok(std::vec![(0x20_1000, 0x20_2000)]));
        assert_eq!(usable(&[ram(0x20_0001, 0x1ffe)]), Err(MapFault::NoUsableMemory));
    }

    #[test]
    fn a_map_with_too_many_ranges_is_refused() {
        let map = [ram(0x20_0000, 0x1000); MAX_FIRMWARE_RANGES + 1];
        assert_eq!(usable(&map), Err(MapFault::TooManyRanges));
    }
}
