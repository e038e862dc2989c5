//! virtio-console against a device of ours, which has one port or several, and then does all that it must not.

mod common;

use std::sync::{Arc, Mutex, MutexGuard};

use drivers::virtio::console::{ConsolePort, NAME, PortFault};
use drivers::virtio::registers::{Registers, Width};
use drivers::virtio::{Structure, VirtioError};
use service::link::{ByteLink as _, PartLink as _};
use service::memory::SharedMemory as _;

use common::{Pages, quick};

/// Queues: messages about ports, and port 1's bytes, to the driver and from it. Of a device with one port 0 and 1.
const TOLD: usize = 2;
const SAID: usize = 3;
const RECEIVE: usize = 4;
const TRANSMIT: usize = 5;

const SEVERAL: u64 = 1 << 32 | 1 << 1 | 1;
const ONE: u64 = 1 << 32 | 1;

/// A queue as the device knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    size: u32,
    vector: u32,
    addresses: [u32; 6],
    enabled: bool,
    /// How many chains it has used.
    used: u16,
}

/// The device: registers, and the machine's pages by their addresses.
#[derive(Debug)]
struct State {
    pages: Pages,
    status: u32,
    features: u64,
    select: [u32; 2],
    chosen: u64,
    selected: usize,
    queues: [Queue; 6],
    queue_size: u32,
    has_vectors: bool,
    ports: u32,
}

#[derive(Clone, Debug)]
struct Device(Arc<Mutex<State>>);

impl Device {
    fn with(change: impl FnOnce(&mut State)) -> Self {
        let mut state = State {
            pages: Pages::default(),
            status: 0,
            features: SEVERAL,
            select: [0; 2],
            chosen: 0,
            selected: 0,
            queues: [Queue { vector: 0xffff, ..Queue::default() }; 6],
            queue_size: 128,
            has_vectors: true,
            ports: 2,
        };
        change(&mut state);
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// The driver of this device, with so many pages at most.
    fn start_with(&self, pages: usize, has_interrupt: bool) -> Result<ConsolePort<Self>, VirtioError> {
        let page = || self.state().pages.make();
        let mut left = 0..pages;
        ConsolePort::new(self.clone(), &mut || left.next().map(|_| page()), has_interrupt, quick)
    }

    /// The driver of this device, whose port 1 has been opened.
    fn open(&self) -> ConsolePort<Self> {
        let mut driver = self.start_with(1000, true).expect("a sound device");
        assert_eq!(self.state().taken(SAID), Some(message(u32::MAX, 0, 1, b"")), "it is ready");
        self.state().tell(1, 1, 1, b"");
        self.state().tell(1, 7, 1, &[NAME, b"\0"].concat());
        assert!(driver.look() && driver.is_open(), "somebody new");
        assert_eq!(self.state().taken(SAID), Some(message(1, 3, 1, b"")), "the port is ready");
        assert_eq!(self.state().taken(SAID), Some(message(1, 6, 1, b"")), "and open");
        assert_eq!(self.state().taken(SAID), None);
        driver
    }
}

/// A message about a port.
fn message(port: u32, event: u16, value: u16, name: &[u8]) -> Vec<u8> {
    [&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes(), name].concat()
}

impl State {
    fn word(&self, at: u64) -> u16 {
        let (window, place) = self.pages.place(at, 2);
        window.load_u16(place).expect("aligned")
    }

    fn store(&self, at: u64, value: u16) {
        let (window, place) = self.pages.place(at, 2);
        window.store_u16(place, value).expect("aligned");
    }

    fn address(&self, queue: usize, part: usize) -> u64 {
        let addresses = self.queues[queue].addresses;
        u64::from(addresses[2 * part + 1]) << 32 | u64::from(addresses[2 * part])
    }

    /// How many chains the device has of a queue.
    fn waiting(&self, queue: usize) -> u16 {
        self.word(self.address(queue, 1) + 2).wrapping_sub(self.queues[queue].used)
    }

