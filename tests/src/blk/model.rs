//! What a DIMM behind windows does.
//!
//! - A command is posted when it is stored; it takes effect when the flush hint is written or the register is read back.
//!   It clears the status and places the window. What is done to the aperture before that is done under the command
//!   before it.
//! - Stores to the aperture are kept in the DIMM's buffer until the flush hint is written: reads do not see them before,
//!   and a power cut leaves any subset of their 8-byte pieces.
//! - The CPU's caches keep what was read of an aperture until its line is invalidated, where the model sees that.
//! - Status bits that mean nothing are not 0.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::ptr::NonNull;

use memmap2::MmapMut;

use super::layout::{Layout, Place};

/// A line: what a command counts in, and what the DIMM can lose.
const LINE: u64 = 64;

/// The status register's bits.
pub mod status {
    /// The DIMM has no such address.
    pub const INVALID: u32 = 1;
    /// The DIMM has lost what stood there.
    pub const UNCORRECTABLE: u32 = 1 << 1;
    /// A read of a window that is to be written, or the other way round.
    pub const MISMATCH: u32 = 1 << 2;
    /// A locked range.
    pub const LOCKED: u32 = 1 << 4;
    /// The window is disabled.
    pub const DISABLED: u32 = 1 << 5;
    /// Not done yet.
    pub const PENDING: u32 = 1 << 31;
    /// Undefined bits, which drivers must ignore: some are always set here.
    pub(super) const NOISE: u32 = 0x0540_0908;
}

/// What is done to the DIMM, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A command is stored.
    Command {
        /// To which window.
        window: u16,
        /// The DIMM address.
        dpa: u64,
        /// How many bytes.
        bytes: u64,
        /// Whether it writes.
        write: bool,
    },
    /// The command register is read back.
    Latch(u16),
    /// 8 bytes of an aperture are loaded.
    Load {
        /// Of which window.
        window: u16,
        /// The DIMM address.
        dpa: u64,
    },
    /// 8 bytes of an aperture are stored.
    Store {
        /// Of which window.
        window: u16,
        /// The DIMM address.
        dpa: u64,
        /// What.
        value: u64,
    },
    /// A line of an aperture is dropped from the caches.
    Invalidate(u16),
    /// The flush hint is written.
    Flush,
    /// The status register is read.
    Status(u16, u32),
    /// Something that no driver may do: an access beside registers and aperture, of another size, not aligned.
    Stray(u64),
}

/// What of the DIMM's buffer a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lands {
    /// Nothing.
    None,
    /// All.
    All,
    /// Only this one, counted from 0.
    Only(usize),
    /// All but this one.
    AllBut(usize),
    /// Whatever a seed chooses.
    Seeded(u64),
}

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Before the aperture store with this number, from now on, from 0.
    pub before_store: u64,
    /// What it leaves.
    pub lands: Lands,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Locked DIMM addresses.
    pub locked: Option<Range<u64>>,
    /// Windows that are disabled.
    pub disabled: BTreeSet<u16>,
    /// How many times a status is pending, after a command to read and after a flush.
    pub pending_polls: u32,
    /// The command with this number, from now on, from 0: its status gets these bits, and nothing is moved.
    pub fail: Option<(u64, u32)>,
    /// The command with this number is taken for one of the other direction.
    pub turned: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Command {
    dpa: u64,
    bytes: u64,
    write: bool,
}

#[derive(Clone, Debug, Default)]
struct Window {
    register: u64,
    posted: Option<u64>,
    command: Command,
    status: u32,
    pending: u32,
    /// Whether what a write command brought has been taken from shared memory.
    taken: bool,
    /// What the CPU's caches hold of the aperture: lines by their place in it.
    cached: BTreeMap<u64, [u8; 64]>,
}

/// The DIMM.
#[derive(Debug)]
pub struct Model {
    layout: Layout,
    media: MmapMut,
    windows: Vec<Window>,
    /// The range of data windows as memory that the CPU has, too: see [`Model::with_shared_apertures`].
    shared: Option<MmapMut>,
    /// Stores that no flush has made durable: window, DIMM address, value.
    buffer: Vec<(u16, u64, u64)>,
    /// Lines that are lost.
    lost: BTreeSet<u64>,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether the model sees when lines are invalidated, and so can keep them cached until then.
    pub caches: bool,
    /// What was done, if a test records it.
    pub log: Option<Vec<Access>>,
    /// When the power goes.
    cut: Option<Cut>,
    dead: bool,
    stores: u64,
    commands: u64,
    strays: u64,
}

