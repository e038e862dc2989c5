//! What serves a block back end, free of hardware: the admin side of it.
//!
//! A person or a program sends lines; each line is one command, each command gets one reply:
//! - [`link`]: the byte stream below;
//! - [`error`]: how a command fails.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod link;
