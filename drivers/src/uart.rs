//! A 16550 UART on I/O ports, as a byte link: COM1 is the admin console, COM2 the link to the bridge.
//!
//! - Receiving never waits. The FIFO holds 16 bytes, which arrive in 1.4 ms at 115200 baud: a caller that polls less
//!   often is woken by an interrupt ([`Uart::new`] enables it), when 8 bytes wait or the peer pauses. Bytes that arrive
//!   during a long send are kept. [`ByteLink::has_lost`] reports bytes that came damaged, or faster than they were
//!   taken.
//! - Sending waits for room, within a bound. If the peer takes no byte meanwhile, the rest of the message is dropped;
//!   later messages are dropped at once, without the wait, until it takes bytes again.

use core::hint::spin_loop;

use service::link::{ByteLink, PartLink};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// COM1's first port.
pub const COM1: u16 = 0x3f8;

/// COM2's first port.
pub const COM2: u16 = 0x2f8;

/// The number of looks for room before a peer counts as dead. A look is one read from an I/O port: about a microsecond
/// on hardware, less under emulation; so this is some ten seconds.
const PATIENCE: u32 = 20_000_000;

/// The number of looks for room in one part of a send: a few milliseconds.
const PART: u32 = 5_000;

/// A 16550 UART.
pub struct Uart {
    device: Uart16550<PioBackend>,
    /// Bytes that arrived during a send.
    kept: ReceiveQueue,
    /// Where bytes were lost.
    losses: Losses,
    /// How many looks the peer has taken no byte for, up to [`PATIENCE`]: then sending does not wait until it takes one.
    waited: u32,
}

impl Uart {
    /// Sets a UART up: 115200 baud, 8 data bits, no parity, FIFOs on, an interrupt for received bytes. Returns `None`
    /// if no UART is there. Bytes that arrived before are discarded.
    ///
    /// # Safety
    /// The eight ports from `port` on belong to a 16550 or to nothing, and no other code uses them as long as the
    /// result lives.
    #[must_use]
    pub unsafe fn new(port: u16) -> Option<Self> {
        // SAFETY: the caller vouches for the ports.
        let mut device = unsafe { Uart16550::new_port(port) }.ok()?;
        let config = Config {
            interrupts: IER::DATA_READY,
            // Not One: QEMU feeds no more than this at a time. Not Fourteen: that leaves 0.2 ms to wake in.
            fifo_trigger_level: Some(FifoTriggerLevel::Eight),
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        };
        device.init(config).ok()?;
        Some(Self { device, kept: ReceiveQueue::new(), losses: Losses::NONE, waited: 0 })
    }

    /// Returns whether a byte waits that [`ByteLink::receive`] would return.
    pub fn is_waiting(&mut self) -> bool {
        self.kept.count > 0 || self.device.lsr().contains(LSR::DATA_READY)
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
}

impl PartLink for Uart {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        for _ in 0..PART.min(PATIENCE - self.waited).max(1) {
            if !self.kept.is_full()
                && let Ok(byte) = self.device.try_receive_byte()
            {
                self.kept.push(byte);
                continue;
            }
            let sent = self.device.send_bytes(bytes);
            if sent > 0 {
                self.waited = 0;
                return Some(sent);
            }
            self.waited = PATIENCE.min(self.waited + 1);
            spin_loop();
        }
        (self.waited < PATIENCE).then_some(0)
    }
}

impl ByteLink for Uart {
    fn is_waiting(&mut self) -> bool {
        Self::is_waiting(self)
    }

    fn receive(&mut self) -> Option<u8> {
        let byte = self.kept.pop().or_else(|| self.device.try_receive_byte().ok())?;
        self.losses.taken();
        Some(byte)
    }

    fn has_lost(&mut self) -> bool {
        // The device shows its errors since the last read of its status; the driver has kept those that it saw in
        // between.
        if self.device.lsr().intersects(LOSS) {
            self.losses.seen(self.kept.count);
        }
        self.losses.asked()
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(sent) = self.send_part(rest) else { return };
            rest = &rest[sent..];
        }
    }
}

