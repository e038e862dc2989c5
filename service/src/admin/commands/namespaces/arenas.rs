//! The reply to `arenas`: a BTT's arenas, as Linux shows them under debugfs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::reply::{Object, Reply};

/// The arenas of a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arenas {
    /// The namespace.
    pub dev: String,
    /// Its arenas, in order.
    pub arenas: Vec<Arena>,
}

/// An arena, in the words of Linux's debugfs. Offsets are bytes from the start of the BTT's place in the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arena {
    /// Bytes.
    pub size: u64,
    /// The device's LBA at which it starts.
    pub external_lba_start: u64,
    /// Internal blocks.
    pub internal_nlba: u32,
    /// Bytes of an internal block.
    pub internal_lbasize: u32,
    /// Sectors it offers.
    pub external_nlba: u32,
    /// Bytes of a sector.
    pub external_lbasize: u32,
    /// Free blocks.
    pub nfree: u32,
    /// Version.
    pub version_major: u16,
    /// Version.
    pub version_minor: u16,
    /// Where the next arena starts, from this one's start; 0 for the last.
    pub nextoff: u64,
    /// Info block.
    pub infooff: u64,
    /// Data.
    pub dataoff: u64,
    /// Map.
    pub mapoff: u64,
    /// Flog.
    pub logoff: u64,
    /// The info block's copy.
    pub info2off: u64,
    /// The info block's flags; bit 0 is ERROR, bit 31 our --zero-entries.
    pub flags: u32,
    /// Why it takes no writes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// First used slot of a flog entry.
    pub log_index_0: u8,
    /// Second used slot.
    pub log_index_1: u8,
}

impl Reply for Arenas {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (index, arena) in self.arenas.iter().enumerate() {
            writeln!(out, "{} arena{index}", self.dev)?;
            let Arena { size, external_lba_start, nextoff, infooff, dataoff, mapoff, logoff, info2off, .. } = arena;
            // In debugfs's formats.
            for (name, value) in [("size", size), ("external_lba_start", external_lba_start)] {
                writeln!(out, "  {name:<20} {value:#018x}")?;
            }
            writeln!(out, "  {:<20} {:#010x}", "internal_nlba", arena.internal_nlba)?;
            writeln!(out, "  {:<20} {}", "internal_lbasize", arena.internal_lbasize)?;
            writeln!(out, "  {:<20} {:#010x}", "external_nlba", arena.external_nlba)?;
            writeln!(out, "  {:<20} {}", "external_lbasize", arena.external_lbasize)?;
            writeln!(out, "  {:<20} {}", "nfree", arena.nfree)?;
            writeln!(out, "  {:<20} {}", "version_major", arena.version_major)?;
            writeln!(out, "  {:<20} {}", "version_minor", arena.version_minor)?;
            let offsets = [
                ("nextoff", nextoff),
                ("infooff", infooff),
                ("dataoff", dataoff),
                ("mapoff", mapoff),
                ("logoff", logoff),
                ("info2off", info2off),
            ];
            for (name, value) in offsets {
                writeln!(out, "  {name:<20} {value:#018x}")?;
            }
            writeln!(out, "  {:<20} {:#010x}", "flags", arena.flags)?;
            if let Some(why) = &arena.read_only {
                writeln!(out, "  {:<20} {why}", "read_only")?;
            }
            writeln!(out, "  {:<20} {}", "log_index_0", arena.log_index_0)?;
            writeln!(out, "  {:<20} {}", "log_index_1", arena.log_index_1)?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
