//! Writes of scattered sectors that share one commit: its two fences serve all of them.
//!
//! A commit takes a run from the front of a list of writes, of any sectors in any order. The run ends
//!
//! | before | because |
//! |---|---|
//! | a sector of another arena | a run uses the free blocks of one |
//! | a sector that is in it already | two records would free one block: the map entry that both replace names one |
//! | a second map line on a stripe | a stripe remembers one line whose change may not be durable |
//! | more than [`RUN_MAX`] sectors, or than the lane has free blocks | |
//! | data that the source or the medium refuse | then the next commit begins with that sector, and its error is that one's |
//!
//! So what is durable is a prefix of the list, and each sector has an outcome of its own. A run of sectors that follow
//! one another ([`LaneGuard::write`]) is the same thing with its stripes known beforehand: what a cut may leave is in
//! `write`.

use crate::error::BttError;
use crate::guard::LaneGuard;
use crate::map::{MapGuard, MapLine, MapLocks, STRIPES_MOST_HUGE};
use crate::media::{Medium, SectorSource};
use crate::units::{ExternalLba, PremapAba, RUN_MAX};
use crate::write::Run;

/// Writes of one sector each, in order: data `index` of the source are those of write `index`.
pub trait Writes<M: ?Sized>: SectorSource<M> {
    /// How many there are.
    fn count(&self) -> usize;

    /// Which sector write `index` is of.
    fn lba(&self, index: usize) -> ExternalLba;
}

impl<M: Medium> LaneGuard<'_, M> {
    /// Commits as many writes, from number `from` on, as one commit takes, and returns how many these are: at least one.
    /// They are durable when it returns. Each sector is wholly old or new whenever the power goes.
    ///
    /// # Errors
    /// The fault of write `from`: [`BttError::OutOfRange`] or [`BttError::Data`], and nothing has been written. Or
    /// [`BttError::ReadOnly`]: its arena takes no writes, and of the writes from there on, those that this commit would
    /// have taken may have been done or not. They are all of that arena, so that each of them will get this error.
    ///
    /// # Panics
    /// If there is no write `from`.
    pub fn commit(&mut self, writes: &(impl Writes<M> + ?Sized), from: usize) -> Result<usize, BttError> {
        let count = writes.count();
        assert!(from < count, "there is no write {from} of {count}");
        let btt = self.btt;
        btt.check_range(writes.lba(from), 1)?;
        let (arena, first) = btt.locate(writes.lba(from));
        let mut run = Scattered::new();
        run.take(&arena.locks, first);
        for index in (from + 1..count).take(self.run_most(arena) as usize - 1) {
            match arena.premap(writes.lba(index)) {
                Some(premap) if run.take(&arena.locks, premap) => {}
                _ => break,
            }
        }
        let done = self.commit_run(arena, &run, run.count, from as u64, writes, |_| true)?;
        Ok(done as usize)
    }

    /// Commits the writes of several requests, one after the other, of as many sectors as `counts` has. Commits are shared:
    /// `done` gets what became of each request, in order, when all its sectors are durable. The rest of one that fails is left
    /// out; those after it have their own fate.
    pub fn commit_each(
        &mut self,
        writes: &(impl Writes<M> + ?Sized),
        counts: impl Iterator<Item = usize>,
        mut done: impl FnMut(&mut Self, Result<(), BttError>),
    ) {
        // Of the writes, as many as are durable.
        let (mut written, mut end) = (0, 0);
        for count in counts {
            end += count;
            let mut result = Ok(());
            while written < end && result.is_ok() {
                match self.commit(writes, written) {
                    Ok(more) => written += more,
                    Err(why) => (written, result) = (end, Err(why)),
                }
            }
            done(self, result);
        }
    }
}

/// Sectors in any order.
struct Scattered {
    /// In the order in which they are written.
    premaps: [PremapAba; RUN_MAX],
    /// The numbers of those, in ascending order of their stripes.
    by_stripe: [Place; RUN_MAX],
    count: u32,
}

#[derive(Clone, Copy)]
struct Place {
    stripe: u16,
    index: u16,
}
const _: () = assert!(STRIPES_MOST_HUGE <= 1 << 16 && RUN_MAX <= 1 << 16);

impl Scattered {
    fn new() -> Self {
        let none = Place { stripe: 0, index: 0 };
        Self { premaps: [PremapAba(0); RUN_MAX], by_stripe: [none; RUN_MAX], count: 0 }
    }

    /// Adds a sector to a run that is not full, unless the run ends before it.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // both are below, see `Place`
    fn take(&mut self, locks: &MapLocks, premap: PremapAba) -> bool {
        let (line, count) = (MapLine::of(premap), self.count as usize);
        let stripe = locks.stripe_of(line) as u16;
        for same in self.by_stripe[..count].iter().filter(|place| place.stripe == stripe) {
            let other = self.premaps[usize::from(same.index)];
            if other == premap || MapLine::of(other) != line {
                return false;
            }
        }
        let mut at = count;
        while at > 0 && self.by_stripe[at - 1].stripe > stripe {
            self.by_stripe[at] = self.by_stripe[at - 1];
            at -= 1;
        }
        self.by_stripe[at] = Place { stripe, index: self.count as u16 };
        self.premaps[count] = premap;
        self.count += 1;
        true
    }
}

impl Run<RUN_MAX, RUN_MAX> for Scattered {
    fn premap(&self, index: usize) -> PremapAba {
        self.premaps[index]
    }

    fn lock<'a>(&self, locks: &'a MapLocks, count: u32, guard: &mut MapGuard<'a, RUN_MAX>) {
        let places = self.by_stripe[..self.count as usize].iter().filter(|place| u32::from(place.index) < count);
        let mut last = None;
        // Sectors of one stripe are of one line.
        let first_of_each = places.filter(move |place| last.replace(place.stripe) != Some(place.stripe));
        guard.lock_lines(locks, first_of_each.map(|place| MapLine::of(self.premaps[usize::from(place.index)])));
    }
}
