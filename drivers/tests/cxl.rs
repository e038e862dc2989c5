//! A CXL memory device of ours: its decoders and its host bridge's, and a mailbox that refuses, is silent, and lies.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use drivers::cxl::decoder::{HdmRange, UNIT_BYTES};
use drivers::cxl::mailbox::{Identity, LabelArea, Mailbox};
use drivers::cxl::memory::{self, Path, Window};
use drivers::cxl::{CxlError, MailboxError, Which};
use drivers::registers::Registers;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource as _, LabelStore as _};

const DIMM: DeviceHandle = DeviceHandle(7);

/// Where QEMU has them, in a component's block.
const ARRAY: u32 = 0x1000;
const HDM: u32 = 0x1110;
const BASE: u32 = HDM + 0x10;
const CONTROL: u32 = HDM + 0x20;

const COMMIT: u32 = 1 << 9;
const COMMITTED: u32 = 1 << 10;
const ERROR: u32 = 1 << 11;
const TYPE_3: u32 = 1 << 12;

/// A clock on which each look takes a millisecond; each test has its own.
fn quick() -> u64 {
    thread_local!(static LOOKS: Cell<u64> = const { Cell::new(0) });
    LOOKS.set(LOOKS.get() + 1);
    LOOKS.get() * 1_000_000
}

/// What a decoder does when it is to commit.
#[derive(Clone, Copy, Debug)]
enum OnCommit {
    /// Commits.
    Commit,
    /// Finds fault with it.
    Fail,
    /// Nothing.
    Ignore,
    /// Commits, but has not kept its size.
    Forget,
}

/// A component's registers. What was never written reads as zero.
#[derive(Clone, Debug)]
struct Component(Arc<Mutex<(BTreeMap<u32, u32>, OnCommit)>>);

impl Component {
    fn new(decoders_code: u32) -> Self {
        let words = [(ARRAY, 3 << 24 | 1), (ARRAY + 4, 2), (ARRAY + 8, 0x110 << 20 | 5), (HDM, decoders_code)];
        Self(Arc::new(Mutex::new((words.into(), OnCommit::Commit))))
    }

    fn without_decoders() -> Self {
        Self(Arc::new(Mutex::new(([(ARRAY, 1 << 24 | 1), (ARRAY + 4, 2)].into(), OnCommit::Commit))))
    }

    fn on_commit(self, conduct: OnCommit) -> Self {
        self.0.lock().expect("no panic").1 = conduct;
        self
    }

    fn with(self, at: u32, value: u32) -> Self {
        self.0.lock().expect("no panic").0.insert(at, value);
        self
    }

    /// As firmware leaves it: a decoder committed and locked.
    fn committed(self, number: u32, range: HdmRange, target: u32) -> Self {
        let at = BASE + 0x20 * number;
        let low = |wide: u64| u32::try_from(wide & 0xffff_ffff).expect("32 bits");
        self.with(at, low(range.base))
            .with(at + 4, low(range.base >> 32))
            .with(at + 8, low(range.bytes))
            .with(at + 12, low(range.bytes >> 32))
            .with(at + 16, TYPE_3 | COMMITTED | 1 << 8)
            .with(at + 20, target)
    }

    fn word(&self, at: u32) -> u32 {
        self.0.lock().expect("no panic").0.get(&at).copied().unwrap_or(0)
    }
}

impl Registers for Component {
    fn read(&self, at: u32) -> u32 {
        if at < 1 << 16 { self.word(at) } else { u32::MAX }
    }

    fn write(&self, at: u32, value: u32) {
        let mut state = self.0.lock().expect("no panic");
        let is_locked = |words: &BTreeMap<u32, u32>| words.get(&CONTROL).is_some_and(|word| word & COMMITTED != 0);
        assert!(!(BASE..BASE + 0x20).contains(&at) || !is_locked(&state.0), "a committed decoder is left alone");
        let value = match state.1 {
            _ if at != CONTROL || value & COMMIT == 0 => value,
            OnCommit::Commit | OnCommit::Forget => value | COMMITTED,
            OnCommit::Fail => value | ERROR,
            OnCommit::Ignore => value,
        };
        if matches!(state.1, OnCommit::Forget) && at == BASE + 8 {
            return;
        }
        state.0.insert(at, value);
    }

    fn read_wide(&self, _: u32) -> u64 {
        panic!("decoders are read by double words")
    }

    fn write_wide(&self, _: u32, _: u64) {
        panic!("decoders are written by double words")
    }
}

