//! The model beside an unmodified QEMU: the other end of its `x-pci-proxy-dev`, a PCI device whose configuration space and
//! whose BAR are a process of ours. QEMU sends each access and waits for the reply.
//!
//! A message is a header of 16 bytes (command, padding, payload's length) and a payload. File descriptors that come with
//! some of them are not taken, so the kernel closes them.
//!
//! The device has one BAR of 1 MiB, which must be where the DIMM is by the tables. Firmware puts it there every
//! time for one command line, but that is no promise: another address is an error, with what to do.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::model::Model;

/// The device's BAR.
pub const BAR_BYTES: u64 = 1 << 20;

/// Where SeaBIOS puts the BAR in the machine of `run-qemu.sh`.
pub const BAR_BASE: u64 = 0xfea0_0000;

mod command {
    pub(super) const SYNC_SYSMEM: u32 = 0;
    pub(super) const REPLY: u32 = 1;
    pub(super) const CONFIG_WRITE: u32 = 2;
    pub(super) const CONFIG_READ: u32 = 3;
    pub(super) const BAR_WRITE: u32 = 4;
    pub(super) const BAR_READ: u32 = 5;
    pub(super) const SET_IRQ: u32 = 6;
    pub(super) const RESET: u32 = 7;
}

/// Why the device cannot go on.
#[derive(Debug)]
pub enum ProxyError {
    /// QEMU's end.
    Io(io::Error),
    /// A message that is none.
    Message(u32),
    /// The BAR is not where the tables place it.
    Elsewhere {
        /// Where it is.
        found: u64,
        /// Where it should be.
        expected: u64,
    },
}

impl From<io::Error> for ProxyError {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(why) => write!(f, "the socket: {why}"),
            Self::Message(command) => write!(f, "a message {command} that this version does not know"),
            Self::Elsewhere { found, expected } => {
                write!(f, "firmware put the BAR at {found:#x}, but the tables say {expected:#x}: make them say so, too")
            }
        }
    }
}

impl std::error::Error for ProxyError {}

/// The DIMM, shared with the test that looks at it while QEMU uses it.
#[derive(Clone, Debug)]
pub struct Served(Arc<Mutex<Model>>);

impl Served {
    /// A DIMM to be served.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self(Arc::new(Mutex::new(model)))
    }

    /// The DIMM.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves QEMU until it ends, in whatever way: it may be killed while it sends, or waits for a reply.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn serve(&self, qemu: UnixStream) -> Result<(), ProxyError> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let Err(why) = self.answer_all(qemu);
        match why {
            ProxyError::Io(why) if matches!(why.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => Ok(()),
            why => Err(why),
        }
    }

    fn answer_all(&self, mut qemu: UnixStream) -> Result<Infallible, ProxyError> {
        let base = self.model().layout().control_base / BAR_BYTES * BAR_BYTES;
        let mut config = Config::new();
        let mut payload = [0; 256];
        loop {
            let mut header = [0; 16];
            qemu.read_exact(&mut header)?;
            let kind = word(&header, 0);
            let bytes = word(&header, 8) as usize;
            let payload = payload.get_mut(..bytes).ok_or(ProxyError::Message(kind))?;
            qemu.read_exact(payload)?;
            let answer = match kind {
                command::SYNC_SYSMEM | command::SET_IRQ => continue,
                command::CONFIG_WRITE if bytes >= 12 => {
                    config.write(word(payload, 0), word(payload, 4), word(payload, 8));
                    0
                }
                command::CONFIG_READ if bytes >= 12 => u64::from(config.read(word(payload, 0), word(payload, 8))),
                command::BAR_WRITE | command::BAR_READ if bytes >= 20 => {
                    let (address, value) = (double(payload, 0), double(payload, 8));
                    if config.bar() != base {
                        return Err(ProxyError::Elsewhere { found: config.bar(), expected: base });
                    }
                    let size = word(payload, 16) as usize;
                    let mut model = self.model();
                    if kind == command::BAR_READ {
                        model.load(address, size)
                    } else {
                        model.store(address, size, value);
                        0
                    }
                }
                command::RESET => {
                    self.model().reset();
                    0
                }
                other => return Err(ProxyError::Message(other)),
            };
            let mut reply = [0; 24];
            reply[..4].copy_from_slice(&command::REPLY.to_le_bytes());
            reply[8..16].copy_from_slice(&8_u64.to_le_bytes());
            reply[16..].copy_from_slice(&answer.to_le_bytes());
            qemu.write_all(&reply)?;
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn double(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

/// The PCI configuration space: a memory controller with one BAR.
struct Config([u8; 256]);

/// The place of the first base address register.
const BAR: usize = 0x10;

impl Config {
    fn new() -> Self {
        let mut bytes = [0; 256];
        // Vendor and device: Red Hat's, in the range for experiments. Class 05 80: some other memory controller.
        bytes[..4].copy_from_slice(&[0x36, 0x1b, 0xf0, 0x10]);
        bytes[8..12].copy_from_slice(&[1, 0, 0x80, 5]);
        Self(bytes)
    }

    fn read(&self, at: u32, bytes: u32) -> u32 {
        let mut value = [0; 4];
        for (place, byte) in (at as usize..).zip(value.iter_mut().take(bytes as usize)) {
            *byte = self.0.get(place).copied().unwrap_or(0);
        }
        u32::from_le_bytes(value)
    }

    fn write(&mut self, at: u32, value: u32, bytes: u32) {
        let at = at as usize;
        // The command register, the interrupt line, and the BAR, whose low bits do not change.
        let writable = |place: usize| matches!(place, 4 | 5 | 0x3c) || (BAR..BAR + 4).contains(&place);
        for (place, byte) in (at..).zip(value.to_le_bytes().into_iter().take(bytes as usize)) {
            if writable(place) {
                self.0[place] = byte;
            }
        }
        let bar = self.read(0x10, 4) & !(u32::try_from(BAR_BYTES - 1).unwrap_or(u32::MAX));
        self.0[BAR..BAR + 4].copy_from_slice(&bar.to_le_bytes());
    }

    fn bar(&self) -> u64 {
        u64::from(self.read(0x10, 4))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn a_machine_that_is_killed_while_it_is_answered_has_ended_and_nothing_is_wrong() {
        let (ours, mut qemu) = UnixStream::pair().expect("a socket is left");
        let dimm = Served::new(Model::blank(Layout::plain(1, 0xfe90_0000, 1, 1 << 20)));
        let serving = thread::spawn(move || dimm.serve(ours));
        let mut message = [0; 28];
        message[..4].copy_from_slice(&command::CONFIG_READ.to_le_bytes());
        message[8] = 12;
        qemu.write_all(&message).expect("it is there");
        // It has one byte of the reply when it ends: the rest is lost, and its peer gets an error.
        qemu.read_exact(&mut [0; 1]).expect("an answer");
        drop(qemu);
        serving.join().expect("no panic").expect("an end");
    }
}
