//! From the caches to the persistence domain: write-back, fences and streaming copies.
//!
//! [`Persist`] is chosen once, its write-backs by CPUID and its copies by measuring ([`crate::copies`]), and copied into
//! every driver that stores to persistent memory; whether a write-back is needed is chosen for each region.
//!
//! # What it promises
//! - [`Persist::write_back`] starts a write-back, [`fence`] ends it: then the lines are in the memory controller.
//! - What [`Persist::stream`] stores is durable after the next fence on the same CPU, without a write-back.
//! - All copies are assembly over raw addresses: the compiler sees neither a reference into the medium nor an access
//!   that it could tear, repeat or drop. Other CPUs may store to a range while it is copied: the bytes are then any mix.
//!
//! # Caches that are flushed on power loss
//! Where the platform writes its caches back by itself when power fails (NFIT platform capabilities, bit 0; ACPI 6.5,
//! 5.2.25.9), write-back instructions are skipped ([`Persist::without_write_backs`]). The NFIT tells it of its own ranges
//! only: other memory gets its write-backs all the same.
//!
//! Where they are skipped, a store is durable as soon as it is globally visible, and x86 makes ordinary stores visible in
//! program order. Fences stay: streaming stores wait in write-combining buffers, which are not caches, until a fence drains
//! them; and an acknowledgement must not overtake its store, which may still be in the store buffer.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use crate::guarded::{self, Interrupted};

/// The unit of write-back: a cache line.
const LINE: usize = 64;

/// The instruction that writes a line back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteBack {
    /// CLWB: writes back, keeps the line. Weakly ordered: needs the fence.
    Clwb,
    /// CLFLUSHOPT: writes back and evicts. Weakly ordered: needs the fence.
    ClflushOpt,
    /// CLFLUSH: writes back and evicts, one after another.
    Clflush,
    /// None: the platform flushes its caches on power loss.
    Skip,
}

/// The loads and stores of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// 32 bytes: VMOVDQU, VMOVNTDQ.
    Avx,
    /// 16 bytes, on every x86-64 CPU: MOVDQU, MOVNTDQ.
    Sse2,
    /// 8 bytes: MOV, MOVNTI. Where instructions are emulated, wider ones are made of these and cost more.
    Word,
}

/// How this machine makes stores durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persist {
    write_back: WriteBack,
    unit: Unit,
}

impl Persist {
    /// Chooses by the CPU that runs this, and the widest copies that it has.
    ///
    /// All CPUs must be alike, and the kernel must have enabled on each what it enabled here (CR4.OSXSAVE and XCR0)
    /// before that CPU uses the result: one without AVX state raises #UD.
    #[must_use]
    pub fn detect() -> Self {
        let max_leaf = __cpuid(0).eax;
        // Leaf 7 of subleaf 0, EBX: bit 23 CLFLUSHOPT, bit 24 CLWB (Intel SDM 2A, CPUID).
        let extended = if max_leaf >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let write_back = match extended {
            bits if bits & (1 << 24) != 0 => WriteBack::Clwb,
            bits if bits & (1 << 23) != 0 => WriteBack::ClflushOpt,
            _ => WriteBack::Clflush,
        };
        Self { write_back, unit: if avx_usable() { Unit::Avx } else { Unit::Sse2 } }
    }

    /// Returns this for memory to which the platform writes its caches back by itself when power fails. Other memory that
    /// is used with it loses what was acknowledged.
    #[must_use]
    pub const fn without_write_backs(self) -> Self {
        Self { write_back: WriteBack::Skip, ..self }
    }

    /// Returns this with each kind of copy that is no wider, the widest first.
    pub fn with_each_copy(self) -> impl Iterator<Item = Self> {
        let units = [Unit::Avx, Unit::Sse2, Unit::Word].into_iter().skip_while(move |unit| *unit != self.unit);
        units.map(move |unit| Self { unit, ..self })
    }