/// What the mailbox does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    /// Carries it out.
    Obey,
    /// Refuses it with this code.
    Refuse(u16),
    /// Carries it out, and says that its reply has so many bytes.
    Claim(u64),
    /// Never finishes it.
    Lose,
    /// Carries it out, and has finished when it was looked at so many times.
    Dawdle(u32),
}

#[derive(Debug)]
struct Device {
    words: BTreeMap<u32, u32>,
    conduct: Conduct,
    /// All memory, what is volatile for good, what is persistent for good, what of the rest is persistent: in units.
    capacity: [u64; 4],
    labels: Vec<u8>,
    payload: Vec<u8>,
    command: u64,
    status: u64,
    doorbell: u32,
    /// How often the doorbell was looked at since.
    looked_at: u32,
    commands: Vec<u16>,
}

#[derive(Clone, Debug)]
struct Block(Arc<Mutex<Device>>);

const MAILBOX_AT: u32 = 0x88;
const STATUS_AT: u32 = 0x8a8;
const PAYLOAD_BYTES: usize = 256;

impl Block {
    fn new() -> Self {
        let words = [
            (0x4, 3),
            (0x10, 1),
            (0x14, 0x80),
            (0x20, 2),
            (0x24, MAILBOX_AT),
            (0x30, 0x4000),
            (0x34, STATUS_AT),
            (MAILBOX_AT, 8),
            (STATUS_AT, 0x14),
        ];
        Self(Arc::new(Mutex::new(Device {
            words: words.into(),
            conduct: Conduct::Obey,
            capacity: [1, 0, 1, 0],
            labels: vec![0; 1000],
            payload: vec![0; PAYLOAD_BYTES],
            command: 0,
            status: 0,
            doorbell: 0,
            looked_at: 0,
            commands: Vec::new(),
        })))
    }

    fn with(change: impl FnOnce(&mut Device)) -> Self {
        let block = Self::new();
        change(&mut block.state());
        block
    }

    fn state(&self) -> MutexGuard<'_, Device> {
        self.0.lock().expect("no panic")
    }

    fn mailbox(&self) -> Mailbox<Self> {
        Mailbox::find(self.clone(), quick).expect("it has one")
    }
}

