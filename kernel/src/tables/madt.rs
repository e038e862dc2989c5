//! The multiple APIC description table (MADT, 5.2.12): the CPUs, and the inputs of interrupts.

use alloc::vec::Vec;

use super::{Table, TableFault};

/// A CPU's local APIC id; of 32 bits on CPUs with x2APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApicId(pub u32);

/// An I/O APIC (5.2.12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Where its registers lie: a multiple of 16.
    pub address: u64,
    /// The number of its first input.
    pub first_input: u32,
}

/// The input at which an ISA interrupt arrives (5.2.12.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaOverride {
    /// The ISA interrupt.
    pub irq: u8,
    /// The I/O APIC input.
    pub input: u32,
    /// Active low instead of high.
    pub active_low: bool,
    /// Triggered by level instead of edge.
    pub level: bool,
}

/// The contents of the table that we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Madt {
    /// The CPUs that are enabled, each once, in the table's order.
    pub cpus: Vec<ApicId>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that do not arrive at the input of their number, as active-high edges.
    pub overrides: Vec<IsaOverride>,
    /// Where the walk stopped early: at an entry shorter than its header, or one that leaves the table.
    pub broken_at: Option<usize>,
}

const FIRST_ENTRY: usize = 44;
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const ISA_OVERRIDE: u8 = 2;
const LOCAL_X2APIC: u8 = 9;

/// More CPUs than are ever started, and more of the other entries than any machine has: further ones are ignored.
const MAX_OF_A_KIND: usize = 4096;

/// What the addresses of the two registers of an I/O APIC are apart.
const IO_APIC_ALIGN: u32 = 16;

/// The CPU is ready to be used; without it, it may appear later at most.
const ENABLED: u32 = 1;

impl Madt {
    /// Reads the table. A broken entry ends the walk: the entries before it count.
    ///
    /// # Errors
    /// [`TableFault::TooShort`].
    pub fn read(table: &Table<'_>) -> Result<Self, TableFault> {
        table.u32(36)?; // of the fixed part, nothing counts: each CPU knows where its local APIC is
        let mut madt = Self { cpus: Vec::new(), io_apics: Vec::new(), overrides: Vec::new(), broken_at: None };
        let bytes = table.bytes();
        let mut at = FIRST_ENTRY;
        // Every step goes at least two bytes on.
        while at < bytes.len() {
            let length = bytes.get(at + 1).map_or(0, |length| usize::from(*length));
            match bytes.get(at..at + length) {
                Some(entry) if length >= 2 => madt.take(entry),
                _ => {
                    madt.broken_at = Some(at);
                    break;
                }
            }
            at += length;
        }
        Ok(madt)
    }

    /// Takes one entry. Kinds that we do not use, entries too short for their kind, and I/O APICs whose registers would
    /// not be aligned, are skipped.
    fn take(&mut self, entry: &[u8]) {
        match (entry[0], entry) {
            (LOCAL_APIC, [_, _, _, id, rest @ ..]) => self.take_cpu(u32::from(*id), word(rest, 0)),
            (LOCAL_X2APIC, [_, _, _, _, rest @ ..]) => {
                if let Some(id) = word(rest, 0) {
                    self.take_cpu(id, word(rest, 4));
                }
            }
            (IO_APIC, [_, _, _, _, rest @ ..]) if self.io_apics.len() < MAX_OF_A_KIND => {
                let address = word(rest, 0).filter(|address| address.is_multiple_of(IO_APIC_ALIGN));
                if let (Some(address), Some(first_input)) = (address, word(rest, 4)) {
                    self.io_apics.push(IoApic { address: u64::from(address), first_input });
                }
            }
            (ISA_OVERRIDE, [_, _, _, irq, rest @ ..]) if self.overrides.len() < MAX_OF_A_KIND => {
                if let (Some(input), Some([polarity_trigger, _])) = (word(rest, 0), rest.get(4..6)) {
                    let active_low = polarity_trigger & 0b11 == 0b11;
                    let level = polarity_trigger & 0b1100 == 0b1100;
                    self.overrides.push(IsaOverride { irq: *irq, input, active_low, level });
                }
            }
            _ => {}
        }
    }

