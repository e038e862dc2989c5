//! Time since the image's first instruction, by the time stamp counter (TSC).
//!
//! The TSC's rate is measured once against a clock of known rate: the ACPI power management timer, or the PIT if there
//! is none. Some virtual machines have neither: then CPUID tells it, or the real-time clock's seconds. CPUs are
//! expected to count in step: a lease (invariant 13) is judged by each CPU's own TSC, so by what these differ a lease is
//! longer or shorter.

use core::arch::x86_64::{__cpuid, _rdtsc};
use core::fmt;
use core::hint::spin_loop;

use kernel::tables::fadt::PmTimer;
use kernel::tsc;
use spin::Once;
use x86_64::instructions::port::Port;

/// The power management timer's rate (ACPI 6.5, 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;

/// The programmable interval timer's rate.
const PIT_HZ: u64 = 1_193_182;

/// The part of a second that a measurement takes: 5 ms, of which a microsecond of reading time is 0.02 %.
const MEASURE_FRACTION: u64 = 200;

/// More ticks than any TSC has in 5 ms: after them a timer counts as standing still.
const STANDS_STILL_TICKS: u64 = 1 << 30;

/// More reads of a timer than 5 ms take on any machine: after them it counts as standing still if the TSC does, too.
const PATIENCE: u32 = 10_000_000;

/// The clock that the rate was measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The ACPI power management timer.
    PmTimer,
    /// The programmable interval timer.
    Pit,
    /// CPUID tells it.
    Cpuid,
    /// A second of the real-time clock.
    Cmos,
    /// Nothing: 1 GHz is assumed.
    Assumed,
}

/// The clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    entry: u64,
    /// Nanoseconds in 2^32 ticks.
    ns_per_4g_ticks: u64,
    /// Ticks in a second.
    pub(crate) hz: u64,
    /// How the rate was found.
    pub(crate) reference: Reference,
}

static CLOCK: Once<Clock> = Once::new();

/// Measures the rate and starts the clock. The first call counts.
pub(crate) fn init(timer: Option<PmTimer>) -> Clock {
    *CLOCK.call_once(|| {
        let measured = timer.and_then(by_pm_timer).map(|hz| (hz, Reference::PmTimer));
        let measured = measured.or_else(|| by_pit().map(|hz| (hz, Reference::Pit)));
        let measured = measured.or_else(|| by_cpuid().map(|hz| (hz, Reference::Cpuid)));
        let measured = measured.or_else(|| by_cmos().map(|hz| (hz, Reference::Cmos)));
        let (hz, reference) = measured.unwrap_or((1_000_000_000, Reference::Assumed));
        let ns_per_4g_ticks = (1_000_000_000_u64 << 32) / hz; // `plausible` rates are not 0
        Clock { entry: boot::entry::entry_tsc(), ns_per_4g_ticks, hz, reference }
    })
}

/// Returns the nanoseconds since the image's first instruction; 0 before [`init`].
pub(crate) fn now_ns() -> u64 {
    CLOCK.get().map_or(0, Clock::now_ns)
}

/// Spins for `ns` nanoseconds; returns at once before [`init`].
pub(crate) fn spin_for(ns: u64) {
    let Some(clock) = CLOCK.get() else { return };
    let end = clock.now_ns().saturating_add(ns);
    while clock.now_ns() < end {
        spin_loop();
    }
}

impl Clock {
    /// Returns the nanoseconds since the image's first instruction.
    pub(crate) fn now_ns(&self) -> u64 {
        self.ns(ticks().wrapping_sub(self.entry))
    }

    /// Returns how long the TSC had counted at the image's first instruction, in nanoseconds. After power-on that is
    /// the firmware's share; some machines do not set the TSC to 0 when they restart.
    pub(crate) fn entry_ns(&self) -> u64 {
        self.ns(self.entry)
    }

    fn ns(&self, ticks: u64) -> u64 {
        let ns = (u128::from(ticks) * u128::from(self.ns_per_4g_ticks)) >> 32;
        // A hypervisor may set a TSC back below `entry`: the difference wraps, and time ends there.
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = match self.reference {
            Reference::PmTimer => "measured by the ACPI timer",
            Reference::Pit => "measured by the PIT",
            Reference::Cpuid => "told by CPUID",
            Reference::Cmos => "measured by the real-time clock's seconds",
            Reference::Assumed => "assumed: no timer to measure by",
        };
        let entry_ms = self.entry_ns() / 1_000_000;
        write!(f, "TSC at {} MHz, {reference}; {entry_ms} ms on it at the first instruction", self.hz / 1_000_000)
    }
}

