//! A Unix socket that a QEMU makes for a test: its monitor's, its gdb stub's.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::workspace;

/// The longest wait for what QEMU replies.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where it will be. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct QemuSocket {
    option: &'static str,
    path: PathBuf,
}

impl QemuSocket {
    /// A place that is not in use, for this option of QEMU's.
    #[must_use]
    pub(crate) fn new(option: &'static str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}{option}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { option, path: workspace::folder("test-dimms").join(name) }
    }

    /// The arguments by which QEMU makes it.
    #[must_use]
    pub(crate) fn arguments(&self) -> [String; 2] {
        [self.option.to_owned(), format!("unix:{},server=on,wait=off", self.path.display())]
    }

    /// Connects to a QEMU that has started.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("QEMU listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
        stream
    }
}

impl Drop for QemuSocket {
    fn drop(&mut self) {
        // QEMU may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}
