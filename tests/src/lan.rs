//! A link whose one end is a machine's network device in QEMU, and the other the test's: QEMU's `-netdev stream`, on which
//! each frame comes after its length (32 bits, big-endian).

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use net::mock::Host;

use crate::workspace;

/// The longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest frame that QEMU passes on.
const FRAME_BYTES_MAX: usize = 1 << 17;

/// Where a QEMU will have its end.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// A place that is not in use.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}.lan", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = workspace::folder("test-dimms").join(name);
        let listener = UnixListener::bind(&path).expect("a socket");
        Self { listener, path }
    }

    /// Returns the words of `--net` by which a machine is on it.
    #[must_use]
    pub fn netdev(&self) -> String {
        format!("stream,server=off,addr.type=unix,addr.path={}", self.path.display())
    }

    /// Returns the link, once the machine has started, with this host at the test's end.
    ///
    /// # Panics
    /// When it does not come.
    #[must_use]
    pub fn link(&self, host: Host) -> Lan {
        let (stream, _) = self.listener.accept().expect("QEMU connects when it starts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket has time-outs");
        Lan { stream, host }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone with its folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The test's end.
#[derive(Debug)]
pub struct Lan {
    stream: UnixStream,
    /// The machine that the test is on it.
    pub host: Host,
}

impl Lan {
    /// Returns another handle of the same end.
    ///
    /// # Panics
    /// When no descriptor is left.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor is left"), host: self.host }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The machine is gone, or takes nothing.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(frame.len()).expect("a frame is short").to_be_bytes();
        self.stream.write_all(&[&bytes[..], frame].concat())
    }

    /// Receives the next frame.
    ///
    /// # Errors
    /// The machine is gone, or sends nothing.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes)?;
        let bytes = u32::from_be_bytes(bytes) as usize;
        assert!(bytes <= FRAME_BYTES_MAX, "QEMU names {bytes} bytes");
        let mut frame = vec![0; bytes];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Receives frames until `look` finds what it looks for in one. Those who ask for the host's address get it meanwhile.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn expect<T>(&mut self, mut look: impl FnMut(&[u8]) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let frame = self.receive().expect("a frame comes");
            if let Some(found) = look(&frame) {
                return found;
            }
            if let Some(reply) = self.host.reply(&frame) {
                self.send(&reply).expect("the machine receives");
            }
        }
        panic!("what is looked for does not come");
    }
}
