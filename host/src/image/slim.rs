//! The image without what only a debugger reads: its debug information is most of its file.

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

/// Where the ELF header has its section headers' offset, and their number with that of the names' (System V ABI, ELF-64).
const SECTION_OFFSET: std::ops::Range<usize> = 40..48;
const SECTION_COUNT: std::ops::Range<usize> = 60..64;

/// Returns an executable's file up to the last byte that is loaded, without section headers.
///
/// # Errors
/// When it is no ELF file for this architecture.
pub fn slim(elf: &[u8]) -> Result<Vec<u8>, String> {
    let fail = |error: object::Error| format!("the image is no ELF file: {error}");
    let header = FileHeader64::<Endianness>::parse(elf).map_err(fail)?;
    let endian = header.endian().map_err(fail)?;
    let headers = header.program_headers(endian, elf).map_err(fail)?;
    let table = header.e_phoff(endian).saturating_add(size_of_val(headers) as u64);
    let ends = headers.iter().map(|it| it.p_offset(endian).saturating_add(it.p_filesz(endian)));
    let end = ends.chain([table]).max().and_then(|end| usize::try_from(end).ok());
    let mut slim = end.and_then(|end| elf.get(..end)).ok_or("the image's file is cut off")?.to_vec();
    slim[SECTION_OFFSET].fill(0);
    slim[SECTION_COUNT].fill(0);
    Ok(slim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use object::Object;
    use object::read::elf::ElfFile64;

    use super::slim;

    #[test]
    fn what_is_loaded_stays_and_nothing_else() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let slim = slim(&whole).unwrap();
        assert!(slim.len() < whole.len());
        let segments = |bytes: &[u8]| {
            let file = ElfFile64::<object::Endianness>::parse(bytes).unwrap();
            let loaded = object::Object::segments(&file).map(|it| object::ObjectSegment::data(&it).unwrap().len());
            (file.entry(), loaded.collect::<Vec<_>>(), file.sections().count())
        };
        let (was, is) = (segments(&whole), segments(&slim));
        assert_eq!((was.0, was.1, 0), is);
        assert!(was.2 > 0);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(slim(b"").is_err() && slim(b"\x7fELF").is_err() && slim(&[0; 100]).is_err());
        assert!(slim(&whole[..4096]).is_err());
    }
}
