//! A strict reader of one-arena BTTs, written from the format alone: no line of `btt` is used.
//!
//! It wants everything to be as a cut may leave it and no worse: both info blocks alike, each block with one owner once
//! interrupted writes are finished in mind, no bits where none belong.

use std::collections::BTreeMap;

/// Where the BTT of a namespace without labels begins.
const ARENA_AT: usize = 4096;
const BLOCK_MASK: u32 = 0x3fff_ffff;

/// An arena as its metadata describe it, interrupted writes finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaContents {
    /// Bytes of a sector.
    pub sector_bytes: usize,
    /// How many sectors there are.
    pub sectors: u32,
    /// How many writes are in the flog and not in the map.
    pub pending: usize,
    /// How many flog records have been begun and not committed.
    pub begun: usize,
    /// Each sector's block, by its recovered map; none for a sector that was never written.
    blocks: Vec<Option<u32>>,
    data_at: usize,
    block_bytes: usize,
}

fn word(image: &[u8], at: usize) -> Result<u32, String> {
    let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(|| format!("the image ends before {at:#x}"))
}

fn place(image: &[u8], at: usize) -> Result<usize, String> {
    let offset = u64::from(word(image, at)?) | u64::from(word(image, at + 4)?) << 32;
    let place = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(ARENA_AT));
    place
        .filter(|place| *place < image.len())
        .ok_or_else(|| format!("an offset at {at:#x} leaves the image: {offset:#x}"))
}

fn fletcher(block: &[u8]) -> u64 {
    let (mut low, mut high) = (0_u32, 0_u32);
    for word in block.as_chunks::<4>().0 {
        low = low.wrapping_add(u32::from_le_bytes(*word));
        high = high.wrapping_add(low);
    }
    u64::from(high) << 32 | u64::from(low)
}

/// A slot of the flog: sector, the block it had, the block it gets, number.
type Record = [u32; 4];

/// Whether number `a` is that of the record after number `b`: they go 1, 2, 3, 1, and 0 is none.
fn follows(a: u32, b: u32) -> bool {
    matches!((a, b), (1, 0) | (2, 1) | (3, 2) | (1, 3))
}

/// The content of the info block.
struct Layout {
    sector_bytes: usize,
    sectors: usize,
    block_bytes: usize,
    blocks: usize,
    groups: usize,
    data_at: usize,
    map_at: usize,
    flog_at: usize,
}

fn layout(image: &[u8]) -> Result<Layout, String> {
    let info = image.get(ARENA_AT..ARENA_AT + 4096).ok_or("no room for a BTT")?;
    if &info[..16] != b"BTT_ARENA_INFO\0\0" || word(info, 52)? != 1 | 1 << 16 {
        return Err("no BTT of version 1.1".into());
    }
    let mut bare = info.to_vec();
    bare[4088..].fill(0);
    if fletcher(&bare).to_le_bytes() != info[4088..] {
        return Err("the info block's checksum is wrong".into());
    }
    let [sector_bytes, sectors, block_bytes, blocks, groups] =
        [56, 60, 64, 68, 72].map(|at| word(info, at).map(|number| number as usize).unwrap_or(0));
    let [data_at, map_at, flog_at, copy_at] = [88, 96, 104, 112].map(|at| place(image, ARENA_AT + at));
    let (data_at, map_at, flog_at, copy_at) = (data_at?, map_at?, flog_at?, copy_at?);
    if image.get(copy_at..copy_at + 4096) != Some(info) {
        return Err("the copy of the info block differs".into());
    }
    if word(info, 48)? != 0 || blocks != sectors + groups || block_bytes < sector_bytes {
        return Err(format!("flags {:#x}, {blocks} blocks for {sectors} sectors and {groups} groups", word(info, 48)?));
    }
    Ok(Layout { sector_bytes, sectors, block_bytes, blocks, groups, data_at, map_at, flog_at })
}

/// A flog group's newest record, and whether the next one is begun and not committed.
struct Newest {
    sector: usize,
    old: u32,
    new: u32,
    begun: bool,
}

fn newest(image: &[u8], flog_at: usize, group: usize) -> Result<Newest, String> {
    let at = flog_at + 64 * group;
    let slot = |slot: usize| -> Result<Record, String> {
        let at = at + 16 * slot;
        Ok([word(image, at)?, word(image, at + 4)?, word(image, at + 8)?, word(image, at + 12)?])
    };
    let (first, second) = (slot(0)?, slot(1)?);
    if slot(2)? != [0; 4] || slot(3)? != [0; 4] {
        return Err(format!("group {group} has bytes behind its two slots"));
    }
    let (older, newer) = match (first[3], second[3]) {
        (a, b) if follows(a, b) => (second, first),
        (a, b) if follows(b, a) => (first, second),
        (a, b) => return Err(format!("group {group} has records with the numbers {a} and {b}")),
    };
    let [sector, old, new, _] = newer.map(|word| word & BLOCK_MASK);
    // Each record uses the block that the one before it freed. Where it does not, its slot is being written anew.
    let begun = older[3] != 0 && older[1] & BLOCK_MASK != new || older[3] == 0 && older != [0; 4];
    Ok(Newest { sector: sector as usize, old, new, begun })
}

/// Where the metadata begin that change: map, flog, and behind them the copy of the info block.
///
/// # Errors
/// What is not as it must be.
pub fn metadata_at(image: &[u8]) -> Result<usize, String> {
    layout(image).map(|layout| layout.map_at)
}

