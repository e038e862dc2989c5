//! Where pages are followed: a checkout of its own, so that what stands in ours and in a person's folder stays as it is.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use host::appliance::die_with_parent;
use host::export_words::ExportWords;
use tests::workspace;

/// A checkout that is built, in a folder of its own: what is run there leaves the user's NVDIMM under target/ alone.
pub(crate) struct Checkout(PathBuf);

impl Checkout {
    /// Builds what there is to build.
    pub(crate) fn new() -> Self {
        workspace::build();
        // Sockets have short names.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("untorn-pages-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let release = folder.join("target/release");
        fs::create_dir_all(&release).unwrap();
        for entry in fs::read_dir(workspace::top()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                symlink(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        for program in ["untorn", "untornctl", "untorn-stub"] {
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
        fs::create_dir(folder.join("target/person")).unwrap();
        fs::write(bin.join("cargo"), shim).unwrap();
        fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// A line for a shell, in this folder.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let folder = |name: &str| self.0.join(name).display().to_string();
        let path = [folder("target/bin"), folder("target/release"), std::env::var("PATH").unwrap()].join(":");
        command.args(["-c", line]).current_dir(&self.0).env("PATH", path);
        // A person's files stay as they are; the toolchain stays where it is.
        let person = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        for (name, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.env(name, std::env::var_os(name).map_or_else(|| person.join(usual), PathBuf::from));
        }
        command.env("HOME", folder("target/person"));
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