    /// Returns the kind of copy in a word: `avx`, `sse2` or `word`.
    #[must_use]
    pub const fn copy_name(self) -> &'static str {
        match self.unit {
            Unit::Avx => "avx",
            Unit::Sse2 => "sse2",
            Unit::Word => "word",
        }
    }

    /// Starts to write back every line that holds one of the `bytes` bytes from `at` on.
    ///
    /// # Safety
    /// The range is mapped. (A write-back changes nothing that a program can read.)
    #[inline]
    pub unsafe fn write_back(self, at: *const u8, bytes: usize) {
        if bytes == 0 || self.write_back == WriteBack::Skip {
            return;
        }
        let past = at as usize + bytes;
        let mut line = at as usize & !(LINE - 1);
        while line < past {
            // SAFETY: the line holds a byte of a mapped range, and pages are made of whole lines.
            unsafe {
                match self.write_back {
                    WriteBack::Clwb => asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)),
                    WriteBack::ClflushOpt => asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)),
                    WriteBack::Clflush => asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags)),
                    WriteBack::Skip => return,
                }
            }
            line += LINE;
        }
    }

    /// Copies `bytes` bytes to persistent memory: whole lines past the caches, the pieces of lines at both ends through
    /// them, with their write-back started.
    ///
    /// # Safety
    /// 1. `from` is readable and `to` writable for `bytes` bytes; they do not overlap.
    /// 2. No Rust reference to the bytes at `to` exists.
    #[inline]
    pub unsafe fn stream(self, to: *mut u8, from: *const u8, bytes: usize) {
        let head = (to as usize).wrapping_neg() % LINE;
        // SAFETY: head, body and tail are disjoint parts of the range that the caller vouches for.
        unsafe {
            if head == 0 && bytes.is_multiple_of(LINE) {
                // The common case: a sector of 512 or 4096 bytes in its aligned block.
                return self.stream_lines(to, from, bytes);
            }
            let head = head.min(bytes);
            let body = (bytes - head) / LINE * LINE;
            let tail = bytes - head - body;
            self.store_through_cache(to, from, head);
            self.stream_lines(to.add(head), from.add(head), body);
            self.store_through_cache(to.add(head + body), from.add(head + body), tail);
        }
    }

    /// The pieces of lines at both ends of a stream.
    ///
    /// # Safety
    /// As [`Persist::stream`].
    unsafe fn store_through_cache(self, to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: the caller's ranges, as they are.
        unsafe {
            copy_pieces(to, from, bytes);
            self.write_back(to, bytes);
        }
    }

    /// Whole lines, past the caches.
    ///
    /// # Safety
    /// As [`Persist::stream`]; `to` is line-aligned and `bytes` a multiple of the line.
    #[inline]
    unsafe fn stream_lines(self, to: *mut u8, from: *const u8, bytes: usize) {
        if bytes == 0 {
            return;
        }
        // SAFETY: the loops store exactly `bytes` bytes at `to` and load as many at `from`: both ranges are the caller's.
        // VMOVNTDQ and MOVNTDQ need the alignment that the caller promised; AVX was found usable before it was chosen.
        unsafe {
            match self.unit {
                Unit::Avx => asm!(
                    "2:",
                    "vmovdqu ymm0, [{from} + {i}]",
                    "vmovdqu ymm1, [{from} + {i} + 32]",
                    "vmovntdq [{to} + {i}], ymm0",
                    "vmovntdq [{to} + {i} + 32], ymm1",
                    "add {i}, 64",
                    "jnz 2b",
                    "vzeroupper",
                    i = inout(reg) bytes.wrapping_neg() => _,
                    from = in(reg) from.add(bytes), to = in(reg) to.add(bytes),
                    // VZEROUPPER changes them all.
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(nostack)
                ),
                Unit::Sse2 => asm!(
                    "2:",
                    "movdqu {a}, [{from} + {i}]",
                    "movdqu {b}, [{from} + {i} + 16]",
                    "movdqu {c}, [{from} + {i} + 32]",
                    "movdqu {d}, [{from} + {i} + 48]",
                    "movntdq [{to} + {i}], {a}",
                    "movntdq [{to} + {i} + 16], {b}",
                    "movntdq [{to} + {i} + 32], {c}",
                    "movntdq [{to} + {i} + 48], {d}",
                    "add {i}, 64",
                    "jnz 2b",
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    i = inout(reg) bytes.wrapping_neg() => _,
                    from = in(reg) from.add(bytes), to = in(reg) to.add(bytes),
                    options(nostack)
                ),
                Unit::Word => asm!(
                    "2:",
                    "mov {a}, [{from} + {i}]",
                    "mov {b}, [{from} + {i} + 8]",
                    "mov {c}, [{from} + {i} + 16]",
                    "mov {d}, [{from} + {i} + 24]",
                    "movnti [{to} + {i}], {a}",
                    "movnti [{to} + {i} + 8], {b}",
                    "movnti [{to} + {i} + 16], {c}",
                    "movnti [{to} + {i} + 24], {d}",
                    "mov {a}, [{from} + {i} + 32]",
                    "mov {b}, [{from} + {i} + 40]",
                    "mov {c}, [{from} + {i} + 48]",
                    "mov {d}, [{from} + {i} + 56]",
                    "movnti [{to} + {i} + 32], {a}",
                    "movnti [{to} + {i} + 40], {b}",
                    "movnti [{to} + {i} + 48], {c}",
                    "movnti [{to} + {i} + 56], {d}",
                    "add {i}, 64",
                    "jnz 2b",
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                    i = inout(reg) bytes.wrapping_neg() => _,
                    from = in(reg) from.add(bytes), to = in(reg) to.add(bytes),
                    options(nostack)
                ),
            }
        }
    }

    /// Copies `bytes` bytes out of persistent memory.
    ///
    /// # Errors
    /// [`Interrupted`] if a machine check ended it: the hardware had no bytes to give.
    ///
    /// # Safety
    /// `from` is readable and `to` writable for `bytes` bytes; they do not overlap.
    #[inline(always)]
    pub unsafe fn load(self, to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
        let body = bytes / LINE * LINE;
        // SAFETY: whole lines and the rest are disjoint parts of the ranges that the caller vouches for; AVX was found
        // usable before it was chosen.
        unsafe {
            match self.unit {
                _ if body == 0 => {}
                Unit::Avx => guarded::copy_lines_avx(to, from, body)?,
                Unit::Sse2 => guarded::copy_lines_sse2(to, from, body)?,
                Unit::Word => guarded::copy_lines_words(to, from, body)?,
            }
            if body != bytes {
                guarded::copy_bytes(to.add(body), from.add(body), bytes - body)?;
            }
        }
        Ok(())
    }
}

