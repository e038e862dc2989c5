//! Recognises the content of a namespace without a BTT, so that nothing of value is formatted unless it is forced.
//!
//! Offsets and magic numbers are those of blkid (util-linux, libblkid/src/superblocks) and of the formats' own
//! specifications.

use alloc::vec;
use core::fmt;
use core::ops::Range;

use btt::bytes::is_all;
use btt::layout::{PAGE_BYTES, SIGNATURE};
use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};

use super::probe::{ENDS_BYTES, LINE, is_left_over, places_at_ends};

/// The content at the start and the end of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The first and the last MiB are zero.
    Blank,
    /// They are ones: an erased medium, or no medium.
    Ones,
    /// Bytes that are not recognised.
    Unknown,
    /// The medium has lost some of them, and the rest is not recognised.
    Lost,
    /// A format that is recognised.
    Recognised(&'static str),
}

impl Content {
    /// Returns whether it is a BTT or the rest of one.
    pub(super) fn is_btt(self) -> bool {
        matches!(self, Self::Recognised("a BTT" | LONE_BACKUP))
    }
}

/// An info block's copy without the first block: a power cut ended the creation, or the medium lost the block.
const LONE_BACKUP: &str = "the backup of a BTT whose first info block is lost";

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => write!(f, "blank"),
            Self::Ones => write!(f, "all ones (erased, or no memory is there)"),
            Self::Unknown => write!(f, "unknown data"),
            Self::Lost => write!(f, "unknown data, some of which the medium has lost"),
            Self::Recognised(what) => write!(f, "holds {what}"),
        }
    }
}

/// A magic number and its place.
struct Magic {
    at: u64,
    bytes: &'static [u8],
    what: &'static str,
}

const fn magic(at: u64, bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { at, bytes, what }
}

