//! BLK regions: a DIMM's capacity behind block windows (ACPI 6.5, 5.2.25.6 and 5.2.25.7).
//!
//! A window is a command register of 8 bytes, a status register of 4 and an aperture. Everything that a driver will
//! compute an address from is checked here, once: the registers and apertures of all windows lie in their ranges, no
//! register crosses an interleave line, and every block that a command can name fits its 37 address bits.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Fault;
use super::{Kind, Mapping, state_of};
use crate::cookie::{Cookies, SetMember};
use crate::finding::{Findings, Place};
use crate::interleave::DeviceSpace;
use crate::nfit::{Format, Nfit, RangeIndex, RangeKind, RegionMapping, Registers, Structure, SystemPhysicalRange};

/// The windows of a DIMM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockWindows {
    /// How many.
    pub count: u16,
    /// The registers' layout.
    pub registers: Registers,
    /// The DIMM's share of the control range.
    pub control: DeviceSpace,
    /// The DIMM's share of the data range.
    pub data: DeviceSpace,
    /// Where the first aperture begins in `data`.
    pub data_offset: u64,
    /// Bytes from one aperture to the next.
    pub data_stride: u64,
    /// Bytes of an aperture that one command moves at most.
    pub transfer_bytes: u64,
}

/// One DIMM's capacity behind its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkRegion {
    /// The DIMM, and the DIMM physical addresses that its windows reach.
    pub mapping: Mapping,
    /// The windows.
    pub windows: BlockWindows,
    /// Whether a range of memory, served or refused, has some of these bytes.
    pub is_memory_too: bool,
    /// What its labels carry; always there.
    pub cookies: Option<Cookies>,
}

const COMMAND_BYTES: u64 = 8;
const STATUS_BYTES: u64 = 4;
/// A command's length field counts 64-byte lines.
const LINE_BYTES: u64 = 64;
/// 128 lines: what one command moves at most (Intel NVDIMM Block Window Driver Writer's Guide, July 2016).
const MAX_TRANSFER: u64 = 8192;
/// A command's address field: 37 bits of lines.
const DPA_END: u64 = 1 << 43;

/// The ranges of apertures, by index.
pub(super) struct DataRanges<'n>(BTreeMap<RangeIndex, &'n SystemPhysicalRange>);

impl<'n> DataRanges<'n> {
    pub(super) fn of(nfit: &'n Nfit) -> Self {
        let windows = nfit.ranges().map(|(_, range)| range).filter(|range| range.kind == RangeKind::BlockDataWindow);
        Self(windows.map(|range| (range.index, range)).collect())
    }

    /// The range with a DIMM's apertures, and the mapping: the one of that kind that the DIMM maps with the same control
    /// region.
    fn find<'m>(
        &self,
        nfit: &'m Nfit,
        control: &RegionMapping,
    ) -> Option<(&'n SystemPhysicalRange, &'m RegionMapping)> {
        nfit.mappings()
            .map(|(_, it)| it)
            .filter(|it| it.device == control.device && it.control_region == control.control_region)
            .find_map(|it| Some((*self.0.get(&it.range)?, it)))
    }
}

/// Notes the windows that make no region because nothing leads to their control registers. Where that is because a
/// mapping was refused, a finding has been noted.
pub(super) fn note_unreachable(nfit: &Nfit, findings: &mut Findings<Fault>) {
    let kinds: BTreeMap<RangeIndex, RangeKind> = nfit.ranges().map(|(_, range)| (range.index, range.kind)).collect();
    let is_of = |mapping: &RegionMapping, kind| kinds.get(&mapping.range) == Some(&kind);
    let lost_one = |lost: &dyn Fn(&RegionMapping) -> bool| {
        nfit.entries.iter().any(|entry| match &entry.structure {
            Structure::RegionMapping(it) => entry.refused && lost(it),
            _ => false,
        })
    };
    let controlled: BTreeSet<_> = nfit
        .mappings()
        .filter(|(_, it)| is_of(it, RangeKind::ControlRegion))
        .map(|(_, it)| (it.device, it.control_region))
        .collect();
    for (at, range) in nfit.ranges().filter(|(_, range)| range.kind == RangeKind::BlockDataWindow) {
        let mut members = nfit.mappings().filter(|(_, it)| it.range == range.index).peekable();
        if members.peek().is_none() && !nfit.refused_mapping_of(range.index) {
            findings.note(at, Fault::DataWindowsUnmapped);
        }
        for (at, it) in members.filter(|(_, it)| !controlled.contains(&(it.device, it.control_region))) {
            if !lost_one(&|lost| lost.device == it.device) {
                findings.note(at, Fault::NoControlRange { dimm: it.device });
            }
        }
    }
    for (at, windows) in nfit.block_data_windows() {
        let shows = |it: &RegionMapping| it.control_region == windows.control_region;
        let of_windows = |it| is_of(it, RangeKind::ControlRegion) || is_of(it, RangeKind::BlockDataWindow);
        if !nfit.mappings().any(|(_, it)| shows(it) && of_windows(it)) && !lost_one(&shows) {
            findings.note(at, Fault::WindowsNowhere);
        }
    }
}

