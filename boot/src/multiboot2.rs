//! multiboot2: how GRUB starts the image, from BIOS and from UEFI firmware (Multiboot2 specification, version 2.0).
//!
//! A header near the file's beginning names a 32-bit entry point; `eax` has a magic number and `ebx` the address of the
//! boot information there: tags, each of an 8-byte header and its bytes. GRUB puts them behind the image, in memory that
//! its own map calls RAM: [`read`] copies all that is needed. Tags come from outside: each length is checked before the
//! tag is read.
//!
//! There is never a multiboot 1 header: QEMU's `-kernel` prefers that to the PVH note, and then refuses a 64-bit file.

use core::fmt;

use crate::bytes::{u32_at, u64_at};
use crate::loader::{CommandLine, FirmwareRange, LoaderInfo, RootPointer, TooManyRanges};
use crate::root_pointer;

/// What `eax` holds at the entry (3.2).
pub const MAGIC: u32 = 0x36d7_6289;

/// The longest boot information that is accepted. GRUB's is 1 to 8 KiB, and more with a long map.
pub const MAX_INFO_BYTES: u32 = 1 << 20;

/// The fixed part before the tags: the total length and a reserved word.
pub const INFO_HEADER_BYTES: usize = 8;

/// A tag's header: its type and its length without padding.
const TAG_HEADER_BYTES: usize = 8;

/// The tags that are used (3.6).
mod tag {
    pub(super) const END: u32 = 0;
    pub(super) const COMMAND_LINE: u32 = 1;
    pub(super) const MEMORY_MAP: u32 = 6;
    pub(super) const OLD_ROOT_POINTER: u32 = 14;
    pub(super) const NEW_ROOT_POINTER: u32 = 15;
}

/// Why boot information cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFault {
    /// The loader is of another kind: `eax` is another number.
    Magic(u32),
    /// Its total length cannot be.
    Length(u32),
    /// It lies where the first page tables do not reach, or in the image itself.
    Place(u64),
    /// A tag is shorter than its kind is, or reaches past the end.
    Tag {
        /// Its type.
        kind: u32,
        /// Where it begins, from the beginning of the boot information.
        at: usize,
    },
    /// There is no memory map.
    NoMemoryMap,
    /// The memory map does not fit.
    TooManyRanges,
}

impl fmt::Display for TagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "multiboot2: ")?;
        match self {
            Self::Magic(found) => write!(f, "eax is {found:#x}, not {MAGIC:#x}"),
            Self::Length(found) => write!(f, "boot information of {found} bytes, not 8 to {MAX_INFO_BYTES}"),
            Self::Place(at) => write!(f, "boot information at {at:#x} is out of reach, or in the image"),
            Self::Tag { kind, at } => write!(f, "the tag of type {kind} at {at} has an impossible length"),
            Self::NoMemoryMap => write!(f, "there is no memory map"),
            Self::TooManyRanges => TooManyRanges.fmt(f),
        }
    }
}

impl From<TooManyRanges> for TagFault {
    fn from(_: TooManyRanges) -> Self {
        Self::TooManyRanges
    }
}

/// Returns the length of the boot information that begins with these bytes.
///
/// # Errors
/// [`TagFault::Length`].
pub fn total_bytes(header: [u8; INFO_HEADER_BYTES]) -> Result<usize, TagFault> {
    let length = u32_at(&header, 0).unwrap_or_default();
    match usize::try_from(length) {
        Ok(bytes @ INFO_HEADER_BYTES..) if length <= MAX_INFO_BYTES => Ok(bytes),
        _ => Err(TagFault::Length(length)),
    }
}

/// Reads whole boot information. Of a kind of tag that should be unique the first counts.
///
/// # Errors
/// A [`TagFault`].
pub fn read(info: &[u8]) -> Result<LoaderInfo, TagFault> {
    let mut found = LoaderInfo::new();
    let (mut map, mut line, mut old, mut new) = (None, None, None, None);
    let mut at = INFO_HEADER_BYTES;
    // Each tag takes 8 bytes at least, so there are at most as many as the bytes allow.
    while let (Some(kind), Some(length)) = (u32_at(info, at), u32_at(info, at + 4)) {
        if kind == tag::END {
            break;
        }
        let broken = TagFault::Tag { kind, at };
        let length = usize::try_from(length).ok().filter(|length| *length >= TAG_HEADER_BYTES).ok_or(broken)?;
        let end = at.checked_add(length).ok_or(broken)?;
        let body = info.get(at + TAG_HEADER_BYTES..end).ok_or(broken)?;
        match kind {
            tag::COMMAND_LINE => drop(line.get_or_insert(body)),
            tag::MEMORY_MAP => drop(map.get_or_insert((body, broken))),
            tag::OLD_ROOT_POINTER => drop(old.get_or_insert(body)),
            tag::NEW_ROOT_POINTER => drop(new.get_or_insert(body)),
            _ => {}
        }
        at = end.next_multiple_of(8);
    }

    let (map, broken) = map.ok_or(TagFault::NoMemoryMap)?;
    read_map(map, broken, &mut found)?;
    if let Some(line) = line {
        found.command_line = CommandLine::new(line.iter().copied());
    }
    // UEFI firmware has two, with tables of their own; the newer one is richer. A broken one is passed over.
    let pointer = new.and_then(root_pointer::copy).or(old.and_then(root_pointer::copy));
    found.root_pointer = pointer.map_or(RootPointer::Untold, RootPointer::Copy);
    Ok(found)
}