    fn take_cpu(&mut self, id: u32, flags: Option<u32>) {
        let enabled = flags.is_some_and(|flags| flags & ENABLED != 0);
        // All bits set addresses all CPUs, never one.
        let room = self.cpus.len() < MAX_OF_A_KIND;
        if enabled && room && id != u32::MAX && !self.cpus.contains(&ApicId(id)) {
            self.cpus.push(ApicId(id));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::tables::tests::table;

    fn madt(entries: &[&[u8]]) -> Result<Madt, TableFault> {
        let mut body = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        body.extend(entries.concat());
        let bytes = table(*b"APIC", &body);
        Madt::read(&Table::check(&bytes).expect("sound"))
    }

    #[test]
    fn enabled_cpus_are_found_once_each() {
        let found = madt(&[
            &[0, 8, 0, 0, 1, 0, 0, 0],
            &[0, 8, 1, 2, 0, 0, 0, 0], // disabled
            &[0, 8, 2, 3, 1, 0, 0, 0],
            &[9, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0], // the same once more
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0], // id 256
        ]);
        let found = found.expect("read");
        assert_eq!(found.cpus, [ApicId(0), ApicId(3), ApicId(256)]);
        assert_eq!(found.broken_at, None);
    }

    #[test]
    fn of_more_cpus_than_any_machine_has_the_first_are_taken() {
        let entry = |id: u32| {
            let mut entry = vec![9, 16, 0, 0];
            entry.extend([id, 1, id].iter().flat_map(|word: &u32| word.to_le_bytes()));
            entry
        };
        let entries: Vec<Vec<u8>> = (0..10_000).map(entry).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let found = madt(&entries).expect("read");
        assert_eq!((found.cpus.len(), found.broken_at), (MAX_OF_A_KIND, None));
    }

    #[test]
    fn interrupt_routing_is_read() {
        let found = madt(&[
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[1, 12, 1, 0, 2, 0, 0xc1, 0xfe, 24, 0, 0, 0], // not aligned
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 9, 9, 0, 0, 0, 13, 0],
            &[0x42, 4, 0, 0],
        ]);
        let found = found.expect("read");
        assert_eq!(found.io_apics, [IoApic { address: 0xfec0_0000, first_input: 0 }]);
        let timer = IsaOverride { irq: 0, input: 2, active_low: false, level: false };
        let sci = IsaOverride { irq: 9, input: 9, active_low: false, level: true };
        assert_eq!(found.overrides, [timer, sci]);
    }

    #[test]
    fn a_broken_entry_ends_the_walk_and_what_came_before_stands() {
        let cpu: &[u8] = &[0, 8, 0, 7, 1, 0, 0, 0];
        for broken in [&[0_u8, 0][..], &[0x80, 1, 0], &[0, 200, 0, 0], &[0]] {
            let found = madt(&[cpu, broken, cpu]).expect("read");
            assert_eq!(found.cpus, [ApicId(7)], "{broken:?}");
            if broken.len() > 1 {
                assert_eq!(found.broken_at, Some(52), "{broken:?}");
            }
        }
    }

    #[test]
    fn entries_too_short_for_their_kind_are_passed_over() {
        let found = madt(&[&[0, 4, 0, 0], &[9, 6, 0, 0, 1, 0], &[1, 4, 0, 0], &[2, 5, 0, 0, 0], &[5, 2]]);
        let found = found.expect("read");
        assert!(found.cpus.is_empty() && found.io_apics.is_empty() && found.overrides.is_empty());
        assert_eq!(found.broken_at, None);
    }

    #[test]
    fn a_table_without_its_fixed_part_is_refused() {
        let bytes = table(*b"APIC", &[0]);
        let read = Madt::read(&Table::check(&bytes).expect("sound"));
        assert_eq!(read, Err(TableFault::TooShort { at: 36 }));
    }
}
