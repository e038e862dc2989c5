//! Exceptions and interrupts: the table that all CPUs share, and what its entries do.
//!
//! Every exception panics and names itself, except a machine check that `super::machine_check` can recover from. An
//! interrupt only wakes: its handler acknowledges it and returns, and the CPU that halted looks for work. Interrupts
//! are on only around a `hlt` (`super::work`, and `super::Idle` on CPU 0), so they never strike in the middle of
//! anything, and their handler needs to save no vector registers (invariant 15).

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::{Entry, EntryOptions, InterruptDescriptorTable};

use super::descriptors::Ist;
use super::halt;
use super::machine_check::machine_check_entry;
use crate::memory;

/// Another CPU, or a consumer, has work for this one.
pub(super) const WAKE: u8 = 0x40;

/// The local APIC's timer.
pub(super) const TIMER: u8 = 0x41;

/// A UART has received something.
pub(super) const UART: u8 = 0x42;

/// The local APIC withdrew an interrupt too late. It is not acknowledged.
pub(super) const SPURIOUS: u8 = 0xff;

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// The register by which the handler acknowledges: the local APIC's address, or 0 for the model-specific one.
#[unsafe(export_name = "interrupt_acknowledge_at")]
static ACKNOWLEDGE_AT: AtomicU64 = AtomicU64::new(0);

/// Sets the address at which the interrupt handler finds the local APIC's end-of-interrupt register.
pub(super) fn set_acknowledge(register: u64) {
    ACKNOWLEDGE_AT.store(register, Ordering::SeqCst);
}

/// What the CPU and the entry code push on the stack.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

global_asm!(
    r#"
    .section .text.exceptions, "ax"

    // 32 entries of 16 bytes: all leave vector and error code on the stack, as `Frame` says.
    .balign 16
    .global exception_entries
exception_entries:
    .set vector, 0
    .rept 32
    .balign 16
    // The CPU pushes an error code by itself for these.
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    push 0
    .endif
    push vector
    jmp exception_common
    .set vector, vector + 1
    .endr

exception_common:
    cld
    mov rdi, rsp
    and rsp, -16
    xor ebp, ebp
    call exception
    ud2

    .balign 16
    .global interrupt_entry
interrupt_entry:
    push rax
    push rcx
    push rdx
    mov rax, [rip + interrupt_acknowledge_at]
    test rax, rax
    jz 2f
    mov dword ptr [rax], 0
    jmp 3f
2:  mov ecx, 0x80b                  // IA32_X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
3:  pop rdx
    pop rcx
    pop rax
    iretq

    .balign 16
    .global spurious_entry
spurious_entry:
    iretq
    "#
);

unsafe extern "C" {
    static exception_entries: u8;
    static interrupt_entry: u8;
    static spurious_entry: u8;
}

/// Makes this CPU use the table.
pub(super) fn load() {
    IDT.call_once(table).load();
}

fn table() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    let entry = |vector: u64| VirtAddr::new((&raw const exception_entries) as u64 + 16 * vector);
    macro_rules! exceptions {
        ($($vector:literal $name:ident $stack:ident),* $(,)?) => {
            $( set(&mut idt.$name, entry($vector), Ist::$stack); )*
        };
    }
    exceptions! {
        0 divide_error Exception,
        1 debug Exception,
        2 non_maskable_interrupt Nmi,
        3 breakpoint Exception,
        4 overflow Exception,
        5 bound_range_exceeded Exception,
        6 invalid_opcode Exception,
        7 device_not_available Exception,
        8 double_fault DoubleFault,
        10 invalid_tss Exception,
        11 segment_not_present Exception,
        12 stack_segment_fault Exception,
        13 general_protection_fault Exception,
        14 page_fault Exception,
        16 x87_floating_point Exception,
        17 alignment_check Exception,
        19 simd_floating_point Exception,
        20 virtualization Exception,
        21 cp_protection_exception Exception,
        28 hv_injection_exception Exception,
        29 vmm_communication_exception Exception,
        30 security_exception Exception,
    }
    set(&mut idt.machine_check, VirtAddr::from_ptr(&raw const machine_check_entry), Ist::MachineCheck);
    // An unexpected interrupt is acknowledged like any other.
    for entry in idt.slice_mut(32..) {
        set(entry, VirtAddr::from_ptr(&raw const interrupt_entry), Ist::Interrupt);
    }
    set(&mut idt[SPURIOUS], VirtAddr::from_ptr(&raw const spurious_entry), Ist::Interrupt);
    idt
}

fn set<F>(entry: &mut Entry<F>, at: VirtAddr, stack: Ist) {
    // SAFETY:
    // 1. `at` is one of the entries above, which leave the stack as `iretq` needs it or never return.
    // 2. Every CPU has all stacks of `Ist` before it loads the table.
    unsafe {
        let options: &mut EntryOptions = entry.set_handler_addr(at);
        options.set_stack_index(stack as u16);
    }
}

/// Returns the name of an exception (Intel SDM volume 3, table 6-1).
const fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        6 => "invalid opcode",
        8 => "double fault",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 floating point",
        17 => "alignment check",
        19 => "SIMD floating point",
        _ => "exception",
    }
}

#[unsafe(no_mangle)]
extern "C" fn exception(frame: &Frame) -> ! {
    const NMI: u64 = 2;
    const PAGE_FAULT: u64 = 14;
    if frame.vector == NMI && halt::is_panicking() {
        // Another CPU has panicked and stops this one.
        super::watchdog::stopped_at(frame.rip);
        halt::halt();
    }
    let Frame { vector, error, rip, rsp, .. } = *frame;
    let cpu = super::current().0;
    if vector != PAGE_FAULT {
        panic!("cpu {cpu}: exception {vector} ({}), error code {error:#x}, rip {rip:#x}, rsp {rsp:#x}", name(vector));
    }
    let address = Cr2::read_raw();
    let what = if memory::is_stack_guard(address) { "stack overflow, page fault" } else { "page fault" };
    panic!(
        "cpu {cpu}: exception 14 ({what}) at address {address:#x}, error code {error:#x}, rip {rip:#x}, rsp {rsp:#x}"
    );
}
