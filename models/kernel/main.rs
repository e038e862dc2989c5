//! How the kernel's CPUs ask each other, under loom: no letter is lost, carried out twice or overtaken, and who has a CPU's
//! queues has them alone.
//!
//! `held.rs` and `mailbox.rs` are the kernel's own sources. [`sync`] has the atomics and locks that loom watches; a
//! [`stage::Stage`] does what the kernel's `station.rs`, `control.rs` and `mod.rs` do with them.
#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

extern crate alloc;

#[path = "../scenarios/loom.rs"]
#[allow(dead_code, unused_imports, reason = "btt's models use all of it")]
mod checker;
#[path = "../../kernel/src/node/export/held.rs"]
mod held;
mod letters;
#[path = "../../kernel/src/node/export/mailbox.rs"]
mod mailbox;
mod stage;
mod sync;
