//! The admin line of a real node.
//!
//! The first byte sets what the machine is like, the rest arrives on the line: bit 0 a label area, 1 machine mode, 2 mode
//! for programs, 3 and 4 a namespace of 512- or 4096-byte sectors.

use fake_machine::{FakeMachine, Wire};
use kernel::node::Node;
use service::console::{Activity, Session};

use crate::choices::Choices;
use crate::machine::machine;

/// A person's console.
struct Console {
    node: Node<FakeMachine>,
    session: Session,
    line: Wire,
    /// The machine went down: the session is over.
    over: bool,
}

impl Console {
    /// Sends bytes, and takes what comes.
    fn say(&mut self, bytes: &[u8]) -> String {
        self.line.say(bytes);
        // Every poll takes at least a byte, or carries out a command of at least one of a line before.
        for _ in 0..=2 * bytes.len() + 1000 {
            match self.session.poll(&mut self.line, &mut self.node) {
                _ if self.over => break,
                Activity::Busy => {}
                Activity::Idle => break,
                Activity::Poweroff | Activity::Reboot => self.over = true,
            }
        }
        String::from_utf8(self.line.heard()).expect("replies are UTF-8")
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let bits = choices.byte();
    let node = Node::assemble(machine(bits & 1 != 0).machine);
    let mut console = Console { node, session: Session::new(), line: Wire::default(), over: false };
    console.session.start(&mut console.line);
    if bits & 0b1_1000 != 0 {
        let size = if bits & 8 != 0 { 512 } else { 4096 };
        console.say(format!("create-namespace -l {size} --zero-entries\r").as_bytes());
    }
    if bits & 0b110 != 0 {
        let mode = if bits & 2 != 0 { "json" } else { "text" };
        console.say(format!("mode {mode}\r").as_bytes());
    }
    console.say(choices.0);
    if console.over {
        return;
    }
    // Whatever that was, the line after it is obeyed; and what the node did to the medium was sound.
    console.say(b"\x03\r\nmode json\r\n");
    let said = console.say(b"version\n");
    assert!(said.ends_with("}\n") && said.contains("\"ok\":true"), "no answer but {said:?}");
    for namespace in ["namespace0.0", "namespace0.1"] {
        let said = console.say(format!("check-namespace {namespace}\n").as_bytes());
        let none = said.contains("\"ok\":false") || said.contains("no BTT");
        assert!(none || !said.contains("\"exit\":"), "{namespace}: {said}");
    }
}
