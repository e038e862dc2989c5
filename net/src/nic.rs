//! A network device: whole Ethernet frames in and out. The seam between drivers and the stack.
//!
//! A driver copies a frame once out of the memory that the device writes, and a frame that is to be sent once into it:
//! nothing else ever looks at that memory.

use core::fmt;

/// The bytes of an Ethernet header: two addresses and a type.
pub const HEADER_BYTES: usize = 14;

/// The largest MTU that is used.
pub const MTU_MAX: u16 = 9000;

/// The smallest MTU that IPv6 runs on (RFC 8200, 5).
pub const MTU_MIN: u16 = 1280;

/// The MTU of Ethernet, where a device names none.
pub const MTU_DEFAULT: u16 = 1500;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Returns whether a device can have it: it is not zero, and no group's.
    #[must_use]
    pub const fn is_of_a_device(&self) -> bool {
        let Self([first, second, third, fourth, fifth, sixth]) = *self;
        first & 1 == 0 && (first | second | third | fourth | fifth | sixth) != 0
    }
}

/// `52:54:00:75:6e:00`.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a device is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicFault {
    /// It used a buffer that it did not have, or more than there are.
    NotItsBuffer,
    /// It wrote more, or less, than its buffer can hold of a frame.
    Length {
        /// The length that it names, in bytes.
        bytes: u32,
    },
    /// It stopped, and asks for a reset.
    Stopped,
    /// Its registers are gone.
    Gone,
}

impl fmt::Display for NicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotItsBuffer => write!(f, "it used a buffer that it was not given"),
            Self::Length { bytes } => write!(f, "it names {bytes} bytes for a frame, which its buffer cannot hold"),
            Self::Stopped => write!(f, "it stopped, and asks for a reset"),
            Self::Gone => write!(f, "its registers are gone"),
        }
    }
}

impl core::error::Error for NicFault {}

/// A network device that its driver has set up.
///
/// A device that does what it must not is faulty for good: its driver takes it out of use, receives nothing from it, and
/// sends nothing by it. No method waits for the device.
pub trait Nic: fmt::Debug + Send {
    /// Returns its address.
    fn mac(&self) -> Mac;

    /// Returns the longest IP packet that fits its frames, in bytes: from [`MTU_MIN`] to [`MTU_MAX`].
    fn mtu(&self) -> u16;

    /// Asks the device whether it has a link, and whether it works. Reads registers: not for every round.
    fn look(&mut self) -> bool;

    /// Returns why the device is not used any more.
    fn fault(&self) -> Option<NicFault>;

    /// Copies the next received frame to the front of `into` and returns its length, from [`HEADER_BYTES`] to `into`'s
    /// length. Frames that do not fit are dropped, but no more than the device has buffers.
    fn receive(&mut self, into: &mut [u8]) -> Option<usize>;

    /// Returns how many received frames it has dropped because they are no frames, or too long.
    fn dropped(&self) -> u64;

    /// Returns whether there is room for a frame to send.
    fn has_room(&mut self) -> bool;

    /// Puts a frame of at most [`HEADER_BYTES`] and an MTU in line. Without room it is dropped.
    fn send(&mut self, frame: &[u8]);

    /// Tells the device what [`Nic::send`] has put in line.
    fn flush(&mut self);

    /// Called before a CPU halts: asks for an interrupt at the next frame; while there is no room, at the next room instead, as
    /// no frame is taken before. Returns false if that is there already.
    fn rest(&mut self) -> bool;

    /// Returns whether its interrupts wake a CPU. Otherwise it is looked at now and then.
    fn has_interrupt(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::Mac;

    #[test]
    fn an_address_reads_as_everyone_writes_it_and_none_is_zero_or_a_groups() {
        assert_eq!(Mac([0x52, 0x54, 0, 0x75, 0x6e, 0xa]).to_string(), "52:54:00:75:6e:0a");
        for (mac, expected) in [([0x52, 0x54, 0, 0, 0, 0], true), ([0, 0, 0, 0, 0, 1], true), ([0; 6], false)] {
            assert_eq!(Mac(mac).is_of_a_device(), expected, "{mac:x?}");
        }
        assert!(!Mac([0xff; 6]).is_of_a_device() && !Mac([1, 0, 0x5e, 0, 0, 1]).is_of_a_device());
    }
}
