//! COM1: the admin console, shared by the session, the log and a panic.

use drivers::uart::{COM1, Uart};
use service::link::ByteLink;
use spin::Mutex;

static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// Sets COM1 up. Without a UART there the machine runs on, unheard.
pub(crate) fn init() {
    // SAFETY: COM1's ports belong to a UART or to nothing on every PC; this module alone uses them, behind a lock.
    *UART.lock() = unsafe { Uart::new(COM1) };
}

/// The console as a byte link. All copies are one and the same.
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

/// Waits until all that was sent has left: before the power goes.
pub(crate) fn drain() {
    if let Some(uart) = UART.lock().as_mut() {
        uart.drain();
    }
}

/// Takes the console from whoever holds it: for last words.
///
/// # Safety
/// Only this CPU still runs, and it never returns to what it was doing.
pub(crate) unsafe fn seize() {
    // SAFETY: whoever held the lock will never go on, so nobody else can reach the UART. Its driver keeps no state that a
    // half-done call could have broken.
    unsafe { UART.force_unlock() };
    if UART.lock().is_none() {
        init();
    }
}
