//! Intel's controllers against one of ours, which receives and sends as it should, and then does all that it must not.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use drivers::e1000e::{E1000e, E1000eError};
use drivers::registers::Registers;
use net::nic::{HEADER_BYTES, Mac, Nic as _, NicFault};

use common::{Pages, quick};

const CTRL: u32 = 0;
const STATUS: u32 = 8;
const IMS: u32 = 0xd0;
const IMC: u32 = 0xd8;
const RCTL: u32 = 0x100;
const TCTL: u32 = 0x400;
const RECEIVE: u32 = 0x2800;
const TRANSMIT: u32 = 0x3800;
const RAL: u32 = 0x5400;
const RAH: u32 = 0x5404;
const RST: u32 = 1 << 26;

const FRAME_BYTES_MAX: usize = HEADER_BYTES + 1500;

/// The controller: its registers, and the machine's pages by their addresses.
#[derive(Debug)]
struct State {
    registers: BTreeMap<u32, u32>,
    pages: Pages,
    /// The causes that may interrupt.
    mask: u32,
    /// The next descriptor of each ring.
    receive: u32,
    transmit: u32,
    is_stuck: bool,
    is_gone: bool,
}

#[derive(Clone, Debug)]
struct Device(Arc<Mutex<State>>);

impl Device {
    fn with(change: impl FnOnce(&mut State)) -> Self {
        let registers = [(STATUS, 2), (RAL, 0x7500_5452), (RAH, 0x8000_006e)].into();
        let (pages, is_stuck, is_gone) = (Pages::default(), false, false);
        let mut state = State { registers, pages, mask: u32::MAX, receive: 0, transmit: 0, is_stuck, is_gone };
        change(&mut state);
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// The driver of this device, with so many pages at most.
    fn start_with(&self, pages: usize) -> Result<E1000e<Self>, E1000eError> {
        let page = || self.state().pages.make();
        let mut left = 0..pages;
        E1000e::new(self.clone(), &mut || left.next().map(|_| page()), true, quick)
    }

    fn start(&self) -> E1000e<Self> {
        self.start_with(1000).expect("a sound device")
    }
}

impl State {
    fn get(&self, at: u32) -> u32 {
        self.registers.get(&at).copied().unwrap_or(0)
    }

    /// Where a ring's descriptor is.
    fn descriptor(&self, ring: u32, number: u32) -> u64 {
        assert_eq!(self.get(ring + 8), 2048, "128 descriptors");
        (u64::from(self.get(ring + 4)) << 32 | u64::from(self.get(ring))) + 16 * u64::from(number)
    }

    /// What a descriptor has: its buffer's address, length, command, status.
    fn look(&self, ring: u32, number: u32) -> (u64, u16, u8, u8) {
        let mut bytes = [0; 16];
        self.pages.read(self.descriptor(ring, number), &mut bytes);
        let address = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        (address, u16::from_le_bytes([bytes[8], bytes[9]]), bytes[11], bytes[12])
    }

    /// Ends a descriptor that was received into.
    fn end(&mut self, number: u32, length: u16, status: u16) {
        let at = self.descriptor(RECEIVE, number);
        self.pages.write(at + 8, &length.to_le_bytes());
        self.pages.write(at + 12, &status.to_le_bytes());
    }

    /// Hands a part of a frame to the driver, if it has a buffer.
    fn deliver(&mut self, bytes: &[u8], status: u16) -> bool {
        if self.receive == self.get(RECEIVE + 0x18) {
            return false;
        }
        assert_eq!(self.get(RCTL), 1 << 1 | 1 << 4 | 1 << 15 | 1 << 26, "on, 2048 bytes a buffer, no checksum");
        let (address, _, _, before) = self.look(RECEIVE, self.receive);
        assert_eq!(before, 0, "it is ours");
        self.pages.write(address, bytes);
        self.end(self.receive, u16::try_from(bytes.len()).expect("short"), status);
        self.receive = (self.receive + 1) % 128;
        true
    }

    /// Says that a descriptor is sent, whether it was one or not.
    fn write_sent(&mut self, number: u32) {
        self.pages.write(self.descriptor(TRANSMIT, number) + 12, &[1]);
    }

