//! virtio-net against a device of ours, which receives and sends as it should, and then does all that it must not.

mod common;

use drivers::virtio::VirtioError;
use drivers::virtio::net::VirtioNet;
use drivers::virtio::registers::Width;
use net::nic::{HEADER_BYTES, Mac, Nic as _, NicFault};

use common::quick;
use common::virtio::{self, Own, Virtio};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x75, 0x6e, 0];

/// What a network device has of its own.
#[derive(Clone, Debug)]
struct Network {
    mac: [u8; 6],
    mtu: u32,
    link: u32,
}

impl Own for Network {
    fn read(&self, _: &Virtio, at: u32, width: Width) -> Option<u32> {
        match (at, width) {
            (0..6, Width::Byte) => Some(self.mac[at as usize].into()),
            (6, Width::Word) => Some(self.link),
            (10, Width::Word) => Some(self.mtu),
            _ => None,
        }
    }
}

type Device = virtio::Device<Network>;
type State = virtio::State<Network>;

impl Device {
    fn with(change: impl FnOnce(&mut State)) -> Self {
        // VERSION_1, STATUS, MAC, MTU, and some that must not be taken: checksums, merged buffers, a control queue.
        let features = 1 << 32 | 1 << 16 | 1 << 5 | 1 << 3 | 1 | 1 << 15 | 1 << 17;
        let device = Self::new(Virtio::new(features, 2, 256), Network { mac: MAC, mtu: 1500, link: 1 });
        change(&mut device.state());
        device
    }

    /// The driver of this device, with so many pages at most.
    fn start_with(&self, pages: usize, has_interrupt: bool) -> Result<VirtioNet<Self>, VirtioError> {
        VirtioNet::new(self.clone(), &mut self.pages(pages), has_interrupt, quick)
    }

    fn start(&self) -> Result<VirtioNet<Self>, VirtioError> {
        self.start_with(1000, true)
    }
}

impl State {
    /// Hands a frame to the driver, if it has a buffer.
    fn deliver(&mut self, frame: &[u8]) -> bool {
        let all = [&[0; 12], frame].concat();
        self.give(RECEIVE, &all).inspect(|given| assert_eq!(*given, all.len(), "the buffer is long enough")).is_some()
    }

    /// Takes the frame that the driver sent first.
    fn sent(&mut self) -> Option<Vec<u8>> {
        let mut all = self.taken(TRANSMIT)?;
        assert_eq!(all[..12], [0; 12], "nothing is asked of the device");
        Some(all.split_off(12))
    }
}

/// A frame of this length whose bytes tell it from others.
fn frame(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|at| seed.wrapping_add(at.to_le_bytes()[0]).wrapping_mul(31)).collect()
}

#[test]
fn a_device_is_started_with_the_features_that_tell_of_it_and_no_other() {
    let device = Device::with(|_| {});
    let mut driver = device.start().expect("a sound device");
    assert_eq!((driver.mac(), driver.mtu(), driver.has_interrupt()), (Mac(MAC), 1500, true));
    assert!(driver.look());
    let state = device.state();
    assert_eq!((state.status, state.chosen), (15, 1 << 32 | 1 << 16 | 1 << 5 | 1 << 3));
    for queue in &state.queues {
        assert_eq!((queue.size, queue.vector, queue.enabled), (128, 0, true));
    }
    assert_eq!((state.waiting(RECEIVE), state.waiting(TRANSMIT)), (128, 0));
    assert_eq!(state.queues[RECEIVE].notified, 1, "it is told of its buffers");
    assert!(!state.wants_interrupt(RECEIVE) && !state.wants_interrupt(TRANSMIT), "it is polled");
    drop(state);

    // Without an interrupt no vector is set; without MTU and STATUS the defaults hold.
    let device = Device::with(|state| (state.has_vectors, state.features) = (false, 1 << 32 | 1 << 5));
    let mut driver = device.start_with(1000, false).expect("a sound device");
    assert_eq!((driver.mtu(), driver.look(), device.state().queues[0].vector), (1500, true, 0xffff));
    device.state().own.link = 0;
    assert!(driver.look(), "it has no status to tell");
}

