//! The state that front ends want, the state that the appliance was told, and the next request that makes the two equal.
//!
//! Front ends change what is wanted, the appliance's answers change what holds, and [`Export::next`] compares: an
//! appliance that starts anew holds nothing, so everything is given to it again by the same comparison. No I/O here.
//!
//! A queue rests, or the appliance serves it ([`Queue::running`]), or, while the appliance is gone for too long, the
//! bridge itself answers in it (`super::refuse`, [`Queue::refusing`]).

use std::fs::File;
use std::sync::Arc;

use service::blk::Features;
use service::control::{Attach, Call, DiskIndex, DiskOffer, ExportIndex, MemoryId, QueueIndex, Report, Request, Start};

use super::ivshmem::PeerId;
use super::memory_table::MemoryTable;
use crate::event::ForeignEvent;
use crate::limits::QUEUES_MAX;

/// How many vectors a consumer's ivshmem device has. Each of them wakes one of the appliance's CPUs, which serves the
/// queues that kick by it.
pub const VECTORS: u16 = 256;

/// The first of them are for kicks that we relay. The others become kick descriptors of trusted front ends, each once.
pub const RELAYED_VECTORS: u16 = 16;

/// Where a queue's rings are in the RAM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// The descriptor table.
    pub desc: u64,
    /// The available ring.
    pub avail: u64,
    /// The used ring.
    pub used: u64,
}

impl Rings {
    fn of(start: &Start) -> Self {
        Self { desc: start.desc, avail: start.avail, used: start.used }
    }
}

/// The route from the appliance to a driver's interrupt, as long as the appliance's machine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptRoute {
    /// The peer that the appliance rings.
    pub peer: PeerId,
    /// Whether the peer stays, and we relay its interrupts: it is not to be removed.
    pub lasting: bool,
}

/// Makes routes between the appliance's device and a consumer's driver.
pub trait Routes {
    /// Makes a route to the interrupt of a queue that has a call descriptor.
    fn call(&mut self, queue: &mut Queue) -> Option<InterruptRoute>;

    /// Lets the kicks of a queue that has a kick descriptor arrive directly. Returns their vector.
    fn kick(&mut self, queue: &Queue) -> Option<u16>;

    /// Whether the device does not know of the last routes yet. A call that comes before would be lost.
    fn is_behind(&self) -> bool;
}

/// A queue of an export.
#[derive(Debug, Default)]
pub struct Queue {
    // Set by the front end.
    /// Entries of each ring.
    pub size: u16,
    /// Where they are.
    pub rings: Option<Rings>,
    /// Where to go on in the available ring.
    pub base: u16,
    /// The driver's kicks. A queue is started by getting one.
    pub kick: Option<Arc<ForeignEvent>>,
    /// The driver's interrupt.
    pub call: Option<Arc<ForeignEvent>>,
    /// Whether an interrupt may have gone to the descriptor that was there before `call`: whoever relays rings the new one.
    pub call_changed: bool,
    /// Told when the driver has broken its ring.
    pub error: Option<Arc<ForeignEvent>>,
    /// Whether it is to be served.
    pub enabled: bool,

    // In force at the appliance.
    /// The Start that the appliance was sent, while it may serve the queue: from the request on, not from its answer on.
    pub running: Option<Start>,
    /// Whether the bridge itself answers in its rings at this moment: the appliance is not asked to serve it meanwhile.
    pub refusing: bool,
    /// Whether used.idx in the ring, and not `base`, is where to go on: the queue was served since `base` was set.
    pub resume: bool,
    /// The driver broke its ring: nothing is to be done until it is set up anew.
    pub broken: bool,
    /// The vector of the appliance's device by which `kick` arrives: below [`RELAYED_VECTORS`] by us, else directly.
    pub kick_vector: Option<u16>,
    /// The route to its interrupt.
    pub route: Option<InterruptRoute>,
    /// The descriptor that a lasting peer signals, for us to relay.
    pub relayed: Option<Arc<File>>,
}

impl Queue {
    /// Sets the entries of each ring. Rings that were placed for another number are forgotten: they may not fit where they
    /// are.
    pub fn set_size(&mut self, size: u16) {
        if self.size != size {
            self.rings = None;
        }
        self.size = size;
    }

