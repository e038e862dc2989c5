//! The node on a host: firmware's tables and media in memory, threads for CPUs. For tests and for hostile inputs.
//!
//! | module | has |
//! |---|---|
//! | [`memory`], [`labels`] | persistent memory and label areas, which outlive the node |
//! | [`failing`] | pages that fail when they are loaded |
//! | [`nfit`] | firmware's tables, written structure by structure |
//! | [`line`](mod@line), [`exports`] | the other ends of serial lines; consumers |
//! | [`machine`] | the machine, made of these |
//! | `coroutine` | coroutines, as threads |
//! | [`booted`] | a node on it, and commands as a person types them |

pub mod booted;
mod coroutine;
pub mod exports;
pub mod failing;
pub mod labels;
pub mod line;
pub mod machine;
pub mod memory;
pub mod nfit;

pub use booted::{BASE, Booted, Dimm, MIB, boot, boot_one, boot_with, labelled, nfit_of, table_of};
pub use labels::LabelArea;
pub use line::{Line, Wire};
pub use machine::{FakeMachine, Hardware, Retained};
pub use memory::Memory;
