//! Text for people: aligned lines, counts with units.

use alloc::format;
use alloc::string::String;
use core::fmt;

/// Writes one line: a name and its value, aligned.
///
/// # Errors
/// The writer's.
pub(super) fn line(out: &mut dyn fmt::Write, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{name:<28} {value}")
}

/// A number of sectors in words.
pub(super) fn sectors(count: u64) -> String {
    if count == 1 { "1 sector".into() } else { format!("{count} sectors") }
}

/// A count of bytes with a unit: `268435456 (256.0 MiB)`, `512 bytes`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.into_iter().find(|(shift, _)| count >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{count} ({}.{} {unit})", tenths / 10, tenths % 10)
        }
        None => format!("{count} bytes"),
    }
}
