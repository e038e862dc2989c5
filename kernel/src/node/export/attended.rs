//! A link whose peer may be slow: consumers and their bridge are attended to while a reply is sent.

use alloc::sync::Arc;

use btt::CpuIndex;
use service::link::{Asker, ByteLink, LinkNumber, PartLink};
use service::progress::ProgressForm;

use super::Exports;

/// The link, and what is attended to between the parts of what it sends.
pub struct AttendedLink<L> {
    /// The link.
    pub link: L,
    /// Consumers, and the bridge.
    pub exports: Arc<Exports>,
    /// The CPU that sends. It holds no lane meanwhile.
    pub cpu: CpuIndex,
}

impl<L: PartLink> ByteLink for AttendedLink<L> {
    fn receive(&mut self) -> Option<u8> {
        self.link.receive()
    }

    fn is_waiting(&mut self) -> bool {
        self.link.is_waiting()
    }

    fn has_lost(&mut self) -> bool {
        self.link.has_lost()
    }

    fn number(&self) -> LinkNumber {
        self.link.number()
    }

    fn begins(&mut self, asker: Asker, number: &str) {
        self.link.begins(asker, number);
    }

    fn shows_progress(&mut self, form: Option<ProgressForm>) {
        self.link.shows_progress(form);
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(sent) = self.link.send_part(rest) else { return };
            rest = &rest[sent..];
            self.exports.attend(self.cpu);
        }
    }
}
