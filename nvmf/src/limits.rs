//! What a target takes, in one place: what hosts are told, and what bounds memory and the length of a step.
//!
//! A connection's memory is at most its commands (some 30 KiB for a full queue), [`DATA_ROOM_BYTES`] and
//! [`CAPSULE_ROOM_BYTES`] for their data, and one sector that waits to be sent. How many connections there
//! are is [`crate::Settings::connections`].

/// Command Dword Transfer: the size of a submission queue entry (Base 2.0, section 3.3.3.1).
pub const COMMAND_BYTES: usize = 64;
/// The most data in a command capsule. What is written in 4 KiB pieces comes so, without a round trip.
pub const IN_CAPSULE_BYTES: u32 = 8192;
/// The most data of a command, as a power of two of 4 KiB pages (MDTS). It bounds Write Zeroes on Linux, too.
pub const TRANSFER_PAGES_LOG2: u8 = 5;
/// The same in bytes.
pub const TRANSFER_BYTES: u32 = 4096 << TRANSFER_PAGES_LOG2;
/// The most data in one H2CData PDU (MAXH2CDATA): all of a command's.
pub const H2C_DATA_BYTES: u32 = TRANSFER_BYTES;
/// CAP.MQES: the most entries of a queue, less one.
pub const QUEUE_ENTRIES_LESS_ONE: u16 = 127;
/// The most I/O queues of a controller.
pub const IO_QUEUES: u16 = 8;
/// How many Asynchronous Event Requests are held, less one (AERL).
pub const ASYNC_EVENTS_LESS_ONE: u8 = 3;
/// The most bytes of data of a connection's commands that came in their capsules.
pub const CAPSULE_ROOM_BYTES: usize = 256 << 10;
/// The most bytes of other data of a connection's commands: those that hosts are asked for, and those made for them.
pub const DATA_ROOM_BYTES: usize = 512 << 10;
/// The most sectors that the storage is asked for at a time: as many as a BTT commits together.
pub const STEP_SECTORS: usize = 32;
/// The most bytes that the storage is asked for at a time.
pub const STEP_BYTES: usize = 128 << 10;
/// How many other commands a step carries out at most.
pub const STEP_COMMANDS: usize = 8;
/// How long a connection may take to become a queue of a controller, in milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// How long a peer may take to read the last words of a connection, in milliseconds.
pub const LAST_WORDS_MS: u64 = 5_000;
/// The granularity of keep-alive times, in units of 100 ms (KAS).
pub const KEEP_ALIVE_GRANULARITY: u16 = 10;
/// What is added to a keep-alive time: the host's timer and the network are not exact, in milliseconds.
pub const KEEP_ALIVE_GRACE_MS: u64 = 1_000;
/// How long a host may be silent towards a discovery controller without a keep-alive time (Base 2.0, section 3.1.2.3), in
/// milliseconds.
pub const DISCOVERY_SILENCE_MS: u64 = 120_000;

const _: () = assert!(CAPSULE_ROOM_BYTES >= 4 * IN_CAPSULE_BYTES as usize);
const _: () = assert!(STEP_BYTES >= TRANSFER_BYTES as usize && DATA_ROOM_BYTES >= 2 * TRANSFER_BYTES as usize);
