//! What boot loaders leave in memory: multiboot2's tags, PVH's start_info with its memory map, UEFI's memory map; and the
//! stub's headers and the image's file, as the UEFI stub reads them.

use core::ops::Range;

use boot::elf::Program;
use boot::handoff::{MAX_REGIONS, tidy};
use boot::loader::{FirmwareMap, FirmwareRange, LoaderInfo};
use boot::{efi, multiboot2, pe, pvh};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

/// Each reader on the bytes as they are.
pub(super) fn run(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk() {
        let total = multiboot2::total_bytes(*header);
        assert!(total.is_err() || total.is_ok_and(|total| (8..=1 << 20).contains(&total)), "its length is bounded");
    }
    if let Ok(info) = multiboot2::read(bytes) {
        check(&info);
    }
    // The length of a descriptor, then a map.
    if let Some(([length, ..], map)) = bytes.split_first_chunk::<8>() {
        let length = usize::from(*length);
        let target = 0x10_0000..0x28_0000;
        let free = efi::first_taken(map, length, &target).is_none();
        let kept = efi::descriptors(map, length).find(|it| !it.is_free() && overlap(it.range, &target));
        assert!(!free || kept.is_none(), "{kept:?} is kept");
        if let Ok(memory) = efi::address_map(map, length) {
            check(&LoaderInfo { memory, ..LoaderInfo::new() });
        }
    }
    let mut headers = [0; pe::HEADERS_BYTES];
    headers.iter_mut().zip(bytes).for_each(|(header, byte)| *header = *byte);
    if let Some(section) = pe::section(&headers, *b".kernel\0") {
        assert!((pe::HEADERS_BYTES..=section.end).contains(&section.start), "{section:?}");
    }
    if let Some(program) = Program::read(bytes) {
        let target = program.target();
        for segment in program.segments.iter().filter(|segment| segment.target != 0) {
            assert!(target.contains(&u64::from(segment.target)) && target.end <= 1 << 32, "{segment:?}");
            assert!(segment.offset + segment.file_bytes as usize <= bytes.len(), "{segment:?}");
        }
    }
    let Some((start_info, entries)) = bytes.split_first_chunk() else { return };
    let _ = pvh::StartInfo::read(start_info);
    let mut info = LoaderInfo::new();
    let fits = entries.as_chunks().0.iter().all(|entry| info.memory.add(FirmwareRange::read_pvh(entry)).is_ok());
    if fits {
        check(&info);
    }
}

fn overlap((start, end): (u64, u64), target: &Range<u64>) -> bool {
    start < target.end && target.start < end
}

/// What comes of a map is sorted and without overlap, and RAM in it is whole pages that only the map calls RAM.
fn check(info: &LoaderInfo) {
    assert!(info.command_line.text().bytes().all(|byte| matches!(byte, b' '..=b'~')), "it can be shown");
    let (map, image) = (&info.memory, 0x10_0000..0x28_0000);
    let mut regions = [MemoryRegion::empty(); MAX_REGIONS];
    let Ok(count) = tidy(map.ranges(), &image, &mut regions) else { return };
    let regions = &regions[..count];
    assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start), "sorted, without overlap");
    for region in regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable) {
        assert!(region.start < region.end && (region.start | region.end).is_multiple_of(4096), "whole pages");
        assert!(region.end <= image.start || image.end <= region.start, "not the image");
        assert!(!claimed(map, region), "{region:?} is claimed");
    }
}

/// Returns whether something other than RAM lies in the region.
fn claimed(map: &FirmwareMap, region: &MemoryRegion) -> bool {
    let mut others = map.ranges().iter().filter(|range| range.kind != FirmwareRange::RAM && range.bytes > 0);
    others.any(|range| range.start < region.end && region.start < range.end())
}
