//! The UEFI program as firmware has loaded it, from the headers of its PE file (PE/COFF specification, sections 2 to 4):
//! the stub finds the image's file in it. `untornctl image efi` writes the file.

use core::ops::Range;

use crate::bytes::{u16_at, u32_at};

/// The headers are within this many bytes from the program's beginning: sections begin on the next page.
pub const HEADERS_BYTES: usize = 4096;

/// The signature, the COFF header, and what each section's header takes.
const COFF_BYTES: usize = 24;
const SECTION_HEADER_BYTES: usize = 40;

/// Returns where the bytes lie that the file has of a section, counted from the program's beginning. `None` if there is no
/// such section, or if it begins among the headers.
#[must_use]
pub fn section(headers: &[u8; HEADERS_BYTES], name: [u8; 8]) -> Option<Range<usize>> {
    let place = |at: usize| u32_at(headers, at).and_then(|place| usize::try_from(place).ok());
    let coff = place(0x3c)?;
    let sections = coff.checked_add(COFF_BYTES + usize::from(u16_at(headers, coff.checked_add(20)?)?))?;
    let mut all = (0..usize::from(u16_at(headers, coff + 6)?)).map(|number| sections + SECTION_HEADER_BYTES * number);
    let found = all.find(|at| headers.get(*at..).is_some_and(|header| header.starts_with(&name)))?;
    let (bytes, start) = (place(found + 8)?, place(found + 12)?);
    (start >= HEADERS_BYTES).then_some(start..start.checked_add(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: [u8; 8] = *b".kernel\0";

    /// The headers at 0x40 of a program with these sections: name, place, bytes. `optional` bytes lie in between.
    fn headers(optional: u16, sections: &[(&[u8; 8], u32, u32)]) -> [u8; HEADERS_BYTES] {
        let mut headers = [0xee; HEADERS_BYTES];
        let mut put = |at: usize, bytes: &[u8]| headers[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40 + 6, &u16::try_from(sections.len()).expect("few").to_le_bytes());
        put(0x40 + 20, &optional.to_le_bytes());
        for (number, (name, place, bytes)) in sections.iter().enumerate() {
            let at = 0x40 + 24 + usize::from(optional) + 40 * number;
            put(at, *name);
            put(at + 8, &bytes.to_le_bytes());
            put(at + 12, &place.to_le_bytes());
        }
        headers
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let found =
            headers(240, &[(b".text\0\0\0", 0x1000, 0x20), (&NAME, 0x9000, 0x1234), (b".reloc\0\0", 0xb000, 8)]);
        assert_eq!(section(&found, NAME), Some(0x9000..0xa234));
        assert_eq!(section(&found, *b".reloc\0\0"), Some(0xb000..0xb008));
        assert_eq!(section(&found, *b".data\0\0\0"), None);
    }

    #[test]
    fn headers_that_cannot_be_name_no_section() {
        assert_eq!(section(&headers(240, &[(&NAME, 0xfff, 1)]), NAME), None, "among the headers");
        assert!(section(&headers(240, &[(&NAME, u32::MAX, u32::MAX)]), NAME).is_some_and(|it| it.start < it.end));
        for (at, bytes) in [(0x3c, [0xff; 4]), (0x3c, [0xf0, 0x0f, 0, 0]), (0x40 + 20, [0xff; 4])] {
            let mut broken = headers(240, &[(&NAME, 0x9000, 8)]);
            broken[at..at + 4].copy_from_slice(&bytes);
            assert_eq!(section(&broken, NAME), None, "{bytes:x?} at {at:#x}");
        }
        let mut endless = headers(240, &[]);
        endless[0x40 + 6..0x40 + 8].copy_from_slice(&[0xff; 2]);
        assert_eq!(section(&endless, NAME), None, "more sections than there are");
    }
}
