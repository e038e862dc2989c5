//! A panic: writes its place and message to the console, ends QEMU, halts.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use service::link::ByteLink;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::console::{self, Console};
use crate::cpu::{self, halt};
use crate::log;

/// The port of QEMU's isa-debug-exit, if it is present: QEMU exits with 2 * value + 1.
const DEBUG_EXIT: u16 = 0xf4;

/// With this value QEMU exits with 35.
const PANICKED: u32 = 0x11;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    if halt::first_to_panic() {
        cpu::stop_others();
        // SAFETY: the other CPUs have stopped, and this function does not return.
        unsafe { console::seize() };
        let mut console = Writer;
        let _ = match info.location() {
            Some(place) => write!(console, "\r\npanic at {}:{}: {}\r\n", place.file(), place.line(), info.message()),
            None => write!(console, "\r\npanic at ?:0: {}\r\n", info.message()),
        };
        log::unshown(|text| Console.send(text));
        console::drain();
        // SAFETY: the port belongs to QEMU's exit device; on other machines it may be any device's, and the machine
        // stops here.
        unsafe { Port::new(DEBUG_EXIT).write(PANICKED) };
    }
    halt::halt()
}

struct Writer;

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Console.send(text.as_bytes());
        Ok(())
    }
}
