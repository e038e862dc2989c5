//! Bytes for people, as `hexdump -C` shows them.

use core::fmt;

const ROW: usize = 16;

/// Writes rows of offset, 16 bytes and their ASCII; `*` stands for rows that repeat the one above; the last line is the
/// end's offset.
///
/// # Errors
/// The writer's.
pub(super) fn hexdump(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    let mut above: Option<&[u8]> = None;
    let mut starred = false;
    for (index, row) in bytes.chunks(ROW).enumerate() {
        if above == Some(row) {
            if !starred {
                out.write_str("*\n")?;
            }
            starred = true;
            continue;
        }
        (above, starred) = (Some(row), false);
        write!(out, "{:08x} ", index * ROW)?;
        for column in 0..ROW {
            if column % 8 == 0 {
                out.write_str(" ")?;
            }
            match row.get(column) {
                Some(byte) => write!(out, "{byte:02x} ")?,
                None => out.write_str("   ")?,
            }
        }
        out.write_str(" |")?;
        for &byte in row {
            out.write_char(if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' })?;
        }
        out.write_str("|\n")?;
    }
    writeln!(out, "{:08x}", bytes.len())
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;

    #[test]
    fn rows_are_as_hexdump_shows_them_and_repeats_collapse() {
        let mut bytes = vec![0_u8; 48];
        bytes.extend_from_slice(b"untorn | \x7f\xff sector");
        let mut out = String::new();
        hexdump(&bytes, &mut out).expect("a string takes all");
        assert_eq!(
            out,
            "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n\
             *\n\
             00000030  75 6e 74 6f 72 6e 20 7c  20 7f ff 20 73 65 63 74  |untorn | .. sect|\n\
             00000040  6f 72                                             |or|\n\
             00000042\n"
        );
    }
}
