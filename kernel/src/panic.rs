//! A panic: writes its place, its message and the last events to the console, and keeps them for `events --last-boot`. Then it
//! restarts the machine if the watchdog is on, and else ends QEMU, or halts.

use core::fmt::{self, Write as _};
use core::panic::PanicInfo;

use kernel::events::News;
use service::admin::reply::REBOOTING;
use service::events::{Ended, Kind, Severity};
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::cpu::{self, halt, watchdog};
use crate::log::{self, JOURNAL, Out};
use crate::{console, power};

/// The port of QEMU's isa-debug-exit, if it is present: QEMU exits with 2 * value + 1.
const DEBUG_EXIT: u16 = 0xf4;

/// With this value QEMU exits with 35.
const PANICKED: u32 = 0x11;

/// How many events the report shows.
const EVENTS_SHOWN: u64 = 16;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    if halt::first_to_panic() {
        cpu::stop_others();
        // SAFETY: the other CPUs have stopped, and this function does not return.
        unsafe { console::seize() };
        // SAFETY: as above. What the CPU that had the lock was storing has no checksum, or an old one.
        unsafe { JOURNAL.ring().force_unlock() };
        let mut console = Out;
        let _ = match info.location() {
            Some(place) => write!(console, "\r\npanic at {}:{}: {}\r\n", place.file(), place.line(), info.message()),
            None => write!(console, "\r\npanic at ?:0: {}\r\n", info.message()),
        };
        keep(info);
        let _ = console.write_str("the last events:\r\n");
        JOURNAL.lines_after(JOURNAL.before_last(EVENTS_SHOWN), |_, place, what| {
            let _ = log::write_line(&mut console, place, what);
        });
        if watchdog::is_on() {
            let _ = write!(console, "{REBOOTING}\r\n");
            power::reboot();
        }
        console::drain();
        // SAFETY: the port belongs to QEMU's exit device; on other machines it may be any device's, and the machine
        // stops here.
        unsafe { Port::new(DEBUG_EXIT).write(PANICKED) };
    }
    halt::halt()
}

/// Keeps what there is to tell, for `events --last-boot`.
fn keep(info: &PanicInfo<'_>) {
    let tell = |kind, place: &dyn fmt::Display, what: fmt::Arguments<'_>| {
        JOURNAL.tell(&News { severity: Severity::Error, kind, place, what });
    };
    let me = cpu::current();
    match watchdog::found() {
        Some((stuck, rip)) => {
            let place = format_args!("cpu {stuck}");
            tell(Kind::Watchdog, &place, format_args!("{}", info.message()));
            // One that does not take the interrupt that stops it does not say where it is.
            if rip != 0 {
                tell(Kind::Watchdog, &place, format_args!("it was stopped at rip {rip:#x}"));
            }
            JOURNAL.ends(Ended::Watchdog);
        }
        None => {
            let place = format_args!("cpu {}", me.0);
            match info.location() {
                Some(at) => tell(Kind::Panic, &place, format_args!("{}:{}: {}", at.file(), at.line(), info.message())),
                None => tell(Kind::Panic, &place, format_args!("{}", info.message())),
            }
            tell(Kind::Panic, &place, format_args!("it served {}", watchdog::served(me)));
            JOURNAL.ends(Ended::Panic);
        }
    }
}
