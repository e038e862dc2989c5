//! An item of `nvme.allow`: a host that may connect, to what, and what it must prove to know.
//!
//! `HOSTNQN`, or `any`; then `=NQN`, if it may use that subsystem alone; then `=DHHC-1:…`, its secret; then another one, the
//! controller's. A name in it has neither `=` nor a comma, and a secret `=` at its end alone.

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

/// What is to be proved (NVM Express TP 8006), as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretTexts<'a> {
    /// What the host must prove to know.
    pub host: &'a str,
    /// What the controller proves to know, if a host asks.
    pub controller: Option<&'a str>,
}

impl fmt::Debug for SecretTexts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown().to_string())
    }
}

impl fmt::Display for SecretTexts<'_> {
    /// As they are: for the medium.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host)?;
        self.controller.iter().try_for_each(|secret| write!(f, "={secret}"))
    }
}

impl<'a> SecretTexts<'a> {
    fn parse(text: &'a str) -> Self {
        // A secret's own `=` have no other secret behind them.
        let second = text.match_indices('=').find(|(at, _)| text[at + 1..].starts_with(SECRET));
        match second {
            Some((at, _)) => Self { host: &text[..at], controller: Some(&text[at + 1..]) },
            None => Self { host: text, controller: None },
        }
    }

    /// What stands for them where they are shown.
    fn shown(&self) -> Self {
        Self { host: HIDDEN, controller: self.controller.map(|_| HIDDEN) }
    }

    /// Returns them with `known` in place of those that are hidden. `None`: there is none to put there.
    #[must_use]
    pub fn with_known(self, known: Option<Self>) -> Option<Self> {
        let whole = |text, known: Option<&'a str>| if text == HIDDEN { known } else { Some(text) };
        Some(Self {
            host: whole(self.host, known.map(|known| known.host))?,
            controller: match self.controller {
                Some(text) => Some(whole(text, known.and_then(|known| known.controller))?),
                None => None,
            },
        })
    }
}

/// A host that may connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostItem<'a> {
    /// The host's NQN, or `any`.
    pub host: &'a str,
    /// The subsystem's NQN; `None` for all.
    pub nqn: Option<&'a str>,
    /// Its secret, and the controller's.
    pub secrets: Option<SecretTexts<'a>>,
}

impl fmt::Debug for HostItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for HostItem<'_> {
    /// With the secrets: for the medium.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host)?;
        self.nqn.iter().try_for_each(|nqn| write!(f, "={nqn}"))?;
        self.secrets.iter().try_for_each(|secrets| write!(f, "={secrets}"))
    }
}

impl<'a> HostItem<'a> {
    /// Reads an item. Its parts are as they are written: neither need be a name.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let (host, rest) = text.split_once('=').map_or((text, None), |(host, rest)| (host, Some(rest)));
        let (nqn, secrets) = match rest {
            None => (None, None),
            Some(rest) if rest.starts_with(SECRET) => (None, Some(rest)),
            Some(rest) => rest.split_once('=').map_or((Some(rest), None), |(nqn, secrets)| (Some(nqn), Some(secrets))),
        };
        Self { host, nqn, secrets: secrets.map(SecretTexts::parse) }
    }

    /// Returns whether it is about the same host and subsystem.
    #[must_use]
    pub fn is_about(&self, other: &Self) -> bool {
        (self.host, self.nqn) == (other.host, other.nqn)
    }

    /// Returns it without its secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        let hidden = |part| if has_secret(part) { HIDDEN } else { part };
        let secrets = self.secrets.map(|secrets| secrets.shown());
        Self { host: hidden(self.host), nqn: self.nqn.map(hidden), secrets }.to_string()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn an_item_has_up_to_four_parts_and_secrets_are_not_shown() {
        const SECRET: &str = "DHHC-1:00:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmU=:";
        const OWN: &str = "DHHC-1:01:b3duc2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
        let both = |controller| Some(SecretTexts { host: SECRET, controller });
        for (text, nqn, secrets, hidden) in [
            ("nqn.a", None, None, ""),
            ("any=nqn.s", Some("nqn.s"), None, ""),
            (&format!("nqn.a={SECRET}"), None, both(None), "=DHHC-1:hidden"),
            (&format!("nqn.a={SECRET}={OWN}"), None, both(Some(OWN)), "=DHHC-1:hidden=DHHC-1:hidden"),
            (&format!("nqn.a=nqn.s={SECRET}"), Some("nqn.s"), both(None), "=DHHC-1:hidden"),
            (&format!("nqn.a=nqn.s={SECRET}={OWN}"), Some("nqn.s"), both(Some(OWN)), "=DHHC-1:hidden=DHHC-1:hidden"),
        ] {
            let item = HostItem::parse(text);
            assert_eq!((item.nqn, item.secrets), (nqn, secrets));
            assert_eq!(item.to_string(), text);
            for shown in [item.shown(), format!("{item:?}"), format!("{:?}", item.secrets)] {
                assert!(!shown.contains("c2Vj") && !shown.contains("b3du"), "{shown}");
            }
            let plain = nqn.map_or_else(|| item.host.into(), |nqn| format!("{}={nqn}", item.host));
            assert_eq!(item.shown(), format!("{plain}{hidden}"));
            // What was shown can be set again, where it is known what it stands for.
            let shown = item.shown();
            let again = HostItem::parse(&shown).secrets;
            assert_eq!(again.and_then(|again| again.with_known(secrets)), secrets);
            assert_eq!(again.and_then(|again| again.with_known(None)), None);
            assert_eq!(secrets.and_then(|written| written.with_known(None)), secrets);
        }
        let (one, two) = (both(None), SecretTexts { host: HIDDEN, controller: Some(HIDDEN) });
        assert_eq!(two.with_known(one), None, "there was no controller's");
    }
}