impl Model {
    /// A DIMM with these media: the bytes from its first DIMM address on.
    ///
    /// # Panics
    /// When they are not as many as in the layout.
    #[must_use]
    pub fn new(layout: Layout, media: MmapMut) -> Self {
        assert_eq!(media.len() as u64, layout.capacity, "the media are as long as the capacity");
        let windows = vec![Window::default(); usize::from(layout.windows)];
        Self {
            layout,
            media,
            windows,
            shared: None,
            buffer: Vec::new(),
            lost: BTreeSet::new(),
            faults: Faults::default(),
            caches: false,
            log: None,
            cut: None,
            dead: false,
            stores: 0,
            commands: 0,
            strays: 0,
        }
    }

    /// A DIMM whose media are in memory, blank.
    ///
    /// # Panics
    /// When there is no memory.
    #[must_use]
    pub fn blank(layout: Layout) -> Self {
        let media = MmapMut::map_anon(usize::try_from(layout.capacity).expect("it fits memory")).expect("memory");
        Self::new(layout, media)
    }

    /// The apertures are memory that the CPU reaches by itself, so that only registers are seen here: fast, but it trusts
    /// the driver. What a read command wants is put there when the command arrives; what a write command brought is taken
    /// when the status is read.
    ///
    /// # Panics
    /// When the memory is not as long as the range, or the range is interleaved.
    #[must_use]
    pub fn with_shared_apertures(mut self, memory: MmapMut) -> Self {
        assert!(self.layout.data_lines.is_none() && memory.len() as u64 >= self.layout.data_bytes());
        self.shared = Some(memory);
        self
    }

    /// Where apertures are that are shared memory.
    pub fn shared_start(&mut self) -> Option<NonNull<u8>> {
        self.shared.as_mut().and_then(|shared| NonNull::new(shared.as_mut_ptr()))
    }

    /// Where everything is.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The media as they are now. What is in the buffer is not there.
    #[must_use]
    pub fn media(&self) -> &[u8] {
        &self.media
    }

    /// The media, to change them.
    pub fn media_mut(&mut self) -> &mut [u8] {
        &mut self.media
    }

    /// Gives it other media of the same size.
    ///
    /// # Panics
    /// When the size is another.
    pub fn replace_media(&mut self, media: MmapMut) {
        assert_eq!(media.len() as u64, self.layout.capacity, "the media are as long as the capacity");
        self.media = media;
    }

    /// How many commands there have been.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// How many stores to apertures there have been.
    #[must_use]
    pub const fn stores(&self) -> u64 {
        self.stores
    }

    /// How many accesses there have been that no driver may make.
    #[must_use]
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// Whether the power is gone.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// The line that holds this DIMM address is lost until all of it is written.
    pub fn lose(&mut self, dpa: u64) {
        self.lost.insert(dpa / LINE);
    }

    /// Lets the power go.
    pub fn set_cut(&mut self, cut: Cut) {
        self.cut = Some(Cut { before_store: self.stores + cut.before_store, ..cut });
    }

