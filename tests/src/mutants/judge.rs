//! Who may notice a defect: test binaries, built and run in the copy, one after the other.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::copy::Copy;

/// The longest that any judge may take: beyond it, the code does not come to an end.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// One or more test binaries of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judge {
    /// What it is called in patches and in verdicts.
    pub name: &'static str,
    package: &'static str,
    /// How cargo finds it.
    target: &'static [&'static str],
}

const fn judge(name: &'static str, package: &'static str, target: &'static [&'static str]) -> Judge {
    Judge { name, package, target }
}

/// The package that stands on all others.
const WHOLE: &str = "tests";
/// Its programs would be built anew for each defect, and none of these tests runs them.
const NO_PROGRAMS: &str = "--no-default-features";

/// All judges, cheapest first. Each is built only when it is asked.
pub const JUDGES: [Judge; 26] = [
    judge("btt", "btt", &["--lib"]),
    judge("letters", "kernel-loom", &["--test", "letters"]),
    judge("readers", "btt", &["--test", "readers"]),
    judge("cpus", "btt", &["--test", "cpus"]),
    judge("damage", "btt", &["--test", "damage"]),
    judge("edit", "btt", &["--test", "edit"]),
    judge("model", "btt", &["--test", "model"]),
    judge("commit", "btt", &["--test", "commit"]),
    judge("errors", "btt", &["--test", "errors"]),
    judge("crash", "btt", &["--test", "crash"]),
    judge("drivers", "drivers", &["--lib", "--test", "pmem", "--test", "virtio_pmem"]),
    judge("lost", "drivers", &["--test", "lost"]),
    judge("queue", "service", &["--test", "blk", "--test", "virtqueue"]),
    judge("labels", "nvdimm", &["--test", "labels"]),
    judge("change", "nvdimm", &["--test", "change"]),
    judge("nvmf", "nvmf", &["--test", "data"]),
    judge("hostile", "nvmf", &["--test", "hostile"]),
    judge("auth", "nvmf", &["--test", "auth"]),
    judge("http", "net", &["--test", "http"]),
    judge("repair", "btt", &["--test", "repair"]),
    judge("blk", WHOLE, &[NO_PROGRAMS, "--test", "blk"]),
    judge("node", WHOLE, &[NO_PROGRAMS, "--test", "node"]),
    judge("instructions", WHOLE, &[NO_PROGRAMS, "--test", "instructions"]),
    judge("explorer", WHOLE, &[NO_PROGRAMS, "--test", "crash_explorer"]),
    judge("loom", "btt-loom", &["--test", "loom"]),
    judge("shuttle", "btt-shuttle", &["--test", "shuttle"]),
];

/// A judge's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// This test fails.
    Noticed(String),
    /// The copy does not compile.
    NotBuilt(String),
}

impl Judge {
    /// Whether it stands on all crates, and not on one or two.
    #[must_use]
    pub fn needs_all(&self) -> bool {
        self.package == WHOLE
    }

    /// Builds the tests and runs them until one fails, each binary for no longer than `patience`.
    #[must_use]
    pub fn ask(&self, copy: &Copy, patience: Duration) -> Verdict {
        match self.build(copy) {
            Ok(binaries) => match binaries.iter().find_map(|(binary, folder)| fails(binary, folder, patience)) {
                Some(how) => Verdict::Noticed(format!("{}: {how}", self.name)),
                None => Verdict::Passed,
            },
            Err(why) => Verdict::NotBuilt(why),
        }
    }

    /// Where each test binary is, and where it wants to run.
    fn build(&self, copy: &Copy) -> Result<Vec<(PathBuf, PathBuf)>, String> {
        let arguments = ["test", "--locked", "--no-run", "--message-format=json", "-p", self.package];
        let output = copy.cargo().args(arguments).args(self.target).output().map_err(|error| error.to_string())?;
        let messages = || output.stdout.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice::<Value>);
        if !output.status.success() {
            let errors = messages().filter(|message| message["message"]["level"] == "error");
            let text = errors.filter_map(|message| message["message"]["rendered"].as_str().map(str::to_owned)).next();
            return Err(text.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let binary = |message: Value| {
            // The package's programs are built for its tests, too.
            if message["profile"]["test"] != true {
                return None;
            }
            let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
            Some((PathBuf::from(message["executable"].as_str()?), folder))
        };
        let binaries: Vec<_> = messages().filter_map(binary).collect();
        let wanted = self.target.iter().filter(|it| matches!(**it, "--lib" | "--test")).count();
        if binaries.len() == wanted {
            Ok(binaries)
        } else {
            Err(format!("cargo names {} of {wanted} test binaries", binaries.len()))
        }
    }
}

/// Runs a test binary up to its first failure, which it returns.
fn fails(binary: &Path, folder: &Path, patience: Duration) -> Option<String> {
    let mut command = Command::new(binary);
    // The image is not a judge's business: it would be built for each defect.
    command.args(["--skip", "the_image_holds"]);
    command.current_dir(folder).env("RUST_BACKTRACE", "0").env("CARGO_MANIFEST_DIR", folder);
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => return Some(format!("{}: {error}", binary.display())),
    };
    let (send, lines) = channel();
    let output = child.stdout.take();
    std::thread::spawn(move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + patience;
    let mut found = None;
    while found.is_none() {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let failed = line.strip_suffix(" ... FAILED").and_then(|line| line.strip_prefix("test "));
                found = failed.map(|test| test.rsplit("::").next().unwrap_or(test).to_owned());
            }
            Err(RecvTimeoutError::Timeout) => found = Some(format!("no end after {} s", patience.as_secs())),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    drop(lines);
    if found.is_some() {
        // The rest of its output does not matter. It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    // The thread is not joined: what a killed test has started may keep its output open.
    let status = child.wait();
    match (found, status) {
        (None, Ok(status)) if status.success() => None,
        (None, Ok(status)) => Some(status.to_string()),
        (None, Err(error)) => Some(error.to_string()),
        (found, _) => found,
    }
}