    /// The chain that the device would use next: its head, and its piece's address and length.
    fn next(&self, queue: usize) -> Option<(u16, u64, u32)> {
        if self.waiting(queue) == 0 {
            return None;
        }
        let Queue { size, used, .. } = self.queues[queue];
        let head = self.word(self.address(queue, 1) + 4 + 2 * (u64::from(used) % u64::from(size)));
        assert!(u32::from(head) < size, "it is in its table");
        let mut descriptor = [0; 16];
        self.pages.read(self.address(queue, 0) + 16 * u64::from(head), &mut descriptor);
        let address = u64::from_le_bytes(descriptor[..8].try_into().expect("8 bytes"));
        let bytes = u32::from_le_bytes(descriptor[8..12].try_into().expect("4 bytes"));
        let flags = u16::from_le_bytes([descriptor[12], descriptor[13]]);
        assert_eq!(flags, if queue.is_multiple_of(2) { 2 } else { 0 }, "who writes it, and no other follows");
        Some((head, address, bytes))
    }

    /// Puts an entry in the used ring.
    fn use_chain(&mut self, queue: usize, id: u32, bytes: u32) {
        let (at, place) =
            (self.address(queue, 2), u64::from(self.queues[queue].used) % u64::from(self.queues[queue].size));
        self.pages.write(at + 4 + 8 * place, &id.to_le_bytes());
        self.pages.write(at + 8 + 8 * place, &bytes.to_le_bytes());
        self.queues[queue].used = self.queues[queue].used.wrapping_add(1);
        self.store(at + 2, self.queues[queue].used);
    }

    /// Sends bytes by a queue, as many as its next buffer takes. Returns how many.
    fn send(&mut self, queue: usize, bytes: &[u8]) -> usize {
        let Some((head, at, room)) = self.next(queue) else { return 0 };
        let sent = bytes.len().min(room as usize);
        self.pages.write(at, &bytes[..sent]);
        self.use_chain(queue, head.into(), u32::try_from(sent).expect("short"));
        sent
    }

    /// Sends a message about a port.
    fn tell(&mut self, port: u32, event: u16, value: u16, name: &[u8]) {
        let message = message(port, event, value, name);
        assert_eq!(self.send(TOLD, &message), message.len());
    }

    /// Takes the buffer that the driver sent first.
    fn taken(&mut self, queue: usize) -> Option<Vec<u8>> {
        let (head, at, bytes) = self.next(queue)?;
        let mut all = vec![0; bytes as usize];
        self.pages.read(at, &mut all);
        self.use_chain(queue, head.into(), 0);
        Some(all)
    }

    /// Whether the driver wants an interrupt for a queue.
    fn wants_interrupt(&self, queue: usize) -> bool {
        self.word(self.address(queue, 1)) == 0
    }
}

impl Registers for Device {
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        let state = self.state();
        let queue = state.queues[state.selected.min(5)];
        match (structure, at, width) {
            (Structure::Common, 4, Width::Double) => {
                let half = state.select[0].min(1) * 32;
                u32::try_from(state.features >> half & 0xffff_ffff).expect("32 bits")
            }
            (Structure::Common, 20, Width::Byte) => state.status,
            (Structure::Common, 21, Width::Byte) => 7,
            (Structure::Common, 24, Width::Word) if queue.size == 0 => state.queue_size,
            (Structure::Common, 24, Width::Word) => queue.size,
            (Structure::Common, 26, Width::Word) => queue.vector,
            (Structure::Common, 30, Width::Word) => u32::try_from(state.selected).expect("small"),
            (Structure::Device, 4, Width::Double) if state.features & 2 != 0 => state.ports,
            other => panic!("{other:?} is read"),
        }
    }

    fn write(&self, structure: Structure, at: u32, width: Width, value: u32) {
        let mut state = self.state();
        let (selected, has_vectors) = (state.selected.min(5), state.has_vectors);
        match (structure, at, width) {
            (Structure::Common, 0, Width::Double) => state.select[0] = value,
            (Structure::Common, 8, Width::Double) => state.select[1] = value,
            (Structure::Common, 12, Width::Double) => state.chosen |= u64::from(value) << (32 * state.select[1]),
            (Structure::Common, 20, Width::Byte) => state.status = value,
            (Structure::Common, 22, Width::Word) => state.selected = value as usize,
            (Structure::Common, 24, Width::Word) => state.queues[selected].size = value,
            (Structure::Common, 26, Width::Word) if has_vectors => state.queues[selected].vector = value,
            (Structure::Common, 26, Width::Word) => {}
            (Structure::Common, 28, Width::Word) => state.queues[selected].enabled = value == 1,
            (Structure::Common, 32..=52, Width::Double) => {
                state.queues[selected].addresses[(at as usize - 32) / 4] = value;
            }
            (Structure::Notify, at, Width::Word) => {
                assert_eq!((at, state.status), (value * 4, 15), "started, and its own register");
            }
            other => panic!("{other:?} is written"),
        }
    }

