//! An appliance in QEMU with a person at its console and programs at its admin socket, started by `run-qemu.sh`. It ends when
//! this is dropped, and with the thread that started it.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use host::appliance::die_with_parent;

use crate::dimm::Dimm;
use crate::place::{Place, eventually};
use crate::workspace;

/// The appliance.
#[derive(Debug)]
pub struct Console {
    child: Child,
    shown: Arc<Mutex<String>>,
    place: Place,
}

impl Console {
    /// Starts one with this NVDIMM and these options of `run-qemu.sh`, which is built and has its turn. Nothing is waited for.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dimm: &Dimm, options: &[&str]) -> Self {
        let place = Place::new();
        let mut command = workspace::command("./run-qemu.sh");
        command.args(["--no-build", "--timeout", "300"]).args(dimm.option()).args(options);
        command.arg("--admin").arg(place.at("admin")).stdin(Stdio::piped()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().expect("run-qemu.sh starts");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut output, seen) = (child.stdout.take().expect("it is piped"), Arc::clone(&shown));
        spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = output.read(&mut piece) {
                seen.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..bytes]));
            }
        });
        Self { child, shown, place }
    }

    /// The person types.
    ///
    /// # Panics
    /// When it has ended.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().expect("it is piped").write_all(keys).expect("it runs");
    }

    /// Waits until the console shows this, and forgets all up to there.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn waits_for(&self, what: &str) {
        eventually(what, || {
            let mut shown = self.shown.lock().expect("no panic");
            let Some(at) = shown.find(what) else { return false };
            shown.drain(..at + what.len());
            true
        });
    }

    /// What the console shows, but for what was waited for.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    /// A folder that is gone with it.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// `untornctl` as a program that asks at the admin socket.
    #[must_use]
    pub fn untornctl(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = Command::new(workspace::target().join("release/untornctl"));
        command.args([verb, "--socket"]).arg(self.place.at("admin")).args(words).stdin(Stdio::null());
        command
    }

    /// A program asks for a command.
    ///
    /// # Panics
    /// When `untornctl` is not there.
    #[must_use]
    pub fn ask(&self, line: &str) -> Output {
        self.untornctl("admin", &[line]).output().expect("untornctl runs")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // QEMU ends with it.
        let _ = (self.child.kill(), self.child.wait());
    }
}
