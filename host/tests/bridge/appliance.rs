//! An appliance in this process: speaks the control protocol, and serves queues out of a vector.

use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use host::bridge::Ends;
use host::bridge::state::{RELAYED_VECTORS, VECTORS};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use service::control::{
    Attach, Deframer, DiskIndex, DiskOffer, ExportIndex, Outcome, QueueIndex, Report, Request, Start,
};

use crate::memory::Memory;

pub(crate) const SECTORS: u64 = 64;
pub(crate) const FEATURES: u64 = 1 << 32 | 1 << 28 | 1 << 29 | 1 << 12 | 1 << 9;

/// The medium: what survives every appliance.
pub(crate) type Medium = Arc<Mutex<Vec<u8>>>;

pub(crate) fn medium() -> Medium {
    Arc::new(Mutex::new(vec![0; usize::try_from(SECTORS * 512).unwrap()]))
}

pub(crate) fn disk(number: u8, name: &str) -> DiskOffer {
    let mut config = vec![0; 60];
    config[..8].copy_from_slice(&SECTORS.to_le_bytes());
    DiskOffer {
        disk: DiskIndex(number),
        queues: 4,
        queue_size: 256,
        sector_size: 512,
        capacity: SECTORS,
        features: FEATURES,
        serial: *b"untorn-fake-00000000",
        name: name.into(),
        config,
    }
}

#[derive(Default)]
struct FakeState {
    attached: HashMap<ExportIndex, Attach>,
    running: HashMap<(ExportIndex, QueueIndex), (Start, u16)>,
    peers: HashMap<u16, File>,
    /// The own vectors.
    vectors: Vec<File>,
    /// Every id that was a peer's, to see that none comes twice.
    seen: Vec<u16>,
    memory: Option<Memory>,
    log: Vec<Request>,
    hellos: usize,
    /// How many Hellos are answered without the Disks that should follow: they are lost on their way.
    losing_disks: usize,
}

impl FakeState {
    fn loses_disks(&mut self) -> bool {
        let lost = self.losing_disks > 0;
        self.losing_disks = self.losing_disks.saturating_sub(1);
        lost
    }
}

