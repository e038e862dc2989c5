//! A reader holds nothing and keeps only what is whole: when a sector is written meanwhile, it reads again, and after a
//! few times it keeps writers off the blocks that it copies.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use btt::media::{MediaError, Medium, NsOffset, SectorSink};
use btt::sim::Sim;
use btt::{Btt, BttError, CpuIndex, ExternalLba};

use common::*;

/// Room for sectors of 512 bytes that does something before it copies one: it gets the number of the copy, from 0.
struct Slow<F> {
    copies: u32,
    before: F,
    bytes: Vec<u8>,
}

impl<F: FnMut(u32)> Slow<F> {
    fn new(sectors: usize, before: F) -> Self {
        Self { copies: 0, before, bytes: vec![0; 512 * sectors] }
    }
}

impl<M: Medium, F: FnMut(u32)> SectorSink<M> for Slow<F> {
    fn load(&mut self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        (self.before)(self.copies);
        self.copies += 1;
        media.read(at, &mut self.bytes[index * 512..][..512])
    }

    fn zero(&mut self, _: usize) {
        unreachable!("no entry is trimmed");
    }
}

#[test]
fn a_reader_whose_block_is_given_away_while_it_copies_reads_again() {
    for sectors in [1, 3] {
        let btt = open(made(512), 2);
        // The last of three lies in another map line.
        write(&btt, 0, 14, &[1; 3]).expect("in range");
        let mut sink = Slow::new(sectors, |copy| {
            if copy + 1 == u32::try_from(sectors).expect("a few") {
                // The first write frees the block, the second one stores into it.
                let last = 14 + sectors as u64 - 1;
                write(&btt, 1, last, &[2]).expect("nobody is in the way");
                write(&btt, 1, 48, &[3]).expect("nobody is in the way");
            }
        });
        let mut reader = btt.reader(CpuIndex(0));
        reader.read(ExternalLba(14), sectors as u64, &mut sink).expect("in range");
        let tags: Vec<u64> = (0..sectors).map(|index| if index + 1 == sectors { 2 } else { 1 }).collect();
        assert_eq!(sink.bytes, tags.into_iter().flat_map(|tag| content(512, tag)).collect::<Vec<u8>>());
        let counters = reader.take_counters();
        assert_eq!((counters.read_retries, counters.sectors_read), (1, sectors as u64));
        assert_eq!(btt.counters().sectors_read, 0, "no lane was taken");
    }
}

#[test]
fn a_writer_that_changes_only_other_stripes_disturbs_no_reader() {
    let btt = open(made(512), 2);
    write(&btt, 0, 5, &[1]).expect("in range");
    let mut sink = Slow::new(1, |_| write(&btt, 1, 16, &[2]).expect("nobody is in the way"));
    let mut reader = btt.reader(CpuIndex(0));
    reader.read(ExternalLba(5), 1, &mut sink).expect("in range");
    assert_eq!((sink.bytes.clone(), reader.take_counters().read_retries), (content(512, 1), 0));
}

#[test]
fn a_reader_that_is_disturbed_again_and_again_keeps_writers_off_its_block() {
    let btt = open(made(512), 2);
    write(&btt, 0, 5, &[1]).expect("in range");
    let (started, start) = channel();
    let (last, done) = (AtomicU32::new(1), AtomicBool::new(false));
    let (device, is_done) = (&btt, &done);
    let disturb = |tag: u32| {
        last.store(tag, Ordering::SeqCst);
        write(&btt, 1, 5, &[u64::from(tag)]).expect("in range");
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            start.recv().expect("the reader says so");
            // The first write frees the block that is being read, the second one would store into it.
            write(device, 1, 5, &[90]).expect("in range");
            write(device, 1, 9, &[91]).expect("in range");
            is_done.store(true, Ordering::SeqCst);
        });
        // Dropped, whatever becomes of the read: the writer does not wait for ever.
        let started = started;
        let mut sink = Slow::new(1, |copy| {
            if copy < 4 {
                return disturb(copy + 2);
            }
            assert_eq!(copy, 4, "the slow path ends at once");
            started.send(()).expect("the writer waits for it");
            std::thread::sleep(Duration::from_millis(100));
            assert!(!done.load(Ordering::SeqCst), "the writer took a block that is being read");
        });
        let mut reader = btt.reader(CpuIndex(0));
        reader.read(ExternalLba(5), 1, &mut sink).expect("in range");
        assert_eq!(sink.bytes, content(512, u64::from(last.load(Ordering::SeqCst))));
        assert_eq!(reader.take_counters().read_retries, 4, "each of the four tries was in vain");
    });
    assert!(done.into_inner());
    assert_eq!((read(&btt, 0, 5), read(&btt, 0, 9)), (Ok(90), Ok(91)));
}

