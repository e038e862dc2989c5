//! Lines that turn out to be lost while they are read: the bus error of a mapped file that has become shorter stands for the
//! machine check. The signal handler does what the kernel's handler does, at whatever instruction the load failed.

use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use btt::media::{MediaError, Medium, NsOffset};
use drivers::persist::Persist;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use drivers::pmem::{Access, Pmem, PmemRegion};
use drivers::raw::RawMedium;
use drivers::{guarded, poison};

const PAGE: u64 = 4096;
/// Where the file is in physical memory.
const BASE: u64 = 0x7_0000_0000;

/// Where the file is mapped.
static MAPPED: AtomicU64 = AtomicU64::new(0);
/// The number of loads that end before the one whose loss is reported.
static SPURIOUS: AtomicU32 = AtomicU32::new(0);
/// A file that is to be whole again when the handler returns, which then lets the load go on; or -1.
static HEALED: AtomicI32 = AtomicI32::new(-1);
/// How many were ended.
static STRUCK: AtomicU32 = AtomicU32::new(0);

extern "C" fn struck(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both, valid for the time of the handler, which has been set with SA_SIGINFO.
    let (address, rip) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        ((*info).si_addr() as u64, &mut context.uc_mcontext.gregs[libc::REG_RIP as usize])
    };
    STRUCK.fetch_add(1, Ordering::Relaxed);
    let spurious = SPURIOUS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let reported = spurious || poison::report(PhysAddr(BASE + address - MAPPED.load(Ordering::Relaxed)), 6).is_ok();
    let healed = HEALED.swap(-1, Ordering::Relaxed);
    if healed >= 0 {
        // SAFETY: a plain system call.
        unsafe { libc::ftruncate(healed, 8192) };
        return;
    }
    match guarded::resume_at(rip.cast_unsigned()) {
        Some(at) if reported => *rip = at.cast_signed(),
        // SAFETY: ends the process.
        _ => unsafe { libc::abort() },
    }
}

struct File(NonNull<u8>);

// SAFETY: the mapping is never taken away, and only the map's user reaches it.
unsafe impl PhysMap for File {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        if at.0 == BASE && bytes == 2 * PAGE { Ok(self.0) } else { Err(MapError::NoRoom { at, bytes }) }
    }
}

/// Two pages of persistent memory, of which the second one fails when it is touched.
fn half_lost() -> (Pmem, libc::c_int) {
    let action = libc::sigaction {
        sa_sigaction: struck as *const () as usize,
        // SAFETY: a set of no signals.
        sa_mask: unsafe { std::mem::zeroed() },
        sa_flags: libc::SA_SIGINFO,
        sa_restorer: None,
    };
    // SAFETY: plain system calls with valid arguments; no object lies in the mapping.
    let (start, file) = unsafe {
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()), 0);
        let file = libc::memfd_create(c"persistent".as_ptr(), 0);
        assert_eq!(libc::ftruncate(file, 4096), 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        (libc::mmap(ptr::null_mut(), 2 * 4096, protection, libc::MAP_SHARED, file, 0), file)
    };
    assert_ne!(start, libc::MAP_FAILED);
    MAPPED.store(start as u64, Ordering::Relaxed);
    let start = NonNull::new(start.cast()).expect("not at 0");
    let region = PmemRegion::map(&File(start), PhysAddr(BASE), 2 * PAGE, &[], Access::ReadWrite, Persist::detect());
    (region.expect("mapped").namespace(0, 2 * PAGE, Access::ReadWrite).expect("whole"), file)
}

