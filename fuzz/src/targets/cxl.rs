//! A CXL memory device: its configuration space, its decoders and its host bridge's, its mailbox and label area.
//!
//! Each register that is read takes the next bytes of the input, so that a device may change its mind with each look; where
//! they end, all reads as zero or as ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use drivers::cxl::config::Extended;
use drivers::cxl::decoder::{HdmRange, UNIT_BYTES};
use drivers::cxl::mailbox::{LabelArea, Mailbox};
use drivers::cxl::memory::{self, Path, Window};
use drivers::registers::Registers;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelSource as _, LabelStore as _};

const WINDOWS: [HdmRange; 2] =
    [HdmRange { base: UNIT_BYTES, bytes: UNIT_BYTES }, HdmRange { base: 1 << 36, bytes: 1 << 34 }];

/// A clock on which each look takes 100 ms.
fn quick() -> u64 {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    LOOKS.fetch_add(1, Ordering::Relaxed) * 100_000_000
}

/// Registers that read as the input goes on; or, steady ones, as the input is at their own place.
#[derive(Clone, Debug)]
struct Wild {
    bytes: Arc<[u8]>,
    next: Arc<AtomicUsize>,
    /// Whether a register reads the same each time: with such ones a bring-up gets further.
    steady: bool,
}

impl Registers for Wild {
    fn read(&self, at: u32) -> u32 {
        let at = if self.steady { at as usize % 4096 } else { self.next.fetch_add(4, Ordering::Relaxed) };
        let end = if self.bytes.first().is_some_and(|first| first & 1 != 0) { u32::MAX } else { 0 };
        self.bytes.get(at..).and_then(|left| left.first_chunk()).map_or(end, |word| u32::from_le_bytes(*word))
    }

    fn write(&self, _: u32, _: u32) {}

    fn read_wide(&self, at: u32) -> u64 {
        u64::from(self.read(at.wrapping_add(4))) << 32 | u64::from(self.read(at))
    }

    fn write_wide(&self, _: u32, _: u64) {}
}

/// Brings such a device up, and uses its labels.
pub(super) fn run(bytes: &[u8]) {
    let word = |at: u16| {
        let word = bytes.get(usize::from(at).saturating_sub(0x100)..).and_then(|left| left.first_chunk());
        word.map_or(0, |word| u32::from_le_bytes(*word))
    };
    let _ = Extended::read(word);
    for steady in [false, true] {
        let registers = Wild { bytes: bytes.into(), next: Arc::default(), steady };
        let Ok(mut mailbox) = Mailbox::find(registers.clone(), quick) else { continue };
        let windows = WINDOWS.map(|range| Window { range, is_fixed: !steady });
        let path = Path { bridge: &registers, port: 0, device: &registers, windows: &windows };
        if let Ok((range, identity)) = memory::start(&path, &mut mailbox, quick) {
            assert!(WINDOWS.iter().any(|window| window.contains(&range)), "it is in a window");
            assert_eq!((range.bytes, range.bytes), (identity.total, identity.persistent));
        }
        let dimm = DeviceHandle(1);
        let mut area = LabelArea::new(mailbox, dimm, 1 << 20);
        let mut some = [0; 300];
        let _ = area.read(dimm, 5, &mut some);
        let _ = area.write(dimm, (1 << 20) - 300, &some);
    }
}
