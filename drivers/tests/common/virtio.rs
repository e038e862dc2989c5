//! What virtio devices of ours share: their common registers and their queues (virtio 1.2, 2.7 and 4.1.4.3).
//!
//! Queues with even numbers are the driver's to receive by, others to send by: so are those of networks and consoles.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use drivers::dma::DmaPage;
use drivers::virtio::Structure;
use drivers::virtio::registers::{Registers, Width};
use service::memory::SharedMemory as _;

use super::Pages;

/// A queue as the device knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) size: u32,
    pub(crate) vector: u32,
    addresses: [u32; 6],
    pub(crate) enabled: bool,
    /// How many chains the device has used.
    pub(crate) used: u16,
    pub(crate) notified: u32,
}

/// Registers, queues, and the machine's pages by their addresses.
#[derive(Debug)]
pub(crate) struct Virtio {
    pub(crate) pages: Pages,
    pub(crate) status: u32,
    pub(crate) features: u64,
    select: [u32; 2],
    /// The features that the driver has taken.
    pub(crate) chosen: u64,
    selected: usize,
    pub(crate) queues: Vec<Queue>,
    /// The size of each queue until the driver sets it.
    pub(crate) queue_size: u32,
    /// What the register of a vector takes.
    pub(crate) has_vectors: bool,
    /// The most pieces of a chain.
    pub(crate) pieces_max: usize,
}

impl Virtio {
    pub(crate) fn new(features: u64, queues: usize, queue_size: u32) -> Self {
        let queue = Queue { size: 0, vector: 0xffff, addresses: [0; 6], enabled: false, used: 0, notified: 0 };
        Self {
            pages: Pages::default(),
            status: 0,
            features,
            select: [0; 2],
            chosen: 0,
            selected: 0,
            queues: vec![queue; queues],
            queue_size,
            has_vectors: true,
            pieces_max: 8,
        }
    }

    pub(crate) fn word(&self, at: u64) -> u16 {
        let (window, place) = self.pages.place(at, 2);
        window.load_u16(place).expect("aligned")
    }

    pub(crate) fn store(&self, at: u64, value: u16) {
        let (window, place) = self.pages.place(at, 2);
        window.store_u16(place, value).expect("aligned");
    }

    /// The address of a queue's table, available ring or used ring.
    pub(crate) fn address(&self, queue: usize, part: usize) -> u64 {
        let addresses = self.queues[queue].addresses;
        u64::from(addresses[2 * part + 1]) << 32 | u64::from(addresses[2 * part])
    }

    /// How many chains the device has of a queue.
    pub(crate) fn waiting(&self, queue: usize) -> u16 {
        self.word(self.address(queue, 1) + 2).wrapping_sub(self.queues[queue].used)
    }

    /// The chain that the device would use next: its head, and its pieces' addresses and lengths.
    fn next(&self, queue: usize) -> Option<(u16, Vec<(u64, u32)>)> {
        if self.waiting(queue) == 0 {
            return None;
        }
        let Queue { size, used, .. } = self.queues[queue];
        let head = self.word(self.address(queue, 1) + 4 + 2 * (u64::from(used) % u64::from(size)));
        let (mut pieces, mut at) = (Vec::new(), head);
        loop {
            assert!(u32::from(at) < size && pieces.len() < self.pieces_max, "a chain is short, and in its table");
            let mut descriptor = [0; 16];
            self.pages.read(self.address(queue, 0) + 16 * u64::from(at), &mut descriptor);
            let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
            let address = u64::from_le_bytes(descriptor[..8].try_into().expect("8 bytes"));
            let bytes = u32::from_le_bytes(descriptor[8..12].try_into().expect("4 bytes"));
            assert_eq!(word(12) & !1, if queue.is_multiple_of(2) { 2 } else { 0 }, "who writes it");
            pieces.push((address, bytes));
            if word(12) & 1 == 0 {
                return Some((head, pieces));
            }
            at = word(14);
        }
    }

    /// Puts an entry in the used ring.
    pub(crate) fn use_chain(&mut self, queue: usize, id: u32, bytes: u32) {
        let Queue { size, used, .. } = self.queues[queue];
        let (at, place) = (self.address(queue, 2), u64::from(used) % u64::from(size));
        self.pages.write(at + 4 + 8 * place, &id.to_le_bytes());
        self.pages.write(at + 8 + 8 * place, &bytes.to_le_bytes());
        self.queues[queue].used = used.wrapping_add(1);
        self.store(at + 2, self.queues[queue].used);
    }

    /// Sends bytes by a queue, as many as its next buffer takes. Returns how many; `None` without a buffer.
    pub(crate) fn give(&mut self, queue: usize, bytes: &[u8]) -> Option<usize> {
        let (head, pieces) = self.next(queue)?;
        let mut left = bytes;
        for (at, room) in pieces {
            let (here, rest) = left.split_at(left.len().min(room as usize));
            self.pages.write(at, here);
            left = rest;
        }
        let given = bytes.len() - left.len();
        self.use_chain(queue, head.into(), u32::try_from(given).expect("short"));
        Some(given)
    }

