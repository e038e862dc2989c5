//! COM1: the admin console, shared by the session, the log and a panic.

use drivers::uart::{COM1, Uart};
use service::link::{ByteLink, PartLink};
use spin::Mutex;

static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// Sets COM1 up. Without a UART there the machine runs on without a console.
pub(crate) fn init() {
    // SAFETY: COM1's ports belong to a UART or to nothing on every PC; this module alone uses them, behind a lock.
    *UART.lock() = unsafe { Uart::new(COM1) };
}

/// The console as a byte link. All copies are the same link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console;

impl ByteLink for Console {
    fn receive(&mut self) -> Option<u8> {
        UART.lock().as_mut()?.receive()
    }

    fn has_lost(&mut self) -> bool {
        UART.lock().as_mut().is_some_and(Uart::has_lost)
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(uart) = UART.lock().as_mut() {
            uart.send(bytes);
        }
    }
}

impl PartLink for Console {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        UART.lock().as_mut()?.send_part(bytes)
    }
}

/// Waits until all bytes that were sent have left the UART: before the power is turned off.
pub(crate) fn drain() {
    if let Some(uart) = UART.lock().as_mut() {
        uart.drain();
    }
}

/// Takes the console from the CPU that holds it: for a panic.
///
/// # Safety
/// Only this CPU still runs, and it never returns to what it was doing.
pub(crate) unsafe fn seize() {
    // SAFETY: the CPU that held the lock has stopped for good, so no other code reaches the UART. Its driver keeps no
    // state that a half-done call could have broken.
    unsafe { UART.force_unlock() };
    if UART.lock().is_none() {
        init();
    }
}
