//! Values in a command line: numbers, sizes, uuids, base64.
//!
//! Each function takes the name of what it parses (`LBA`, `--seed`) for its error.

use alloc::format;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use uuid::Uuid;

use crate::error::AdminError;

/// Base64 with the standard alphabet; padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A number: decimal, or hexadecimal after `0x`.
///
/// # Errors
/// Usage: not a number, or more than 64 bits.
pub fn number(name: &str, text: &str) -> Result<u64, AdminError> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        let how = "a number is decimal, or hexadecimal after 0x";
        return Err(AdminError::usage(format!("{name}: \"{text}\" is not a number ({how})")));
    }
    u64::from_str_radix(digits, radix).map_err(|_| AdminError::usage(format!("{name}: {text} does not fit in 64 bits")))
}

/// A number from `least` to `most`; the greatest of 64 bits is no bound to tell of.
///
/// # Errors
/// Usage: not a number, or not in that range.
pub fn number_in<N>(name: &str, text: &str, least: N, most: N) -> Result<N, AdminError>
where
    N: TryFrom<u64> + Into<u64> + Copy + PartialOrd + core::fmt::Display,
{
    match N::try_from(number(name, text)?) {
        Ok(value) if least <= value && value <= most => Ok(value),
        _ if most.into() == u64::MAX => Err(AdminError::usage(format!("{name}: {text} is not at least {least}"))),
        _ => Err(AdminError::usage(format!("{name}: {text} is not from {least} to {most}"))),
    }
}

/// A size in bytes: a number, with K, M, G or T for powers of 1024.
///
/// # Errors
/// Usage: not a size, or more than 64 bits.
pub fn size(name: &str, text: &str) -> Result<u64, AdminError> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let units = number(name, digits).map_err(|_| {
        AdminError::usage(format!("{name}: \"{text}\" is not a size (a number of bytes, or one with K, M, G or T)"))
    })?;
    units.checked_mul(1 << shift).ok_or_else(|| AdminError::usage(format!("{name}: {text} does not fit in 64 bits")))
}

/// A uuid, in any form that the uuid crate reads; not the null one, which media use for "none".
///
/// # Errors
/// Usage: not a uuid.
pub fn uuid(name: &str, text: &str) -> Result<Uuid, AdminError> {
    match Uuid::try_parse(text) {
        Ok(uuid) if !uuid.is_nil() => Ok(uuid),
        Ok(_) => Err(AdminError::usage(format!("{name}: the null uuid means none; leave {name} out"))),
        Err(error) => Err(AdminError::usage(format!("{name}: \"{text}\" is not a uuid ({error})"))),
    }
}

/// Bytes in base64.
///
/// # Errors
/// Usage: not base64, with the place.
pub fn base64(name: &str, text: &str) -> Result<Vec<u8>, AdminError> {
    BASE64.decode(text).map_err(|error| AdminError::usage(format!("{name}: not base64 ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("LBA", "0"), Ok(0));
        assert_eq!(number("LBA", "18446744073709551615"), Ok(u64::MAX));
        assert_eq!(number("LBA", "0xFfff"), Ok(0xffff));
        for text in ["", "x", "-1", "+1", "0x", "1 ", "1_0", "ff", "١"] {
            let message = number("LBA", text).expect_err(text).message;
            assert!(message.starts_with("LBA: ") && message.contains("not a number"), "{message}");
        }
        assert_eq!(
            number("LBA", "18446744073709551616").expect_err("65 bits").message,
            "LBA: 18446744073709551616 does not fit in 64 bits"
        );
    }

    #[test]
    fn bounded_numbers_name_their_bounds() {
        assert_eq!(number_in::<u8>("--fill", "0xff", 0, 255), Ok(255));
        assert_eq!(
            number_in::<u8>("--fill", "256", 0, 255).expect_err("9 bits").message,
            "--fill: 256 is not from 0 to 255"
        );
        assert_eq!(
            number_in::<u64>("COUNT", "0", 1, u64::MAX).expect_err("zero").message,
            "COUNT: 0 is not at least 1"
        );
    }

    #[test]
    fn sizes_take_binary_suffixes() {
        #[rustfmt::skip]
        let cases = [("512", 512), ("64k", 64 << 10), ("16M", 16 << 20), ("0x10G", 16 << 30), ("3T", 3 << 40)];
        for (text, bytes) in cases {
            assert_eq!(size("-s", text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1KiB", "1.5G", "-1M", "16777216T"] {
            size("-s", text).expect_err(text);
        }
    }

    #[test]
    fn uuids_and_base64_say_what_is_wrong() {
        assert!(uuid("-u", "e412ddd9-4a9e-42e8-9953-05cfdd8f0459").is_ok());
        assert!(uuid("-u", "00000000-0000-0000-0000-000000000000").expect_err("null").message.contains("null"));
        assert!(uuid("-u", "e412").expect_err("short").message.starts_with("-u: \"e412\" is not a uuid"));
        assert_eq!(base64("--data", "AAEC/w=="), Ok(alloc::vec![0, 1, 2, 255]));
        assert_eq!(base64("--data", "AAEC/w"), Ok(alloc::vec![0, 1, 2, 255]));
        assert!(base64("--data", "AA!C").expect_err("symbol").message.contains("offset 2"));
    }
}
