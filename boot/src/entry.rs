//! From a 32-bit, unpaged entry to 64-bit Rust.
//!
//! A protocol's entry point puts its information's address into `edi` and the 64-bit function that reads it into `esi`,
//! and jumps to `enter_long_mode`. That function gets the address as its only argument, on the boot stack, with
//! interrupts off, SSE on, and the first page tables of [`crate::PHYSICAL_MEMORY_OFFSET`] active.
//!
//! The loader zeroes the image's .bss: page tables and stack rely on it.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// The time stamp counter at the first instruction.
#[unsafe(export_name = "boot_entry_tsc")]
static ENTRY_TSC: AtomicU64 = AtomicU64::new(0);

/// Returns the time stamp counter at the image's first instruction.
#[must_use]
pub fn entry_tsc() -> u64 {
    ENTRY_TSC.load(Ordering::Relaxed)
}

global_asm!(
    r#"
    .section .boot.text, "ax"
    .code32
    .global enter_long_mode
enter_long_mode:
    cli
    cld
    movl $boot_stack_top, %esp
    // The loader's handlers are gone: until the kernel has its own, a fault resets the machine.
    lidtl boot_no_idt

    rdtsc
    movl %eax, boot_entry_tsc
    movl %edx, boot_entry_tsc + 4

    // Without 64-bit mode and no-execute pages: a message on COM1, and halt.
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    andl $0x20100000, %edx          // LM (bit 29), NX (bit 20)
    cmpl $0x20100000, %edx
    jne no_long_mode

    // First page tables: 2048 large pages of 2 MiB ...
    movl $boot_pd, %ebx
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax                 // present, writable, large
    movl %eax, (%ebx, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b
    // ... in four directories ...
    movl $boot_pd + 3, %eax         // present, writable
    movl %eax, boot_pdpt
    addl $0x1000, %eax
    movl %eax, boot_pdpt + 8
    addl $0x1000, %eax
    movl %eax, boot_pdpt + 16
    addl $0x1000, %eax
    movl %eax, boot_pdpt + 24
    // ... seen at 0 and at PHYSICAL_MEMORY_OFFSET (entry 256).
    movl $boot_pdpt + 3, %eax
    movl %eax, boot_pml4
    movl %eax, boot_pml4 + 256 * 8

    movl $0x620, %eax               // CR4: PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          // EFER
    rdmsr
    orl $0x900, %eax                // LME, NXE
    wrmsr
    movl $0x80010033, %eax          // CR0: PG, WP, NE, ET, MP, PE; no EM, no TS: SSE works from here on
    movl %eax, %cr0
    lgdtl boot_gdt_pointer
    ljmpl $0x08, $in_long_mode

no_long_mode:
    movl $no_long_mode_text, %esi
1:  movw $0x3fd, %dx                // COM1, line status
2:  inb %dx, %al
    testb $0x20, %al
    jz 2b
    movw $0x3f8, %dx
    lodsb (%esi), %al
    testb %al, %al
    jz 3f
    outb %al, %dx
    jmp 1b
3:  hlt
    jmp 3b

    .code64
in_long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl %esp, %esp                 // clears the upper halves
    movl %edi, %edi
    movl %esi, %eax
    xorl %ebp, %ebp
    callq *%rax
    ud2

    .section .rodata.boot, "a"
no_long_mode_text:
    .asciz "untorn: this CPU has no 64-bit mode with no-execute pages: halted\r\n"
    .balign 8
    .global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
boot_no_idt:
    .word 0
    .long 0
boot_gdt_pointer:
    .word 23
    .long boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096
    "#,
    options(att_syntax)
);
