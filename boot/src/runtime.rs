//! The symbols that a program without a C library must define.
//!
//! - `memcpy`, `memmove`, `memset`, `memcmp`, `bcmp`, `strlen`: the compiler calls them for copies and comparisons, on
//!   every target. Elsewhere the C library has them. The bodies are string instructions and loops over volatile accesses, for
//!   a loop that the compiler recognises as a copy would become a call to itself.
//! - `rust_eh_personality`, `_Unwind_Resume`: the `alloc` that comes precompiled for this target was built to unwind, so
//!   its objects name them. This image is built with panic = "abort" and the panic handler never returns, so nothing
//!   ever raises an exception that could reach either.

use core::arch::asm;

use crate::compare::compare;

/// Copies `count` bytes forwards.
///
/// # Safety
/// As C's `memcpy`: both ranges are valid, and they do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the direction flag is clear, as the ABI asks.
    unsafe {
        asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) count % 8,
             inout("rcx") count / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

/// Copies `count` bytes between ranges that may overlap.
///
/// # Safety
/// As C's `memmove`: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= count {
        // `to` lies before `from` or behind its end: forwards is right.
        // SAFETY: the caller vouches for both ranges; a forward copy never overwrites what it has yet to read.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller vouches for both ranges. Backwards, from the last byte on: nothing is overwritten before it is
    // read. `count` is not 0 here. The direction flag is clear again afterwards.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _, inout("rdi") to.add(count - 1) => _,
             inout("rsi") from.add(count - 1) => _, options(nostack));
    }
    to
}

/// Fills `count` bytes.
///
/// # Safety
/// As C's `memset`: the range is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // C passes the byte as an int, whose other bits do not matter.
    let eight = u64::from(byte.to_le_bytes()[0]) * 0x0101_0101_0101_0101;
    // SAFETY: the caller vouches for the range; the direction flag is clear.
    unsafe {
        asm!("rep stosq", "mov ecx, {tail:e}", "rep stosb", tail = in(reg) count % 8,
             inout("rcx") count / 8 => _, inout("rdi") to => _, in("rax") eight,
             options(nostack, preserves_flags));
    }
    to
}

/// Compares `count` bytes.
///
/// # Safety
/// As C's `memcmp`: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { compare(a, b, count) }
}

/// Compares `count` bytes for equality.
///
/// # Safety
/// As C's `bcmp`: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { memcmp(a, b, count) }
}

/// Counts the bytes before the first zero byte.
///
/// # Safety
/// As C's `strlen`: a zero byte follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut count = 0;
    // SAFETY: the caller vouches that a zero byte follows; no byte behind it is read.
    while unsafe { text.add(count).read_volatile() } != 0 {
        count += 1;
    }
    count
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    panic!("an exception was raised in a program that does not unwind")
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("an exception was resumed in a program that does not unwind")
}
