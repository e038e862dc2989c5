//! What an appliance is told to be: keys and their values, where each is from, and the bytes in which a medium keeps them.
//!
//! | module | is |
//! |---|---|
//! | [`keys`] | the keys: what they mean, their defaults, the form of their values |
//! | [`settings`] | keys with values, as lines `KEY=VALUE` |
//! | [`layers`] | the settings that are in force: set since boot, on the command line, stored, by default |
//! | [`hosts`] | the items of `nvme.allow` |
//! | [`record`] | settings as a medium has them: signature, sequence, checksum, lines |
//!
//! Nothing here knows where a medium has its copies, or what a value does.

pub mod hosts;
pub mod keys;
pub mod layers;
pub mod record;
pub mod settings;

pub use keys::Key;
pub use layers::{Layers, Source};
pub use settings::Settings;
