//! The blocks of a page of documentation, and what a test does with each: nothing that a page shows is left out unseen.
//!
//! A block is what stands indented or between fences. It is run line by line as it stands, unless a comment before it says
//! otherwise; a comment belongs to the next block, and only blank lines and other comments may stand between.
//!
//! | comment | means |
//! |---|---|
//! | `<!-- run: LINE -->` | this line is run here, too, and no reader sees it |
//! | `<!-- shown by: LINE -->` | the block is what this line shows |
//! | `<!-- each by: LINE -->` | each line of the block is run in place of this line's `…` |
//! | `<!-- figures differ -->` | any number stands for any other, and so many blanks for others |
//! | `<!-- read: WHY -->` | its commands are not run: the programs and options are those that there are |
//! | `<!-- not run: WHY -->` | nothing is done with it here |
//! | `<!-- screen … -->` | `service/tests/screens.rs` compares it with a terminal |
//!
//! In a block that is run, `untorn> ` begins a line for the console, and a line that ends in `\` goes on in the next one. Lines
//! after one for the console are what it shows: they come in that order, others may come between. `…` stands for anything
//! within a line. `cargo test` is only read: it runs the test that reads it.

use std::fs;
use std::path::PathBuf;

use crate::workspace;

/// Something that a test does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands: `docs/tour.md:12`.
    pub at: String,
    /// What.
    pub act: Act,
    /// What that shows, in this order.
    pub shows: Vec<String>,
    /// Whether any number stands for any other in what it shows.
    pub figures_differ: bool,
    /// Whether it is a comment, which no reader sees.
    pub hidden: bool,
}

/// What a test does with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Types it at the console.
    Type(String),
    /// Runs it in a shell.
    Run(String),
    /// Looks whether its programs and options are there.
    Read(String),
}

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What a test does, from top to bottom.
    pub steps: Vec<Step>,
    /// Blocks that are run or read.
    pub followed: usize,
    /// Blocks that are compared with a terminal's screen elsewhere.
    pub screens: usize,
    /// Blocks that are left out, and why.
    pub left_out: Vec<String>,
}

/// What the comments before a block say of it.
#[derive(Debug, Default)]
struct Marks {
    /// Where the first of them stands.
    at: Option<String>,
    manner: Option<Manner>,
    figures_differ: bool,
}

/// What is done with a block.
#[derive(Debug)]
enum Manner {
    Read,
    NotRun(String),
    ShownBy(String),
    EachBy(String),
    Screen,
}

/// The pages that have blocks: the documents at the top, those under docs, and those of the crates that stand alone.
#[must_use]
pub fn all() -> Vec<String> {
    let top = workspace::top();
    let names = |folder: &str| {
        let entries = fs::read_dir(top.join(folder)).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let pages = paths.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
        pages.map(|path| path.strip_prefix(top).expect("below the top").display().to_string()).collect::<Vec<_>>()
    };
    let mut pages: Vec<_> = ["", "docs", "btt", "nvdimm"].into_iter().flat_map(names).collect();
    // It names what was.
    pages.retain(|page| page != "CHANGELOG.md");
    pages.sort();
    pages
}

/// Reads a page.
///
/// # Errors
/// A comment that belongs to no block, gives no reason, or contradicts another one; where.
pub fn page(name: &str) -> Result<Page, String> {
    let text =
        fs::read_to_string(workspace::top().join(PathBuf::from(name))).map_err(|why| format!("{name}: {why}"))?;
    parse(name, &text)
}

/// Reads a page's text.
fn parse(name: &str, text: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut marks = Marks::default();
    let mut may_begin = true;
    let mut lines = text.lines().enumerate().map(|(at, line)| (format!("{name}:{}", at + 1), line)).peekable();
    while let Some((at, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            marks.take(comment, at, &mut page)?;
            may_begin = true;
            continue;
        }
        let indented = |line: &str| line.starts_with("    ");
        let block: Vec<(String, &str)> = if line.starts_with("```") {
            let mut block = Vec::new();
            loop {
                match lines.next() {
                    Some((_, "```")) => break,
                    Some(line) => block.push(line),
                    None => return Err(format!("{at}: a fence without an end")),
                }
            }
            block
        } else if may_begin && indented(line) {
            let mut block = vec![(at.clone(), line)];
            while let Some(next) = lines.next_if(|(_, line)| indented(line)) {
                block.push(next);
            }
            block.into_iter().map(|(at, line)| (at, &line[4..])).collect()
        } else {
            may_begin = line.is_empty() || line.starts_with('#');
            match marks.at.take().filter(|_| !line.is_empty()) {
                Some(mark) => return Err(format!("{mark}: the comment belongs to no block")),
                None if line.is_empty() => {}
                None => marks = Marks::default(),
            }
            continue;
        };
        may_begin = false;
        page.add(&block, std::mem::take(&mut marks));
    }
    marks.at.map_or(Ok(page), |mark| Err(format!("{mark}: the comment belongs to no block")))
}

