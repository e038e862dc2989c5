//! Pages can be followed: each block of their commands is run as it stands, and shows what the page says; `tests::pages` has
//! what pages can say of a block. README.md can be followed twice.

mod checkout;
mod reading;

use std::process::Stdio;
use std::time::Duration;

use host::appliance::ApplianceProcess;
use host::deadline::Deadline;
use host::session::SessionError;
use tests::pages::{self, Act, Step};
use tests::workspace;

use self::checkout::Checkout;

/// The longest that a line may take.
const LINE: Duration = Duration::from_secs(120);

/// How long what a line shows may take after its first prompt.
const SHOWN: Duration = Duration::from_secs(20);

/// Lines that have one of these print nothing, or print elsewhere.
const SILENT: [&str; 5] = [">", "mkdir ", "untornctl dump ", "untornctl man ", "./make-image.sh "];

/// Returns whether a line is as the page has it.
fn is_as_shown(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim_end().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim_end().strip_prefix(first) else { return false };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || (is_open && shown.trim_end().ends_with('…'))
}

/// A line in which every number, with its unit, is 0, and blanks are one.
fn without_figures(line: &str) -> String {
    let mut plain = String::new();
    let mut in_number = false;
    for next in line.trim_end().chars() {
        let begins = next.is_ascii_digit() && !plain.ends_with(|it: char| it.is_alphanumeric());
        in_number = begins || (in_number && (next.is_ascii_alphanumeric() || next == '.'));
        match next {
            _ if begins => plain.push('0'),
            _ if in_number => {}
            ' ' if plain.ends_with(' ') => {}
            _ => plain.push(next),
        }
    }
    plain
}

/// Returns the first line of a page that does not come, of those that are to come in this order.
fn missing<'a>(shows: &'a [String], shown: &str, figures_differ: bool) -> Option<&'a str> {
    let form = |line: &str| if figures_differ { without_figures(line) } else { line.to_owned() };
    let mut lines = shown.lines();
    shows.iter().find(|wanted| !lines.any(|line| is_as_shown(&form(line), &form(wanted)))).map(String::as_str)
}

#[test]
fn a_line_is_as_shown_but_for_what_the_page_leaves_open() {
    for (line, shown, is_so) in [
        ("pmem0s is served", "pmem0s is served", true),
        ("pmem0s is served", "pmem0s", false),
        ("uptime  0.098 s", "uptime  … s", true),
        ("uptime  0.098 s", "uptime  …", true),
        ("uptime  0.098 ms", "uptime  … s", false),
        ("a: b: c", "…: c", true),
        ("a: b", "…: c", false),
    ] {
        assert_eq!(is_as_shown(line, shown), is_so, "{line} {shown}");
    }
    let shows = ["a".to_owned(), "c".to_owned()];
    assert_eq!((missing(&shows, "a\nb\nc", false), missing(&shows, "c\na", false)), (None, Some("c")));
    for (line, shown, is_so) in [
        ("  12.5 pmem0s  3.97k 7.77us", "   4.2 pmem0s 12M  9s", true),
        ("  12.5 pmem1s  3.97k 7.77us", "   4.2 pmem0s 12M  9s", false),
        ("rx 5 frames", "rx 7 frames of …", false),
    ] {
        assert_eq!(missing(&[shown.to_owned()], line, true).is_none(), is_so, "{line} {shown}");
    }
}

/// Waits for the console's prompt, and returns what it showed before.
fn shown(console: &mut ApplianceProcess, line: &str) -> String {
    let mut shown = String::new();
    let outcome = console.wait_for_prompt(Deadline::after(LINE), |line| shown = format!("{shown}{line}\n"));
    outcome.unwrap_or_else(|error| panic!("`{line}`: {error}"));
    shown
}

/// Ends the run on the console, if there is one, as README says.
fn power_off(console: Option<ApplianceProcess>) {
    if let Some(mut console) = console {
        console.type_line("poweroff", Deadline::after(LINE)).unwrap();
        let deadline = Deadline::after(LINE);
        // A line of the log comes with a prompt of its own.
        let end = loop {
            if let Err(end) = console.wait_for_prompt(deadline, |_| {}) {
                break end;
            }
        };
        assert!(matches!(end.error, SessionError::Closed), "{end}");
        assert!(console.wait().is_some_and(|status| status.success()), "`poweroff` ends it well");
    }
}

