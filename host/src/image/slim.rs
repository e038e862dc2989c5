//! The image without what only a debugger reads: its debug information is most of its file.

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

/// Where the ELF header has its section headers' offset, the bytes of each, their number, and which one has their names
/// (System V ABI, ELF-64).
const SECTIONS_OFFSET: std::ops::Range<usize> = 40..48;
const SECTIONS: std::ops::Range<usize> = 58..64;
const SECTION_HEADER_BYTES: u16 = 64;

/// Returns an executable's file up to the last byte that is loaded, and one section header: the null one. GRUB 2.06 takes a
/// file without any, 2.12 refuses it (`grub_elfXX_get_shnum`: "invalid section header table offset in e_shoff").
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
    slim.resize(slim.len().next_multiple_of(align_of::<u64>()), 0);
    let offset = slim.len() as u64;
    slim.resize(slim.len() + usize::from(SECTION_HEADER_BYTES), 0);
    slim[SECTIONS_OFFSET].copy_from_slice(&offset.to_le_bytes());
    slim[SECTIONS].copy_from_slice([SECTION_HEADER_BYTES, 1, 0].map(u16::to_le_bytes).as_flattened());
    Ok(slim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use object::Endianness;
    use object::elf::{FileHeader64, SHT_NULL, SectionType};
    use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

    use super::slim;

    /// The entry, what each program header has of the file, and each section's kind.
    fn parts(elf: &[u8]) -> (u64, Vec<Vec<u8>>, Vec<SectionType>) {
        let header = FileHeader64::<Endianness>::parse(elf).unwrap();
        let endian = header.endian().unwrap();
        let programs = header.program_headers(endian, elf).unwrap();
        let sections = header.section_headers(endian, elf).unwrap();
        (
            header.e_entry(endian),
            programs.iter().map(|it| it.data(endian, elf).unwrap().to_vec()).collect(),
            sections.iter().map(|it| it.sh_type(endian)).collect(),
        )
    }

    #[test]
    fn what_is_loaded_stays_and_of_the_sections_the_null_one() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let slim = slim(&whole).unwrap();
        assert!(slim.len() < whole.len());
        // All but the ELF header, which the first segment begins with.
        let rest = |mut segments: Vec<Vec<u8>>| {
            segments.iter_mut().filter(|it| it.starts_with(b"\x7fELF")).for_each(|it| it[..64].fill(0));
            segments
        };
        let (was, is) = (parts(&whole), parts(&slim));
        assert_eq!(was.0, is.0);
        assert!(rest(was.1) == rest(is.1));
        assert!(was.2.len() > 1);
        assert_eq!(is.2, [SHT_NULL]);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(slim(b"").is_err() && slim(b"\x7fELF").is_err() && slim(&[0; 100]).is_err());
        assert!(slim(&whole[..4096]).is_err());
    }
}
