//! DH-HMAC-CHAP: a host proves that it knows a secret, and a controller perhaps, too (NVMe Base 2.0, section 8.13).
//!
//! Challenge and response: the secret never crosses the wire, and a response is worth nothing for another challenge. With one
//! of RFC 7919's groups, what is on the wire is no help in trying secrets either. With the NULL group, which a host may
//! insist on, an eavesdropper can try them at leisure: they are to be random ones of full length, as
//! `nvme gen-dhchap-key` makes them.

mod dialogue;
mod group;
mod hash;
mod secret;

pub(crate) use dialogue::Dialogue;
pub use secret::{InvalidSecret, Secret, Secrets};

/// The most bytes of a message: Linux has room for as many.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 4096;