/// Places count from the start of the namespace. The more specific format comes first: a partition table before the
/// boot sector's mark.
const MAGICS: [Magic; 33] = [
    magic(0, &SIGNATURE, "a BTT"),
    magic(PAGE_BYTES, &SIGNATURE, "a BTT"),
    magic(PAGE_BYTES, b"NVDIMM_PFN_INFO", "an fsdax namespace"),
    magic(PAGE_BYTES, b"NVDIMM_DAX_INFO", "a devdax namespace"),
    magic(0, b"PMEMOBJ", "a PMDK pool"),
    magic(0, b"PMEMBLK", "a PMDK pool"),
    magic(0, b"PMEMLOG", "a PMDK pool"),
    magic(512, b"EFI PART", "a partition table"),
    magic(4096, b"EFI PART", "a partition table"),
    magic(0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 file system"),
    magic(0, b"XFSB", "an XFS file system"),
    magic(0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    magic(0x400, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system"),
    magic(0x400, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system"),
    magic(0, b"hsqs", "a SquashFS file system"),
    magic(0x8001, b"CD001", "an ISO 9660 file system"),
    magic(0x8001, b"NSR0", "a UDF file system"),
    magic(3, b"NTFS    ", "an NTFS file system"),
    magic(3, b"EXFAT   ", "an exFAT file system"),
    magic(54, b"FAT1", "a FAT file system"),
    magic(82, b"FAT32", "a FAT file system"),
    magic(0, b"LUKS\xba\xbe", "a LUKS volume"),
    magic(512, b"LABELONE", "an LVM volume"),
    magic(0, b"LABELONE", "an LVM volume"),
    magic(1024, b"LABELONE", "an LVM volume"),
    magic(1536, b"LABELONE", "an LVM volume"),
    magic(0, &[0xfc, 0x4e, 0x2b, 0xa9], "an md RAID member"),
    magic(4096, &[0xfc, 0x4e, 0x2b, 0xa9], "an md RAID member"),
    magic(4086, b"SWAPSPACE2", "swap space"),
    magic(4086, b"SWAP-SPACE", "swap space"),
    magic(0x2_0000, &[0x0c, 0xb1, 0xba, 0x00], "a ZFS pool"),
    magic(0x2_0400, &[0x0c, 0xb1, 0xba, 0x00], "a ZFS pool"),
    magic(510, &[0x55, 0xaa], "a boot sector or a partition table"),
];

/// Reads bytes at a place.
pub(super) type Read<'a, E> = dyn FnMut(u64, &mut [u8]) -> Result<(), E> + 'a;

/// Returns the name of the format whose magic number is found. Calls `read` for bytes among the first `bytes` only.
pub(super) fn name_of<E>(bytes: u64, read: &mut Read<'_, E>) -> Result<Option<&'static str>, E> {
    for magic in &MAGICS {
        if holds(bytes, read, magic.at, magic.bytes)? {
            return Ok(Some(magic.what));
        }
    }
    Ok(None)
}

fn holds<E>(bytes: u64, read: &mut Read<'_, E>, at: u64, magic: &[u8]) -> Result<bool, E> {
    let mut found = [0; SIGNATURE.len()];
    let found = &mut found[..magic.len()];
    if at.checked_add(magic.len() as u64).is_none_or(|end| end > bytes) {
        return Ok(false);
    }
    read(at, found)?;
    Ok(found == magic)
}

/// The bytes of a read, and of the start that is read once for all magic numbers in it.
const CHUNK_BYTES: usize = 8 << 10;

/// Looks at a namespace. Reads at most 2 MiB and some pages. `but_first_page`: what the first page has does not make it other
/// than blank.
///
/// # Errors
/// The medium's, but for lost bytes: they are [`Content::Lost`], or count as zeroes beside a format that is recognised.
pub(super) fn recognise<N: Medium>(media: &N, but_first_page: bool) -> Result<Content, MediaError> {
    let bytes = media.len_bytes();
    let mut lost = false;
    let mut read = |at: u64, into: &mut [u8]| match media.read(NsOffset(at), into) {
        Err(MediaError::Poisoned { .. }) => {
            lost = true;
            into.fill(0);
            Ok(())
        }
        result => result,
    };
    let known = recognise_format(bytes, &mut read)?;
    if let Some(what) = known {
        return Ok(Content::Recognised(what));
    }
    let start = if but_first_page { PAGE_BYTES.min(bytes) } else { 0 };
    let ends = [start..bytes.min(ENDS_BYTES), bytes.saturating_sub(ENDS_BYTES)..bytes];
    // The rest of a probe that a power cut ended counts as the zeroes that were there.
    let mut left_over = [None; 2];
    for (slot, at) in left_over.iter_mut().zip(places_at_ends(bytes)) {
        let mut line = [0; LINE];
        read(at.0, &mut line)?;
        *slot = is_left_over(at, &line).then_some(at.0);
    }
    let mut content = Content::Unknown;
    for (uniform, byte, but) in [(Content::Blank, 0, left_over), (Content::Ones, 0xff, [None; 2])] {
        let mut all = bytes > 0 || byte == 0;
        for end in &ends {
            all = all && holds_only(&mut read, end.clone(), byte, but)?;
        }
        if all {
            content = uniform;
            break;
        }
    }
    Ok(if lost { Content::Lost } else { content })
}

/// Returns the name of the format of a namespace of `bytes` bytes.
fn recognise_format(bytes: u64, read: &mut Read<'_, MediaError>) -> Result<Option<&'static str>, MediaError> {
    // Most magic numbers lie here. In small pieces, as a lost line counts with all of its piece.
    let mut start = vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES))];
    for (piece, at) in start.chunks_mut(512).zip((0..).step_by(512)) {
        read(at, piece)?;
    }
    let mut read = |at: u64, into: &mut [u8]| {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        match start.get(from..from.saturating_add(into.len())) {
            Some(found) => {
                into.copy_from_slice(found);
                Ok(())
            }
            None => read(at, into),
        }
    };
    if let Some(what) = name_of(bytes, &mut read)? {
        return Ok(Some(what));
    }
    let last_page = (bytes / PAGE_BYTES).saturating_sub(1) * PAGE_BYTES;
    if holds(bytes, &mut read, last_page, &SIGNATURE)? {
        return Ok(Some(LONE_BACKUP));
    }
    for sector in [512, 4096] {
        if holds(bytes, &mut read, bytes.saturating_sub(sector), b"EFI PART")? {
            return Ok(Some("the backup of a partition table"));
        }
    }
    Ok(None)
}

/// Returns whether all these bytes are `byte`, except those of the lines `but`.
fn holds_only(
    read: &mut Read<'_, MediaError>,
    range: Range<u64>,
    byte: u8,
    but: [Option<u64>; 2],
) -> Result<bool, MediaError> {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut at = range.start;
    while at < range.end {
        if let Some(line) = but.into_iter().flatten().find(|line| (*line..line + LINE_BYTES).contains(&at)) {
            at = line + LINE_BYTES;
            continue;
        }
        // Read up to the next line that is left out.
        let next = but.into_iter().flatten().filter(|line| *line > at).min();
        let left = next.unwrap_or(range.end).min(range.end) - at;
        let size = usize::try_from(left.min(buffer.len() as u64)).expect("at most the buffer");
        read(at, &mut buffer[..size])?;
        if !is_all(&buffer[..size], byte) {
            return Ok(false);
        }
        at += size as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use btt::sim::Sim;

    const BYTES: u64 = 4 << 20;

    /// A medium that has lost a line.
    struct Lossy {
        sim: Sim,
        lost: u64,
    }

    impl Medium for Lossy {
        fn len_bytes(&self) -> u64 {
            self.sim.len_bytes()
        }
        fn read_only(&self) -> bool {
            false
        }
        fn keeps_line_order(&self) -> bool {
            true
        }
        fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
            match at.0 < self.lost + LINE_BYTES && self.lost < at.0 + into.len() as u64 {
                true => Err(MediaError::Poisoned { at: NsOffset(self.lost) }),
                false => self.sim.read(at, into),
            }
        }
        fn write(&self, _: NsOffset, _: &[u8]) -> Result<(), MediaError> {
            unreachable!("a look stores nothing")
        }
        fn load_u32(&self, _: NsOffset) -> Result<u32, MediaError> {
            unreachable!("a look copies")
        }
        fn load_u64(&self, _: NsOffset) -> Result<u64, MediaError> {
            unreachable!("a look copies")
        }
        fn store_u32(&self, _: NsOffset, _: u32) -> Result<(), MediaError> {
            unreachable!("a look stores nothing")
        }
        fn store_u64(&self, _: NsOffset, _: u64) -> Result<(), MediaError> {
            unreachable!("a look stores nothing")
        }
        fn start_write_back(&self, _: NsOffset, _: u64) -> Result<(), MediaError> {
            unreachable!("a look stores nothing")
        }
        fn look_again(&self, _: NsOffset, _: u64) -> Result<(), MediaError> {
            unreachable!("a look decides nothing")
        }
        fn order_stores(&self) {
            unreachable!("a look stores nothing")
        }
        fn fence(&self) -> Result<(), MediaError> {
            unreachable!("a look stores nothing")
        }
    }

    fn holding(at: u64, bytes: &[u8]) -> Content {
        let sim = Sim::new(BYTES);
        sim.write(NsOffset(at), bytes).expect("in range");
        recognise(&sim, false).expect("no faults")
    }

    #[test]
    fn every_magic_number_is_recognised_by_its_own_name() {
        for magic in &MAGICS {
            assert_eq!(holding(magic.at, magic.bytes), Content::Recognised(magic.what), "{:#x}", magic.at);
        }
    }

    #[test]
    fn both_ends_count_for_blank() {
        assert_eq!(holding(0, &[0]), Content::Blank);
        assert_eq!(holding(77, &[1]), Content::Unknown);
        assert_eq!(holding(BYTES - 1, &[1]), Content::Unknown);
        assert_eq!(holding(BYTES - 4096, b"EFI PART"), Content::Recognised("the backup of a partition table"));
        assert!(matches!(holding(BYTES - 4096, &SIGNATURE), Content::Recognised(_)));
    }

    #[test]
    fn ones_at_both_ends_are_told_apart_from_data() {
        let sim = Sim::new(BYTES);
        for end in [0, BYTES - ENDS_BYTES] {
            assert_eq!(recognise(&sim, false), Ok(if end == 0 { Content::Blank } else { Content::Unknown }));
            (0..ENDS_BYTES / 4096)
                .for_each(|page| sim.write(NsOffset(end + page * 4096), &[0xff; 4096]).expect("in range"));
        }
        assert_eq!(recognise(&sim, false), Ok(Content::Ones));
    }

    #[test]
    fn what_a_cut_left_of_a_probe_is_blank_in_its_place_only() {
        // A probe is cut: each of its lines is there, wholly.
        let probed = |at: u64| {
            let sim = Sim::new(BYTES);
            let mut line = *b"untorn: a probe of what this memory keeps (may be erased)...\0\0\0\0";
            line[48..56].copy_from_slice(&(at | 1).to_le_bytes());
            line[56..].copy_from_slice(&(!at | 1).to_le_bytes());
            (sim, line)
        };
        for (probe_of, at, content) in [
            (BYTES - 64, BYTES - 64, Content::Blank),
            (ENDS_BYTES - 64, ENDS_BYTES - 64, Content::Blank),
            (BYTES - 64, ENDS_BYTES - 64, Content::Unknown),
            (BYTES - 128, BYTES - 128, Content::Unknown),
        ] {
            let (sim, line) = probed(probe_of);
            sim.write(NsOffset(at), &line).expect("in range");
            assert_eq!(recognise(&sim, false), Ok(content), "{at:#x}");
            // One byte more is data.
            sim.write(NsOffset(at - 1), &[1]).expect("in range");
            assert_eq!(recognise(&sim, false), Ok(Content::Unknown), "{at:#x}");
        }
    }

    #[test]
    fn lost_bytes_at_an_end_are_told_apart_from_data_and_hide_no_format() {
        for lost in [0, 4096, ENDS_BYTES - 64, BYTES - ENDS_BYTES, BYTES - 4096, BYTES - 64] {
            let sim = Lossy { sim: Sim::new(BYTES), lost };
            assert_eq!(recognise(&sim, false), Ok(Content::Lost), "{lost:#x}");
            sim.sim.write(NsOffset(0x438), &[0x53, 0xef]).expect("in range");
            assert_eq!(
                recognise(&sim, false),
                Ok(Content::Recognised("an ext2, ext3 or ext4 file system")),
                "{lost:#x}"
            );
        }
        let sim = Lossy { sim: Sim::new(BYTES), lost: ENDS_BYTES };
        assert_eq!(recognise(&sim, false), Ok(Content::Blank), "it is not looked at");
    }

    #[test]
    fn a_blank_namespace_is_looked_at_in_few_reads() {
        let sim = Sim::new(BYTES);
        recognise(&sim, false).expect("no faults");
        assert!(sim.accesses() < 300, "{}", sim.accesses());
    }

    #[test]
    fn a_tiny_namespace_is_looked_at_within_its_bounds() {
        for bytes in [0, 1, 511, 512, 4096, 5000] {
            assert_eq!(recognise(&Sim::new(bytes), false), Ok(Content::Blank), "{bytes}");
        }
    }
}
