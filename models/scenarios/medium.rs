//! A tiny medium for models: map entries and what blocks hold are the checker's atomics, the rest is bytes of which it
//! knows who may touch them. It remembers what is not durable, and fails the model where the write path runs ahead of it:
//!
//! - a flog record of a sector is stored only while no change of that sector's map entry waits for a fence;
//! - a record replaces the one before the last of its group only once the last one's map change is durable;
//! - a record commits only after the data of its block are durable;
//! - a map entry names another block only after the record of that is durable.
//!
//! A thread is a CPU: its fences cover what it streamed or started to write back.
//!
//! Behind windows, each access also takes the window of its CPU, under the lock that a window has, and the halves of a
//! record share no fence.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock};

use btt::PremapAba;
use btt::geometry::{Geometry, SectorSize};
use btt::info_block::{InfoBlock, Version};
use btt::layout::{RawFlogSlot, SIGNATURE};
use btt::map::MapEntry;
use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};
use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use crate::checker::{self, AtomicU32, AtomicU64, Guarded, Ordering, fence, thread};

/// Sectors of the arena: three lines of map entries. With two stripes, the first and the third share a lock.
pub(crate) const SECTORS: u32 = 40;
const BLOCK_BYTES: usize = 512;
const DATA_AT: usize = 4096;
const MAP_AT: usize = 0x8000;
const FLOG_AT: usize = 0x8100;
const BACKUP_AT: usize = 0xa000;
const IMAGE_BYTES: usize = BACKUP_AT + 4096;
/// The namespace's length, as it reports it: the format has no smaller arenas. Behind the image, all is zero.
const NAMESPACE_BYTES: u64 = 16 << 20;

/// A store that no fence has covered.
#[derive(Clone, Debug)]
struct Pending {
    at: usize,
    bytes: Vec<u8>,
    by: thread::ThreadId,
    streaming: bool,
    written_back_by: Vec<thread::ThreadId>,
}

impl Pending {
    fn lies_in(&self, range: &Range<usize>) -> bool {
        self.at < range.end && range.start < self.at + self.bytes.len()
    }
}

struct State {
    visible: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// The access that fails.
    failing: Option<u32>,
    /// Where the block begins that has lost its bytes, until it is written.
    lost: Option<usize>,
    /// What map entries have named so far: the first words of sectors. Only these may be read.
    named: HashSet<u64>,
}

/// The medium.
pub(crate) struct ModelMedium {
    state: Mutex<State>,
    entries: BTreeMap<usize, Entry>,
    blocks: BTreeMap<u32, Block>,
    groups: Vec<Guarded>,
    /// Registers and apertures of each block window; none on mapped memory.
    windows: Vec<Window>,
    /// Which CPU a thread is: windows are chosen by that.
    cpus: Mutex<HashMap<thread::ThreadId, u32>>,
    accesses: AtomicU32,
}

/// A block, as far as the checker sees it.
struct Block {
    /// Two lanes never write it at once, and none while a slow reader copies it.
    held: Guarded,
    /// What is in it, twice: others may copy it while a lane writes.
    words: [AtomicU64; 2],
}

/// What a copy comes to that is of two writes.
pub(crate) const TORN: u64 = u64::MAX;

/// A block window: one access at a time.
struct Window {
    lock: checker::Mutex<()>,
    used: Guarded,
}

/// A map entry.
struct Entry {
    word: AtomicU32,
    /// Moved on by a thread that makes the entry durable or relies on its being so: the checker must try both orders, and
    /// sees only what goes through its own types.
    order: AtomicU32,
}

fn image(groups: u32) -> Vec<u8> {
    let geometry = Geometry {
        external_lbasize: SectorSize::new(512).expect("a known size"),
        external_nlba: SECTORS,
        internal_lbasize: 512,
        internal_nlba: SECTORS + groups,
        nfree: groups,
        nextoff: 0,
        dataoff: DATA_AT as u64,
        mapoff: MAP_AT as u64,
        logoff: FLOG_AT as u64,
        info2off: BACKUP_AT as u64,
    };
    let info =
        InfoBlock { uuid: Uuid::from_u128(1), parent_uuid: Uuid::nil(), flags: 0, version: Version::V2_0, geometry };
    let mut image = vec![0; IMAGE_BYTES];
    image[..4096].copy_from_slice(info.encode().as_bytes());
    image[BACKUP_AT..].copy_from_slice(info.encode().as_bytes());
    assert!(image.starts_with(&SIGNATURE));
    for group in 0..groups {
        let block = (SECTORS + group).into();
        let slot = RawFlogSlot { lba: group.into(), old_map: block, new_map: block, seq: 1.into() };
        image[FLOG_AT + group as usize * 64..][..16].copy_from_slice(slot.as_bytes());
    }
    for lba in 0..SECTORS {
        image[DATA_AT + lba as usize * BLOCK_BYTES..][..8].copy_from_slice(&tag(lba, 0).to_le_bytes());
    }
    image
}