type Once = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A medium on which something happens once: after the next load of a map entry, or before the next store of one.
struct Busy {
    sim: Sim,
    after_load: Once,
    before_store: Once,
    btt: OnceLock<Btt<&'static Self>>,
}

fn happen(once: &Once) {
    let what = once.lock().expect("no panic").take();
    if let Some(what) = what {
        what();
    }
}

impl Medium for &'static Busy {
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        let word = self.sim.load_u32(at)?;
        happen(&self.after_load);
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
        happen(&self.before_store);
        self.sim.store_u32(at, value)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.sim.store_u64(at, value)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.sim.start_write_back(at, bytes)
    }
    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.sim.look_again(at, bytes)
    }
    fn order_stores(&self) {
        self.sim.order_stores();
    }
    fn fence(&self) -> Result<(), MediaError> {
        self.sim.fence()
    }
}

/// A device on such a medium, with sector 5 written.
fn busy() -> &'static Busy {
    let (after_load, before_store) = (Mutex::default(), Mutex::default());
    let busy: &'static Busy =
        Box::leak(Box::new(Busy { sim: made(512), after_load, before_store, btt: OnceLock::new() }));
    write(busy.btt(), 0, 5, &[1]).expect("in range");
    busy
}

impl Busy {
    fn btt(&'static self) -> &'static Btt<&'static Self> {
        self.btt.get_or_init(|| open(self, 2))
    }
}

#[test]
fn a_reader_whose_block_was_given_away_before_it_copies_reads_the_new_one() {
    let busy = busy();
    *busy.after_load.lock().expect("no panic") = Some(Box::new(|| {
        // The reader has the word, and has not copied the block yet.
        write(busy.btt(), 1, 5, &[2]).expect("in range");
        write(busy.btt(), 1, 9, &[3]).expect("in range");
    }));
    let mut reader = busy.btt().reader(CpuIndex(0));
    let mut sink = Slow::new(1, |_| ());
    reader.read(ExternalLba(5), 1, &mut sink).expect("in range");
    assert_eq!((sink.bytes.clone(), reader.take_counters().read_retries), (content(512, 2), 1));
}

#[test]
fn an_error_is_believed_only_if_it_still_stands() {
    let busy = busy();
    busy.btt().lane(CpuIndex(0)).mark_errors(ExternalLba(5), 1).expect("in range");
    assert_eq!(read(busy.btt(), 0, 5), Err(BttError::SectorError { lba: ExternalLba(5) }));
    *busy.after_load.lock().expect("no panic") =
        Some(Box::new(|| write(busy.btt(), 1, 5, &[2]).expect("a write clears it")));
    assert_eq!(read(busy.btt(), 0, 5), Ok(2));
    // Nor are the sectors before it.
    busy.btt().lane(CpuIndex(0)).mark_errors(ExternalLba(6), 1).expect("in range");
    let mut sink = Slow::new(2, |copy| {
        if copy == 0 {
            write(busy.btt(), 1, 5, &[4]).expect("in range");
            write(busy.btt(), 1, 9, &[3]).expect("in range");
        }
    });
    let why = busy.btt().reader(CpuIndex(0)).read(ExternalLba(5), 2, &mut sink);
    assert_eq!(why, Err(BttError::SectorError { lba: ExternalLba(6) }));
    assert_eq!(sink.bytes[..512], content(512, 4));
}

/// The version is counted up after the entry has changed. The other way round, a reader that comes between would have the
/// new version with the old block, and keep what is written into that later.
#[test]
fn a_reader_that_comes_just_before_the_map_changes_keeps_nothing_of_its_blocks_next_life() {
    let busy = busy();
    let ((copying, is_copying), (go_on, may_go_on)) = (channel(), channel());
    let reader = Mutex::new(None);
    let reader: &'static Mutex<Option<std::thread::JoinHandle<_>>> = Box::leak(Box::new(reader));
    *busy.before_store.lock().expect("no panic") = Some(Box::new(move || {
        *reader.lock().expect("no panic") = Some(std::thread::spawn(move || {
            let mut sink = Slow::new(1, |copy| {
                if copy == 0 {
                    copying.send(()).expect("the writer waits for it");
                    may_go_on.recv().expect("the writer says so");
                }
            });
            busy.btt().reader(CpuIndex(0)).read(ExternalLba(5), 1, &mut sink).map(|()| sink.bytes)
        }));
        is_copying.recv().expect("the reader has the old entry");
    }));
    write(busy.btt(), 1, 5, &[2]).expect("in range");
    // Of another stripe: its own version says nothing of sector 5.
    write(busy.btt(), 1, 48, &[3]).expect("into the block that was freed");
    go_on.send(()).expect("the reader waits for it");
    let reader = reader.lock().expect("no panic").take().expect("it was started");
    assert_eq!(reader.join().expect("no panic"), Ok(content(512, 2)));
}