    fn notify_multiplier(&self) -> u32 {
        4
    }
}

/// Bytes of which no two neighbours are alike.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| at.to_le_bytes()[0].wrapping_mul(31) ^ at.to_le_bytes()[1]).collect()
}

/// All that the driver has for us now.
fn received(driver: &mut ConsolePort<Device>) -> Vec<u8> {
    std::iter::from_fn(|| driver.receive()).collect()
}

#[test]
fn the_port_of_our_name_is_opened_among_several_and_no_other() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    let state = device.state();
    assert_eq!((state.status, state.chosen), (15, 1 << 32 | 2), "several ports, and no size of a screen");
    for (number, size) in [(0, 0), (1, 0), (TOLD, 8), (SAID, 8), (RECEIVE, 8), (TRANSMIT, 32)] {
        let queue = state.queues[number];
        assert_eq!((queue.size, queue.enabled), (size, size > 0), "{number}");
        assert_eq!(queue.vector, if size > 0 { 0 } else { 0xffff });
    }
    drop(state);
    assert!(!driver.look(), "nobody new");

    let device = Device::with(|_| {});
    let mut driver = device.start_with(1000, false).expect("a sound device");
    assert_eq!(device.state().queues[RECEIVE].vector, 0xffff);
    assert!(device.state().taken(SAID).is_some());
    // An agent's port, and what is said of others'.
    for (port, event, name) in [(2, 1, &b""[..]), (1, 1, b""), (1, 1, b""), (2, 7, NAME), (1, 7, b"org.qemu.agent")] {
        device.state().tell(port, event, 1, name);
    }
    assert!(!driver.look() && !driver.is_open());
    assert_eq!(device.state().taken(SAID), Some(message(1, 3, 1, b"")), "once");
    assert_eq!(device.state().taken(SAID), None);
    device.state().send(RECEIVE, b"for the agent");
    assert_eq!((driver.receive(), driver.send_part(b"x"), driver.room()), (None, None, 0));
    assert!(driver.rest());
}

#[test]
fn the_only_port_of_a_device_is_open_from_the_start() {
    let device = Device::with(|state| state.features = ONE);
    let mut driver = device.start_with(1000, true).expect("a sound device");
    assert!(driver.is_open() && !driver.look());
    assert_eq!(device.state().chosen, 1 << 32);
    driver.send(b"hello");
    driver.flush();
    assert_eq!(device.state().taken(1), Some(b"hello".to_vec()));
    device.state().send(0, b"you");
    assert_eq!(received(&mut driver), b"you");
}

#[test]
fn hostile_registers_are_refused_by_name() {
    for (change, expected) in [
        ((|state| state.features = 2) as fn(&mut State), VirtioError::Legacy),
        (|state| state.features |= 1 << 33, VirtioError::BehindIommu),
        (|state| state.ports = 0, VirtioError::NoPort),
        (|state| state.ports = 1, VirtioError::NoPort),
        (|state| state.queue_size = 0, VirtioError::NoQueue),
        (|state| state.queue_size = 1, VirtioError::NoQueue),
        (|state| state.has_vectors = false, VirtioError::NoVector),
    ] {
        let device = Device::with(change);
        assert_eq!(device.start_with(1000, true).map(|_| ()), Err(expected));
        assert_eq!(device.state().status, 0, "{expected}: it is not in use");
    }
    // Four queues; 4 pages of buffers for messages each way, 8 for what comes, 32 for what goes.
    for pages in [0, 1, 4, 5, 9, 10, 18, 51] {
        let device = Device::with(|_| {});
        assert_eq!(device.start_with(pages, true).map(|_| ()), Err(VirtioError::NoMemory), "{pages} pages");
        assert_eq!(device.state().status, 0);
    }
    assert!(Device::with(|_| {}).start_with(52, true).is_ok());
}

