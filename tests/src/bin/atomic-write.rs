//! Writes to a block device by direct I/O and with `RWF_ATOMIC`: all of it or nothing, whatever happens. It runs in a guest,
//! since Linux has this from 6.11 on.
//!
//! `atomic-write DEVICE OFFSET BYTES FILL` prints in one line the least and the most bytes that `statx` says can be written so,
//! and how many were, or the number of the error.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Parser;
use nix::fcntl::OFlag;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::{ReadWriteFlags, pwritev2};
use tests::linux::direct::Buffer;

/// `RWF_ATOMIC` (include/uapi/linux/fs.h).
const ATOMIC: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x40);

/// `STATX_WRITE_ATOMIC` (include/uapi/linux/stat.h).
const WRITE_ATOMIC: StatxFlags = StatxFlags::from_bits_retain(0x1_0000);

/// Writes to a block device, all of it or nothing.
#[derive(Debug, Parser)]
struct Options {
    /// The device
    device: PathBuf,
    /// Where, in bytes
    offset: u64,
    /// How many
    bytes: usize,
    /// What each of them is
    fill: u8,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { device, offset, bytes, fill } = Options::parse();
    let told = statx(CWD, &device, AtFlags::empty(), WRITE_ATOMIC)?;
    let device = OpenOptions::new().write(true).custom_flags(OFlag::O_DIRECT.bits()).open(device)?;
    let mut buffer = Buffer::new(bytes);
    buffer.bytes().fill(fill);
    let outcome = match pwritev2(&device, &[IoSlice::new(buffer.bytes())], offset, ATOMIC) {
        Ok(bytes) => format!("wrote {bytes}"),
        Err(error) => format!("error {}", error.raw_os_error()),
    };
    println!("{} {} {outcome}", told.stx_atomic_write_unit_min, told.stx_atomic_write_unit_max);
    Ok(())
}
