//! Segments, the task state segment and its stacks: one set for each CPU.
//!
//! # The stacks
//! | stack | bytes | used by |
//! |---|---|---|
//! | the boot stack, in the image | 256 KiB | the boot CPU, always |
//! | a CPU's own | 128 KiB | each other CPU |
//! | [`Ist::Exception`] | 32 KiB | exceptions, and the panic that they end in |
//! | [`Ist::DoubleFault`], [`Ist::Nmi`], [`Ist::MachineCheck`] | 16 KiB each | these three, which can interrupt an exception's handler |
//! | [`Ist::Interrupt`] | 8 KiB | interrupts: acknowledge and return |
//!
//! Below each lies an unmapped page. No handler runs on the stack it interrupted: the host target's code keeps data below
//! the stack pointer (the red zone). Handlers do not nest on one stack: interrupts stay off in all of them.

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::memory::AddressSpace;

/// One of a CPU's handler stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Ist {
    /// For exceptions.
    Exception = 0,
    /// For a fault while a fault is delivered.
    DoubleFault = 1,
    /// For interrupts that cannot be held off.
    Nmi = 2,
    /// For hardware errors.
    MachineCheck = 3,
    /// For interrupts.
    Interrupt = 4,
}

/// Their sizes, by number.
const STACK_BYTES: [u64; 5] = [32 << 10, 16 << 10, 16 << 10, 16 << 10, 8 << 10];

/// All of them together.
pub(super) const STACKS_BYTES: u64 = {
    let [exception, double_fault, nmi, machine_check, interrupt] = STACK_BYTES;
    exception + double_fault + nmi + machine_check + interrupt
};

/// One CPU's descriptors. They never move: the CPU holds their addresses.
#[derive(Debug)]
pub(super) struct Descriptors {
    gdt: GlobalDescriptorTable,
    tss: TaskStateSegment,
}

impl Descriptors {
    /// Descriptors with these stack tops.
    pub(super) const fn new(tops: [u64; 5]) -> Self {
        let mut tss = TaskStateSegment::new();
        let mut at = 0;
        while at < tops.len() {
            tss.interrupt_stack_table[at] = VirtAddr::new_truncate(tops[at]);
            at += 1;
        }
        Self { gdt: GlobalDescriptorTable::new(), tss }
    }

    /// Descriptors with new stacks, for a CPU that is to start.
    pub(super) fn with_stacks(space: &AddressSpace) -> &'static mut Self {
        Box::leak(Box::new(Self::new(STACK_BYTES.map(|bytes| space.new_stack(bytes)))))
    }

    /// Makes this CPU use them.
    pub(super) fn load(&'static mut self) {
        let Self { gdt, tss } = self;
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task = gdt.append(Descriptor::tss_segment(tss));
        gdt.load();
        // SAFETY: the selectors are those of the table just loaded, each of its right kind; the TSS lives for good and is
        // this CPU's alone.
        unsafe {
            CS::set_reg(code);
            SS::set_reg(data);
            DS::set_reg(data);
            ES::set_reg(data);
            load_tss(task);
        }
    }
}
