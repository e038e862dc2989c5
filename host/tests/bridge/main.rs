//! The bridge between an appliance and consumers that live in this process: every life and death, and bad input.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod appliance;
mod consumer;
mod isolation;
mod memory;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use host::bridge::state::{RELAYED_VECTORS, VECTORS};
use host::bridge::{Bridge, BridgeError, ExportSpec};
use host::journal::Journal;
use nix::fcntl::{FallocateFlags, fallocate};
use service::control::{DiskIndex, DiskOffer, ExportIndex, Outcome, QueueIndex, Report, Request};

use appliance::{FEATURES, FakeAppliance, Medium, SECTORS, disk, medium};
use consumer::{Consumer, appears, eventually};

const RAM: u64 = 4 << 20;
const IO_ERROR: u8 = 1;

/// A folder for a test's sockets and RAM files, the bridge in it, and its messages.
struct Place {
    folder: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
    bridge: Option<Bridge>,
    medium: Medium,
}

impl Place {
    fn new(hold: Duration) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("untorn-bridge-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut place = Self { folder, said: Arc::default(), bridge: None, medium: medium() };
        place.bridge = Some(place.open(&[place.spec("a")], hold).unwrap());
        place
    }

    /// One whose bridge has these disks.
    fn with(specs: impl Fn(&Self) -> Vec<ExportSpec>) -> Self {
        let mut place = Self::new(LONG);
        place.bridge = None;
        place.bridge = Some(place.open(&specs(&place), LONG).unwrap());
        place
    }

    /// The same, whose reader of messages does this before each.
    fn reading(specs: impl Fn(&Self) -> Vec<ExportSpec>, read: impl Fn(&str) + Send + 'static) -> Self {
        let mut place = Self::new(LONG);
        place.bridge = None;
        let said = Arc::clone(&place.said);
        let journal = Journal::new(move |words| {
            read(words);
            said.lock().unwrap().push(words.into());
        })
        .unwrap();
        place.bridge = Some(Bridge::new(&specs(&place), LONG, journal).unwrap());
        place
    }

    fn spec(&self, name: &str) -> ExportSpec {
        let (socket, ram) = (self.socket(name), self.ram(name));
        ExportSpec { socket, dev: None, ram, ram_bytes: RAM, trusted: false }
    }

    fn open(&self, specs: &[ExportSpec], hold: Duration) -> Result<Bridge, BridgeError> {
        let said = Arc::clone(&self.said);
        Bridge::new(specs, hold, Journal::new(move |words| said.lock().unwrap().push(words.into())).unwrap())
    }

