//! Interrupt controllers: each CPU's local APIC, and the I/O APIC that the UARTs are wired to.
//!
//! Register names and numbers: Intel SDM volume 3, chapter 11; the I/O APIC's: 82093AA datasheet.

use core::hint::spin_loop;
use core::ptr::NonNull;

use drivers::pci::Message;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use kernel::tables::madt::{ApicId, IsaOverride, Madt};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::{ApicBase, Msr};

use super::exceptions::{self, SPURIOUS, TIMER, UART, WAKE};
use super::features::Features;
use crate::clock;
use crate::memory::AddressSpace;

/// A local APIC's registers, as offsets of the memory-mapped form; the model-specific form counts in sixteenths.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
enum Register {
    /// The CPU's id.
    Id = 0x20,
    /// The least urgent priority that is delivered: all are.
    TaskPriority = 0x80,
    /// End of interrupt.
    EndOfInterrupt = 0xb0,
    /// The spurious interrupt's vector, and the switch that turns the APIC on.
    Spurious = 0xf0,
    /// Interrupt command, lower half: writing it sends. The model-specific form has both halves here.
    Command = 0x300,
    /// Interrupt command, upper half: the destination.
    CommandHigh = 0x310,
    /// The timer's vector and mode.
    LocalTimer = 0x320,
    /// Input 0, where old interrupt controllers come in.
    LocalInput0 = 0x350,
    /// The count at which the timer begins; writing it starts the timer.
    InitialCount = 0x380,
    /// The timer's present count.
    CurrentCount = 0x390,
    /// The divisor of the timer's clock.
    Divide = 0x3e0,
}

/// A command to another CPU.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// Waits for a start.
    Init,
    /// Starts in real mode at this page.
    Start(u8),
    /// An interrupt.
    Interrupt(u8),
    /// An interrupt that cannot be held off.
    Nmi,
}

impl Command {
    const fn bits(self) -> u32 {
        match self {
            Self::Init => 0x4500,
            Self::Start(page) => 0x4600 | page as u32,
            Self::Interrupt(vector) => 0x4000 | vector as u32,
            Self::Nmi => 0x4400,
        }
    }
}

const MASKED: u32 = 1 << 16;
const DELIVERY_PENDING: u32 = 1 << 12;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DIVIDE_BY_16: u32 = 0b0011;

/// The number of reads of a command's delivery status before it is given up: far more than any takes.
const PATIENCE: u32 = 1_000_000;

/// Reaches the local APIC of the CPU that calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum LocalApic {
    /// By memory, in which each CPU sees its own APIC. Ids have 8 bits.
    Memory(NonNull<u8>),
    /// By model-specific registers (x2APIC). Ids have 32 bits.
    Registers,
}

// SAFETY: the mapping is good for ever on every CPU, each sees its own APIC there, and single registers are read and
// written whole.
unsafe impl Send for LocalApic {}
// SAFETY: as above.
unsafe impl Sync for LocalApic {}

impl LocalApic {
    /// Finds out how to reach local APICs: by the wide form if the CPU has it.
    ///
    /// # Errors
    /// When the registers cannot be mapped.
    pub(super) fn find(space: &AddressSpace, features: &Features) -> Result<Self, MapError> {
        if features.x2apic() {
            return Ok(Self::Registers);
        }
        let (frame, _) = ApicBase::read();
        let registers = space.map(PhysAddr(frame.start_address().as_u64()), 4096, Attribute::Uncached)?;
        exceptions::set_acknowledge(registers.as_ptr() as u64 + Register::EndOfInterrupt as u64);
        Ok(Self::Memory(registers))
    }

    /// Turns this CPU's APIC on.
    pub(super) fn enable(&self) {
        const X2APIC: u64 = 1 << 10;
        const ENABLED: u64 = 1 << 11;
        let mut base = Msr::new(0x1b);
        let wide = if matches!(self, Self::Registers) { X2APIC } else { 0 };
        // SAFETY: the APIC stays where it is; only a CPU that has the wide form enters it, and never leaves it.
        unsafe {
            let old = base.read();
            if old & ENABLED == 0 {
                base.write(old | ENABLED); // to the wide form in two steps, as the SDM requires (11.12.5)
            }
            base.write(old | ENABLED | wide);
        }
        self.write(Register::LocalInput0, MASKED);
        self.write(Register::LocalTimer, MASKED);
        self.write(Register::TaskPriority, 0);
        self.write(Register::Spurious, SOFTWARE_ENABLE | u32::from(SPURIOUS));
    }

    /// Returns this CPU's id.
    pub(super) fn id(&self) -> ApicId {
        match self {
            Self::Memory(_) => ApicId(self.read(Register::Id) >> 24),
            Self::Registers => ApicId(self.read(Register::Id)),
        }
    }

    /// Returns whether a CPU can be addressed.
    pub(super) const fn reaches(&self, cpu: ApicId) -> bool {
        match self {
            Self::Memory(_) => cpu.0 < 0xff, // 0xff means all CPUs
            Self::Registers => true,
        }
    }

    /// Sends a command to another CPU.
    pub(super) fn send(&self, to: ApicId, command: Command) {
        match self {
            Self::Memory(_) => {
                self.wait_for_delivery();
                self.write(Register::CommandHigh, to.0 << 24);
                self.write(Register::Command, command.bits());
                self.wait_for_delivery();
            }
            Self::Registers => {
                let bits = u64::from(to.0) << 32 | u64::from(command.bits());
                // SAFETY: the callers want the command's effect; all earlier stores are made visible first, which this
                // form does not do by itself (SDM 11.12.3).
                unsafe {
                    core::arch::x86_64::_mm_mfence();
                    core::arch::x86_64::_mm_lfence();
                    Msr::new(0x830).write(bits);
                }
            }
        }
    }