/// Does what a page says, from top to bottom.
fn follow(page: &str, checkout: &Checkout) {
    let steps = pages::page(page).unwrap_or_else(|why| panic!("{why}")).steps;
    assert!(!steps.is_empty(), "{page}: the blocks are found");
    let mut console: Option<ApplianceProcess> = None;
    for Step { at, act, shows, figures_differ, hidden } in steps {
        let missing = |shown: &str| missing(&shows, shown, figures_differ).map(str::to_owned);
        match act {
            Act::Type(line) if line == "poweroff" => power_off(console.take()),
            Act::Type(line) => {
                let console = console.as_mut().unwrap_or_else(|| panic!("{at}: the page starts it before"));
                console.type_line(&line, Deadline::after(LINE)).unwrap();
                // A line of the log comes with a prompt of its own, also before the reply.
                let mut shown = shown(console, &line);
                let end = Deadline::after(SHOWN);
                while (shown.lines().count() <= 1 || missing(&shown).is_some())
                    && console.wait_for_prompt(end, |line| shown = format!("{shown}{line}\n")).is_ok()
                {}
                assert!(shown.lines().count() > 1, "{at}: `{line}` shows nothing");
                let is_meant = shows.iter().any(|line| line.starts_with("error ("));
                assert!(is_meant || !shown.contains("error ("), "{at}: `{line}`:\n{shown}");
                assert_eq!(missing(&shown), None, "{at}: `{line}`:\n{shown}");
            }
            Act::Run(line) => {
                let words = line.split(" #").next().unwrap_or_default().trim_end();
                if words.starts_with("./run-qemu.sh") {
                    power_off(console.take());
                }
                if words.starts_with("./run-qemu.sh") && !words.contains("--exec") {
                    let mut started = ApplianceProcess::start(checkout.shell(&format!("exec {line}"))).unwrap();
                    shown(&mut started, &line);
                    console = Some(started);
                    continue;
                }
                let bounded = format!("exec timeout --kill-after=5 {} sh -c \"$LINE\"", LINE.as_secs());
                let mut command = checkout.shell(&bounded);
                let output = command.env("LINE", &line).stdin(Stdio::null()).output().unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (out, err) = (text(&output.stdout), text(&output.stderr));
                assert!(output.status.success(), "{at}: `{line}`: {}\n{out}{err}", output.status);
                let is_silent = hidden || SILENT.iter().any(|word| words.contains(word));
                assert!(is_silent || !out.is_empty(), "{at}: `{line}` prints nothing\n{err}");
                assert_eq!(missing(&out), None, "{at}: `{line}`:\n{out}");
            }
            Act::Read(line) => reading::read(&line, checkout).unwrap_or_else(|why| panic!("{at}: `{line}`: {why}")),
        }
    }
    power_off(console);
}

#[test]
fn readme_can_be_followed_from_top_to_bottom_twice() {
    let checkout = Checkout::new();
    let _turn = workspace::machine_turn();
    follow("README.md", &checkout);
    follow("README.md", &checkout);
}

/// A test for each page that has something to follow.
macro_rules! pages {
    ($($name:ident: $page:literal),+ $(,)?) => {
        const PAGES: &[&str] = &["README.md", $($page),+];

        $(#[test]
        fn $name() {
            let checkout = Checkout::new();
            let _turn = workspace::machine_turn();
            follow($page, &checkout);
        })+
    };
}

pages! {
    the_tour_shows_what_it_says: "docs/tour.md",
    contributing: "CONTRIBUTING.md",
    btt: "btt/README.md",
    admin: "docs/admin.md",
    blk: "docs/blk.md",
    boot: "docs/boot.md",
    config: "docs/config.md",
    console: "docs/console.md",
    crash_proof: "docs/crash-proof.md",
    export: "docs/export.md",
    labels: "docs/labels.md",
    metrics: "docs/metrics.md",
    network: "docs/network.md",
    operate: "docs/operate.md",
    repair: "docs/repair.md",
    speed: "docs/speed.md",
}

#[test]
fn every_page_with_something_to_follow_is_followed() {
    let pages = pages::all();
    assert!(pages.len() > 20, "the pages are found: {pages:?}");
    let has_steps = |page: &String| !pages::page(page).unwrap_or_else(|why| panic!("{why}")).steps.is_empty();
    let followed: Vec<_> = pages.into_iter().filter(has_steps).collect();
    let mut listed: Vec<_> = PAGES.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, followed);
}
