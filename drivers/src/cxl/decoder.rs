//! Decoders of host-managed device memory (HDM; 8.2.4.19): registers that lead a range of addresses from the host bridge
//! to a port, and at the device to its memory.
//!
//! Decoders that firmware has committed are used as found: they may be locked, and something may be mapped there. Others
//! are programmed, the host bridge's first. A device decodes nothing, and drops stores without a word, until both are.

use super::{CxlError, PATIENCE_NS, Which};
use crate::flush::{NowNs, wait};
use crate::registers::Registers;

/// Where the registers of CXL.cache and CXL.mem begin in a component's block (8.2.3).
const CACHE_MEM: u32 = 0x1000;

/// The id of the array of capabilities there, and that of the decoders in it (8.2.4).
const ARRAY: u32 = 1;
const HDM: u32 = 5;

const GLOBAL_CONTROL: u32 = 4;
const GLOBAL_ENABLE: u32 = 1 << 1;

/// Where decoder 0 begins, and from one to the next.
const DECODERS: u32 = 0x10;
const DECODER_BYTES: u32 = 0x20;

/// In a decoder.
const BASE: u32 = 0;
const SIZE: u32 = 8;
const CONTROL: u32 = 0x10;
/// In a host bridge the ports among which it interleaves, a byte each; in a device, memory that it skips.
const TARGETS_OR_SKIP: u32 = 0x14;

const WAYS: u32 = 0xf << 4;
const COMMIT: u32 = 1 << 9;
const COMMITTED: u32 = 1 << 10;
const COMMIT_ERROR: u32 = 1 << 11;
/// What is behind it is memory alone.
const TYPE_3: u32 = 1 << 12;

/// What bases and sizes are multiples of.
pub const UNIT_BYTES: u64 = 256 << 20;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HdmRange {
    /// The first address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl HdmRange {
    /// Returns where it ends, if it is one that a decoder can have: not empty, of whole units, in 64 bits.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let whole = self.base.is_multiple_of(UNIT_BYTES) && self.bytes.is_multiple_of(UNIT_BYTES) && self.bytes > 0;
        self.base.checked_add(self.bytes).filter(|_| whole)
    }

    /// Returns whether all of the other one lies in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let ends = self.end().zip(other.end());
        ends.is_some_and(|(end, other_end)| self.base <= other.base && other_end <= end)
    }
}

/// The decoders of a component.
#[derive(Debug)]
pub struct Decoders<'r, R> {
    registers: &'r R,
    which: Which,
    /// Where they begin in the component's block.
    at: u32,
    count: u32,
}

impl<'r, R: Registers> Decoders<'r, R> {
    /// Finds a component's decoders; `None` if it has none.
    ///
    /// # Errors
    /// [`CxlError::BadComponent`]: its registers do not tell whether it has any.
    pub fn find(registers: &'r R, which: Which) -> Result<Option<Self>, CxlError> {
        let bad = CxlError::BadComponent(which);
        let head = registers.read(CACHE_MEM);
        if head & 0xffff != ARRAY {
            return Err(bad);
        }
        let mut entries = (1..=head >> 24).map(|number| registers.read(CACHE_MEM + 4 * number));
        let Some(entry) = entries.find(|entry| entry & 0xffff == HDM) else { return Ok(None) };
        let offset = entry >> 20;
        let at = CACHE_MEM + offset;
        let count = match registers.read(at) & 0xf {
            0 => 1,
            code @ 1..=8 => 2 * code,
            code @ 9..=12 => 20 + 4 * (code - 9),
            _ => return Err(bad),
        };
        if offset < 4 || !offset.is_multiple_of(4) {
            return Err(bad);
        }
        Ok(Some(Self { registers, which, at, count }))
    }

    fn read(&self, decoder: u32, register: u32) -> u32 {
        self.registers.read(self.at + DECODERS + decoder * DECODER_BYTES + register)
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write(self.at + DECODERS + register, value);
    }

    fn read_range(&self, decoder: u32) -> HdmRange {
        // The low 28 bits are reserved.
        let wide = |register| {
            let (low, high) = (self.read(decoder, register), self.read(decoder, register + 4));
            (u64::from(high) << 32 | u64::from(low)) & !(UNIT_BYTES - 1)
        };
        HdmRange { base: wide(BASE), bytes: wide(SIZE) }
    }

    /// Returns the range that is committed, if one is, for this port of the host bridge.
    ///
    /// # Errors
    /// More than one is, or it is none that is supported.
    pub fn committed(&self, port: u8) -> Result<Option<HdmRange>, CxlError> {
        // A decoder that is not there reads as committed, too.
        let mut found = (0..self.count).filter(|decoder| self.read(*decoder, CONTROL) & COMMITTED != 0);
        let Some(decoder) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(CxlError::SeveralRanges(self.which));
        }
        if self.read(decoder, CONTROL) & WAYS != 0 {
            return Err(CxlError::Interleaved(self.which));
        }
        let range = self.read_range(decoder);
        let [low, high] = [TARGETS_OR_SKIP, TARGETS_OR_SKIP + 4].map(|register| self.read(decoder, register));
        let leads_here = match self.which {
            Which::HostBridge => low & 0xff == u32::from(port),
            Which::Device => low == 0 && high == 0,
        };
        if range.end().is_none() || !leads_here {
            return Err(CxlError::OddRange { which: self.which, base: range.base, bytes: range.bytes });
        }
        Ok(Some(range))
    }

    /// Leads a range to the device's memory, or to a port of the host bridge, by decoder 0: none is committed.
    ///
    /// # Errors
    /// [`CxlError::NotCommitted`], [`CxlError::BadCommit`].
    pub fn commit(&self, range: &HdmRange, port: u8, now_ns: NowNs) -> Result<(), CxlError> {
        let halves = |wide: u64| {
            let [a, b, c, d, e, f, g, h] = wide.to_le_bytes();
            [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
        };
        for (register, wide) in [(BASE, range.base), (SIZE, range.bytes)] {
            let [low, high] = halves(wide);
            self.write(register, low);
            self.write(register + 4, high);
        }
        let target = if self.which == Which::HostBridge { port } else { 0 };
        self.write(TARGETS_OR_SKIP, target.into());
        self.write(TARGETS_OR_SKIP + 4, 0);
        // One way; not locked, so that a system that is started after us finds what it can change.
        self.write(CONTROL, TYPE_3);
        self.write(CONTROL, TYPE_3 | COMMIT);
        let is_over = || self.read(0, CONTROL) & (COMMITTED | COMMIT_ERROR) != 0;
        if !wait(now_ns, PATIENCE_NS, is_over) {
            return Err(CxlError::NotCommitted(self.which));
        }
        let control = self.read(0, CONTROL);
        let leads_there = control & COMMIT_ERROR == 0 && control & COMMITTED != 0 && self.read_range(0) == *range;
        if leads_there { Ok(()) } else { Err(CxlError::BadCommit(self.which)) }
    }

    /// Lets the decoders that are committed decode.
    pub fn enable(&self) {
        let control = self.registers.read(self.at + GLOBAL_CONTROL);
        if control & GLOBAL_ENABLE == 0 {
            self.registers.write(self.at + GLOBAL_CONTROL, control | GLOBAL_ENABLE);
        }
    }
}