#[test]
fn hostile_registers_are_refused_by_name() {
    for (change, expected) in [
        ((|state| state.features = 0) as fn(&mut State), VirtioError::Legacy),
        (|state| state.features |= 1 << 33, VirtioError::BehindIommu),
        (|state| state.features &= !(1 << 5), VirtioError::NoMac),
        (|state| state.own.mac = [0; 6], VirtioError::NoMac),
        (|state| state.own.mac = [0xff; 6], VirtioError::NoMac),
        (|state| state.own.mac[0] |= 1, VirtioError::NoMac),
        (|state| state.own.mtu = 0, VirtioError::Mtu { bytes: 0 }),
        (|state| state.own.mtu = 1279, VirtioError::Mtu { bytes: 1279 }),
        (|state| state.queue_size = 0, VirtioError::NoQueue),
        (|state| (state.queue_size, state.own.mtu) = (2, 9000), VirtioError::NoQueue),
        (|state| state.has_vectors = false, VirtioError::NoVector),
    ] {
        let device = Device::with(change);
        assert_eq!(device.start().map(|_| ()), Err(expected));
        assert_eq!(device.state().status, 0, "{expected}: it is not in use");
    }
    for pages in [0, 1, 10, 65, 66, 129] {
        let device = Device::with(|_| {});
        assert_eq!(device.start_with(pages, true).map(|_| ()), Err(VirtioError::NoMemory), "{pages} pages");
        assert_eq!(device.state().status, 0);
    }
    assert!(Device::with(|_| {}).start_with(130, true).is_ok(), "two queues, and 64 pages of buffers for each");
}

#[test]
fn frames_of_all_lengths_go_both_ways_around_the_rings_and_their_counters() {
    for (mtu, used, size, buffers) in
        [(1280, 1280, 256, 128), (1500, 1500, 4, 4), (2100, 2100, 8, 8), (9000, 9000, 256, 42), (65535, 9000, 3, 0)]
    {
        let device = Device::with(|state| (state.own.mtu, state.queue_size) = (mtu, size));
        let started = device.start();
        if buffers == 0 {
            assert_eq!(started.map(|_| ()), Err(VirtioError::NoQueue), "a frame takes three descriptors");
            continue;
        }
        let mut driver = started.expect("a sound device");
        assert_eq!((driver.mtu(), device.state().waiting(RECEIVE)), (used, buffers));
        let longest = HEADER_BYTES + usize::from(used);
        let mut into = vec![0; longest];
        for turn in 0..200 {
            let bytes = [HEADER_BYTES, 60, 1000, longest - 1, longest][turn % 5];
            let sent = frame(bytes, turn.to_le_bytes()[0]);
            assert!(device.state().deliver(&sent));
            assert_eq!(driver.receive(&mut into), Some(bytes));
            assert_eq!(into[..bytes], sent);
            assert_eq!(driver.receive(&mut into), None);
            assert!(driver.has_room());
            driver.send(&sent);
            assert_eq!(device.state().sent(), None, "it is not told before the flush");
            driver.flush();
            assert_eq!(device.state().sent(), Some(sent));
        }
        // Around the 16-bit counters.
        for _ in 0..66_000 {
            assert!(device.state().deliver(&[1; 60]));
            assert_eq!(driver.receive(&mut into), Some(60));
            assert!(driver.has_room());
            driver.send(&[2; 14]);
            driver.flush();
            assert!(device.state().sent().is_some());
        }
        assert_eq!((driver.fault(), driver.dropped()), (None, 0));
    }
}

#[test]
fn a_full_line_drops_what_is_sent_and_an_interrupt_tells_of_room() {
    let device = Device::with(|state| state.queue_size = 4);
    let mut driver = device.start().expect("a sound device");
    for number in 0..6 {
        driver.send(&frame(60, number));
    }
    driver.flush();
    assert!(!driver.has_room() && driver.rest());
    assert_eq!([RECEIVE, TRANSMIT].map(|queue| device.state().wants_interrupt(queue)), [false, true]);
    assert!(device.state().deliver(&[7; 60]));
    assert!(driver.rest(), "a frame is of no interest without room");
    for number in 0..4 {
        assert_eq!(device.state().sent(), Some(frame(60, number)));
    }
    assert_eq!(device.state().sent(), None);
    assert!(!driver.rest(), "there is room, and a frame is there already");
    assert_eq!(driver.receive(&mut [0; 1514]), Some(60));
    assert!(driver.has_room() && driver.rest());
    assert_eq!([RECEIVE, TRANSMIT].map(|queue| device.state().wants_interrupt(queue)), [true, false]);
    assert!(device.state().deliver(&[7; 60]));
    assert!(!driver.rest(), "a frame is there already");
    // What the device asks not to be told of it is not told of.
    let before = device.state().queues[TRANSMIT].notified;
    let used = device.state().address(TRANSMIT, 2);
    device.state().store(used, 1);
    driver.send(&[1; 60]);
    driver.flush();
    let state = device.state();
    assert_eq!((state.queues[TRANSMIT].notified, state.waiting(TRANSMIT)), (before, 1));
}

