//! Requests: the header, copied once (VirtIO 1.3, section 5.2.6).

use crate::memory::{SharedMemory, Span};

/// The header: type, reserved, sector.
pub(super) const HEADER_BYTES: u64 = 16;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// VIRTIO_BLK_T_IN: read.
    In,
    /// VIRTIO_BLK_T_OUT: write.
    Out,
    /// VIRTIO_BLK_T_FLUSH.
    Flush,
    /// VIRTIO_BLK_T_GET_ID.
    GetId,
    /// VIRTIO_BLK_T_DISCARD.
    Discard,
    /// VIRTIO_BLK_T_WRITE_ZEROES.
    WriteZeroes,
    /// Anything else, as it was asked for.
    Unknown(u32),
}

impl From<u32> for RequestKind {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::In,
            1 => Self::Out,
            4 => Self::Flush,
            8 => Self::GetId,
            11 => Self::Discard,
            13 => Self::WriteZeroes,
            other => Self::Unknown(other),
        }
    }
}

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The kind of a request.
    pub kind: RequestKind,
    /// Where, in units of 512 bytes.
    pub unit: u64,
}

impl Request {
    /// The header at the beginning of a buffer's readable bytes, however they are cut into descriptors (2.7.4.1: "The
    /// device MUST NOT make assumptions about the particular arrangement of descriptors"). `None` if it is not whole.
    pub fn parse<M: SharedMemory + ?Sized>(readable: Span<'_>, memory: &M) -> Option<Self> {
        let mut header = [0; 16];
        let copied = readable.window(memory, 0, HEADER_BYTES).read(0, &mut header).ok()?;
        let [k0, k1, k2, k3, _, _, _, _, unit @ ..] = header;
        (copied == header.len()).then(|| Self {
            kind: RequestKind::from(u32::from_le_bytes([k0, k1, k2, k3])),
            unit: u64::from_le_bytes(unit),
        })
    }
}