    fn wait_for_delivery(&self) {
        for _ in 0..PATIENCE {
            if self.read(Register::Command) & DELIVERY_PENDING == 0 {
                return;
            }
            spin_loop();
        }
    }

    /// Returns its form in words.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory (xAPIC)",
            Self::Registers => "registers (x2APIC)",
        }
    }

    /// Sets this CPU's timer up: it interrupts once when it is started.
    pub(super) fn set_timer_up(&self) {
        self.write(Register::Divide, DIVIDE_BY_16);
        self.write(Register::LocalTimer, u32::from(TIMER)); // one shot
    }

    /// Returns the counts per millisecond of this CPU's timer, which is not set up yet.
    pub(super) fn measure_timer(&self) -> u32 {
        self.write(Register::Divide, DIVIDE_BY_16);
        self.write(Register::InitialCount, u32::MAX);
        let before = clock::now_ns();
        clock::spin_for(1_000_000);
        let counted = u64::from(u32::MAX - self.read(Register::CurrentCount));
        let passed = (clock::now_ns() - before).max(1);
        self.write(Register::InitialCount, 0);
        // Hardware gives both numbers: a timer that counts faster than it can be set is set to its longest.
        u32::try_from(counted * 1_000_000 / passed).unwrap_or(u32::MAX).max(1)
    }

    /// Lets this CPU's timer interrupt once, after it has counted `count`.
    pub(super) fn start_timer(&self, count: u32) {
        self.write(Register::InitialCount, count);
    }

    fn read(&self, register: Register) -> u32 {
        match self {
            // SAFETY: an aligned register in the mapped page.
            Self::Memory(base) => unsafe { VolatilePtr::new(base.byte_add(register as usize).cast::<u32>()) }.read(),
            Self::Registers => {
                // SAFETY: the CPU has these registers, and is in the mode that has them. Reading has no effect.
                let [a, b, c, d, ..] = unsafe { Msr::new(0x800 + register as u32 / 16).read() }.to_le_bytes();
                u32::from_le_bytes([a, b, c, d])
            }
        }
    }

    fn write(&self, register: Register, value: u32) {
        match self {
            Self::Memory(base) => {
                // SAFETY: an aligned register in the mapped page. The callers want its effect, which touches no memory.
                unsafe { VolatilePtr::new(base.byte_add(register as usize).cast::<u32>()) }.write(value);
            }
            // SAFETY: the CPU has these registers, and is in the mode that has them.
            Self::Registers => unsafe { Msr::new(0x800 + register as u32 / 16).write(u64::from(value)) },
        }
    }
}

/// Masks the old interrupt controllers, which are not used.
pub(super) fn silence_old_controllers() {
    // SAFETY: the mask registers of the two 8259s on every PC; without them the writes have no effect.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
}

/// COM1's ISA interrupt.
pub(super) const COM1_IRQ: u8 = 4;

/// COM2's ISA interrupt.
pub(super) const COM2_IRQ: u8 = 3;

/// Returns whether a device's message can reach a CPU: without interrupt remapping its id has 8 bits, and 0xff means
/// all CPUs.
pub(super) const fn takes_messages(cpu: ApicId) -> bool {
    cpu.0 < 0xff
}

/// Returns the message by which a device wakes a CPU that [`takes_messages`], or all of them by id 0xff: a fixed
/// interrupt, by an edge (Intel SDM volume 3, 11.11).
pub(super) const fn wake_message(cpu: ApicId) -> Message {
    Message { address: 0xfee0_0000 | (cpu.0 as u64 & 0xff) << 12, data: WAKE as u32 }
}

/// Routes a UART's ISA interrupt to a CPU. Returns false if the tables name no I/O APIC for it, or it cannot be mapped:
/// then only the timer wakes the CPU.
pub(super) fn route_uart(space: &AddressSpace, madt: &Madt, irq: u8, to: ApicId) -> bool {
    let usual = IsaOverride { irq, input: u32::from(irq), active_low: false, level: false };
    let line = madt.overrides.iter().find(|line| line.irq == irq).copied().unwrap_or(usual);
    let Ok(destination) = u8::try_from(to.0) else { return false };
    for io_apic in &madt.io_apics {
        let Ok(base) = space.map(PhysAddr(io_apic.address), 0x20, Attribute::Uncached) else { continue };
        // SAFETY: the MADT names an I/O APIC there; its two registers are aligned (`IoApic::address`) and mapped.
        let select = unsafe { VolatilePtr::new(base.cast::<u32>()) };
        // SAFETY: as above.
        let window = unsafe { VolatilePtr::new(base.byte_add(0x10).cast::<u32>()) };
        select.write(1); // version, and the number of the last input
        let inputs = (window.read() >> 16 & 0xff) + 1;
        let Some(input) = line.input.checked_sub(io_apic.first_input).filter(|input| *input < inputs) else { continue };
        let shape = u32::from(line.active_low) << 13 | u32::from(line.level) << 15;
        select.write(0x10 + 2 * input + 1);
        window.write(u32::from(destination) << 24);
        select.write(0x10 + 2 * input);
        window.write(u32::from(UART) | shape); // fixed, to one CPU, not masked
        return true;
    }
    false
}