/// Reads a memory map's body: the length of an entry, a version, then the entries (3.6.8). Fields that a later version
/// adds stand behind those that we use.
fn read_map(body: &[u8], broken: TagFault, into: &mut LoaderInfo) -> Result<(), TagFault> {
    const ENTRY_BYTES: usize = 24;
    const FIXED_BYTES: usize = 8;
    let entry = u32_at(body, 0).and_then(|bytes| usize::try_from(bytes).ok());
    let entry = entry.filter(|bytes| *bytes >= ENTRY_BYTES).ok_or(broken)?;
    let entries = body.get(FIXED_BYTES..).ok_or(broken)?;
    for bytes in entries.chunks_exact(entry) {
        let range = u64_at(bytes, 0).zip(u64_at(bytes, 8)).zip(u32_at(bytes, 16));
        let ((start, bytes), kind) = range.ok_or(broken)?;
        into.memory.add(FirmwareRange { start, bytes, kind })?;
    }
    Ok(())
}

#[cfg(all(feature = "image", not(test)))]
mod start {
    use core::arch::global_asm;

    use super::{INFO_HEADER_BYTES, LoaderInfo, MAGIC, TagFault, read, total_bytes};
    use crate::{handoff, physical};

    global_asm!(
        r#"
    // The header (3.1): magic, architecture (i386), length, checksum, tags.
    .section .multiboot2, "a"
    .balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    // The entry address tag (3.1.5): the file's own entry is PVH's.
    .word 3, 0
    .long 12
    .long multiboot2_entry
    .balign 8
    .word 0, 0
    .long 8
multiboot2_header_end:

    .section .boot.text, "ax"
    .code32
multiboot2_entry:
    movl %ebx, %edi
    movl $multiboot2_start, %esi
    cmpl $0x36d76289, %eax
    je enter_long_mode
    movl $multiboot2_unknown_start, %esi
    movl %eax, %edi
    jmp enter_long_mode
    .code64
        "#,
        options(att_syntax)
    );

    const _: () = assert!(MAGIC == 0x36d7_6289, "the assembly has it, too");

    /// The 32-bit entry's 64-bit function: reads the loader's boot information and starts the kernel.
    #[unsafe(no_mangle)]
    extern "C" fn multiboot2_start(info: u64) -> ! {
        match read_at(info) {
            // SAFETY: the entry code comes here once, on the boot CPU, with the first page tables active.
            Ok(info) => unsafe { handoff::enter_kernel(&info) },
            Err(fault) => panic!("{fault}"),
        }
    }

    /// The same for a loader with another magic number.
    #[unsafe(no_mangle)]
    extern "C" fn multiboot2_unknown_start(magic: u64) -> ! {
        panic!("{}", TagFault::Magic(u32::try_from(magic).unwrap_or_default()))
    }

    fn read_at(info: u64) -> Result<LoaderInfo, TagFault> {
        let header = physical::bytes(info, INFO_HEADER_BYTES).and_then(<[u8]>::first_chunk);
        let total = total_bytes(*header.ok_or(TagFault::Place(info))?)?;
        read(physical::bytes(info, total).ok_or(TagFault::Place(info))?)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::loader::MAX_FIRMWARE_RANGES;
    use crate::root_pointer::ROOT_POINTER_BYTES;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&u32::try_from(8 + body.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0xee); // padding may be anything
        bytes
    }

    fn info(tags: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = std::vec![0; 8];
        tags.iter().for_each(|tag| bytes.extend_from_slice(tag));
        let total = u32::try_from(bytes.len()).expect("short");
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes
    }

    fn map(entry_bytes: u32, entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut body = entry_bytes.to_le_bytes().to_vec();
        body.extend_from_slice(&0_u32.to_le_bytes());
        for (start, bytes, kind) in entries {
            let at = body.len();
            body.extend_from_slice(&start.to_le_bytes());
            body.extend_from_slice(&bytes.to_le_bytes());
            body.extend_from_slice(&kind.to_le_bytes());
            body.resize(at + entry_bytes as usize, 0xdd);
        }
        tag(6, &body)
    }

