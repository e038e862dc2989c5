//! An NVMe/TCP target, free of sockets, clocks and hardware: it serves disks to unmodified initiators over byte streams that it
//! is fed.
//!
//! The specifications are NVM Express Base 2.0, NVM Command Set 1.0 and NVMe/TCP Transport 1.0. Their words are kept: the
//! *host* is the peer, and the *controller* is what it talks to.
//!
//! The owner makes a [`Target`], exports [`Namespace`]s and allows hosts, makes a [`Connection`] for each TCP connection
//! that it accepts, and moves bytes between that and the socket. Its disks implement [`Storage`].
//!
//! | module | is |
//! |---|---|
//! | [`limits`] | all bounds in one place |
//! | `units`, `name`, `status`, `random` | numbers, names, statuses, random bytes |
//! | `storage`, `namespace` | the seam below, and a disk as hosts see it |
//! | `wire` | PDUs, digests, and how a stream is taken apart |
//! | `command` | commands and completions |
//! | `queue` | the commands of a connection that are in flight |
//! | `subsystem`, `controller`, `hosts`, `target` | what connections share |
//! | `auth` | a host proves that it knows a secret |
//! | `fabrics`, `admin`, `io` | the commands |
//! | `connection` | joins them |
//!
//! A connection's turn, with bytes that came and bytes that are to go:
//!
//! ```
//! use nvmf::{Connection, Millis, Storage, Target};
//!
//! fn turn(
//!     connection: &mut Connection,
//!     target: &Target,
//!     disks: &mut impl Storage,
//!     now: Millis,
//!     (input, output): (&mut Vec<u8>, &mut Vec<u8>),
//! ) -> bool {
//!     let taken = connection.input(target, input, now);
//!     input.drain(..taken);
//!     let more = connection.step(target, disks, now);
//!     let mut room = [0; 4096];
//!     let made = connection.output(disks, &mut room);
//!     output.extend_from_slice(&room[..made]);
//!     // Again at once; else when bytes come, when there is room again, or after some tenths of a second.
//!     more || connection.has_output()
//! }
//! ```
//!
//! # Invariants
//! 1. A command ends well only when what it wrote is durable.
//! 2. What a connection has not done when it closes is never done: a host sends it again by another one, and a late write
//!    would overtake newer ones.
//! 3. Bytes from a host cause no panic, no unbounded loop, and no memory beyond [`limits`].
//! 4. Nothing reaches the storage but whole sectors of a namespace, for a host that may use it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admin;
mod auth;
mod command;
mod connection;
mod controller;
mod fabrics;
mod hosts;
mod io;
pub mod limits;
mod name;
mod namespace;
mod queue;
mod random;
mod status;
mod storage;
mod subsystem;
mod target;
mod units;
mod wire;

pub use auth::{InvalidSecret, Secret, Secrets};
pub use connection::Connection;
pub use hosts::Allowed;
pub use name::{DISCOVERY_NQN, Host, InvalidNqn, NQN_BYTES_MAX, NQN_FIELD_BYTES, Nqn};
pub use namespace::{Namespace, SectorBytes};
pub use random::Random;
pub use status::Status;
pub use storage::{Storage, StorageError, Write};
pub use target::{Endpoint, NameTaken, Refusal, Refusals, Settings, Target};
pub use units::{CommandId, ControllerId, DiskId, Lba, Millis, NamespaceId, QueueId};
pub use wire::Violation;
