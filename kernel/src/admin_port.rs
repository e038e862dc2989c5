//! The admin port: a virtio-console port by which programs ask, beside COM1. A kilobyte costs it what a byte costs COM1.
//!
//! It is a line like the console, with a session in machine mode of its own. Log lines, panics and the person stay on COM1.
//! CPU 0 has it alone. A machine without the device, or with a faulty one, goes on without.

use alloc::string::ToString;

use drivers::virtio::console::{ConsolePort, PortFault};
use drivers::virtio::registers::PciRegisters;
use service::console::ahead::{Found, FramedRequest, ReadAhead};
use service::link::{Asker, ByteLink, LinkNumber, PartLink};
use service::progress::{Meter, Progress, ProgressForm};
use spin::Mutex;

use crate::asked_by::Line;

/// The port, and what is carried out for it. CPU 0 takes the lock, and no other one while it has it.
static PORT: Mutex<Option<Port>> = Mutex::new(None);

struct Port {
    device: ConsolePort<PciRegisters>,
    /// What has come in while a command is carried out.
    ahead: ReadAhead,
    asker: Asker,
    /// How the progress of that command is shown.
    form: Option<ProgressForm>,
    meter: Meter,
    /// Whether the session is another peer's.
    is_new: bool,
    /// Whether that peer's jobs are to be forgotten.
    has_gone: bool,
    /// The fault that was told.
    told: Option<PortFault>,
}

impl Port {
    /// Takes in what the device says. What was read ahead of a new peer is not that one's.
    fn hear(&mut self) {
        if self.device.look() {
            (self.ahead, self.is_new, self.has_gone) = (ReadAhead::new(), true, true);
        }
    }

    /// Returns whether the command under way is a former peer's.
    fn serves_nobody(&self) -> bool {
        self.is_new && Line::AdminPort.asked()
    }
}

/// Takes the device into use, the only one.
pub(crate) fn init(device: ConsolePort<PciRegisters>) {
    let (ahead, meter) = (ReadAhead::new(), Meter::new());
    let (asker, form, told, is_new, has_gone) = (Asker::Program, None, None, false, false);
    *PORT.lock() = Some(Port { device, ahead, asker, form, meter, is_new, has_gone, told });
}

/// Starts a device anew that keeps our buffers.
fn restart_if_worn() {
    let Some(port) = PORT.lock().take_if(|port| port.device.is_worn()) else { return };
    match port.device.restarted() {
        Ok(device) => init(device),
        Err(why) => log!("admin port: it was to be started anew: {why}: it is not used any more"),
    }
}

/// The port as a byte link. All copies are the same link; without a device nothing comes, and what is sent is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminPort;

impl ByteLink for AdminPort {
    fn receive(&mut self) -> Option<u8> {
        let port = &mut *PORT.lock();
        let Port { device, ahead, .. } = port.as_mut()?;
        ahead.receive(device)
    }

    fn is_waiting(&mut self) -> bool {
        PORT.lock().as_mut().is_some_and(|port| port.ahead.is_waiting() || port.device.is_waiting())
    }

    fn number(&self) -> LinkNumber {
        LinkNumber(1)
    }

    fn begins(&mut self, asker: Asker, number: &str) {
        Line::AdminPort.begins();
        if let Some(port) = PORT.lock().as_mut() {
            port.ahead.begins(number);
            (port.asker, port.form, port.meter) = (asker, None, Meter::new());
        }
    }

    fn shows_progress(&mut self, form: Option<ProgressForm>) {
        if let Some(port) = PORT.lock().as_mut() {
            port.form = form;
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(port) = PORT.lock().as_mut().filter(|port| !port.serves_nobody()) {
            port.device.send(bytes);
        }
    }
}

impl PartLink for AdminPort {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        // A reply to who was there before is none to somebody new.
        PORT.lock().as_mut().filter(|port| !port.serves_nobody())?.device.send_part(bytes)
    }
}

/// Takes in what the device says. Returns whether the session is to begin anew, for somebody else.
pub(crate) fn look() -> bool {
    restart_if_worn();
    let (is_new, fault) = {
        let mut port = PORT.lock();
        let Some(port) = port.as_mut() else { return false };
        port.hear();
        let fault = port.device.fault();
        let is_new = core::mem::take(&mut port.is_new);
        (is_new, (core::mem::replace(&mut port.told, fault) != fault).then_some(fault).flatten())
    };
    if let Some(why) = fault {
        log!("admin port: {}: it is not used any more", why.to_string());
    }
    is_new
}

/// Ends a reply: all of it goes to the peer.
pub(crate) fn flush() {
    if let Some(port) = PORT.lock().as_mut() {
        port.device.flush();
    }
}

/// Waits until the peer has what was sent, within a bound: before the power is turned off.
pub(crate) fn drain() {
    if let Some(port) = PORT.lock().as_mut() {
        port.device.drain();
    }
}

/// Called before CPU 0 halts: asks for an interrupt when something comes. Returns false if it is there.
pub(crate) fn rest() -> bool {
    PORT.lock().as_mut().is_none_or(|port| !port.ahead.is_waiting() && port.device.rest())
}

/// Reads ahead while a command is carried out, up to what concerns it. What somebody sends who has not been heard of is left
/// for later: what their predecessor has left behind comes first.
pub(crate) fn look_ahead() -> Option<Found> {
    let port = &mut *PORT.lock();
    let port = port.as_mut()?;
    if port.serves_nobody() {
        return Some(Found::End);
    }
    let Port { device, ahead, asker, .. } = port;
    ahead.look(device, if Line::AdminPort.asked() { *asker } else { Asker::Elsewhere })
}

/// Takes in what the device says, while a command is carried out.
pub(crate) fn hear() {
    if let Some(port) = PORT.lock().as_mut() {
        port.hear();
    }
}

/// Returns whether since the last call it was heard that a peer has gone.
pub(crate) fn has_gone() -> bool {
    PORT.lock().as_mut().is_some_and(|port| core::mem::take(&mut port.has_gone))
}

/// Keeps a request for the session.
pub(crate) fn put_back(request: FramedRequest) {
    if let Some(port) = PORT.lock().as_mut() {
        port.ahead.put_back(request);
    }
}

/// Tells how far the command is, if it is carried out for the port and its peer wants to know.
pub(crate) fn progress(now_ns: u64, progress: &Progress<'_>) {
    let mut port = PORT.lock();
    if !Line::AdminPort.asked() {
        return;
    }
    let port = port.as_mut().filter(|port| !port.serves_nobody());
    let Some(Port { device, form: Some(form), meter, .. }) = port else { return };
    let Some(figures) = meter.look(now_ns, progress) else { return };
    let text = form.text(&figures);
    // Half a line would be worse than none, and the command does not wait.
    if device.room() >= text.len() {
        device.send(text.as_bytes());
        device.flush();
    }
}
