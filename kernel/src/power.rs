//! Turns the machine off, and restarts it.

use drivers::phys::{Attribute, PhysAddr, PhysMap};
use kernel::tables::fadt::{Fadt, Register};
use kernel::tables::sleep::SleepType;
use spin::Once;
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{VirtAddr, instructions};

use crate::cpu::halt;
use crate::{clock, console, memory};

/// PM1 control: the operating system, not the firmware, manages power (ACPI 6.5, 4.8.3.2.1).
const SCI_ENABLED: u16 = 1;

/// PM1 control: enters the sleep state of the sleep type.
const SLEEP_ENABLE: u16 = 1 << 13;

/// The time that a register may take to have its effect.
const PATIENCE_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Power {
    fadt: Option<Fadt>,
    off: Option<SleepType>,
}

static POWER: Once<Power> = Once::new();

/// Remembers the registers. The first call counts.
pub(crate) fn init(fadt: Option<Fadt>, off: Option<SleepType>) {
    POWER.call_once(|| Power { fadt, off });
}

/// Turns the machine off (ACPI S5). If that is not possible, logs it and halts.
pub(crate) fn off() -> ! {
    console::drain();
    match POWER.get() {
        Some(Power { fadt: Some(fadt), off: Some(off) }) if fadt.turns_off() => {
            sleep(fadt, *off);
            log!("power: the machine does not turn off; halted");
        }
        // Firecracker: it ends when its only device with a register for that resets the machine.
        Some(Power { fadt: Some(fadt), .. }) if fadt.hardware_reduced && fadt.sleep_control.is_none() => {
            log!("power: no register turns the machine off: resetting it by the keyboard controller");
            console::drain();
            reset_by_keyboard_controller();
            log!("power: the machine does not reset; halted");
        }
        _ => log!("power: firmware's tables do not say how to turn the machine off; halted"),
    }
    console::drain();
    halt::halt()
}

/// Restarts the machine: by the reset register, else by the chipset's, else by the keyboard controller, else by a triple
/// fault.
pub(crate) fn reboot() -> ! {
    console::drain();
    if let Some(reset) = POWER.get().and_then(|power| power.fadt?.reset) {
        write_u8(reset.register, reset.value);
        clock::spin_for(PATIENCE_NS / 20);
    }
    let mut chipset = Port::<u8>::new(0xcf9);
    // SAFETY: the reset control register of every PC chipset; on a machine without it the write has no effect.
    unsafe {
        chipset.write(0x02); // a hard reset ...
        chipset.write(0x06); // ... now
    }
    clock::spin_for(PATIENCE_NS / 20);
    reset_by_keyboard_controller();
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: an exception without a handler resets the CPU: that is the purpose.
    unsafe { lidt(&nothing) };
    instructions::interrupts::int3();
    halt::halt()
}

/// Has the keyboard controller (8042) pulse the CPU's reset line.
fn reset_by_keyboard_controller() {
    const INPUT_FULL: u8 = 1 << 1;
    const PULSE_RESET: u8 = 0xfe;
    /// Reads of its status: some 0.1 s on hardware. Where there is none, it reads as full for ever.
    const PATIENCE: u32 = 100_000;
    let mut command = Port::<u8>::new(0x64);
    // SAFETY: the keyboard controller's port on every PC; on a machine without it reads and writes have no effect.
    unsafe {
        for _ in 0..PATIENCE {
            if command.read() & INPUT_FULL == 0 {
                break;
            }
        }
        command.write(PULSE_RESET);
    }
    clock::spin_for(PATIENCE_NS / 20);
}

fn sleep(fadt: &Fadt, off: SleepType) {
    if let Some(register) = fadt.sleep_control {
        write_u8(register, off.a << 2 | 1 << 5); // ACPI 6.5, 4.8.3.7
    }
    let control = |port: u16| Port::<u16>::new(port);
    if let (Some(port), Some((smi, enable))) = (fadt.pm1a_control, fadt.enable) {
        // SAFETY: the FADT names these registers for this purpose.
        unsafe {
            if control(port).read() & SCI_ENABLED == 0 {
                Port::<u8>::new(smi).write(enable);
                let end = clock::now_ns() + PATIENCE_NS;
                while control(port).read() & SCI_ENABLED == 0 && clock::now_ns() < end {
                    core::hint::spin_loop();
                }
            }
        }
    }
    for (port, kind) in [(fadt.pm1a_control, off.a), (fadt.pm1b_control, off.b)] {
        if let Some(port) = port {
            // SAFETY: the FADT names this register for this purpose.
            unsafe { control(port).write(SCI_ENABLED | u16::from(kind) << 10 | SLEEP_ENABLE) };
        }
    }
    clock::spin_for(PATIENCE_NS);
}

fn write_u8(register: Register, value: u8) {
    match register {
        // SAFETY: the FADT names this port for what the caller is about to do.
        Register::Port(port) => unsafe { Port::<u8>::new(port).write(value) },
        Register::Memory(at) => {
            if let Ok(place) = memory::space().map(PhysAddr(at), 1, Attribute::Uncached) {
                // SAFETY: a mapped byte outside all Rust objects; the FADT names it for what the caller does.
                unsafe { VolatilePtr::new(place) }.write(value);
            }
        }
    }
}
