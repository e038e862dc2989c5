//! Hostile bytes: each target takes any bytes, as firmware, a medium, a peer or a person may send them, and panics if the
//! code that is meant for them panics, runs away, or breaks a promise.
//!
//! | module | one thing |
//! |---|---|
//! | [`targets`] | the targets, a file each |
//! | [`corpus`] | the inputs that are kept in the tree |
//! | [`mutate`] | seeded mutations of them |
//! | [`choices`] | bytes as decisions |
//! | [`machine`] | a small machine for the real node, in memory |
//!
//! The same targets run in three ways: `cargo test -p fuzz` (a bounded number of seeded mutations), the program `fuzz`
//! (the same without a bound), and the program `guided` (LLVM's libFuzzer, guided by coverage). `fuzz/run.sh` chooses.

pub mod choices;
pub mod corpus;
pub mod machine;
pub mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target, target};
