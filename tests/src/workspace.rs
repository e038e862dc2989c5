//! Where things are, what has to be built or installed, and whose turn it is with QEMU.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The top of the project.
#[must_use]
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the project")
}

/// Cargo's target directory: the one that holds the running test.
#[must_use]
pub fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let target = test.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
        target.expect("cargo marks its target directory").to_owned()
    })
}

/// A folder under [`target`], made if need be.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let folder = target().join(name);
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// A command at the top of the project, with our target directory.
#[must_use]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(top()).env("CARGO_TARGET_DIR", target());
    command
}

/// Installs what `host/setup.sh` knows as `what`: once in a process.
///
/// # Panics
/// When something is missing and cannot be installed; the script has printed what.
pub fn set_up(what: &'static str) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let turn = take_turn("setup");
        run(command("host/setup.sh").arg(what));
        drop(turn);
    });
}

/// Builds the image, the UEFI stub and untornctl as `run-qemu.sh` takes them: once in a process.
///
/// # Panics
/// When they do not build.
pub fn build() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        set_up("tests");
        for part in ["build-image", "build-stub", "build-untornctl"] {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            run(command(cargo).args([part, "--quiet"]));
        }
    });
}

/// Builds `untorn-target`, once in a process, and returns where it is.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn untorn_target() -> PathBuf {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(command(cargo).args(["build-target", "--quiet"]));
    });
    target().join("release/untorn-target")
}

/// Waits for `name`'s turn, which lasts as long as the file: tests of all processes take turns.
#[must_use]
pub fn take_turn(name: &str) -> File {
    let path = target().join(format!("{name}.lock"));
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file
}

/// Waits for a turn with QEMU, which lasts as long as the file. As many have one at a time as this machine has CPUs, in
/// all processes together. A test that has one starts all its machines in it.
///
/// # Panics
/// When a file cannot be made or locked.
#[must_use]
pub fn machine_turn() -> File {
    // How long a turn that has ended may be unseen.
    const LOOK: Duration = Duration::from_millis(20);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let turn = |number| {
        let path = target().join(format!("qemu-{number}.lock"));
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
        }
    };
    loop {
        match (0..count).find_map(turn) {
            Some(turn) => return turn,
            None => std::thread::sleep(LOOK),
        }
    }
}

/// Runs a command that must succeed, and returns what it printed on standard output.
///
/// # Panics
/// When it fails; with all that it printed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output.stdout
}

/// Returns the last of the programs that a process runs one another by: what `timeout` and the like run.
///
/// # Panics
/// When it does not run, or one of them runs two.
#[must_use]
pub fn innermost(mut pid: u32) -> u32 {
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
        match children.split_whitespace().collect::<Vec<_>>()[..] {
            [] => return pid,
            [child] => pid = child.parse().expect("a process has a number"),
            _ => panic!("{pid} has these children: {children:?}"),
        }
    }
}
