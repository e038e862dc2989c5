//! The control protocol between the appliance and the bridge, over the appliance's second UART.
//!
//! Only control goes this way: which disks there are, where a consumer's queues lie, when to start and stop. Requests
//! and data go through the consumer's memory, which the appliance sees as BAR2 of an ivshmem device; an *offset* below
//! is always one into that BAR2, which is one into the consumer's RAM file.
//!
//! # Frames
//! A frame is `00`, COBS of (payload, CRC-32 of the payload as u32), `00`. COBS leaves no zero byte in it, so a receiver
//! that lost bytes, or heard a firmware's chatter, is in step again at the next `00`; a frame that does not decode or
//! whose checksum is wrong is dropped. The checksum is CRC-32/ISO-HDLC (zlib's). It and the sequence are little-endian.
//!
//! | payload | bytes | |
//! |---|---|---|
//! | 0 | version | [`VERSION`]; another one is not understood |
//! | 1 | sender | 0 for the bridge, 1 for the appliance |
//! | 2 | sequence, u16 | a request's number; an answer repeats it; 0 in a report that answers no request |
//! | 4 | message | at most [`PAYLOAD_MAX`] bytes together with the four above |
//!
//! The header of four bytes is the same in every version, so that a request whose kind is not known is still answered,
//! by its number. The message is an enum in [postcard's format](https://postcard.jamesmunns.com/wire-format): its kind,
//! then the fields in the order of the tables. A u8 is a byte; u16, u32 and u64, kinds and lengths are varints: seven
//! bits a byte, the lowest first, and bit 7 set where another byte follows. `call` is 0, or 1 with peer u16 and vector
//! u16. `text` is UTF-8, and it and `bytes` and `list` begin with their length. A message that is longer or shorter than
//! its kind requires, or has a list beyond the limit in the table, is not understood.
//!
//! # Bridge to appliance: [`Request`]
//! | kind | name | fields | answer |
//! |---|---|---|---|
//! | 0 | Hello | session u64 | Hello, then a Disk each |
//! | 1 | Ping | lease_ms u32, boot u64 | Done; an unasked Hello if `boot` is not this run |
//! | 2 | Attach | export u16, memory u16, features u64, disk u8, list (at most 8) of (gpa u64, bytes u64, offset u64) | Done |
//! | 3 | Detach | export u16 | Done |
//! | 4 | Start | export u16, queue u16, size u16, base u16, desc u64, avail u64, used u64, call, kick_vector u16 | Done |
//! | 5 | Stop | export u16, queue u16 | Stopped, or Done with why not |
//! | 6 | SetCall | export u16, queue u16, call | Done |
//! | 7 | WriteConfig | export u16, at u8, bytes (at most 16) | Done |
//!
//! # Appliance to bridge: [`Report`]
//! | kind | name | fields | when |
//! |---|---|---|---|
//! | 0 | Hello | boot u64, disks u16 | as an answer, and unasked (number 0, no disks) once a second while there is no lease |
//! | 1 | Disk | disk u8, queues u16, queue_size u16, sector_size u32, capacity u64, features u64, serial 20 bytes, name text (at most 32), configuration bytes (at most 96) | after Hello, and whenever it changed |
//! | 2 | DiskGone | disk u8 | it was withdrawn |
//! | 3 | Done | outcome u8 ([`Outcome`]) | an answer |
//! | 4 | Stopped | base u16 | the answer to Stop |
//! | 5 | Broken | export u16, queue u16, used u16, reason text (at most 96) | the device needs a reset |
//!
//! # Rules
//! 1. One request at a time, and a Ping beside it: the bridge sends the next one when the answer is there. A request
//!    whose answer does not come within [`ANSWER_MS`] is sent again with its number. All of them may be: a repeated
//!    Attach, Start, Detach or SetCall changes nothing, the answer to a repeated Stop is the same base. An answer whose
//!    number is that of no pending request is late: it counts for nothing. While the appliance carries a request out, it
//!    takes Hello and Ping in, and nothing else.
//! 2. **Greeting.** The bridge is silent until it hears the appliance's unasked Hello. Then it sends Hello until it
//!    is answered, and again when a Disk is missing. `session` is a number that it makes when it starts; at a new one the
//!    appliance detaches everything, else nothing. `boot` is one that the appliance makes when it starts; when it
//!    changes, all that was attached is gone, and the bridge attaches it again with `base` = used.idx as it stands in the
//!    ring. Completion is in order, so used.idx is the whole truth about what was served. [`dialogue`] has both halves.
//! 3. **Lease.** The appliance touches a consumer's memory only until `lease_ms` after it took in the last Ping. When a
//!    lease has run out, queues rest where they are; the next Ping lets them go on. A bridge that has not had the answer
//!    to a Ping for longer than its bound must end the appliance before it serves the queues itself.
//! 4. **Memory.** `memory` is the IVPosition (BAR0, offset 8) of the ivshmem device whose BAR2 is the consumer's RAM
//!    file: the own id that the bridge's ivshmem server gave to it. The bridge gives each RAM file another one. The
//!    ranges of a table must not overlap in guest-physical addresses and must lie within BAR2.
//! 5. **Exports.** `export` is one front end: a disk, a consumer's memory and up to `queues` queues. Attach is refused
//!    with [`Outcome::Busy`] while a queue of it runs (unless it repeats what holds). Two exports may share a memory, and
//!    a disk. `features` are the ones that the driver accepted, of those that Disk offered.
//! 6. **Queues.** A queue runs from Start to Stop; vhost's "enable 0" is a Stop, its "enable 1" a Start. A queue that is
//!    never started (SeaBIOS sets up queue 0 only) is never read. Stop takes effect between two steps of a request:
//!    what is not in the used ring is carried out from its beginning later, and `base` is where to go on. Start looks at
//!    the ring at once, without a kick.
//! 7. **Kicks.** ivshmem's own vectors can't be replaced, and vhost's kick descriptors change at every start: the bridge
//!    relays each of these into a permanent vector of the memory's device, or makes it a vector itself.
//!    `kick_vector` is the vector by which the kicks of a queue arrive: a hint to look at all queues with that vector.
//! 8. **Calls.** The appliance interrupts the driver by writing `peer << 16 | vector` to the device's DOORBELL (BAR0,
//!    offset 12). The bridge relays a peer that lasts, or makes a fresh one for every call descriptor. The consumer may
//!    change or mask it while the queue runs: SetCall. At each SetCall and Start with a call the appliance rings it once,
//!    as it can't know what the last one missed.
//! 9. **Broken.** A driver broke its ring: the queue stays stopped in the appliance until it is started anew, and Stop
//!    is still answered. The bridge passes it on (vhost's error descriptor). Other queues go on.
//! 10. **Configuration.** Disk carries the bytes of the device configuration space; the bridge hands them on as they
//!     are. When they change, or the disk goes, the bridge tells the front end (vhost's CONFIG_CHANGE_MSG); with DiskGone
//!     the capacity is 0 and requests are answered with IOERR. A Disk with the same number, or a new one, brings it back.
//!     If its serial or its sector size is another one, it is another disk under the old one's name: what is attached
//!     stays without a disk until it is attached anew, and the bridge does that for the next front end only.
//!
//! The types know no I/O and never wait: [`Request::encode`] and [`Report::encode`] make the bytes to send,
//! [`Deframer::push`] takes what arrives, byte by byte.

mod codec;
pub mod dialogue;
mod frame;
mod message;

pub use codec::DecodeError;
pub use frame::{Deframer, FrameError, PAYLOAD_MAX};
pub use message::{
    Attach, Call, DiskIndex, DiskOffer, ExportIndex, MemoryId, MemoryRegion, Outcome, QueueIndex, REGIONS_MAX, Report,
    Request, Start,
};

/// The version of this protocol.
pub const VERSION: u8 = 2;

/// How long a bridge waits for an answer before it asks again, in milliseconds.
pub const ANSWER_MS: u32 = 1000;

/// How often a bridge sends a Ping, in milliseconds.
pub const PING_MS: u32 = 1000;

/// The lease that a bridge gives with a Ping, in milliseconds.
pub const LEASE_MS: u32 = 5000;
