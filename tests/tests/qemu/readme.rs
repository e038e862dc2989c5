//! README.md can be followed from top to bottom, twice, and other pages once: each line of their indented blocks is run as it
//! stands, and does not fail. What is not to be run stands between fences.
//!
//! In a block, lines after one for the console are what it shows: they come in that order, others may come between. `…` stands
//! for anything within a line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use host::appliance::{ApplianceProcess, die_with_parent};
use host::deadline::Deadline;
use host::export_words::ExportWords;
use host::session::SessionError;
use tests::workspace;

/// The longest that a line may take.
const LINE: Duration = Duration::from_secs(120);

/// How long what a line shows may take after its first prompt.
const SHOWN: Duration = Duration::from_secs(20);

/// A line of a block.
#[derive(Debug)]
enum Line {
    /// For the console: what follows its prompt, and what that shows.
    Console { typed: String, shows: Vec<String> },
    /// For a shell.
    Shell(String),
}

/// The lines of a page's indented blocks, but for the one that has run this test.
fn lines(page: &str) -> Vec<Line> {
    let text = fs::read_to_string(workspace::top().join(page)).unwrap();
    let mut lines = Vec::new();
    let mut in_console = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            in_console = false;
            continue;
        };
        match (line.strip_prefix("untorn> "), lines.last_mut()) {
            (Some(typed), _) => {
                in_console = true;
                lines.push(Line::Console { typed: typed.into(), shows: Vec::new() });
            }
            (None, Some(Line::Console { shows, .. })) if in_console => shows.push(line.into()),
            (None, _) if line.starts_with("cargo test ") => {}
            (None, _) => lines.push(Line::Shell(line.into())),
        }
    }
    lines
}

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

/// Returns the first line of a page that does not come, of those that are to come in this order.
fn missing<'a>(shows: &'a [String], shown: &str) -> Option<&'a str> {
    let mut lines = shown.lines();
    shows.iter().find(|wanted| !lines.any(|line| is_as_shown(line, wanted))).map(String::as_str)
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
    assert_eq!((missing(&shows, "a\nb\nc"), missing(&shows, "c\na")), (None, Some("c")));
}

/// A checkout that is built, in a folder of its own: what is run there leaves the user's NVDIMM under target/ alone.
struct Checkout(PathBuf);

impl Checkout {
    fn new() -> Self {
        workspace::build();
        // Sockets have short names.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("untorn-readme-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let release = folder.join("target/release");
        fs::create_dir_all(&release).unwrap();
        for entry in fs::read_dir(workspace::top()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                symlink(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        for program in ["untorn", "untornctl"] {
            fs::copy(workspace::target().join("release").join(program), release.join(program)).unwrap();
        }
        fs::write(folder.join("target/CACHEDIR.TAG"), "").unwrap();
        // Builds would begin from nothing here: those of run-qemu.sh are done, others use what is built.
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let (top, target) = (workspace::top().display(), workspace::target().display());
        let shim = format!(
            "#!/bin/sh\ncase $1 in build*) exit 0 ;; esac\nverb=$1 && shift\n\
             CARGO_TARGET_DIR='{target}' exec '{cargo}' \"$verb\" --quiet --manifest-path '{top}/Cargo.toml' \"$@\"\n"
        );
        let bin = folder.join("target/bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("cargo"), shim).unwrap();
        fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// A line for a shell, in this folder.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let path = format!("{}:{}", self.0.join("target/bin").display(), std::env::var("PATH").unwrap());
        command.args(["-c", line]).current_dir(&self.0).env("PATH", path);
        command.env_remove("CARGO_TARGET_DIR").env_remove("UNTORN_SOCKET");
        die_with_parent(&mut command);
        command
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let socket = self.0.join("target/vhost.sock").display().to_string();
        let ram = ExportWords::parse(&socket).unwrap().spec().ram;
        // Someone else cleaned up: as good.
        let _ = (fs::remove_dir_all(&self.0), fs::remove_file(ram));
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
        let end = console.wait_for_prompt(Deadline::after(LINE), |_| {}).unwrap_err();
        assert!(matches!(end.error, SessionError::Closed), "{end}");
        assert!(console.wait().is_some_and(|status| status.success()), "`poweroff` ends it well");
    }
}

/// Does what a page says, from top to bottom.
fn follow(page: &str, checkout: &Checkout) {
    let lines = lines(page);
    let consoles = lines.iter().filter(|line| matches!(line, Line::Console { .. })).count();
    assert!(consoles >= 4 && lines.len() > consoles, "{page}: the blocks are found: {lines:?}");
    let mut console: Option<ApplianceProcess> = None;
    for line in lines {
        match line {
            Line::Console { typed: line, shows } => {
                let console = console.as_mut().expect("the page starts it before");
                console.type_line(&line, Deadline::after(LINE)).unwrap();
                // A line of the log comes with a prompt of its own, also before the reply.
                let mut shown = shown(console, &line);
                let end = Deadline::after(SHOWN);
                while (shown.lines().count() <= 1 || missing(&shows, &shown).is_some())
                    && console.wait_for_prompt(end, |line| shown = format!("{shown}{line}\n")).is_ok()
                {}
                assert!(shown.lines().count() > 1, "{page}: `{line}` shows nothing");
                let is_meant = shows.iter().any(|line| line.starts_with("error ("));
                assert!(is_meant || !shown.contains("error ("), "{page}: `{line}`:\n{shown}");
                assert_eq!(missing(&shows, &shown), None, "{page}: `{line}`:\n{shown}");
            }
            Line::Shell(line) => {
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
                assert!(output.status.success(), "{page}: `{line}`: {}\n{out}{err}", output.status);
                assert!(!out.is_empty(), "{page}: `{line}` prints nothing\n{err}");
            }
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

#[test]
fn the_tour_shows_what_it_says() {
    let checkout = Checkout::new();
    let _turn = workspace::machine_turn();
    follow("docs/tour.md", &checkout);
}
