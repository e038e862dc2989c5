//! A node that has booted, and its console: commands as a person types them.

use kernel::node::Node;
use kernel::node::export::ExportServices;
use serde_json::Value;
use service::console::{Activity, Session};

use crate::labels::LabelArea;
use crate::line::Line;
use crate::machine::{FakeMachine, Hardware};
use crate::memory::{Map, Memory};
use crate::nfit::{Control, Kind, Mapping, Range, Table};

/// A MiB.
pub const MIB: usize = 1 << 20;
/// Where QEMU puts the first DIMM.
pub const BASE: u64 = 1 << 32;

/// As QEMU lays out one DIMM: the range's base and length, its mapping's flags, and its label area.
#[derive(Clone, Copy, Debug)]
pub struct Dimm {
    /// Its physical address.
    pub base: u64,
    /// Its bytes.
    pub memory: &'static Memory,
    /// Its mapping's flags.
    pub flags: u16,
    /// Its label area, if it has one.
    pub labels: Option<&'static LabelArea>,
}

/// An NFIT as QEMU makes it for these DIMMs.
#[must_use]
pub fn nfit_of(dimms: &[Dimm]) -> Vec<u8> {
    table_of(dimms).finish()
}

/// The table of [`nfit_of`], to which structures may be added.
#[must_use]
pub fn table_of(dimms: &[Dimm]) -> Table {
    (1_u16..).zip(dimms).fold(Table::default(), |table, (index, dimm)| {
        let (handle, bytes) = (u32::from(index), dimm.memory.bytes as u64);
        let range = Range { index: 2 * index, kind: Kind::Memory, base: dimm.base, bytes };
        let mapping = Mapping {
            handle,
            range: 2 * index,
            control: 2 * index + 1,
            bytes,
            flags: dimm.flags,
            ..Mapping::default()
        };
        let control = Control { index: 2 * index + 1, serial: handle, format: 0x301, registers: None };
        table.range(range).mapping(mapping).control(control)
    })
}

/// A booted node in machine mode.
pub struct Booted {
    /// The node.
    pub node: Node<FakeMachine>,
    session: Session,
    line: Line,
}

/// Boots on these DIMMs.
#[must_use]
pub fn boot(dimms: &[Dimm]) -> Booted {
    boot_with(dimms, ExportServices::none())
}

/// Boots on these DIMMs, with what exports need.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn boot_with(dimms: &[Dimm], services: ExportServices) -> Booted {
    Hardware::with_dimms(dimms, services).boot()
}

impl Hardware {
    /// These DIMMs, and what exports need.
    #[must_use]
    pub fn with_dimms(dimms: &[Dimm], services: ExportServices) -> Self {
        let nfits = if dimms.is_empty() { vec![] } else { vec![nfit_of(dimms)] };
        let map = Map(dimms.iter().map(|dimm| (dimm.base, dimm.memory.bytes as u64, dimm.memory.start)).collect());
        let areas = (1..).zip(dimms).filter_map(|(handle, dimm)| Some((handle, dimm.labels?)));
        Self { map, nfits, areas: areas.collect(), services, ..Self::default() }
    }

    /// Boots it into machine mode.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn boot(self) -> Booted {
        let node = Node::assemble(self.machine());
        let mut booted = Booted { node, session: Session::new(), line: Line::default() };
        booted.session.start(&mut booted.line);
        assert_eq!(booted.ask("mode json")["mode"], "json");
        booted
    }
}

/// Boots on one DIMM without labels.
#[must_use]
pub fn boot_one(memory: &'static Memory) -> Booted {
    boot(&[Dimm { base: BASE, memory, flags: 0, labels: None }])
}

/// A DIMM with a label area.
#[must_use]
pub fn labelled(mib: usize) -> Dimm {
    Dimm { base: BASE, memory: Memory::new(mib * MIB), flags: 0, labels: Some(LabelArea::new()) }
}

impl Booted {
    /// Sends a line; the reply.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, line: &str) -> Value {
        self.line.from_node.clear();
        self.line.to_node.extend(line.bytes().chain([b'\n']));
        while self.session.poll(&mut self.line, &mut self.node) == Activity::Busy {}
        let text = String::from_utf8(self.line.from_node.clone()).expect("UTF-8");
        let reply = text.lines().last().expect("a reply");
        serde_json::from_str(reply).unwrap_or_else(|why| panic!("{line}: {why}: {reply}"))
    }

    /// The reply to a line that must be obeyed.
    ///
    /// # Panics
    /// When it is not.
    pub fn done(&mut self, line: &str) -> Value {
        let reply = self.ask(line);
        assert_eq!(reply["ok"], true, "{line}: {reply}");
        reply
    }

    /// The error to a line that must not.
    ///
    /// # Panics
    /// When it is obeyed, or refused for another reason.
    pub fn refused(&mut self, line: &str, code: &str) -> String {
        let reply = self.ask(line);
        assert_eq!(reply["error"]["code"], code, "{line}: {reply}");
        reply["error"]["message"].as_str().expect("a message").into()
    }
}
