//! The transport's bytes (NVM Express NVMe/TCP Transport Specification 1.0): PDUs, their digests, and how a stream of bytes is
//! taken apart.

mod digest;
mod pdu;
mod receiver;

pub(crate) use digest::Digest;
pub use pdu::Violation;
pub(crate) use pdu::{
    ALIGNMENT_MAX, CommonHeader, DATA_HEADER_BYTES, DataHeader, Digests, FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST,
    FLAG_LAST, FLAG_SUCCESS, FatalError, INIT_BYTES, InitResponse, PduType, R2t, Response, TERMINATION_BYTES,
    Termination,
};
pub(crate) use receiver::{Event, Pdu, Receiver};
