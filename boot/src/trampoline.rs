//! Takes the other CPUs from real mode to 64-bit Rust.
//!
//! The kernel copies [`code`] to a page below 1 MiB, fills [`Parameters`] in the page behind it, maps both at their own
//! addresses (the first executable, the second writable) and sends the CPUs there. Each draws a ticket, takes the stack of
//! that number and calls the kernel's function with the ticket; all may come at once. A CPU whose ticket has no stack stops.

use core::arch::global_asm;

/// The trampoline's parameters, in the page behind its code. The assembly below relies on the offsets.
#[derive(Debug)]
#[repr(C)]
pub struct Parameters {
    /// 0x00: a far pointer to the 64-bit part: offset, then segment.
    far_offset: u32,
    far_segment: u32,
    /// 0x08: the number of bytes of descriptors, less one, then two unused bytes.
    gdt_limit: u16,
    /// 0x0a: where they lie, in two halves, for the field is not aligned.
    gdt_base: [u16; 2],
    padding: u16,
    /// 0x10: the top page table.
    page_tables: u64,
    /// 0x18: the function that each CPU calls, on its stack, with its ticket.
    entry: u64,
    /// 0x20: the next ticket.
    ticket: u64,
    /// 0x28: how many stacks there are.
    stacks: u64,
    /// 0x30: an array of their tops.
    stack_tops: u64,
    /// 0x38: descriptors: none, 64-bit code, data.
    gdt: [u64; 3],
}

const _: () = assert!(core::mem::offset_of!(Parameters, page_tables) == 0x10);
const _: () = assert!(core::mem::offset_of!(Parameters, gdt) == 0x38);

global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .balign 16
    .code16
    .global trampoline_start
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl 0x1008
    movl $0x620, %eax               // CR4: PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl 0x1010, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          // EFER
    rdmsr
    orl $0x900, %eax                // LME, NXE
    wrmsr
    movl $0x80010033, %eax          // CR0: PG, WP, NE, ET, MP, PE: straight into long mode
    movl %eax, %cr0
    ljmpl *0x1000

    .code64
    .global trampoline_long_mode
trampoline_long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    leaq trampoline_start + 0x1000(%rip), %rbx
    movl $1, %edi
    lock xaddq %rdi, 0x20(%rbx)
    cmpq 0x28(%rbx), %rdi
    jae 1f
    movq 0x30(%rbx), %rcx
    movq (%rcx, %rdi, 8), %rsp
    xorl %ebp, %ebp
    callq *0x18(%rbx)
1:  cli
    hlt
    jmp 1b
    .global trampoline_end
trampoline_end:
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_long_mode: u8;
    static trampoline_end: u8;
}

/// Returns the code, to be copied to the start of a page below 1 MiB.
#[must_use]
pub fn code() -> &'static [u8] {
    let start = &raw const trampoline_start;
    let length = (&raw const trampoline_end).addr() - start.addr();
    // SAFETY: the assembly above puts that many bytes of constants between the two symbols.
    unsafe { core::slice::from_raw_parts(start, length) }
}

impl Parameters {
    /// Parameters for code at `page` (below 1 MiB), with the parameters in the page behind it.
    ///
    /// `page_tables` lie below 4 GiB. The caller vouches for the rest when it starts CPUs: `stack_tops` are tops of
    /// unused stacks, and `entry` is an `extern "C" fn(u64) -> !` made for this.
    #[must_use]
    pub fn new(page: u32, page_tables: u32, entry: u64, stack_tops: &'static [u64]) -> Self {
        let long_mode = (&raw const trampoline_long_mode).addr() - (&raw const trampoline_start).addr();
        let long_mode = u32::try_from(long_mode).expect("the trampoline is less than a page");
        let offset = u32::try_from(core::mem::offset_of!(Self, gdt)).expect("parameters are less than a page");
        let [a, b, c, d] = (page + 0x1000 + offset).to_le_bytes();
        Self {
            far_offset: page + long_mode,
            far_segment: 0x08,
            gdt_limit: 23,
            gdt_base: [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])],
            padding: 0,
            page_tables: u64::from(page_tables),
            entry,
            ticket: 0,
            stacks: stack_tops.len() as u64,
            stack_tops: stack_tops.as_ptr().addr() as u64,
            gdt: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
        }
    }
}