/// Starts to fetch a line that will be stored to. (PREFETCHW: x86-64 CPUs without it take it for a NOP; AMD APM 3, Intel SDM
/// 2B.)
///
/// # Safety
/// The line is mapped.
#[inline]
pub(crate) unsafe fn prefetch_to_store(at: *const u8) {
    // SAFETY: a hint, which loads nothing into registers and cannot fault.
    unsafe { asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) }
}

/// Waits until all that this CPU streamed or started to write back has reached the memory controller.
#[inline]
pub fn fence() {
    // SAFETY: SFENCE only orders. It is a barrier to the compiler too, as it does not say `nomem`.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) }
}

/// Copies less than a line: single bytes until `to` is 8-aligned, then 8 bytes at a time, then single bytes.
///
/// # Safety
/// `from` is readable and `to` writable for `bytes` bytes; they do not overlap.
pub(crate) unsafe fn copy_pieces(to: *mut u8, from: *const u8, bytes: usize) {
    let lead = ((to as usize).wrapping_neg() % 8).min(bytes);
    let words_end = lead + (bytes - lead) / 8 * 8;
    let mut at = 0;
    while at < bytes {
        // SAFETY: `at` and the piece stay below `bytes`: a word is moved only while 8 bytes are left before `words_end`.
        unsafe {
            let (to, from) = (to.add(at), from.add(at));
            if at >= lead && at < words_end {
                asm!("mov {t}, [{from}]", "mov [{to}], {t}", t = out(reg) _, from = in(reg) from, to = in(reg) to,
                    options(nostack, preserves_flags));
                at += 8;
            } else {
                asm!("mov {t}, [{from}]", "mov [{to}], {t}", t = out(reg_byte) _, from = in(reg) from, to = in(reg) to,
                    options(nostack, preserves_flags));
                at += 1;
            }
        }
    }
}

