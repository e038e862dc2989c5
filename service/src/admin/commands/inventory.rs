//! The machine's memory, its firmware's tables, and the faults of both: `status`, `list`, `nfit`, `health`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::admin::commands::sectors::READ_BYTES_MAX;
use crate::admin::fields::Fields;
use crate::admin::filter::Names;
use crate::admin::grammar::{CommandSpec, flag, long_flag, option};
use crate::admin::hexdump::hexdump;
use crate::admin::list::{ListRequest, list};
use crate::admin::pretty::pretty;
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Look};
use crate::admin::text::{bytes, line};
use crate::error::{AdminError, EXIT_DAMAGED};
use crate::events::{Kind, Severity};
use crate::inventory::Inventory;

/// What was found.
pub trait InventoryAdmin {
    /// The machine and what it serves.
    fn status(&self) -> Status;

    /// All that was found, enabled or not: `list` filters it. Empty where the firmware has no NFIT.
    fn inventory(&self) -> Inventory;

    /// The decoded NFITs with what was refused. Empty where there is none.
    fn nfit(&self) -> Nfit;

    /// The NFITs as firmware has them, header and all, in the order of [`Self::nfit`].
    fn nfit_tables(&self) -> Vec<Vec<u8>>;

    /// What is known to be wrong, without a look at the media.
    fn health(&self) -> Health;

    /// Names of devices, for completion.
    fn names(&self) -> Vec<String> {
        self.inventory().names()
    }
}

/// The part of the appliance that the commands are for.
pub type Part = dyn InventoryAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "status",
            summary: "the machine and what it serves",
            words: &[],
            options: &[],
            details: "unclean_shutdowns_recovered: how often since boot a namespace was opened whose interrupted writes had to be\n\
                      finished. A power cut between two writes leaves none.\n",
        },
        parse: |_| Ok(Box::new(ShowStatus)),
    },
    Command {
        spec: CommandSpec {
            name: "list",
            summary: "buses, DIMMs, regions, namespaces, as ndctl list prints them",
            words: &[],
            options: &[
                flag('B', "buses", "include buses"),
                flag('D', "dimms", "include DIMMs"),
                flag('R', "regions", "include regions"),
                flag('N', "namespaces", "include namespaces (the default when no type is asked for)"),
                flag('i', "idle", "include what is disabled"),
                flag('H', "health", "include the DIMMs' health, where they can be asked"),
                flag('M', "media-errors", "include blocks that the medium lost"),
                flag('u', "human", "sizes with units, numbers of devices in base 16"),
                option('n', "namespace", "NS", "only this namespace, and what it is on"),
                option('r', "region", "REGION", "only this region, and what is in it"),
                option('d', "dimm", "DIMM", "only this DIMM, and what is on it"),
                flag('v', "verbose", "more detail; -vv all types, -vvv everything"),
            ],
            details: "Several types nest: namespaces in their region, DIMMs and regions in their bus.\n\
                      A namespace that is not as it should be has a state and a reason.\n\
                      Names may be numbers (-r 0), several with commas between.\n\
                      Prints nothing when there is nothing to list.\n",
        },
        parse: |line| {
            Ok(Box::new(ListRequest {
                buses: line.flag("buses"),
                dimms: line.flag("dimms"),
                regions: line.flag("regions"),
                namespaces: line.flag("namespaces"),
                idle: line.flag("idle"),
                health: line.flag("health"),
                media_errors: line.flag("media-errors"),
                human: line.flag("human"),
                names: Names {
                    namespace: line.value("namespace").map(Into::into),
                    region: line.value("region").map(Into::into),
                    dimm: line.value("dimm").map(Into::into),
                },
                verbose: line.times("verbose"),
            }))
        },
    },
    Command {
        spec: CommandSpec {
            name: "nfit",
            summary: "the firmware's NVDIMM table, decoded, with what was refused and why",
            words: &[],
            options: &[long_flag("raw", "its bytes, as firmware has them")],
            details: "",
        },
        parse: |line| Ok(if line.flag("raw") { Box::new(ShowNfitTables) } else { Box::new(ShowNfit) }),
    },
    Command {
        spec: CommandSpec {
            name: "health",
            summary: "whether all is well, and what is not",
            words: &[],
            options: &[],
            details: "ok: nothing is known to be wrong. degraded: less is served than there is, or not as it should be.\n\
                      failed: data are lost, damaged or out of reach. Exit status 0, 1 or 4.\n\
                      Reads no media: check-namespace and errors look closer.\n",
        },
        parse: |_| Ok(Box::new(ShowHealth)),
    },
];