#[test]
fn frames_that_are_too_long_or_too_short_are_dropped() {
    let device = Device::with(|_| {});
    let mut driver = device.start().expect("a sound device");
    let mut into = vec![0; HEADER_BYTES + 1500];
    for (number, bytes) in (1..).zip([0, 13, 1515, 1518, 2036]) {
        assert!(device.state().deliver(&frame(bytes, 1)));
        assert_eq!((driver.receive(&mut into), driver.dropped()), (None, number));
    }
    // Many of them: a call looks at no more than there are buffers, and loses none.
    for _ in 0..128 {
        assert!(device.state().deliver(&[]));
    }
    assert_eq!((driver.receive(&mut into), driver.dropped()), (None, 133));
    assert!(device.state().deliver(&[5; 60]));
    assert_eq!((driver.receive(&mut into), driver.fault()), (Some(60), None));
}

#[test]
fn a_device_that_uses_what_it_was_not_given_is_not_used_any_more() {
    type Misdeed = fn(&mut State);
    let misdeeds: [(&str, Misdeed, NicFault); 10] = [
        (
            "a frame twice",
            |state| {
                state.use_chain(TRANSMIT, 127, 0);
                state.use_chain(TRANSMIT, 127, 0);
            },
            NicFault::NotItsBuffer,
        ),
        ("a descriptor beyond its table", |state| state.use_chain(RECEIVE, 128, 72), NicFault::NotItsBuffer),
        ("an id of 32 bits", |state| state.use_chain(RECEIVE, 0x1_0000, 72), NicFault::NotItsBuffer),
        ("all ones", |state| state.use_chain(RECEIVE, u32::MAX, u32::MAX), NicFault::NotItsBuffer),
        ("more than its buffer holds", |state| state.use_chain(RECEIVE, 0, 2049), NicFault::Length { bytes: 2049 }),
        ("all lengths", |state| state.use_chain(RECEIVE, 0, u32::MAX), NicFault::Length { bytes: u32::MAX }),
        ("less than the prefix", |state| state.use_chain(RECEIVE, 0, 11), NicFault::Length { bytes: 11 }),
        (
            "more buffers than there are",
            |state| {
                let used = state.address(RECEIVE, 2);
                state.store(used + 2, 129);
            },
            NicFault::NotItsBuffer,
        ),
        (
            "an idx that goes back",
            |state| {
                let used = state.address(RECEIVE, 2);
                state.store(used + 2, 0xffff);
            },
            NicFault::NotItsBuffer,
        ),
        ("a frame that was not sent", |state| state.use_chain(TRANSMIT, 0, 0), NicFault::NotItsBuffer),
    ];
    for (what, misdeed, expected) in misdeeds {
        let device = Device::with(|_| {});
        let mut driver = device.start().expect("a sound device");
        driver.send(&[1; 60]);
        driver.send(&[2; 60]);
        driver.flush();
        misdeed(&mut device.state());
        let mut into = vec![0; HEADER_BYTES + 1500];
        assert_eq!(driver.receive(&mut into), None, "{what}");
        let room = driver.has_room();
        assert_eq!((driver.fault(), room), (Some(expected), false), "{what}");
        assert_eq!(device.state().status, 0, "{what}: it is out of use");
        // Nothing is touched any more.
        driver.send(&[1; 60]);
        driver.flush();
        assert!(!driver.look() && driver.rest());
        assert_eq!((driver.receive(&mut into), driver.fault()), (None, Some(expected)), "{what}");
    }
}

#[test]
fn a_link_comes_and_goes_and_a_device_that_stops_or_vanishes_is_told_apart() {
    let device = Device::with(|_| {});
    let mut driver = device.start().expect("a sound device");
    for link in [1, 0, 3, 2, 1] {
        device.state().own.link = link;
        assert_eq!(driver.look(), link & 1 == 1);
    }
    device.state().status |= 64;
    assert!(!driver.look());
    assert_eq!((driver.fault(), device.state().status), (Some(NicFault::Stopped), 0));
    let mut driver = Device::with(|_| {}).start().expect("a sound device");
    assert_eq!((driver.look(), driver.fault()), (true, None));
    let gone = Device::with(|_| {});
    let mut driver = gone.start().expect("a sound device");
    gone.state().status = 0xff;
    assert_eq!((driver.look(), driver.fault()), (false, Some(NicFault::Gone)));
}