    /// Counts of commands begin anew.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.commands = 0;
    }

    /// Power on: nothing is latched, buffered or cached. The media and what is lost stay.
    pub fn power_on(&mut self) {
        self.reset();
        self.cut = None;
        self.dead = false;
    }

    /// The machine is reset: commands are forgotten, and what no flush has made durable.
    pub fn reset(&mut self) {
        self.windows = vec![Window::default(); usize::from(self.layout.windows)];
        self.buffer.clear();
    }

    fn note(&mut self, access: Access) {
        self.strays += u64::from(matches!(access, Access::Stray(_)));
        if let Some(log) = &mut self.log {
            log.push(access);
        }
    }

    fn stray(&mut self, address: u64) -> u64 {
        self.note(Access::Stray(address));
        u64::MAX
    }

    /// The CPU loads `size` bytes.
    pub fn load(&mut self, address: u64, size: usize) -> u64 {
        match (self.layout.place(address), size) {
            _ if self.dead => u64::from(status::DISABLED),
            (Place::Command(window), 8) => {
                self.note(Access::Latch(window));
                self.arrive(window);
                self.windows[usize::from(window)].register
            }
            (Place::Status(window), 4) => u64::from(self.read_status(window)),
            (Place::Aperture(window, at), 8) if at.is_multiple_of(8) => self.load_aperture(window, at),
            _ => self.stray(address),
        }
    }

    /// The CPU stores `size` bytes.
    pub fn store(&mut self, address: u64, size: usize, value: u64) {
        match (self.layout.place(address), size) {
            _ if self.dead => {}
            (Place::Hint, 8) => {
                self.note(Access::Flush);
                self.flush();
            }
            (Place::Command(window), 8) => {
                let it = decode(value);
                self.note(Access::Command { window, dpa: it.dpa, bytes: it.bytes, write: it.write });
                self.windows[usize::from(window)].posted = Some(value);
            }
            (Place::Aperture(window, at), 8) if at.is_multiple_of(8) => self.store_aperture(window, at, value),
            _ => _ = self.stray(address),
        }
    }

    /// The CPU drops a line from its caches.
    pub fn invalidate(&mut self, address: u64) {
        match self.layout.place(address / LINE * LINE) {
            Place::Aperture(window, at) => {
                self.note(Access::Invalidate(window));
                self.windows[usize::from(window)].cached.remove(&(at / LINE));
            }
            _ => _ = self.stray(address),
        }
    }

    /// A posted command takes effect.
    fn arrive(&mut self, number: u16) {
        let Some(value) = self.windows[usize::from(number)].posted.take() else { return };
        let mut command = decode(value);
        let count = self.commands;
        self.commands += 1;
        if self.faults.turned == Some(count) {
            command.write = !command.write;
        }
        let mut status = self.judge(number, value, command);
        if let Some((_, bits)) = self.faults.fail.filter(|(nth, _)| *nth == count) {
            status |= bits;
        }
        let pending = if command.write { 0 } else { self.faults.pending_polls };
        let window = &mut self.windows[usize::from(number)];
        (window.register, window.command, window.status, window.pending) = (value, command, status, pending);
        window.taken = !command.write;
        if !command.write && status == 0 {
            self.exchange(number);
        }
    }

    /// Moves a command's bytes between the media and apertures that are shared memory.
    fn exchange(&mut self, number: u16) {
        let Some(shared) = &mut self.shared else { return };
        let Command { dpa, bytes, write } = self.windows[usize::from(number)].command;
        let index = |at: u64| usize::try_from(at).expect("in memory");
        let aperture = index(self.layout.data_offset + u64::from(number) * self.layout.aperture_bytes);
        let aperture = &mut shared[aperture..aperture + index(bytes)];
        let media = &mut self.media[index(dpa - self.layout.start_dpa)..][..index(bytes)];
        if write { media.copy_from_slice(aperture) } else { aperture.copy_from_slice(media) }
    }

    fn judge(&self, window: u16, value: u64, command: Command) -> u32 {
        let Command { dpa, bytes, write } = command;
        let reach = self.layout.start_dpa..self.layout.start_dpa + self.layout.capacity;
        let mut status = 0;
        let reserved = value & (0xfe00_0000_0000_0000 | 0x0000_ffe0_0000_0000) != 0;
        if reserved || bytes == 0 || bytes > self.layout.aperture_bytes || dpa < reach.start || dpa + bytes > reach.end
        {
            status |= status::INVALID;
        }
        if self.faults.locked.as_ref().is_some_and(|locked| dpa < locked.end && locked.start < dpa + bytes) {
            status |= status::LOCKED;
        }
        if self.faults.disabled.contains(&window) {
            status |= status::DISABLED;
        }
        if !write && self.lost.range(dpa / LINE..(dpa + bytes) / LINE).next().is_some() {
            status |= status::UNCORRECTABLE;
        }
        status
    }

    fn read_status(&mut self, number: u16) -> u32 {
        let window = &mut self.windows[usize::from(number)];
        if !window.taken && window.status == 0 {
            window.taken = true;
            self.exchange(number);
        }
        let window = &mut self.windows[usize::from(number)];
        let status = if window.pending > 0 {
            window.pending -= 1;
            status::PENDING
        } else {
            window.status
        };
        self.note(Access::Status(number, status));
        status | status::NOISE
    }

    /// The DIMM address of a place in an aperture, if the window's command is one that `write`s, is sound, and has it.
    fn reached(&mut self, number: u16, at: u64, write: bool) -> Option<u64> {
        let window = &mut self.windows[usize::from(number)];
        if window.command.write != write {
            window.status |= status::MISMATCH;
        }
        (window.status == 0 && at < window.command.bytes).then_some(window.command.dpa + at)
    }

    fn load_aperture(&mut self, number: u16, at: u64) -> u64 {
        let line = at / LINE;
        let word = |line: &[u8; 64]| {
            let within = usize::try_from(at % LINE).expect("below 64");
            u64::from_le_bytes(line[within..within + 8].try_into().expect("8 bytes"))
        };
        if let Some(cached) = self.windows[usize::from(number)].cached.get(&line) {
            let (value, dpa) = (word(cached), self.windows[usize::from(number)].command.dpa + at);
            self.note(Access::Load { window: number, dpa });
            return value;
        }
        let pending = self.windows[usize::from(number)].pending > 0;
        let Some(dpa) = self.reached(number, at, false).filter(|_| !pending) else {
            self.note(Access::Load { window: number, dpa: u64::MAX });
            return u64::MAX;
        };
        self.note(Access::Load { window: number, dpa });
        let start = usize::try_from(dpa / LINE * LINE - self.layout.start_dpa).expect("in the media");
        let bytes: [u8; 64] = self.media[start..start + 64].try_into().expect("a line");
        if self.caches {
            self.windows[usize::from(number)].cached.insert(line, bytes);
        }
        word(&bytes)
    }

    fn store_aperture(&mut self, number: u16, at: u64, value: u64) {
        if self.cut.is_some_and(|cut| cut.before_store == self.stores) {
            self.power_off();
            return;
        }
        self.stores += 1;
        // A line that is stored to leaves the cache.
        self.windows[usize::from(number)].cached.remove(&(at / LINE));
        let reached = self.reached(number, at, true);
        self.note(Access::Store { window: number, dpa: reached.unwrap_or(u64::MAX), value });
        if let Some(dpa) = reached {
            self.buffer.push((number, dpa, value));
        }
    }

    fn flush(&mut self) {
        for window in 0..self.layout.windows {
            self.arrive(window);
        }
        let mut touched = BTreeSet::new();
        let mut words: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (window, dpa, value) in std::mem::take(&mut self.buffer) {
            self.put(dpa, value);
            touched.insert(window);
            words.entry(dpa / LINE).or_default().insert(dpa);
        }
        for (line, words) in words {
            if words.len() == 8 {
                self.lost.remove(&line);
            }
        }
        for window in touched {
            self.windows[usize::from(window)].pending = self.faults.pending_polls;
        }
    }

    fn put(&mut self, dpa: u64, value: u64) {
        let at = usize::try_from(dpa - self.layout.start_dpa).expect("in the media");
        self.media[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// The power goes: of what is in the buffer, something lands.
    fn power_off(&mut self) {
        let lands = self.cut.map_or(Lands::None, |cut| cut.lands);
        let mut seed = match lands {
            Lands::Seeded(seed) => seed ^ 0x9e37_79b9_7f4a_7c15 | 1,
            _ => 0,
        };
        for (number, (_, dpa, value)) in std::mem::take(&mut self.buffer).into_iter().enumerate() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let landed = match lands {
                Lands::None => false,
                Lands::All => true,
                Lands::Only(one) => number == one,
                Lands::AllBut(one) => number != one,
                Lands::Seeded(_) => seed >> 33 & 1 != 0,
            };
            if landed {
                self.put(dpa, value);
            }
        }
        self.dead = true;
    }
}

fn decode(register: u64) -> Command {
    Command {
        dpa: (register & 0x1f_ffff_ffff) * LINE,
        bytes: (register >> 48 & 0xff) * LINE,
        write: register >> 56 & 1 != 0,
    }
}