    fn bridge(&self) -> &Bridge {
        self.bridge.as_ref().unwrap()
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn ram(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.ram"))
    }

    fn appliance(&self, boot: u64) -> FakeAppliance {
        FakeAppliance::start(self.bridge().machine().unwrap(), vec![disk(0, "pmem0s")], &self.medium, boot)
    }

    fn consumer(&self, queues: usize) -> Consumer {
        Consumer::realize(&self.socket("a"), &self.ram("a"), RAM, queues)
    }

    /// One that has set its queues up.
    fn running(&self, queues: usize) -> Consumer {
        let mut consumer = self.consumer(queues);
        consumer.start();
        consumer
    }

    #[track_caller]
    fn hears(&self, words: &str) {
        eventually(words, || self.said.lock().unwrap().iter().any(|line| line.contains(words)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the bridge said {:#?}", self.said.lock());
        }
        drop(self.bridge.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn the_socket_appears_once_the_capacity_is_known() {
    let place = Place::new(LONG);
    thread::sleep(Duration::from_millis(50));
    assert!(!place.socket("a").exists());
    let _appliance = place.appliance(1);
    let mut consumer = place.consumer(1);
    assert_eq!(consumer.capacity(), SECTORS);
}

#[test]
fn a_disk_that_is_not_offered_is_waited_for_and_told_with_those_that_are() {
    let place = Place::with(|place| vec![ExportSpec { dev: Some("pmem1s".into()), ..place.spec("a") }]);
    let appliance = place.appliance(1);
    place.hears("the appliance does not offer pmem1s yet: it offers pmem0s");
    appliance.report(&Report::Disk(disk(1, "pmem1s")));
    assert_eq!(place.consumer(1).capacity(), SECTORS);
    appliance.kill();
    let _appliance = FakeAppliance::start(place.bridge().machine().unwrap(), Vec::new(), &place.medium, 2);
    place.hears("the appliance does not offer pmem1s yet: it offers none");
}

#[test]
fn an_appliance_without_disks_is_told_of_once() {
    let place = Place::new(LONG);
    let _appliance = FakeAppliance::start(place.bridge().machine().unwrap(), Vec::new(), &place.medium, 1);
    place.hears("the appliance does not offer any disk yet");
    assert!(place.said.lock().unwrap().iter().all(|line| !line.contains("yet: ")));
}

#[test]
fn a_disk_is_served_once_what_has_taken_its_sockets_place_is_gone() {
    let place = Place::new(LONG);
    let other = UnixListener::bind(place.socket("a")).unwrap();
    let _appliance = place.appliance(1);
    place.hears("pmem0s is not served yet: somebody listens on");
    drop(other);
    place.hears("/a: pmem0s, 32768 bytes");
    assert_eq!(place.consumer(1).capacity(), SECTORS);
}

#[test]
fn requests_are_served_on_every_queue_and_interrupt_the_driver() {
    let place = Place::new(LONG);
    let _appliance = place.appliance(1);
    let mut consumer = place.running(4);
    for queue in 0..4 {
        let byte = u8::try_from(queue).unwrap() + 1;
        consumer.quiet(queue);
        assert_eq!(consumer.ask(queue, Some(byte), queue as u64), (0, byte));
        assert!(consumer.interrupted(queue));
        assert_eq!(consumer.ask((queue + 1) % 4, None, queue as u64), (0, byte));
    }
    assert_eq!(consumer.ask(0, None, SECTORS), (IO_ERROR, 0));
}

#[test]
fn a_driver_that_is_reset_gets_its_place_back_and_starts_anew() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(2);
    for boot in 1..4 {
        assert_eq!(consumer.ask(1, Some(boot), 3), (0, boot));
        assert_eq!(consumer.ask(1, None, 3), (0, boot));
        // Queue 0 was not used, as firmware would use it.
        assert_eq!((consumer.stop(0), consumer.stop(1)), (0, 2));
        assert_eq!(appliance.queues(), 0);
        consumer.start();
    }
}

#[test]
fn a_queue_is_touched_only_between_its_start_and_its_stop() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(2);
    eventually("both are started", || appliance.queues() == 2);
    // A reset with a request in flight: the rings are not read afterwards, whatever happens to them.
    appliance.idle.store(true, Ordering::SeqCst);
    consumer.submit(0, Some(6), 1);
    assert_eq!((consumer.stop(0), appliance.queues()), (0, 1));
    appliance.idle.store(false, Ordering::SeqCst);
    // A kick before the driver is ready.
    let disabled = consumer.kicks[0].try_clone().unwrap();
    disabled.write(1).unwrap();
    assert_eq!(consumer.ask(1, None, 1), (0, 0), "the request in flight was never done");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(consumer.used(0), 0);
    consumer.stop(1);
    consumer.start();
    assert_eq!(consumer.ask(0, Some(7), 1), (0, 7));
    assert_eq!(consumer.ask(1, None, 1), (0, 7));
}

#[test]
fn a_consumer_that_is_killed_is_replaced() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(7), 1), (0, 7));
    drop(consumer);
    let mut consumer = place.running(2);
    assert_eq!(consumer.ask(1, None, 1), (0, 7));
    // The first one's queue was stopped, and its memory taken away, before the second one's were started.
    let asked = appliance.asked();
    let stop = asked.iter().position(|request| matches!(request, Request::Stop { .. })).unwrap();
    assert!(matches!(asked[..stop], [Request::Attach(_), Request::Start(_)]), "{asked:?}");
    assert!(matches!(asked[stop + 1], Request::Detach { .. } | Request::Attach(_)), "{asked:?}");
}

#[test]
fn an_appliance_that_is_killed_goes_on_at_used_idx() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    for sector in 0..20 {
        assert_eq!(consumer.ask(0, Some(9), sector), (0, 9));
    }
    appliance.idle.store(true, Ordering::SeqCst);
    let slots: Vec<u16> = (0..4).map(|sector| consumer.submit(0, None, sector)).collect();
    appliance.kill();
    place.hears("the appliance is gone");
    let appliance = place.appliance(2);
    consumer.wait(0);
    for slot in slots {
        assert_eq!(consumer.answer(0, slot), (0, 9));
    }
    let asked = appliance.asked();
    assert!(matches!(asked[..], [Request::Attach(_), Request::Start(start)] if start.base == 20), "{asked:?}");
    assert!(consumer.interrupted(0));
}