/// `status`.
#[derive(Debug)]
pub struct ShowStatus;

/// `nfit`.
#[derive(Debug)]
pub struct ShowNfit;

/// `nfit --raw`.
#[derive(Debug)]
pub struct ShowNfitTables;

/// `health`.
#[derive(Debug)]
pub struct ShowHealth;

impl Look<Part> for ShowStatus {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(part.status().into())
    }
}

impl Look<Part> for ListRequest {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(List(list(&part.inventory(), self)).into())
    }
}

impl Look<Part> for ShowNfit {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(part.nfit().into())
    }
}

impl Look<Part> for ShowNfitTables {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        let tables = part.nfit_tables();
        let bytes: u64 = tables.iter().map(|table| table.len() as u64).sum();
        if bytes > READ_BYTES_MAX {
            return Err(AdminError::failed(format!(
                "the tables have {bytes} bytes, more than a reply: nfit decodes them"
            )));
        }
        Ok(NfitTables(tables).into())
    }
}

impl Look<Part> for ShowHealth {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(part.health().into())
    }
}

/// The reply to `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The version of the image.
    pub version: String,
    /// CPUs that serve.
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// Signatures of the firmware tables that were found, in the order found: `RSDP`, `XSDT`, `APIC`, `NFIT`, …
    pub tables: Vec<String>,
    /// The namespaces in short.
    pub namespaces: Vec<NamespaceStatus>,
    /// Block devices that are exported.
    pub exports: Vec<String>,
    /// Those that are served by NVMe/TCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nvme: Vec<NvmeStatus>,
    /// Time since the image began, milliseconds; in JSON seconds (12.345).
    #[serde(serialize_with = "milliseconds_as_seconds")]
    pub uptime: u64,
    /// How often, since the image began, a namespace was opened that had interrupted writes, which were finished then. (A
    /// cut between two writes leaves none; nothing on the medium shows it.)
    pub unclean_shutdowns_recovered: u64,
    /// How stores become durable here: `clwb`, `clflushopt`, `clflush` or `none needed`, with `+ flush hints`.
    pub persist: String,
}

/// A device that is served by NVMe/TCP, in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NvmeStatus {
    /// The block device.
    pub dev: String,
    /// The subsystem's NQN.
    pub nqn: String,
    /// The NQNs of the hosts that may connect, or `any`.
    pub allowed: Vec<String>,
    /// The NQNs of the hosts that are connected.
    pub hosts: Vec<String>,
}

/// A namespace in `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamespaceStatus {
    /// `namespace0.0`.
    pub dev: String,
    /// `sector` or `raw`.
    pub mode: String,
    /// Bytes it offers.
    pub size: u64,
    /// Its block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blockdev: Option<String>,
    /// `active`, `read-only`, `disabled`, or `damaged`; then a colon and why, where there is a reason.
    pub state: String,
}

fn milliseconds_as_seconds<S: Serializer>(milliseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(seconds(*milliseconds))
}

/// Milliseconds as seconds: exact up to 2^53 milliseconds, 285000 years.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