/// How many writes are in the flog and not in the map, and how many records are begun and not committed. It looks at no
/// more than that needs.
///
/// # Errors
/// What is not as it must be.
pub fn under_way(image: &[u8]) -> Result<(usize, usize), String> {
    let Layout { sectors, groups, map_at, flog_at, .. } = layout(image)?;
    let (mut pending, mut begun) = (0, 0);
    for group in 0..groups {
        let Newest { sector, old, new, begun: is_begun } = newest(image, flog_at, group)?;
        if sector >= sectors {
            return Err(format!("group {group} is of sector {sector}"));
        }
        let block = match word(image, map_at + 4 * sector)? {
            0 => u32::try_from(sector).unwrap_or(BLOCK_MASK),
            entry => entry & BLOCK_MASK,
        };
        pending += usize::from(old != new && block == old);
        begun += usize::from(is_begun);
    }
    Ok((pending, begun))
}

/// Reads an image.
///
/// # Errors
/// What is not as it must be.
pub fn read(image: &[u8]) -> Result<ArenaContents, String> {
    let Layout { sector_bytes, sectors, block_bytes, blocks, groups, data_at, map_at, flog_at } = layout(image)?;
    let mut map = Vec::with_capacity(sectors);
    for sector in 0..sectors {
        let entry = word(image, map_at + 4 * sector)?;
        map.push(match entry >> 30 {
            0 if entry == 0 => None,
            3 => Some(entry & BLOCK_MASK),
            _ => return Err(format!("sector {sector} has the map entry {entry:#010x}")),
        });
    }
    let mut owners: BTreeMap<usize, String> = BTreeMap::new();
    let (mut pending, mut begun) = (0, 0);
    for group in 0..groups {
        let Newest { sector, old, new, begun: is_begun } = newest(image, flog_at, group)?;
        begun += usize::from(is_begun);
        let entry = map.get_mut(sector).ok_or_else(|| format!("group {group} is of sector {sector}"))?;
        if old != new && entry.unwrap_or(u32::try_from(sector).unwrap_or(BLOCK_MASK)) == old {
            pending += 1;
            *entry = Some(new);
        }
        if let Some(other) = owners.insert(old as usize, format!("group {group}")) {
            return Err(format!("block {old} is free in group {group}, and in {other}"));
        }
    }
    for (sector, block) in (0_u32..).zip(&map) {
        let block = block.unwrap_or(sector);
        if let Some(other) = owners.insert(block as usize, format!("sector {sector}")) {
            return Err(format!("block {block} is that of sector {sector}, and of {other}"));
        }
    }
    if owners.len() != blocks || owners.last_key_value().is_some_and(|(last, _)| *last >= blocks) {
        return Err(format!("{} of {blocks} blocks have an owner", owners.len()));
    }
    let sectors = u32::try_from(sectors).map_err(|_| "too many sectors")?;
    Ok(ArenaContents { sector_bytes, sectors, pending, begun, blocks: map, data_at, block_bytes })
}

impl ArenaContents {
    /// What a sector reads; zeroes where it was never written.
    ///
    /// # Panics
    /// If there is no such sector, or the image is another one.
    #[must_use]
    pub fn sector<'a>(&self, image: &'a [u8], lba: u32) -> &'a [u8] {
        let block = self.blocks[lba as usize].unwrap_or(lba) as usize;
        &image[self.data_at + block * self.block_bytes..][..self.sector_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn a_medium_that_linux_left_is_read_and_every_spoiled_part_of_it_is_seen() {
        let golden = golden::named("nolab-512");
        let dimm = golden.unpack();
        let image = std::fs::read(dimm.path()).expect("it is there");
        let found = read(&image).expect("a sound medium");
        assert_eq!((found.pending, found.begun), (0, 0));
        assert_eq!(under_way(&image), Ok((0, 0)));
        for (&lba, expected) in golden.namespaces[0].expected.iter().filter(|(_, expected)| *expected != "EIO") {
            let lba = u32::try_from(lba).expect("a small device");
            assert_eq!(&golden::digest(found.sector(&image, lba)), expected, "sector {lba}");
        }
        let [map_at, flog_at, copy_at] = [96, 104, 112].map(|at| place(&image, ARENA_AT + at).expect("within"));
        for (what, at) in [("info block", ARENA_AT + 60), ("map", map_at + 1), ("flog", flog_at + 4), ("copy", copy_at)]
        {
            let mut spoiled = image.clone();
            spoiled[at] ^= 1;
            assert!(read(&spoiled).is_err(), "{what}");
        }
    }

    #[test]
    fn what_was_under_way_when_linux_was_cut_is_seen() {
        for (name, expected) in [("u-nolab-4096-pending", (1, 0)), ("u-nolab-512-half", (0, 1))] {
            let golden = golden::named(name);
            let image = std::fs::read(golden.unpack().path()).expect("it is there");
            let found = read(&image).expect("a sound medium");
            assert_eq!((found.pending, found.begun), expected, "{name}");
            assert_eq!(under_way(&image), Ok(expected), "{name}");
            // By ndctl's check then, interrupted writes are all that is wrong.
            let said = golden.linux["check"][0].as_str().expect("the first look");
            assert_eq!(said.contains("bitmap error"), expected.0 > 0, "{said}");
        }
    }
}
