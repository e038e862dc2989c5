//! QEMU's gdb stub, over a socket of its own: to have one CPU do what no program of ours would.
//!
//! The protocol is that of gdb's manual, appendix E. While a debugger is connected and has not let go, all CPUs stand still.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::qemu_socket::QemuSocket;

/// The number of the instruction pointer among an x86-64 CPU's registers.
const RIP: u32 = 16;

/// An instruction that jumps to itself.
const LOOP: &str = "ebfe";

/// Where a QEMU will have its stub.
#[derive(Debug)]
pub struct Socket(QemuSocket);

impl Socket {
    /// A place that is not in use.
    #[must_use]
    pub fn new() -> Self {
        Self(QemuSocket::new("-gdb"))
    }

    /// The arguments by which QEMU makes it.
    #[must_use]
    pub fn arguments(&self) -> [String; 2] {
        self.0.arguments()
    }

    /// Puts an endless loop at `at`, which no CPU needs any more, and has a CPU go on there.
    ///
    /// # Panics
    /// When QEMU refuses it.
    pub fn sticks(&self, cpu: u32, at: u64) {
        let stream = self.0.connect();
        let mut stub = Stub(stream);
        let thread = cpu + 1;
        // Only who has asked how registers are described may set one.
        assert!(stub.ask("qXfer:features:read:target.xml:0,ffb").contains("target"));
        for command in [
            format!("Hg{thread:x}"),
            format!("M{at:x},{:x}:{LOOP}", LOOP.len() / 2),
            format!("P{RIP:x}={:016x}", at.swap_bytes()),
            "D".to_owned(),
        ] {
            assert_eq!(stub.ask(&command), "OK", "{command}");
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self::new()
    }
}

struct Stub(UnixStream);

impl Stub {
    /// Sends a packet, and returns the reply's.
    fn ask(&mut self, command: &str) -> String {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        self.0.write_all(format!("${command}#{sum:02x}").as_bytes()).expect("the stub reads");
        loop {
            let reply = self.packet();
            // That the CPUs stand still may be told at any time.
            if !reply.starts_with('T') {
                return reply;
            }
        }
    }

    /// Takes a packet in.
    fn packet(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut packet = String::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => packet.push(char::from(byte)),
            }
        }
        let _sum = [self.byte(), self.byte()];
        self.0.write_all(b"+").expect("the stub reads");
        packet
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("the stub replies");
        byte[0]
    }
}