#[test]
fn an_appliance_that_reboots_in_its_machine_is_given_everything_again() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(5), 0), (0, 5));
    // It has started anew: a Hello of another boot, and nothing is held any more.
    appliance.report(&Report::Hello { boot: 2, disks: 1 });
    eventually("it is attached again", || {
        appliance.asked().iter().filter(|request| matches!(request, Request::Start(_))).count() >= 2
    });
    assert_eq!(consumer.ask(0, None, 0), (0, 5));
}

#[test]
fn what_an_appliance_said_last_counts_for_nothing_once_another_machine_is_made() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(5), 0), (0, 5));
    // The bridge reads it late: on a busy host the next machine is made first.
    let next = place.bridge().machine().unwrap();
    appliance.report(&Report::Done(Outcome::Ok));
    thread::sleep(SHORT);
    assert!(!place.bridge().is_served());
    drop(appliance);
    let _appliance = FakeAppliance::start(next, vec![disk(0, "pmem0s")], &place.medium, 2);
    assert_eq!(consumer.ask(0, None, 0), (0, 5));
}

#[test]
fn an_appliance_whose_disks_are_not_heard_of_is_asked_again() {
    let place = Place::new(LONG);
    let ends = place.bridge().machine().unwrap();
    let appliance = FakeAppliance::start_losing(ends, vec![disk(0, "pmem0s")], &place.medium, 1, 1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(4), 0), (0, 4));
    assert_eq!(appliance.greeted(), 2);
}

#[test]
fn answers_to_hellos_that_are_late_or_doubled_change_nothing() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(5), 0), (0, 5));
    let (asked, greeted) = (appliance.asked().len(), appliance.greeted());
    for sequence in 1..1000 {
        appliance.answer(&Report::Hello { boot: 1, disks: 1 }, sequence);
        appliance.answer(&Report::Hello { boot: 7, disks: 1 }, sequence);
    }
    thread::sleep(SHORT);
    assert_eq!(consumer.ask(0, None, 0), (0, 5));
    assert_eq!((appliance.asked().len(), appliance.greeted()), (asked, greeted));
}

#[test]
fn the_bridge_is_silent_until_it_hears_an_appliance() {
    let place = Place::new(LONG);
    let mut ends = UnixStream::from(place.bridge().machine().unwrap().control);
    ends.set_read_timeout(Some(Duration::from_millis(2500))).unwrap();
    // Firmware chatters meanwhile.
    ends.write_all(b"\x1b[2JSeaBIOS\r\n\0\0Booting from Hard Disk...\0").unwrap();
    let mut byte = [0];
    assert!(ends.read(&mut byte).is_err(), "{byte:?}");
    ends.write_all(&Report::Hello { boot: 9, disks: 0 }.encode(0)).unwrap();
    assert_eq!(ends.read(&mut byte).unwrap(), 1);
}

#[test]
fn an_appliance_that_stays_away_is_answered_for_until_it_is_back() {
    let place = Place::new(SHORT);
    let appliance = place.appliance(1);
    let mut consumer = place.running(2);
    assert_eq!(consumer.ask(0, Some(8), 2), (0, 8));
    appliance.idle.store(true, Ordering::SeqCst);
    // One waits already, the other comes later.
    let slot = consumer.submit(0, None, 2);
    appliance.kill();
    consumer.wait(0);
    assert_eq!(consumer.answer(0, slot).0, IO_ERROR);
    for _ in 0..40 {
        assert_eq!(consumer.ask(1, Some(1), 2).0, IO_ERROR);
    }
    consumer.quiet(1);
    consumer.ask(1, None, 2);
    assert!(consumer.interrupted(1));
    let _appliance = place.appliance(2);
    eventually("it is served again", || consumer.ask(0, None, 2) == (0, 8));
    assert_eq!(consumer.ask(1, None, 2), (0, 8));
}