    /// The rings, if the front end wants it served.
    #[must_use]
    pub fn wanted(&self) -> Option<Rings> {
        self.rings.filter(|_| self.enabled && self.kick.is_some() && self.size > 0 && !self.broken)
    }

    /// Sets the descriptor by which the driver kicks.
    pub fn set_kick(&mut self, kick: Option<Arc<ForeignEvent>>) {
        self.kick = kick;
        self.kick_vector = None;
    }

    /// Sets the descriptor of the driver's interrupt.
    pub fn set_call(&mut self, call: Option<Arc<ForeignEvent>>) {
        self.call = call;
        self.call_changed = true;
    }

    /// Forgets what a front end has set. What holds stays until it is undone.
    fn forget_front(&mut self) {
        *self = Self {
            running: self.running,
            refusing: self.refusing,
            route: self.route,
            relayed: self.relayed.take(),
            ..Self::default()
        };
    }

    /// Whether neither the appliance nor the bridge touches its rings.
    #[must_use]
    pub const fn rests(&self) -> bool {
        self.running.is_none() && !self.refusing
    }
}

/// A write to the configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWrite {
    /// Its first byte.
    pub at: u8,
    /// The bytes written.
    pub bytes: Vec<u8>,
}

impl ConfigWrite {
    /// Adds it to those before, without the ones that it covers.
    pub fn put(self, writes: &mut Vec<Self>) {
        let of = |write: &Self| usize::from(write.at)..usize::from(write.at) + write.bytes.len();
        let range = of(&self);
        writes.retain(|other| of(other).start < range.start || of(other).end > range.end);
        writes.push(self);
    }
}

/// A disk given to a consumer: one vhost-user socket.
#[derive(Debug)]
pub struct Export {
    /// Its number.
    pub index: ExportIndex,
    /// The consumer's memory.
    pub memory: MemoryId,
    /// The device, by Linux's name. `None`: the first one offered.
    pub dev: Option<String>,
    /// Whether its front ends' event descriptors are trusted: they go to the appliance's machine, which waits for one that
    /// blocks.
    pub trusted: bool,
    /// The appliance's last offer of it. It stays when the appliance goes: the consumer's disk does not change.
    pub disk: Option<DiskOffer>,
    /// Whether the appliance offers it now.
    pub offered: bool,
    /// Whether the appliance is there and does not offer it: its requests are refused at once.
    pub withdrawn: bool,
    /// Whether the consumer's memory is gone: the export is not served any more.
    pub left_out: bool,
    /// Whether another disk has got its disk's name while a front end was there, whose driver knows the old one: it is
    /// for the next front end.
    pub replaced: bool,

    // Set by the front end.
    /// Whether there is one.
    pub session: bool,
    /// The features that the driver accepted.
    pub features: Option<u64>,
    /// The consumer's memory.
    pub table: Option<MemoryTable>,
    /// Writes to the configuration space, in order: every appliance that serves this session must see them.
    pub config_writes: Vec<ConfigWrite>,
    /// The queues, all that there may be.
    pub queues: Vec<Queue>,
    /// Where the front end is told of a change of the configuration space.
    pub channel: Option<File>,

    // In force at the appliance.
    /// The Attach that the appliance has done.
    pub attached: Option<Attach>,
    /// The writes to the configuration space that it was told, the last one of each place.
    pub config_told: Vec<ConfigWrite>,
    /// The appliance refused it: nothing more is tried until the front end changes something.
    pub refused: bool,
}

impl Export {
    /// An export without a front end.
    #[must_use]
    pub fn new(index: ExportIndex, memory: MemoryId, dev: Option<String>, trusted: bool) -> Self {
        Self {
            index,
            memory,
            dev,
            trusted,
            disk: None,
            offered: false,
            withdrawn: false,
            left_out: false,
            replaced: false,
            session: false,
            features: None,
            table: None,
            config_writes: Vec::new(),
            queues: Vec::new(),
            channel: None,
            attached: None,
            config_told: Vec::new(),
            refused: false,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.disk, &self.dev) {
            (Some(disk), _) => disk.name.clone(),
            (None, Some(dev)) => dev.clone(),
            (None, None) => "any disk".into(),
        }
    }

