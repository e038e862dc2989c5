//! QEMU's monitor, over a socket of its own: for what only the hardware can do to a machine.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::qemu_socket::QemuSocket;

/// Where a QEMU will have its monitor.
#[derive(Debug)]
pub struct Socket(QemuSocket);

impl Socket {
    /// A place that is not in use.
    #[must_use]
    pub fn new() -> Self {
        Self(QemuSocket::new("-qmp"))
    }

    /// The arguments by which QEMU makes it.
    #[must_use]
    pub fn arguments(&self) -> [String; 2] {
        self.0.arguments()
    }

    /// Connects to a QEMU that has started.
    ///
    /// # Panics
    /// When it does not reply.
    #[must_use]
    pub fn connect(&self) -> Monitor {
        let stream = self.0.connect();
        let mut monitor = Monitor(BufReader::new(stream));
        monitor.line(); // the greeting
        monitor.execute(&json!({"execute": "qmp_capabilities"}));
        monitor
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Raises a machine check on a CPU (QEMU's `mce`): with this bank status, global status, physical address and
    /// miscellaneous register.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn machine_check(&mut self, cpu: u32, status: u64, global: u64, address: u64, misc: u64) {
        let command = mce(cpu, status, global, address, misc);
        let said = self.execute(&command);
        assert_eq!(said, "", "{command}");
    }

    /// The same where the machine ends by it, perhaps before QEMU could reply: this does not wait for a reply.
    ///
    /// # Panics
    /// When QEMU does not read it.
    pub fn last_machine_check(&mut self, cpu: u32, status: u64, global: u64, address: u64, misc: u64) {
        self.send(&mce(cpu, status, global, address, misc));
    }

    /// Pulls the machine's reset line.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn reset(&mut self) {
        self.execute(&json!({"execute": "system_reset"}));
    }

    /// Sends an interrupt that cannot be held off.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn interrupt(&mut self) {
        self.execute(&json!({"execute": "inject-nmi"}));
    }

    /// Stops all of the machine's CPUs.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn stop(&mut self) {
        self.execute(&json!({"execute": "stop"}));
    }

    /// Lets them go on.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn go_on(&mut self) {
        self.execute(&json!({"execute": "cont"}));
    }

    /// Plugs the cable of a network device in, or pulls it out.
    ///
    /// # Panics
    /// When QEMU returns an error.
    pub fn set_link(&mut self, device: &str, up: bool) {
        self.execute(&json!({"execute": "set_link", "arguments": {"name": device, "up": up}}));
    }

    /// Sends a command, and returns its reply.
    fn execute(&mut self, command: &Value) -> Value {
        self.send(command);
        loop {
            let mut answer = self.line();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            // Anything else is an event.
            if let Some(answer) = answer.get_mut("return") {
                return answer.take();
            }
        }
    }

    fn send(&mut self, command: &Value) {
        let line = format!("{command}\n");
        self.0.get_mut().write_all(line.as_bytes()).expect("QEMU's monitor reads");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("QEMU's monitor answers");
        serde_json::from_str(&line).expect("its answers are JSON")
    }
}

fn mce(cpu: u32, status: u64, global: u64, address: u64, misc: u64) -> Value {
    let line = format!("mce {cpu} 9 {status:#x} {global:#x} {address:#x} {misc:#x}");
    json!({"execute": "human-monitor-command", "arguments": {"command-line": line}})
}
