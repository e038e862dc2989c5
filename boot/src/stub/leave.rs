//! From UEFI's 64-bit mode to the image's 32-bit entry.
//!
//! Segments are copied when paging is off: firmware's page tables, stack and handlers may lie where the image goes. This
//! code, its table and the image's file do not: the stub has checked that.

use core::arch::global_asm;

/// A segment to copy: the assembly below relies on the layout. One with target 0 is the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Copy {
    pub(crate) source: u32,
    pub(crate) target: u32,
    pub(crate) bytes: u32,
    pub(crate) zero_bytes: u32,
}

global_asm!(
    r#"
    .section .text.leave, "ax"
    // leave_to_image(copies, start_info, entry)
    .code64
    .global leave_to_image
leave_to_image:
    cli
    cld
    movl %edi, %ebp
    movl %esi, %ebx
    movq %cr4, %rax
    btrq $17, %rax                  // PCIDE has to go before paging does
    movq %rax, %cr4
    leaq leave_gdt(%rip), %rax
    movq %rax, leave_gdt_pointer + 2(%rip)
    lgdtq leave_gdt_pointer(%rip)
    pushq $0x08
    leaq 1f(%rip), %rax
    pushq %rax
    lretq
    .code32
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl %edx, %esp                 // no stack from here on: it keeps the entry point
    movl %cr0, %eax
    andl $0x7fffffff, %eax          // paging off: this code lies at its physical address
    movl %eax, %cr0
    movl $0xc0000080, %ecx          // EFER: LME off
    rdmsr
    andl $0xfffffeff, %eax
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
2:  movl 4(%ebp), %edi
    testl %edi, %edi
    jz 3f
    movl (%ebp), %esi
    movl 8(%ebp), %ecx
    rep movsb
    movl 12(%ebp), %ecx
    xorl %eax, %eax
    rep stosb
    addl $16, %ebp
    jmp 2b
3:  jmpl *%esp                      // ebx is the start_info
    .code64

    .section .data.leave, "aw"
    .balign 8
leave_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: 32-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
leave_gdt_pointer:
    .word 23
    .quad 0
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    /// Copies the segments and enters the image at `entry` with `ebx` = `start_info`.
    ///
    /// # Safety
    /// 1. Boot services have ended, and nothing is needed any more that lies in a segment's target.
    /// 2. This program, `copies` up to its end and all that they name lie below 4 GiB, outside all targets, at their
    ///    physical addresses.
    pub(crate) fn leave_to_image(copies: *const Copy, start_info: *const u8, entry: u32) -> !;
}
