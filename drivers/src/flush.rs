//! Fences that are FLUSHes of a device, shared by all CPUs.
//!
//! A fence needs any FLUSH that was made available after its stores. So FLUSHes have numbers, and a fence waits until the
//! next one that begins is over: the CPU that finds the device free makes it, for itself and for all that came before it. Any
//! number of lanes pays for one.
//!
//! | step | by | order |
//! |---|---|---|
//! | stores, `sfence`, a full fence | each CPU | before it reads `begun` |
//! | `begun` + 1, then the request is made available | the CPU that has the port | so a fence that read the number before is covered |
//! | `over` | that CPU | release; pairs with the others' acquire: what they return for is durable |
//!
//! The first FLUSH that fails is final: a host that could not write pages may call them clean, so a later success proves
//! nothing. From then on every fence fails, and [`Flush::fault`] tells it.

use alloc::sync::Arc;
use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use btt::media::FenceFault;
use spin::{Mutex, Once};

use crate::persist;

/// Returns nanoseconds since any moment; never goes back. Who waits calls it again and again, so that a machine can do with
/// each call what it has to do meanwhile.
pub type NowNs = fn() -> u64;

/// Waits until something holds, but no longer than `patience_ns`. Returns whether it does.
pub(crate) fn wait(now_ns: NowNs, patience_ns: u64, mut holds: impl FnMut() -> bool) -> bool {
    let end = now_ns().saturating_add(patience_ns);
    loop {
        if holds() {
            return true;
        }
        if now_ns() > end {
            return false;
        }
        spin_loop();
    }
}

/// What makes stores durable.
pub trait Flush: fmt::Debug + Send + Sync {
    /// Waits until all that this CPU has stored is durable.
    ///
    /// # Errors
    /// [`FenceFault`]: it is not, and never will be for sure.
    fn flush(&self) -> Result<(), FenceFault>;

    /// Returns why it failed, if it has.
    fn fault(&self) -> Option<FenceFault>;
}

/// A device that carries FLUSHes out, one at a time.
pub trait Port: fmt::Debug + Send {
    /// Makes a FLUSH available. The one before is over.
    fn submit(&mut self);

    /// Returns what became of it, once that is known.
    fn poll(&mut self) -> Option<Result<(), FenceFault>>;

    /// Returns whether the device has stopped. Slow: it is asked now and then.
    fn has_stopped(&mut self) -> bool;
}

/// How long a FLUSH may take. A host may have much to write; beyond this it is taken for lost.
pub const PATIENCE_SECONDS: u32 = 30;

/// How often the device is asked whether it has stopped.
const LOOK_NS: u64 = 10_000_000;

/// FLUSHes of a device.
#[derive(Debug)]
pub struct Flusher<P> {
    port: Mutex<P>,
    /// The number of FLUSHes that have begun.
    begun: AtomicU64,
    /// The number of FLUSHes that are over.
    over: AtomicU64,
    fault: Once<FenceFault>,
    now_ns: NowNs,
}

impl<P: Port + 'static> Flusher<P> {
    /// FLUSHes of this device.
    pub fn new(port: P, now_ns: NowNs) -> Arc<Self> {
        let (begun, over) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { port: Mutex::new(port), begun, over, fault: Once::new(), now_ns })
    }

    /// Makes one FLUSH and waits for it, at most [`PATIENCE_SECONDS`].
    fn flush_once(&self, port: &mut P) -> Result<(), FenceFault> {
        // Before the request is made available: a fence that has read the old number has its stores before this, so before
        // the request, and one that reads the new number waits for the next FLUSH.
        self.begun.fetch_add(1, Ordering::SeqCst);
        port.submit();
        let began = (self.now_ns)();
        let mut looked = began;
        loop {
            if let Some(outcome) = port.poll() {
                return outcome;
            }
            let now = (self.now_ns)();
            if now.saturating_sub(looked) >= LOOK_NS {
                looked = now;
                if port.has_stopped() {
                    return Err(FenceFault::Stopped);
                }
            }
            if now.saturating_sub(began) / 1_000_000_000 >= u64::from(PATIENCE_SECONDS) {
                return Err(FenceFault::Silent { seconds: PATIENCE_SECONDS });
            }
            spin_loop();
        }
    }
}

impl<P: Port + 'static> Flush for Flusher<P> {
    fn flush(&self) -> Result<(), FenceFault> {
        persist::fence();
        // Pairs with the increment of `begun`: either this reads the number before it, and the FLUSH comes after our stores,
        // or it reads the new one, and waits for another.
        fence(Ordering::SeqCst);
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        loop {
            if let Some(fault) = self.fault() {
                return Err(fault);
            }
            if self.over.load(Ordering::Acquire) >= wanted {
                return Ok(());
            }
            let Some(mut port) = self.port.try_lock() else {
                // The CPU that has it waits within a bound, and looks at the clock meanwhile; so does this one.
                (self.now_ns)();
                spin_loop();
                continue;
            };
            // Again, with the port: the CPU that had it may have made the one that was wanted, or failed.
            if self.over.load(Ordering::Acquire) >= wanted || self.fault().is_some() {
                continue;
            }
            match self.flush_once(&mut port) {
                // Under the port: FLUSHes are over in their order.
                Ok(()) => self.over.store(self.begun.load(Ordering::Relaxed), Ordering::Release),
                Err(why) => {
                    self.fault.call_once(|| why);
                }
            }
        }
    }

    fn fault(&self) -> Option<FenceFault> {
        self.fault.get().copied()
    }
}
