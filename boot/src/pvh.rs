//! PVH: how `qemu -kernel` (and Xen, Cloud Hypervisor, Firecracker) starts the image.
//!
//! An ELF note names a 32-bit entry point; `ebx` holds the address of an `hvm_start_info` there (Xen,
//! docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h). All that it points to comes from outside:
//! addresses are checked before they are followed, counts before they are used.

use core::fmt;

use crate::bytes;
use crate::loader::{FirmwareRange, TooManyRanges};

/// `hvm_start_info` of version 1, in bytes.
pub const START_INFO_BYTES: usize = 56;

/// `hvm_memmap_table_entry`, in bytes.
pub const MEMORY_ENTRY_BYTES: usize = 24;

/// The most entries of a memory map that are read: adjacent ones become one range.
pub const MAX_MEMORY_ENTRIES: usize = 4096;

/// "xEn3", with the highest bit of the "E" set.
const MAGIC: u32 = 0x336e_c578;

/// The fields of `hvm_start_info` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// The ACPI root pointer's address, unless it is 0.
    pub rsdp: Option<u64>,
    /// The command line's address, unless it is 0: bytes up to a zero.
    pub command_line: Option<u64>,
    /// Where the memory map lies.
    pub memory_map: u64,
    /// How many entries it has: at most [`MAX_MEMORY_ENTRIES`].
    pub memory_entries: usize,
}

/// Why `hvm_start_info` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartInfoFault {
    /// It is not there: its magic is another number.
    Magic(u32),
    /// Version 0 has no memory map.
    Version(u32),
    /// The memory map has no entries, or too many.
    MemoryEntries(u32),
    /// Something lies where the first page tables do not reach, or in the image itself.
    Place(u64),
    /// The memory map has too many ranges.
    TooManyRanges,
}

impl From<TooManyRanges> for StartInfoFault {
    fn from(_: TooManyRanges) -> Self {
        Self::TooManyRanges
    }
}

impl fmt::Display for StartInfoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(found) => write!(f, "PVH start_info: magic is {found:#x}, not {MAGIC:#x}"),
            Self::Version(found) => write!(f, "PVH start_info: version {found} has no memory map"),
            Self::MemoryEntries(found) => {
                write!(f, "PVH start_info: {found} memory map entries, not 1 to {MAX_MEMORY_ENTRIES}")
            }
            Self::Place(at) => write!(f, "PVH start_info: {at:#x} is out of reach, or in the image"),
            Self::TooManyRanges => TooManyRanges.fmt(f),
        }
    }
}

/// Reads a field of a structure that is there as a whole.
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes::u32_at(bytes, at).expect("the structure has the field")
}

/// The same for 64 bits.
fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes::u64_at(bytes, at).expect("the structure has the field")
}

impl StartInfo {
    /// Reads an `hvm_start_info`.
    ///
    /// # Errors
    /// A [`StartInfoFault`].
    pub fn read(bytes: &[u8; START_INFO_BYTES]) -> Result<Self, StartInfoFault> {
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(StartInfoFault::Magic(magic));
        }
        let version = u32_at(bytes, 4);
        if version == 0 {
            return Err(StartInfoFault::Version(version));
        }
        let unless_0 = |at: u64| (at != 0).then_some(at);
        let (rsdp, command_line) = (unless_0(u64_at(bytes, 32)), unless_0(u64_at(bytes, 24)));
        let entries = u32_at(bytes, 48);
        match usize::try_from(entries) {
            Ok(memory_entries @ 1..=MAX_MEMORY_ENTRIES) => {
                Ok(Self { rsdp, command_line, memory_map: u64_at(bytes, 40), memory_entries })
            }
            _ => Err(StartInfoFault::MemoryEntries(entries)),
        }
    }

    /// Returns it as an `hvm_start_info`, as a loader (ours for UEFI) hands it over.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; START_INFO_BYTES] {
        let mut bytes = [0; START_INFO_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.command_line.unwrap_or(0).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.rsdp.unwrap_or(0).to_le_bytes());
        bytes[40..48].copy_from_slice(&self.memory_map.to_le_bytes());
        let entries = u32::try_from(self.memory_entries).unwrap_or(u32::MAX); // too many is refused by the reader
        bytes[48..52].copy_from_slice(&entries.to_le_bytes());
        bytes
    }
}

impl FirmwareRange {
    /// Reads an `hvm_memmap_table_entry`.
    #[must_use]
    pub fn read_pvh(bytes: &[u8; MEMORY_ENTRY_BYTES]) -> Self {
        Self { start: u64_at(bytes, 0), bytes: u64_at(bytes, 8), kind: u32_at(bytes, 16) }
    }

    /// Returns it as an `hvm_memmap_table_entry`.
    #[must_use]
    pub fn to_pvh(&self) -> [u8; MEMORY_ENTRY_BYTES] {
        let mut bytes = [0; MEMORY_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.kind.to_le_bytes());
        bytes
    }
}