/// What stands in a sector: its number, and the writer's.
pub(crate) const fn tag(lba: u32, version: u32) -> u64 {
    (lba as u64) << 32 | version as u64
}

impl ModelMedium {
    /// A fresh BTT with so many free blocks. `lbas` are the sectors that the model touches.
    pub(crate) fn new(groups: u32, lbas: &[u32]) -> Self {
        static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let fresh = &IMAGES.get_or_init(|| (0..=8).map(image).collect())[groups as usize];
        Self::with(fresh.clone(), groups, lbas)
    }

    fn with(image: Vec<u8>, groups: u32, lbas: &[u32]) -> Self {
        let entry = |at: usize| Entry {
            word: AtomicU32::new(u32::from_le_bytes(image[at..][..4].try_into().expect("4 bytes"))),
            order: AtomicU32::new(0),
        };
        let block = |block: u32| {
            let word = || AtomicU64::new(first_word(&image[DATA_AT + block as usize * BLOCK_BYTES..]));
            Block { held: Guarded::new(), words: [word(), word()] }
        };
        let places = lbas.iter().map(|lba| MAP_AT + *lba as usize * 4);
        Self {
            entries: places.map(|at| (at, entry(at))).collect(),
            blocks: lbas.iter().copied().chain(SECTORS..SECTORS + groups).map(|b| (b, block(b))).collect(),
            groups: (0..groups).map(|_| Guarded::new()).collect(),
            windows: Vec::new(),
            cpus: Mutex::default(),
            accesses: AtomicU32::new(0),
            state: Mutex::new(State {
                durable: image.clone(),
                visible: image,
                pending: Vec::new(),
                failing: None,
                lost: None,
                named: HashSet::new(),
            }),
        }
    }

    /// The same medium behind so many block windows.
    #[cfg(feature = "loom")]
    pub(crate) fn behind_windows(mut self, windows: u32) -> Self {
        let window = |_| Window { lock: checker::Mutex::new(()), used: Guarded::new() };
        self.windows = (0..windows).map(window).collect();
        self
    }

    /// This thread is that CPU from now on.
    pub(crate) fn set_cpu(&self, cpu: u32) {
        self.cpus.lock().expect("no panic").insert(thread::current().id(), cpu);
    }

    /// Uses this CPU's window, if there are any.
    fn use_window(&self) {
        if let Some(last) = self.windows.len().checked_sub(1) {
            let cpu = self.cpus.lock().expect("no panic").get(&thread::current().id()).copied().unwrap_or(0);
            let window = &self.windows[cpu as usize % (last + 1)];
            let _one = window.lock.lock();
            window.used.write();
        }
    }

    /// Streams a sector of which only the first bytes count.
    pub(crate) fn write_sector(&self, at: NsOffset, tag: u64) -> Result<(), MediaError> {
        self.write(at, &tag.to_le_bytes())
    }

