//! COM1: the admin console, shared by the session, the log and a panic.

use core::sync::atomic::{AtomicBool, Ordering};

use drivers::uart::{COM1, Uart};
use service::console::ahead::{Found, FramedRequest, ReadAhead};
use service::link::{Asker, ByteLink, PartLink};
use service::progress::{Meter, Progress, ProgressForm};
use spin::Mutex;

use crate::asked_by::Line;
use crate::cpu::watchdog;

static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// The command that is carried out. Only CPU 0 takes the lock, and never that of the UART before it.
static WORK: Mutex<Work> =
    Mutex::new(Work { ahead: ReadAhead::new(), asker: Asker::Person, form: None, meter: Meter::new() });

/// Whether a row shows how far the command is: it goes before anything else is shown.
static SHOWS_PROGRESS: AtomicBool = AtomicBool::new(false);

struct Work {
    /// What has come in meanwhile.
    ahead: ReadAhead,
    asker: Asker,
    /// How its progress is shown.
    form: Option<ProgressForm>,
    meter: Meter,
}

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

    fn is_waiting(&mut self) -> bool {
        UART.lock().as_mut().is_some_and(Uart::is_waiting)
    }

    fn has_lost(&mut self) -> bool {
        UART.lock().as_mut().is_some_and(Uart::has_lost)
    }

    fn send(&mut self, bytes: &[u8]) {
        Console.send(bytes);
    }
}

impl ByteLink for Console {
    fn receive(&mut self) -> Option<u8> {
        WORK.lock().ahead.receive(&mut Wire)
    }

    fn begins(&mut self, asker: Asker, number: &str) {
        Line::Console.begins();
        let mut work = WORK.lock();
        work.ahead.begins(number);
        (work.asker, work.form, work.meter) = (asker, None, Meter::new());
    }

    fn shows_progress(&mut self, form: Option<ProgressForm>) {
        WORK.lock().form = form;
    }

    fn has_lost(&mut self) -> bool {
        WORK.lock().ahead.has_lost() | Wire.has_lost()
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(sent) = self.send_part(rest) else { return };
            rest = &rest[sent..];
            // A terminal may take nothing for longer than the watchdog's time.
            watchdog::turn();
        }
    }

    fn is_waiting(&mut self) -> bool {
        WORK.lock().ahead.is_waiting() || Wire.is_waiting()
    }
}

impl PartLink for Console {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut uart = UART.lock();
        let uart = uart.as_mut()?;
        end_progress(uart);
        uart.send_part(bytes)
    }
}

/// Reads ahead while a command is carried out, up to what concerns it.
pub(crate) fn look_ahead() -> Option<Found> {
    let Work { ahead, asker, .. } = &mut *WORK.lock();
    // The person's ^C also ends what came by another line.
    ahead.look(&mut Wire, if Line::Console.asked() { *asker } else { Asker::Person })
}

/// Shows how far the command is, if who waits for it wants to know.
pub(crate) fn progress(now_ns: u64, progress: &Progress<'_>) {
    let mut work = WORK.lock();
    let Some((form, figures)) =
        work.form.filter(|_| Line::Console.asked()).and_then(|form| Some((form, work.meter.look(now_ns, progress)?)))
    else {
        return;
    };
    if let Some(uart) = UART.lock().as_mut() {
        uart.send(form.text(&figures).as_bytes());
        SHOWS_PROGRESS.store(matches!(form, ProgressForm::Row { .. }), Ordering::Relaxed);
    }
}

/// Clears the row that shows progress, if there is one.
fn end_progress(uart: &mut Uart) {
    if SHOWS_PROGRESS.swap(false, Ordering::Relaxed) {
        uart.send(b"\r\x1b[K");
    }
}

/// Keeps a request for the session.
pub(crate) fn put_back(request: FramedRequest) {
    WORK.lock().ahead.put_back(request);
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
