//! Where a DIMM's registers and apertures are in physical addresses, and the tables that describe it.

use fake_machine::nfit::{Control, DataWindows, Kind, Mapping, Range, Registers, Table};

/// How a DIMM's share of a range is spread over it: by a table of its own, of lines among those of all DIMMs.
#[derive(Clone, Debug)]
pub struct Interleave {
    /// Bytes of a line.
    pub line_bytes: u64,
    /// DIMMs that take part.
    pub ways: u16,
    /// Which lines of each turn of `offsets.len() * ways` are this DIMM's.
    pub offsets: Vec<u32>,
}

impl Interleave {
    /// The inverse of the specification's formula: the offset in the DIMM's share of what lies `at` bytes into the range;
    /// `None` where another DIMM's line is.
    fn offset(&self, at: u64) -> Option<u64> {
        let (line, within) = (at / self.line_bytes, at % self.line_bytes);
        let turn_lines = self.offsets.len() as u64 * u64::from(self.ways);
        let (turn, place) = (line / turn_lines, line % turn_lines);
        let own = self.offsets.iter().position(|&offset| u64::from(offset) == place)? as u64;
        Some((turn * self.offsets.len() as u64 + own) * self.line_bytes + within)
    }

    /// How long a range must be for `bytes` bytes of this DIMM.
    fn spread(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.offsets.len() as u64 * self.line_bytes)
            * (self.offsets.len() as u64 * u64::from(self.ways) * self.line_bytes)
    }
}

/// A DIMM behind windows.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its handle.
    pub handle: u32,
    /// Physical address of the range of control windows.
    pub control_base: u64,
    /// Physical address of the range of data windows.
    pub data_base: u64,
    /// Physical address of its flush hint: a page of registers of its own.
    pub hint: u64,
    /// How many windows.
    pub windows: u16,
    /// Bytes from one window's registers to the next one's.
    pub window_bytes: u64,
    /// The command register's place in each.
    pub command: u64,
    /// The status register's.
    pub status: u64,
    /// Where the first aperture begins in the DIMM's share.
    pub data_offset: u64,
    /// Bytes of each.
    pub aperture_bytes: u64,
    /// How the control windows are interleaved, if they are.
    pub control_lines: Option<Interleave>,
    /// How the data windows are.
    pub data_lines: Option<Interleave>,
    /// The first DIMM address that the windows reach.
    pub start_dpa: u64,
    /// Bytes that they reach.
    pub capacity: u64,
    /// Whether commands may be pending.
    pub buffered: bool,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A window's command register.
    Command(u16),
    /// A window's status register.
    Status(u16),
    /// So many bytes into a window's aperture.
    Aperture(u16, u64),
    /// The flush hint.
    Hint,
    /// Nothing of this DIMM.
    Stray,
}

impl Layout {
    /// A plain DIMM: its parts together in 1 MiB from `base` on.
    #[must_use]
    pub fn plain(handle: u32, base: u64, windows: u16, capacity: u64) -> Self {
        Self {
            handle,
            control_base: base,
            hint: base + 0x1_0000,
            data_base: base + 0x2_0000,
            windows,
            window_bytes: 4096,
            command: 0,
            status: 8,
            data_offset: 0,
            aperture_bytes: 8192,
            control_lines: None,
            data_lines: None,
            start_dpa: 0,
            capacity,
            buffered: false,
        }
    }

    /// The same, with its parts spread among those of another DIMM, differently for control and data.
    #[must_use]
    pub fn interleaved(handle: u32, base: u64, windows: u16, capacity: u64) -> Self {
        Self {
            window_bytes: 64,
            command: 16,
            status: 32,
            data_offset: 4096,
            control_lines: Some(Interleave { line_bytes: 64, ways: 2, offsets: vec![1, 2] }),
            data_lines: Some(Interleave { line_bytes: 256, ways: 2, offsets: vec![3, 0, 5, 4] }),
            start_dpa: 64 << 20,
            ..Self::plain(handle, base, windows, capacity)
        }
    }