    /// Begins the session of a front end, which has set nothing yet. To be called when the last one's queues rest.
    pub fn begin(&mut self) {
        let count = self.disk.as_ref().map_or(0, |disk| disk.queues.min(QUEUES_MAX));
        self.session = true;
        self.replaced = false;
        self.refused = false;
        self.queues.resize_with(usize::from(count), Queue::default);
    }

    /// Ends the session of the front end: nothing is wanted.
    pub fn end(&mut self) {
        self.session = false;
        self.features = None;
        self.table = None;
        self.channel = None;
        self.config_writes.clear();
        self.config_told.clear();
        self.refused = false;
        self.queues.iter_mut().for_each(Queue::forget_front);
    }

    /// Whether its driver uses the legacy interface, by which no appliance serves it: its requests are refused.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        self.session && self.features.is_some_and(|features| features & Features::VERSION_1.bits() == 0)
    }

    /// Whether there is no disk for its driver any more: its capacity is 0.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.withdrawn || self.left_out || self.replaced
    }

    /// Whether its requests are refused, though an appliance is there.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.session && (self.is_gone() || self.is_legacy())
    }

    /// Whether all its queues rest.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.queues.iter().all(Queue::rests)
    }

    /// The appliance is gone, or has started anew: nothing holds. Its machine may still be the same, and its routes too.
    pub fn appliance_gone(&mut self) {
        (self.offered, self.withdrawn) = (false, false);
        self.attached = None;
        self.config_told.clear();
        self.refused = false;
        for queue in &mut self.queues {
            queue.resume |= queue.running.take().is_some();
        }
    }

    /// Forgets the appliance's machine, and with it all routes to interrupts.
    pub fn machine_gone(&mut self) {
        self.appliance_gone();
        for queue in &mut self.queues {
            queue.kick_vector = None;
            queue.route = None;
            queue.relayed = None;
        }
    }

    /// The Attach that the front end requires, once it has set enough.
    fn wanted(&self) -> Option<Attach> {
        let serves = self.offered && self.session && !self.is_legacy() && !self.is_gone();
        let disk = self.disk.as_ref().filter(|_| serves)?;
        Some(Attach {
            export: self.index,
            memory: self.memory,
            features: self.features?,
            disk: disk.disk,
            regions: self.table.as_ref()?.on_the_wire(),
        })
    }

    /// The next request that brings what holds closer to what is wanted. `None` when the two are equal.
    ///
    /// `used_index` reads used.idx of rings.
    pub fn next(&mut self, used_index: impl Fn(Rings) -> u16, device: &mut impl Routes) -> Option<Request> {
        let (export, wanted) = (self.index, self.wanted());
        let attached = self.attached.is_some() && self.attached == wanted;
        for (queue, it) in (0..).map(QueueIndex).zip(&self.queues) {
            let Some(running) = it.running else { continue };
            let same = it.size == running.size && it.kick_vector == Some(running.kick_vector);
            if !attached || !same || it.wanted() != Some(Rings::of(&running)) {
                return Some(Request::Stop { export, queue });
            }
        }
        if !attached {
            return match wanted {
                Some(_) if self.refused => None,
                Some(attach) => Some(Request::Attach(attach)),
                None => self.attached.is_some().then_some(Request::Detach { export }),
            };
        }
        if let Some(write) = self.config_writes.iter().find(|write| !self.config_told.contains(write)) {
            return Some(Request::WriteConfig { export, at: write.at, bytes: write.bytes.clone() });
        }
        for (queue, it) in (0..).map(QueueIndex).zip(&mut self.queues) {
            let Some(rings) = it.wanted() else { continue };
            if it.call.is_some() && it.route.is_none() {
                it.route = device.call(it);
            }
            let call = it.route.filter(|_| it.call.is_some()).map(|route| Call { peer: route.peer.0, vector: 0 });
            match it.running {
                Some(running) if running.call != call && device.is_behind() => return None,
                Some(running) if running.call != call => return Some(Request::SetCall { export, queue, call }),
                Some(_) => {}
                None if it.refusing => {}
                None => {
                    let vector = it.kick_vector.or_else(|| device.kick(it)).unwrap_or(relayed_vector(export, queue));
                    it.kick_vector = Some(vector);
                    if device.is_behind() {
                        return None;
                    }
                    let start = Start {
                        export,
                        queue,
                        size: it.size,
                        base: if it.resume { used_index(rings) } else { it.base },
                        desc: rings.desc,
                        avail: rings.avail,
                        used: rings.used,
                        call,
                        kick_vector: vector,
                    };
                    it.running = Some(start);
                    return Some(Request::Start(start));
                }
            }
        }
        None
    }

    /// Records that the appliance has done `request` and answered `report`.
    pub fn done(&mut self, request: &Request, report: &Report) {
        match request {
            Request::Attach(attach) => {
                self.attached = Some(attach.clone());
                self.config_told.clear();
            }
            Request::Detach { .. } => self.attached = None,
            Request::Stop { queue, .. } => {
                if let Some(queue) = self.queue_mut(*queue) {
                    queue.running = None;
                    match report {
                        Report::Stopped { base } => (queue.base, queue.resume) = (*base, false),
                        // It was not running: used.idx in the ring is how far it came.
                        _ => queue.resume = true,
                    }
                }
            }
            Request::SetCall { queue, call, .. } => {
                if let Some(Start { call: held, .. }) = self.queue_mut(*queue).and_then(|queue| queue.running.as_mut())
                {
                    *held = *call;
                }
            }
            // It may be another one that is wanted by now: that one is told next.
            Request::WriteConfig { at, bytes, .. } => {
                ConfigWrite { at: *at, bytes: bytes.clone() }.put(&mut self.config_told)
            }
            Request::Hello { .. } | Request::Ping { .. } | Request::Start(_) => {}
        }
    }

    /// Records that the appliance refused `start`. Returns its queue.
    pub fn not_started(&mut self, start: &Start) -> Option<&mut Queue> {
        let queue = self.queue_mut(start.queue)?;
        queue.running = None;
        Some(queue)
    }

    /// The queue of that number, if it can be.
    pub fn queue_mut(&mut self, index: QueueIndex) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(index.0))
    }

    /// Takes an offer of a disk, new or changed. Returns true if the disk is this export's. A disk with another serial or
    /// other sectors is another one, which a running driver must not take for its own: it has the old one's bytes in
    /// memory.
    pub fn offer(&mut self, disk: &DiskOffer) -> bool {
        let ours = match (&self.dev, &self.disk) {
            (Some(dev), _) => *dev == disk.name,
            (None, Some(known)) => known.name == disk.name,
            (None, None) => true,
        };
        if ours {
            let identity = |disk: &DiskOffer| (disk.serial, disk.sector_size);
            self.replaced |= self.session && self.disk.as_ref().is_some_and(|known| identity(known) != identity(disk));
            self.disk = Some(disk.clone());
            (self.offered, self.withdrawn) = (true, false);
            self.refused = false;
        }
        ours
    }

    /// Takes the withdrawal of a disk. Returns true if the disk was this export's.
    pub fn withdraw(&mut self, disk: DiskIndex) -> bool {
        let ours = self.offered && self.disk.as_ref().is_some_and(|known| known.disk == disk);
        if ours {
            // Its queues are stopped like those of a front end that has gone, before the bridge answers in them.
            (self.offered, self.withdrawn) = (false, true);
        }
        ours
    }
}

/// Whose turn it is: each export has one request, then the next export has its turn. One that always needs another does not
/// keep others waiting.
#[derive(Debug, Default)]
pub struct Turn(usize);

impl Turn {
    /// The next request, by `request` of an export and its number; the one that asked last is looked at last.
    pub fn next(
        &mut self,
        exports: &mut [Export],
        mut request: impl FnMut(usize, &mut Export) -> Option<Request>,
    ) -> Option<Request> {
        let (count, last) = (exports.len(), self.0);
        (1..=count).map(|step| (last + step) % count).find_map(|export| {
            let found = request(export, &mut exports[export])?;
            self.0 = export;
            Some(found)
        })
    }
}

/// The vector by which we relay a queue's kicks. The first queues of a consumer's disks are busy on different CPUs.
#[must_use]
pub const fn relayed_vector(export: ExportIndex, queue: QueueIndex) -> u16 {
    export.0.wrapping_add(queue.0) % RELAYED_VECTORS
}
