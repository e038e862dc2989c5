//! Compares bytes eight at a time, for `runtime::memcmp`. Apart from that symbol, which no test on a host can define, so
//! that tests reach it.
//!
//! Two pages by single bytes take 28 000 instructions, and a BTT's info block is compared to its copy whenever it is opened.

use core::arch::asm;

/// Returns a number that is below, equal to or above 0, as the first of `count` bytes that differs is lower at `a`, or none
/// does, or it is higher.
///
/// # Safety
/// `count` bytes at `a` and at `b` are readable.
// A loop that the compiler recognised as a comparison would become a call to `memcmp`, and so to itself: it does not see these
// loads. (A volatile one of eight bytes at any address is eight loads.)
pub(crate) unsafe fn compare(a: *const u8, b: *const u8, count: usize) -> i32 {
    let words = count / 8;
    for at in (0..words).map(|word| word * 8) {
        // SAFETY: the caller vouches for both ranges, and `at + 8 <= count`.
        let (a, b) = unsafe { (load(a.add(at)), load(b.add(at))) };
        if a != b {
            // The first byte counts most.
            return a.to_be().cmp(&b.to_be()) as i32;
        }
    }
    for at in words * 8..count {
        // SAFETY: the caller vouches for both ranges, and `at < count`.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// Loads eight bytes.
///
/// # Safety
/// They are readable; they may begin anywhere.
#[inline(always)]
unsafe fn load(at: *const u8) -> u64 {
    let word: u64;
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        asm!("mov {word}, [{at}]", at = in(reg) at, word = lateout(reg) word, options(nostack, readonly, preserves_flags))
    };
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(a: &[u8], b: &[u8]) -> i32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: both are slices of that length.
        unsafe { compare(a.as_ptr(), b.as_ptr(), a.len()) }.signum()
    }

    #[test]
    fn the_first_byte_that_differs_decides_wherever_it_is() {
        for start in 0..8 {
            for count in 0..40 {
                let (mut a, mut b) = ([7; 48], [7; 48]);
                let range = start..start + count;
                // What is beside the range does not count.
                (a[start + count], b[start + count]) = (1, 2);
                assert_eq!(compared(&a[range.clone()], &b[range.clone()]), 0);
                for at in range.clone() {
                    // Bytes above 127 are not negative, and those behind the first one do not matter.
                    a[range.clone()].fill(7);
                    b[range.clone()].fill(7);
                    (a[at], b[at]) = (0x80, 0x7f);
                    a[at + 1..start + count].fill(0);
                    assert_eq!(compared(&a[range.clone()], &b[range.clone()]), 1, "{start} {count} {at}");
                    assert_eq!(compared(&b[range.clone()], &a[range.clone()]), -1, "{start} {count} {at}");
                }
            }
        }
    }
}
