//! A prompt that knows how to end the machine: what runs until there is a node to run.

use service::link::ByteLink;

use crate::cpu::Idle;
use crate::machine::Machine;
use crate::power;

/// The longest line that is looked at.
const LINE_BYTES: usize = 64;

/// Serves the console for ever.
pub(crate) fn run(machine: Machine) -> ! {
    let mut console = machine.console;
    log!("ready in {} ms", machine.clock.now_ns() / 1_000_000);
    let mut idle = Idle::new(machine.cpus);
    let mut line = [0; LINE_BYTES];
    let mut length = 0;
    console.send(b"untorn> ");
    loop {
        let Some(byte) = console.receive() else {
            idle.rest();
            continue;
        };
        idle.worked();
        match byte {
            b'\r' | b'\n' => {
                console.send(b"\r\n");
                match line.get(..length).unwrap_or_default() {
                    b"poweroff" => power::off(),
                    b"reboot" => power::reboot(),
                    b"" => {}
                    _ => console.send(b"only poweroff and reboot are known\r\n"),
                }
                length = 0;
                console.send(b"untorn> ");
            }
            byte => {
                console.send(&[byte]);
                if let Some(place) = line.get_mut(length) {
                    *place = byte;
                }
                length = length.saturating_add(1);
            }
        }
    }
}
