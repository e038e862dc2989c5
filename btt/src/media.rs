//! The medium below a BTT: one namespace of byte-addressable persistent memory.
//!
//! [`Medium`] is all that this crate knows of hardware. It keeps "start to write
//! back" apart from "fence", so that one fence can serve a whole run of sectors. (Linux calls its counterpart `rw_bytes`.)
//!
//! # What may be on the medium after a power cut
//! Until a [`Medium::fence`] that covers them has returned, stores persist like this:
//! - aligned stores ([`Medium::store_u32`], [`Medium::store_u64`]) to one 64-byte line: a prefix of them, in
//!   program order, if [`Medium::keeps_line_order`] says so; any subset otherwise;
//! - stores to different lines, and the streaming stores of [`Medium::write`]: any subset of aligned 8-byte pieces.
//!
//! A store may persist before any fence, too: "not flushed" never means "not persisted". A fence covers what the CPU
//! that executes it has stored or started to write back; it does not cover other CPUs' stores.

use core::fmt;

/// The unit in which caches write back: 64 bytes.
pub const LINE_BYTES: u64 = 64;

/// A place in a namespace: bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsOffset(pub u64);

impl NsOffset {
    /// The place `bytes` further on.
    ///
    /// # Panics
    /// If the sum leaves 64 bits. Offsets are checked against the namespace's length when an arena is opened.
    #[inline]
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        match self.0.checked_add(bytes) {
            Some(sum) => Self(sum),
            None => panic!("a namespace offset left 64 bits"),
        }
    }
}

impl fmt::Display for NsOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why the medium did not do as asked, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaError {
    /// The access would leave the namespace. Nothing was stored.
    OutOfRange {
        /// Where it began.
        at: NsOffset,
        /// How many bytes it wanted.
        bytes: u64,
    },
    /// A 4- or 8-byte access that is not aligned to its size. Nothing was stored.
    Misaligned {
        /// Where it was wanted.
        at: NsOffset,
    },
    /// The medium lost what stood here (an uncorrectable error): there are no bytes to return.
    Poisoned {
        /// The first lost byte that is known.
        at: NsOffset,
    },
    /// The medium may not be written (an unarmed DIMM, a read-only namespace). Nothing was stored.
    ReadOnly,
    /// The caller's own memory, from which or to which a sector is copied, could not be reached. The medium is well.
    CallersMemory,
    /// The device in front of the medium refused or failed the access.
    Device {
        /// Where the access began.
        at: NsOffset,
        /// The device's own status word.
        status: u32,
    },
    /// A fence failed for good: what was stored since the fence before it may be lost, although it reads back, and no
    /// later fence changes that.
    NotDurable(FenceFault),
}

/// Why the device that makes stores durable did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceFault {
    /// It answered that it could not.
    Refused {
        /// Its own status word.
        status: u32,
    },
    /// It has stopped, and wants to be reset.
    Stopped,
    /// It did not answer.
    Silent {
        /// For how many seconds it was waited for.
        seconds: u32,
    },
    /// Its answer makes no sense.
    Nonsense,
}

impl fmt::Display for FenceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status } => write!(f, "it answered {status:#x}"),
            Self::Stopped => write!(f, "it has stopped, and wants a reset"),
            Self::Silent { seconds } => write!(f, "no answer for {seconds} s"),
            Self::Nonsense => write!(f, "its answer makes no sense"),
        }
    }
}

impl fmt::Display for MediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at, bytes } => write!(f, "{bytes} bytes at {at} leave the namespace"),
            Self::Misaligned { at } => write!(f, "the access at {at} is not aligned"),
            Self::Poisoned { at } => write!(f, "media error at {at}"),
            Self::ReadOnly => write!(f, "the medium is read-only"),
            Self::CallersMemory => write!(f, "the caller's memory is gone"),
            Self::Device { at, status } => write!(f, "the device failed at {at}, status {status:#x}"),
            Self::NotDurable(why) => write!(f, "the device failed to make stores durable: {why}"),
        }
    }
}

impl core::error::Error for MediaError {}

/// A namespace of persistent memory. The module documentation states what a power cut may leave.
///
/// # Rules for implementers
/// 1. Every access is checked against [`Medium::len_bytes`]; one that would leave it stores nothing.
/// 2. [`Medium::load_u32`], [`Medium::load_u64`] are atomic with acquire order, [`Medium::store_u32`],
///    [`Medium::store_u64`] atomic with release order.
/// 3. [`Medium::read`] and [`Medium::write`] may race with each other on one range; the bytes are then any mix,
///    but nothing else goes wrong (the BTT throws such bytes away).
/// 4. [`Medium::read`] and the loads happen in program order.
pub trait Medium {
    /// The namespace's length in bytes.
    fn len_bytes(&self) -> u64;

    /// Whether stores are refused with [`MediaError::ReadOnly`].
    fn read_only(&self) -> bool;

    /// Whether aligned stores to one 64-byte line persist in program order: true of mapped memory, false of a block
    /// data window.
    fn keeps_line_order(&self) -> bool;

    /// Copies bytes out of the namespace.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`], [`MediaError::Poisoned`], [`MediaError::Device`].
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError>;

