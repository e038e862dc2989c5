//! A service that sends back what it receives.

use alloc::vec::Vec;

use crate::tcp::{ConnectionId, ConnectionState, Limits, Service, Tcp};

/// The most bytes that a step sends back by one connection.
const BYTES_MAX: usize = 4096;

/// Sends back, on one port, what it receives. Closes when its peer has.
#[derive(Debug)]
pub struct Echo {
    port: u16,
    limits: Limits,
    is_listening: bool,
    open: Vec<ConnectionId>,
}

impl Echo {
    /// On this port.
    #[must_use]
    pub const fn new(port: u16, limits: Limits) -> Self {
        Self { port, limits, is_listening: false, open: Vec::new() }
    }
}

impl Service for Echo {
    fn serve(&mut self, tcp: &mut Tcp<'_>, now_ns: u64) -> u64 {
        if !core::mem::replace(&mut self.is_listening, true) {
            tcp.listen(self.port, self.limits);
        }
        self.open.extend(core::iter::from_fn(|| tcp.accept(self.port)));
        let mut has_more = false;
        self.open.retain(|id| {
            let Some(mut connection) = tcp.connection(*id) else { return false };
            let room = connection.room().min(BYTES_MAX);
            let mut bytes = Vec::new();
            connection.read(|received| {
                bytes.extend_from_slice(&received[..received.len().min(room)]);
                bytes.len()
            });
            connection.write_all(&bytes);
            has_more |= connection.waiting() > 0 && connection.room() > 0;
            let ended = connection.state() != ConnectionState::Open && connection.waiting() == 0;
            if ended {
                tcp.close(*id);
            }
            !ended
        });
        if has_more { now_ns } else { u64::MAX }
    }
}
