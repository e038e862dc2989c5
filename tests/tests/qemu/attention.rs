//! A long command on a running appliance: others look meanwhile, and it ends with who asked for it.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use tests::dimm::{Dimm, MIB};
use tests::workspace;

/// How long anything may take that is to happen soon.
const SOON: Duration = Duration::from_secs(60);

/// An appliance with an admin socket, and a person at its console.
struct Console {
    child: Child,
    shown: Arc<Mutex<String>>,
    socket: String,
}

impl Console {
    fn start(dimm: &Dimm) -> Self {
        let socket = std::env::temp_dir().join(format!("untorn-attention-{}.sock", std::process::id()));
        let socket = socket.display().to_string();
        let mut command = workspace::command("./run-qemu.sh");
        command.args(["--no-build", "--timeout", "300", "--admin", &socket]).args(dimm.option());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut output, seen) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = output.read(&mut piece) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..bytes]));
            }
        });
        Self { child, shown, socket }
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// Waits until the console shows this, and forgets all up to there.
    #[track_caller]
    fn waits_for(&self, what: &str) {
        eventually(what, || {
            let mut shown = self.shown.lock().unwrap();
            let Some(at) = shown.find(what) else { return false };
            shown.drain(..at + what.len());
            true
        });
    }

    /// A program that asks for a command.
    fn asks(&self, line: &str) -> Command {
        let mut command = Command::new(workspace::target().join("release/untornctl"));
        command.args(["admin", "--socket", &self.socket, line]).stdin(Stdio::null());
        command
    }

    fn ask(&self, line: &str) -> Output {
        self.asks(line).output().unwrap()
    }

    /// Whether a program asks for a command that is not done.
    fn is_busy(&self) -> bool {
        let stats = self.ask("stats");
        assert!(stats.status.success(), "{stats:?}");
        let before = stats.stdout;
        sleep(Duration::from_millis(300));
        self.ask("stats").stdout != before
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It ends with its client.
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_long_command_holds_up_nobody_who_looks_and_ends_with_who_asked_for_it() {
    workspace::build();
    let _turn = workspace::machine_turn();
    let dimm = Dimm::blank(64 * MIB);
    let mut console = Console::start(&dimm);
    console.waits_for("untorn> ");

    let made = console.ask("create-namespace");
    assert!(made.status.success(), "{made:?}");

    // A program's.
    let mut bench = console.asks("bench pmem0s -f --seconds 250").stdout(Stdio::null()).spawn().unwrap();
    eventually("the load runs", || console.is_busy());
    for line in ["status", "list -vvv", "health", "nfit"] {
        let looked = console.ask(line);
        assert!(looked.status.success() && !looked.stdout.is_empty(), "{line}: {looked:?}");
    }
    assert!(bench.try_wait().unwrap().is_none(), "it still runs");
    bench.kill().unwrap();
    bench.wait().unwrap();
    // Its client has gone: the next command does not wait for 250 s.
    let wrote = console.ask("write pmem0s 0 --fill 7");
    assert!(wrote.status.success(), "{wrote:?}");

    // A person's.
    console.type_in(b"bench pmem0s -f --seconds 250\r");
    eventually("the load runs", || console.is_busy());
    assert!(console.ask("status").status.success());
    console.type_in(b"ver\x03");
    console.waits_for("ended before it was done");
    console.waits_for("untorn> ");
    assert!(!console.shown.lock().unwrap().contains("ver"), "typed ahead, and dropped");
    // What was typed before ^C is dropped, and the console goes on.
    console.type_in(b"version\r");
    console.waits_for("version\r\nuntorn ");
    console.type_in(b"poweroff\r");
    console.waits_for("powering off");
}
