//! Loads that may end in a machine check: a CPU that receives poison instead of bytes raises #MC on the load itself.
//!
//! All loads from persistent memory that is mapped are made here (invariant 15), by pieces of assembly that keep nothing
//! on the stack. Wherever the compiler puts one, an entry of a table has its instructions, and where execution goes on
//! instead. So a handler of the exception can end any of them: it goes on at [`resume_at`], and the load returns
//! [`Interrupted`]. On a host a test's signal handler does the same with a SIGBUS.
//!
//! The apertures of block data windows are registers, and are not loaded from here: their status tells of lost bytes. A
//! machine check on such a load ends the machine.

use core::arch::asm;

/// An exception ended a load. The bytes that it has stored before mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// An entry of the table: offsets from its own place.
#[repr(C)]
struct Entry {
    /// Of the first instruction.
    start: i32,
    /// Of the first one after the last.
    end: i32,
    /// Of the one that execution goes on at.
    resume: i32,
}

/// The end of a piece that loads between its labels 2 and 3: its entry, and the code that sets its operand `interrupted`.
/// The linker gathers the section `untorn_guarded`, keeps all of it (flag R), and gives its borders.
macro_rules! guard {
    () => {
        concat!(
            ".pushsection .text.untorn_resume, \"ax\"\n",
            "4: mov {interrupted:e}, 1\n",
            "jmp 3b\n",
            ".popsection\n",
            ".pushsection untorn_guarded, \"aR\"\n",
            ".balign 4\n",
            "5: .long 2b - 5b, 3b - 5b, 4b - 5b\n",
            ".popsection",
        )
    };
}

/// Returns where execution goes on after an exception at `rip`, if `rip` is one of the loads here: the stack and all
/// registers stay as they are. It takes no lock, and looks at each entry.
#[must_use]
pub fn resume_at(rip: u64) -> Option<u64> {
    let (start, end): (*const Entry, *const Entry);
    // SAFETY: two addresses, which the linker gives. The entry that leads nowhere makes it give them in any program.
    unsafe {
        asm!(
            "lea {start}, [rip + __start_untorn_guarded]",
            "lea {end}, [rip + __stop_untorn_guarded]",
            ".pushsection untorn_guarded, \"aR\"",
            ".balign 4",
            ".long 0, 0, 0",
            ".popsection",
            start = out(reg) start,
            end = out(reg) end,
            options(nomem, nostack, preserves_flags)
        );
    }
    let mut at = start;
    while at < end {
        // SAFETY: entries lie one after the other between the two addresses, and are never written.
        let entry = unsafe { &*at };
        let place = |offset: i32| (at as u64).wrapping_add_signed(i64::from(offset));
        if (place(entry.start)..place(entry.end)).contains(&rip) {
            return Some(place(entry.resume));
        }
        at = at.wrapping_add(1);
    }
    None
}

#[inline(always)]
const fn unless(interrupted: u32) -> Result<(), Interrupted> {
    if interrupted == 0 { Ok(()) } else { Err(Interrupted) }
}

