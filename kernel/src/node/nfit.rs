//! The decoded firmware tables as the admin side shows them.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use nvdimm::Inventory;
use nvdimm::error::{Finding, Place};
use nvdimm::nfit::Structure;
use service::admin::commands::inventory::{Nfit, NfitStructure, Refusal};
use service::admin::fields::{FieldValue, Fields};

/// Returns every structure that was decoded, and every finding.
pub(super) fn reply(found: &Inventory) -> Nfit {
    let structures = found.nfit.entries.iter().map(|entry| {
        let (table, offset) = numbers(entry.at);
        let (kind, fields) = describe(&entry.structure);
        NfitStructure { table, offset, kind: kind.to_string(), fields: fields.with("refused", entry.refused) }
    });
    let (refused, remarks): (Vec<Finding>, Vec<Finding>) = found.findings().partition(Finding::refuses);
    let shown = |findings: Vec<Finding>| findings.into_iter().map(refusal).collect();
    Nfit { structures: structures.collect(), refused: shown(refused), remarks: shown(remarks) }
}

fn numbers(at: Place) -> (u32, u32) {
    let small = |number: usize| u32::try_from(number).expect("a table counts its bytes in 32 bits");
    match at {
        Place::Nfit { table, offset } => (small(table), small(offset)),
        // A device may claim an area of any size: an offset that the reply has no room for is cut.
        Place::Labels { offset, .. } => (0, u32::try_from(offset).unwrap_or(u32::MAX)),
        // Not in a table.
        Place::VirtioPmem { .. } | Place::Cxl { .. } | Place::MemoryMap { .. } => (0, 0),
    }
}

/// Returns a finding and its place.
fn refusal(finding: Finding) -> Refusal {
    let (table, offset) = numbers(finding.at);
    let what = match finding.at {
        Place::Nfit { .. } => "structure".to_string(),
        Place::Labels { dimm, .. } => format!("label area of DIMM {dimm}"),
        at @ (Place::VirtioPmem { .. } | Place::Cxl { .. } | Place::MemoryMap { .. }) => at.to_string(),
    };
    Refusal { table, offset, what, why: finding.what.to_string() }
}

fn hex(number: impl Into<u64>) -> FieldValue {
    FieldValue::Hex(number.into())
}

fn list(numbers: impl IntoIterator<Item = u64>) -> FieldValue {
    FieldValue::List(numbers.into_iter().map(FieldValue::Hex).collect::<Vec<_>>())
}

/// Returns a structure's kind and its fields, in the specification's order (ACPI 6.5, 5.2.25).
fn describe(structure: &Structure) -> (&'static str, Fields) {
    match structure {
        Structure::SystemPhysicalRange(it) => (
            "spa_range",
            Fields::new()
                .with("index", it.index.0)
                .with("flags", hex(it.flags.bits()))
                .with("proximity_domain", it.proximity_domain)
                .with("range_type", it.kind.to_string())
                .with("base", hex(it.base))
                .with("length", hex(it.bytes))
                .with("memory_attribute", hex(it.memory_attribute)),
        ),
        Structure::RegionMapping(it) => (
            "memory_device_map",
            Fields::new()
                .with("device_handle", hex(it.device.0))
                .with("physical_id", it.physical_id)
                .with("region_id", it.region_id)
                .with("range_index", it.range.0)
                .with("control_region_index", it.control_region.0)
                .with("region_size", hex(it.region_bytes))
                .with("region_offset", hex(it.region_offset))
                .with("address_region_base", hex(it.dpa))
                .with("interleave_index", it.interleave.0)
                .with("interleave_ways", it.ways)
                .with("flags", hex(it.flags.bits())),
        ),
        Structure::Interleave(it) => (
            "interleave",
            Fields::new()
                .with("index", it.index.0)
                .with("line_size", it.line_bytes)
                .with("line_offsets", list(it.offsets.iter().map(|offset| u64::from(*offset)))),
        ),
        Structure::Smbios(it) => ("smbios", Fields::new().with("data_bytes", it.data_bytes as u64)),
        Structure::ControlRegion(it) => {
            let fields = Fields::new()
                .with("index", it.index.0)
                .with("vendor_id", hex(it.identity.vendor))
                .with("device_id", hex(it.identity.device))
                .with("revision_id", hex(it.identity.revision))
                .with("serial_number", hex(it.identity.serial))
                .with("format_code", hex(it.format.0))
                .with("windows", it.windows);
            let fields = match &it.registers {
                Some(registers) => fields
                    .with("window_size", hex(registers.window_bytes))
                    .with("command_offset", hex(registers.command_offset))
                    .with("command_size", hex(registers.command_bytes))
                    .with("status_offset", hex(registers.status_offset))
                    .with("status_size", hex(registers.status_bytes))
                    .with("buffered", registers.buffered),
                None => fields,
            };
            ("control_region", fields)
        }
        Structure::BlockDataWindow(it) => (
            "block_data_window",
            Fields::new()
                .with("control_region_index", it.control_region.0)
                .with("windows", it.windows)
                .with("offset", hex(it.offset))
                .with("window_size", hex(it.window_bytes))
                .with("capacity", hex(it.capacity))
                .with("start_address", hex(it.start_dpa)),
        ),
        Structure::FlushHint(it) => (
            "flush_hint",
            Fields::new().with("device_handle", hex(it.device.0)).with("addresses", list(it.addresses.iter().copied())),
        ),
        Structure::PlatformCapabilities(it) => (
            "platform_capabilities",
            Fields::new()
                .with("highest_valid", u64::from(it.highest_valid))
                .with("capabilities", hex(it.capabilities.bits())),
        ),
    }
}