impl Marks {
    /// Takes a comment in. One that is not for us is left alone.
    fn take(&mut self, comment: &str, at: String, page: &mut Page) -> Result<(), String> {
        let (word, rest) = comment.split_once(':').unwrap_or((comment, ""));
        let rest = rest.trim();
        let manner = match word {
            "run" => {
                page.steps.push(Step { at, act: act(rest), shows: Vec::new(), figures_differ: false, hidden: true });
                return Ok(());
            }
            "figures differ" => {
                self.figures_differ = true;
                self.at.get_or_insert(at);
                return Ok(());
            }
            "read" => Manner::Read,
            "not run" => Manner::NotRun(rest.into()),
            "shown by" => Manner::ShownBy(rest.into()),
            "each by" => Manner::EachBy(rest.into()),
            word if word.starts_with("screen ") => Manner::Screen,
            _ => return Ok(()),
        };
        if rest.is_empty() || matches!(&manner, Manner::EachBy(line) if !line.contains('…')) {
            return Err(format!("{at}: the comment says too little"));
        }
        if self.manner.replace(manner).is_some() {
            return Err(format!("{at}: the comment contradicts the one before"));
        }
        self.at.get_or_insert(at);
        Ok(())
    }
}

impl Page {
    /// Adds what is done with a block.
    fn add(&mut self, block: &[(String, &str)], marks: Marks) {
        let figures_differ = marks.figures_differ;
        let step = |at: &str, act| Step { at: at.into(), act, shows: Vec::new(), figures_differ, hidden: false };
        let first = self.steps.len();
        match marks.manner {
            Some(Manner::NotRun(why)) => return self.left_out.push(why),
            Some(Manner::Screen) => return self.screens += 1,
            Some(Manner::ShownBy(line)) => {
                let shows = block.iter().map(|(_, line)| (*line).to_owned()).collect();
                self.steps.push(Step { shows, ..step(&block[0].0, act(&line)) });
            }
            Some(Manner::EachBy(by)) => {
                let acts = block.iter().map(|(at, line)| step(at, act(&by.replace('…', line))));
                self.steps.extend(acts);
            }
            Some(Manner::Read) => {
                let lines = joined(block).into_iter().filter(|(_, line)| !line.trim_start().starts_with('#'));
                self.steps.extend(lines.map(|(at, line)| step(&at, Act::Read(line))));
            }
            None => {
                for (at, line) in joined(block) {
                    match self.steps[first..].last_mut() {
                        Some(Step { act: Act::Type(_), shows, .. }) if !line.starts_with(PROMPT) => shows.push(line),
                        _ => self.steps.push(step(&at, act(&line))),
                    }
                }
            }
        }
        self.followed += 1;
    }
}

const PROMPT: &str = "untorn> ";

/// What is done with a line. It may be indented more than its block, in a list.
fn act(line: &str) -> Act {
    let line = line.trim_start();
    match line.strip_prefix(PROMPT) {
        Some(typed) => Act::Type(typed.into()),
        None if line.starts_with("cargo test") => Act::Read(line.into()),
        None => Act::Run(line.into()),
    }
}

/// A block's lines, those that go on in the next one as one.
fn joined(block: &[(String, &str)]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (at, line) in block {
        match lines.last_mut() {
            Some((_, before)) if before.ends_with('\\') => {
                before.pop();
                *before += line.trim_start();
            }
            _ => lines.push((at.clone(), (*line).to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Act, Page, parse};

    fn acts(page: &Page) -> Vec<(Act, Vec<String>)> {
        page.steps.iter().map(|step| (step.act.clone(), step.shows.clone())).collect()
    }

    #[test]
    fn blocks_are_run_unless_a_comment_says_otherwise() {
        let text = "# A page\n    first \\\n        -x\n    untorn> help\n    shown\n\ntext\n    no block: the line goes on\n\n\
                    <!-- run: hidden -->\n<!-- not run: it is a picture -->\n\n```\na\n```\n\n<!-- figures differ -->\n\
                    <!-- shown by: untorn> net -->\n\n    net0\n      rx 5\n\n<!-- read: slow -->\n\n    # why\n    cargo run\n\n\
                    <!-- each by: send '…' -->\n\n    {1}\n    {2}\n\n<!-- image: of another program -->\ntext\n";
        let page = parse("p", text).expect("a sound page");
        let (typed, run, read) = (|it: &str| Act::Type(it.into()), |it: &str| Act::Run(it.into()), "cargo run".into());
        let none = Vec::new;
        let expected = [
            (run("first -x"), none()),
            (typed("help"), vec!["shown".to_owned()]),
            (run("hidden"), none()),
            (typed("net"), vec!["net0".into(), "  rx 5".into()]),
            (Act::Read(read), none()),
            (run("send '{1}'"), none()),
            (run("send '{2}'"), none()),
        ];
        assert_eq!(acts(&page), expected);
        assert_eq!((page.followed, page.screens, page.left_out), (4, 0, vec!["it is a picture".to_owned()]));
        let hidden: Vec<_> = page.steps.iter().filter(|step| step.hidden || step.figures_differ).collect();
        assert_eq!((hidden[0].at.as_str(), hidden[1].at.as_str(), hidden.len()), ("p:10", "p:20", 2));
    }

    #[test]
    fn a_comment_without_a_block_or_a_reason_is_an_error() {
        for text in [
            "<!-- not run: why -->\ntext\n\n    block\n",
            "<!-- not run: why -->\n",
            "<!-- not run: -->\n\n    block\n",
            "<!-- not run -->\n\n    block\n",
            "<!-- read: why -->\n<!-- not run: why -->\n\n    block\n",
            "<!-- each by: send -->\n\n    block\n",
            "```\nblock\n",
        ] {
            assert!(parse("p", text).is_err(), "{text}");
        }
    }
}