    /// How long the range of control windows is.
    #[must_use]
    pub fn control_bytes(&self) -> u64 {
        spread(self.control_lines.as_ref(), u64::from(self.windows) * self.window_bytes)
    }

    /// How long the range of data windows is.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let bytes = self.data_offset + u64::from(self.windows) * self.aperture_bytes;
        spread(self.data_lines.as_ref(), bytes)
    }

    /// What is at a physical address.
    #[must_use]
    pub fn place(&self, address: u64) -> Place {
        if address == self.hint {
            return Place::Hint;
        }
        let within = |base: u64, bytes: u64| address.checked_sub(base).filter(|at| *at < bytes);
        let offset = |at, lines: Option<&Interleave>| lines.map_or(Some(at), |lines| lines.offset(at));
        if let Some(at) = within(self.control_base, self.control_bytes()) {
            let Some(at) = offset(at, self.control_lines.as_ref()) else { return Place::Stray };
            let window = at / self.window_bytes;
            return match (u16::try_from(window), at % self.window_bytes) {
                (Ok(window), place) if window < self.windows && place == self.command => Place::Command(window),
                (Ok(window), place) if window < self.windows && place == self.status => Place::Status(window),
                _ => Place::Stray,
            };
        }
        let Some(at) = within(self.data_base, self.data_bytes()) else { return Place::Stray };
        let at = offset(at, self.data_lines.as_ref()).and_then(|at| at.checked_sub(self.data_offset));
        let Some(at) = at else { return Place::Stray };
        match u16::try_from(at / self.aperture_bytes) {
            Ok(window) if window < self.windows => Place::Aperture(window, at % self.aperture_bytes),
            _ => Place::Stray,
        }
    }

    /// The structures that describe it, added to a table: indices from 10 times its handle on.
    ///
    /// # Panics
    /// With a handle that has too many digits.
    #[must_use]
    pub fn describe(&self, table: Table) -> Table {
        let first = 10 * u16::try_from(self.handle).expect("a small handle");
        let (control, data, region) = (first, first + 1, first + 2);
        let registers = Registers {
            windows: self.windows,
            window_bytes: self.window_bytes,
            command: self.command,
            status: self.status,
            buffered: self.buffered,
        };
        let lines = |mapping: Mapping, index: u16, lines: Option<&Interleave>| match lines {
            None => mapping,
            Some(lines) => Mapping { interleave: index, ways: lines.ways, ..mapping },
        };
        let mapping = |range| Mapping { handle: self.handle, range, control: region, ..Mapping::default() };
        let table = table
            .range(Range { index: control, kind: Kind::Control, base: self.control_base, bytes: self.control_bytes() })
            .range(Range { index: data, kind: Kind::Data, base: self.data_base, bytes: self.data_bytes() })
            .mapping(lines(mapping(control), control, self.control_lines.as_ref()))
            .mapping(lines(mapping(data), data, self.data_lines.as_ref()))
            .control(Control { index: region, serial: self.handle, format: 0x201, registers: Some(registers) })
            .data_windows(DataWindows {
                control: region,
                windows: self.windows,
                offset: self.data_offset,
                aperture_bytes: self.aperture_bytes,
                capacity: self.capacity,
                start_dpa: self.start_dpa,
            })
            .flush_hints(self.handle, &[self.hint]);
        [(control, &self.control_lines), (data, &self.data_lines)].into_iter().fold(table, |table, (index, lines)| {
            match lines {
                None => table,
                Some(it) => {
                    let line_bytes = u32::try_from(it.line_bytes).expect("a short line");
                    table.interleave(index, line_bytes, &it.offsets)
                }
            }
        })
    }
}

fn spread(lines: Option<&Interleave>, bytes: u64) -> u64 {
    lines.map_or(bytes, |lines| lines.spread(bytes))
}