#[test]
fn bytes_go_both_ways_in_order_around_the_rings_and_their_counters() {
    for queue_size in [2, 4, 128] {
        let device = Device::with(|state| state.queue_size = queue_size);
        let mut driver = device.open();
        let all = bytes(300_000);
        let (mut left, mut came) = (&all[..], Vec::new());
        while !left.is_empty() {
            let sent = driver.send_part(&left[..left.len().min(7001)]).expect("it is taken");
            left = &left[sent..];
            while let Some(piece) = device.state().taken(TRANSMIT) {
                assert_eq!(piece.len(), 4096, "buffers are filled");
                came.extend(piece);
            }
        }
        assert_eq!(came.len(), all.len() / 4096 * 4096, "the rest waits for the end of the message");
        driver.flush();
        driver.flush();
        came.extend(device.state().taken(TRANSMIT).expect("the rest"));
        assert!(came == all && device.state().taken(TRANSMIT).is_none());

        let (mut left, mut came) = (&all[..], Vec::new());
        while !left.is_empty() {
            let sent = device.state().send(RECEIVE, &left[..left.len().min(5000)]);
            left = &left[sent..];
            assert!(driver.is_waiting());
            came.extend(received(&mut driver));
            assert!(!driver.is_waiting());
        }
        assert!(came == all);
        // Around the 16-bit counters.
        for turn in 0..66_000_u32 {
            let byte = turn.to_le_bytes()[0];
            assert_eq!(driver.send_part(&[byte]), Some(1));
            driver.flush();
            assert_eq!(device.state().taken(TRANSMIT), Some(vec![byte]));
            assert_eq!(device.state().send(RECEIVE, &[byte]), 1);
            assert_eq!((driver.receive(), driver.receive()), (Some(byte), None));
        }
        assert_eq!(driver.fault(), None);
    }
}

#[test]
fn a_peer_that_takes_nothing_costs_a_message_a_bounded_wait_and_the_next_ones_none() {
    let device = Device::with(|state| state.queue_size = 4);
    let mut driver = device.open();
    assert_eq!(driver.room(), 4 * 4096);
    assert_eq!(driver.send_part(&bytes(20_000)), Some(4 * 4096));
    assert_eq!(driver.room(), 0);
    // A clock on which each look takes a millisecond, or as many as there are tests that look.
    let mut looks = 0;
    while driver.send_part(b"more").inspect(|sent| assert_eq!(*sent, 0)).is_some() {
        looks += 1;
        assert!(looks < 5_010);
    }
    // There is room again, but the message has a gap.
    assert_eq!(device.state().taken(TRANSMIT).map(|piece| piece.len()), Some(4096));
    assert_eq!(driver.send_part(b"more"), None);
    driver.flush();
    assert_eq!((driver.send_part(b"next"), driver.room()), (Some(4), 4092));
    driver.flush();
    assert_eq!(driver.send_part(b"another"), Some(0), "it took something since: it is waited for");
    while driver.send_part(b"another").is_some() {}
    driver.flush();
    assert_eq!(driver.send_part(b"and another"), None, "it is dead");
    driver.send(&bytes(100_000));
    driver.drain();
    while device.state().taken(TRANSMIT).is_some() {}
    assert_eq!(driver.send_part(b"alive"), Some(5));
    driver.flush();
    assert_eq!(device.state().taken(TRANSMIT), Some(b"alive".to_vec()));
    assert_eq!(driver.fault(), None);
}

#[test]
fn a_peer_that_comes_anew_is_told_of_and_a_port_that_goes_is_closed() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    device.state().tell(1, 6, 0, b"");
    assert!(!driver.look() && driver.is_open());
    device.state().tell(1, 6, 1, b"");
    device.state().tell(2, 6, 1, b"");
    assert!(driver.look() && !driver.look());
    device.state().tell(1, 2, 1, b"");
    assert!(!driver.look() && !driver.is_open());
    assert_eq!((driver.send_part(b"x"), driver.receive()), (None, None));
    device.state().tell(1, 1, 1, b"");
    device.state().tell(1, 7, 1, NAME);
    assert!(driver.look() && driver.is_open());
    assert_eq!(driver.send_part(b"x"), Some(1));
}

