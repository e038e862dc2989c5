//! The image's command line: `KEY=VALUE` words between blanks. `service::config::keys` has the keys.

use alloc::string::String;
use core::fmt;

use service::config::Key;
use service::config::hosts::has_secret;
use service::config::keys::meant;

/// Returns the values of a key, in order.
pub fn values<'a>(line: &'a str, key: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    words(line).filter_map(move |(found, value)| (found == key).then_some(value))
}

/// Returns the keys that look like ours and are none, each with the one that was meant, if one is near: slips. Others are a
/// loader's or another system's, and Firecracker has some of Linux's by default.
pub fn slips(line: &str) -> impl Iterator<Item = (&str, Option<String>)> {
    let unknown = words(line).map(|(key, _)| key).filter(|key| Key::named(key).is_none());
    let is_ours = |key: &str| key.starts_with("pmem.") || key.starts_with("nvme.");
    unknown.map(|key| (key, meant(key))).filter(move |(key, meant)| is_ours(key) || meant.is_some())
}

/// Returns the words, each with its key and its value.
pub fn words(line: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    line.split_ascii_whitespace().filter_map(|word| word.split_once('='))
}

/// Returns the line as it is shown: without secrets.
#[must_use]
pub const fn shown(line: &str) -> Shown<'_> {
    Shown(line)
}

/// A command line as it is shown. There is no heap yet.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, word) in self.0.split_ascii_whitespace().enumerate() {
            let blank = if number > 0 { " " } else { "" };
            match word.split_once('=') {
                _ if !has_secret(word) => write!(f, "{blank}{word}")?,
                Some((key, _)) if !has_secret(key) => write!(f, "{blank}{key}=(hidden)")?,
                _ => write!(f, "{blank}(hidden)")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_line_is_shown_without_secrets() {
        let line = "quiet  a=b nvme.allow=nqn.h=DHHC-1:00:c2VjcmV0: dhhc-1:x";
        assert_eq!(alloc::format!("{}", shown(line)), "quiet a=b nvme.allow=(hidden) (hidden)");
    }

    #[test]
    fn a_key_has_its_values_and_no_other_keys() {
        let line =
            "image a=b net0=off net10=dhcp net1=1 net1=2 xnet2=3 net3 net=4 nvme.allow=a=b,c net0x=5 nvme.exports=x";
        assert_eq!(values(line, "net1").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(values(line, "net10").next_back(), Some("dhcp"));
        assert_eq!(values(line, "net3").next(), None);
        assert_eq!(values(line, "nvme.allow").collect::<Vec<_>>(), ["a=b,c"]);
        let found: Vec<_> = slips(line).collect();
        let meant = |key: &str| Some(key.into());
        assert_eq!(found, [("net", meant("net0")), ("net0x", meant("net0")), ("nvme.exports", meant("nvme.export"))]);
    }
}
