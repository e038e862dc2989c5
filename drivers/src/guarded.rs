//! Loads that may end in a machine check: a CPU that receives poison instead of bytes raises #MC on the load itself.
//!
//! All loads from persistent memory that is mapped are made here (invariant 15), in one piece of assembly that keeps
//! nothing on the stack. So a handler of the exception can end any of them: it goes on at [`resume_at`] instead of at the
//! load, and the load returns [`Interrupted`]. On a host a test's signal handler does the same with a SIGBUS.
//!
//! The apertures of block data windows are registers, and are not loaded from here: their status tells of lost bytes. A
//! machine check on such a load ends the machine.

use core::arch::global_asm;

/// An exception ended a load. The bytes that it has stored before mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The result of the routines, in RAX and RDX.
#[repr(C)]
struct Outcome {
    value: u64,
    interrupted: u64,
}

global_asm!(
    r#"
    .pushsection .text.untorn_guarded, "ax", @progbits
    .balign 16
    // Copies whole lines (RDX bytes, not 0) from RSI to RDI. Uses only caller-saved registers, and no stack.
    .global untorn_guarded_lines_avx
untorn_guarded_lines_avx:
    add rdi, rdx
    add rsi, rdx
    neg rdx
2:  vmovdqu ymm0, [rsi + rdx]
    vmovdqu ymm1, [rsi + rdx + 32]
    vmovdqu [rdi + rdx], ymm0
    vmovdqu [rdi + rdx + 32], ymm1
    add rdx, 64
    jnz 2b
    vzeroupper
    ret                             // RDX is 0

    .balign 16
    .global untorn_guarded_lines_sse2
untorn_guarded_lines_sse2:
    add rdi, rdx
    add rsi, rdx
    neg rdx
2:  movdqu xmm0, [rsi + rdx]
    movdqu xmm1, [rsi + rdx + 16]
    movdqu xmm2, [rsi + rdx + 32]
    movdqu xmm3, [rsi + rdx + 48]
    movdqu [rdi + rdx], xmm0
    movdqu [rdi + rdx + 16], xmm1
    movdqu [rdi + rdx + 32], xmm2
    movdqu [rdi + rdx + 48], xmm3
    add rdx, 64
    jnz 2b
    ret

    .balign 16
    .global untorn_guarded_lines_words
untorn_guarded_lines_words:
    add rdi, rdx
    add rsi, rdx
    neg rdx
2:  mov rax, [rsi + rdx]
    mov rcx, [rsi + rdx + 8]
    mov r8, [rsi + rdx + 16]
    mov r9, [rsi + rdx + 24]
    mov [rdi + rdx], rax
    mov [rdi + rdx + 8], rcx
    mov [rdi + rdx + 16], r8
    mov [rdi + rdx + 24], r9
    mov rax, [rsi + rdx + 32]
    mov rcx, [rsi + rdx + 40]
    mov r8, [rsi + rdx + 48]
    mov r9, [rsi + rdx + 56]
    mov [rdi + rdx + 32], rax
    mov [rdi + rdx + 40], rcx
    mov [rdi + rdx + 48], r8
    mov [rdi + rdx + 56], r9
    add rdx, 64
    jnz 2b
    ret

    .balign 16
    // Any number of bytes: eight at a time, then single ones.
    .global untorn_guarded_bytes
untorn_guarded_bytes:
2:  cmp rdx, 8
    jb 3f
    mov rax, [rsi]
    mov [rdi], rax
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    jmp 2b
3:  test rdx, rdx
    jz 4f
    movzx eax, byte ptr [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec rdx
    jmp 3b
4:  ret

    .balign 16
    .global untorn_guarded_u32
untorn_guarded_u32:
    mov eax, [rdi]
    xor edx, edx
    ret

    .balign 16
    .global untorn_guarded_u64
untorn_guarded_u64:
    mov rax, [rdi]
    xor edx, edx
    ret

    // An exception in any of the above goes on here, and so returns to the caller with `interrupted` set.
    .balign 16
    .global untorn_guarded_interrupted
untorn_guarded_interrupted:
    mov edx, 1
    ret
    .popsection
    "#
);

unsafe extern "sysv64" {
    fn untorn_guarded_lines_avx(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
    fn untorn_guarded_lines_sse2(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
    fn untorn_guarded_lines_words(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
    fn untorn_guarded_bytes(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
    fn untorn_guarded_u32(from: *const u32) -> Outcome;
    fn untorn_guarded_u64(from: *const u64) -> Outcome;
    fn untorn_guarded_interrupted();
}

/// Returns where execution goes on after an exception at `rip`, if `rip` is one of the loads here: the stack and all
/// registers stay as they are.
#[must_use]
pub fn resume_at(rip: u64) -> Option<u64> {
    let first = untorn_guarded_lines_avx as *const () as u64;
    let past = untorn_guarded_interrupted as *const () as u64;
    (first..past).contains(&rip).then_some(past)
}

impl Outcome {
    #[inline]
    const fn result(self) -> Result<u64, Interrupted> {
        if self.interrupted == 0 { Ok(self.value) } else { Err(Interrupted) }
    }
}

/// Copies whole lines, 32 bytes at a time.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// 1. As [`copy_bytes`]; `bytes` is a multiple of 64 and not 0.
/// 2. AVX is usable.
#[inline]
pub(crate) unsafe fn copy_lines_avx(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
    // SAFETY: the loop loads exactly `bytes` bytes at `from` and stores as many at `to`: both ranges are the caller's.
    unsafe { untorn_guarded_lines_avx(to, from, bytes) }.result().map(|_| ())
}

/// Copies whole lines, 16 bytes at a time.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// As [`copy_bytes`]; `bytes` is a multiple of 64 and not 0.
#[inline]
pub(crate) unsafe fn copy_lines_sse2(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
    // SAFETY: as in `copy_lines_avx`.
    unsafe { untorn_guarded_lines_sse2(to, from, bytes) }.result().map(|_| ())
}

/// Copies whole lines, 8 bytes at a time.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// As [`copy_bytes`]; `bytes` is a multiple of 64 and not 0.
#[inline]
pub(crate) unsafe fn copy_lines_words(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
    // SAFETY: as in `copy_lines_avx`.
    unsafe { untorn_guarded_lines_words(to, from, bytes) }.result().map(|_| ())
}

/// Copies any number of bytes.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// `from` is readable, or the handler of the exception goes on at [`resume_at`]; `to` is writable, and no Rust
/// reference to it exists but the caller's; the two do not overlap.
#[inline]
pub(crate) unsafe fn copy_bytes(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Interrupted> {
    // SAFETY: as in `copy_lines_avx`.
    unsafe { untorn_guarded_bytes(to, from, bytes) }.result().map(|_| ())
}

/// Loads an aligned word, atomically, with acquire order (on x86 every load has it).
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// `from` is aligned, and readable as in [`copy_bytes`].
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a 32-bit load leaves the upper half zero")]
pub(crate) unsafe fn load_u32(from: *const u32) -> Result<u32, Interrupted> {
    // SAFETY: one load of the caller's word.
    unsafe { untorn_guarded_u32(from) }.result().map(|word| word as u32)
}

/// Loads an aligned double word, as [`load_u32`] loads a word.
///
/// # Errors
/// [`Interrupted`].
///
/// # Safety
/// As [`load_u32`].
#[inline]
pub(crate) unsafe fn load_u64(from: *const u64) -> Result<u64, Interrupted> {
    // SAFETY: one load of the caller's word.
    unsafe { untorn_guarded_u64(from) }.result()
}
