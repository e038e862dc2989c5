//! An ELF file turned into a PE file: what UEFI firmware loads (UEFI 2.10, 2.1.1; PE/COFF specification, sections 2 to 5).
//!
//! The ELF file is position-independent and needs no library: its segments become sections, one page higher, as PE's
//! headers lie on the first page; each of its relocations, which all say "add the load address" (`R_X86_64_RELATIVE`),
//! becomes one of PE's. Nothing is both writable and executable.

use object::LittleEndian;
use object::elf::{
    DT_NEEDED, DT_RELA, DT_RELASZ, DT_RELR, Dyn64, EM_X86_64, ET_DYN, FileHeader64, PF_W, PF_X, PT_LOAD, ProgramFlags,
    R_X86_64_RELATIVE, Rela64,
};
use object::pod::slice_from_all_bytes;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

const LE: LittleEndian = LittleEndian;

/// Where firmware puts the program if there is room; else anywhere. Above the image's place (1 MiB to 8 MiB), and below
/// 4 GiB, also where there is more memory.
const IMAGE_BASE: u64 = 32 << 20;

const PAGE: u32 = 4096;

/// Sections begin on such bytes of the file.
const FILE_ALIGNMENT: u32 = 512;

/// The program's headers are on the first page.
const ELF_AT: u32 = PAGE;

const SECTION_HEADER_BYTES: usize = 40;
const HEADERS_BYTES: usize = 64 + 4 + 20 + 240;

/// Section characteristics.
const CODE: u32 = 0x6000_0020;
const CONSTANTS: u32 = 0x4000_0040;
const DATA: u32 = 0xc000_0040;
const DISCARDABLE: u32 = 0x0200_0000;

/// A section of the PE file.
struct Section {
    name: [u8; 8],
    at: u32,
    /// Its bytes in memory; zeroes follow those of the file.
    memory_bytes: u32,
    bytes: Vec<u8>,
    characteristics: u32,
}

/// A section with bytes that the program reads, beside those of its segments.
#[derive(Clone, Copy, Debug)]
pub struct Extra<'a> {
    /// Its name: at most 8 bytes.
    pub name: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Turns a position-independent ELF program for x86-64 into an EFI application with one more section.
///
/// # Errors
/// Which part of the file is not as such a program has it.
pub fn from_elf(elf: &[u8], extra: Extra<'_>) -> Result<Vec<u8>, String> {
    let program = Elf::read(elf)?;
    let mut sections = program.sections()?;
    let fixups = program.relocate(&mut sections)?;
    let at = |sections: &[Section]| sections.last().map_or(ELF_AT, |last| page_up(last.at + last.memory_bytes));
    let mut name = [0; 8];
    let short = "a section's name has more than 8 bytes";
    name.get_mut(..extra.name.len()).ok_or(short)?.copy_from_slice(extra.name.as_bytes());
    let constant = |name, at, bytes: Vec<u8>, more| {
        let memory_bytes = u32::try_from(bytes.len()).map_err(|_| "a section of more than 4 GiB".to_owned())?;
        Ok::<_, String>(Section { name, at, memory_bytes, bytes, characteristics: CONSTANTS | more })
    };
    sections.push(constant(name, at(&sections), extra.bytes.to_vec(), 0)?);
    let relocations = constant(*b".reloc\0\0", at(&sections), relocation_blocks(&fixups), DISCARDABLE)?;
    sections.push(relocations);
    let entry = ELF_AT.checked_add(program.entry).ok_or("its entry point is out of reach")?;
    Ok(file(&sections, entry))
}

fn page_up(at: u32) -> u32 {
    at.next_multiple_of(PAGE)
}

/// A segment of the ELF file.
struct Segment<'a> {
    flags: ProgramFlags,
    at: u32,
    bytes: &'a [u8],
    memory_bytes: u32,
}

/// What is used of the ELF file.
struct Elf<'a> {
    entry: u32,
    segments: Vec<Segment<'a>>,
    /// Places and addends of the relocations.
    relocations: Vec<(u32, u64)>,
}

