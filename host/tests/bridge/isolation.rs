//! What one party does to its descriptors, its messages and its reader costs that party its disk at most.

use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use host::bridge::state::relayed_vector;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use service::control::{DiskIndex, ExportIndex, QueueIndex, Report, Request};
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;
use vmm_sys_util::eventfd::EventFd;

use crate::appliance::{FakeAppliance, disk};
use crate::consumer::{Consumer, eventually};
use crate::{IO_ERROR, Place, RAM, SHORT};

/// Does something that must not hang.
#[track_caller]
fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = channel();
    thread::spawn(move || done.send(work()));
    outcome.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what}: not within 10 s"))
}

/// A front end's own copy of an event descriptor that is full and blocks whatever writes to it. When it is dropped it lets
/// go, so that a bridge that does write ends all the same.
struct Full(EventFd);

impl Full {
    fn new() -> Self {
        let event = EventFd::new(0).unwrap();
        event.write(u64::MAX - 1).unwrap();
        Self(event)
    }

    /// The descriptor that is sent. The flag of what it was made of is the front end's to change.
    fn sent(&self) -> EventFd {
        self.0.try_clone().unwrap()
    }

    /// Takes the flag away that a bridge may have set.
    fn blocks_again(&self) {
        self.set_flags(OFlag::O_RDWR);
    }

    fn set_flags(&self, flags: OFlag) {
        // SAFETY: it is open as long as `self` is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        fcntl(fd, FcntlArg::F_SETFL(flags)).unwrap();
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.set_flags(OFlag::O_RDWR | OFlag::O_NONBLOCK);
        let _ = self.0.read();
    }
}

/// Two disks for one consumer, whose first front end means harm.
fn two_disks() -> (Place, FakeAppliance) {
    let place = Place::with(|place| {
        let spec = |name| host::bridge::ExportSpec { ram: place.ram("a"), ..place.spec(name) };
        vec![spec("a"), spec("b")]
    });
    let appliance = place.appliance(1);
    (place, appliance)
}

/// The other front end, which must be served whatever the first one does.
#[track_caller]
fn others_go_on(place: &Place) {
    let (socket, ram) = (place.socket("b"), place.ram("a"));
    within("the other front end", move || {
        let mut other = Consumer::realize(&socket, &ram, RAM, 1);
        assert_eq!(other.capacity(), crate::SECTORS);
    });
}

#[test]
fn an_error_descriptor_that_blocks_stops_nobody() {
    let (place, appliance) = two_disks();
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
    let full = Full::new();
    consumer.front.set_vring_err(0, &full.sent()).unwrap();
    full.blocks_again();
    let reason = "the available index jumped".to_owned();
    appliance.report(&Report::Broken { export: ExportIndex(0), queue: QueueIndex(0), used: 0, reason });
    place.hears("the driver broke queue 0");
    others_go_on(&place);
}

#[test]
fn a_call_descriptor_that_blocks_stops_neither_the_appliance_nor_the_bridge() {
    let (place, appliance) = two_disks();
    let mut consumer = place.running(1);
    let full = Full::new();
    consumer.set_call(0, full.sent());
    full.blocks_again();
    let consumer = within("the appliance serves on", move || {
        for sector in 0..5 {
            assert_eq!(consumer.ask(0, Some(3), sector), (0, 3));
        }
        consumer
    });
    others_go_on(&place);
    // The same where the bridge itself gives the answers.
    appliance.report(&Report::DiskGone { disk: DiskIndex(0) });
    place.hears("is withdrawn");
    let mut consumer = within("refusals", move || {
        let mut consumer = consumer;
        eventually("it is refused", || consumer.ask(0, None, 1).0 == IO_ERROR);
        consumer
    });
    appliance.report(&Report::Disk(disk(0, "pmem0s")));
    within("served again", move || eventually("it is served again", || consumer.ask(0, None, 1).0 == 0));
    others_go_on(&place);
}