pub(crate) struct FakeAppliance {
    control: UnixStream,
    held: Arc<Mutex<FakeState>>,
    dead: Arc<AtomicBool>,
    /// While set, it sends no answers, but does what it is asked.
    pub(crate) mute: Arc<AtomicBool>,
    /// While set, the next Start makes it mute. (Mute before, it would leave a Ping unanswered, and no Start would be
    /// asked.)
    pub(crate) start_mutes: Arc<AtomicBool>,
    /// While set, it answers no Stop, and does not do it.
    pub(crate) holds_stops: Arc<AtomicBool>,
    /// While set, it serves no requests, but answers the bridge.
    pub(crate) idle: Arc<AtomicBool>,
    /// While set, its ivshmem device takes no messages.
    pub(crate) deaf: Arc<AtomicBool>,
    /// While set, it takes its time over each answer.
    pub(crate) slow: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl FakeAppliance {
    /// One with these disks, all on one medium. Serves the first ivshmem device.
    pub(crate) fn start(ends: Ends, disks: Vec<DiskOffer>, medium: &Medium, boot: u64) -> Self {
        Self::start_losing(ends, disks, medium, boot, 0)
    }

    /// The same, whose Disks are lost after the first `losing_disks` Hellos.
    pub(crate) fn start_losing(
        ends: Ends,
        disks: Vec<DiskOffer>,
        medium: &Medium,
        boot: u64,
        losing_disks: usize,
    ) -> Self {
        let control = UnixStream::from(ends.control);
        let held = Arc::new(Mutex::new(FakeState { losing_disks, ..FakeState::default() }));
        let [dead, mute, start_mutes, holds_stops, idle, deaf, slow] =
            [(); 7].map(|()| Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        let device = ends.ivshmem.into_iter().next().unwrap();
        let (its, gone, waits) = (Arc::clone(&held), Arc::clone(&dead), Arc::clone(&deaf));
        threads.push(thread::spawn(move || device_side(&device, &its, &gone, &waits)));
        let (its, gone, rests, media) = (Arc::clone(&held), Arc::clone(&dead), Arc::clone(&idle), Arc::clone(medium));
        threads.push(thread::spawn(move || {
            while !gone.load(Ordering::SeqCst) {
                if !rests.load(Ordering::SeqCst) {
                    serve(&mut its.lock().unwrap(), &media);
                }
                thread::sleep(Duration::from_micros(300));
            }
        }));
        let its = Arc::clone(&held);
        let [silent, by_start, holds, dawdles] = [&mute, &start_mutes, &holds_stops, &slow].map(Arc::clone);
        let stream = control.try_clone().unwrap();
        threads.push(thread::spawn(move || talk(stream, &its, [&silent, &by_start, &holds, &dawdles], &disks, boot)));
        Self { control, held, dead, mute, start_mutes, holds_stops, idle, deaf, slow, threads }
    }

    /// Sends an unasked report.
    pub(crate) fn report(&self, report: &Report) {
        (&self.control).write_all(&report.encode(0)).unwrap();
    }

    /// Sends an answer to an old request, or to none.
    pub(crate) fn answer(&self, report: &Report, sequence: u16) {
        (&self.control).write_all(&report.encode(sequence)).unwrap();
    }

    /// Sends bytes that are no frame.
    pub(crate) fn babble(&self, bytes: &[u8]) {
        (&self.control).write_all(bytes).unwrap();
    }

    /// All that it was asked, in order, but Hello and Ping.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.held.lock().unwrap().log.clone()
    }

    /// How often it was greeted.
    pub(crate) fn greeted(&self) -> usize {
        self.held.lock().unwrap().hellos
    }

    /// By which vector a queue's kicks arrive, and whether one has since this was last asked.
    pub(crate) fn kicked(&self, queue: u16) -> (u16, bool) {
        let held = self.held.lock().unwrap();
        let Some((start, _)) = held.running.get(&(ExportIndex(0), QueueIndex(queue))) else { return (0, false) };
        let vector = start.kick_vector;
        drop(held);
        // The device may not have heard of it yet.
        (vector, self.signalled(vector))
    }

    /// Whether one of its own vectors was signalled since this was last asked.
    pub(crate) fn signalled(&self, vector: u16) -> bool {
        self.held
            .lock()
            .unwrap()
            .vectors
            .get(usize::from(vector))
            .is_some_and(|mut file| file.read(&mut [0; 8]).is_ok())
    }

    /// Rings every peer that its device knows.
    pub(crate) fn ring_all(&self) {
        self.held.lock().unwrap().peers.values_mut().for_each(|peer| _ = peer.write(&1_u64.to_ne_bytes()));
    }

    pub(crate) fn queues(&self) -> usize {
        self.held.lock().unwrap().running.len()
    }

    /// As `kill -9`: whatever it was doing, it does no more.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeAppliance {
    fn drop(&mut self) {
        self.end();
    }
}

/// How many messages come before the first peer: version, id, memory and the device's first vectors.
const VECTORS_END: u16 = 3 + RELAYED_VECTORS;

/// The ivshmem device: as strict as QEMU's, which crashes where this panics.
fn device_side(device: &OwnedFd, held: &Mutex<FakeState>, dead: &AtomicBool, deaf: &AtomicBool) {
    let mut own = None;
    let mut messages = 0;
    loop {
        while deaf.load(Ordering::SeqCst) && !dead.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_micros(300));
        }
        let (mut bytes, mut space) = ([0; 8], nix::cmsg_space!(i32));
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let (count, file) = match recvmsg::<()>(device.as_raw_fd(), &mut buffer, Some(&mut space), flags) {
            Ok(message) => {
                let file = message.cmsgs().unwrap().find_map(|part| match part {
                    // SAFETY: the system has just made this descriptor for us, and nobody else knows it.
                    ControlMessageOwned::ScmRights(fds) => Some(unsafe { File::from_raw_fd(fds[0]) }),
                    _ => None,
                });
                (message.bytes, file)
            }
            Err(nix::errno::Errno::EAGAIN) if !dead.load(Ordering::SeqCst) => {
                thread::sleep(Duration::from_micros(300));
                continue;
            }
            Err(_) => return,
        };
        if count == 0 || dead.load(Ordering::SeqCst) {
            return;
        }
        assert_eq!(count, 8);
        let mut held = held.lock().unwrap();
        match (messages, i64::from_le_bytes(bytes), file) {
            (0, version, None) => assert_eq!(version, 0),
            (1, id, None) => own = Some(id),
            (2, -1, Some(memory)) => held.memory = Some(Memory(memory)),
            (3.., id, Some(vector)) if Some(id) == own => {
                held.vectors.push(vector);
                assert!(held.vectors.len() <= usize::from(VECTORS), "more vectors than the device has: QEMU drops it");
            }
            (3..VECTORS_END, ..) => panic!("the own vectors follow the memory"),
            (VECTORS_END.., id, Some(file)) => {
                let id = u16::try_from(id).unwrap();
                assert!(!held.seen.contains(&id), "peer {id} comes a second time: QEMU aborts");
                held.seen.push(id);
                held.peers.insert(id, file);
            }
            (VECTORS_END.., id, None) => {
                drop(held.peers.remove(&u16::try_from(id).unwrap()).expect("a peer that is there"))
            }
            other => panic!("message {other:?} is out of order"),
        }
        messages += 1;
    }
}