#[test]
fn what_a_driver_does_to_a_queue_without_an_appliance_touches_nothing_else() {
    let place = Place::new(SHORT);
    let appliance = place.appliance(1);
    let mut consumer = place.running(4);
    let before = place.medium.lock().unwrap().clone();
    appliance.idle.store(true, Ordering::SeqCst);
    appliance.kill();
    thread::sleep(SHORT * 2);
    // A chain that points out of memory; an indirect table that is none; a chain that goes in circles; a head that is
    // none; an index that jumps.
    consumer.scribble(3, 0, &[&u64::MAX.to_le_bytes()[..], &[255, 255, 255, 255, 2, 0, 0, 0]].concat());
    consumer.publish(3, 0);
    consumer.scribble(3, 16, &[&[0; 8][..], &[17, 0, 0, 0, 4, 0, 0, 0]].concat());
    consumer.publish(3, 1);
    consumer.wait(3);
    consumer.scribble(0, 0, &[&[0; 12][..], &[1, 0, 0, 0]].concat());
    consumer.publish(0, 0);
    place.hears("the chain at 0 loops");
    consumer.publish(1, 999);
    place.hears("the available ring names descriptor 999");
    consumer.scribble(2, 0x1002, &1000_u16.to_le_bytes());
    consumer.kicks[2].write(1).unwrap();
    place.hears("the available index jumped to 1000");
    assert_eq!(consumer.ask(3, None, 0).0, IO_ERROR);
    assert_eq!(*place.medium.lock().unwrap(), before);
    // The driver sets its queues up anew, and all is well.
    let _appliance = place.appliance(2);
    for queue in 0..4 {
        consumer.stop(queue);
    }
    consumer.start();
    // Requests are refused until the appliance has told its disks.
    eventually("it is served again", || consumer.ask(1, Some(3), 0) == (0, 3));
    assert_eq!(consumer.ask(2, None, 0), (0, 3));
}

#[test]
fn an_appliance_that_hangs_is_ended_before_anybody_else_answers() {
    let place = Place::new(Duration::from_millis(1500));
    let appliance = Arc::new(Mutex::new(Some(place.appliance(1))));
    let ended = Arc::new(AtomicBool::new(false));
    let (its, told) = (Arc::clone(&appliance), Arc::clone(&ended));
    place.bridge().ends_by(move || {
        told.store(true, Ordering::SeqCst);
        let its = Arc::clone(&its);
        thread::spawn(move || drop(its.lock().unwrap().take()));
    });
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(8), 2), (0, 8));
    {
        let appliance = appliance.lock().unwrap();
        let appliance = appliance.as_ref().unwrap();
        appliance.idle.store(true, Ordering::SeqCst);
        appliance.mute.store(true, Ordering::SeqCst);
    }
    assert_eq!(consumer.ask(0, None, 2).0, IO_ERROR);
    assert!(ended.load(Ordering::SeqCst));
}

#[test]
fn a_front_end_finds_the_next_bridge_and_goes_on() {
    let mut place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(4), 6), (0, 4));
    appliance.idle.store(true, Ordering::SeqCst);
    let slot = consumer.submit(0, None, 6);
    drop(appliance);
    drop(place.bridge.take());
    eventually("the socket goes with its bridge", || !place.socket("a").exists());
    // RAM files stay, with all that the consumer has in them.
    eventually("the bridge is gone", || match place.open(&[place.spec("a")], LONG) {
        Ok(bridge) => {
            place.bridge = Some(bridge);
            true
        }
        Err(_) => false,
    });
    let _appliance = place.appliance(2);
    appears(&place.socket("a"));
    // The same machine, with the same rings, by a new connection.
    let mut again = place.consumer(1);
    again.resume();
    eventually("the answer", || consumer.answer(0, slot) == (0, 4));
}

#[test]
fn a_second_front_end_is_refused_and_the_first_sees_nothing_of_it() {
    let place = Place::new(LONG);
    let _appliance = place.appliance(1);
    let mut consumer = place.running(1);
    let mut second = UnixStream::connect(place.socket("a")).unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    place.hears("a second front end is refused");
    assert_eq!(consumer.ask(0, Some(4), 6), (0, 4));
}

