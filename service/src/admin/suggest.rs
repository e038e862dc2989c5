//! The word that was meant where a word is unknown.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Longer words are not compared: nobody mistypes one of ours into one.
const CHARS_MAX: usize = 32;

/// What to say to a person who asks for a command that is none of these.
pub(super) fn what_there_is<'s>(name: &str, names: impl Iterator<Item = &'s str>) -> String {
    match nearest(name, names) {
        Some(meant) => format!("did you mean {meant}? help lists the commands"),
        None => "help lists the commands".into(),
    }
}

/// Returns the one of `known` that is nearest to `word`, if it is near enough to be meant: a third of its letters may be
/// wrong, missing, too many, or in each other's place, and at least one.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.is_empty() || word.chars().count() > CHARS_MAX {
        return None;
    }
    let near = known.into_iter().filter_map(|it| {
        let wrong = distance(word, it);
        (wrong <= (it.chars().count() / 3).max(1) && wrong < word.chars().count()).then_some((wrong, it))
    });
    near.min_by_key(|(wrong, _)| *wrong).map(|(_, it)| it)
}

/// The letters that must be replaced, left out, put in, or exchanged with their neighbour to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Rows of the table: up to letter `row` of `one`, the last two and this one.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in (1..).zip(&one) {
        let mut this = Vec::with_capacity(last.len());
        this.push(row);
        for (at, its) in (1..).zip(&other) {
            let mut least = (last[at - 1] + usize::from(letter != its)).min(last[at] + 1).min(this[at - 1] + 1);
            if row > 1 && at > 1 && *letter == other[at - 2] && one[row - 2] == *its {
                least = least.min(before[at - 2] + 1);
            }
            this.push(least);
        }
        before = core::mem::replace(&mut last, this);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_counted() {
        #[rustfmt::skip]
        let cases = [("list", "list", 0), ("lsit", "list", 1), ("lst", "list", 1), ("listt", "list", 1), ("mist", "list", 1),
                     ("", "list", 4), ("list", "", 4), ("abcd", "badc", 2), ("status", "stats", 1), ("é", "e", 1)];
        for (one, other, wrong) in cases {
            assert_eq!(distance(one, other), wrong, "{one} {other}");
        }
    }

    #[test]
    fn the_nearest_word_is_offered_if_it_is_near() {
        let known = ["list", "stats", "status", "create-namespace", "check-namespace", "net"];
        #[rustfmt::skip]
        let cases = [("lits", Some("list")), ("statuss", Some("status")), ("creat-namespase", Some("create-namespace")),
                     ("create_namespace", Some("create-namespace")), ("nat", Some("net")), ("nonsense", None), ("", None),
                     ("x", None), ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None)];
        for (word, meant) in cases {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
