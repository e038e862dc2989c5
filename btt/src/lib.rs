//! Power-fail-atomic sectors on byte-addressable persistent media.
#![no_std]
#![forbid(unsafe_code)]
pub mod media;
