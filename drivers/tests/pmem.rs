//! Mapped persistent memory: what is stored reads back, and nothing else changes.

use std::cell::RefCell;
use std::ptr::NonNull;

use btt::media::{MediaError, Medium, NsOffset};
use drivers::persist::Persist;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use drivers::pmem::{Access, PmemRegion, SliceError};
use drivers::raw::RawMedium;
use memmap2::MmapMut;

const MIB: u64 = 1 << 20;

fn region(mapping: &mut MmapMut, access: Access) -> PmemRegion {
    let base = NonNull::new(mapping.as_mut_ptr()).expect("a mapping");
    // SAFETY: each test keeps its mapping until its region is gone, and looks at it through the region only.
    unsafe { PmemRegion::from_mapping(base, mapping.len(), access, Persist::detect()) }
}

fn anonymous(bytes: u64) -> MmapMut {
    MmapMut::map_anon(usize::try_from(bytes).expect("fits")).expect("anonymous memory")
}

#[test]
fn what_is_written_reads_back_and_nothing_beside_it_changes() {
    let mut mapping = anonymous(MIB);
    let pmem = region(&mut mapping, Access::ReadWrite).namespace(0, MIB, Access::ReadWrite).expect("whole region");
    for (at, bytes) in [(0, 512), (4096, 4096), (65_536, 520), (MIB - 512, 512), (777, 1000)] {
        let sent: Vec<u8> = (0..bytes).map(|i: u64| u8::try_from((i + at) % 255 + 1).expect("a byte")).collect();
        pmem.write(NsOffset(at), &sent).expect("in range");
        pmem.fence().expect("no hints");
        let mut got = vec![0; sent.len()];
        pmem.read(NsOffset(at), &mut got).expect("in range");
        assert_eq!(got, sent, "{bytes} at {at}");
    }
    let mut beside = [9; 8];
    pmem.read(NsOffset(65_536 + 520), &mut beside).expect("in range");
    assert_eq!(beside, [0; 8]);
}

#[test]
fn words_are_little_endian_and_aligned() {
    let mut mapping = anonymous(MIB);
    let pmem = region(&mut mapping, Access::ReadWrite).namespace(4096, 8192, Access::ReadWrite).expect("a slice");
    pmem.store_u64(NsOffset(8), 0x0807_0605_0403_0201).expect("aligned");
    pmem.store_u32(NsOffset(16), 0x0c0b_0a09).expect("aligned");
    pmem.start_write_back(NsOffset(8), 12).expect("in range");
    pmem.fence().expect("no hints");
    let mut bytes = [0; 12];
    pmem.read(NsOffset(8), &mut bytes).expect("in range");
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(pmem.load_u32(NsOffset(12)), Ok(0x0807_0605));
    assert_eq!(pmem.load_u64(NsOffset(8)), Ok(0x0807_0605_0403_0201));
    for at in [1, 2, 3, 5] {
        assert_eq!(pmem.load_u32(NsOffset(at)), Err(MediaError::Misaligned { at: NsOffset(at) }));
        assert_eq!(pmem.store_u32(NsOffset(at), 0), Err(MediaError::Misaligned { at: NsOffset(at) }));
    }
    assert_eq!(pmem.load_u64(NsOffset(4)), Err(MediaError::Misaligned { at: NsOffset(4) }));
    assert_eq!(pmem.store_u64(NsOffset(4), 0), Err(MediaError::Misaligned { at: NsOffset(4) }));
}

