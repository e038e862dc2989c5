//! Pages of memory that fail when they are loaded, as poisoned memory does, until they are stored to.
//!
//! Such a page is not accessible. A signal stands for the machine check: its handler does what the kernel's does, at
//! whatever instruction the load failed. A store makes the page whole again, with its old bytes.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use drivers::phys::PhysAddr;
use drivers::{guarded, poison};

use crate::memory::Memory;

const PAGE_BYTES: usize = 4096;
const PAGE: u64 = PAGE_BYTES as u64;

/// The base-2 logarithm of a page's length, as a machine check gives it.
const PAGE_SHIFT: u32 = PAGE.ilog2();

/// A page that fails: where the host has it, and where the machine. 0 is free.
struct Failing {
    host: AtomicU64,
    machine: AtomicU64,
}

/// Found by the handler, which takes no lock.
static FAILING: [Failing; 16] = [const { Failing { host: AtomicU64::new(0), machine: AtomicU64::new(0) } }; 16];

impl Memory {
    /// Makes the page fail that begins `at` bytes into this memory, which the machine has at `base`.
    ///
    /// # Panics
    /// When it is no page of the memory, or too many pages fail in this process.
    pub fn fail(&self, base: u64, at: u64) {
        assert!(at.is_multiple_of(PAGE) && at < self.bytes as u64, "a page of the memory");
        let host = self.start.as_ptr() as u64 + at;
        let taken = |page: &&Failing| {
            // The handler reads the second one after it has found the first one, and the page does not fail yet.
            page.host.compare_exchange(0, host, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let page = FAILING.iter().find(taken).expect("room for another page");
        page.machine.store(base + at, Ordering::Release);
        let action = libc::sigaction {
            sa_sigaction: touched as *const () as usize,
            // SAFETY: a set of no signals.
            sa_mask: unsafe { std::mem::zeroed() },
            sa_flags: libc::SA_SIGINFO | libc::SA_ONSTACK,
            sa_restorer: None,
        };
        // SAFETY: the handler may interrupt any code: it uses atomics and system calls only. The page is this memory's,
        // which is no Rust object.
        unsafe {
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()), 0);
            assert_eq!(libc::mprotect(host as *mut c_void, PAGE_BYTES, libc::PROT_NONE), 0);
        }
    }
}

extern "C" fn touched(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both, valid for the time of the handler, which has been set with SA_SIGINFO.
    let (address, rip) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        ((*info).si_addr() as u64, &mut context.uc_mcontext.gregs[libc::REG_RIP as usize])
    };
    let host = address / PAGE * PAGE;
    let Some(page) = FAILING.iter().find(|page| page.host.load(Ordering::Acquire) == host) else {
        // A fault of the test's own: it happens again, and ends the process.
        // SAFETY: a plain system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    match guarded::resume_at(rip.cast_unsigned()) {
        Some(at) => {
            if poison::report(PhysAddr(page.machine.load(Ordering::Acquire)), PAGE_SHIFT).is_err() {
                // SAFETY: ends the process.
                unsafe { libc::abort() };
            }
            *rip = at.cast_signed();
        }
        None => {
            // SAFETY: the page is that of a [`Memory`].
            unsafe { libc::mprotect(host as *mut c_void, PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE) };
            page.host.store(0, Ordering::Release);
        }
    }
}