impl Device {
    fn ring(&mut self) {
        let opcode = u16::try_from(self.command & 0xffff).expect("16 bits");
        let length = usize::try_from(self.command >> 16 & 0x1f_ffff).expect("it fits");
        self.commands.push(opcode);
        let input = self.payload[..length].to_vec();
        let double = |at: usize| u32::from_le_bytes(input[at..at + 4].try_into().expect("4 bytes")) as usize;
        let mut reply = Vec::new();
        match opcode {
            0x4000 => {
                reply.resize(0x45, 0);
                for (at, value) in [0x10, 0x18, 0x20].into_iter().zip(self.capacity) {
                    reply[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
                let bytes = u32::try_from(self.labels.len()).expect("it fits");
                reply[0x38..0x3c].copy_from_slice(&bytes.to_le_bytes());
            }
            0x4100 => {
                reply.resize(0x20, 0);
                reply[8..16].copy_from_slice(&(self.capacity[2] + self.capacity[3]).to_le_bytes());
            }
            0x4102 => reply.extend(&self.labels[double(0)..double(0) + double(4)]),
            0x4103 => self.labels[double(0)..double(0) + length - 8].copy_from_slice(&input[8..]),
            other => panic!("command {other:#x}"),
        }
        self.payload[..reply.len()].copy_from_slice(&reply);
        let (code, length) = match self.conduct {
            Conduct::Obey | Conduct::Lose | Conduct::Dawdle(_) => (0, reply.len() as u64),
            Conduct::Refuse(code) => (code, 0),
            Conduct::Claim(length) => (0, length),
        };
        self.status = u64::from(code) << 32;
        self.command = length << 16 | u64::from(opcode);
        self.doorbell = u32::from(matches!(self.conduct, Conduct::Lose | Conduct::Dawdle(_)));
        self.looked_at = 0;
    }
}

impl Registers for Block {
    fn read(&self, at: u32) -> u32 {
        let mut state = self.state();
        let payload = MAILBOX_AT + 0x20;
        match at {
            _ if at == MAILBOX_AT + 4 => {
                state.looked_at += 1;
                if matches!(state.conduct, Conduct::Dawdle(looks) if state.looked_at >= looks) {
                    state.doorbell = 0;
                }
                state.doorbell
            }
            _ if at >= payload && at < payload + 256 => {
                let at = (at - payload) as usize;
                u32::from_le_bytes(state.payload[at..at + 4].try_into().expect("4 bytes"))
            }
            _ if at < 1 << 16 => state.words.get(&at).copied().unwrap_or(0),
            _ => u32::MAX,
        }
    }

    fn write(&self, at: u32, value: u32) {
        let mut state = self.state();
        if at == MAILBOX_AT + 4 {
            return state.ring();
        }
        let at = at.checked_sub(MAILBOX_AT + 0x20).expect("only the payload is written by double words") as usize;
        state.payload[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn read_wide(&self, at: u32) -> u64 {
        match at {
            _ if at == MAILBOX_AT + 8 => self.state().command,
            _ if at == MAILBOX_AT + 0x10 => self.state().status,
            _ => u64::from(self.read(at + 4)) << 32 | u64::from(self.read(at)),
        }
    }

    fn write_wide(&self, at: u32, value: u64) {
        assert_eq!(at, MAILBOX_AT + 8, "only the command is written whole");
        self.state().command = value;
    }
}

const fn range(base_units: u64, units: u64) -> HdmRange {
    HdmRange { base: base_units * UNIT_BYTES, bytes: units * UNIT_BYTES }
}

/// Two windows: the first has room for one unit.
const WINDOWS: [HdmRange; 2] = [range(0x3f, 1), range(0x80, 8)];

const PORT: u8 = 3;

fn start(device: &Component, bridge: &Component, block: &Block) -> Result<HdmRange, CxlError> {
    start_where(device, bridge, block, [false; 2])
}

/// Where windows are fixed.
fn start_where(
    device: &Component,
    bridge: &Component,
    block: &Block,
    are_fixed: [bool; 2],
) -> Result<HdmRange, CxlError> {
    let windows = [0, 1].map(|at| Window { range: WINDOWS[at], is_fixed: are_fixed[at] });
    let path = Path { bridge, port: PORT, device, windows: &windows };
    memory::start(&path, &mut block.mailbox(), quick).map(|(range, _)| range)
}

#[test]
fn blank_decoders_are_programmed_and_enabled() {
    let (device, bridge) = (Component::new(0x310), Component::new(0x310));
    assert_eq!(start(&device, &bridge, &Block::new()), Ok(WINDOWS[0]));
    for (component, target) in [(&device, 0), (&bridge, u32::from(PORT))] {
        let words = [0, 4, 8, 12, 0x10, 0x14, 0x18].map(|at| component.word(BASE + at));
        assert_eq!(words, [0xf000_0000, 3, 0x1000_0000, 0, TYPE_3 | COMMIT | COMMITTED, target, 0]);
        assert_eq!(component.word(HDM + 4), 2);
    }
    // A larger one goes where it fits.
    let larger = Block::with(|device| device.capacity = [5, 0, 0, 5]);
    let (device, bridge) = (Component::new(4), Component::without_decoders());
    assert_eq!(start(&device, &bridge, &larger), Ok(range(0x80, 5)));
    assert_eq!(larger.state().commands, [0x4000, 0x4100]);
    let (device, bridge) = (Component::new(0), Component::new(0));
    let largest = Block::with(|device| device.capacity = [9, 0, 9, 0]);
    assert_eq!(start(&device, &bridge, &largest), Err(CxlError::NoRoom { bytes: 9 * UNIT_BYTES }));
}

#[test]
fn what_firmware_has_committed_is_used_as_found() {
    let block = Block::with(|device| device.capacity = [2, 0, 2, 0]);
    let (found, more) = (range(0x83, 2), range(0x82, 4));
    let committed = |which: Which, range| match which {
        Which::Device => Component::new(1).committed(1, range, 0),
        Which::HostBridge => Component::new(1).committed(1, range, u32::from(PORT) | 0x0504_0300 & !0xff),
    };
    // Both; the device's alone; the host bridge's alone, whose range begins before.
    let (device, bridge) = (committed(Which::Device, found), committed(Which::HostBridge, more));
    assert_eq!(start(&device, &bridge, &block), Ok(found));
    assert_eq!((device.word(CONTROL), bridge.word(CONTROL)), (0, 0));
    let (device, bridge) = (committed(Which::Device, found), Component::new(1));
    assert_eq!(start(&device, &bridge, &block), Ok(found));
    assert_eq!((device.word(CONTROL), bridge.word(CONTROL)), (0, TYPE_3 | COMMIT | COMMITTED));
    let (device, bridge) = (Component::new(1), committed(Which::HostBridge, more));
    assert_eq!(start(&device, &bridge, &block), Ok(range(0x82, 2)));

    let odd = |which, HdmRange { base, bytes }| Err(CxlError::OddRange { which, base, bytes });
    let (device, bridge) = (Which::Device, Which::HostBridge);
    let wraps = HdmRange { base: u64::MAX - UNIT_BYTES + 1, bytes: 2 * UNIT_BYTES };
    for (of_device, of_bridge, expected) in [
        // Not all of the device's memory; outside of every window; in two of them.
        (Some(range(0x83, 1)), None, odd(device, range(0x83, 1))),
        (Some(range(0x90, 2)), None, odd(device, range(0x90, 2))),
        (Some(range(0x87, 2)), None, odd(device, range(0x87, 2))),
        (Some(wraps), None, odd(device, wraps)),
        (Some(range(0x83, 0)), None, odd(device, range(0x83, 0))),
        // The host bridge leads less there, or something else.
        (Some(found), Some(range(0x83, 1)), odd(bridge, range(0x83, 1))),
        (Some(found), Some(range(0x80, 3)), odd(bridge, range(0x80, 3))),
        (None, Some(range(0x87, 1)), odd(bridge, range(0x87, 1))),
        (None, Some(range(0x90, 4)), odd(bridge, range(0x90, 4))),
    ] {
        let component =
            |which, range: Option<HdmRange>| range.map_or(Component::new(1), |range| committed(which, range));
        let outcome = start(&component(device, of_device), &component(bridge, of_bridge), &block);
        assert_eq!(outcome, expected, "{of_device:x?} {of_bridge:x?}");
    }
    let elsewhere = Component::new(1).committed(0, more, u32::from(PORT) + 1);
    assert_eq!(start(&Component::new(1), &elsewhere, &block), odd(bridge, more));
    let skips = Component::new(1).committed(0, found, 0x1000_0000);
    assert_eq!(start(&skips, &Component::new(1), &block), odd(device, found));
}

#[test]
fn no_decoder_is_programmed_for_a_window_that_is_fixed() {
    let block = Block::new();
    let blank = || Component::new(1);
    let fixed = |base| Err(CxlError::FixedWindow { base });
    let first = WINDOWS[0].base;
    // The next one has room, too, unless it is fixed as well.
    assert_eq!(start_where(&blank(), &blank(), &block, [true, false]), Ok(range(0x80, 1)));
    assert_eq!(start_where(&blank(), &blank(), &block, [true; 2]), fixed(first));
    // Half of the way is firmware's.
    let device = || Component::new(1).committed(0, WINDOWS[0], 0);
    let bridge = || Component::new(1).committed(0, WINDOWS[0], PORT.into());
    for (device, bridge) in [(device(), blank()), (blank(), bridge())] {
        let before = [CONTROL, HDM + 4].map(|at| [device.word(at), bridge.word(at)]);
        assert_eq!(start_where(&device, &bridge, &block, [true, false]), fixed(first));
        assert_eq!([CONTROL, HDM + 4].map(|at| [device.word(at), bridge.word(at)]), before);
    }
    // All of it is.
    assert_eq!(start_where(&device(), &bridge(), &block, [true; 2]), Ok(WINDOWS[0]));
    assert_eq!(start_where(&device(), &Component::without_decoders(), &block, [true; 2]), Ok(WINDOWS[0]));
}

#[test]
fn interleaving_and_several_ranges_are_refused_by_name() {
    let interleaved = || Component::new(1).committed(0, WINDOWS[0], 0).with(CONTROL, TYPE_3 | COMMITTED | 1 << 4);
    let block = Block::new();
    assert_eq!(start(&interleaved(), &Component::new(1), &block), Err(CxlError::Interleaved(Which::Device)));
    assert_eq!(start(&Component::new(1), &interleaved(), &block), Err(CxlError::Interleaved(Which::HostBridge)));
    let two = Component::new(1).committed(0, WINDOWS[0], 0).committed(1, range(0x80, 1), 0);
    assert_eq!(start(&two, &Component::new(1), &block), Err(CxlError::SeveralRanges(Which::Device)));
}

#[test]
fn a_device_without_decoders_and_one_that_does_not_commit_are_refused() {
    let block = Block::new();
    assert_eq!(start(&Component::without_decoders(), &Component::new(0), &block), Err(CxlError::NoDecoders));
    // Of a number without a meaning; without an array of capabilities; with one of 255 that lead anywhere. A host bridge of
    // that kind is not taken for one without decoders.
    let capability = |pointer: u32| (ARRAY + 8, pointer << 20 | 5);
    for (at, value) in [(HDM, 13), (ARRAY, 0), (ARRAY, u32::MAX), capability(0), capability(2), capability(0xfff)] {
        let wild = || Component::new(0).with(ARRAY, 0xff00_0001).with(at, value);
        let (device, bridge) = (CxlError::BadComponent(Which::Device), CxlError::BadComponent(Which::HostBridge));
        assert_eq!(start(&wild(), &Component::new(0), &block), Err(device), "{at:#x} {value:#x}");
        assert_eq!(start(&Component::new(0), &wild(), &block), Err(bridge), "{at:#x} {value:#x}");
    }
    let why = |conduct, which| match conduct {
        OnCommit::Ignore => CxlError::NotCommitted(which),
        _ => CxlError::BadCommit(which),
    };
    for conduct in [OnCommit::Fail, OnCommit::Ignore, OnCommit::Forget] {
        let began = quick();
        let (device, bridge) = (Component::new(0).on_commit(conduct), Component::new(0));
        assert_eq!(start(&device, &bridge, &block), Err(why(conduct, Which::Device)));
        let (device, bridge) = (Component::new(0), Component::new(0).on_commit(conduct));
        assert_eq!(start(&device, &bridge, &block), Err(why(conduct, Which::HostBridge)));
        let waited = quick() - began > 2 * 5_000_000_000;
        assert_eq!(waited, matches!(conduct, OnCommit::Ignore), "{conduct:?}: no more is waited for");
        assert_eq!(device.word(CONTROL), 0, "what does not lead there is not followed further");
    }
}

#[test]
fn volatile_parts_and_nonsense_about_capacity_are_refused() {
    let bad_reply = CxlError::Command(MailboxError::BadReply { opcode: 0x4000 });
    let part =
        |persistent, total| CxlError::PartIsVolatile { persistent: persistent * UNIT_BYTES, total: total * UNIT_BYTES };
    for (capacity, expected) in [
        ([2, 1, 1, 0], Err(part(1, 2))),
        ([4, 1, 1, 1], Err(part(2, 4))),
        ([2, 2, 0, 0], Err(CxlError::NoneIsPersistent)),
        ([0, 0, 0, 0], Err(CxlError::NoneIsPersistent)),
        ([1, 0, 2, 0], Err(bad_reply)),
        ([u64::MAX, 0, u64::MAX, 0], Err(bad_reply)),
        // A sum that does not fit is none: then the partitions count.
        ([1, u64::MAX >> 28, 1, 0], Ok(WINDOWS[0])),
    ] {
        let block = Block::with(|device| device.capacity = capacity);
        assert_eq!(start(&Component::new(0), &Component::new(0), &block), expected, "{capacity:?}");
    }
}

#[test]
fn labels_are_read_and_written_in_pieces_of_the_payload() {
    let block = Block::new();
    let mut area = LabelArea::new(block.mailbox(), DIMM, 1000);
    assert_eq!(area.area_bytes(DIMM), Ok(Some(1000)));
    assert_eq!((area.area_bytes(DeviceHandle(8)), area.is_of(DIMM)), (Ok(None), true));
    let bytes: Vec<u8> = (0..=255).cycle().take(701).collect();
    area.write(DIMM, 299, &bytes).expect("it is stored");
    assert_eq!(block.state().labels[299..], bytes);
    let mut back = vec![0; 701];
    area.read(DIMM, 299, &mut back).expect("it is read");
    assert_eq!(back, bytes);
    assert_eq!(block.state().commands, [[0x4103; 3], [0x4102; 3]].concat());
    for (dimm, offset, count) in [(DIMM, 300, 701), (DIMM, 1001, 0), (DIMM, u64::MAX, 2), (DeviceHandle(8), 0, 1)] {
        assert_eq!(area.read(dimm, offset, &mut vec![0; count]), Err(LabelError::OutOfRange));
        assert_eq!(area.write(dimm, offset, &vec![0; count]), Err(LabelError::OutOfRange));
    }
    let mut none = LabelArea::new(block.mailbox(), DIMM, 0);
    assert_eq!(none.area_bytes(DIMM), Ok(None));
}

#[test]
fn a_mailbox_that_refuses_lies_or_is_silent_is_an_error_and_never_a_wait_without_end() {
    let block = Block::new();
    let mut area = LabelArea::new(block.mailbox(), DIMM, 1000);
    let set = |conduct| block.state().conduct = conduct;
    set(Conduct::Refuse(3));
    assert_eq!(area.read(DIMM, 0, &mut [0; 8]), Err(LabelError::Status(3)));
    assert_eq!(area.write(DIMM, 0, &[0; 8]), Err(LabelError::Status(3)));
    assert_eq!(block.mailbox().identify(), Err(MailboxError::Refused { opcode: 0x4000, code: 3 }));
    for length in [0, 7, 9, 257, 0x1f_ffff] {
        set(Conduct::Claim(length));
        assert_eq!(area.read(DIMM, 0, &mut [0; 8]), Err(LabelError::BadAnswer), "{length}");
    }
    set(Conduct::Claim(0x42));
    assert_eq!(block.mailbox().identify(), Err(MailboxError::BadReply { opcode: 0x4000 }));
    set(Conduct::Lose);
    assert_eq!(area.write(DIMM, 0, &[0; 8]), Err(LabelError::NoAnswer));
    // Nothing is begun any more, even if the doorbell goes.
    set(Conduct::Obey);
    block.state().doorbell = 0;
    let before = block.state().commands.len();
    assert_eq!(area.read(DIMM, 0, &mut [0; 8]), Err(LabelError::NoAnswer));
    assert_eq!(block.state().commands.len(), before);
}

#[test]
fn commands_of_one_piece_of_work_have_one_bound_together() {
    // A bit less than each of them may take.
    let dawdling = || Block::with(|device| (device.conduct, device.labels) = (Conduct::Dawdle(4500), vec![7; 4000]));
    let block = dawdling();
    let mut area = LabelArea::new(block.mailbox(), DIMM, 4000);
    let mut bytes = vec![0; 4000];
    assert_eq!(area.read(DIMM, 0, &mut bytes), Err(LabelError::NoAnswer));
    let read = bytes.iter().filter(|byte| **byte == 7).count();
    assert_eq!((read, block.state().commands.len()), (6 * PAYLOAD_BYTES, 7));
    // The last one is still under way.
    area.begin();
    assert_eq!(area.read(DIMM, 0, &mut [0; 8]), Err(LabelError::NoAnswer));

    // Each with a bound of its own, as many as are wanted.
    let mut area = LabelArea::new(dawdling().mailbox(), DIMM, 4000);
    for piece in 0..4 {
        area.begin();
        assert_eq!(area.read(DIMM, 1000 * piece, &mut [0; 1000]), Ok(()));
    }

    // To say who it is takes such a device two commands.
    let block = Block::with(|device| (device.conduct, device.capacity) = (Conduct::Dawdle(4500), [5, 0, 0, 5]));
    assert!(block.mailbox().identify().is_ok());
    let mut mailbox = block.mailbox();
    let outcomes: Vec<_> = (0..4).map(|_| mailbox.identify().map(drop)).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Err(MailboxError::Slow)]);
}

#[test]
fn a_device_that_is_not_ready_or_has_no_mailbox_is_refused() {
    for (at, value) in [(STATUS_AT, 0x04), (STATUS_AT, 0x10), (STATUS_AT, 0x15), (STATUS_AT, 0x18), (STATUS_AT, 0)] {
        let block = Block::with(|device| device.words.extend([(at, value)]));
        assert_eq!(Mailbox::find(block, quick).err(), Some(CxlError::NotReady { status: value }));
    }
    for (at, value) in [
        (0x0, 1),
        (0x4, 0),
        (0x4, 1),
        (0x20, 9),
        (0x24, 0x84),
        (0x24, !7),
        (MAILBOX_AT, 7),
        (MAILBOX_AT, 21),
        (0x30, 0x4001),
        (0x34, 0x80),
    ] {
        let block = Block::with(|device| device.words.extend([(at, value)]));
        let found = Mailbox::find(block, quick).err();
        let status = at == 0x34 || at == 0x30;
        let expected = if at == 0x34 {
            CxlError::NotReady { status: 0 }
        } else {
            CxlError::NoRegisters { what: if status { "status" } else { "mailbox" } }
        };
        assert_eq!(found, Some(expected), "{at:#x} {value:#x}");
    }
}

#[test]
fn the_identity_is_the_devices() {
    let block = Block::with(|device| device.capacity = [4, 0, 4, 0]);
    let expected = Identity { total: 4 * UNIT_BYTES, persistent: 4 * UNIT_BYTES, label_area: 1000 };
    assert_eq!(block.mailbox().identify(), Ok(expected));
}