    /// Copies bytes into the namespace by streaming stores: durable after the next fence on this CPU, with no
    /// write-back to start.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`], [`MediaError::ReadOnly`], [`MediaError::Device`]; [`MediaError::Poisoned`] where a part
    /// of a lost line would stay as it is, and take with it what is stored into the rest.
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError>;

    /// Loads an aligned little-endian word, atomically.
    ///
    /// # Errors
    /// As [`Medium::read`], and [`MediaError::Misaligned`].
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError>;

    /// Loads an aligned little-endian double word, atomically.
    ///
    /// # Errors
    /// As [`Medium::read`], and [`MediaError::Misaligned`].
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError>;

    /// Stores an aligned little-endian word, atomically, through the cache. Durable after
    /// [`Medium::start_write_back`] of it and then a fence, both on one CPU.
    ///
    /// # Errors
    /// As [`Medium::write`], and [`MediaError::Misaligned`]. A word is always a part of a line.
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError>;

    /// Stores an aligned little-endian double word, as [`Medium::store_u32`] does a word.
    ///
    /// # Errors
    /// As [`Medium::write`], and [`MediaError::Misaligned`].
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError>;

    /// Stores two double words that follow one another in a line, as [`Medium::store_u64`] does each: the second one after
    /// the first.
    ///
    /// # Errors
    /// As [`Medium::store_u64`]. Where the first is stored and the second is not, it stays.
    fn store_pair(&self, at: NsOffset, [first, second]: [u64; 2]) -> Result<(), MediaError> {
        self.store_u64(at, first)?;
        self.store_u64(at.plus(8), second)
    }

    /// Starts to write back the cache lines that hold `bytes` bytes from `at` on. The next fence on this CPU waits
    /// for them, whichever CPU stored to them.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`], [`MediaError::Device`].
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError>;

    /// Forgets which of these bytes were found lost, so that the next read looks at the medium again. The report of a
    /// loss can come late, by another CPU's read or by the hardware: the bytes may have been written in between. The
    /// caller lets nothing write to them during the call. A medium that keeps no list of lost lines does nothing. A
    /// medium on top of another one passes the call on.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`].
    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError>;

    /// Hints that the line that holds `at` will be loaded and then stored to: it may come into this CPU's cache meanwhile, and
    /// from another one's in one move instead of two. It changes nothing, and a medium without such lines ignores it.
    fn will_store(&self, _at: NsOffset) {}

    /// Orders stores: another CPU that reads a byte of what this CPU stores or streams after it, and then executes an
    /// acquire fence, sees all that this CPU stored before, to the medium or to memory. A release fence, for streaming
    /// stores too. It makes nothing durable.
    ///
    /// Where [`Medium::write`] makes ordinary stores, [`core::sync::atomic::fence`] with [`Ordering::Release`] is that. A
    /// medium on top of another one passes it on.
    ///
    /// [`Ordering::Release`]: core::sync::atomic::Ordering::Release
    fn order_stores(&self);

    /// Waits until all that this CPU streamed or started to write back is durable.
    ///
    /// # Errors
    /// [`MediaError::Device`], [`MediaError::NotDurable`], where the medium reports only now that something was lost.
    /// After [`MediaError::Device`] a fence may be tried again.
    fn fence(&self) -> Result<(), MediaError>;
}

/// A borrowed namespace is one, too.
impl<M: Medium + ?Sized> Medium for &M {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }
    fn read_only(&self) -> bool {
        (**self).read_only()
    }
    fn keeps_line_order(&self) -> bool {
        (**self).keeps_line_order()
    }
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        (**self).read(at, into)
    }
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        (**self).write(at, from)
    }
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        (**self).load_u32(at)
    }
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        (**self).load_u64(at)
    }
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        (**self).store_u32(at, value)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        (**self).store_u64(at, value)
    }
    fn store_pair(&self, at: NsOffset, pair: [u64; 2]) -> Result<(), MediaError> {
        (**self).store_pair(at, pair)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        (**self).start_write_back(at, bytes)
    }
    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        (**self).look_again(at, bytes)
    }
    fn will_store(&self, at: NsOffset) {
        (**self).will_store(at);
    }
    fn order_stores(&self) {
        (**self).order_stores();
    }
    fn fence(&self) -> Result<(), MediaError> {
        (**self).fence()
    }
}

/// Where the data of a run of sectors come from.
///
/// A run's data move once, from here to the medium: a source that knows its medium copies straight into it.
pub trait SectorSource<M: ?Sized> {
    /// Streams sector `index` of the run (0 is the first) to `at`: whole external sectors, metadata bytes last.
    ///
    /// # Errors
    /// The medium's error.
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError>;
}

/// Where the data of a run of sectors go to.
pub trait SectorSink<M: ?Sized> {
    /// Copies sector `index` of the run from `at`: whole external sectors, metadata bytes last. It may be called again
    /// for a sector: the last copy counts, and those before it may be of anything.
    ///
    /// # Errors
    /// The medium's error.
    fn load(&mut self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError>;

    /// Sector `index` of the run reads as zeroes (a TRIM entry in the map), whatever was copied before.
    fn zero(&mut self, index: usize);
}
