//! Block data windows: a DIMM's bytes behind registers and apertures (BLK apertures), as a namespace for the BTT.
//!
//! [`BlkRegion`] owns a DIMM's windows, [`Blk`] is one namespace behind them. Every access is a command to a window.
//!
//! | module | is |
//! |---|---|
//! | `namespace` | [`Blk`]: an access to a namespace, cut into commands |
//! | `region` | [`BlkRegion`]: a DIMM's windows, and what they reach |
//! | `windows` | the windows and their locks: commands of whole lines, changes of a part of a line |
//! | `window` | one window: the steps of a command |
//! | `places` | where registers and apertures lie, and their mapping |
//! | `mmio` | accesses to registers and apertures, an instruction each |
//!
//! # Windows and lanes
//! A CPU uses the window of its number, modulo windows. A BTT here has no more lanes than there are windows, and a CPU's
//! lane is its number modulo lanes, so a lane has a window to itself. Reads take no lane, so each window has a lock of its own,
//! held for one command: namespaces of one region share the windows, and opening and checking need no lane.
//! Locks: lane → map stripe → line → window. A CPU holds one window at most, and one line.
//!
//! # What a power cut leaves
//! Each store is durable when it returns: it is a window write of whole lines, fenced, flushed by the DIMM's hint, with
//! its status checked, so `Medium::start_write_back` and `Medium::fence` have nothing left to do. A cut within
//! a window write leaves any subset of its 8-byte pieces; a window promises no order among them
//! (`Medium::keeps_line_order` is false).
//! - A word of metadata (`Medium::store_u32`, `Medium::store_u64`) lies in one piece. Its line is read, changed
//!   and written as a whole, and the other seven pieces are written as they were: the cut leaves the old word or the
//!   new one, and nothing else changes. The lock of the line keeps two CPUs from undoing each other's words.
//! - So the two halves of a flog record are two window writes, and the first is durable before the second begins. No
//!   commit half is ever on the medium without its body.
//! - Lines are lines of the DIMM: a namespace's extents begin at multiples of 64 in DIMM addresses, or it is refused, so
//!   metadata that are aligned in the namespace are aligned there, too. The BTT refuses to write others.
//!
//! This is stricter than what [`btt::media`] lets a window do, where any subset of everything since the last fence may
//! land. Each state that a cut leaves here is one of those: a cut between two stores leaves all of the earlier ones and
//! none of the later ones; a cut within one leaves a subset of its pieces. So what is explored for media without order
//! in a line holds here; `tests/tests/blk.rs` shows that the driver's stores come in that medium's order.

mod mmio;
mod namespace;
mod places;
mod region;
mod window;
mod windows;

pub use namespace::Blk;
pub use places::WindowError;
pub use region::{BlkRegion, ExtentError};
pub use windows::ThisCpu;
