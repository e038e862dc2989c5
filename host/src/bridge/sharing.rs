//! Whether a consumer's QEMU shares its RAM file, or has a private copy of it (`share=off`): it sends the same descriptor
//! for both, but what its guest writes to a private copy is seen by no other process.

use std::fs;

use super::memory_table::Region;
use crate::identity::Identity;

/// Whether the process has a private copy of one of these pieces of the file. False where the system does not tell.
pub(super) fn is_private(pid: i32, regions: &[Region], file: Identity) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter_map(Mapping::parse).any(|mapping| {
        mapping.private
            && mapping.inode == file.inode
            && regions.iter().any(|region| (mapping.from..mapping.to).contains(&region.user))
    })
}

/// A line of `/proc/PID/maps`: `7f00-7f80 rw-s 00000000 00:1a 77 /dev/shm/ram`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    from: u64,
    to: u64,
    private: bool,
    inode: u64,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16));
        let private = words.next()?.ends_with('p');
        let inode = words.nth(2)?.parse().ok()?;
        Some(Self { from: from.ok()?, to: to.ok()?, private, inode })
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;

    #[test]
    fn lines_of_maps_are_taken_apart() {
        let of = |line| Mapping::parse(line);
        let expected = |private, inode| Some(Mapping { from: 0x7f00, to: 0x8000, private, inode });
        assert_eq!(of("7f00-8000 rw-s 00000000 00:1a 77   /dev/shm/ram"), expected(false, 77));
        assert_eq!(of("7f00-8000 rw-p 00001000 00:1a 78   /dev/shm/a ram"), expected(true, 78));
        assert_eq!(of("7f00-8000 rw-p 00000000 00:00 0"), expected(true, 0));
        for nothing in ["", "7f00", "7f00-8000", "7f00-8000 rw-p 0 00:00 x", "x-y rw-p 0 00:00 0"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
