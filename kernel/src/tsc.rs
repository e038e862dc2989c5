//! The rate of the time stamp counter (TSC) where no timer measures it: as CPUID tells, or by the clock's seconds.

use core::arch::x86_64::CpuidResult;

/// Returns the rate in Hz that CPUID tells, by the first of these sources that there is:
/// 1. leaf 4000_0010h: a hypervisor's, in kHz (VMware's interface, which KVM and QEMU have, too). It comes first, as a
///    hypervisor may scale the TSC and pass the processor's own leaves on;
/// 2. leaf 15h: the crystal's rate and the TSC's ratio to it (Intel SDM, volume 2A, CPUID);
/// 3. leaf 16h: the processor's base frequency in MHz, which a TSC of constant rate has.
#[must_use]
pub fn told_by_cpuid(cpuid: impl Fn(u32) -> CpuidResult) -> Option<u64> {
    const HYPERVISOR: u32 = 1 << 31;
    const NONE: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    let highest = cpuid(0).eax;
    let leaf = |number: u32| if number <= highest { cpuid(number) } else { NONE };

    if leaf(1).ecx & HYPERVISOR != 0 && (0x4000_0010..0x4001_0000).contains(&cpuid(0x4000_0000).eax) {
        let khz = cpuid(0x4000_0010).eax;
        if khz != 0 {
            return Some(u64::from(khz) * 1000);
        }
    }
    let crystal = leaf(0x15);
    if crystal.eax != 0 && crystal.ebx != 0 && crystal.ecx != 0 {
        return Some(u64::from(crystal.ecx) * u64::from(crystal.ebx) / u64::from(crystal.eax));
    }
    let mhz = leaf(0x16).eax & 0xffff;
    (mhz != 0).then(|| u64::from(mhz) * 1_000_000)
}

/// Counts the ticks of one second of a real-time clock. `seconds` reads its seconds, in whatever form: from one change to
/// the next it is a second. `None` if it does not look like a clock's, or does not change within a second, which is over after
/// more ticks than any TSC has in one; after `patience` reads, too, if the TSC is slow or stands still.
pub fn ticks_in_a_second(mut seconds: impl FnMut() -> u8, ticks: impl Fn() -> u64, patience: u32) -> Option<u64> {
    // 59 in BCD is the greatest; what is not there reads as 0xff.
    const GREATEST: u8 = 0x59;
    // Of 10 GHz; on a processor of today these take 2 to 4 seconds.
    const TICKS_MAX: u64 = 10_000_000_000;
    let mut next_change = || {
        let (began, first) = (ticks(), seconds());
        for _ in 0..patience {
            // Before the read: a hypervisor that lets us wait between the two does not make a clock stand still.
            let passed = ticks().wrapping_sub(began);
            let now = seconds();
            if first > GREATEST || now > GREATEST {
                return None;
            }
            if now != first {
                return Some(ticks());
            }
            if passed > TICKS_MAX {
                return None;
            }
        }
        None
    };
    let first = next_change()?;
    next_change().map(|second| second.wrapping_sub(first))
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    fn told(leaves: &[(u32, [u32; 3])]) -> Option<u64> {
        told_by_cpuid(|number| {
            let [eax, ebx, ecx] = leaves.iter().find(|leaf| leaf.0 == number).map_or([0; 3], |leaf| leaf.1);
            CpuidResult { eax, ebx, ecx, edx: 0 }
        })
    }

    #[test]
    fn a_hypervisors_rate_counts_before_the_crystals_and_that_before_the_base_frequency() {
        let highest = (0, [0x16, 0, 0]);
        let crystal = (0x15, [2, 216, 24_000_000]);
        let hypervisor = [(1, [0, 0, 1 << 31]), (0x4000_0000, [0x4000_0010, 0, 0]), (0x4000_0010, [2_596_000, 0, 0])];
        let base = (0x16, [2600, 3900, 100]);
        let all = [highest, crystal, hypervisor[0], hypervisor[1], hypervisor[2], base];
        assert_eq!(told(&all), Some(2_596_000_000), "as a hypervisor has scaled it");
        assert_eq!(told(&[&[highest], &all[2..]].concat()), Some(2_596_000_000));
        assert_eq!(told(&[highest, crystal, hypervisor[0], base]), Some(2_592_000_000), "it tells none");
        assert_eq!(told(&[highest, crystal, base]), Some(2_592_000_000));
        assert_eq!(told(&[highest, base]), Some(2_600_000_000));
        assert_eq!(told(&[highest, (0x15, [2, 216, 0]), base]), Some(2_600_000_000), "no crystal's rate");
    }

    #[test]
    fn leaves_that_are_not_there_tell_nothing() {
        // Beyond the highest leaf a processor returns another leaf's registers.
        assert_eq!(told(&[(0, [0x14, 0, 0]), (0x15, [7, 7, 7]), (0x16, [7, 7, 7])]), None);
        assert_eq!(told(&[(0, [0x16, 0, 0])]), None);
        let hypervisor = |bit, highest| {
            told(&[(0, [0x16, 0, 0]), (1, [0, 0, bit]), (0x4000_0000, [highest, 0, 0]), (0x4000_0010, [9, 0, 0])])
        };
        assert_eq!(hypervisor(1 << 31, 0x4000_0010), Some(9000));
        assert_eq!(hypervisor(1 << 31, 0x4000_0001), None);
        assert_eq!(hypervisor(1 << 31, u32::MAX), None);
        assert_eq!(hypervisor(0, 0x4000_0010), None);
    }

    #[test]
    fn a_second_is_the_time_from_one_change_to_the_next() {
        // 1000 reads a second, each of 3 ticks; the first comes in the middle of one, at 58 s in BCD.
        let reads = Cell::new(400_u64);
        let read = || {
            reads.set(reads.get() + 1);
            [0x58, 0x59, 0x00, 0x01][usize::try_from(reads.get() / 1000).expect("few")]
        };
        assert_eq!(ticks_in_a_second(read, || reads.get() * 3, 5000), Some(3000));
    }

    #[test]
    fn what_is_no_clock_or_stands_still_is_noticed_in_time() {
        let reads = Cell::new(0_u32);
        let still = || {
            reads.set(reads.get() + 1);
            0x30
        };
        assert_eq!(ticks_in_a_second(still, || 0, 5000), None);
        assert!(reads.get() <= 5001, "{}", reads.get());
        // Each read takes a microsecond at 3 GHz: more than a second, and less than four.
        reads.set(0);
        assert_eq!(ticks_in_a_second(still, || u64::from(reads.get()) * 3000, u32::MAX), None);
        assert!((1_000_000..4_000_000).contains(&reads.get()), "{}", reads.get());
        assert_eq!(ticks_in_a_second(|| 0xff, || 0, u32::MAX), None);
    }
}
