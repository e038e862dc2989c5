//! Tables and label areas for tests, written byte by byte.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;

use nvdimm::Inventory;
use nvdimm::change::Step;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};
use nvdimm::region::Kind;

/// `0p 1b`: numbers and kinds.
pub(crate) fn regions_of(inventory: &Inventory) -> String {
    let kind = |kind: &Kind| if matches!(kind, Kind::Pmem(_)) { "p" } else { "b" };
    let names: Vec<_> =
        inventory.regions.iter().map(|region| format!("{}{}", region.id.0, kind(&region.kind))).collect();
    names.join(" ")
}

/// A table in the making.
#[derive(Clone, Default)]
pub(crate) struct Builder(Vec<u8>);

const PMEM: [u8; 16] = uuid::uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb").to_bytes_le();
const CONTROL: [u8; 16] = uuid::uuid!("92f701f6-13b4-405d-910b-299367e8234c").to_bytes_le();
const BTT: [u8; 16] = uuid::uuid!("8aed63a2-29a2-4c66-8b12-f05d15d3922a").to_bytes_le();

impl Builder {
    pub(crate) fn raw(mut self, kind: u16, body: &[u8]) -> Self {
        self.0.extend(kind.to_le_bytes());
        self.0.extend(u16::try_from(body.len() + 4).unwrap().to_le_bytes());
        self.0.extend(body);
        self
    }

    pub(crate) fn pmem(self, index: u16, base: u64, bytes: u64) -> Self {
        let mut body = vec![];
        body.extend(index.to_le_bytes());
        body.extend([0; 10]);
        body.extend(PMEM);
        [base, bytes, 0x8008].iter().for_each(|field: &u64| body.extend(field.to_le_bytes()));
        self.raw(0, &body)
    }

    /// A DIMM with a control region of its own, mapped to a range.
    pub(crate) fn dimm(self, handle: u32, range: u16, bytes: u64, region_offset: u64, ways: u16) -> Self {
        let control = 1000 + u16::try_from(handle & 0xfff).unwrap();
        let mut body = vec![];
        body.extend(handle.to_le_bytes());
        [0, 0, range, control].iter().for_each(|field: &u16| body.extend(field.to_le_bytes()));
        [bytes, region_offset, 0].iter().for_each(|field: &u64| body.extend(field.to_le_bytes()));
        [0, ways, 0, 0].iter().for_each(|field: &u16| body.extend(field.to_le_bytes()));
        let mapped = self.raw(1, &body);
        let mut body = vec![];
        [control, 0x8086, 1, 1, 0, 0, 0].iter().for_each(|field: &u16| body.extend(field.to_le_bytes()));
        body.extend([0; 6]);
        body.extend((0x5000 + handle).to_le_bytes());
        [0x301, 0].iter().for_each(|field: &u16| body.extend(field.to_le_bytes()));
        mapped.raw(4, &body)
    }

    pub(crate) fn flush(self, handle: u32, addresses: &[u64]) -> Self {
        let mut body = handle.to_le_bytes().to_vec();
        body.extend(u16::try_from(addresses.len()).unwrap().to_le_bytes());
        body.extend([0; 6]);
        addresses.iter().for_each(|address| body.extend(address.to_le_bytes()));
        self.raw(6, &body)
    }

    pub(crate) fn capabilities(self, highest: u8, bits: u32) -> Self {
        let mut body = vec![highest, 0, 0, 0];
        body.extend(bits.to_le_bytes());
        body.extend([0; 4]);
        self.raw(7, &body)
    }

    pub(crate) fn table(self) -> Vec<u8> {
        let mut table = b"NFIT\0\0\0\0\x01\0UNTORNUNTEST  \x01\0\0\0TEST\x01\0\0\0\0\0\0\0".to_vec();
        assert_eq!(table.len(), 40);
        table.extend(self.0);
        seal_table(&mut table);
        table
    }
}

/// Sets length and checksum of a table, if it has a header.
pub(crate) fn seal_table(table: &mut [u8]) {
    let length = u32::try_from(table.len()).unwrap();
    if let Some(field) = table.get_mut(4..8) {
        field.copy_from_slice(&length.to_le_bytes());
    }
    if let Some(field) = table.get_mut(9) {
        *field = 0;
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        table[9] = sum;
    }
}

/// Label areas by device handle; areas have the length given, and read as zeroes behind the given bytes.
#[derive(Clone, Default)]
pub(crate) struct Areas(pub(crate) BTreeMap<u32, Vec<u8>>);

pub(crate) const AREA_BYTES: u64 = 128 << 10;

impl LabelSource for Areas {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(self.0.contains_key(&dimm.0).then_some(AREA_BYTES))
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let area = self.0.get(&dimm.0).ok_or(LabelError::Status(2))?;
        assert!(offset + into.len() as u64 <= AREA_BYTES, "a read outside of the label area");
        let offset = usize::try_from(offset).unwrap();
        for (place, byte) in into.iter_mut().enumerate() {
            *byte = area.get(offset + place).copied().unwrap_or(0);
        }
        Ok(())
    }
}