impl Reply for Status {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        line(out, "version", &self.version)?;
        line(out, "cpus", self.cpus)?;
        line(out, "memory", bytes(self.memory))?;
        line(out, "tables", self.tables.join(" "))?;
        line(out, "persist", &self.persist)?;
        line(out, "uptime", format_args!("{}.{:03} s", self.uptime / 1000, self.uptime % 1000))?;
        line(out, "unclean_shutdowns_recovered", self.unclean_shutdowns_recovered)?;
        line(out, "exports", if self.exports.is_empty() { "none".into() } else { self.exports.join(" ") })?;
        for served in &self.nvme {
            let none_or = |hosts: &[String]| if hosts.is_empty() { "none".into() } else { hosts.join(" ") };
            writeln!(out, "{:<16} NVMe/TCP {}", served.dev, served.nqn)?;
            writeln!(out, "{:<16} allowed: {}; connected: {}", "", none_or(&served.allowed), none_or(&served.hosts))?;
        }
        if self.namespaces.is_empty() {
            line(out, "namespaces", "none")?;
        }
        for namespace in &self.namespaces {
            let blockdev = namespace.blockdev.as_deref().unwrap_or("-");
            let size = bytes(namespace.size);
            writeln!(out, "{:<16} {blockdev:<10} {:<7} {:<9} {size}", namespace.dev, namespace.mode, namespace.state)?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

/// The reply to `list`: ndctl's JSON.
#[derive(Debug)]
struct List(String);

impl Reply for List {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        // As ndctl: with nothing to list, nothing is printed.
        if self.0 == "[]" { Ok(()) } else { writeln!(out, "{}", pretty(&self.0)) }
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.raw_member("result", &self.0)
    }
}

/// The reply to `nfit`: all that the firmware reports of its NVDIMMs, and what was not believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Nfit {
    /// The structures, in the order of the tables.
    pub structures: Vec<NfitStructure>,
    /// What was refused.
    pub refused: Vec<Refusal>,
    /// What is odd, and stands all the same.
    pub remarks: Vec<Refusal>,
}

/// One NFIT structure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NfitStructure {
    /// Which table, from 0.
    pub table: u32,
    /// Where in the table, bytes.
    pub offset: u32,
    /// Its kind in the specification's words, as an identifier: `system_physical_address_range`,
    /// `memory_device_to_system_physical_address_range_map`, or shorter: `spa_range`, `memory_device_map`, …
    pub kind: String,
    /// The fields, in the specification's order, under names in snake case.
    #[serde(flatten)]
    pub fields: Fields,
}

/// Something in the tables or in label areas that was refused, or is remarked upon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// Which table, from 0.
    pub table: u32,
    /// Where in the table, bytes.
    pub offset: u32,
    /// What: `structure type 1`, `table`, …
    pub what: String,
    /// Why, in a sentence.
    pub why: String,
}

impl Reply for Nfit {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.structures.is_empty() && self.refused.is_empty() && self.remarks.is_empty() {
            return writeln!(out, "no NFIT");
        }
        for structure in &self.structures {
            writeln!(out, "table {} at {:#06x}: {}", structure.table, structure.offset, structure.kind)?;
            for (name, value) in &structure.fields.0 {
                writeln!(out, "  {name:<26} {}", value.text())?;
            }
        }
        for refusal in &self.refused {
            writeln!(
                out,
                "table {} at {:#06x}: refused {}: {}",
                refusal.table, refusal.offset, refusal.what, refusal.why
            )?;
        }
        for remark in &self.remarks {
            writeln!(
                out,
                "table {} at {:#06x}: remark on {}: {}",
                remark.table, remark.offset, remark.what, remark.why
            )?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

/// The reply to `nfit --raw`.
#[derive(Debug)]
struct NfitTables(Vec<Vec<u8>>);

impl Reply for NfitTables {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(out, "no NFIT");
        }
        self.0.iter().enumerate().try_for_each(|(number, table)| {
            writeln!(out, "table {number}")?;
            hexdump(table, out)
        })
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        let tables: Vec<String> = self.0.iter().map(|table| STANDARD.encode(table)).collect();
        object.member("tables", &tables)
    }
}

/// The reply to `health`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong.
    pub findings: Vec<HealthFinding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthFinding {
    /// What is wrong, in a sentence.
    pub what: String,
    /// The DIMM, region, namespace, table, interface, or the command line.
    #[serde(rename = "where")]
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, as an event.
    #[serde(skip)]
    pub kind: Kind,
}

impl Health {
    /// The state in a word, and its exit status.
    #[must_use]
    pub fn state(&self) -> (&'static str, u8) {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None | Some(Severity::Info) => ("ok", 0),
            Some(Severity::Warning) => ("degraded", 1),
            Some(Severity::Error) => ("failed", EXIT_DAMAGED),
        }
    }
}

impl Reply for Health {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.state().0)?;
        for HealthFinding { what, place, severity, .. } in &self.findings {
            writeln!(out, "{}: {place}: {what}", severity.as_str())?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("state", self.state().0)?;
        object.member("findings", &self.findings)
    }

    fn exit_code(&self) -> u8 {
        self.state().1
    }
}
