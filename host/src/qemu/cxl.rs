//! A CXL device: two files, its memory and its label storage, and QEMU's options for them.

use std::path::Path;

use super::dimm::{Dimm, DimmWords, Kind, LABEL_BYTES_MIN, is_label_size};

/// The number of the host bridge's bus, far behind those that others may add to the first bus; and its root ports'
/// chassis, which is no one's by default.
const BUS: u8 = 192;
const CHASSIS: u8 = 250;

/// The device's serial number, "untorn". Its labels carry it: another number makes them another device's.
const SERIAL: u64 = 0x756e_746f_726e;

/// A CXL device, whose option fits the state of its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cxl {
    /// Its memory.
    pub memory: Dimm,
    /// Its label storage, `FILE.lsa`: QEMU wants it in a file of its own.
    pub labels: Dimm,
}

impl Cxl {
    /// Compares the option with the state of its paths, and changes nothing.
    ///
    /// # Errors
    /// The conflict, for people.
    pub fn look(words: &DimmWords) -> Result<Self, String> {
        let memory = Dimm::look(words)?;
        let file = format!("{}.lsa", words.file);
        let there = Path::new(&file).metadata().is_ok_and(|there| there.len() > 0);
        let size = words.label.or((!there).then_some(LABEL_BYTES_MIN));
        let labels = Dimm::look(&DimmWords { kind: Kind::CxlLabels, file, size, ..DimmWords::default() })?;
        if !is_label_size(labels.bytes) {
            return Err(format!("--cxl {}: label storage of {} bytes: it takes 128K to 16M", words.file, labels.bytes));
        }
        Ok(Self { memory, labels })
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Dimm> {
        [&self.memory, &self.labels].into_iter()
    }

    /// What QEMU is told about it: a host bridge at `address` on PCI, and below it two root ports. With one alone Linux takes
    /// the host bridge for a pass-through, and QEMU before 8.0 does not: nothing that is stored would get anywhere.
    #[must_use]
    pub fn arguments(&self, address: &str) -> Vec<String> {
        let device = |words: String| ["-device".to_owned(), words];
        let port = |number: u8| {
            device(format!("cxl-rp,id=cxl0-port{number},bus=cxl0,port={number},chassis={CHASSIS},slot={number}"))
        };
        let bridge = format!("pxb-cxl,id=cxl0,bus=pcie.0,bus_nr={BUS},addr={address}");
        let own = format!("cxl-type3,id=cxl0-memory,bus=cxl0-port0,memdev=cxl0-file,lsa=cxl0-labels,sn={SERIAL:#x}");
        let files = [self.memory.object("cxl0-file"), self.labels.object("cxl0-labels")];
        [files, [device(bridge), port(0)], [port(1), device(own)]].concat().concat()
    }

    /// What QEMU's machine is told about it: a window for its memory.
    #[must_use]
    pub fn window(&self) -> String {
        format!(",cxl=on,cxl-fmw.0.targets.0=cxl0,cxl-fmw.0.size={}", self.memory.bytes)
    }
}