impl<'a> Elf<'a> {
    fn read(file: &'a [u8]) -> Result<Self, String> {
        let fault = |error: object::Error| format!("it is no ELF file of 64 bits: {error}");
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(fault)?;
        header.endian().map_err(fault)?;
        if header.e_type(LE) != ET_DYN || header.e_machine(LE) != EM_X86_64 {
            return Err("it is not position-independent, or not for x86-64".into());
        }
        let headers = header.program_headers(LE, file).map_err(fault)?;
        let (mut segments, mut relocations) = (Vec::new(), Vec::new());
        for header in headers {
            if header.p_type(LE) == PT_LOAD {
                segments.push(Segment {
                    flags: header.p_flags(LE),
                    at: small(header.p_vaddr(LE))?,
                    bytes: header.data(LE, file).map_err(|()| "a segment is cut off")?,
                    memory_bytes: small(header.p_memsz(LE))?,
                });
            }
            if let Some(entries) = header.dynamic(LE, file).map_err(fault)? {
                let loaded = |at, bytes| headers.iter().find_map(|it| it.data_range(LE, file, at, bytes).ok()?);
                relocations = read_relocations(entries, loaded)?;
            }
        }
        Ok(Self { entry: small(header.e_entry(LE))?, segments, relocations })
    }

    /// A section for each segment.
    fn sections(&self) -> Result<Vec<Section>, String> {
        let mut sections: Vec<Section> = Vec::new();
        for segment in &self.segments {
            let has = |flag: ProgramFlags| segment.flags.0 & flag.0 != 0;
            let (name, characteristics) = match (has(PF_X), has(PF_W)) {
                (false, false) => (*b".rodata\0", CONSTANTS),
                (true, false) => (*b".text\0\0\0", CODE),
                (false, true) => (*b".data\0\0\0", DATA),
                (true, true) => return Err("a segment is writable and executable".into()),
            };
            let within = segment.at % PAGE;
            let out_of_reach = || format!("the segment at {:#x} is out of reach", segment.at);
            let at = (segment.at - within).checked_add(ELF_AT).ok_or_else(out_of_reach)?;
            if sections.last().is_some_and(|last| at < page_up(last.at + last.memory_bytes)) {
                return Err(format!("the segment at {:#x} shares a page with the one before it", segment.at));
            }
            let memory_bytes =
                within.checked_add(segment.memory_bytes).filter(|bytes| at.checked_add(*bytes).is_some());
            let memory_bytes = memory_bytes.ok_or_else(out_of_reach)?;
            let bytes = [&vec![0; within as usize][..], segment.bytes].concat();
            sections.push(Section { name, at, memory_bytes, bytes, characteristics });
        }
        match sections.is_empty() {
            true => Err("it has no segment".into()),
            false => Ok(sections),
        }
    }

    /// Stores the relocated words as if the program lay at [`IMAGE_BASE`], and returns their places.
    fn relocate(&self, sections: &mut [Section]) -> Result<Vec<u32>, String> {
        let mut places = Vec::new();
        for (place, addend) in &self.relocations {
            let wrong = || format!("the relocation at {place:#x} is outside the writable segments");
            let at = place.checked_add(ELF_AT).ok_or_else(wrong)?;
            let word = sections.iter_mut().filter(|it| it.characteristics == DATA).find_map(|it| {
                let within = usize::try_from(at.checked_sub(it.at)?).ok()?;
                it.bytes.get_mut(within..within + 8)
            });
            let target = addend.wrapping_add(IMAGE_BASE + u64::from(ELF_AT));
            word.ok_or_else(wrong)?.copy_from_slice(&target.to_le_bytes());
            places.push(at);
        }
        Ok(places)
    }
}

/// Reads the relocations that the dynamic section names; `loaded` returns the bytes of a file that are loaded at an address.
fn read_relocations<'a>(
    entries: &[Dyn64<LittleEndian>],
    loaded: impl Fn(u64, u64) -> Option<&'a [u8]>,
) -> Result<Vec<(u32, u64)>, String> {
    let (mut table, mut table_bytes) = (0, 0);
    for entry in entries {
        match entry.d_tag(LE) {
            DT_RELA => table = entry.d_val(LE),
            DT_RELASZ => table_bytes = entry.d_val(LE),
            DT_NEEDED => return Err("it needs a library".into()),
            DT_RELR => return Err("it has packed relocations".into()),
            _ => {}
        }
    }
    if table_bytes == 0 {
        return Ok(Vec::new());
    }
    let bytes = loaded(table, table_bytes).ok_or("its relocations are in no segment")?;
    let relocations = slice_from_all_bytes::<Rela64<LittleEndian>>(bytes);
    let relocations = relocations.map_err(|()| "its relocations are not aligned")?;
    let mut found = Vec::new();
    for relocation in relocations {
        let kind = relocation.r_info.get(LE);
        if kind != u64::from(R_X86_64_RELATIVE.0) {
            return Err(format!("it has a relocation of type {kind}"));
        }
        found.push((small(relocation.r_offset.get(LE))?, relocation.r_addend.get(LE).cast_unsigned()));
    }
    found.sort_unstable();
    Ok(found)
}

fn small(number: u64) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("{number:#x} is out of reach"))
}

