//! The BTT's own lanes, readers, map locks and batches under a model checker: no schedule tears a sector, loses one, or
//! gives a block two owners.
//!
//! One list of models for two checkers: loom goes through every interleaving of a small model and every value that a
//! load may return under the C11 memory model; shuttle takes seeded random schedules of larger ones.
//!
//! What is checked all the time is in [`medium`]: two lanes never write one block, and no step of the write path comes before
//! what it relies on is durable; and in [`stage`]: a copy that a reader keeps is whole, and of what was committed. What is
//! checked at the end is there, too: what the medium shows, and
//! what it would show if the power went, is sound and holds every acknowledged sector.
#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

#[cfg(feature = "loom")]
extern crate btt_loom as btt;
#[cfg(feature = "shuttle")]
extern crate btt_shuttle as btt;

#[cfg(feature = "loom")]
#[path = "loom.rs"]
mod checker;
#[cfg(feature = "shuttle")]
#[path = "shuttle.rs"]
mod checker;
#[cfg(feature = "shuttle")]
mod long;
mod medium;
#[cfg(feature = "loom")]
mod small;
mod stage;
