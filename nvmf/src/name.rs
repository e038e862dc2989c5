//! NVMe Qualified Names (Base 2.0, section 4.5), and who a host is.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

use uuid::Uuid;

/// The longest name, in bytes.
pub const NQN_BYTES_MAX: usize = 223;

/// The field that a name stands in, padded with NUL, in Connect's data and in a discovery log record.
pub const NQN_FIELD_BYTES: usize = 256;

/// The name of the discovery subsystem (Base 2.0, section 4.5.1).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// A name of a host or a subsystem: 1 to 223 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nqn(String);

impl Nqn {
    /// The name that is written so.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str) -> Result<Self, InvalidNqn> {
        let fits = (1..=NQN_BYTES_MAX).contains(&text.len());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.to_owned())) } else { Err(InvalidNqn::Text) }
    }

    /// The name that a person writes (Base 2.0, section 4.5): others are slips, though a host may call itself anything.
    ///
    /// # Errors
    /// It is none, does not begin as names do, or has what stands between names where several are written.
    pub fn written(text: &str) -> Result<Self, InvalidNqn> {
        let name = Self::new(text)?;
        match text.chars().find(|it| !it.is_ascii_graphic() || [',', '='].contains(it)) {
            Some(odd) => Err(InvalidNqn::Character(odd)),
            None if text.starts_with("nqn.") => Ok(name),
            None => Err(InvalidNqn::Beginning),
        }
    }

    /// The name of the subsystem of a BTT of that uuid: the same after every start, and different on every node.
    #[must_use]
    pub fn of_uuid(uuid: &Uuid) -> Self {
        Self(format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid.hyphenated()))
    }

    /// Reads a field: the name up to the first NUL.
    ///
    /// # Errors
    /// There is no name in it.
    pub fn from_field(field: &[u8; NQN_FIELD_BYTES]) -> Result<Self, InvalidNqn> {
        let end = field.iter().position(|byte| *byte == 0).ok_or(InvalidNqn::Text)?;
        core::str::from_utf8(&field[..end]).map_err(|_| InvalidNqn::Text).and_then(Self::new)
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no NVMe Qualified Name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidNqn {
    /// It is too long, or not text.
    Text,
    /// A person's has this in it.
    Character(char),
    /// A person's does not begin with `nqn.`.
    Beginning,
}

impl fmt::Display for InvalidNqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "an NQN has 1 to {NQN_BYTES_MAX} bytes, and no control characters"),
            Self::Character(odd) => write!(f, "a name with {odd:?} is not taken: printable ASCII without , and ="),
            Self::Beginning => f.write_str("no NQN: these begin with nqn."),
        }
    }
}

impl core::error::Error for InvalidNqn {}

/// A host, as it names itself in Connect. Its name is a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub nqn: Nqn,
    /// Its identifier: hosts of one name may differ in it.
    pub id: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_text_that_ends_in_its_field() {
        let field = |text: &[u8]| {
            let mut field = [0; NQN_FIELD_BYTES];
            field[..text.len()].copy_from_slice(text);
            field
        };
        let longest = [b'n'; NQN_BYTES_MAX];
        for good in [b"nqn.2014-08.org.nvmexpress:uuid:x".as_slice(), "nqn.ü".as_bytes(), &longest] {
            assert_eq!(Nqn::from_field(&field(good)).expect("a name").as_str().as_bytes(), good);
        }
        for bad in [b"".as_slice(), &[b'n'; NQN_BYTES_MAX + 1], &[b'n'; 256], b"nqn\x07", b"\xff"] {
            assert_eq!(Nqn::from_field(&field(bad)), Err(InvalidNqn::Text), "{bad:?}");
        }
        assert_eq!((Nqn::written("nqn.x").is_ok(), Nqn::written("foo")), (true, Err(InvalidNqn::Beginning)));
        assert_eq!(Nqn::written("nqn.a,nqn.b"), Err(InvalidNqn::Character(',')));
        assert!(Nqn::from_field(&field(b"foo")).is_ok(), "a host may call itself anything");
    }

    #[test]
    fn the_name_of_a_disk_is_its_uuid() {
        let nqn = Nqn::of_uuid(&uuid::uuid!("01234567-89AB-cdef-0123-456789abcdef"));
        assert_eq!(nqn.as_str(), "nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789abcdef");
    }
}
