//! A CXL function whose configuration space is memory of ours: what is missing in it is told, and nothing of it is mapped.

use std::cell::RefCell;
use std::ptr::NonNull;

use drivers::cxl::CxlError;
use drivers::cxl::config::{Endpoint, is_memory_device};
use drivers::pci::{Config, Function, PciError};
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use memmap2::MmapMut;

/// A bus's configuration space has a MiB.
const BUS_BYTES: usize = 1 << 20;

const BASE: PhysAddr = PhysAddr(0xb000_0000);

/// Configuration space of one bus, and what else was to be mapped.
struct Bus {
    space: RefCell<MmapMut>,
    asked: RefCell<Vec<(PhysAddr, u64)>>,
}

// SAFETY: the memory lives as long as the test that uses it, which reaches it through this map only once it is mapped.
unsafe impl PhysMap for Bus {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        if at == BASE {
            return Ok(NonNull::new(self.space.borrow_mut().as_mut_ptr()).expect("a mapping"));
        }
        self.asked.borrow_mut().push((at, bytes));
        Err(MapError::NoRoom { at, bytes })
    }
}

/// Brings up the device at 0.0 of a bus with these double words; what is not there reads as all ones.
fn map(words: &[(usize, &[u32])]) -> Result<(), CxlError> {
    let mut space = MmapMut::map_anon(BUS_BYTES).expect("memory");
    space.fill(0xff);
    space[..4096].fill(0);
    for (at, values) in words {
        for (at, value) in (*at..).step_by(4).zip(*values) {
            space[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    let bus = Bus { space: RefCell::new(space), asked: RefCell::default() };
    // SAFETY: it is memory of this test, for this configuration space alone.
    let config = unsafe { Config::by_memory(&bus, BASE, 0, 0, 0) }.expect("it is mapped");
    let functions = config.functions(false);
    let [function]: &[Function] = &functions else { panic!("{functions:?}") };
    assert!(is_memory_device(&config, function));
    let outcome = Endpoint::map(&config, function, &bus).map(drop);
    assert_eq!(*bus.asked.borrow(), [], "nothing is mapped");
    outcome
}

#[test]
fn what_a_memory_device_lacks_is_told_and_none_of_its_registers_are_mapped() {
    /// Vendor and class of a memory device, and memory in BAR 0, whose address takes all bits: it has 16 bytes.
    const HEAD: &[(usize, &[u32])] = &[(0, &[0x0d93_8086, 0, 0x0502_1001, 0]), (0x10, &[0xfe00_0000])];
    const DEVICE: (usize, &[u32]) = (0x100, &[0x1501_0023, 0x03c0_1e98, 0x001e_0000, 0x0002_0002]);
    let locator = |low: u32| [0x0001_0023, 0x0240_1e98, 0x0000_0008, low, 0];
    let component = locator(0x0000_0100);
    let missing = Err(CxlError::NoRegisters { what: "component" });
    let bar = |slot| Err(CxlError::Pci(PciError::Bar { slot }));
    assert_eq!(map(HEAD), Err(CxlError::NotMemory));
    assert_eq!(map(&[HEAD, &[(0x100, &component)]].concat()), Err(CxlError::NotMemory));
    assert_eq!(map(&[HEAD, &[DEVICE]].concat()), missing);
    // Its registers do not lie in the BAR; begin behind it; the BAR is no memory; it is not there.
    let all = |locator: &[u32; 5], bar: u32| map(&[HEAD, &[DEVICE, (0x150, locator), (0x10, &[bar])]].concat());
    assert_eq!(all(&component, 0xfe00_0000), missing);
    assert_eq!(all(&locator(0xffff_0100), 0xfe00_0000), missing);
    assert_eq!(all(&component, 0xc001), bar(0));
    assert_eq!(all(&locator(0x0000_0105), 0xfe00_0000), bar(5));
    assert_eq!(all(&component, 0), bar(0));
}