#[test]
fn accesses_that_leave_the_namespace_are_refused_and_store_nothing() {
    let mut mapping = anonymous(MIB);
    let region = region(&mut mapping, Access::ReadWrite);
    let pmem = region.namespace(4096, 4096, Access::ReadWrite).expect("a slice");
    let whole = region.namespace(0, MIB, Access::ReadWrite).expect("whole region");
    for (at, bytes) in [(4096, 1), (4095, 2), (0, 4097), (u64::MAX, 1), (u64::MAX - 3, 8), (1 << 63, 64)] {
        let at = NsOffset(at);
        let refused = Err(MediaError::OutOfRange { at, bytes: bytes as u64 });
        assert_eq!(pmem.write(at, &vec![0xff; bytes]), refused);
        assert_eq!(pmem.read(at, &mut vec![0; bytes]), refused);
        assert_eq!(pmem.start_write_back(at, bytes as u64), refused);
    }
    let at = NsOffset(4096);
    assert_eq!(pmem.store_u32(at, 1), Err(MediaError::OutOfRange { at, bytes: 4 }));
    assert_eq!(pmem.store_u64(at, 1), Err(MediaError::OutOfRange { at, bytes: 8 }));
    assert_eq!(
        pmem.start_write_back(NsOffset(0), u64::MAX),
        Err(MediaError::OutOfRange { at: NsOffset(0), bytes: u64::MAX })
    );
    pmem.read(at, &mut []).expect("no bytes at the end are in range");
    let mut all = vec![1; mapping.len()];
    whole.read(NsOffset(0), &mut all).expect("in range");
    assert!(all.iter().all(|&b| b == 0));
}

#[test]
fn read_only_of_the_region_or_of_the_namespace_refuses_every_store() {
    let mut mapping = anonymous(MIB);
    for (of_region, of_namespace) in [(Access::ReadOnly, Access::ReadWrite), (Access::ReadWrite, Access::ReadOnly)] {
        let pmem = region(&mut mapping, of_region).namespace(0, 4096, of_namespace).expect("a slice");
        assert!(pmem.read_only());
        assert_eq!(pmem.write(NsOffset(0), &[1]), Err(MediaError::ReadOnly));
        assert_eq!(pmem.store_u32(NsOffset(0), 1), Err(MediaError::ReadOnly));
        assert_eq!(pmem.store_u64(NsOffset(0), 1), Err(MediaError::ReadOnly));
        assert_eq!(pmem.load_u64(NsOffset(0)), Ok(0));
    }
}

#[test]
fn what_is_lost_cannot_be_read_by_any_namespace_until_whole_lines_are_written() {
    let mut mapping = anonymous(MIB);
    let region = region(&mut mapping, Access::ReadWrite);
    let pmem = region.namespace(4096, 8192, Access::ReadWrite).expect("a slice");
    let whole = region.namespace(0, MIB, Access::ReadWrite).expect("whole region");
    pmem.lose(NsOffset(130), 100).expect("in range");
    let poisoned = |at| Err(MediaError::Poisoned { at: NsOffset(at) });
    assert_eq!(pmem.read(NsOffset(0), &mut [0; 512]), poisoned(128));
    assert_eq!(pmem.load_u64(NsOffset(192)).map(|_| ()), poisoned(192));
    assert_eq!(whole.load_u32(NsOffset(4096 + 252)).map(|_| ()), poisoned(4096 + 252));
    assert_eq!(pmem.lost(), [(NsOffset(128), 128)]);
    // A line that is written in part stays lost, and would take with it what is stored.
    assert_eq!(pmem.write(NsOffset(130), &[1; 126]), Err(MediaError::Poisoned { at: NsOffset(128) }));
    assert_eq!(pmem.store_u64(NsOffset(248), 1), Err(MediaError::Poisoned { at: NsOffset(192) }));
    assert_eq!((whole.store_u32(NsOffset(4096 + 256), 1), whole.lost().len()), (Ok(()), 1));
    pmem.write(NsOffset(100), &[1; 156]).expect("each lost line wholly");
    assert_eq!(whole.lost(), []);
    pmem.lose(NsOffset(511), 1).expect("in range");
    whole.write(NsOffset(4096), &[2; 512]).expect("in range");
    assert_eq!((pmem.lost(), pmem.read(NsOffset(0), &mut [0; 512])), (vec![], Ok(())));
    assert!(pmem.lose(NsOffset(8192), 1).is_err());
}

