//! What a consumer writes to a disk: several threads, each in a part of its own, one run after the other, stamped as
//! `bench` stamps its sectors.
//!
//! A thread begins no run before the last one has been acknowledged to it, and then notes that version in a file that
//! outlives the cut: so it is known which writes were acknowledged, as the consumer saw it. It reads, too, and knows what.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;

use clap::Args;
use nix::fcntl::OFlag;
use service::lba::Lba;
use service::pattern::{Choices, Tag, Verdict, fill, verify};

use super::history::{self, Load};
use super::reader::ArenaContents;
use crate::linux::direct::Buffer;

/// A load on a disk.
#[derive(Args, Clone, Copy, Debug)]
pub struct Stamps {
    /// Chooses what is written, and where.
    #[arg(long)]
    pub seed: u64,
    /// How many threads write.
    #[arg(long)]
    pub threads: u32,
    /// Sectors of a run.
    #[arg(long)]
    pub run: u32,
    /// How many of a hundred runs write.
    #[arg(long)]
    pub mix: u64,
}

/// A line of the file with what was acknowledged: a number, and where it ends.
const LINE: usize = 21;

impl Stamps {
    /// The arguments that mean the same.
    #[must_use]
    pub fn arguments(&self) -> String {
        let Self { seed, threads, run, mix } = self;
        format!("--seed {seed} --threads {threads} --run {run} --mix {mix}")
    }

    fn load(&self, thread: u32) -> Load {
        // No other thread's sectors look like its own.
        let seed = self.seed << 8 | u64::from(thread);
        Load { seed, write_percent: self.mix, run: self.run }
    }

    fn part(&self, thread: u32, sectors: u32) -> Range<u32> {
        let part = sectors / self.threads;
        thread * part..(thread + 1) * part
    }

    /// Writes to a disk with sectors of so many bytes until there is a file `stop`. `acknowledged` gets a line for each
    /// thread.
    ///
    /// # Errors
    /// The disk's error, or what it read that was not written.
    pub fn write(&self, disk: &Path, sector: usize, acknowledged: &Path, stop: &Path) -> io::Result<()> {
        let disk = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_DIRECT.bits()).open(disk)?;
        let sectors = io::Seek::seek(&mut &disk, io::SeekFrom::End(0))? / sector as u64;
        let sectors = u32::try_from(sectors).map_err(io::Error::other)?;
        let noted = &File::create(acknowledged)?;
        noted.write_all_at(line(0).repeat(self.threads as usize).as_bytes(), 0)?;
        let disk = &disk;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let (part, load) = (self.part(thread, sectors), self.load(thread));
                    let at = u64::from(thread) * LINE as u64;
                    let note = move |version| noted.write_all_at(line(version).as_bytes(), at);
                    scope.spawn(move || write_part(disk, sector, part, load, note, || stop.exists()))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a thread does not panic"))
        })
    }

    /// The content of the file of [`Stamps::write`]: the last version that each thread saw acknowledged.
    ///
    /// # Panics
    /// If it is another file.
    #[must_use]
    pub fn acknowledged(text: &str) -> Vec<u64> {
        text.lines().map(|line| line.trim().parse().expect("a version")).collect()
    }

    /// Holds an image's sectors against what was written and `acknowledged`. How many runs were written.
    ///
    /// # Errors
    /// The first sector that is not as it must be.
    pub fn judge(&self, found: &ArenaContents, image: &[u8], acknowledged: &[u64]) -> Result<u64, String> {
        let mut written = 0;
        for (thread, &acknowledged) in (0..).zip(acknowledged) {
            let part = self.part(thread, found.sectors);
            let last = history::judge(self.load(thread), 1, part, acknowledged, |lba| found.sector(image, lba))?;
            if last > acknowledged + 1 {
                return Err(format!(
                    "thread {thread} has written version {last} while {acknowledged} was not acknowledged"
                ));
            }
            written += last;
        }
        Ok(written)
    }
}

fn line(version: u64) -> String {
    format!("{version:0width$}\n", width = LINE - 1)
}

/// One thread's share.
fn write_part(
    disk: &File,
    sector: usize,
    part: Range<u32>,
    load: Load,
    note: impl Fn(u64) -> io::Result<()>,
    over: impl Fn() -> bool,
) -> io::Result<()> {
    let mut choices = Choices::new(load.seed, 0);
    let mut buffer = Buffer::new(sector * load.run as usize);
    let mut there = BTreeMap::new();
    let mut version = 0;
    while !over() {
        let lba = u64::from(part.start) + choices.below((part.end - part.start - load.run + 1).into());
        let is_write = choices.below(100) < load.write_percent;
        if is_write {
            version += 1;
            for (sector, lba) in buffer.bytes().chunks_exact_mut(sector).zip(lba..) {
                fill(sector, Tag { lba: Lba(lba), version, seed: load.seed });
                there.insert(lba, version);
            }
            disk.write_all_at(buffer.bytes(), lba * sector as u64)?;
            note(version)?;
        } else {
            disk.read_exact_at(buffer.bytes(), lba * sector as u64)?;
            for (sector, lba) in buffer.bytes().chunks_exact(sector).zip(lba..) {
                let written = |version| Verdict::Whole(Tag { lba: Lba(lba), version, seed: load.seed });
                let expected = there.get(&lba).map_or(Verdict::Blank, |version| written(*version));
                let found = verify(sector);
                if found != expected {
                    return Err(io::Error::other(format!("sector {lba} is {found:?}, not {expected:?}")));
                }
            }
        }
    }
    Ok(())
}
