//! PDUs as they stand on the wire (NVMe/TCP 1.0, section 3.6.2).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::command::RawCompletion;

/// HDGSTF: a header digest follows the header.
pub(crate) const FLAG_HEADER_DIGEST: u8 = 1;
/// DDGSTF: a data digest follows the data.
pub(crate) const FLAG_DATA_DIGEST: u8 = 1 << 1;
/// LAST_PDU, of data: with it they are complete.
pub(crate) const FLAG_LAST: u8 = 1 << 2;
/// SUCCESS, of data to the host: no CapsuleResp follows, and the command is done.
pub(crate) const FLAG_SUCCESS: u8 = 1 << 3;

/// The PDUs (section 3.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PduType {
    InitRequest = 0x00,
    InitResponse = 0x01,
    TerminationByHost = 0x02,
    TerminationByController = 0x03,
    Command = 0x04,
    Response = 0x05,
    DataFromHost = 0x06,
    DataToHost = 0x07,
    ReadyToTransfer = 0x09,
}

impl PduType {
    /// Those that a host sends.
    pub(crate) const fn from_host(number: u8) -> Option<Self> {
        match number {
            0x00 => Some(Self::InitRequest),
            0x02 => Some(Self::TerminationByHost),
            0x04 => Some(Self::Command),
            0x06 => Some(Self::DataFromHost),
            _ => None,
        }
    }
}

/// What each PDU begins with (section 3.6.2.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CommonHeader {
    /// [`PduType`].
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Bytes of the header, without its digest.
    pub(crate) header_bytes: u8,
    /// Where the data begin; 0 without data.
    pub(crate) data_offset: u8,
    /// Bytes of all of it.
    pub(crate) pdu_bytes: U32,
}
/// The common header's size.
pub(crate) const COMMON_BYTES: usize = size_of::<CommonHeader>();
const _: () = assert!(COMMON_BYTES == 8);

impl CommonHeader {
    /// Of a PDU of a header alone.
    pub(crate) fn new(kind: PduType, header_bytes: u8) -> Self {
        let pdu_bytes = U32::new(header_bytes.into());
        Self { kind: kind as u8, flags: 0, header_bytes, data_offset: 0, pdu_bytes }
    }
}

/// ICReq (section 3.6.2.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct InitRequest {
    pub(crate) common: CommonHeader,
    /// PFV: 0.
    pub(crate) version: U16,
    /// HPDA: the host wants data aligned so, in dwords, less one.
    pub(crate) alignment: u8,
    /// Digests.
    pub(crate) digests: u8,
    /// MAXR2T, less one.
    pub(crate) ready_to_transfers: U32,
    pub(crate) reserved: [u8; 112],
}
/// The size of ICReq and ICResp, the longest headers.
pub(crate) const INIT_BYTES: usize = size_of::<InitRequest>();
const _: () = assert!(INIT_BYTES == 128);
/// The most that HPDA may be.
pub(crate) const ALIGNMENT_MAX: u8 = 31;

/// ICResp (section 3.6.2.3).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct InitResponse {
    pub(crate) common: CommonHeader,
    pub(crate) version: U16,
    pub(crate) alignment: u8,
    pub(crate) digests: u8,
    /// MAXH2CDATA.
    pub(crate) data_bytes_max: U32,
    pub(crate) reserved: [u8; 112],
}
const _: () = assert!(size_of::<InitResponse>() == INIT_BYTES);

/// The header of CapsuleCmd (section 3.6.2.6): the common one, and a command.
pub(crate) const COMMAND_HEADER_BYTES: usize = COMMON_BYTES + crate::limits::COMMAND_BYTES;

/// CapsuleResp (section 3.6.2.7).
#[derive(Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Response {
    pub(crate) common: CommonHeader,
    pub(crate) completion: RawCompletion,
}
const _: () = assert!(size_of::<Response>() == 24);

/// H2CData and C2HData (sections 3.6.2.8 and 3.6.2.9).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DataHeader {
    pub(crate) common: CommonHeader,
    /// CCCID.
    pub(crate) cid: U16,
    /// TTAG: of data from the host, what R2T had.
    pub(crate) tag: U16,
    /// DATAO.
    pub(crate) offset: U32,
    /// DATAL.
    pub(crate) bytes: U32,
    pub(crate) reserved: [u8; 4],
}
/// The size of a data header.
pub(crate) const DATA_HEADER_BYTES: usize = size_of::<DataHeader>();
const _: () = assert!(DATA_HEADER_BYTES == 24);

/// R2T (section 3.6.2.10).
#[derive(Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct R2t {
    pub(crate) common: CommonHeader,
    pub(crate) cid: U16,
    pub(crate) tag: U16,
    pub(crate) offset: U32,
    pub(crate) bytes: U32,
    pub(crate) reserved: [u8; 4],
}
const _: () = assert!(size_of::<R2t>() == 24);

/// The header of H2CTermReq and C2HTermReq (sections 3.6.2.4 and 3.6.2.5); what it is about follows as data.
#[derive(Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Termination {
    pub(crate) common: CommonHeader,
    pub(crate) error: U16,
    /// Unaligned by the specification.
    pub(crate) information: [u8; 4],
    pub(crate) reserved: [u8; 10],
}
/// The size of a termination's header.
pub(crate) const TERMINATION_BYTES: usize = size_of::<Termination>();
const _: () = assert!(TERMINATION_BYTES == 24);
/// The longest termination.
pub(crate) const TERMINATION_BYTES_MAX: u32 = 152;

/// The digests that host and controller agreed on (section 3.3.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

impl Digests {
    /// From the field of ICReq: bits 0 and 1. `None` if others are set.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        if bits > 3 { None } else { Some(Self { header: bits & 1 != 0, data: bits & 2 != 0 }) }
    }

    /// For the field of ICResp.
    pub(crate) const fn bits(self) -> u8 {
        self.header as u8 | (self.data as u8) << 1
    }

    /// Bytes behind a header.
    pub(crate) const fn header_bytes(self) -> usize {
        if self.header { super::digest::DIGEST_BYTES } else { 0 }
    }

    /// Bytes behind data.
    pub(crate) const fn data_bytes(self) -> usize {
        if self.data { super::digest::DIGEST_BYTES } else { 0 }
    }
}

/// FES: why a connection ends (section 3.6.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum FatalError {
    InvalidHeaderField = 1,
    PduSequence = 2,
    HeaderDigest = 3,
    DataOutOfRange = 4,
    LimitExceeded = 5,
    UnsupportedParameter = 6,
}

/// The host broke the transport's rules: the connection ends with C2HTermReq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// FES.
    pub(crate) error: FatalError,
    /// FEI: the offset of the field, or the digest that was received.
    pub(crate) information: u32,
}

impl Violation {
    /// A field of the header, by its offset, holds what it must not.
    pub(crate) const fn field(offset: u32) -> Self {
        Self { error: FatalError::InvalidHeaderField, information: offset }
    }

    /// Another fault.
    pub(crate) const fn of(error: FatalError) -> Self {
        Self { error, information: 0 }
    }

    /// Fatal Error Status, by its number (section 3.6.2.5).
    #[must_use]
    pub const fn fatal_error_status(&self) -> u16 {
        self.error as u16
    }
}
