//! A reader's block is not written while it reads, and a reader that comes late tries again.

mod common;

use btt::media::{MediaError, Medium, NsOffset, SectorSink};
use btt::sim::Sim;
use btt::{Btt, CpuIndex, ExternalLba};
use common::*;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// A sink that reports when it is about to copy, and copies slowly.
struct Slow<'a> {
    started: Sender<()>,
    writer_is_done: &'a AtomicBool,
    bytes: Vec<u8>,
}

impl<M: Medium> SectorSink<M> for Slow<'_> {
    fn load(&mut self, _: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        self.started.send(()).expect("the writer waits for it");
        std::thread::sleep(Duration::from_millis(100));
        assert!(!self.writer_is_done.load(Ordering::SeqCst), "the writer took a block that is being read");
        media.read(at, &mut self.bytes)
    }

    fn zero(&mut self, _: usize) {
        unreachable!("no entry is trimmed");
    }
}

#[test]
fn a_writer_waits_for_the_reader_of_its_free_block() {
    let btt = open(made(512), 2);
    write(&btt, 0, 5, &[1]).expect("in range");
    let (started, start) = channel();
    let done = AtomicBool::new(false);
    let (device, is_done) = (&btt, &done);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            start.recv().expect("the reader says so");
            // The first write frees the block that is being read, the second one would store into it.
            write(device, 1, 5, &[2]).expect("in range");
            write(device, 1, 9, &[3]).expect("in range");
            is_done.store(true, Ordering::SeqCst);
        });
        let mut sink = Slow { started, writer_is_done: &done, bytes: vec![0; 512] };
        btt.lane(CpuIndex(0)).read(ExternalLba(5), 1, &mut sink).expect("in range");
        assert_eq!(sink.bytes, content(512, 1));
    });
    assert!(done.into_inner());
}

/// A medium on which another CPU writes two sectors at the n-th load of a map entry.
struct Busy {
    sim: Sim,
    loads_left: AtomicU32,
    other: std::sync::OnceLock<Btt<&'static Self>>,
}

impl Medium for &'static Busy {
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        let word = self.sim.load_u32(at)?;
        if self.loads_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) == Ok(1) {
            // The reader has this word, and has not published the block yet.
            let btt = self.other.get().expect("set before it counts");
            write(btt, 1, 5, &[2]).expect("in range");
            write(btt, 1, 9, &[3]).expect("in range");
        }
        Ok(word)
    }
    fn len_bytes(&self) -> u64 {
        self.sim.len_bytes()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn keeps_line_order(&self) -> bool {
        true
    }
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.sim.read(at, into)
    }
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.sim.write(at, from)
    }
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.sim.load_u64(at)
    }
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.sim.store_u32(at, value)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.sim.store_u64(at, value)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.sim.start_write_back(at, bytes)
    }
    fn fence(&self) -> Result<(), MediaError> {
        self.sim.fence()
    }
}

#[test]
fn a_reader_whose_block_was_given_away_reads_the_new_one() {
    let busy: &Busy =
        Box::leak(Box::new(Busy { sim: made(512), loads_left: AtomicU32::new(0), other: std::sync::OnceLock::new() }));
    write(&open(&busy.sim, 2), 0, 5, &[1]).expect("in range");
    let btt = busy.other.get_or_init(|| open(busy, 2));
    busy.loads_left.store(1, Ordering::SeqCst);
    assert_eq!(read(btt, 0, 5), Ok(2));
    assert_eq!(btt.counters().read_retries, 1);
}
