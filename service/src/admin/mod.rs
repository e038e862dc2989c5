//! The admin commands: a line becomes a request, a request a reply, a reply text or a line of JSON.
//!
//! | module | is |
//! |---|---|
//! | [`commands`] | the commands by family: how they are written, what they do, what they reply |
//! | [`table`] | all families |
//! | [`appliance`] | what the commands need of the machine |
//! | [`line`](mod@line), [`words`], `parse` | a program's bytes to lines, a line to words, words to a request |
//! | [`grammar`], [`values`] | the words and options of a command, the values in them |
//! | [`request`] | a command, and what it makes of its arguments |
//! | [`job`] | long commands that go on beside each other |
//! | [`reply`] | replies, and how each mode writes them |
//! | [`list`], [`filter`] | the inventory in ndctl's JSON, and by name |
//! | [`object`] | requests with an id, and as JSON objects |
//! | [`fields`] | named values, for replies whose keys are data |
//! | [`prometheus`] | the counters for Prometheus |
//! | `figures`, `help`, `hexdump`, `pretty`, `schema`, `suggest`, `text` | texts |

pub mod appliance;
pub mod commands;
pub mod fields;
pub(crate) mod figures;
pub mod filter;
pub mod grammar;
mod help;
mod hexdump;
pub mod job;
pub mod line;
pub mod list;
pub mod object;
mod parse;
mod pretty;
pub mod prometheus;
pub mod reply;
pub mod request;
mod request_id;
mod schema;
pub(crate) mod suggest;
pub mod table;
mod text;
pub mod values;
pub mod words;

pub use appliance::{AnyAppliance, Appliance};
pub use parse::parse;
pub use reply::{Mode, Outcome};
pub use request_id::RequestId;
