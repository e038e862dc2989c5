//! PVH: how `qemu -kernel` (and Xen, Cloud Hypervisor, Firecracker) starts the image.
//!
//! An ELF note names a 32-bit entry point; `ebx` holds the address of an `hvm_start_info` there (Xen,
//! docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h). All that it points to comes from outside:
//! addresses are checked before they are followed, counts before they are used.

use core::fmt;

use crate::handoff::{FirmwareRange, MAX_FIRMWARE_RANGES};

/// `hvm_start_info` of version 1, in bytes.
pub const START_INFO_BYTES: usize = 56;

/// `hvm_memmap_table_entry`, in bytes.
pub const MEMORY_ENTRY_BYTES: usize = 24;

/// "xEn3", with the highest bit of the "E" set.
const MAGIC: u32 = 0x336e_c578;

/// The fields of `hvm_start_info` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// The ACPI root pointer's address, unless it is 0.
    pub rsdp: Option<u64>,
    /// Where the memory map lies.
    pub memory_map: u64,
    /// How many entries it has: at most [`MAX_FIRMWARE_RANGES`].
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
}

impl fmt::Display for StartInfoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(found) => write!(f, "PVH start_info: magic is {found:#x}, not {MAGIC:#x}"),
            Self::Version(found) => write!(f, "PVH start_info: version {found} has no memory map"),
            Self::MemoryEntries(found) => {
                write!(f, "PVH start_info: {found} memory map entries, not 1 to {MAX_FIRMWARE_RANGES}")
            }
            Self::Place(at) => write!(f, "PVH start_info: {at:#x} is out of reach, or in the image"),
        }
    }
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
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
        let rsdp = u64_at(bytes, 32);
        let entries = u32_at(bytes, 48);
        match usize::try_from(entries) {
            Ok(memory_entries @ 1..=MAX_FIRMWARE_RANGES) => {
                Ok(Self { rsdp: (rsdp != 0).then_some(rsdp), memory_map: u64_at(bytes, 40), memory_entries })
            }
            _ => Err(StartInfoFault::MemoryEntries(entries)),
        }
    }
}

impl FirmwareRange {
    /// Reads an `hvm_memmap_table_entry`.
    #[must_use]
    pub fn read_pvh(bytes: &[u8; MEMORY_ENTRY_BYTES]) -> Self {
        Self { start: u64_at(bytes, 0), bytes: u64_at(bytes, 8), kind: u32_at(bytes, 16) }
    }
}

#[cfg(not(test))]
mod start {
    use core::arch::global_asm;

    use super::{FirmwareRange, MAX_FIRMWARE_RANGES, MEMORY_ENTRY_BYTES, START_INFO_BYTES, StartInfo, StartInfoFault};
    use crate::{FIRST_TABLES_REACH, handoff, image};

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

    /// Copies `N` bytes of physical memory out.
    fn copy<const N: usize>(at: u64) -> Result<[u8; N], StartInfoFault> {
        let end = at.checked_add(N as u64).filter(|end| *end <= FIRST_TABLES_REACH);
        let image = image::whole();
        let Some(end) = end.filter(|end| at != 0 && (*end <= image.start || image.end <= at)) else {
            return Err(StartInfoFault::Place(at));
        };
        let mut bytes = [0; N];
        for (place, byte) in (at..end).zip(bytes.iter_mut()) {
            // SAFETY:
            // 1. The first page tables map everything below FIRST_TABLES_REACH at its own address.
            // 2. The range lies outside the image, hence outside every Rust object; reading bytes has no effect.
            *byte = unsafe { (place as *const u8).read_volatile() };
        }
        Ok(bytes)
    }

    /// The 32-bit entry's 64-bit function: reads the loader's `start_info` and starts the kernel.
    #[unsafe(no_mangle)]
    extern "C" fn pvh_start(start_info: u64) -> ! {
        let mut ranges = [FirmwareRange { start: 0, bytes: 0, kind: 0 }; MAX_FIRMWARE_RANGES];
        match read(start_info, &mut ranges) {
            // SAFETY: the entry code comes here once, on the boot CPU, with the first page tables active.
            Ok((info, ranges)) => unsafe { handoff::enter_kernel(ranges, info.rsdp) },
            Err(fault) => panic!("{fault}"),
        }
    }

    fn read(
        start_info: u64,
        ranges: &mut [FirmwareRange; MAX_FIRMWARE_RANGES],
    ) -> Result<(StartInfo, &[FirmwareRange]), StartInfoFault> {
        let info = StartInfo::read(&copy::<START_INFO_BYTES>(start_info)?)?;
        let mut at = info.memory_map;
        for range in &mut ranges[..info.memory_entries] {
            *range = FirmwareRange::read_pvh(&copy::<MEMORY_ENTRY_BYTES>(at)?);
            at += MEMORY_ENTRY_BYTES as u64; // cannot overflow: `copy` found it below 4 GiB
        }
        Ok((info, &ranges[..info.memory_entries]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_info(magic: u32, version: u32, rsdp: u64, entries: u32) -> [u8; START_INFO_BYTES] {
        let mut bytes = [0; START_INFO_BYTES];
        bytes[0..4].copy_from_slice(&magic.to_le_bytes());
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes[32..40].copy_from_slice(&rsdp.to_le_bytes());
        bytes[40..48].copy_from_slice(&0x7000_u64.to_le_bytes());
        bytes[48..52].copy_from_slice(&entries.to_le_bytes());
        bytes
    }

    #[test]
    fn a_sound_start_info_gives_the_memory_map_and_the_root_pointer() {
        let read = StartInfo::read(&start_info(MAGIC, 1, 0xf_5ad0, 7));
        assert_eq!(read, Ok(StartInfo { rsdp: Some(0xf_5ad0), memory_map: 0x7000, memory_entries: 7 }));
    }

    #[test]
    fn a_start_info_without_a_root_pointer_is_still_sound() {
        let read = StartInfo::read(&start_info(MAGIC, 1, 0, 1));
        assert_eq!(read, Ok(StartInfo { rsdp: None, memory_map: 0x7000, memory_entries: 1 }));
    }

    #[test]
    fn a_broken_start_info_is_refused() {
        assert_eq!(StartInfo::read(&start_info(1, 1, 0, 1)), Err(StartInfoFault::Magic(1)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 0, 0, 1)), Err(StartInfoFault::Version(0)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 1, 0, 0)), Err(StartInfoFault::MemoryEntries(0)));
        assert_eq!(StartInfo::read(&start_info(MAGIC, 1, 0, 257)), Err(StartInfoFault::MemoryEntries(257)));
    }

    #[test]
    fn a_memory_entry_is_read_field_by_field() {
        let mut bytes = [0; MEMORY_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&0x1_0000_0000_u64.to_le_bytes());
        bytes[8..16].copy_from_slice(&0x8000_0000_u64.to_le_bytes());
        bytes[16..20].copy_from_slice(&2_u32.to_le_bytes());
        let range = FirmwareRange { start: 0x1_0000_0000, bytes: 0x8000_0000, kind: 2 };
        assert_eq!(FirmwareRange::read_pvh(&bytes), range);
    }
}
