//! Firmware's tables, written structure by structure (ACPI 6.5, 5.2.25).

/// What an address range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Persistent memory.
    Memory,
    /// Block control windows.
    Control,
    /// Block data windows.
    Data,
}

impl Kind {
    const fn guid(self) -> [u8; 16] {
        match self {
            Self::Memory => uuid::uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb").to_bytes_le(),
            Self::Control => uuid::uuid!("92f701f6-13b4-405d-910b-299367e8234c").to_bytes_le(),
            Self::Data => uuid::uuid!("91af0530-5d86-470e-a6b0-0a2db9408249").to_bytes_le(),
        }
    }
}

/// A system physical address range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Its index.
    pub index: u16,
    /// What it holds.
    pub kind: Kind,
    /// Where it begins.
    pub base: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A DIMM's share of a range.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mapping {
    /// The DIMM.
    pub handle: u32,
    /// The range's index.
    pub range: u16,
    /// The control region's index.
    pub control: u16,
    /// How much of the DIMM it is.
    pub bytes: u64,
    /// Where the share begins in the range.
    pub region_offset: u64,
    /// Where it begins on the DIMM.
    pub dpa: u64,
    /// The interleave structure's index, or 0.
    pub interleave: u16,
    /// DIMMs that share the range; 0 is written as 1.
    pub ways: u16,
    /// Flags.
    pub flags: u16,
}

/// The layout of control windows.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// How many windows.
    pub windows: u16,
    /// Bytes from one to the next.
    pub window_bytes: u64,
    /// The command register's place in each.
    pub command: u64,
    /// The status register's.
    pub status: u64,
    /// Whether a command may be pending.
    pub buffered: bool,
}

/// A control region.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Its index.
    pub index: u16,
    /// The DIMM's serial number.
    pub serial: u32,
    /// The interface's code.
    pub format: u16,
    /// The windows, if it has any.
    pub registers: Option<Registers>,
}

/// The data windows of a control region.
#[derive(Clone, Copy, Debug)]
pub struct DataWindows {
    /// The control region's index.
    pub control: u16,
    /// How many.
    pub windows: u16,
    /// Where the first one begins in the DIMM's share.
    pub offset: u64,
    /// Bytes of each.
    pub aperture_bytes: u64,
    /// How much of the DIMM they reach.
    pub capacity: u64,
    /// From where on.
    pub start_dpa: u64,
}

/// A table in the making.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<u8>);

struct Body(Vec<u8>);

impl Body {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

impl Table {
    fn structure(mut self, kind: u16, fill: impl FnOnce(Body) -> Body) -> Self {
        let body = fill(Body(Vec::new())).0;
        let length = u16::try_from(body.len() + 4).expect("a structure is short");
        self.0.extend(kind.to_le_bytes());
        self.0.extend(length.to_le_bytes());
        self.0.extend(body);
        self
    }

    /// With a range.
    #[must_use]
    pub fn range(self, range: Range) -> Self {
        self.structure(0, |body| {
            let head = body.u16(range.index).u16(0).u32(0).u32(0).bytes(&range.kind.guid());
            head.u64(range.base).u64(range.bytes).u64(0x8008)
        })
    }

    /// With a DIMM's share of a range.
    #[must_use]
    pub fn mapping(self, it: Mapping) -> Self {
        self.structure(1, |body| {
            let head = body.u32(it.handle).u16(0).u16(0).u16(it.range).u16(it.control);
            let body = head.u64(it.bytes).u64(it.region_offset).u64(it.dpa);
            body.u16(it.interleave).u16(it.ways.max(1)).u16(it.flags).u16(0)
        })
    }

    /// With an interleave structure.
    ///
    /// # Panics
    /// With more lines than 32 bits count.
    #[must_use]
    pub fn interleave(self, index: u16, line_bytes: u32, offsets: &[u32]) -> Self {
        let lines = u32::try_from(offsets.len()).expect("a few lines");
        self.structure(2, |body| {
            let head = body.u16(index).u16(0).u32(lines).u32(line_bytes);
            offsets.iter().fold(head, |body, offset| body.u32(*offset))
        })
    }

    /// With a control region.
    #[must_use]
    pub fn control(self, it: Control) -> Self {
        self.structure(4, |body| {
            let head = body.u16(it.index).u16(0x8086).u16(1).u16(1).u16(0).u16(0).u16(0).u32(0).u16(0);
            let head = head.u32(it.serial).u16(it.format).u16(it.registers.map_or(0, |it| it.windows));
            match it.registers {
                None => head.bytes(&[0; 48]),
                Some(it) => {
                    let body = head.u64(it.window_bytes).u64(it.command).u64(8).u64(it.status).u64(4);
                    body.u16(u16::from(it.buffered)).bytes(&[0; 6])
                }
            }
        })
    }

    /// With the data windows of a control region.
    #[must_use]
    pub fn data_windows(self, it: DataWindows) -> Self {
        self.structure(5, |body| {
            let head = body.u16(it.control).u16(it.windows);
            head.u64(it.offset).u64(it.aperture_bytes).u64(it.capacity).u64(it.start_dpa)
        })
    }

    /// With flush hints.
    ///
    /// # Panics
    /// With more than 16 bits count.
    #[must_use]
    pub fn flush_hints(self, handle: u32, addresses: &[u64]) -> Self {
        let count = u16::try_from(addresses.len()).expect("a few hints");
        self.structure(6, |body| {
            let head = body.u32(handle).u16(count).bytes(&[0; 6]);
            addresses.iter().fold(head, |body, address| body.u64(*address))
        })
    }

    /// With the platform's capabilities, all of these bits valid.
    #[must_use]
    pub fn capabilities(self, bits: u32) -> Self {
        self.structure(7, |body| body.bytes(&[31, 0, 0, 0]).u32(bits).u32(0))
    }

    /// The table, with its header.
    ///
    /// # Panics
    /// When it is longer than 32 bits count.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut table = b"NFIT\0\0\0\0\x01\0UNTORNTESTS   \x01\0\0\0TEST\x01\0\0\0\0\0\0\0".to_vec();
        table.extend(self.0);
        let length = u32::try_from(table.len()).expect("a table is short");
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table[9] = table.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        table
    }
}
