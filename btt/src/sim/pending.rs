//! What is stored and not durable yet, and what of it a power cut may keep: the model of [`crate::media`].

use alloc::vec;
use alloc::vec::Vec;

use crate::media::LINE_BYTES;

/// The unit that never tears.
pub const PIECE_BYTES: u64 = 8;

/// One aligned piece of at most 8 bytes that may or may not be on the medium.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    at: u64,
    bytes: [u8; 8],
    len: u8,
    streaming: bool,
    /// The CPU whose fence makes a streamed store durable.
    cpu: u32,
    /// The CPUs that started to write the store's line back after it.
    written_back: u64,
    /// A fence that was to cover it has failed: no later one does.
    abandoned: bool,
}

impl Store {
    /// Where it begins.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// What it stores.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it went past the caches.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Whether a fence of `cpu` makes it durable.
    const fn is_covered(&self, cpu: u32, persistence: Persistence) -> bool {
        let reached = if self.streaming { self.cpu == cpu } else { self.written_back & 1 << cpu != 0 };
        (reached || matches!(persistence, Persistence::Flushes)) && !self.abandoned
    }
}

/// When a medium's stores persist, as [`crate::media`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Persistent memory: stores to a line persist in order.
    Lines,
    /// A block data window: any piece may persist, in any order.
    Pieces,
    /// virtio-pmem: as [`Persistence::Pieces`] until a FLUSH, which each fence is. It covers what any CPU has stored, and
    /// write-backs count for nothing.
    Flushes,
}

impl Persistence {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lines, Self::Pieces, Self::Flushes];

    /// Whether it keeps the order of a line's stores ([`crate::media::Medium::keeps_line_order`]).
    #[must_use]
    pub const fn keeps_line_order(self) -> bool {
        matches!(self, Self::Lines)
    }
}

/// Stores of which a power cut keeps the first 0, 1, … or all, whatever it keeps of others: numbers in program order.
pub type Chain = Vec<usize>;

/// The stores that no fence has covered yet, in program order.
#[derive(Clone, Debug)]
pub struct Pending {
    stores: Vec<Store>,
    persistence: Persistence,
}

impl Pending {
    /// None, on a medium of this kind.
    #[must_use]
    pub const fn new(persistence: Persistence) -> Self {
        Self { stores: Vec::new(), persistence }
    }

    /// From now on the medium is of this kind.
    pub(super) const fn set_persistence(&mut self, persistence: Persistence) {
        self.persistence = persistence;
    }

    /// The stores, in program order.
    #[must_use]
    pub fn stores(&self) -> &[Store] {
        &self.stores
    }

    /// `cpu` stores, in aligned pieces, each of which lands or not as a whole.
    ///
    /// # Panics
    /// If `cpu` is not below 64.
    pub fn store(&mut self, cpu: u32, at: u64, value: &[u8], streaming: bool) {
        assert!(cpu < 64, "a CPU is a bit of a 64-bit set");
        let mut rest = value;
        let mut at = at;
        while !rest.is_empty() {
            let room = usize::try_from(PIECE_BYTES - at % PIECE_BYTES).expect("at most a piece");
            let (piece, after) = rest.split_at(room.min(rest.len()));
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            #[allow(clippy::cast_possible_truncation)] // at most 8
            let len = piece.len() as u8;
            self.stores.push(Store { at, bytes, len, streaming, cpu, written_back: 0, abandoned: false });
            at += piece.len() as u64;
            rest = after;
        }
    }

    /// `cpu` starts to write back the lines of a range: what any CPU has stored to them so far.
    pub fn write_back(&mut self, cpu: u32, at: u64, bytes: u64) {
        let lines = at / LINE_BYTES..=(at + bytes.max(1) - 1) / LINE_BYTES;
        for store in self.stores.iter_mut().filter(|s| lines.contains(&(s.at / LINE_BYTES))) {
            store.written_back |= 1 << cpu;
        }
    }

    /// `cpu` fences: gives what is durable now, in program order. A cached store whose line is written back takes the
    /// earlier stores of the line along, as the write-back has covered those too.
    pub fn fence(&mut self, cpu: u32, mut durable: impl FnMut(&Store)) {
        let persistence = self.persistence;
        self.stores.retain(|store| {
            let covered = store.is_covered(cpu, persistence);
            if covered {
                durable(store);
            }
            !covered
        });
    }

    /// A fence of `cpu` fails. What it was to cover may be lost from now on, whatever is fenced later.
    pub fn abandon(&mut self, cpu: u32) {
        let persistence = self.persistence;
        for store in self.stores.iter_mut().filter(|store| store.is_covered(cpu, persistence)) {
            store.abandoned = true;
        }
    }

    /// What a power cut chooses from: of each chain any prefix, independently. Chains come in the order of their first
    /// stores; what lands is applied in program order.
    #[must_use]
    pub fn chains(&self) -> Vec<Chain> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut lines: Vec<(u64, usize)> = Vec::new();
        for (number, store) in self.stores.iter().enumerate() {
            let line = store.at / LINE_BYTES;
            let is_ordered = self.persistence.keeps_line_order() && !store.streaming;
            let known = lines.iter().find(|(known, _)| *known == line).filter(|_| is_ordered);
            if let Some(&(_, chain)) = known {
                chains[chain].push(number);
            } else {
                if !store.streaming {
                    lines.push((line, chains.len()));
                }
                chains.push(vec![number]);
            }
        }
        chains
    }
}