#[test]
fn a_reader_of_messages_that_stalls_stops_nobody_and_one_disk_does_not_fill_its_journal() {
    let (go, stalled) = channel::<()>();
    let stalled = std::sync::Mutex::new(stalled);
    let place = Place::reading(
        |place| {
            let spec = |name| host::bridge::ExportSpec { ram: place.ram("a"), ..place.spec(name) };
            vec![spec("a"), spec("b")]
        },
        move |_| _ = stalled.lock().unwrap().recv(),
    );
    let appliance = place.appliance(1);
    let mut consumer = place.running(2);
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
    for number in 0..3000 {
        let reason = format!("the available index jumped to {number}");
        appliance.report(&Report::Broken { export: ExportIndex(0), queue: QueueIndex(1), used: 0, reason });
    }
    within("its queue is started anew", move || {
        let used = consumer.used(0);
        consumer.stop(0);
        consumer.start_queue(0, used);
        assert_eq!(consumer.ask(0, None, 1), (0, 3));
    });
    others_go_on(&place);
    drop(go);
    place.hears("jumped to 0");
    assert!(place.said.lock().unwrap().iter().filter(|line| line.contains("jumped")).count() < 50);
}

#[test]
fn a_bridge_ends_at_once_whatever_its_front_ends_leave_half_done() {
    let place = Place::with(|place| vec![place.spec("a"), place.spec("b")]);
    let _appliance = place.appliance(1);
    let features = [1_u32, 1, 0].map(u32::to_ne_bytes).concat();
    // Half a message; and questions whose answers are not read.
    crate::appears(&place.socket("a"));
    let mut half = UnixStream::connect(place.socket("a")).unwrap();
    half.write_all(&features[..7]).unwrap();
    crate::appears(&place.socket("b"));
    let mut deaf = UnixStream::connect(place.socket("b")).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while deaf.write_all(&features).is_ok() {}
    let begun = Instant::now();
    drop(place);
    // Half of what a front end may take over a message.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Whether a front end's connection ends before anything else comes on it.
fn is_dropped(front: &mut UnixStream) -> bool {
    front.read(&mut [0]).map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |count| count == 0)
}

#[test]
fn descriptors_that_a_message_must_not_have_are_not_kept() {
    let (place, _appliance) = two_disks();
    let name = format!("untorn-unwanted-{}", std::process::id());
    let file = File::from(memfd_create(name.as_str(), MFdFlags::MFD_CLOEXEC).unwrap());
    // Other tests open and close descriptors meanwhile: only copies of this one count.
    let kept = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|it| it.path().read_link().is_ok_and(|to| to.to_string_lossy().contains(&name))).count()
    };
    // SET_BACKEND_REQ_FD, and SET_VRING_CALL.
    for (request, body) in [(21_u32, &[][..]), (13, &[0; 8][..])] {
        let bytes =
            [&[request, 1, u32::try_from(body.len()).unwrap()].map(u32::to_ne_bytes).concat()[..], body].concat();
        // More than a message may have, more than the message layer has room for, and the most that Linux passes on.
        for count in [9, 20, 33, 253] {
            crate::appears(&place.socket("a"));
            let mut front = UnixStream::connect(place.socket("a")).unwrap();
            front.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let fds = vec![file.as_raw_fd(); count];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(front.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None).unwrap();
            assert!(is_dropped(&mut front), "{count} descriptors");
        }
    }
    place.hears("a message with more than 8 descriptors");
    // Amid a header: those behind it would be none of this message's.
    crate::appears(&place.socket("a"));
    let mut front = UnixStream::connect(place.socket("a")).unwrap();
    front.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for (bytes, count) in [(&[0; 8][..], 1), (&[0; 4], 40)] {
        let fds = vec![file.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(front.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::empty(), None).unwrap();
    }
    assert!(is_dropped(&mut front), "it is still there");
    place.hears("a message with descriptors amid its header");
    eventually("all are closed", || kept() == 1);
    others_go_on(&place);
}