#[test]
fn a_load_that_fails_is_a_media_error_and_the_line_stays_lost_until_it_is_written() {
    let (pmem, file) = half_lost();
    let poisoned = |at| MediaError::Poisoned { at: NsOffset(at) };
    pmem.write(NsOffset(0), &[7; 4096]).expect("the first page is there");

    // Whole lines, pieces of them, and words; each time a line that was not touched before.
    let mut buffer = [0; 4096];
    let mut expected = Vec::new();
    for (at, bytes) in [(PAGE, 64), (PAGE + 128, 8), (PAGE + 256 + 7, 3), (PAGE - 512, 1024 + 64)] {
        let buffer = &mut buffer[..bytes];
        let before = STRUCK.load(Ordering::Relaxed);
        let lost = pmem.read(NsOffset(at), buffer).expect_err("it is lost");
        assert!(matches!(lost, MediaError::Poisoned { at: found } if found.0 >= at.max(PAGE)), "{lost}");
        if at < PAGE {
            assert_eq!(STRUCK.load(Ordering::Relaxed), before, "what is known to be lost is not touched");
        }
        expected.extend(NonZero::new(at / 64 * 64).filter(|at| at.get() >= PAGE));
    }
    assert_eq!(pmem.load_u32(NsOffset(PAGE + 512 + 4)), Err(poisoned(PAGE + 512 + 4)));
    assert_eq!(pmem.load_u64(NsOffset(PAGE + 640)), Err(poisoned(PAGE + 640)));
    expected.extend([PAGE + 512, PAGE + 640].map(NonZero::new).into_iter().flatten());
    let lost: Vec<u64> = pmem.lost().into_iter().map(|(at, _)| at.0).collect();
    assert_eq!(lost, expected.iter().map(|at| at.get()).collect::<Vec<_>>());
    assert_eq!(STRUCK.load(Ordering::Relaxed), 5);
    assert_eq!((pmem.read(NsOffset(0), &mut buffer), buffer), (Ok(()), [7; 4096]));

    // The medium has these bytes again.
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::ftruncate(file, 8192) }, 0);
    assert_eq!(pmem.load_u64(NsOffset(PAGE + 640)), Err(poisoned(PAGE + 640)), "but nobody has written them");
    // A report that came late: what it was about is sound when it is looked at again.
    assert_eq!(pmem.load_u32(NsOffset(PAGE + 512 + 4)), Err(poisoned(PAGE + 512 + 4)));
    pmem.look_again(NsOffset(PAGE + 512), 64).expect("in range");
    assert_eq!(pmem.load_u32(NsOffset(PAGE + 512 + 4)), Ok(0));
    // What was injected stays: the medium knows nothing of it.
    pmem.lose(NsOffset(PAGE + 704), 64).expect("in range");
    pmem.look_again(NsOffset(PAGE + 704), 64).expect("in range");
    assert_eq!(pmem.load_u32(NsOffset(PAGE + 704)), Err(poisoned(PAGE + 704)));
    // A part of a line does not bring it back, and would be lost with it.
    assert_eq!(pmem.store_u64(NsOffset(PAGE + 640), 5), Err(poisoned(PAGE + 640)));
    assert_eq!(pmem.store_u32(NsOffset(PAGE + 644), 5), Err(poisoned(PAGE + 640)));
    assert_eq!(pmem.write(NsOffset(PAGE + 600), &[5; 80]), Err(poisoned(PAGE + 640)));
    pmem.write(NsOffset(PAGE), &[5; 4096]).expect("all of it");
    assert_eq!((pmem.load_u64(NsOffset(PAGE + 640)), pmem.lost()), (Ok(0x0505_0505_0505_0505), vec![]));

    // Machine checks about something else: the load is tried again, but not for ever.
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::ftruncate(file, 4096) }, 0);
    SPURIOUS.store(2, Ordering::Relaxed);
    assert_eq!(pmem.load_u64(NsOffset(PAGE + 64)), Err(poisoned(PAGE + 64)));
    assert_eq!(pmem.lost(), [(NsOffset(PAGE + 64), 64)]);
    SPURIOUS.store(u32::MAX, Ordering::Relaxed);
    let before = STRUCK.load(Ordering::Relaxed);
    assert_eq!(pmem.load_u64(NsOffset(PAGE + 1024)), Err(poisoned(PAGE + 1024)));
    assert!(STRUCK.load(Ordering::Relaxed) - before < 10);

    // The load itself goes on, as after a machine check that came late: what it got is not to be trusted.
    SPURIOUS.store(0, Ordering::Relaxed);
    HEALED.store(file, Ordering::Relaxed);
    assert_eq!(pmem.read(NsOffset(PAGE + 2048), &mut buffer[..128]), Err(poisoned(PAGE + 2048)));
    assert_eq!(HEALED.load(Ordering::Relaxed), -1);

    // The same while nothing is known to be lost.
    pmem.write(NsOffset(PAGE), &[6; 4096]).expect("the file is whole again");
    assert_eq!(pmem.lost(), []);
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::ftruncate(file, 4096) }, 0);
    HEALED.store(file, Ordering::Relaxed);
    assert_eq!(pmem.load_u64(NsOffset(PAGE + 2048)), Err(poisoned(PAGE + 2048)));

    // Memory that is not mapped belongs to no region.
    assert_eq!(poison::report(PhysAddr(BASE - 1), 6), Err(poison::ReportError::Elsewhere));
    assert_eq!(poison::report(PhysAddr(BASE + 2 * PAGE), 6), Err(poison::ReportError::Elsewhere));
    // More than a line, and more than the region.
    assert_eq!(poison::report(PhysAddr(BASE + PAGE + 5), 12), Ok(()));
    assert_eq!(pmem.lost(), [(NsOffset(PAGE), PAGE)]);
    assert_eq!(poison::report(PhysAddr(BASE + PAGE + 5), 20), Ok(()));
    assert_eq!(pmem.lost(), [(NsOffset(0), 2 * PAGE)]);
}