#[test]
fn slices_outside_the_region_or_inside_a_line_are_refused() {
    let mut mapping = anonymous(MIB);
    let region = region(&mut mapping, Access::ReadWrite);
    for (at, bytes) in [(0, MIB + 1), (MIB, 64), (MIB - 64, 128), (64, u64::MAX), (u64::MAX - 63, 64)] {
        assert_eq!(
            region.namespace(at, bytes, Access::ReadWrite).err(),
            Some(SliceError::OutOfRange { at, bytes, region_bytes: MIB })
        );
    }
    assert_eq!(region.namespace(8, 64, Access::ReadWrite).err(), Some(SliceError::Misaligned { at: 8 }));
}

#[test]
fn a_copy_that_races_with_stores_gives_a_mix_of_old_and_new() {
    let mut mapping = anonymous(MIB);
    let pmem = region(&mut mapping, Access::ReadWrite).namespace(0, 4096, Access::ReadWrite).expect("a slice");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2000 {
                pmem.write(NsOffset(0), &[if round % 2 == 0 { 0 } else { 0xff }; 4096]).expect("in range");
            }
        });
        for _ in 0..2000 {
            let mut seen = [7; 4096];
            pmem.read(NsOffset(0), &mut seen).expect("in range");
            assert!(seen.iter().all(|&b| b == 0 || b == 0xff));
        }
    });
}

/// Physical memory of one anonymous page, which remembers how it was mapped.
struct OnePage {
    page: RefCell<MmapMut>,
    asked: RefCell<Vec<(u64, u64, Attribute)>>,
}

// SAFETY: the page lives as long as the tests that use it; it is reached through this map only. (Its addresses all
// lead to the one page, which the tests here allow for.)
unsafe impl PhysMap for OnePage {
    fn map(&self, at: PhysAddr, bytes: u64, attribute: Attribute) -> Result<NonNull<u8>, MapError> {
        self.asked.borrow_mut().push((at.0, bytes, attribute));
        let in_page = usize::try_from(at.0 % 4096).expect("fits");
        if in_page as u64 + bytes > 4096 {
            return Err(MapError::NoRoom { at, bytes });
        }
        Ok(NonNull::new(self.page.borrow_mut()[in_page..].as_mut_ptr()).expect("a mapping"))
    }
}

#[test]
fn a_fence_writes_each_dimms_flush_hint() {
    let phys = OnePage { page: RefCell::new(anonymous(4096)), asked: RefCell::default() };
    let hints = [PhysAddr(0xfee0_0800), PhysAddr(0xfee0_0808)];
    let region =
        PmemRegion::map(&phys, PhysAddr(1 << 32), 4096, &hints, Access::ReadWrite, Persist::detect()).expect("mapped");
    let pmem = region.namespace(0, 4096, Access::ReadWrite).expect("whole region");
    assert_eq!(pmem.load_u64(NsOffset(0x800)), Ok(0));
    pmem.fence().expect("no error is possible");
    assert_eq!(pmem.load_u64(NsOffset(0x800)), Ok(1));
    assert_eq!(pmem.load_u64(NsOffset(0x808)), Ok(1));
    assert_eq!(
        *phys.asked.borrow(),
        [
            (1 << 32, 4096, Attribute::WriteBack),
            (0xfee0_0800, 8, Attribute::Uncached),
            (0xfee0_0808, 8, Attribute::Uncached)
        ]
    );
}

#[test]
fn misaligned_regions_and_hints_are_not_mapped() {
    let phys = OnePage { page: RefCell::new(anonymous(4096)), asked: RefCell::default() };
    let map =
        |at, hints: &[PhysAddr]| PmemRegion::map(&phys, at, 64, hints, Access::ReadWrite, Persist::detect()).err();
    assert_eq!(map(PhysAddr(0x123), &[]), Some(MapError::Misaligned { at: PhysAddr(0x123) }));
    let hint = PhysAddr(0xfed0_0003);
    assert_eq!(map(PhysAddr(0), &[hint]), Some(MapError::Misaligned { at: hint }));
    assert_eq!(map(PhysAddr(4096 - 32), &[]), Some(MapError::Misaligned { at: PhysAddr(4096 - 32) }));
}