    /// Takes the frame that the driver sent first.
    fn sent(&mut self) -> Option<Vec<u8>> {
        if self.transmit == self.get(TRANSMIT + 0x18) {
            return None;
        }
        let (address, length, command, status) = self.look(TRANSMIT, self.transmit);
        assert_eq!((command, status), (0xb, 0), "a whole frame, with its checksum, to be told of");
        let mut frame = vec![0; length.into()];
        self.pages.read(address, &mut frame);
        self.pages.write(self.descriptor(TRANSMIT, self.transmit) + 12, &[1]);
        self.transmit = (self.transmit + 1) % 128;
        Some(frame)
    }
}

impl Registers for Device {
    fn read(&self, at: u32) -> u32 {
        let state = self.state();
        if state.is_gone { u32::MAX } else { state.get(at) }
    }

    fn write(&self, at: u32, value: u32) {
        let mut state = self.state();
        match at {
            IMS => state.mask |= value,
            IMC => state.mask &= !value,
            CTRL if value & RST != 0 && !state.is_stuck => {
                (state.receive, state.transmit) = (0, 0);
                state.registers.insert(CTRL, 0);
            }
            _ => _ = state.registers.insert(at, value),
        }
    }

    fn read_wide(&self, at: u32) -> u64 {
        panic!("{at:#x} is read as 64 bits")
    }

    fn write_wide(&self, at: u32, value: u64) {
        panic!("{at:#x} is written as 64 bits: {value:#x}")
    }
}

/// A frame of this length whose bytes tell it from others.
fn frame(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at + seed).wrapping_mul(31).to_le_bytes()[0]).collect()
}

/// Done, and the last of its frame.
const WHOLE: u16 = 3;

#[test]
fn a_controller_is_started_and_frames_go_both_ways_around_its_rings() {
    let device = Device::with(|_| {});
    let mut driver = device.start();
    assert_eq!((driver.mac(), driver.mtu()), (Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]), 1500));
    assert!(driver.look());
    let state = device.state();
    assert_eq!((state.mask, state.get(TCTL) & 2, state.get(RECEIVE + 0x18)), (0, 2, 127), "it is polled");
    assert_eq!(state.get(0xe4), 0x8000_0808, "both queues send vector 0");
    assert_eq!((state.get(0x18), state.get(0xdc)), (1 << 31, 1 << 20 | 1 << 22));
    drop(state);
    let mut into = vec![0; FRAME_BYTES_MAX];
    for turn in 0..1000 {
        let sent = frame([HEADER_BYTES, 60, 1000, FRAME_BYTES_MAX][turn % 4], turn);
        assert!(device.state().deliver(&sent, WHOLE));
        assert_eq!(driver.receive(&mut into), Some(sent.len()));
        assert_eq!(into[..sent.len()], sent);
        assert!(driver.has_room());
        driver.send(&sent);
        assert_eq!(device.state().sent(), None, "it is not told before the flush");
        driver.flush();
        assert_eq!(device.state().sent(), Some(sent));
    }
    assert_eq!((driver.receive(&mut into), driver.fault(), driver.dropped()), (None, None, 0));
    // As many as it has buffers for, twice: none is lost, and the device gets them back.
    for _ in 0..2 {
        let all = (0..).take_while(|number| device.state().deliver(&frame(60, *number), WHOLE)).count();
        assert_eq!(all, 127);
        for number in 0..all {
            assert_eq!((driver.receive(&mut into), &into[..60]), (Some(60), &frame(60, number)[..]));
        }
        assert_eq!(driver.receive(&mut into), None);
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (change, expected) in [
        ((|state| state.is_stuck = true) as fn(&mut State), E1000eError::NoReset),
        (|state| state.is_gone = true, E1000eError::NoReset),
        (|state| _ = state.registers.insert(RAH, 0x6e), E1000eError::NoMac),
        (|state| _ = state.registers.insert(RAL, 1), E1000eError::NoMac),
        (|state| state.registers.extend([(RAL, 0), (RAH, 1 << 31)]), E1000eError::NoMac),
    ] {
        let device = Device::with(change);
        assert_eq!(device.start_with(1000).map(|_| ()), Err(expected));
        let state = device.state();
        assert_eq!((state.get(RCTL), state.mask), (0, 0));
    }
    for pages in [0, 1, 64, 65, 129] {
        assert_eq!(Device::with(|_| {}).start_with(pages).map(|_| ()), Err(E1000eError::NoMemory), "{pages} pages");
    }
    assert!(Device::with(|_| {}).start_with(130).is_ok());
}

