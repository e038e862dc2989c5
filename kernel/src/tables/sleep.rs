//! The sleep type that means "off" (S5), found among the DSDT's bytes without interpreting them.
//!
//! `Name (_S5, Package () {a, b, ...})` is encoded as NameOp, the name (after a `\` perhaps), PackageOp, a package
//! length of 1 to 4 bytes, the number of elements, then the elements (20.2.5.1, 20.2.5.4). Elements that are not
//! constants are not understood: then nothing is found.

const NAME_OP: u8 = 0x08;
const PACKAGE_OP: u8 = 0x12;
const BYTE_PREFIX: u8 = 0x0a;
const ROOT: u8 = b'\\';

/// The values of the sleep type fields of PM1a and PM1b control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepType {
    /// For PM1a control, or the sleep control register.
    pub a: u8,
    /// For PM1b control.
    pub b: u8,
}

/// Finds S5 in a table's bytes.
#[must_use]
pub fn find_off(bytes: &[u8]) -> Option<SleepType> {
    let found = |at: &usize| {
        let before = &bytes[..*at];
        before.ends_with(&[NAME_OP]) || before.ends_with(&[NAME_OP, ROOT])
    };
    let places = bytes.windows(4).enumerate().filter(|(_, name)| *name == b"_S5_").map(|(at, _)| at);
    places.filter(found).find_map(|at| package(&bytes[at + 4..]))
}

/// The first two elements of the package that begins here.
fn package(bytes: &[u8]) -> Option<SleepType> {
    let [PACKAGE_OP, rest @ ..] = bytes else { return None };
    // The upper two bits of a package length's first byte are the number of bytes that follow it.
    let length_bytes = 1 + usize::from(rest.first()? >> 6);
    let (count, rest) = rest.get(length_bytes..)?.split_first()?;
    if *count < 2 {
        return None;
    }
    let (a, rest) = constant(rest)?;
    let (b, _) = constant(rest)?;
    // The fields have three bits.
    (a < 8 && b < 8).then_some(SleepType { a, b })
}

fn constant(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [BYTE_PREFIX, value, rest @ ..] => Some((*value, rest)),
        [value @ (0 | 1), rest @ ..] => Some((*value, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sleep_type_is_found_in_all_its_spellings() {
        let qemu = b"....\x08_S5_\x12\x06\x04\x00\x00\x00\x00....";
        assert_eq!(find_off(qemu), Some(SleepType { a: 0, b: 0 }));
        let rooted = b"\x08\\_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00";
        assert_eq!(find_off(rooted), Some(SleepType { a: 5, b: 7 }));
        let long = b"\x08_S5_\x12\x46\x01\x04\x01\x0a\x02\x00\x00";
        assert_eq!(find_off(long), Some(SleepType { a: 1, b: 2 }));
    }

    #[test]
    fn a_mention_that_is_no_definition_is_passed_over() {
        let bytes = b"_S5_\x12\x06\x04\x05\x05....x_S5_\x12\x08_S5_\x12\x06\x04\x01\x01\x00\x00";
        assert_eq!(find_off(bytes), Some(SleepType { a: 1, b: 1 }));
    }

    #[test]
    fn a_cut_off_or_odd_definition_gives_no_answer() {
        let whole = b"\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07";
        for end in 0..whole.len() {
            assert_eq!(find_off(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(find_off(b"\x08_S5_\x12\x06\x01\x00\x00\x00\x00"), None);
        assert_eq!(find_off(b"\x08_S5_\x12\x06\x04\x0a\x09\x00\x00\x00"), None);
        assert_eq!(find_off(b"\x08_S5_\x12\x06\x04\x70\x00\x00\x00"), None);
    }
}