    /// Takes the buffer that the driver sent first.
    pub(crate) fn taken(&mut self, queue: usize) -> Option<Vec<u8>> {
        let (head, pieces) = self.next(queue)?;
        let mut all = Vec::new();
        for (at, bytes) in pieces {
            let mut piece = vec![0; bytes as usize];
            self.pages.read(at, &mut piece);
            all.extend(piece);
        }
        self.use_chain(queue, head.into(), 0);
        Some(all)
    }

    /// Whether the driver wants an interrupt for a queue.
    pub(crate) fn wants_interrupt(&self, queue: usize) -> bool {
        self.word(self.address(queue, 1)) == 0
    }

    /// Reads a register that all devices have.
    pub(crate) fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        let queue = self.queues[self.selected.min(self.queues.len() - 1)];
        match (structure, at, width) {
            (Structure::Common, 4, Width::Double) => {
                let half = self.select[0].min(1) * 32;
                u32::try_from(self.features >> half & 0xffff_ffff).expect("32 bits")
            }
            (Structure::Common, 20, Width::Byte) => self.status,
            (Structure::Common, 21, Width::Byte) => 7,
            (Structure::Common, 24, Width::Word) if queue.size == 0 => self.queue_size,
            (Structure::Common, 24, Width::Word) => queue.size,
            (Structure::Common, 26, Width::Word) => queue.vector,
            (Structure::Common, 30, Width::Word) => u32::try_from(self.selected).expect("small"),
            other => panic!("{other:?} is read"),
        }
    }

    /// Writes one.
    pub(crate) fn write(&mut self, structure: Structure, at: u32, width: Width, value: u32) {
        let last = self.queues.len() - 1;
        let (queue, has_vectors) = (&mut self.queues[self.selected.min(last)], self.has_vectors);
        match (structure, at, width) {
            (Structure::Common, 0, Width::Double) => self.select[0] = value,
            (Structure::Common, 8, Width::Double) => self.select[1] = value,
            (Structure::Common, 12, Width::Double) => self.chosen |= u64::from(value) << (32 * self.select[1]),
            (Structure::Common, 20, Width::Byte) => {
                self.status = value;
                if value == 0 {
                    self.chosen = 0;
                    self.queues.iter_mut().for_each(|queue| queue.used = 0);
                }
            }
            (Structure::Common, 22, Width::Word) => self.selected = value as usize,
            (Structure::Common, 24, Width::Word) => queue.size = value,
            (Structure::Common, 26, Width::Word) if has_vectors => queue.vector = value,
            (Structure::Common, 26, Width::Word) => {}
            (Structure::Common, 28, Width::Word) => queue.enabled = value == 1,
            (Structure::Common, 32..=52, Width::Double) => queue.addresses[(at as usize - 32) / 4] = value,
            (Structure::Notify, at, Width::Word) => {
                assert_eq!((at, self.status), (value * 4, 15), "started, and its own register");
                self.queues[value as usize].notified += 1;
            }
            other => panic!("{other:?} is written"),
        }
    }
}

/// What a kind of device has of its own.
pub(crate) trait Own: Clone + Debug + Send {
    /// Reads a register of its configuration, if it has one there.
    fn read(&self, virtio: &Virtio, at: u32, width: Width) -> Option<u32>;
}

/// A device's state.
#[derive(Debug)]
pub(crate) struct State<O> {
    virtio: Virtio,
    pub(crate) own: O,
}

impl<O> Deref for State<O> {
    type Target = Virtio;

    fn deref(&self) -> &Virtio {
        &self.virtio
    }
}

impl<O> DerefMut for State<O> {
    fn deref_mut(&mut self) -> &mut Virtio {
        &mut self.virtio
    }
}

/// A device. All copies are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Device<O>(Arc<Mutex<State<O>>>);

impl<O: Own> Device<O> {
    pub(crate) fn new(virtio: Virtio, own: O) -> Self {
        Self(Arc::new(Mutex::new(State { virtio, own })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State<O>> {
        self.0.lock().expect("no panic")
    }

    /// Gives a driver so many pages at most.
    pub(crate) fn pages(&self, most: usize) -> impl FnMut() -> Option<DmaPage> {
        let (device, mut left) = (self.clone(), 0..most);
        move || left.next().map(|_| device.state().pages.make())
    }
}

impl<O: Own> Registers for Device<O> {
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        let state = self.state();
        let own = if structure == Structure::Device { state.own.read(&state.virtio, at, width) } else { None };
        own.unwrap_or_else(|| state.virtio.read(structure, at, width))
    }

    fn write(&self, structure: Structure, at: u32, width: Width, value: u32) {
        self.state().write(structure, at, width, value);
    }

    fn notify_multiplier(&self) -> u32 {
        4
    }
}