/// Reads the TSC.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and the kernel may always use it.
    unsafe { _rdtsc() }
}

fn by_pm_timer(timer: PmTimer) -> Option<u64> {
    let mut port = Port::<u32>::new(timer.port);
    let mask = if timer.wide { u32::MAX } else { 0x00ff_ffff };
    // SAFETY: the FADT names this port as the timer; reading it has no effect.
    let mut read = || unsafe { port.read() } & mask;
    // Reads the timer between two reads of the TSC. Of four samples the quickest counts, for the hypervisor may
    // interrupt.
    let mut sample = || {
        let samples = [(); 4].map(|()| {
            let before = ticks();
            let timer = read();
            (ticks().wrapping_sub(before), before, timer)
        });
        samples.into_iter().min().unwrap_or_default()
    };
    let (_, first_tsc, first) = sample();
    for _ in 0..PATIENCE {
        let (_, tsc, timer) = sample();
        let passed = u64::from(timer.wrapping_sub(first) & mask);
        if passed >= PM_TIMER_HZ / MEASURE_FRACTION {
            return plausible(tsc.wrapping_sub(first_tsc), PM_TIMER_HZ, passed);
        }
        if tsc.wrapping_sub(first_tsc) > STANDS_STILL_TICKS {
            return None;
        }
    }
    None
}

fn by_pit() -> Option<u64> {
    const COUNT: u64 = PIT_HZ / MEASURE_FRACTION;
    const OUTPUT: u8 = 1 << 5;
    let [low, high, ..] = COUNT.to_le_bytes();
    let mut gate = Port::<u8>::new(0x61);
    let mut counter = Port::<u8>::new(0x42);
    // SAFETY: channel 2 of the PIT drives the speaker and nothing else; its gate and output are in port 0x61 on every PC.
    unsafe {
        let speaker_off = gate.read() & 0xfc;
        gate.write(speaker_off);
        Port::<u8>::new(0x43).write(0xb0); // channel 2, both bytes, mode 0: the output rises when it has counted down
        counter.write(low);
        counter.write(high);
        gate.write(speaker_off | 1);
        if gate.read() & OUTPUT != 0 {
            return None; // mode 0 begins low: there is no such channel, and the port reads as 0xff
        }
        let first = ticks();
        for _ in 0..PATIENCE {
            // Before the read: a hypervisor that lets us wait between the two does not make the timer stand still.
            let passed = ticks().wrapping_sub(first);
            if gate.read() & OUTPUT != 0 {
                return plausible(ticks().wrapping_sub(first), PIT_HZ, COUNT);
            }
            if passed > STANDS_STILL_TICKS {
                return None;
            }
        }
    }
    None
}

fn by_cpuid() -> Option<u64> {
    plausible(tsc::told_by_cpuid(__cpuid)?, 1, 1)
}

/// Takes one to two seconds; a few more if there is no such clock.
fn by_cmos() -> Option<u64> {
    const SECONDS: u8 = 0;
    // More reads of a port than a second takes: 0.1 us each under emulation, 1 us on hardware.
    const PATIENCE: u32 = 30_000_000;
    let mut data = Port::<u8>::new(0x71);
    // SAFETY: the real-time clock's index and data ports, on every PC; no other code uses them. The highest bit of the
    // index masks NMIs, which is the state to be in while an index is set.
    unsafe { Port::<u8>::new(0x70).write(0x80 | SECONDS) };
    // SAFETY: as above; reading the seconds has no effect.
    let measured = tsc::ticks_in_a_second(|| unsafe { data.read() }, ticks, PATIENCE);
    // SAFETY: as above: NMIs are on again.
    unsafe { Port::<u8>::new(0x70).write(SECONDS) };
    plausible(measured?, 1, 1)
}

/// Returns the TSC's rate, if it lies between 10 MHz and 100 GHz.
fn plausible(ticks: u64, reference_hz: u64, passed: u64) -> Option<u64> {
    let hz = u64::try_from(u128::from(ticks) * u128::from(reference_hz) / u128::from(passed)).ok()?;
    (10_000_000..100_000_000_000).contains(&hz).then_some(hz)
}
