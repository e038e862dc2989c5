//! Submission queue entries, and what completes them (NVMe Base 2.0, sections 3.3.3.1 and 3.3.3.2).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::COMMAND_BYTES;
use crate::status::Status;
use crate::units::{CommandId, NamespaceId};

/// A command as it stands in its capsule.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Command {
    /// What to do.
    pub(crate) opcode: u8,
    /// Bits 1:0 fuse it with another command; bits 7:6 (PSDT) are 01 where it has an SGL.
    pub(crate) flags: u8,
    cid: U16,
    /// The namespace; of a Fabrics command, byte 0 is its type.
    nsid: U32,
    dwords_2_to_5: [U32; 4],
    /// Where the data are.
    pub(crate) sgl: SglDescriptor,
    dwords_10_to_15: [U32; 6],
}
const _: () = assert!(size_of::<Command>() == COMMAND_BYTES);

/// SGL descriptor 1 (Base 2.0, section 4.1.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SglDescriptor {
    /// The offset in the capsule.
    pub(crate) address: U64,
    /// Bytes of data.
    pub(crate) length: U32,
    reserved: [u8; 3],
    /// Type (bits 7:4) and subtype.
    pub(crate) kind: u8,
}

impl SglDescriptor {
    /// A data block at an offset: in the capsule.
    pub(crate) const OFFSET: u8 = 0x01;
    /// A transport data block: the transport moves the data.
    pub(crate) const TRANSPORT: u8 = 0x5a;
}

/// The parts of a fused operation (Base 2.0, section 3.3.3.1, FUSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fuse {
    /// The command stands alone.
    None,
    /// The first of two.
    First,
    /// The second of two.
    Second,
    /// Not defined.
    Reserved,
}

impl Command {
    /// The host's name for it.
    #[must_use]
    pub(crate) fn id(&self) -> CommandId {
        CommandId(self.cid.get())
    }

    /// The namespace that it is about.
    #[must_use]
    pub(crate) fn namespace(&self) -> NamespaceId {
        NamespaceId(self.nsid.get())
    }

    /// The type of a Fabrics command (FCTYPE).
    #[must_use]
    pub(crate) fn fabrics_type(&self) -> u8 {
        self.nsid.to_bytes()[0]
    }

    /// Its dword of that number, from 10 to 15.
    ///
    /// # Panics
    /// If it is another one.
    #[must_use]
    pub(crate) fn dword(&self, number: usize) -> u32 {
        self.dwords_10_to_15[number - 10].get()
    }

    /// Two dwords, of which the lower one comes first.
    ///
    /// # Panics
    /// As [`Command::dword`].
    #[must_use]
    pub(crate) fn dwords(&self, number: usize) -> u64 {
        u64::from(self.dword(number + 1)) << 32 | u64::from(self.dword(number))
    }

    /// Whether it says that it has an SGL, as all commands over Fabrics must (PSDT).
    #[must_use]
    pub(crate) const fn has_sgl(&self) -> bool {
        self.flags >> 6 == 1
    }

    /// Its part in a fused operation.
    #[must_use]
    pub(crate) const fn fuse(&self) -> Fuse {
        match self.flags & 3 {
            0 => Fuse::None,
            1 => Fuse::First,
            2 => Fuse::Second,
            _ => Fuse::Reserved,
        }
    }
}

/// What a command's end tells the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Dwords 0 and 1: what they are depends on the command.
    pub(crate) result: u64,
    /// How it ended.
    pub(crate) status: Status,
}

impl Completion {
    /// It is done.
    pub(crate) const SUCCESS: Self = Self::of(Status::SUCCESS);

    /// It ended so, and there is no more to tell.
    #[must_use]
    pub(crate) const fn of(status: Status) -> Self {
        Self { result: 0, status }
    }

    /// It is done, and this came of it.
    #[must_use]
    pub(crate) const fn with(result: u64) -> Self {
        Self { result, status: Status::SUCCESS }
    }
}

impl From<Result<(), Status>> for Completion {
    fn from(result: Result<(), Status>) -> Self {
        result.map_or_else(Self::of, |()| Self::SUCCESS)
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawCompletion {
    /// Dwords 0 and 1.
    pub(crate) result: U64,
    /// How many commands of the queue were taken, modulo its size.
    pub(crate) sq_head: U16,
    /// Reserved over Fabrics.
    pub(crate) sq_id: U16,
    /// Which command this is the end of.
    pub(crate) cid: U16,
    /// The status, one bit to the left.
    pub(crate) status: U16,
}
const _: () = assert!(size_of::<RawCompletion>() == 16);

/// The data of a command, and which way they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// There are none.
    None,
    /// So many bytes to the controller.
    FromHost(u32),
    /// So many bytes to the host.
    ToHost(u32),
}
