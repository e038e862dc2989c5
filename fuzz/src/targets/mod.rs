//! The targets.

mod acpi;
mod admin;
mod config;
mod control;
mod cxl;
mod frames;
mod http;
mod labels;
mod loader;
mod medium;
mod nfit;
mod nvmf;
mod queue;
mod virtio;
// The host of nvmf's own tests, too.
#[path = "../../../nvmf/tests/common/mod.rs"]
mod initiator;
// What nvdimm's own tests hold, too.
#[path = "../../../nvdimm/tests/common/sound.rs"]
mod sound;

/// Something that takes bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What the bytes are.
    pub what: &'static str,
    /// Takes any bytes, and panics if they do harm.
    pub run: fn(&[u8]),
    /// The longest input that makes sense.
    pub bytes_max: usize,
    /// Folders with more inputs, from the top of the project.
    pub more: &'static [&'static str],
    /// How many mutations a test tries.
    pub smoke: u32,
}

/// All targets.
pub const TARGETS: [Target; 14] = [
    Target {
        name: "nfit",
        what: "an NFIT, as it is and with its checksum mended",
        run: nfit::run,
        bytes_max: 4096,
        more: &["nvdimm/tests/fixtures/nfit", "nvdimm/tests/fixtures/broken"],
        smoke: 100_000,
    },
    Target {
        name: "acpi",
        what: "the firmware's other tables: root pointer, MADT, FADT, MCFG, CEDT, the DSDT's sleep type",
        run: acpi::run,
        bytes_max: 1024,
        more: &[],
        smoke: 200_000,
    },
    Target {
        name: "loader",
        what: "what boot loaders leave in memory: multiboot2's tags, PVH's start_info, memory maps, the image's file",
        run: loader::run,
        bytes_max: 1024,
        more: &[],
        smoke: 100_000,
    },
    Target {
        name: "labels",
        what: "a DIMM's label area, read, and then changed",
        run: labels::run,
        bytes_max: 4096,
        more: &["nvdimm/tests/fixtures/labels"],
        smoke: 20_000,
    },
    Target {
        name: "medium",
        what: "info block, map and flog of an arena, opened, read, checked, repaired and written",
        run: medium::run,
        bytes_max: 1024,
        more: &[],
        smoke: 30_000,
    },
    Target {
        name: "queue",
        what: "a virtqueue with its requests, in a memory that changes while the device reads",
        run: queue::run,
        bytes_max: 4096,
        more: &[],
        smoke: 3_000,
    },
    Target {
        name: "cxl",
        what: "a CXL memory device: configuration space, decoders, mailbox and label area",
        run: cxl::run,
        bytes_max: 4096,
        more: &[],
        smoke: 20_000,
    },
    Target {
        name: "virtio",
        what: "a virtio-pmem device: registers, configuration, and answers to FLUSHes",
        run: virtio::run,
        bytes_max: 256,
        more: &[],
        smoke: 50_000,
    },
    Target {
        name: "frames",
        what: "frames from a network, to an interface with addresses, DHCP and a listening port",
        run: frames::run,
        bytes_max: 1024,
        more: &[],
        smoke: 20_000,
    },
    Target {
        name: "http",
        what: "requests for pages, by several clients in pieces",
        run: http::run,
        bytes_max: 1024,
        more: &[],
        smoke: 5_000,
    },
    Target {
        name: "control",
        what: "the control link of a real node, and a consumer's memory behind it",
        run: control::run,
        bytes_max: 1024,
        more: &[],
        smoke: 400,
    },
    Target {
        name: "nvmf",
        what: "a host's commands, data and bytes on the wire, to an NVMe/TCP target",
        run: nvmf::run,
        bytes_max: 512,
        more: &[],
        smoke: 10_000,
    },
    Target {
        name: "admin",
        what: "the admin line of a real node",
        run: admin::run,
        bytes_max: 1024,
        more: &[],
        smoke: 1_000,
    },
    Target {
        name: "config",
        what: "the configuration on a real node's medium",
        run: config::run,
        bytes_max: 1024,
        more: &[],
        smoke: 400,
    },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
