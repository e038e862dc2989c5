//! Lines without their secrets: what is kept of a line that was entered.

use alloc::string::String;

use crate::config::hosts::MARK;

/// What a line with a secret has: the option or key, or how an NVMe secret begins.
const SIGNS: [&str; 2] = ["secret", MARK];

/// Where the word begins that a line's first secret may be in, or the word before it.
fn first(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    // An escape in an object may be any character of one.
    let escape = lower.find('\\').filter(|_| lower.starts_with('{'));
    let at = SIGNS.iter().filter_map(|sign| lower.find(sign)).chain(escape).min()?;
    Some(line[..at].rfind([' ', '\t']).map_or(0, |blank| blank + 1))
}

/// Whether a line may have a secret.
pub(super) fn is_in(line: &str) -> bool {
    first(line).is_some()
}

/// The line up to its first secret, and not longer than `most` characters.
pub(super) fn left_out(line: &str, most: usize) -> String {
    let line = line.trim();
    let open = first(line).map_or(line, |at| line[..at].trim_end());
    let mut kept: String = open.chars().take(most).collect();
    if kept.len() < line.len() {
        kept.push_str(" ...");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_secret_is_left_out_however_it_is_written() {
        for line in [
            "allow any --secret DHHC-1:00:c2VjcmV0:",
            "allow any --secret=DHHC-1:00:c2VjcmV0:",
            "allow any dhhc-1:00:c2VjcmV0:",
            "allow any \"DHHC-1:00:c2VjcmV0:\" -f",
        ] {
            assert!(is_in(line), "{line}");
            assert_eq!(left_out(line, 100), "allow any ...", "{line}");
        }
        assert_eq!(left_out(r#"{"command":"allow", "hostnqn":"\u0044HHC-1:0"}"#, 100), r#"{"command":"allow", ..."#);
        assert_eq!(left_out(" create-namespace -f ", 100), "create-namespace -f");
        assert_eq!(left_out("äöü", 2), "äö ...");
        assert!(!is_in("list -N"));
    }
}