/// Returns whether this CPU has AVX and the kernel has enabled its state: CPUID.1:ECX bits 27 (OSXSAVE) and 28 (AVX),
/// then XCR0 bits 1 and 2 (Intel SDM 1, 14.3).
fn avx_usable() -> bool {
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    if __cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
        return false;
    }
    let xcr0: u32;
    // SAFETY: OSXSAVE is set, so XGETBV is enabled; it changes EAX and EDX only.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") xcr0, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    xcr0 & 0b110 == 0b110
}

/// The instructions in use: `clwb, avx`.
impl fmt::Display for Persist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write_back = match self.write_back {
            WriteBack::Clwb => "clwb",
            WriteBack::ClflushOpt => "clflushopt",
            WriteBack::Clflush => "clflush",
            WriteBack::Skip => "no write-back (caches are flushed on power loss)",
        };
        write!(f, "{write_back}, {} copies", self.copy_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Returns every variant that this CPU can run.
    fn all_variants() -> impl Iterator<Item = Persist> {
        let best = Persist::detect();
        let write_backs = match best.write_back {
            WriteBack::Clwb => &[WriteBack::Clwb, WriteBack::ClflushOpt, WriteBack::Clflush, WriteBack::Skip][..],
            WriteBack::ClflushOpt => &[WriteBack::ClflushOpt, WriteBack::Clflush, WriteBack::Skip],
            _ => &[WriteBack::Clflush, WriteBack::Skip],
        };
        write_backs.iter().flat_map(move |&write_back| Persist { write_back, ..best }.with_each_copy())
    }

    #[test]
    fn caches_that_survive_need_no_write_back() {
        assert_ne!(Persist::detect().write_back, WriteBack::Skip);
        assert_eq!(Persist::detect().without_write_backs().write_back, WriteBack::Skip);
    }

    #[test]
    fn copies_move_exactly_their_bytes_at_every_alignment() {
        let from: Vec<u8> = (0..5000).map(|i| (i % 251) as u8 + 1).collect();
        let sizes = (0..200).chain([512, 513, 520, 528, 4096, 4104, 4160, 4224]);
        for (persist, bytes) in all_variants().flat_map(|persist| sizes.clone().map(move |bytes| (persist, bytes))) {
            for (to_at, from_at) in [(0, 0), (0, 3), (1, 0), (7, 5), (8, 8), (56, 1), (63, 63)] {
                for streamed in [true, false] {
                    let mut buffer = vec![0u8; 4608];
                    let base = buffer.as_ptr().align_offset(64);
                    let (start, past) = (base + to_at, base + to_at + bytes);
                    let to = buffer[start..].as_mut_ptr();
                    // SAFETY: the buffer holds 63 bytes before the longest copy, and more than 63 + 4224 behind `base`.
                    unsafe {
                        match streamed {
                            true => persist.stream(to, from[from_at..].as_ptr(), bytes),
                            false => persist.load(to, from[from_at..].as_ptr(), bytes).expect("no exception"),
                        }
                    }
                    fence();
                    assert_eq!(buffer[start..past], from[from_at..from_at + bytes], "{persist} {bytes} at {to_at}");
                    assert!(buffer[..start].iter().chain(&buffer[past..]).all(|&b| b == 0), "{bytes} at {to_at}");
                }
            }
        }
    }
}
