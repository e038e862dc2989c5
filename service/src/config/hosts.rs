//! An item of `nvme.allow`: a host that may connect, to what, and what it must prove to know.
//!
//! `HOSTNQN`, or `any`; then `=NQN`, if it may use that subsystem alone; then `=DHHC-1:…`, its secret. A name in it has
//! neither `=` nor a comma.

use alloc::string::{String, ToString as _};
use core::fmt;

/// How secrets begin (NVM Express TP 8006, and nvme-cli).
pub const SECRET: &str = "DHHC-1:";

/// The mark in it, in small letters, by which one is known that is written wrongly, too.
pub const MARK: &str = "dhhc-1";

/// What stands for a secret where it is shown.
pub const HIDDEN: &str = "DHHC-1:hidden";

/// Returns whether a text may have a secret in it, also one that is written wrongly.
#[must_use]
pub fn has_secret(text: &str) -> bool {
    text.as_bytes().windows(MARK.len()).any(|part| part.eq_ignore_ascii_case(MARK.as_bytes()))
}

/// A host that may connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostItem<'a> {
    /// The host's NQN, or `any`.
    pub host: &'a str,
    /// The subsystem's NQN; `None` for all.
    pub nqn: Option<&'a str>,
    /// Its secret.
    pub secret: Option<&'a str>,
}

impl fmt::Debug for HostItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for HostItem<'_> {
    /// With the secret: for the medium.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host)?;
        self.nqn.iter().chain(&self.secret).try_for_each(|part| write!(f, "={part}"))
    }
}

impl<'a> HostItem<'a> {
    /// Reads an item. Its parts are as they are written: neither need be a name.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let (host, rest) = text.split_once('=').map_or((text, None), |(host, rest)| (host, Some(rest)));
        let (nqn, secret) = match rest {
            None => (None, None),
            Some(rest) if rest.starts_with(SECRET) => (None, Some(rest)),
            Some(rest) => rest.split_once('=').map_or((Some(rest), None), |(nqn, secret)| (Some(nqn), Some(secret))),
        };
        Self { host, nqn, secret }
    }

    /// Returns whether it is about the same host and subsystem.
    #[must_use]
    pub fn is_about(&self, other: &Self) -> bool {
        (self.host, self.nqn) == (other.host, other.nqn)
    }

    /// Returns it without its secret.
    #[must_use]
    pub fn shown(&self) -> String {
        let hidden = |part| if has_secret(part) { HIDDEN } else { part };
        let secret = self.secret.map(|_| HIDDEN);
        Self { host: hidden(self.host), nqn: self.nqn.map(hidden), secret }.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_up_to_three_parts_and_a_secret_is_not_shown() {
        let secret = "DHHC-1:00:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmU=:";
        for (text, nqn, has_secret) in [
            ("nqn.a", None, false),
            ("any=nqn.s", Some("nqn.s"), false),
            (&alloc::format!("nqn.a={secret}"), None, true),
            (&alloc::format!("nqn.a=nqn.s={secret}"), Some("nqn.s"), true),
        ] {
            let item = HostItem::parse(text);
            assert_eq!((item.nqn, item.secret), (nqn, has_secret.then_some(secret)));
            assert_eq!(item.to_string(), text);
            assert!(!item.shown().contains("c2Vj") && !alloc::format!("{item:?}").contains("c2Vj"));
            assert_eq!(item.shown().ends_with("=DHHC-1:hidden"), has_secret);
        }
    }
}
