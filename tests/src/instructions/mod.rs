//! What the machine really executes when the BTT runs on `drivers::pmem`: traced one instruction at a time, and held
//! against what [`btt::sim`] records of the same operation.
//!
//! | module | one thing |
//! |---|---|
//! | [`decode`] | which instructions store, write back or fence |
//! | [`step`] | a child process, one instruction after the other |
//! | [`image`] | which instructions the functions of an image hold |
//! | [`epoch`] | what is durable at each fence, in a form in which two traces compare |

pub mod decode;
pub mod epoch;
pub mod image;
pub mod step;

use std::cell::RefCell;

use btt::bytes::Sectors;
use btt::commit::Writes;
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::layout::PAGE_BYTES;
use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset, SectorSource};
use btt::sim::{Event, Persistence, Sim};
use btt::{Btt, CpuIndex, ExternalLba};
use uuid::Uuid;

use crate::explorer::small::{BYTES, PLACEMENT, Small, content};

/// Where the medium is mapped in the traced process.
pub const BASE: usize = 0x6000_0000_0000;
/// Where in the file the flush hint is, if there is one: in its last line, which the medium leaves to it.
pub const HINT: u64 = BYTES - LINE_BYTES;
/// How many sectors a run has: as many as there are free blocks.
pub const RUN: u64 = 4;
/// How many sectors two runs have.
pub const RUNS: u64 = 6;
/// Which sectors a scattered commit writes, in this order.
pub const SCATTERED: [u64; 3] = [5, 0, 3];
/// The content of the first sector that is written.
pub const TAG: u64 = 0xABCD_0001;

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One sector, and its map entry drained.
    Write,
    /// A run of sectors, and its map entries drained.
    Run,
    /// A write of more sectors than a run takes, and its map entries drained.
    Runs,
    /// A commit of scattered sectors, and their map entries drained.
    Scatter,
    /// Opening what a cut left.
    Recover,
    /// Making a BTT.
    Create,
    /// A write-back of several lines, from within the first to within the last, and a fence.
    Lines,
    /// A store that is made durable, in a region with a flush hint.
    Hint,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Write, Self::Run, Self::Runs, Self::Scatter, Self::Recover, Self::Create, Self::Lines, Self::Hint];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Run => "run",
            Self::Runs => "runs",
            Self::Scatter => "scatter",
            Self::Recover => "recover",
            Self::Create => "create",
            Self::Lines => "lines",
            Self::Hint => "hint",
        }
    }

    /// The operation of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// The BTT before it.
    #[must_use]
    pub const fn small(self) -> Small {
        Small { sectors: 6, nfree: 4, persistence: Persistence::Lines, interrupted: matches!(self, Self::Recover) }
    }

    /// The first bytes of the medium before it; zeroes follow.
    #[must_use]
    pub fn start(self) -> Vec<u8> {
        if self == Self::Create { Vec::new() } else { self.small().make().bytes().to_vec() }
    }

    /// Does it, and calls `border` just before and just after.
    ///
    /// # Panics
    /// If it fails.
    pub fn perform<N: Medium>(self, media: &N, border: impl Fn()) {
        match self {
            Self::Create => {
                border();
                let result = format(media, &format_options(), &mut |_, _| ());
                border();
                result.expect("a blank medium");
            }
            Self::Recover => {
                border();
                let result = Btt::open(media, PLACEMENT, 1);
                border();
                assert!(result.expect("a sound BTT").recovered_writes() > 0, "there was something to recover");
            }
            Self::Write | Self::Run | Self::Runs => {
                let btt = Btt::open(media, PLACEMENT, 1).expect("a sound BTT");
                let count = match self {
                    Self::Run => RUN,
                    Self::Runs => RUNS,
                    _ => 1,
                };
                let bytes: Vec<u8> = (0..count).flat_map(|index| content(TAG + index)).collect();
                let source = Sectors::new(&bytes, btt.sector_size()).expect("whole sectors");
                border();
                let written = btt.lane(CpuIndex(0)).write(ExternalLba(0), count, &source);
                let result = written.and_then(|()| btt.drain());
                border();
                result.expect("a sound medium");
            }
            Self::Scatter => {
                let btt = Btt::open(media, PLACEMENT, 1).expect("a sound BTT");
                border();
                let written = btt.lane(CpuIndex(0)).commit(&Scattered, 0);
                let result = written.and_then(|count| btt.drain().map(|()| count));
                border();
                assert_eq!(result, Ok(SCATTERED.len()), "a sound medium");
            }
            Self::Lines => {
                let line = |number: u64| NsOffset(PAGE_BYTES + number * LINE_BYTES);
                border();
                let stored = (0..4).try_for_each(|number| media.store_u64(line(number), TAG + number));
                // The fourth line stays where it is.
                let begun = stored.and_then(|()| media.start_write_back(line(0).plus(60), LINE_BYTES + 5));
                let result = begun.and_then(|()| media.fence());
                border();
                result.expect("within the medium");
            }
            Self::Hint => {
                border();
                let stored = media.store_u64(NsOffset(0), TAG);
                let begun = stored.and_then(|()| media.start_write_back(NsOffset(0), LINE_BYTES));
                let result = begun.and_then(|()| media.fence());
                border();
                result.expect("within the medium");
            }
        }
    }

    /// What the simulated medium records of it.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn simulated(self) -> Vec<Event> {
        let sim = Sim::from_start(self.start(), BYTES);
        let events = RefCell::default();
        self.perform(&sim, || {
            events.replace(sim.recorded());
            sim.record();
        });
        events.into_inner()
    }
}

/// The writes of [`Operation::Scatter`].
struct Scattered;

impl<N: Medium> SectorSource<N> for Scattered {
    fn store(&self, index: usize, media: &N, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, &content(TAG + index as u64))
    }
}

impl<N: Medium> Writes<N> for Scattered {
    fn count(&self) -> usize {
        SCATTERED.len()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        ExternalLba(SCATTERED[index])
    }
}

/// What [`Operation::Create`] makes.
///
/// # Panics
/// Never: the size is known.
#[must_use]
pub fn format_options() -> FormatOptions {
    FormatOptions {
        sector_size: SectorSize::new(4096).expect("a known size"),
        uuid: Uuid::from_u128(0x7ace),
        parent_uuid: Uuid::nil(),
        version: PLACEMENT.version,
        zero_data: false,
        zero_entries: false,
    }
}
