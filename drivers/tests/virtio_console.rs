//! virtio-console against a device of ours, which has one port or several, and then does all that it must not.

mod common;

use drivers::virtio::VirtioError;
use drivers::virtio::console::{ConsolePort, NAME, PortFault};
use drivers::virtio::registers::Width;
use service::link::{ByteLink as _, PartLink as _};

use common::quick;
use common::virtio::{self, Own, Virtio};

/// Queues: messages about ports, and port 1's bytes, to the driver and from it. Of a device with one port 0 and 1.
const TOLD: usize = 2;
const SAID: usize = 3;
const RECEIVE: usize = 4;
const TRANSMIT: usize = 5;

const SEVERAL: u64 = 1 << 32 | 1 << 1 | 1;
const ONE: u64 = 1 << 32 | 1;

/// What a console has of its own.
#[derive(Clone, Debug)]
struct Console {
    ports: u32,
}

impl Own for Console {
    fn read(&self, virtio: &Virtio, at: u32, width: Width) -> Option<u32> {
        ((at, width) == (4, Width::Double) && virtio.features & 2 != 0).then_some(self.ports)
    }
}

type Device = virtio::Device<Console>;
type State = virtio::State<Console>;

impl Device {
    fn with(change: impl FnOnce(&mut State)) -> Self {
        let device = Self::new(Virtio::new(SEVERAL, 6, 128), Console { ports: 2 });
        device.state().pieces_max = 1;
        change(&mut device.state());
        device
    }

    /// The driver of this device, with so many pages at most.
    fn start_with(&self, pages: usize, has_interrupt: bool) -> Result<ConsolePort<Self>, VirtioError> {
        ConsolePort::new(self.clone(), &mut self.pages(pages), has_interrupt, quick)
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
    /// Sends bytes by a queue, as many as its next buffer takes. Returns how many.
    fn send(&mut self, queue: usize, bytes: &[u8]) -> usize {
        self.give(queue, bytes).unwrap_or(0)
    }

    /// Sends a message about a port.
    fn tell(&mut self, port: u32, event: u16, value: u16, name: &[u8]) {
        let message = message(port, event, value, name);
        assert_eq!(self.send(TOLD, &message), message.len());
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
        (|state| state.own.ports = 0, VirtioError::NoPort),
        (|state| state.own.ports = 1, VirtioError::NoPort),
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
fn a_device_that_keeps_buffers_of_peers_that_went_is_started_anew_with_the_same_memory() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    for number in 1_u32..=16 {
        // In the midst of a message, of which the device uses no buffer but all others of the peer's.
        driver.send(&[7; 100]);
        driver.flush();
        device.state().tell(1, 6, 0, b"");
        assert!(!driver.look());
        assert_eq!(driver.is_worn(), number == 16, "{number}");
        device.state().tell(1, 6, 1, b"");
        assert!(driver.look());
    }
    assert!(driver.is_worn(), "also when another one has come");
    let before = device.state().pages.count();
    let mut driver = driver.restarted().expect("a sound device");
    assert_eq!(device.state().pages.count(), before);
    assert!(!driver.is_worn() && !driver.is_open());
    assert_eq!(device.state().taken(SAID), Some(message(u32::MAX, 0, 1, b"")), "it is ready");
    device.state().tell(1, 1, 1, b"");
    device.state().tell(1, 7, 1, NAME);
    assert!(driver.look() && driver.is_open());
    for part in [&b"alive"[..], b"still"] {
        driver.send(part);
        driver.flush();
        assert_eq!(device.state().taken(TRANSMIT), Some(part.to_vec()));
    }
    device.state().send(RECEIVE, b"you");
    assert_eq!(received(&mut driver), b"you");
    assert_eq!(driver.fault(), None);
}

#[test]
fn a_device_that_keeps_all_buffers_while_peers_come_at_once_is_found_by_the_message_that_it_does_not_take() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    for _ in 0..16 {
        driver.send(&[7; 100]);
        driver.flush();
        device.state().tell(1, 6, 0, b"");
        device.state().tell(1, 6, 1, b"");
        assert!(driver.look() && !driver.is_worn(), "somebody is there, and may take it");
    }
    driver.send(&[7; 17 * 4096]);
    driver.flush();
    assert!(driver.is_worn(), "nobody takes it");
    assert_eq!(driver.fault(), None);

    // A peer that only takes nothing wears nothing.
    let device = Device::with(|_| {});
    let mut driver = device.open();
    driver.send(&[7; 33 * 4096]);
    driver.flush();
    assert!(!driver.is_worn());
}

#[test]
fn what_somebody_new_sends_is_not_taken_for_the_former_ones() {
    let device = Device::with(|_| {});
    let mut driver = device.open();
    // It is told of after the driver has last looked.
    device.state().send(RECEIVE, b"ab");
    assert_eq!(driver.receive(), Some(b'a'));
    device.state().tell(1, 6, 1, b"");
    device.state().send(RECEIVE, b"new");
    assert_eq!((driver.receive(), driver.receive(), driver.is_waiting()), (Some(b'b'), None, false));
    assert!(!driver.rest() && driver.look() && !driver.look());
    assert_eq!(received(&mut driver), b"new");
    // And before.
    device.state().send(RECEIVE, b"cd");
    assert_eq!(driver.receive(), Some(b'c'));
    device.state().tell(1, 6, 1, b"");
    assert!(driver.look());
    assert_eq!(received(&mut driver), b"", "the rest was the former one's");
    device.state().send(RECEIVE, b"newer");
    assert_eq!(received(&mut driver), b"newer");
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