#[test]
fn two_consumers_have_a_disk_each_and_one_that_is_mad_harms_only_itself() {
    let mut place = Place::new(LONG);
    drop(place.bridge.take());
    // Two disks of one consumer: one memory, two sockets.
    let mut other = place.spec("b");
    other.ram = place.ram("a");
    other.dev = Some("pmem1s".into());
    place.bridge = Some(place.open(&[place.spec("a"), other], LONG).unwrap());
    assert_eq!(place.bridge().windows().count(), 1);
    let disks = vec![disk(0, "pmem0s"), disk(1, "pmem1s")];
    let appliance = FakeAppliance::start(place.bridge().machine().unwrap(), disks, &place.medium, 1);
    let mut consumer = place.running(1);
    appears(&place.socket("b"));
    for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 64], &[255; 4096], &[1, 0, 0, 0, 1, 0, 0, 0, 255, 255, 0, 0]] {
        let mut mad = UnixStream::connect(place.socket("b")).unwrap();
        mad.write_all(garbage).unwrap();
        let _ = mad.shutdown(std::net::Shutdown::Write);
        assert!(matches!(mad.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert_eq!(consumer.ask(0, Some(2), 9), (0, 2));
    }
    place.hears("no vhost-user message");
    appliance.babble(&[0, 1, 2, 3, 0, 0, 77, 255, 0]);
    appliance.babble(&[b'x'; 5000]);
    appliance.report(&Report::Broken {
        export: ExportIndex(7),
        queue: QueueIndex(7),
        used: 0,
        reason: "of another world".into(),
    });
    let mut second = Consumer::realize(&place.socket("b"), &place.ram("a"), RAM, 1);
    assert_eq!(second.capacity(), SECTORS);
    assert_eq!(consumer.ask(0, None, 9), (0, 2));
}

#[test]
fn memory_that_is_not_the_ram_file_is_refused() {
    let place = Place::new(LONG);
    let _appliance = place.appliance(1);
    // Another file, and a machine with more memory than was announced.
    let other = place.ram("other");
    File::create(&other).unwrap().set_len(RAM).unwrap();
    let mut consumer = Consumer::realize(&place.socket("a"), &other, RAM, 1);
    assert!(consumer.tell_memory(RAM).is_err());
    place.hears("the consumer's memory is not the file");
    let mut consumer = place.consumer(1);
    assert!(consumer.tell_memory(RAM * 2).is_err());
    place.hears("more memory than the 4194304 bytes");
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(2), 9), (0, 2));
}

/// A disk that a consumer has used before it was withdrawn.
fn withdrawn() -> (Place, FakeAppliance, Consumer) {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(2), 9), (0, 2));
    appliance.report(&Report::DiskGone { disk: DiskIndex(0) });
    place.hears("pmem0s is withdrawn");
    (place, appliance, consumer)
}

#[test]
fn a_disk_that_is_withdrawn_answers_with_errors_until_it_is_offered_again() {
    let (_place, appliance, mut consumer) = withdrawn();
    eventually("its queues are stopped", || appliance.queues() == 0);
    assert_eq!(consumer.ask(0, None, 9).0, IO_ERROR);
    assert_eq!(consumer.capacity(), 0);
    appliance.report(&Report::Disk(disk(0, "pmem0s")));
    eventually("it is served again", || consumer.ask(0, None, 9) == (0, 2));
    assert_eq!(consumer.capacity(), SECTORS);
}

#[test]
fn another_disk_under_the_name_of_the_old_one_is_for_the_next_front_end() {
    let (place, appliance, mut consumer) = withdrawn();
    let other = || Report::Disk(DiskOffer { serial: *b"untorn-fake-00000001", ..disk(0, "pmem0s") });
    appliance.report(&other());
    place.hears("pmem0s is another disk now");
    // Said again, it is the same one, which this driver must not have either.
    appliance.report(&other());
    for _ in 0..3 {
        assert_eq!(consumer.ask(0, None, 9).0, IO_ERROR);
        assert_eq!((consumer.capacity(), appliance.queues()), (0, 0));
    }
    drop(consumer);
    let mut consumer = place.running(1);
    assert_eq!(consumer.capacity(), SECTORS);
    eventually("the next front end's driver is served", || consumer.ask(0, None, 9) == (0, 2));
}