#[test]
fn a_cpu_halts_only_with_an_interrupt_wanted_and_nothing_waiting() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    assert!(driver.rest());
    assert_eq!(
        [TOLD, SAID, RECEIVE, TRANSMIT].map(|queue| device.state().wants_interrupt(queue)),
        [true, false, true, false]
    );
    device.state().send(RECEIVE, b"ab");
    assert!(!driver.rest());
    assert_eq!(driver.receive(), Some(b'a'));
    assert!(!driver.rest(), "one is left");
    assert_eq!(driver.receive(), Some(b'b'));
    assert!(driver.rest());
    device.state().tell(1, 6, 1, b"");
    assert!(!driver.rest());
    assert!(driver.look() && driver.rest());
}

#[test]
fn a_device_that_uses_what_it_was_not_given_is_not_used_any_more() {
    type Misdeed = fn(&mut State);
    let misdeeds: [(&str, Misdeed, PortFault); 9] = [
        ("a descriptor beyond its table", |it| it.use_chain(RECEIVE, 8, 1), PortFault::NotItsBuffer),
        ("an id of 32 bits", |it| it.use_chain(RECEIVE, 0x1_0000, 1), PortFault::NotItsBuffer),
        ("more than its buffer holds", |it| it.use_chain(RECEIVE, 0, 4097), PortFault::Length { bytes: 4097 }),
        ("all ones", |it| it.use_chain(RECEIVE, 0, u32::MAX), PortFault::Length { bytes: u32::MAX }),
        (
            "more buffers than there are",
            |it| {
                let used = it.address(RECEIVE, 2);
                it.store(used + 2, 9);
            },
            PortFault::NotItsBuffer,
        ),
        ("a message beyond its table", |it| it.use_chain(TOLD, 9, 8), PortFault::NotItsBuffer),
        ("a message that is too long", |it| it.use_chain(TOLD, 0, 2049), PortFault::Length { bytes: 2049 }),
        (
            "an answer twice",
            |it| {
                it.use_chain(TRANSMIT, 31, 0);
                it.use_chain(TRANSMIT, 31, 0);
            },
            PortFault::NotItsBuffer,
        ),
        ("bytes that were not sent", |it| it.use_chain(TRANSMIT, 0, 0), PortFault::NotItsBuffer),
    ];
    for (what, misdeed, expected) in misdeeds {
        let device = Device::with(|_| {});
        let mut driver = device.open();
        driver.send(&[1; 5000]);
        driver.flush();
        misdeed(&mut device.state());
        driver.look();
        driver.is_waiting();
        driver.room();
        assert_eq!((driver.fault(), device.state().status), (Some(expected), 0), "{what}");
        assert_eq!((driver.receive(), driver.send_part(b"x"), driver.room()), (None, None, 0), "{what}");
        driver.send(&[1; 5000]);
        driver.flush();
        driver.drain();
        assert!(!driver.look() && !driver.is_open() && driver.rest(), "{what}");
    }
    // It stops, or goes, while it is waited for.
    for (status, expected) in [(15 | 64, PortFault::Stopped), (0xff, PortFault::Gone)] {
        let device = Device::with(|state| state.queue_size = 2);
        let mut driver = device.open();
        assert_eq!(driver.send_part(&[0; 10_000]), Some(8192));
        device.state().status = status;
        assert_eq!((driver.send_part(b"x"), driver.fault()), (None, Some(expected)));
        assert_eq!(device.state().status, 0);
    }
}

#[test]
fn messages_without_sense_and_without_end_are_heard_in_bounded_rounds() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    for length in 0..8 {
        let all = message(1, 2, 1, b"");
        device.state().send(TOLD, &all[..length]);
        device.state().send(RECEIVE, b"");
    }
    // Empty buffers are no bytes.
    assert_eq!((driver.receive(), driver.look(), driver.is_open()), (None, false, true));
    // It takes and gives the port, and never hears what is said of it: then there is no room to say it.
    for _ in 0..100 {
        device.state().tell(1, 2, 1, b"");
        device.state().tell(1, 1, 1, b"");
        device.state().tell(1, 7, 1, NAME);
        driver.look();
    }
    assert_eq!((driver.is_open(), driver.fault()), (false, None));
    assert_eq!(device.state().waiting(SAID), 8);
    for code in 0..=u16::MAX {
        device.state().tell(1, code, code, b"");
        driver.look();
        while device.state().taken(SAID).is_some() {}
    }
    assert_eq!(driver.fault(), None);
}
