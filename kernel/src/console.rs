//! COM1: the admin console, shared by the session, the log and a panic.

use drivers::uart::{COM1, Uart};
use service::console::ahead::{Found, FramedRequest, ReadAhead};
use service::link::{Asker, ByteLink, PartLink};
use spin::Mutex;

static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// What has come in while a command is carried out. Only CPU 0 takes the lock, and never that of the UART before it.
static AHEAD: Mutex<(ReadAhead, Asker)> = Mutex::new((ReadAhead::new(), Asker::Person));

/// Sets COM1 up. Without a UART there the machine runs on without a console.
pub(crate) fn init() {
    // SAFETY: COM1's ports belong to a UART or to nothing on every PC; this module alone uses them, behind a lock.
    *UART.lock() = unsafe { Uart::new(COM1) };
}

/// The console as a byte link. All copies are the same link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console;

/// The UART's bytes as they come.
struct Wire;

impl ByteLink for Wire {
    fn receive(&mut self) -> Option<u8> {
        UART.lock().as_mut()?.receive()
    }

    fn send(&mut self, bytes: &[u8]) {
        Console.send(bytes);
    }
}

impl ByteLink for Console {
    fn receive(&mut self) -> Option<u8> {
        AHEAD.lock().0.receive(&mut Wire)
    }

    fn begins(&mut self, asker: Asker) {
        AHEAD.lock().1 = asker;
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

/// Reads ahead while a command is carried out, up to what concerns it.
pub(crate) fn look_ahead() -> Option<Found> {
    let (ahead, asker) = &mut *AHEAD.lock();
    ahead.look(&mut Wire, *asker)
}

/// Keeps a request for the session.
pub(crate) fn put_back(request: FramedRequest) {
    AHEAD.lock().0.put_back(request);
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
