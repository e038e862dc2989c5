//! Unified diffs, applied by the text of their lines, not by line numbers, so that edits nearby do no harm.

use std::fs;
use std::path::{Path, PathBuf};

/// One place's change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    file: PathBuf,
    /// Where the lines stood when the patch was made: it decides among several places.
    line: usize,
    old: Vec<String>,
    new: Vec<String>,
}

/// A change of some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch(Vec<Hunk>);

impl Patch {
    /// Reads a unified diff; lines before it are ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut hunks: Vec<Hunk> = Vec::new();
        let mut file = None;
        for line in lines {
            if let Some(path) = line.strip_prefix("+++ b/") {
                file = Some(PathBuf::from(path));
            } else if line.starts_with("--- a/") {
                file = None;
            } else if let Some(numbers) = line.strip_prefix("@@ -") {
                let file = file.clone().ok_or("a hunk without a file")?;
                let digits = numbers.split([',', ' ']).next().unwrap_or_default();
                let line = digits.parse().map_err(|_| format!("no line number in {line:?}"))?;
                hunks.push(Hunk { file, line, old: Vec::new(), new: Vec::new() });
            } else if let (Some(hunk), Some(_)) = (hunks.last_mut(), &file) {
                let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
                match sign {
                    " " => {
                        hunk.old.push(rest.to_owned());
                        hunk.new.push(rest.to_owned());
                    }
                    "-" => hunk.old.push(rest.to_owned()),
                    "+" => hunk.new.push(rest.to_owned()),
                    _ => return Err(format!("neither kept, nor removed, nor added: {line:?}")),
                }
            }
        }
        if hunks.is_empty() { Err("no change in it".to_owned()) } else { Ok(Self(hunks)) }
    }

    /// The files that it changes.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|hunk| hunk.file.as_path())
    }

    /// Applies it to the sources in `top`.
    ///
    /// # Errors
    /// Which lines are not there; then some of the files may be changed.
    pub fn apply(&self, top: &Path) -> Result<(), String> {
        for hunk in &self.0 {
            let path = top.join(&hunk.file);
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", hunk.file.display()))?;
            let text = hunk.apply(&text).ok_or_else(|| {
                format!("{}: these lines are not there any more:\n{}", hunk.file.display(), hunk.old.join("\n"))
            })?;
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

impl Hunk {
    fn apply(&self, text: &str) -> Option<String> {
        let lines: Vec<&str> = text.lines().collect();
        // Indentation may have changed: the line's text counts.
        let same = |at: &usize| lines[*at..].iter().zip(&self.old).all(|(a, b)| a.trim() == b.trim());
        let places = (0..=lines.len().checked_sub(self.old.len())?).filter(same);
        let place = places.min_by_key(|at| at.abs_diff(self.line))?;
        let new = self.new.iter().map(String::as_str);
        let all = lines[..place].iter().copied().chain(new).chain(lines[place + self.old.len()..].iter().copied());
        Some(all.flat_map(|line| [line, "\n"]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Patch {
        Patch::parse(text.lines()).expect("a patch")
    }

    #[test]
    fn a_patch_applies_where_its_lines_have_moved_to() {
        let patch = parse("what\n--- a/x.rs\n+++ b/x.rs\n@@ -2,2 +2,1 @@\n fn b() {\n-    fence();\n");
        let hunk = &patch.0[0];
        let moved = hunk.apply("new\nfn a() {\n    fence();\n}\nfn b() {\n    fence();\n}\n");
        assert_eq!(moved.as_deref(), Some("new\nfn a() {\n    fence();\n}\nfn b() {\n}\n"));
        assert_eq!(hunk.apply("fn b() {\n    other();\n}\n"), None);
        assert_eq!(hunk.apply(""), None);
    }

    #[test]
    fn among_several_places_the_nearest_is_meant() {
        let patch = parse("--- a/x.rs\n+++ b/x.rs\n@@ -4,1 +4,1 @@\n-a\n+b\n");
        assert_eq!(patch.0[0].apply("a\nc\nc\na\n").as_deref(), Some("a\nc\nc\nb\n"));
    }

    #[test]
    fn what_is_no_diff_is_refused() {
        for text in ["", "just text", "+++ b/x\n@@ -x @@\n", "@@ -1 +1 @@\n-a\n"] {
            assert!(Patch::parse(text.lines()).is_err(), "{text:?}");
        }
    }
}
