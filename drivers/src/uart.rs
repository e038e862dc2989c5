//! A 16550 UART on I/O ports, as a byte link: COM1 is the admin console.
//!
//! - Receiving never waits. The receive FIFO holds 16 bytes; at 115200 baud it fills in 1.4 ms, so whoever polls waits
//!   less than that or is woken by the interrupt that every received byte raises ([`Uart::new`] enables it).
//! - Sending waits for room, within a bound: a peer that takes nothing loses the rest of that message, and keeps losing
//!   at once, without the wait, until it takes bytes again.

use core::hint::spin_loop;

use service::link::ByteLink;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// COM1's first port.
pub const COM1: u16 = 0x3f8;

/// How often to look for room before a peer counts as dead. A look is one read from an I/O port: about a microsecond on
/// hardware, less under emulation; so this is some ten seconds.
const PATIENCE: u32 = 20_000_000;

/// A 16550 UART.
pub struct Uart {
    device: Uart16550<PioBackend>,
    /// The peer took nothing for [`PATIENCE`] looks: don't wait again until it does.
    stalled: bool,
}

impl Uart {
    /// Sets a UART up: 115200 baud, 8 data bits, no parity, FIFOs on, an interrupt for received bytes. None when no
    /// UART answers there. What had arrived before is discarded.
    ///
    /// # Safety
    /// The eight ports from `port` on belong to a 16550 or to nothing, and nobody else uses them as long as the result
    /// lives.
    #[must_use]
    pub unsafe fn new(port: u16) -> Option<Self> {
        // SAFETY: the caller vouches for the ports.
        let mut device = unsafe { Uart16550::new_port(port) }.ok()?;
        let config = Config {
            interrupts: IER::DATA_READY,
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        };
        device.init(config).ok()?;
        Some(Self { device, stalled: false })
    }

    /// Waits until the last bit has left, within the bound that sending has.
    pub fn drain(&mut self) {
        for _ in 0..PATIENCE {
            if self.device.lsr().contains(LSR::TRANSMITTER_EMPTY) {
                return;
            }
            spin_loop();
        }
    }

    /// Sends as much of `bytes` as fits into the FIFO now, waiting for it to have room: how many bytes.
    fn send_some(&mut self, bytes: &[u8]) -> usize {
        let looks = if self.stalled { 1 } else { PATIENCE };
        for _ in 0..looks {
            let sent = self.device.send_bytes(bytes);
            if sent > 0 {
                self.stalled = false;
                return sent;
            }
            spin_loop();
        }
        self.stalled = true;
        0
    }
}

impl ByteLink for Uart {
    fn receive(&mut self) -> Option<u8> {
        self.device.try_receive_byte().ok()
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.send_some(rest) {
                0 => return,
                sent => rest = &rest[sent..],
            }
        }
    }
}