#[cfg(all(feature = "image", not(test)))]
mod start {
    use core::arch::global_asm;

    use super::{FirmwareRange, MEMORY_ENTRY_BYTES, START_INFO_BYTES, StartInfo, StartInfoFault};
    use crate::loader::{COMMAND_LINE_BYTES, CommandLine, LoaderInfo, RootPointer};
    use crate::{handoff, physical};

    global_asm!(
        r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4                         // the name's length
    .long 8                         // the address's length
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

    .section .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    movl %ebx, %edi
    movl $pvh_start, %esi
    jmp enter_long_mode
    .code64
        "#,
        options(att_syntax)
    );

    fn bytes_at<const N: usize>(at: u64) -> Result<&'static [u8; N], StartInfoFault> {
        physical::bytes(at, N).and_then(<[u8]>::first_chunk).ok_or(StartInfoFault::Place(at))
    }

    /// The 32-bit entry's 64-bit function: reads the loader's `start_info` and starts the kernel.
    #[unsafe(no_mangle)]
    extern "C" fn pvh_start(start_info: u64) -> ! {
        match read(start_info) {
            // SAFETY: the entry code comes here once, on the boot CPU, with the first page tables active.
            Ok(info) => unsafe { handoff::enter_kernel(&info) },
            Err(fault) => panic!("{fault}"),
        }
    }

    fn read(start_info: u64) -> Result<LoaderInfo, StartInfoFault> {
        let info = StartInfo::read(bytes_at::<START_INFO_BYTES>(start_info)?)?;
        let mut found = LoaderInfo::new();
        found.root_pointer = info.rsdp.map_or(RootPointer::Untold, RootPointer::At);
        let mut at = info.memory_map;
        for _ in 0..info.memory_entries {
            found.memory.add(FirmwareRange::read_pvh(bytes_at::<MEMORY_ENTRY_BYTES>(at)?))?;
            at += MEMORY_ENTRY_BYTES as u64; // cannot overflow: it was within reach
        }
        if let Some(at) = info.command_line {
            // One byte more than there is room for, to notice a line that is cut; it ends where memory is out of reach.
            let bytes = (at..=at.saturating_add(COMMAND_LINE_BYTES as u64)).map_while(|at| physical::bytes(at, 1));
            found.command_line = CommandLine::new(bytes.flatten().copied());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_info(magic: u32, version: u32, rsdp: u64, entries: u32) -> [u8; START_INFO_BYTES] {
        let mut bytes = [0; START_INFO_BYTES];
        bytes[0..4].copy_from_slice(&magic.to_le_bytes());
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x2_0000_u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&rsdp.to_le_bytes());
        bytes[40..48].copy_from_slice(&0x7000_u64.to_le_bytes());
        bytes[48..52].copy_from_slice(&entries.to_le_bytes());
        bytes
    }

    fn expected(rsdp: Option<u64>, memory_entries: usize) -> StartInfo {
        StartInfo { rsdp, command_line: Some(0x2_0000), memory_map: 0x7000, memory_entries }
    }

    #[test]
    fn a_sound_start_info_gives_the_memory_map_and_the_root_pointer() {
        let read = StartInfo::read(&start_info(MAGIC, 1, 0xf_5ad0, 7));
        assert_eq!(read, Ok(expected(Some(0xf_5ad0), 7)));
    }

    #[test]
    fn a_start_info_without_a_root_pointer_is_still_sound() {
        let read = StartInfo::read(&start_info(MAGIC, 1, 0, 1));
        assert_eq!(read, Ok(expected(None, 1)));
    }

    #[test]
    fn a_broken_start_info_is_refused() {
        assert_eq!(StartInfo::read(&start_info(1, 1, 0, 1)), Err(StartInfoFault::Magic(1)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 0, 0, 1)), Err(StartInfoFault::Version(0)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 1, 0, 0)), Err(StartInfoFault::MemoryEntries(0)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 1, 0, 4097)), Err(StartInfoFault::MemoryEntries(4097)));
    }

    #[test]
    fn a_memory_entry_is_read_field_by_field() {
        let mut bytes = [0; MEMORY_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&0x1_0000_0000_u64.to_le_bytes());
        bytes[8..16].copy_from_slice(&0x8000_0000_u64.to_le_bytes());
        bytes[16..20].copy_from_slice(&2_u32.to_le_bytes());
        let range = FirmwareRange { start: 0x1_0000_0000, bytes: 0x8000_0000, kind: 2 };
        assert_eq!(FirmwareRange::read_pvh(&bytes), range);
        assert_eq!(range.to_pvh(), bytes);
    }

    #[test]
    fn our_own_loader_writes_what_is_read() {
        for info in [expected(Some(0xf_5ad0), 7), StartInfo { command_line: None, ..expected(None, 1) }] {
            assert_eq!(StartInfo::read(&info.to_bytes()), Ok(info));
        }
    }
}