    fn pointer(revision: u8, length: usize) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0UNTORN".to_vec();
        bytes.push(revision);
        bytes.resize(length, revision);
        if let Some(field) = bytes.get_mut(20..24) {
            field.copy_from_slice(&u32::try_from(length).expect("short").to_le_bytes());
        }
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        bytes[8] = sum(&bytes[..20]);
        if length > 32 {
            bytes[32] = 0;
            bytes[32] = sum(&bytes[..36]);
        }
        bytes
    }

    fn end() -> Vec<u8> {
        tag(0, &[])
    }

    #[test]
    fn a_map_a_command_line_and_a_root_pointer_are_copied() {
        let entries = [(0, 0x9_fc00, 1), (0x10_0000, 0x1000, 1), (0x10_1000, 0x700_0000, 1), (0xf000_0000, 0x1000, 20)];
        let found =
            info(&[tag(21, &[0; 4]), tag(1, b"a=b \"c d\"\0"), map(24, &entries), tag(14, &pointer(0, 20)), end()]);
        let found = read(&found).expect("it is sound");
        assert_eq!(found.command_line.text(), "a=b \"c d\"");
        let kinds: Vec<_> = found.memory.ranges().iter().map(|range| (range.start, range.bytes, range.kind)).collect();
        assert_eq!(kinds, [(0, 0x9_fc00, 1), (0x10_0000, 0x700_1000, 1), (0xf000_0000, 0x1000, 20)]);
        let mut copy = [0; ROOT_POINTER_BYTES];
        copy[..20].copy_from_slice(&pointer(0, 20));
        assert_eq!(found.root_pointer, RootPointer::Copy(copy));
    }

    #[test]
    fn the_newer_root_pointer_is_preferred_and_a_broken_one_passed_over() {
        let ram = map(24, &[(0x10_0000, 0x1000, 1)]);
        let (old, new) = (pointer(0, 20), pointer(2, 36));
        let read = |tags: &[Vec<u8>]| read(&info(tags)).expect("it is sound").root_pointer;
        let copied = |bytes: &[u8]| {
            let mut copy = [0; ROOT_POINTER_BYTES];
            copy[..bytes.len()].copy_from_slice(bytes);
            RootPointer::Copy(copy)
        };
        assert_eq!(read(&[ram.clone(), tag(14, &old), tag(15, &new), end()]), copied(&new));
        let mut broken = new.clone();
        broken[25] ^= 1;
        assert_eq!(read(&[ram.clone(), tag(14, &old), tag(15, &broken), end()]), copied(&old));
        assert_eq!(read(&[ram.clone(), tag(14, &[]), tag(15, &new[..35]), end()]), RootPointer::Untold);
        // All the rest of what is read of it is sound: the kernel would refuse its length.
        let longer = &pointer(2, 37)[..36];
        assert_eq!(read(&[ram.clone(), tag(14, &old), tag(15, longer), end()]), copied(&old));
        assert_eq!(read(&[ram, end()]), RootPointer::Untold);
    }

    #[test]
    fn longer_entries_of_a_later_version_are_read() {
        let found = read(&info(&[map(40, &[(0x10_0000, 0x1000, 1), (0x20_0000, 0x1000, 7)]), end()])).expect("sound");
        assert_eq!(found.memory.ranges()[1], FirmwareRange { start: 0x20_0000, bytes: 0x1000, kind: 7 });
    }

    #[test]
    fn a_map_of_more_ranges_than_there_is_room_for_is_refused() {
        let entries: Vec<_> = (0..=MAX_FIRMWARE_RANGES as u64).map(|number| (number << 20, 0x1000, 1)).collect();
        assert_eq!(read(&info(&[map(24, &entries)])).err(), Some(TagFault::TooManyRanges));
        assert!(read(&info(&[map(24, &entries[1..])])).is_ok());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0, 7, MAX_INFO_BYTES + 1, u32::MAX] {
            let [a, b, c, d] = length.to_le_bytes();
            assert_eq!(total_bytes([a, b, c, d, 0, 0, 0, 0]), Err(TagFault::Length(length)));
        }
        let ram = map(24, &[(0x10_0000, 0x1000, 1)]);
        for length in [0, 7, 17, 1000, u32::MAX] {
            let mut last = tag(1, b"a=b\0\0\0\0\0");
            last[4..8].copy_from_slice(&length.to_le_bytes());
            last.truncate(16);
            let at = 8 + ram.len();
            assert_eq!(read(&info(&[ram.clone(), last])).err(), Some(TagFault::Tag { kind: 1, at }), "length {length}");
        }
        for entry in [0, 23, u32::MAX] {
            let mut ram = ram.clone();
            ram[8..12].copy_from_slice(&entry.to_le_bytes());
            let found = read(&info(&[ram, end()]));
            // An entry longer than all of them: there is none.
            assert!(found.is_ok_and(|found| found.memory.ranges().is_empty()) == (entry == u32::MAX), "entry {entry}");
        }
        assert_eq!(read(&info(&[tag(6, &[0; 4]), end()])).err(), Some(TagFault::Tag { kind: 6, at: 8 }));
        assert_eq!(read(&info(&[end(), ram])).err(), Some(TagFault::NoMemoryMap), "nothing counts behind the end");
        assert_eq!(read(&[]).err(), Some(TagFault::NoMemoryMap));
    }
}
