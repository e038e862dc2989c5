//! What a Linux guest boots from: the distribution's own kernel, its modules, and programs of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::cpio::Archive;
use crate::workspace;

/// The folder with the kernel, which is fetched if need be: `vmlinux`, `vmlinuz`, `modules/`, and `mdadm`.
pub(super) fn kernel() -> PathBuf {
    workspace::set_up("tests");
    let folder = workspace::folder("linux").join("kernel");
    let turn = workspace::take_turn("linux-kernel");
    workspace::run(workspace::command("tests/linux-kernel.sh").arg(&folder));
    drop(turn);
    folder
}

/// An initramfs under construction.
#[derive(Debug)]
pub(super) struct Initramfs {
    archive: Archive,
    /// The folder that the modules come from.
    from: PathBuf,
    /// Those that are in it, and what they need.
    modules: Vec<String>,
    libraries: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// Without anything but empty folders.
    pub(super) fn new(kernel: &Path) -> Self {
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "sys", "run", "tmp", "bin", "mnt"] {
            archive.folder(folder);
        }
        Self { archive, from: kernel.join("modules"), modules: Vec::new(), libraries: BTreeSet::new() }
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.archive.file(path, content);
    }

    /// Adds a program of this machine, and the shared libraries that it needs.
    pub(super) fn program(&mut self, path: &str, program: &Path) {
        self.copy(path, program);
        for library in libraries(program) {
            if self.libraries.insert(library.clone()) {
                self.copy(library.to_str().expect("a library's path is text").trim_start_matches('/'), &library);
            }
        }
    }

    /// Adds modules to a folder, and before them those that they need, under names that sort as they are to be loaded. The
    /// folder is there also if all of them are part of the kernel.
    pub(super) fn modules(&mut self, folder: &str, names: &[&str]) {
        self.archive.folder(folder);
        let known = self.modules.len();
        names.iter().for_each(|name| self.require(name));
        for at in known..self.modules.len() {
            let name = self.modules[at].clone();
            self.copy(&format!("{folder}/{at:02}-{name}.ko"), &self.from.join(format!("{name}.ko")));
        }
    }

    /// The finished archive.
    pub(super) fn finish(self) -> Vec<u8> {
        self.archive.finish()
    }

    fn copy(&mut self, path: &str, file: &Path) {
        let content = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.archive.file(path, &content);
    }

    /// Notes a module, after those that it needs. One that is no file is part of the kernel.
    fn require(&mut self, name: &str) {
        let Ok(module) = fs::read(self.from.join(format!("{name}.ko"))) else { return };
        if self.modules.iter().any(|there| there == name) {
            return;
        }
        for needed in depends(&module) {
            self.require(&needed);
        }
        self.modules.push(name.to_owned());
    }
}

/// The modules that a module needs: its `.modinfo` section has `depends=one,two`.
fn depends(module: &[u8]) -> Vec<String> {
    let word = b"\0depends=";
    let Some(at) = module.windows(word.len()).position(|window| window == word) else { return Vec::new() };
    let value = module[at + word.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// Where this machine has a program.
pub(super) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    let mut found = folders.map(|folder| folder.join(name)).filter(|file| access(file, AccessFlags::X_OK).is_ok());
    found.next().unwrap_or_else(|| panic!("{name} is not installed"))
}

/// The shared libraries of a program, by the path at which they are looked for. A static one has none.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd starts").stdout;
    let listed = String::from_utf8_lossy(&listed);
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(PathBuf::from).collect()
}
