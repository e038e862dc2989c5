//! Memory that keeps its bytes over a reset, and what is in it.
//!
//! | offset | bytes | is |
//! |---|---|---|
//! | 0 | 64 | the header: magic, version, number of the boot, how it ended, CRC-32C |
//! | 64 | 4032 | what the console was asked before: CRC-32C, length, lines |
//! | 4096 | 28672 | the slots of events (`super::record`) |
//!
//! Nothing of it is believed: firmware, a loader or a guest before us may have written there, and after a power cut it is
//! anything. The header, the lines and each slot have a checksum, and a slot counts only with the header's boot.

use alloc::string::String;
use alloc::vec::Vec;

use service::events::{Ended, Event, LastBoot};

use super::EVENTS;
use super::record::{CHECKSUM, SLOT_BYTES, Slot, text};

/// The bytes that are kept.
pub const RETAINED_BYTES: usize = SLOTS_AT + EVENTS * SLOT_BYTES;

const MAGIC: [u8; 8] = *b"untornRM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const HEADER_SUM_AT: usize = HEADER_BYTES - 4;
const LINES_AT: usize = HEADER_BYTES;
const SLOTS_AT: usize = 4096;
/// The most bytes of lines.
const LINES_BYTES_MAX: usize = SLOTS_AT - LINES_AT - 8;

/// Memory of [`RETAINED_BYTES`] that a reset leaves as it is. What is written is in memory when `write` returns, not in a
/// cache, and both take places within its bounds only.
pub trait RetainedMemory: Send + Sync {
    /// Copies bytes out.
    fn read(&self, at: usize, into: &mut [u8]);

    /// Copies bytes in.
    fn write(&self, at: usize, from: &[u8]);
}

impl<M: RetainedMemory + ?Sized> RetainedMemory for &M {
    fn read(&self, at: usize, into: &mut [u8]) {
        (**self).read(at, into);
    }

    fn write(&self, at: usize, from: &[u8]) {
        (**self).write(at, from);
    }
}

/// What was found in it when this boot began.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The boot before.
    pub last: Option<LastBoot>,
    /// What the console was asked before.
    pub lines: Vec<String>,
}

/// A header.
#[derive(Clone, Copy)]
struct Header {
    boot: u32,
    ended: Ended,
}

impl Header {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.boot.to_le_bytes());
        let ended = Ended::ALL.iter().position(|it| *it == self.ended).unwrap_or_default();
        bytes[16] = u8::try_from(ended).expect("there are few");
        let sum = CHECKSUM.checksum(&bytes[..HEADER_SUM_AT]);
        bytes[HEADER_SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let sound = bytes[..8] == MAGIC && u32_at(8) == VERSION;
        let sound = sound && u32_at(HEADER_SUM_AT) == CHECKSUM.checksum(&bytes[..HEADER_SUM_AT]);
        let ended = *Ended::ALL.get(usize::from(bytes[16]))?;
        sound.then(|| Self { boot: u32_at(12), ended })
    }
}

/// Reads what the boot before has left.
pub(super) fn find(memory: &dyn RetainedMemory) -> Kept {
    let mut bytes = [0; HEADER_BYTES];
    memory.read(0, &mut bytes);
    let Some(header) = Header::decode(&bytes) else { return Kept::default() };
    let mut events: Vec<Event> = Vec::new();
    for at in 0..EVENTS {
        let mut slot = Slot::EMPTY;
        memory.read(SLOTS_AT + at * SLOT_BYTES, &mut slot.0);
        if slot.is_sound(header.boot) {
            events.push(slot.decode());
        }
    }
    events.sort_by_key(|event| event.number);
    let last = LastBoot { boot: header.boot.into(), ended: header.ended, events };
    Kept { last: Some(last), lines: read_lines(memory) }
}

/// Begins a boot: from now on slots of earlier ones do not count.
pub(super) fn begin(memory: &dyn RetainedMemory, boot: u32) {
    set_end(memory, boot, Ended::Reset);
}

/// Stores how the boot ends.
pub(super) fn set_end(memory: &dyn RetainedMemory, boot: u32, ended: Ended) {
    memory.write(0, &Header { boot, ended }.encode());
}

/// Stores a slot.
pub(super) fn set_slot(memory: &dyn RetainedMemory, at: usize, slot: &Slot) {
    memory.write(SLOTS_AT + at * SLOT_BYTES, &slot.0);
}

/// Stores the newest of these lines, oldest first: as many as fit.
pub(super) fn set_lines(memory: &dyn RetainedMemory, lines: &[String]) {
    let fits = |bytes: &mut usize, line: &String| {
        *bytes += line.len() + 1;
        (*bytes <= LINES_BYTES_MAX).then_some(())
    };
    let count = lines.iter().rev().scan(0, fits).count();
    let mut bytes = Vec::new();
    for line in &lines[lines.len() - count..] {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    let len = u32::try_from(bytes.len()).expect("at most LINES_BYTES_MAX");
    memory.write(LINES_AT + 8, &bytes);
    memory.write(LINES_AT + 4, &len.to_le_bytes());
    memory.write(LINES_AT, &CHECKSUM.checksum(&bytes).to_le_bytes());
}

fn read_lines(memory: &dyn RetainedMemory) -> Vec<String> {
    let mut head = [0; 8];
    memory.read(LINES_AT, &mut head);
    let [sum, len] = [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")));
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= LINES_BYTES_MAX) else { return Vec::new() };
    let mut bytes = alloc::vec![0; len];
    memory.read(LINES_AT + 8, &mut bytes);
    if CHECKSUM.checksum(&bytes) != sum {
        return Vec::new();
    }
    text(&bytes).lines().filter(|line| !line.chars().any(char::is_control)).map(String::from).collect()
}
