//! Machine checks: the one exception whose handler returns, if it reports that persistent memory was lost.

use core::arch::global_asm;
use core::arch::x86_64::__cpuid;

use drivers::guarded;
use drivers::phys::PhysAddr;
use drivers::poison::{self, ReportError};
use kernel::machine_check::{self, ADDRESS_VALID, Bank, CAP_BANKS, CAP_CONTROL, Noted, Registers, VALID};
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// The first bank's control register; each bank has four: control, status, address, miscellaneous.
const MC0_CTL: u32 = 0x400;

/// CPUID leaf 1, EDX: machine-check exception, machine-check architecture.
const MCE_AND_MCA: u32 = 1 << 7 | 1 << 14;

global_asm!(
    r#"
    .section .text.exceptions, "ax"
    .balign 16
    // All registers are kept, the vector registers' lower halves among them: no code of the handler touches the upper ones.
    .global machine_check_entry
machine_check_entry:
    cld
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    lea rdi, [rsp + 15 * 8]
    mov rbx, rsp
    sub rsp, 512
    and rsp, -16
    fxsave64 [rsp]
    xor ebp, ebp
    call machine_check
    fxrstor64 [rsp]
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    iretq
    "#
);

unsafe extern "C" {
    pub(super) static machine_check_entry: u8;
}

/// What the CPU pushes.
#[repr(C)]
struct Frame {
    rip: u64,
}

/// Lets this CPU raise machine checks. Its exception table is loaded.
pub(super) fn enable() {
    if __cpuid(1).edx & MCE_AND_MCA != MCE_AND_MCA {
        return;
    }
    // SAFETY: the CPU has these registers: all ones switch every report on, and old reports are cleared. From here on
    // the exception has a handler.
    unsafe {
        let capabilities = read(MCG_CAP);
        if capabilities & CAP_CONTROL != 0 {
            write(MCG_CTL, u64::MAX);
        }
        for bank in banks(capabilities) {
            write(MC0_CTL + 4 * bank, u64::MAX);
            write(MC0_CTL + 4 * bank + 1, 0);
        }
        Cr4::update(|flags| flags.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION));
    }
}

fn banks(capabilities: u64) -> core::ops::Range<u32> {
    0..u32::try_from(capabilities & CAP_BANKS).expect("eight bits")
}

/// # Safety
/// The CPU has the register, and reading it changes nothing.
unsafe fn read(register: u32) -> u64 {
    // SAFETY: the caller's.
    unsafe { Msr::new(register).read() }
}

/// # Safety
/// The CPU has the register, and the value does no harm.
unsafe fn write(register: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe { Msr::new(register).write(value) }
}

/// Reads and clears a bank.
fn take(number: u32) -> Bank {
    let base = MC0_CTL + 4 * number;
    // SAFETY: the bank is one that the CPU counts; address and miscellaneous registers are there if the status has
    // their bits; zero clears a status.
    unsafe {
        let status = read(base + 1);
        let address = if status & (VALID | ADDRESS_VALID) == VALID | ADDRESS_VALID { read(base + 2) } else { 0 };
        let misc = if status & VALID != 0 && Bank::has_misc(status) { read(base + 3) } else { 0 };
        if status & VALID != 0 {
            write(base + 1, 0);
        }
        Bank { number, status, address, misc }
    }
}

/// Returns if the CPU can go on, and panics if it cannot. It may interrupt any code, so it takes no lock and allocates
/// nothing (invariant 15).
#[unsafe(no_mangle)]
extern "C" fn machine_check(frame: &mut Frame) {
    // SAFETY: a CPU that raises machine checks has these two registers.
    let registers = unsafe { Registers { capabilities: read(MCG_CAP), status: read(MCG_STATUS) } };
    let after_the_load = guarded::resume_at(frame.rip);
    let mut lose = |at, log2_bytes| match poison::report(PhysAddr(at), log2_bytes) {
        Ok(()) => Noted::Yes,
        Err(ReportError::Elsewhere) => Noted::Elsewhere,
        Err(ReportError::TooMany) => Noted::NoRoom,
    };
    let found = banks(registers.capabilities).map(take);
    if let Err(why) = machine_check::judge(registers, found, after_the_load.is_some(), &mut lose) {
        let cpu = super::current().0;
        panic!("cpu {cpu}: machine check, status {:#x}, rip {:#x}: {why}", registers.status, frame.rip);
    }
    if let Some(at) = after_the_load {
        frame.rip = at;
    }
    // SAFETY: the register is there; with zero the next machine check is taken instead of resetting the machine.
    unsafe { write(MCG_STATUS, 0) };
}