#[test]
fn a_front_end_that_sends_half_a_message_or_takes_no_answers_is_dropped() {
    let place = Place::with(|place| {
        let spec = |name| host::bridge::ExportSpec { ram: place.ram("a"), ..place.spec(name) };
        ["a", "b", "c"].map(spec).into()
    });
    let _appliance = place.appliance(1);
    let features = [1_u32, 1, 0].map(u32::to_ne_bytes).concat();
    let connect = |name| {
        crate::appears(&place.socket(name));
        UnixStream::connect(place.socket(name)).unwrap()
    };
    let (mut header, mut body, mut deaf) = (connect("a"), connect("b"), connect("c"));
    header.write_all(&features[..7]).unwrap();
    // SET_FEATURES with half of its features.
    body.write_all(&[[2_u32, 1, 8].map(u32::to_ne_bytes).concat(), vec![0; 4]].concat()).unwrap();
    deaf.set_nonblocking(true).unwrap();
    while deaf.write(&features).is_ok() {}
    let begun = Instant::now();
    for front in [&mut header, &mut body] {
        front.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert!(is_dropped(front), "it is still there");
    }
    // It has asked and asked, and is full.
    while deaf.write(&features).map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |_| true) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is still there");
        thread::sleep(Duration::from_millis(10));
    }
    others_go_on(&place);
}

#[test]
fn an_appliance_that_is_late_with_one_answer_but_answers_pings_is_not_ended() {
    let (place, appliance) = two_disks();
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    place.bridge().ends_by(move || ends.store(true, Ordering::SeqCst));
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
    appliance.holds_stops.store(true, Ordering::SeqCst);
    let stopping = thread::spawn(move || consumer.stop(0));
    place.hears("still busy with a queue that the consumer has stopped");
    thread::sleep(Duration::from_secs(2));
    assert!(!ended.load(Ordering::SeqCst) && !stopping.is_finished() && place.bridge().is_served());
    others_go_on(&place);
    appliance.holds_stops.store(false, Ordering::SeqCst);
    assert_eq!(within("the queue stops", move || stopping.join().unwrap()), 1);
    assert!(!ended.load(Ordering::SeqCst));
}

#[test]
fn an_appliance_that_answers_nothing_while_a_front_end_waits_is_ended_long_before_hold() {
    let (place, appliance) = two_disks();
    let (ends, ended) = channel();
    place.bridge().ends_by(move || ends.send(()).unwrap());
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
    appliance.mute.store(true, Ordering::SeqCst);
    let stopping = thread::spawn(move || consumer.stop(0));
    ended.recv_timeout(Duration::from_secs(30)).unwrap();
    // Its queues are another's only when its machine has ended.
    thread::sleep(Duration::from_millis(300));
    assert!(!stopping.is_finished());
    appliance.kill();
    assert_eq!(within("the queue stops", move || stopping.join().unwrap()), 1);
}

#[test]
fn an_appliance_that_answers_pings_but_not_what_it_is_asked_is_ended_after_hold() {
    let place = Place::new(SHORT);
    let appliance = place.appliance(1);
    let (ends, ended) = channel();
    place.bridge().ends_by(move || ends.send(()).unwrap());
    let mut consumer = place.running(1);
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
    appliance.holds_stops.store(true, Ordering::SeqCst);
    let stopping = thread::spawn(move || consumer.stop(0));
    ended.recv_timeout(Duration::from_secs(30)).unwrap();
    place.hears("the appliance answers Pings, but not what it is asked: ending its machine");
    appliance.kill();
    assert_eq!(within("the queue stops", move || stopping.join().unwrap()), 1);
}

#[test]
fn an_appliance_that_goes_on_is_not_ended_however_short_hold_is() {
    let place = Place::new(SHORT);
    let _appliance = place.appliance(1);
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    place.bridge().ends_by(move || ends.store(true, Ordering::SeqCst));
    let mut consumer = place.running(1);
    // It is heard once a second.
    thread::sleep(Duration::from_secs(3));
    assert!(!ended.load(Ordering::SeqCst), "{:?}", place.said.lock());
    assert_eq!(consumer.ask(0, Some(3), 1), (0, 3));
}

