//! A consumer in this process: QEMU's vhost-user front end, and a driver of a few lines.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::appliance::FEATURES;
use crate::memory::Memory;

pub(crate) const SIZE: u16 = 16;
const USER: u64 = 0x7f00_0000_0000;
/// Three descriptors a request.
const SLOTS: u16 = 5;

pub(crate) struct Consumer {
    pub(crate) front: Frontend,
    memory: Memory,
    ram_bytes: u64,
    calls: Vec<EventFd>,
    pub(crate) kicks: Vec<EventFd>,
    avail: Vec<u16>,
    /// What its driver accepts.
    pub(crate) features: u64,
}

impl Consumer {
    /// Comes to the socket when it appears, and does what QEMU does before the machine runs.
    pub(crate) fn realize(socket: &Path, ram: &Path, ram_bytes: u64, queues: usize) -> Self {
        appears(socket);
        let mut front = Frontend::connect(socket, queues as u64).unwrap();
        front.get_features().unwrap();
        let protocol = front.get_protocol_features().unwrap();
        assert!(!protocol.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD), "offered, and QEMU would want it");
        front.set_protocol_features(protocol).unwrap();
        assert!(front.get_queue_num().unwrap() >= queues as u64);
        front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        front.set_owner().unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        // A dummy each, as QEMU sends before it knows better.
        for queue in 0..queues {
            front.set_vring_call(queue, &event()).unwrap();
        }
        let [calls, kicks] = [0, 1].map(|_| (0..queues).map(|_| event()).collect());
        Self { front, memory: Memory::open(ram), ram_bytes, calls, kicks, avail: vec![0; queues], features: FEATURES }
    }

    /// The first `count` bytes of the configuration space.
    pub(crate) fn config(&mut self, count: u32) -> Vec<u8> {
        let flags = VhostUserConfigFlags::empty();
        self.front.get_config(0, count, flags, &vec![0; count as usize]).unwrap().1
    }

    pub(crate) fn capacity(&mut self) -> u64 {
        u64::from_le_bytes(self.config(60)[..8].try_into().unwrap())
    }

    /// A driver sets all queues up, with empty rings.
    pub(crate) fn start(&mut self) {
        for queue in 0..self.calls.len() {
            self.memory.put(ring(queue), &[0; 0x4000]);
            self.avail[queue] = 0;
        }
        self.resume();
    }

    /// Goes on with rings as they are: what QEMU does when it has found a back end again.
    pub(crate) fn resume(&mut self) {
        self.tell_memory(self.ram_bytes).unwrap();
        for queue in 0..self.calls.len() {
            let used = self.used(queue);
            self.start_queue(queue, used);
        }
    }

    pub(crate) fn start_queue(&mut self, queue: usize, base: u16) {
        let front = &mut self.front;
        front.set_vring_call(queue, &self.calls[queue]).unwrap();
        front.set_vring_num(queue, SIZE).unwrap();
        front.set_vring_base(queue, base).unwrap();
        let rings = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: USER + ring(queue),
            used_ring_addr: USER + ring(queue) + 0x2000,
            avail_ring_addr: USER + ring(queue) + 0x1000,
            log_addr: None,
        };
        front.set_vring_addr(queue, &rings).unwrap();
        self.kicks[queue] = EventFd::new(EFD_NONBLOCK).unwrap();
        front.set_vring_kick(queue, &self.kicks[queue]).unwrap();
        front.set_vring_enable(queue, true).unwrap();
    }

    pub(crate) fn tell_memory(&mut self, bytes: u64) -> vhost::Result<()> {
        self.front.set_features(self.features | 1 << 30)?;
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: bytes,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.memory.0.as_raw_fd(),
        };
        self.front.set_mem_table(&[region]).map(drop)
    }

    /// Stops a queue, as a driver that is reset does. Returns where to go on.
    pub(crate) fn stop(&mut self, queue: usize) -> u32 {
        self.front.set_vring_enable(queue, false).unwrap();
        self.front.get_vring_base(queue).unwrap()
    }

    pub(crate) fn used(&self, queue: usize) -> u16 {
        self.memory.get16(ring(queue) + 0x2002)
    }

    /// Puts a request in the queue, and returns its place.
    pub(crate) fn submit(&mut self, queue: usize, write: Option<u8>, sector: u64) -> u16 {
        let slot = self.avail[queue] % SLOTS;
        let buffer = ring(queue) + 0x3000 + 0x300 * u64::from(slot);
        let kind = u32::from(write.is_some());
        self.memory.put(buffer, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
        self.memory.put(buffer + 16, &[write.unwrap_or(0); 512]);
        self.memory.put(buffer + 528, &[0xff]);
        let desc = |index: u64, address: u64, length: u32, flags: u16, next: u16| {
            let at = ring(queue) + 16 * (3 * u64::from(slot) + index);
            let words = [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
            self.memory.put(at, &words.concat());
        };
        desc(0, buffer, 16, 1, 3 * slot + 1);
        desc(1, buffer + 16, 512, if write.is_some() { 1 } else { 3 }, 3 * slot + 2);
        desc(2, buffer + 528, 1, 2, 0);
        self.publish(queue, 3 * slot);
        slot
    }

    /// Puts a head in the available ring, and kicks.
    pub(crate) fn publish(&mut self, queue: usize, head: u16) {
        let index = self.avail[queue];
        self.memory.put(ring(queue) + 0x1004 + 2 * u64::from(index % SIZE), &head.to_le_bytes());
        self.avail[queue] = index.wrapping_add(1);
        self.memory.put(ring(queue) + 0x1002, &self.avail[queue].to_le_bytes());
        self.kicks[queue].write(1).unwrap();
    }

    /// Overwrites something in a queue's rings.
    pub(crate) fn scribble(&self, queue: usize, at: u64, bytes: &[u8]) {
        self.memory.put(ring(queue) + at, bytes);
    }

    /// Waits until all that was submitted is answered.
    pub(crate) fn wait(&self, queue: usize) {
        eventually("an answer", || self.used(queue) == self.avail[queue]);
    }

    /// The status of a request and its data.
    pub(crate) fn answer(&self, queue: usize, slot: u16) -> (u8, u8) {
        let buffer = ring(queue) + 0x3000 + 0x300 * u64::from(slot);
        let [status] = self.memory.bytes(buffer + 528);
        (status, self.memory.bytes::<512>(buffer + 16)[511])
    }

    /// Does a request. Its status, and the byte that the sector ends with.
    pub(crate) fn ask(&mut self, queue: usize, write: Option<u8>, sector: u64) -> (u8, u8) {
        let slot = self.submit(queue, write, sector);
        self.wait(queue);
        self.answer(queue, slot)
    }

    /// Another descriptor for a queue's calls, as when a driver masks and unmasks its interrupt.
    pub(crate) fn change_call(&mut self, queue: usize) {
        self.set_call(queue, EventFd::new(EFD_NONBLOCK).unwrap());
    }

    pub(crate) fn set_call(&mut self, queue: usize, call: EventFd) {
        self.front.set_vring_call(queue, &call).unwrap();
        self.calls[queue] = call;
    }

    /// Whether an interrupt comes.
    pub(crate) fn interrupted(&self, queue: usize) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if self.was_interrupted(queue) {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Whether an interrupt has come since this was last asked.
    pub(crate) fn was_interrupted(&self, queue: usize) -> bool {
        self.calls[queue].read().is_ok()
    }

    /// Takes the interrupts that have come.
    pub(crate) fn quiet(&self, queue: usize) {
        thread::sleep(Duration::from_millis(50));
        let _ = self.calls[queue].read();
    }
}

fn ring(queue: usize) -> u64 {
    0x1_0000 * (queue as u64 + 1)
}

pub(crate) fn appears(socket: &Path) {
    eventually("the socket", || socket.exists());
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        thread::sleep(Duration::from_micros(500));
    }
}