/// A copy of whole lines: the instructions for the line at index `i`, what follows the last one, and the operands of both.
macro_rules! copy_lines {
    ($(#[$about:meta])* $name:ident, [$($line:literal,)+], $last:literal, $($operand:tt)+) => {
        $(#[$about])*
        ///
        /// # Errors
        /// [`Interrupted`].
        ///
        /// # Safety
        /// As [`copy_bytes`]; `bytes` is a multiple of 64 and not 0, and the CPU has the instructions.
        #[inline]
        pub(crate) unsafe fn $name(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
            let interrupted: u32;
            // SAFETY: the loop loads exactly `bytes` bytes at `from` and stores as many at `to`: both ranges are the
            // caller's.
            unsafe {
                asm!(
                    "2:",
                    $($line,)+
                    "add {i}, 64",
                    "jnz 2b",
                    "3:",
                    $last,
                    guard!(),
                    i = inout(reg) bytes.wrapping_neg() => _,
                    from = in(reg) from.wrapping_add(bytes),
                    to = in(reg) to.wrapping_add(bytes),
                    interrupted = inout(reg) 0_u32 => interrupted,
                    $($operand)+,
                    options(nostack)
                );
            }
            unless(interrupted)
        }
    };
}

copy_lines!(
    /// Copies whole lines, 32 bytes at a time.
    copy_lines_avx,
    [
        "vmovdqu ymm0, [{from} + {i}]",
        "vmovdqu ymm1, [{from} + {i} + 32]",
        "vmovdqu [{to} + {i}], ymm0",
        "vmovdqu [{to} + {i} + 32], ymm1",
    ],
    // It changes all of these.
    "vzeroupper",
    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
    out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
    out("xmm14") _, out("xmm15") _
);

copy_lines!(
    /// Copies whole lines, 16 bytes at a time.
    copy_lines_sse2,
    [
        "movdqu {a}, [{from} + {i}]",
        "movdqu {b}, [{from} + {i} + 16]",
        "movdqu {c}, [{from} + {i} + 32]",
        "movdqu {d}, [{from} + {i} + 48]",
        "movdqu [{to} + {i}], {a}",
        "movdqu [{to} + {i} + 16], {b}",
        "movdqu [{to} + {i} + 32], {c}",
        "movdqu [{to} + {i} + 48], {d}",
    ],
    "",
    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _
);

copy_lines!(
    /// Copies whole lines, 8 bytes at a time.
    copy_lines_words,
    [
        "mov {a}, [{from} + {i}]",
        "mov {b}, [{from} + {i} + 8]",
        "mov {c}, [{from} + {i} + 16]",
        "mov {d}, [{from} + {i} + 24]",
        "mov [{to} + {i}], {a}",
        "mov [{to} + {i} + 8], {b}",
        "mov [{to} + {i} + 16], {c}",
        "mov [{to} + {i} + 24], {d}",
        "mov {a}, [{from} + {i} + 32]",
        "mov {b}, [{from} + {i} + 40]",
        "mov {c}, [{from} + {i} + 48]",
        "mov {d}, [{from} + {i} + 56]",
        "mov [{to} + {i} + 32], {a}",
        "mov [{to} + {i} + 40], {b}",
        "mov [{to} + {i} + 48], {c}",
        "mov [{to} + {i} + 56], {d}",
    ],
    "",
    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _
);

/// Copies any number of bytes: eight at a time, then single ones.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// `from` is readable, or the handler of the exception goes on at [`resume_at`]; `to` is writable, and no Rust
/// reference to it exists but the caller's; the two do not overlap.
pub(crate) unsafe fn copy_bytes(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
    let interrupted: u32;
    // SAFETY: it loads exactly `bytes` bytes at `from` and stores as many at `to`: both ranges are the caller's.
    unsafe {
        asm!(
            "2: cmp {left}, 8",
            "jb 6f",
            "mov {word}, [{from}]",
            "mov [{to}], {word}",
            "add {from}, 8",
            "add {to}, 8",
            "sub {left}, 8",
            "jmp 2b",
            "6: test {left}, {left}",
            "jz 3f",
            "mov {word:l}, [{from}]",
            "mov [{to}], {word:l}",
            "inc {from}",
            "inc {to}",
            "dec {left}",
            "jmp 6b",
            "3:",
            guard!(),
            word = out(reg) _,
            left = inout(reg) bytes => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            interrupted = inout(reg) 0_u32 => interrupted,
            options(nostack)
        );
    }
    unless(interrupted)
}

/// A load of one aligned integer, by an instruction that takes it from `from` to `word`.
macro_rules! load {
    ($(#[$about:meta])* $name:ident, $integer:ty, $instruction:literal) => {
        $(#[$about])*
        ///
        /// # Errors
        /// [`Interrupted`].
        ///
        /// # Safety
        /// `from` is aligned, and readable as in [`copy_bytes`].
        #[inline(always)]
        pub(crate) unsafe fn $name(from: *const $integer) -> Result<$integer, Interrupted> {
            let (word, interrupted): ($integer, u32);
            // SAFETY: one load of what the caller vouches for.
            unsafe {
                asm!(
                    "2:",
                    $instruction,
                    "3:",
                    guard!(),
                    word = out(reg) word,
                    from = in(reg) from,
                    interrupted = inout(reg) 0_u32 => interrupted,
                    options(nostack, preserves_flags)
                );
            }
            unless(interrupted).map(|()| word)
        }
    };
}

load!(
    /// Loads a word, atomically, with acquire order (on x86 every load has it).
    load_u32,
    u32,
    "mov {word:e}, [{from}]"
);

load!(
    /// Loads a double word, atomically, with acquire order.
    load_u64,
    u64,
    "mov {word}, [{from}]"
);
