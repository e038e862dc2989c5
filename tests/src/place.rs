//! Where disks meet their consumers: a folder for sockets and consumers' RAM files, removed when it is dropped.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than the appliance takes to come up again on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
}

/// A TCP port that was free just now.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("it has an address").port()
}

/// The folder.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// One that is not in use, in memory if there is such a place.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("untorn-export-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = ["/dev/shm", "/tmp"].map(Path::new).into_iter().find(|folder| folder.is_dir());
        let folder = folder.expect("a place for temporary files").join(name);
        fs::create_dir_all(&folder).expect("a folder is made");
        Self(folder)
    }

    /// A file's path in it.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `--vhost-user` for a disk and a consumer's RAM.
    #[must_use]
    pub fn export(&self, socket: &str, dev: &str, ram: &str, mebibytes: u64) -> String {
        let (socket, ram) = (self.at(socket), self.at(ram));
        format!("{},dev={dev},ram={},size={mebibytes}M", socket.display(), ram.display())
    }

    /// A program that runs QEMU, but not before a file is gone.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn held_back_by(&self, flag: &str) -> PathBuf {
        let program = self.at(&format!("{flag}.qemu"));
        let qemu = std::env::var("QEMU").unwrap_or_else(|_| "qemu-system-x86_64".into());
        let script =
            format!("#!/bin/sh\nwhile [ -e '{}' ]; do sleep 0.1; done\nexec {qemu} \"$@\"\n", self.at(flag).display());
        fs::write(&program, script).expect("a program is written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program may be run");
        program
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Someone else cleaned up: as good.
        let _ = fs::remove_dir_all(&self.0);
    }
}