/// Base relocations (5.6): a block for each page, of 12-bit places with type 10, which means 64 bits.
fn relocation_blocks(places: &[u32]) -> Vec<u8> {
    const DIR64: u16 = 10 << 12;
    let mut blocks = Vec::new();
    for block in places.chunk_by(|a, b| a / PAGE == b / PAGE) {
        let padded = block.len().next_multiple_of(2);
        blocks.extend_from_slice(&(block[0] / PAGE * PAGE).to_le_bytes());
        blocks.extend_from_slice(&u32::try_from(8 + 2 * padded).expect("a page has few places").to_le_bytes());
        let entries = block.iter().map(|place| DIR64 | u16::try_from(place % PAGE).expect("less than a page"));
        entries.chain([0; 1]).take(padded).for_each(|entry| blocks.extend_from_slice(&entry.to_le_bytes()));
    }
    blocks
}

/// Lays the file out.
fn file(sections: &[Section], entry: u32) -> Vec<u8> {
    let headers_bytes = HEADERS_BYTES + SECTION_HEADER_BYTES * sections.len();
    let headers_bytes = u32::try_from(headers_bytes).expect("few sections").next_multiple_of(FILE_ALIGNMENT);
    let raw = |section: &Section| {
        u32::try_from(section.bytes.len()).expect("less than its memory").next_multiple_of(FILE_ALIGNMENT)
    };
    let sum = |flag: u32| sections.iter().filter(|it| it.characteristics & flag != 0).map(raw).sum::<u32>();
    let end = sections.last().map_or(ELF_AT, |last| page_up(last.at + last.memory_bytes));
    let code = sections.iter().find(|it| it.characteristics == CODE).map_or(0, |it| it.at);

    let mut file = Vec::new();
    let half =
        |file: &mut Vec<u8>, halves: &[u16]| halves.iter().for_each(|it| file.extend_from_slice(&it.to_le_bytes()));
    let word =
        |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|it| file.extend_from_slice(&it.to_le_bytes()));
    file.extend_from_slice(b"MZ");
    file.resize(60, 0);
    word(&mut file, &[64]);
    file.extend_from_slice(b"PE\0\0");
    // COFF header: x86-64; no time, no symbols; executable, large addresses.
    half(&mut file, &[0x8664, u16::try_from(sections.len()).expect("few")]);
    word(&mut file, &[0, 0, 0]);
    half(&mut file, &[240, 0x22]);
    // Optional header: PE32+.
    half(&mut file, &[0x20b, 0]);
    word(&mut file, &[sum(0x20), sum(0x40), 0, entry, code]);
    file.extend_from_slice(&IMAGE_BASE.to_le_bytes());
    word(&mut file, &[PAGE, FILE_ALIGNMENT, 0, 0, 0, 0, end, headers_bytes, 0]);
    // An EFI application; anywhere, data not executable.
    half(&mut file, &[10, 0x0140]);
    file.resize(file.len() + 32, 0); // stack and heap
    word(&mut file, &[0, 16]);
    let relocations = sections.last().map_or([0, 0], |it| [it.at, it.memory_bytes]);
    (0..16).for_each(|number| word(&mut file, &if number == 5 { relocations } else { [0, 0] }));
    debug_assert_eq!(file.len(), HEADERS_BYTES);

    let mut at = headers_bytes;
    for section in sections {
        file.extend_from_slice(&section.name);
        word(&mut file, &[section.memory_bytes, section.at, raw(section), at, 0, 0, 0, section.characteristics]);
        at += raw(section);
    }
    file.resize(headers_bytes as usize, 0);
    for section in sections {
        file.extend_from_slice(&section.bytes);
        file.resize(file.len().next_multiple_of(FILE_ALIGNMENT as usize), 0);
    }
    file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use super::*;

    /// Reads a number of up to 8 bytes.
    fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
        file[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A program: code at 0x1000, data from 0x2ff0 on with a word at 0x2ff8 that holds the code's address.
    fn program() -> Vec<u8> {
        let mut file = vec![0; 0x3010];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[3, 0, 62, 0]);
        put(24, &0x1004_u64.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &[56, 0, 4, 0]);
        // Type and flags, then offset, address (twice), bytes in the file and in memory.
        let headers: [(u32, u32, u64, u64, u64); 4] = [
            (1, 4, 0, 0x800, 0x800),
            (1, 5, 0x1000, 0x10, 0x10),
            (1, 6, 0x2ff0, 0x20, 0x100),
            (2, 6, 0x400, 0x30, 0x30),
        ];
        for (number, (kind, flags, offset, bytes, memory)) in headers.into_iter().enumerate() {
            let at = 64 + 56 * number;
            put(at, &kind.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            for (field, value) in [offset, offset, offset, bytes, memory].into_iter().enumerate() {
                put(at + 8 + 8 * field, &value.to_le_bytes());
            }
        }
        for (number, word) in [7_u64, 0x500, 8, 24, 0, 0].into_iter().enumerate() {
            put(0x400 + 8 * number, &word.to_le_bytes());
        }
        for (number, word) in [0x2ff8_u64, 8, 0x1004].into_iter().enumerate() {
            put(0x500 + 8 * number, &word.to_le_bytes());
        }
        put(0x1000, &[0x90; 16]);
        put(0x2ff0, &[0xdd; 0x20]);
        file
    }

    const EXTRA: Extra<'static> = Extra { name: ".kernel", bytes: b"an image" };

    fn place(file: &[u8], at: usize, bytes: usize) -> usize {
        usize::try_from(number(file, at, bytes)).unwrap()
    }

    /// Loads a PE file as firmware does, at `base`.
    fn load(file: &[u8], base: u64) -> Vec<u8> {
        let word = |at: usize| place(file, at, 4);
        let (coff, size) = (64 + 4, word(64 + 24 + 56));
        let mut memory = vec![0; size];
        let mut relocations = (0, 0);
        for header in (0..place(file, coff + 2, 2)).map(|section| HEADERS_BYTES + 40 * section) {
            let [bytes, at, raw, from] = [8, 12, 16, 20].map(|field| word(header + field));
            assert!(at.is_multiple_of(4096) && from.is_multiple_of(512) && raw.is_multiple_of(512));
            let taken = bytes.min(raw);
            memory[at..at + taken].copy_from_slice(&file[from..from + taken]);
            if &file[header..header + 8] == b".reloc\0\0" {
                relocations = (at, at + bytes);
            }
        }
        let mut at = relocations.0;
        while at < relocations.1 {
            let (page, bytes) = (place(&memory, at, 4), place(&memory, at + 4, 4));
            for entry in (at + 8..at + bytes).step_by(2) {
                let entry = place(&memory, entry, 2);
                let place = page + entry % 4096;
                match entry >> 12 {
                    0 => {}
                    10 => {
                        let word = number(&memory, place, 8) - IMAGE_BASE + base;
                        memory[place..place + 8].copy_from_slice(&word.to_le_bytes());
                    }
                    other => panic!("a relocation of type {other}"),
                }
            }
            at += bytes;
        }
        memory
    }

    #[test]
    fn a_program_is_itself_wherever_firmware_loads_it() {
        let file = from_elf(&program(), EXTRA).unwrap();
        for base in [IMAGE_BASE, 0x7e00_0000] {
            let memory = load(&file, base);
            assert_eq!(memory[0x2000..0x2010], [0x90; 16]);
            assert_eq!(memory[0x3ff0..0x3ff8], [0xdd; 8]);
            assert_eq!(number(&memory, 0x3ff8, 8), base + 0x2004, "the code's address");
            assert_eq!(memory[0x4000..0x4010], [0xdd; 16]);
            assert!(memory[0x4010..0x40f0].iter().all(|byte| *byte == 0));
            assert_eq!(&memory[0x5000..0x5008], b"an image");
        }
        assert_eq!(number(&file, 64 + 24 + 16, 4), 0x2004, "the entry point");
    }

    #[test]
    fn programs_of_another_kind_are_refused() {
        let refused = |at: usize, bytes: &[u8], why: &str| {
            let mut file = program();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            let found = from_elf(&file, EXTRA).unwrap_err();
            assert!(found.contains(why), "{found}");
        };
        refused(4, &[1], "64 bits");
        refused(16, &[2], "position-independent");
        refused(0x508, &[6], "relocation of type 6");
        refused(0x500, &[0, 0x10], "outside the writable segments");
        refused(0x500, &[0xf9, 0x2f, 1], "outside the writable segments");
        refused(0x408, &[0, 9], "in no segment");
        refused(0x420, &[36], "packed");
        refused(0x420, &[1], "library");
        refused(64 + 56 + 4, &[7], "writable and executable");
        refused(64 + 56 * 2 + 16, &[0, 0x10], "shares a page");
        refused(64 + 56 * 2 + 32, &[0xff], "cut off");
        refused(64 + 56 * 2 + 40, &[0xff; 4], "out of reach");
        for length in [0, 5, 60, 100, 0x410, 0x508] {
            assert!(from_elf(&program()[..length], EXTRA).is_err(), "{length} bytes");
        }
        assert!(from_elf(&program(), Extra { name: "too long a name", bytes: b"" }).is_err());
    }
}