fn talk(
    mut stream: UnixStream,
    held: &Mutex<FakeState>,
    [mute, start_mutes, holds_stops, slow]: [&AtomicBool; 4],
    disks: &[DiskOffer],
    boot: u64,
) {
    let mut deframer = Deframer::new();
    let mut bytes = [0; 512];
    let _ = stream.write_all(&Report::Hello { boot, disks: 0 }.encode(0));
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        for byte in &bytes[..count] {
            let Some(Ok(payload)) = deframer.push(*byte) else { continue };
            let (sequence, request) = Request::decode(&payload).unwrap();
            if matches!(request, Request::Stop { .. }) && holds_stops.load(Ordering::SeqCst) {
                continue;
            }
            let mut answers = vec![answer(&mut held.lock().unwrap(), &request, disks, boot).encode(sequence)];
            if matches!(request, Request::Hello { .. }) && !held.lock().unwrap().loses_disks() {
                answers.extend(disks.iter().map(|disk| Report::Disk(disk.clone()).encode(sequence)));
            }
            if slow.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            if matches!(request, Request::Start { .. }) && start_mutes.swap(false, Ordering::SeqCst) {
                mute.store(true, Ordering::SeqCst);
            }
            if mute.load(Ordering::SeqCst) {
                continue;
            }
            if stream.write_all(&answers.concat()).is_err() {
                return;
            }
        }
    }
}

fn answer(held: &mut FakeState, request: &Request, disks: &[DiskOffer], boot: u64) -> Report {
    if !matches!(request, Request::Hello { .. } | Request::Ping { .. }) {
        held.log.push(request.clone());
    }
    let done = |well| Report::Done(if well { Outcome::Ok } else { Outcome::NotStarted });
    match request {
        Request::Hello { .. } => {
            held.hellos += 1;
            Report::Hello { boot, disks: u16::try_from(disks.len()).unwrap() }
        }
        Request::Ping { .. } | Request::WriteConfig { .. } => done(true),
        Request::Attach(attach) => {
            held.attached.insert(attach.export, attach.clone());
            done(true)
        }
        Request::Detach { export } => done(held.attached.remove(export).is_some()),
        Request::Start(start) => {
            if !held.attached.contains_key(&start.export) {
                return Report::Done(Outcome::NoSuchExport);
            }
            let (running, _) = held.running.entry((start.export, start.queue)).or_insert((*start, start.base));
            if running == start { done(true) } else { Report::Done(Outcome::Busy) }
        }
        Request::Stop { export, queue } => match held.running.remove(&(*export, *queue)) {
            Some((_, base)) => Report::Stopped { base },
            None => done(false),
        },
        Request::SetCall { export, queue, call } => match held.running.get_mut(&(*export, *queue)) {
            Some((start, _)) => {
                start.call = *call;
                let call = *call;
                ring(held, call);
                done(true)
            }
            None => done(false),
        },
    }
}

fn ring(held: &FakeState, call: Option<service::control::Call>) {
    if let Some(mut peer) = call.and_then(|call| held.peers.get(&call.peer)) {
        let _ = peer.write(&1_u64.to_ne_bytes());
    }
}

/// Serves all that waits. No honest driver of these tests makes other chains than header, data, status.
fn serve(held: &mut FakeState, medium: &Medium) {
    let Some(memory) = &held.memory else { return };
    let mut calls = Vec::new();
    for (start, next) in held.running.values_mut() {
        let size = u64::from(start.size);
        let from = *next;
        while *next != memory.get16(start.avail + 2) {
            let head = memory.get16(start.avail + 4 + 2 * (u64::from(*next) % size));
            let mut at = start.desc + 16 * u64::from(head);
            if memory.get16(at + 12) & 4 != 0 {
                at = u64::from_le_bytes(memory.bytes(at));
            }
            let descriptors = [0, 1, 2].map(|index| {
                let address = u64::from_le_bytes(memory.bytes(at + 16 * index));
                (address, u32::from_le_bytes(memory.bytes(at + 16 * index + 8)))
            });
            let kind = u32::from_le_bytes(memory.bytes(descriptors[0].0));
            let sector = u64::from_le_bytes(memory.bytes(descriptors[0].0 + 8));
            let place = usize::try_from(sector * 512).unwrap();
            let mut medium = medium.lock().unwrap();
            match medium.get_mut(place..place + 512) {
                Some(data) if kind == 0 => memory.put(descriptors[1].0, data),
                Some(data) => data.copy_from_slice(&memory.bytes::<512>(descriptors[1].0)),
                None => {}
            }
            memory.put(descriptors[2].0, &[u8::from(place >= medium.len())]);
            let used = memory.get16(start.used + 2);
            let element = start.used + 4 + 8 * (u64::from(used) % size);
            memory.put(element, &[u32::from(head).to_le_bytes(), 513_u32.to_le_bytes()].concat());
            memory.put(start.used + 2, &used.wrapping_add(1).to_le_bytes());
            *next = next.wrapping_add(1);
        }
        if *next != from {
            calls.push(start.call);
        }
    }
    calls.into_iter().for_each(|call| ring(held, call));
}