#[test]
fn a_full_ring_drops_what_is_sent_and_interrupts_tell_of_frames_and_of_room() {
    let device = Device::with(|_| {});
    let mut driver = device.start();
    assert!(driver.rest() && device.state().mask == 1 << 20, "frames interrupt");
    for number in 0..130 {
        driver.send(&frame(60, number));
    }
    driver.flush();
    assert!(!driver.has_room() && driver.rest());
    assert_eq!(device.state().mask, 1 << 22, "room does, where there is none");
    assert!(device.state().deliver(&[7; 60], WHOLE));
    assert!(driver.rest(), "a frame is of no interest without room");
    let sent: Vec<_> = std::iter::from_fn(|| device.state().sent()).collect();
    assert_eq!(sent.len(), 127);
    assert!((0..).zip(&sent).all(|(number, sent)| *sent == frame(60, number)));
    assert!(!driver.rest(), "there is room, and a frame is there already");
    assert_eq!(driver.receive(&mut [0; FRAME_BYTES_MAX]), Some(60));
    assert!(driver.has_room() && driver.rest());
    assert_eq!(device.state().mask, 1 << 20);
    assert!(device.state().deliver(&[7; 60], WHOLE));
    assert!(!driver.rest(), "a frame is there already");
    assert_eq!((driver.receive(&mut [0; FRAME_BYTES_MAX]), device.state().mask), (Some(60), 0));
}

#[test]
fn what_is_no_whole_sound_frame_is_dropped() {
    let device = Device::with(|_| {});
    let mut driver = device.start();
    let mut into = vec![0; FRAME_BYTES_MAX];
    let parts: [(usize, u16); 7] = [
        (13, WHOLE),          // too short
        (1515, WHOLE),        // too long
        (60, WHOLE | 0x8000), // with an error
        (2048, 1),            // a part,
        (2048, 1),            // another,
        (60, WHOLE),          // and the last one
        (0, WHOLE),           // nothing
    ];
    for (bytes, status) in parts {
        assert!(device.state().deliver(&vec![1; bytes], status));
    }
    assert!(device.state().deliver(&[5; 60], WHOLE));
    assert_eq!((driver.receive(&mut into), driver.dropped()), (Some(60), 7));
    assert_eq!((into[0], driver.fault()), (5, None));
}

#[test]
fn a_device_that_names_more_than_a_buffer_holds_is_not_used_any_more() {
    for length in [2049, 9000, u16::MAX] {
        let device = Device::with(|_| {});
        let mut driver = device.start();
        let mut into = vec![0; FRAME_BYTES_MAX];
        device.state().end(0, length, 0xffff);
        assert_eq!((driver.receive(&mut into), driver.has_room()), (None, false));
        assert_eq!(driver.fault(), Some(NicFault::Length { bytes: length.into() }));
        let state = device.state();
        assert_eq!((state.get(RCTL), state.get(TCTL), state.mask), (0, 0, 0), "it is out of use");
        drop(state);
        driver.send(&[1; 60]);
        driver.flush();
        assert!(!driver.look() && driver.rest());
        assert_eq!((driver.receive(&mut into), device.state().get(TRANSMIT + 0x18)), (None, 0));
    }
}

#[test]
fn a_device_that_says_that_all_is_done_keeps_no_call_and_gets_nowhere() {
    let device = Device::with(|_| {});
    let mut driver = device.start();
    let mut into = vec![0; FRAME_BYTES_MAX];
    for _ in 0..10 {
        // The one that it does not have, too. Some are no frames: a call ends all the same.
        (0..128).for_each(|number| device.state().end(number, 4, WHOLE));
        assert_eq!(driver.receive(&mut into), None);
        for number in 0..128 {
            device.state().write_sent(number);
        }
        assert!(driver.has_room());
    }
    assert!((1270..=1280).contains(&driver.dropped()), "{}", driver.dropped());
    assert_eq!(driver.fault(), None);
}

#[test]
fn a_link_comes_and_goes_and_a_device_that_vanishes_is_told_of() {
    let device = Device::with(|_| {});
    let mut driver = device.start();
    for (status, up) in [(0, false), (2, true), (0x8_0080, false), (0x8_0083, true)] {
        device.state().registers.insert(STATUS, status);
        assert_eq!(driver.look(), up);
    }
    device.state().is_gone = true;
    assert_eq!((driver.look(), driver.fault()), (false, Some(NicFault::Gone)));
}
