//! README.md can be followed from top to bottom, twice: each line of its indented blocks is run as it stands, and does not
//! fail. What is not to be run stands between fences.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use host::appliance::{ApplianceProcess, die_with_parent};
use host::deadline::Deadline;
use host::export_words::ExportWords;
use host::session::SessionError;
use tests::workspace;

/// The longest that a line may take.
const LINE: Duration = Duration::from_secs(120);

/// A line of a block.
#[derive(Debug)]
enum Line {
    /// For the console: what follows its prompt.
    Console(String),
    /// For a shell.
    Shell(String),
}

/// The lines of README's indented blocks, but for the one that has run this test.
fn lines() -> Vec<Line> {
    let text = fs::read_to_string(workspace::top().join("README.md")).unwrap();
    let lines: Vec<Line> = text
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("cargo test "))
        .map(|line| match line.strip_prefix("untorn> ") {
            Some(typed) => Line::Console(typed.into()),
            None => Line::Shell(line.into()),
        })
        .collect();
    let consoles = lines.iter().filter(|line| matches!(line, Line::Console(_))).count();
    assert!(consoles >= 5 && lines.len() - consoles >= 8, "the blocks are found: {lines:?}");
    lines
}

/// A checkout that is built, in a folder of its own: what is run there leaves the user's NVDIMM under target/ alone.
struct Checkout(PathBuf);

impl Checkout {
    fn new() -> Self {
        workspace::build();
        // Sockets have short names.
        let folder = std::env::temp_dir().join(format!("untorn-readme-{}", std::process::id()));
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

#[test]
fn readme_can_be_followed_from_top_to_bottom_twice() {
    let checkout = Checkout::new();
    let _turn = workspace::machine_turn();
    for pass in ["first", "second"] {
        let mut console: Option<ApplianceProcess> = None;
        for line in lines() {
            match line {
                Line::Console(line) => {
                    let console = console.as_mut().expect("README starts it before");
                    console.type_line(&line, Deadline::after(LINE)).unwrap();
                    let shown = shown(console, &line);
                    assert!(shown.lines().count() > 1, "{pass} time: `{line}` shows nothing");
                    assert!(!shown.contains("error ("), "{pass} time: `{line}`:\n{shown}");
                }
                Line::Shell(line) => {
                    let words = line.split(" #").next().unwrap_or_default().trim_end();
                    if words.starts_with("./run-qemu.sh") {
                        power_off(console.take());
                    }
                    if words == "./run-qemu.sh" {
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
                    assert!(output.status.success(), "{pass} time: `{line}`: {}\n{out}{err}", output.status);
                    assert!(!out.is_empty(), "{pass} time: `{line}` prints nothing\n{err}");
                }
            }
        }
        power_off(console);
    }
}
