//! Numbers, sizes and times as people write them on a command line. Numbers and sizes have one form throughout: that of
//! the admin commands (`service::admin::values`).

use std::time::Duration;

use service::admin::values;
use service::error::AdminError;

/// The most that a size may be, in bytes: more than a PC can address is a slip, and sums of sizes stay far from an
/// overflow.
pub(crate) const BYTES_MAX: u64 = 1 << 50;

/// The name of what is read, for the grammar's errors: the command line names it already.
const IT: &str = "it";

fn reason(error: AdminError) -> String {
    error.message.strip_prefix("it: ").map_or(error.message.clone(), str::to_owned)
}

/// A size: bytes, or a number with K, M, G or T, as in the admin grammar.
///
/// # Errors
/// The fault of the text, for people.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bytes = values::size(IT, text).map_err(reason)?;
    if bytes > BYTES_MAX {
        return Err(format!("{text} is more than a PC can address"));
    }
    Ok(bytes)
}

/// A number, decimal or hexadecimal, as in the admin grammar.
///
/// # Errors
/// The fault of the text, for people.
pub fn number(text: &str) -> Result<u64, String> {
    values::number(IT, text).map_err(reason)
}

/// The value of a byte, in the same form.
///
/// # Errors
/// The fault of the text, for people.
pub fn byte(text: &str) -> Result<u8, String> {
    values::number_in(IT, text, 0, u8::MAX).map_err(reason)
}

/// A time in seconds, such as 30 or 0.5.
///
/// # Errors
/// The fault of the text, for people.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let none = || format!("'{text}' is not a number of seconds");
    // No sign, no exponent, no infinity.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(none());
    }
    let seconds = text.parse().map_err(|_| none())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{byte, bytes, number, seconds};

    #[test]
    fn a_size_is_a_number_and_perhaps_a_letter() {
        for (text, value) in [("0", 0), ("4096", 4096), ("010K", 10 << 10), ("64M", 64 << 20), ("3g", 3 << 30)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        assert_eq!(bytes("1024T"), Ok(1 << 50));
        for text in ["", "M", "12Q", "4KM", "-1", "+1", " 1", "1 ", "1.5G", "٣", "1é"] {
            assert!(bytes(text).is_err_and(|why| why.contains("is not a size")), "{text}");
        }
        for text in ["1025T", "1125899906842625"] {
            assert!(bytes(text).is_err_and(|why| why.contains("more than a PC can address")), "{text}");
        }
        for text in ["99999999999T", "99999999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_decimal_or_hexadecimal() {
        assert_eq!((number("12"), number("0x1F"), byte("0xff")), (Ok(12), Ok(31), Ok(255)));
        assert!(number("1K").is_err() && byte("256").is_err() && byte("-1").is_err());
    }

    #[test]
    fn a_time_is_seconds_and_perhaps_a_fraction() {
        for (text, milliseconds) in [("0", 0), ("30", 30_000), ("9.5", 9_500), ("007", 7_000)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", ".", "soon", "-1", "+1", "1e3", "inf", "NaN", "1.2.3", "99999999999999999999999", "5s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