#[test]
fn a_legacy_driver_is_named_and_gets_errors_until_a_modern_one_takes_over() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.consumer(2);
    let version_1 = 1 << 32;
    consumer.features = FEATURES & !version_1;
    consumer.start();
    for _ in 0..3 {
        assert_eq!(consumer.ask(0, Some(2), 9).0, IO_ERROR);
    }
    place.hears("pmem0s: the consumer has a legacy driver (without VERSION_1)");
    place.hears("add disable-legacy=on to its -device vhost-user-blk-pci");
    assert_eq!(place.said.lock().unwrap().iter().filter(|line| line.contains("legacy")).count(), 1);
    assert_eq!((appliance.queues(), consumer.capacity()), (0, SECTORS));
    // As firmware hands the machine over to its system.
    assert_eq!((consumer.stop(0), consumer.stop(1)), (3, 0));
    consumer.features = FEATURES;
    consumer.start();
    assert_eq!(consumer.ask(0, Some(3), 9), (0, 3));
    assert_eq!(consumer.ask(1, None, 9), (0, 3));
}

#[test]
fn a_queue_that_its_driver_broke_waits_to_be_set_up_anew() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(2);
    let reason = "a chain without an end".into();
    appliance.report(&Report::Broken { export: ExportIndex(0), queue: QueueIndex(1), used: 0, reason });
    place.hears("the driver broke queue 1: a chain without an end");
    eventually("it is stopped", || appliance.queues() == 1);
    assert_eq!(consumer.ask(0, Some(2), 9), (0, 2));
    consumer.stop(1);
    consumer.start_queue(1, 0);
    assert_eq!(consumer.ask(1, None, 9), (0, 2));
}

#[test]
fn calls_and_kicks_of_a_trusted_front_end_may_change_as_often_as_they_like() {
    let place = Place::with(|place| vec![ExportSpec { trusted: true, ..place.spec("a") }]);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    // Stopped before it is served, the first start would use no vector.
    consumer.ask(0, None, 0);
    let mut direct = 0;
    for _ in 0..300 {
        let used = consumer.used(0);
        consumer.stop(0);
        consumer.start_queue(0, used);
        consumer.ask(0, None, 0);
        consumer.kicks[0].write(1).unwrap();
        let mut by = 0;
        eventually("a kick arrives", || {
            let (vector, kicked) = appliance.kicked(0);
            by = vector;
            kicked
        });
        direct += u16::from(by >= RELAYED_VECTORS);
    }
    assert_eq!(direct, VECTORS - RELAYED_VECTORS - 1, "each vector but that of the first start once, then by us");
    consumer.quiet(0);
    consumer.ask(0, None, 0);
    assert!(consumer.interrupted(0));
}

#[test]
fn calls_and_kicks_are_relayed_however_often_they_change() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    consumer.ask(0, None, 0);
    for _ in 0..50 {
        let used = consumer.used(0);
        consumer.stop(0);
        consumer.start_queue(0, used);
        consumer.ask(0, None, 0);
        consumer.kicks[0].write(1).unwrap();
        eventually("a kick arrives", || appliance.kicked(0).1);
        assert!(appliance.kicked(0).0 < RELAYED_VECTORS);
    }
    let calls = appliance.asked().iter().filter(|request| matches!(request, Request::SetCall { .. })).count();
    assert_eq!(calls, 0, "the appliance knows one call for all of them");
    // A driver that masks its interrupt changes the descriptor, and may have missed one.
    consumer.quiet(0);
    consumer.change_call(0);
    assert!(consumer.interrupted(0), "the new one is rung once");
    consumer.ask(0, None, 0);
    assert!(consumer.interrupted(0));
}

#[test]
fn a_queue_that_is_stopped_while_it_starts_is_served_by_nobody() {
    let place = Place::new(LONG);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    consumer.stop(0);
    let used = consumer.used(0);
    // It begins, and its answer does not come for a while.
    appliance.start_mutes.store(true, Ordering::SeqCst);
    consumer.start_queue(0, used);
    eventually("the appliance serves the queue", || appliance.queues() == 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SHORT);
            appliance.mute.store(false, Ordering::SeqCst);
        });
        consumer.stop(0);
        assert_eq!(appliance.queues(), 0);
    });
    consumer.start_queue(0, used);
    consumer.ask(0, None, 0);
}