    /// Those bytes, or [`TORN`]. `held`: no lane may write them meanwhile.
    pub(crate) fn read_sector(&self, at: NsOffset, held: bool) -> Result<u64, MediaError> {
        if let Some(block) = self.block(&range(at, 8)?).filter(|_| held) {
            block.held.read();
        }
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The access with this number, counted from now among stores of words, write-backs and fences, fails.
    pub(crate) fn fail_once(&self, number: u32) {
        self.state().failing = Some(number);
    }

    /// From now on, no access fails.
    pub(crate) fn never_fail(&self) {
        self.state().failing = None;
    }

    /// This block has lost its bytes, until it is written.
    #[cfg(feature = "loom")]
    pub(crate) fn lose(&self, block: u32) {
        self.state().lost = Some(DATA_AT + block as usize * BLOCK_BYTES);
    }

    /// Whether a map entry has ever named a block with this content, or it is a sector's first.
    pub(crate) fn was_named(&self, tag: u64) -> bool {
        tag & 0xffff_ffff == 0 || self.state().named.contains(&tag)
    }

    /// What a load sees, on a medium of its own.
    pub(crate) fn visible(&self) -> Self {
        let image = self.state().visible.clone();
        self.copy(image)
    }

    /// What is durable for sure, on a medium of its own.
    pub(crate) fn durable(&self) -> Self {
        let image = self.state().durable.clone();
        self.copy(image)
    }

    fn copy(&self, image: Vec<u8>) -> Self {
        let groups = u32::try_from(self.groups.len()).expect("a few");
        let copy = Self::with(image, groups, &[]);
        copy.state().named.clone_from(&self.state().named);
        copy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// If this is a map entry's place, its durability is looked at or changed now.
    fn order(&self, at: usize) {
        if let Some(entry) = self.entries.get(&at) {
            entry.order.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may_fail(&self, at: NsOffset) -> Result<(), MediaError> {
        let failing = self.state().failing;
        // Counted only where it matters: the count makes every access a choice of the checker's.
        if failing.is_some() && failing == Some(self.accesses.fetch_add(1, Ordering::Relaxed)) {
            return Err(MediaError::Device { at, status: 1 });
        }
        Ok(())
    }

    /// The block that a range begins in, if the model knows it.
    fn block(&self, range: &Range<usize>) -> Option<&Block> {
        let in_data = (DATA_AT..MAP_AT).contains(&range.start);
        let block = in_data.then(|| u32::try_from((range.start - DATA_AT) / BLOCK_BYTES).expect("a few"))?;
        self.blocks.get(&block)
    }

    /// Tells the checker that flog groups in a range are copied.
    fn touch(&self, range: &Range<usize>, access: fn(&Guarded)) {
        for (group, guarded) in self.groups.iter().enumerate() {
            let at = FLOG_AT + group * 64;
            if range.start < at + 64 && at < range.end {
                access(guarded);
            }
        }
    }

    fn store(&self, range: Range<usize>, bytes: &[u8], streaming: bool) {
        if (FLOG_AT..BACKUP_AT).contains(&range.start) && range.start.is_multiple_of(16) {
            let lba = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
            self.order(MAP_AT + lba as usize * 4);
        }
        let mut state = self.state();
        state.judge(&range, bytes);
        state.visible[range.clone()].copy_from_slice(bytes);
        // Where a fence failed, the data of the write that it was for may still wait under newer ones: those win.
        state.pending.retain(|store| !(streaming && store.streaming && store.at == range.start));
        let (at, bytes, by) = (range.start, bytes.to_vec(), thread::current().id());
        state.pending.push(Pending { at, bytes, by, streaming, written_back_by: Vec::new() });
    }
}

impl State {
    fn waits(&self, range: &Range<usize>) -> bool {
        self.pending.iter().any(|store| store.lies_in(range))
    }

    fn slot(&self, at: usize) -> RawFlogSlot {
        RawFlogSlot::read_from_bytes(&self.visible[at..at + 16]).expect("16 bytes")
    }

    /// The rules at the top of this file.
    fn judge(&self, range: &Range<usize>, bytes: &[u8]) {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let entry = |lba: u32| MAP_AT + lba as usize * 4..MAP_AT + lba as usize * 4 + 4;
        let cpu = thread::current().id();
        match range.start {
            at if (FLOG_AT..BACKUP_AT).contains(&at) && at.is_multiple_of(16) => {
                let lba = word(0);
                assert!(!self.waits(&entry(lba)), "sector {lba}: a record is stored over a map change not yet durable");
                let last = self.slot(at ^ 16);
                let (lba, new) = (last.lba.get(), 3 << 30 | last.new_map.get());
                // Another CPU's store of the same word stands for a later record.
                let waits = |s: &Pending| s.by == cpu && s.lies_in(&entry(lba)) && s.bytes == new.to_le_bytes();
                assert!(
                    !self.pending.iter().any(waits),
                    "sector {lba}: its record goes before its map change is durable"
                );
            }
            at if (FLOG_AT..BACKUP_AT).contains(&at) => {
                let block = DATA_AT + word(0) as usize * BLOCK_BYTES;
                let own = |s: &Pending| s.by == cpu && s.lies_in(&(block..block + BLOCK_BYTES));
                assert!(!self.pending.iter().any(own), "a record commits before its data are durable");
            }
            at if (MAP_AT..FLOG_AT).contains(&at) => {
                let (lba, block) = ((at - MAP_AT) / 4, word(0) & !(3 << 30));
                let before = u32::from_le_bytes(self.visible[range.clone()].try_into().expect("4 bytes"));
                let premap = PremapAba(u32::try_from(lba).expect("a few"));
                if MapEntry::decode(before, premap).block().0 == block {
                    return;
                }
                let says_so = |slot: &RawFlogSlot| slot.lba.get() as usize == lba && slot.new_map.get() == block;
                let record =
                    (FLOG_AT..BACKUP_AT).step_by(16).find(|&at| says_so(&self.slot(at)) && !self.waits(&(at..at + 16)));
                assert!(record.is_some(), "sector {lba}: the map changes before its record is durable");
            }
            _ => {}
        }
    }
}

fn first_word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a sector"))
}

fn range(at: NsOffset, bytes: usize) -> Result<Range<usize>, MediaError> {
    let start = usize::try_from(at.0).expect("small");
    if at.0 + bytes as u64 > NAMESPACE_BYTES {
        return Err(MediaError::OutOfRange { at, bytes: bytes as u64 });
    }
    Ok(start..start + bytes)
}

impl Medium for ModelMedium {
    fn len_bytes(&self) -> u64 {
        NAMESPACE_BYTES
    }

    fn read_only(&self) -> bool {
        false
    }

    fn keeps_line_order(&self) -> bool {
        self.windows.is_empty()
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.use_window();
        let range = range(at, into.len())?;
        self.touch(&range, Guarded::read);
        into.fill(0);
        if self.state().lost == Some(range.start) {
            return Err(MediaError::Poisoned { at });
        }
        if let Some(bytes) = self.state().visible.get(range.clone()) {
            into.copy_from_slice(bytes);
        }
        if let (Some(block), Some(first)) = (self.block(&range), into.first_chunk_mut()) {
            let [one, other] = block.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            *first = if one == other { one } else { TORN }.to_le_bytes();
        }
        Ok(())
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.use_window();
        let range = range(at, from.len())?;
        self.touch(&range, Guarded::write);
        if let Some(block) = self.block(&range) {
            block.held.write();
            block.words.iter().for_each(|word| word.store(first_word(from), Ordering::Relaxed));
        }
        self.state().lost.take_if(|lost| *lost == range.start);
        self.store(range, from, true);
        Ok(())
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.use_window();
        let range = range(at, 4)?;
        match self.entries.get(&range.start) {
            Some(entry) => Ok(entry.word.load(Ordering::Acquire)),
            None => Ok(u32::from_le_bytes(self.state().visible[range].try_into().expect("4 bytes"))),
        }
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.use_window();
        let range = range(at, 8)?;
        self.touch(&range, Guarded::read);
        Ok(u64::from_le_bytes(self.state().visible[range].try_into().expect("8 bytes")))
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.use_window();
        let range = range(at, 4)?;
        self.may_fail(at)?;
        let entry = self.entries.get(&range.start);
        let block = DATA_AT + (value & !(3 << 30)) as usize * BLOCK_BYTES;
        let mut state = self.state();
        let content = first_word(&state.visible[block..]);
        state.named.insert(content);
        drop(state);
        self.store(range, &value.to_le_bytes(), false);
        if let Some(entry) = entry {
            entry.word.store(value, Ordering::Release);
        }
        Ok(())
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.use_window();
        let range = range(at, 8)?;
        self.may_fail(at)?;
        self.touch(&range, Guarded::write);
        self.store(range, &value.to_le_bytes(), false);
        Ok(())
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.may_fail(at)?;
        let line = |at: u64| at / LINE_BYTES;
        let lines = line(at.0)..=line(at.0 + bytes - 1);
        let cpu = thread::current().id();
        for store in self.state().pending.iter_mut().filter(|store| lines.contains(&line(store.at as u64))) {
            store.written_back_by.push(cpu);
        }
        Ok(())
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        self.may_fail(NsOffset(0))?;
        let cpu = thread::current().id();
        let covers = |store: &Pending| store.streaming && store.by == cpu || store.written_back_by.contains(&cpu);
        let covered: Vec<usize> = self.state().pending.iter().filter(|store| covers(store)).map(|s| s.at).collect();
        for at in covered {
            self.order(at);
        }
        let mut state = self.state();
        let State { durable, pending, .. } = &mut *state;
        pending.retain(|store| {
            if covers(store) {
                durable[store.at..][..store.bytes.len()].copy_from_slice(&store.bytes);
            }
            !covers(store)
        });
        Ok(())
    }
}