/// The line status bits about a byte that did not arrive, or not as it was sent.
const LOSS: LSR = LSR::OVERRUN_ERROR.union(LSR::PARITY_ERROR).union(LSR::FRAMING_ERROR).union(LSR::BREAK_INTERRUPT);

/// How many bytes the device's FIFO holds.
const FIFO_BYTES: usize = 16;

/// Where bytes were lost, as far as the device shows it: an overrun loses the bytes after a full FIFO, which was filled
/// at some time since the last look. So every byte that had arrived by then, and the next one, may stand beside the
/// gap.
struct Losses {
    /// The number of bytes, not taken yet, that may stand beside a gap.
    doubtful: usize,
    /// Whether a byte that was taken since the last call of `asked` may, or was lost itself.
    taken: bool,
}

impl Losses {
    const NONE: Self = Self { doubtful: 0, taken: false };

    /// Notes that the device shows a loss, while `kept` bytes wait beside its FIFO.
    const fn seen(&mut self, kept: usize) {
        self.doubtful = kept + FIFO_BYTES + 1;
        self.taken = true;
    }

    /// Notes that a byte was taken.
    const fn taken(&mut self) {
        self.taken |= self.doubtful > 0;
        self.doubtful = self.doubtful.saturating_sub(1);
    }

    /// Returns whether a byte that was taken since the last call may be damaged, or stand beside a gap.
    const fn asked(&mut self) -> bool {
        core::mem::replace(&mut self.taken, false)
    }
}

/// A small queue. It lies in the driver itself, because the console is used before there is a heap.
struct ReceiveQueue {
    bytes: [u8; Self::CAPACITY],
    first: usize,
    count: usize,
}

impl ReceiveQueue {
    const CAPACITY: usize = 256;

    const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], first: 0, count: 0 }
    }

    const fn is_full(&self) -> bool {
        self.count == Self::CAPACITY
    }

    /// Adds a byte to a queue that is not full.
    const fn push(&mut self, byte: u8) {
        self.bytes[(self.first + self.count) % Self::CAPACITY] = byte;
        self.count += 1;
    }

    const fn pop(&mut self) -> Option<u8> {
        if self.count == 0 {
            return None;
        }
        let byte = self.bytes[self.first];
        self.first = (self.first + 1) % Self::CAPACITY;
        self.count -= 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn kept_bytes_come_back_in_order_also_around_the_end() {
        let mut kept = ReceiveQueue::new();
        for round in 0..5_u8 {
            for byte in 0..200 {
                kept.push(byte ^ round);
            }
            let back: Vec<u8> = core::iter::from_fn(|| kept.pop()).collect();
            assert_eq!(back, (0..200).map(|byte| byte ^ round).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn every_line_that_may_have_a_gap_is_doubtful_and_no_other() {
        // A line of bytes that are taken one after the other; the device shows a loss when `asked` is called.
        let mut losses = Losses::NONE;
        let mut line = |bytes: usize, seen: Option<usize>| {
            (0..bytes).for_each(|_| losses.taken());
            seen.iter().for_each(|kept| losses.seen(*kept));
            losses.asked()
        };
        assert!(!line(20, None));
        assert!(line(5, Some(0)), "the line that is asked about");
        // 16 bytes were in the FIFO, the gap comes behind them, and the byte after it is the 17th.
        assert!(line(10, None) && line(6, None) && line(1, None));
        assert!(!line(1, None));
        assert!(line(1, Some(3)) && line(19, None) && line(9, None) && !line(9, None), "what was kept comes first");
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut kept = ReceiveQueue::new();
        for _ in 0..ReceiveQueue::CAPACITY {
            assert!(!kept.is_full());
            kept.push(7);
        }
        assert!(kept.is_full());
        kept.pop();
        assert!(!kept.is_full());
    }
}