#[test]
fn what_stands_in_the_way_is_left_as_it_is() {
    let place = Place::new(LONG);
    let spec = place.spec("b");
    fs::write(&spec.socket, "a letter").unwrap();
    let error = place.open(std::slice::from_ref(&spec), LONG).unwrap_err();
    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(fs::read(&spec.socket).unwrap(), b"a letter");
    fs::remove_file(&spec.socket).unwrap();

    let listener = UnixListener::bind(&spec.socket).unwrap();
    let error = place.open(std::slice::from_ref(&spec), LONG).unwrap_err();
    assert!(error.to_string().contains("somebody listens"), "{error}");
    // Left behind by a process that was killed: it has no listener.
    drop(listener);
    assert!(spec.socket.exists());
    drop(place.open(std::slice::from_ref(&spec), LONG).unwrap());

    let mut larger = place.spec("b");
    larger.ram_bytes = 2 * RAM;
    let error = place.open(&[larger], LONG).unwrap_err();
    assert!(error.to_string().contains("has 8388608 bytes, not the 16777216"), "{error}");
    let error = place.open(&[place.spec("c"), place.spec("c")], LONG).unwrap_err();
    assert!(error.to_string().contains("given twice"), "{error}");
}

#[test]
fn a_consumer_that_cuts_its_memory_short_costs_itself_its_disk_and_nobody_else() {
    let place = Place::with(|place| vec![place.spec("a"), place.spec("b")]);
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(2), 9), (0, 2));
    // The appliance of these tests serves the first consumer's memory only: the other one has no queues.
    let mut other = Consumer::realize(&place.socket("b"), &place.ram("b"), RAM, 1);
    // To give back pages, as ballooning does, is no fault.
    let file = fs::OpenOptions::new().write(true).open(place.ram("b")).unwrap();
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, punch, 0, i64::try_from(RAM).unwrap()).unwrap();
    assert!(!place.bridge().leaves_somebody_out(false), "no consumer has cut anything");

    // It cuts, the machine dies of that, and by then the file is as long as before: its pages are others.
    let bytes = file.metadata().unwrap().len();
    for left in [0, bytes] {
        file.set_len(left).unwrap();
    }
    appliance.kill();
    assert!(place.bridge().leaves_somebody_out(true));
    place.hears("b.ram was cut short: its consumer has no disk until untornctl is started anew, others go on");
    let appliance = place.appliance(2);
    assert_eq!(consumer.ask(0, None, 9), (0, 2), "it goes on where it was");
    assert_eq!(other.capacity(), 0);
    drop(other);
    let mut again = UnixStream::connect(place.socket("b")).unwrap();
    place.hears("b: the consumer is left out");
    assert_eq!(again.read(&mut [0]).unwrap(), 0);

    // One that is short when a machine starts needs no death to be found out.
    appliance.kill();
    let file = fs::OpenOptions::new().write(true).open(place.ram("a")).unwrap();
    file.set_len(4096).unwrap();
    let _appliance = place.appliance(3);
    place.hears("a.ram was cut short");
    drop(consumer);
}

#[test]
fn a_consumer_that_cuts_its_memory_and_puts_all_back_is_left_out_after_a_death_by_it() {
    let place = Place::with(|place| vec![place.spec("a"), place.spec("b")]);
    let file = fs::OpenOptions::new().read(true).write(true).open(place.ram("b")).unwrap();
    let bytes = file.metadata().unwrap().len();
    let cut = || {
        let mut mark = [0; 8];
        file.read_exact_at(&mut mark, bytes - 8).unwrap();
        for left in [0, bytes] {
            file.set_len(left).unwrap();
        }
        file.write_all_at(&mark, bytes - 8).unwrap();
    };
    // What was before a machine cannot have ended it, and no file ends one otherwise than by SIGBUS.
    cut();
    let appliance = place.appliance(1);
    assert!(!place.bridge().leaves_somebody_out(true));
    cut();
    // Another bridge opens the innocent one's file, and is not taken for its consumer.
    drop(place.open(&[ExportSpec { ram: place.ram("a"), ..place.spec("c") }], LONG).unwrap());
    assert!(!place.bridge().leaves_somebody_out(false));
    appliance.kill();
    assert!(place.bridge().leaves_somebody_out(true));
    place.hears("b.ram may have been cut short");
    let _appliance = place.appliance(2);
    let mut other = UnixStream::connect(place.socket("b")).unwrap();
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(2), 9), (0, 2), "others go on");
    assert!(!place.bridge().leaves_somebody_out(false), "it is left out already");
}
