//! A serial line with a program at its other end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use service::link::{ByteLink, PartLink};

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    /// On its way in.
    pub to_node: VecDeque<u8>,
    /// What came out.
    pub from_node: Vec<u8>,
}

impl ByteLink for Line {
    fn receive(&mut self) -> Option<u8> {
        self.to_node.pop_front()
    }
    fn is_waiting(&mut self) -> bool {
        !self.to_node.is_empty()
    }
    fn send(&mut self, bytes: &[u8]) {
        self.from_node.extend(bytes);
    }
}

/// A line that both ends hold, and how often the node has looked for something on it.
#[derive(Clone, Debug, Default)]
pub struct Wire(pub Arc<Mutex<Line>>, pub Arc<AtomicU64>);

impl Wire {
    /// Sends bytes to the node.
    ///
    /// # Panics
    /// When a thread panicked while it used the line.
    pub fn say(&self, bytes: &[u8]) {
        self.0.lock().expect("no panic").to_node.extend(bytes);
    }

    /// Takes what the node has sent.
    ///
    /// # Panics
    /// When a thread panicked while it used the line.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no panic").from_node)
    }
}

impl PartLink for Wire {
    /// A FIFO's length at a time.
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        let part = &bytes[..bytes.len().min(16)];
        self.send(part);
        Some(part.len())
    }
}

impl ByteLink for Wire {
    fn receive(&mut self) -> Option<u8> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.lock().expect("no panic").receive()
    }
    fn is_waiting(&mut self) -> bool {
        self.0.lock().expect("no panic").is_waiting()
    }
    fn send(&mut self, bytes: &[u8]) {
        self.0.lock().expect("no panic").send(bytes);
    }
}