impl LabelStore for Areas {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let area = self.0.get_mut(&dimm.0).ok_or(LabelError::Status(2))?;
        assert!(offset + from.len() as u64 <= AREA_BYTES, "a write outside of the label area");
        area.resize(usize::try_from(AREA_BYTES).unwrap(), 0);
        let offset = usize::try_from(offset).unwrap();
        area[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl Areas {
    /// The areas as a cut within a write may leave them: any of its 8-byte pieces arrived. All subsets of the pieces that
    /// change something, if there are few; otherwise the beginnings, the ends, single ones, all but one, and a hundred
    /// that a seed chooses.
    pub(crate) fn torn(&self, step: &Step) -> Vec<Self> {
        let mut whole = self.clone();
        whole.write(step.dimm, step.offset, &step.bytes).unwrap();
        let mut before = self.clone();
        let mut old = vec![0; step.bytes.len()];
        before.read(step.dimm, step.offset, &mut old).unwrap();
        assert!(step.offset.is_multiple_of(8) && step.bytes.len().is_multiple_of(8), "pieces are aligned");
        let changed: Vec<usize> = (0..step.bytes.len() / 8)
            .filter(|piece| old[8 * piece..8 * piece + 8] != step.bytes[8 * piece..8 * piece + 8])
            .collect();
        let count = changed.len();
        let mut subsets: Vec<Vec<bool>> = vec![];
        if count <= 8 {
            subsets.extend((0..1u32 << count).map(|bits| (0..count).map(|at| bits >> at & 1 != 0).collect()));
        } else {
            for at in 0..=count {
                subsets.push((0..count).map(|piece| piece < at).collect());
                subsets.push((0..count).map(|piece| piece >= at).collect());
                subsets.push((0..count).map(|piece| piece == at).collect());
                subsets.push((0..count).map(|piece| piece != at).collect());
            }
            let mut random = step.offset ^ 0x9e37_79b9_7f4a_7c15;
            for _ in 0..100 {
                let mut bit = || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random & 1 != 0
                };
                subsets.push((0..count).map(|_| bit()).collect());
            }
        }
        let state = |subset: &Vec<bool>| {
            let mut state = self.clone();
            for (piece, _) in changed.iter().zip(subset).filter(|(_, arrived)| **arrived) {
                let at = 8 * piece;
                state.write(step.dimm, step.offset + at as u64, &step.bytes[at..at + 8]).unwrap();
            }
            state
        };
        subsets.iter().map(state).collect()
    }

    /// Every state that a cut in the course of these steps may leave, the first and the last included.
    pub(crate) fn cuts(&self, steps: &[Step]) -> Vec<Self> {
        let mut now = self.clone();
        let mut states = vec![];
        for step in steps {
            states.extend(now.torn(step));
            now.write(step.dimm, step.offset, &step.bytes).unwrap();
        }
        states.push(now);
        states
    }
}

pub(crate) fn fletcher64(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0u32, 0u32);
    for word in bytes.chunks(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high = high.wrapping_add(low);
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Puts the right checksum at `at` of `bytes`.
pub(crate) fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 8].fill(0);
    let sum = fletcher64(bytes);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

/// A label to be written.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) uuid: u8,
    pub(crate) name: &'static str,
    pub(crate) flags: u32,
    pub(crate) labels: u16,
    pub(crate) position: u16,
    pub(crate) cookie: u64,
    pub(crate) dpa: u64,
    pub(crate) bytes: u64,
}

/// A label area of 128 KiB with labels 1.2 in the slots from 0 on. Only its start is given.
pub(crate) fn area(sequences: [u32; 2], labels: &[Spec]) -> Vec<u8> {
    const SLOTS: u32 = 510;
    let mut area = vec![0; 512];
    for number in 0..2usize {
        let mut block = vec![0u8; 256];
        block[..16].copy_from_slice(b"NAMESPACE_INDEX\0");
        block[19] = 1;
        block[20..24].copy_from_slice(&sequences[number].to_le_bytes());
        let offsets = [256 * number as u64, 256, 256 * (1 - number as u64), 512];
        for (place, field) in offsets.iter().enumerate() {
            block[24 + 8 * place..32 + 8 * place].copy_from_slice(&field.to_le_bytes());
        }
        block[56..60].copy_from_slice(&SLOTS.to_le_bytes());
        block[60..64].copy_from_slice(&[1, 0, 2, 0]);
        for slot in labels.len()..510 {
            block[72 + slot / 8] |= 1 << (slot % 8);
        }
        seal(&mut block, 64);
        area[256 * number..256 * (number + 1)].copy_from_slice(&block);
    }
    for (slot, spec) in labels.iter().enumerate() {
        let mut label = vec![0u8; 256];
        label[..16].fill(spec.uuid);
        label[16..16 + spec.name.len()].copy_from_slice(spec.name.as_bytes());
        label[80..84].copy_from_slice(&spec.flags.to_le_bytes());
        label[84..86].copy_from_slice(&spec.labels.to_le_bytes());
        label[86..88].copy_from_slice(&spec.position.to_le_bytes());
        label[88..96].copy_from_slice(&spec.cookie.to_le_bytes());
        label[96..104].copy_from_slice(&4096u64.to_le_bytes());
        label[104..112].copy_from_slice(&spec.dpa.to_le_bytes());
        label[112..120].copy_from_slice(&spec.bytes.to_le_bytes());
        label[120..124].copy_from_slice(&u32::try_from(slot).unwrap().to_le_bytes());
        label[128..144].copy_from_slice(if spec.flags & 2 == 0 { &PMEM } else { &CONTROL });
        label[144..160].copy_from_slice(&BTT);
        seal(&mut label, 248);
        area.extend(label);
    }
    area
}