/// Two disks for one consumer: the first one's front end is trusted, and has kept the machine's device, which takes no
/// messages, so busy that the bridge is behind. The other one has set up its memory, and before that the queue `started`.
fn behind(started: Option<usize>) -> (Place, FakeAppliance, [Consumer; 2]) {
    let place = Place::with(|place| {
        let spec = |name, trusted| host::bridge::ExportSpec { ram: place.ram("a"), trusted, ..place.spec(name) };
        vec![spec("a", true), spec("b", false)]
    });
    let appliance = place.appliance(1);
    let mut consumer = place.running(1);
    consumer.ask(0, None, 0);
    let mut other = Consumer::realize(&place.socket("b"), &place.ram("a"), RAM, 2);
    other.tell_memory(RAM).unwrap();
    if let Some(queue) = started {
        other.start_queue(queue, 0);
        eventually("its queue is served", || appliance.queues() == 2);
    }
    appliance.deaf.store(true, Ordering::SeqCst);
    let changes = || appliance.asked().iter().filter(|it| matches!(it, Request::SetCall { .. })).count();
    // Each change is two messages, and is told to the appliance once these are on their way.
    loop {
        let before = changes();
        consumer.change_call(0);
        let begun = Instant::now();
        while changes() == before && begun.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_micros(200));
        }
        if changes() == before {
            return (place, appliance, [consumer, other]);
        }
    }
}

#[test]
fn a_machine_that_is_behind_gets_its_messages_also_while_an_answer_is_waited_for() {
    let (place, appliance, [consumer, mut other]) = behind(Some(1));
    appliance.holds_stops.store(true, Ordering::SeqCst);
    let stopping = thread::spawn(move || other.stop(1));
    place.hears("still busy with a queue that the consumer has stopped");
    appliance.deaf.store(false, Ordering::SeqCst);
    eventually("its last route is there", || {
        appliance.ring_all();
        consumer.was_interrupted(0)
    });
    assert!(!stopping.is_finished());
    appliance.holds_stops.store(false, Ordering::SeqCst);
    assert_eq!(within("the queue stops", move || stopping.join().unwrap()), 0);
}

#[test]
fn a_kick_for_a_queue_that_waits_for_a_machine_that_is_behind_arrives() {
    let (_place, appliance, [_consumer, mut other]) = behind(None);
    let vector = relayed_vector(ExportIndex(1), QueueIndex(1));
    // Each answer would have the relay look anew.
    appliance.mute.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        other.start_queue(1, 0);
        thread::sleep(Duration::from_millis(20));
        appliance.signalled(vector);
        other.kicks[1].write(1).unwrap();
        eventually("the kick arrives", || appliance.signalled(vector));
        assert_eq!(other.stop(1), 0);
    }
    appliance.mute.store(false, Ordering::SeqCst);
    appliance.deaf.store(false, Ordering::SeqCst);
    other.start_queue(1, 0);
    eventually("the queue is served", || appliance.queues() == 2);
}

/// Sets a flag when it goes, by a panic, too.
struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_front_end_that_changes_its_configuration_all_the_time_does_not_keep_another_disk_waiting() {
    for [restless, other] in [["a", "b"], ["b", "a"]] {
        does_not_keep_waiting(restless, other);
    }
}

#[track_caller]
fn does_not_keep_waiting(restless: &str, other: &str) {
    let (place, appliance) = two_disks();
    let mut restless = Consumer::realize(&place.socket(restless), &place.ram("a"), RAM, 1);
    restless.start();
    restless.ask(0, None, 0);
    let mut other = Consumer::realize(&place.socket(other), &place.ram("a"), RAM, 2);
    other.tell_memory(RAM).unwrap();
    appliance.slow.store(true, Ordering::SeqCst);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Many changes for each answer.
        scope.spawn(|| {
            let flags = VhostUserConfigFlags::WRITABLE;
            for value in (0..=u8::MAX).cycle().take_while(|_| !done.load(Ordering::SeqCst)) {
                restless.front.set_config(32, flags, &[value]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let end = Guard(&done);
        other.start_queue(1, 0);
        eventually("the other disk is served", || appliance.queues() == 2);
        drop(end);
    });
}