pub(super) fn resolve(
    nfit: &Nfit,
    data_ranges: &DataRanges<'_>,
    range: &SystemPhysicalRange,
    mapping: &RegionMapping,
    at: Place,
    findings: &mut Findings<Fault>,
) -> Result<(Kind, bool), Fault> {
    let control_region = nfit.control_region(mapping.control_region).ok_or(Fault::NoBlockWindows)?;
    // One with windows has registers, or it was refused (`nfit::Fault::NoRegisterLayout`).
    let Some(registers) = control_region.registers.filter(|_| control_region.windows != 0) else {
        return Err(Fault::WindowsZero);
    };
    if control_region.format != Format::BLOCK {
        return Err(Fault::NotBlockFormat { code: control_region.format.0 });
    }
    let (_, data_window) = nfit
        .block_data_windows()
        .find(|(_, it)| it.control_region == control_region.index)
        .ok_or(Fault::NoBlockWindows)?;
    let (count, data_count) = (control_region.windows, data_window.windows);
    if count != data_count {
        return Err(Fault::WindowsDiffer { control: count, data: data_count });
    }
    check_registers(&registers)?;

    let aperture = data_window.window_bytes;
    if aperture == 0 || !aperture.is_multiple_of(LINE_BYTES) || !data_window.offset.is_multiple_of(LINE_BYTES) {
        return Err(Fault::BadAperture { bytes: aperture });
    }
    let (start, bytes) = (data_window.start_dpa, data_window.capacity);
    let lines = bytes != 0 && bytes.is_multiple_of(LINE_BYTES) && start.is_multiple_of(LINE_BYTES);
    match start.checked_add(bytes) {
        Some(end) if lines && end <= DPA_END => {}
        _ => return Err(Fault::BadCapacity { start, bytes }),
    }

    let (data_range, data_mapping) = data_ranges.find(nfit, mapping).ok_or(Fault::NoWindowRange)?;
    let control = DeviceSpace::new(range, mapping, nfit.interleave(mapping.interleave))?;
    let data = DeviceSpace::new(data_range, data_mapping, nfit.interleave(data_mapping.interleave))?;
    let windows = BlockWindows {
        count,
        registers,
        control,
        data,
        data_offset: data_window.offset,
        data_stride: aperture,
        transfer_bytes: aperture.min(MAX_TRANSFER),
    };
    check_places(&windows, range, data_range)?;

    let read_only = state_of(nfit, mapping, at, findings)?;
    if aperture > MAX_TRANSFER {
        findings.note(at, Fault::ApertureTooLarge { bytes: aperture });
    }
    let set = [SetMember { region_offset: mapping.region_offset, identity: control_region.identity }];
    let mapping = Mapping { dimm: mapping.device, dpa: start, bytes, position: 0 };
    let is_memory_too = is_memory_too(nfit, &mapping);
    Ok((Kind::Blk(BlkRegion { mapping, windows, is_memory_too, cookies: Some(Cookies::of(&set)) }), read_only))
}

/// Whether the DIMM maps some of these bytes into a range that is not one of windows. What was refused counts, too: it
/// holds data all the same.
fn is_memory_too(nfit: &Nfit, blk: &Mapping) -> bool {
    let of_windows = |index: RangeIndex| {
        let windows = |kind| matches!(kind, RangeKind::ControlRegion | RangeKind::BlockDataWindow);
        nfit.entries.iter().any(|entry| {
            matches!(&entry.structure, Structure::SystemPhysicalRange(it) if it.index == index && windows(it.kind))
        })
    };
    nfit.entries.iter().any(|entry| match &entry.structure {
        Structure::RegionMapping(it) => {
            it.device == blk.dimm
                && it.dpa < blk.dpa + blk.bytes
                && blk.dpa < it.dpa.saturating_add(it.region_bytes)
                && !of_windows(it.range)
        }
        _ => false,
    })
}

fn check_registers(r: &Registers) -> Result<(), Fault> {
    let inside = |offset: u64, bytes| offset.checked_add(bytes).is_some_and(|end| end <= r.window_bytes);
    let sized = r.command_bytes == COMMAND_BYTES && r.status_bytes == STATUS_BYTES;
    let placed = inside(r.command_offset, COMMAND_BYTES) && inside(r.status_offset, STATUS_BYTES);
    let aligned = r.command_offset.is_multiple_of(COMMAND_BYTES)
        && r.status_offset.is_multiple_of(STATUS_BYTES)
        && r.window_bytes.is_multiple_of(STATUS_BYTES);
    // Both ends were found inside of the window, so the sums do not wrap.
    let apart = placed
        && (r.command_offset + COMMAND_BYTES <= r.status_offset || r.status_offset + STATUS_BYTES <= r.command_offset);
    if sized && aligned && apart { Ok(()) } else { Err(Fault::BadRegisters) }
}

/// All registers and apertures of all windows lie in their ranges; registers lie in one piece.
fn check_places(
    windows: &BlockWindows,
    control_range: &SystemPhysicalRange,
    data_range: &SystemPhysicalRange,
) -> Result<(), Fault> {
    let BlockWindows { count, registers: r, control, data, .. } = windows;
    let control_leaves = crate::interleave::Fault::WindowsLeaveRange { index: control_range.index.0 };
    // 16 bits of windows: few enough to look at each.
    for window in 0..u64::from(*count) {
        for (offset, bytes) in [(r.command_offset, COMMAND_BYTES), (r.status_offset, STATUS_BYTES)] {
            let at = window.checked_mul(r.window_bytes).and_then(|start| start.checked_add(offset));
            let (address, together) = at.and_then(|at| control.locate(at)).ok_or(control_leaves)?;
            if !address.is_multiple_of(bytes) {
                return Err(Fault::BadRegisters);
            }
            if together < bytes {
                let crosses = at.and_then(|at| at.checked_add(bytes - 1)).and_then(|last| control.locate(last));
                return Err(if crosses.is_some() { Fault::RegisterCrossesLine } else { control_leaves.into() });
            }
        }
    }
    let apertures = windows.data_stride.checked_mul(u64::from(*count));
    if !apertures.is_some_and(|bytes| data.holds(windows.data_offset, bytes)) {
        return Err(crate::interleave::Fault::WindowsLeaveRange { index: data_range.index.0 }.into());
    }
    Ok(())
}
