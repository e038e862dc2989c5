//! The messages, and their bytes. The tables that say what is where are in the [module above](super).

use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{DecodeError, Reader, put_counted, put_text};
use super::{VERSION, frame};

/// The most ranges in a memory table: what a vhost-user front end sends without CONFIGURE_MEM_SLOTS.
pub const REGIONS_MAX: usize = 8;

const NAME_MAX: usize = 32;
const CONFIG_MAX: usize = 96;
const CONFIG_WRITE_MAX: usize = 16;
const REASON_MAX: usize = 96;
const NO_PEER: u16 = u16::MAX;

/// A front end: a disk given to a consumer. The bridge numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportIndex(pub u16);

/// A consumer's memory: the IVPosition of the ivshmem device that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryId(pub u16);

/// A disk that the appliance offers. It keeps its number as long as the appliance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskIndex(pub u8);

/// A queue of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub u16);

/// How to interrupt a driver: a write of `peer << 16 | vector` to DOORBELL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The ivshmem peer, below 65535.
    pub peer: u16,
    /// Its vector.
    pub vector: u16,
}

impl Call {
    /// What to write to DOORBELL.
    #[must_use]
    pub const fn doorbell(self) -> u32 {
        (self.peer as u32) << 16 | self.vector as u32
    }
}

/// A range of a consumer's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Its first guest-physical address.
    pub gpa: u64,
    /// Its length.
    pub bytes: u64,
    /// Where it begins in BAR2.
    pub offset: u64,
}

/// Gives a disk to a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attach {
    /// The front end.
    pub export: ExportIndex,
    /// The consumer's memory.
    pub memory: MemoryId,
    /// The features that the driver accepted.
    pub features: u64,
    /// The disk.
    pub disk: DiskIndex,
    /// The memory table, at most [`REGIONS_MAX`] ranges.
    pub regions: Vec<Region>,
}

/// Says where a queue is, and sets it going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The front end.
    pub export: ExportIndex,
    /// The queue.
    pub queue: QueueIndex,
    /// How many entries each ring has: a power of two, at most 32768.
    pub size: u16,
    /// The index in the available ring to take next.
    pub base: u16,
    /// Offset of the descriptor table.
    pub desc: u64,
    /// Offset of the available ring.
    pub avail: u64,
    /// Offset of the used ring.
    pub used: u64,
    /// How to interrupt the driver, if it wants to be.
    pub call: Option<Call>,
    /// Which vector of the memory's device carries its kicks.
    pub kick_vector: u16,
}

/// What the bridge asks of the appliance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Who is there?
    Hello {
        /// This run of the bridge.
        session: u64,
    },
    /// Serve on.
    Ping {
        /// For how long after this, in milliseconds.
        lease_ms: u32,
        /// The run of the appliance that is meant.
        boot: u64,
    },
    /// Give a disk to a consumer.
    Attach(Attach),
    /// Stop all its queues and forget it.
    Detach {
        /// The front end.
        export: ExportIndex,
    },
    /// Serve a queue.
    Start(Start),
    /// Serve a queue no longer.
    Stop {
        /// The front end.
        export: ExportIndex,
        /// The queue.
        queue: QueueIndex,
    },
    /// Interrupt the driver in another way from now on.
    SetCall {
        /// The front end.
        export: ExportIndex,
        /// The queue.
        queue: QueueIndex,
        /// How; none while it is masked.
        call: Option<Call>,
    },
    /// The driver wrote to the device configuration space.
    WriteConfig {
        /// The front end.
        export: ExportIndex,
        /// Where.
        at: u8,
        /// What, at most 16 bytes.
        bytes: Vec<u8>,
    },
}

/// A disk that can be exported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Its number.
    pub disk: DiskIndex,
    /// How many queues an export of it may have.
    pub queues: u16,
    /// How many entries a queue may have.
    pub queue_size: u16,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Its size in units of 512 bytes, as virtio-blk counts.
    pub capacity: u64,
    /// The features that it offers, virtio's bits.
    pub features: u64,
    /// What GET_ID answers.
    pub serial: [u8; 20],
    /// Its name: `pmem0s`. At most 32 bytes.
    pub name: String,
    /// The device configuration space, at most 96 bytes.
    pub config: Vec<u8>,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Done.
    Ok = 0,
    /// The appliance does not know this message.
    Unknown = 1,
    /// There is no such disk.
    NoSuchDisk = 2,
    /// No ivshmem device has this IVPosition.
    NoSuchMemory = 3,
    /// Nothing is attached under this number.
    NoSuchExport = 4,
    /// A queue of the export is running.
    Busy = 5,
    /// The memory table overlaps itself, leaves BAR2, or has an empty range.
    BadTable = 6,
    /// The queue's number, size, or places are not possible.
    BadQueue = 7,
    /// The queue was never started.
    NotStarted = 8,
    /// Features that were not offered, or those of a legacy driver.
    BadFeatures = 9,
    /// That part of the configuration space is not writable.
    BadConfig = 10,
    /// The appliance has no room for more.
    TooMany = 11,
}

impl Outcome {
    const ALL: [Self; 12] = [
        Self::Ok,
        Self::Unknown,
        Self::NoSuchDisk,
        Self::NoSuchMemory,
        Self::NoSuchExport,
        Self::Busy,
        Self::BadTable,
        Self::BadQueue,
        Self::NotStarted,
        Self::BadFeatures,
        Self::BadConfig,
        Self::TooMany,
    ];
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Ok => "done",
            Self::Unknown => "the appliance does not know this message",
            Self::NoSuchDisk => "the appliance has no such disk",
            Self::NoSuchMemory => "the appliance has no ivshmem device with this id",
            Self::NoSuchExport => "nothing is attached under this number",
            Self::Busy => "a queue is still running",
            Self::BadTable => "the memory table overlaps itself or leaves the shared memory",
            Self::BadQueue => "the queue is not possible: its number, size or place",
            Self::NotStarted => "the queue was never started",
            Self::BadFeatures => "features that were not offered, or a legacy driver's (without VERSION_1)",
            Self::BadConfig => "this part of the configuration is not writable",
            Self::TooMany => "the appliance has no room for more exports",
        })
    }
}

/// What the appliance says to the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// The appliance is up.
    Hello {
        /// This run of the appliance.
        boot: u64,
        /// How many [`Report::Disk`] with the same number follow; 0 if it was not asked.
        disks: u8,
    },
    /// A disk that can be exported.
    Disk(Disk),
    /// A disk was withdrawn.
    DiskGone {
        /// Which.
        disk: DiskIndex,
    },
    /// An answer.
    Done(Outcome),
    /// The answer to [`Request::Stop`].
    Stopped {
        /// Where to go on in the available ring: used.idx, too.
        base: u16,
    },
    /// A driver broke its ring; the queue waits to be started anew.
    Broken {
        /// The front end.
        export: ExportIndex,
        /// The queue.
        queue: QueueIndex,
        /// used.idx as it is.
        used: u16,
        /// What is wrong with the ring, for people. At most 96 bytes.
        reason: String,
    },
}

fn begin(kind: u8, sequence: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend([VERSION, kind]);
    put16(&mut out, sequence);
    out
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_call(out: &mut Vec<u8>, call: Option<Call>) {
    let call = call.unwrap_or(Call { peer: NO_PEER, vector: 0 });
    put16(out, call.peer);
    put16(out, call.vector);
}

fn get_call(body: &mut Reader<'_>) -> Option<Option<Call>> {
    let call = Call { peer: body.u16()?, vector: body.u16()? };
    Some(if call.peer == NO_PEER { None } else { Some(call) })
}

fn get_export(body: &mut Reader<'_>) -> Option<ExportIndex> {
    body.u16().map(ExportIndex)
}

fn get_queue(body: &mut Reader<'_>) -> Option<QueueIndex> {
    body.u16().map(QueueIndex)
}

fn open(payload: &[u8]) -> Result<(u8, u16, Reader<'_>), DecodeError> {
    let ([version, kind, low, high], body) = payload.split_first_chunk().ok_or(DecodeError::Short)?;
    let sequence = u16::from_le_bytes([*low, *high]);
    if *version != VERSION {
        return Err(DecodeError::Version { found: *version, sequence });
    }
    Ok((*kind, sequence, Reader(body)))
}

/// The message if its body was there and nothing is left of it.
fn close<T>(kind: u8, sequence: u16, message: Option<T>, body: &Reader<'_>) -> Result<(u16, T), DecodeError> {
    match message {
        Some(message) if body.0.is_empty() => Ok((sequence, message)),
        _ => Err(DecodeError::Body { kind, sequence }),
    }
}

impl Request {
    /// The frame to send. What is beyond the limits of the fields is cut off.
    #[must_use]
    pub fn encode(&self, sequence: u16) -> Vec<u8> {
        let mut out = begin(self.kind(), sequence);
        match self {
            Self::Hello { session } => put64(&mut out, *session),
            Self::Ping { lease_ms, boot } => {
                put32(&mut out, *lease_ms);
                put64(&mut out, *boot);
            }
            Self::Attach(attach) => attach.put(&mut out),
            Self::Detach { export } => put16(&mut out, export.0),
            Self::Start(start) => start.put(&mut out),
            Self::Stop { export, queue } => {
                put16(&mut out, export.0);
                put16(&mut out, queue.0);
            }
            Self::SetCall { export, queue, call } => {
                put16(&mut out, export.0);
                put16(&mut out, queue.0);
                put_call(&mut out, *call);
            }
            Self::WriteConfig { export, at, bytes } => {
                put16(&mut out, export.0);
                out.push(*at);
                put_counted(&mut out, bytes, CONFIG_WRITE_MAX);
            }
        }
        frame::frame(&out)
    }

    /// The front end that it is about, if it is about one.
    #[must_use]
    pub const fn export(&self) -> Option<ExportIndex> {
        match self {
            Self::Hello { .. } | Self::Ping { .. } => None,
            Self::Attach(Attach { export, .. })
            | Self::Start(Start { export, .. })
            | Self::Detach { export }
            | Self::Stop { export, .. }
            | Self::SetCall { export, .. }
            | Self::WriteConfig { export, .. } => Some(*export),
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 0x01,
            Self::Ping { .. } => 0x02,
            Self::Attach(_) => 0x03,
            Self::Detach { .. } => 0x04,
            Self::Start(_) => 0x05,
            Self::Stop { .. } => 0x06,
            Self::SetCall { .. } => 0x07,
            Self::WriteConfig { .. } => 0x08,
        }
    }

    /// The request in a payload, and its number.
    ///
    /// # Errors
    /// Why it is none; nothing is guessed.
    pub fn decode(payload: &[u8]) -> Result<(u16, Self), DecodeError> {
        let (kind, sequence, mut body) = open(payload)?;
        let at = &mut body;
        let request = match kind {
            0x01 => at.u64().map(|session| Self::Hello { session }),
            0x02 => (|| Some(Self::Ping { lease_ms: at.u32()?, boot: at.u64()? }))(),
            0x03 => Attach::get(at).map(Self::Attach),
            0x04 => get_export(at).map(|export| Self::Detach { export }),
            0x05 => Start::get(at).map(Self::Start),
            0x06 => (|| Some(Self::Stop { export: get_export(at)?, queue: get_queue(at)? }))(),
            0x07 => (|| Some(Self::SetCall { export: get_export(at)?, queue: get_queue(at)?, call: get_call(at)? }))(),
            0x08 => (|| {
                let (export, place) = (get_export(at)?, at.u8()?);
                Some(Self::WriteConfig { export, at: place, bytes: at.counted(CONFIG_WRITE_MAX)?.to_vec() })
            })(),
            found => return Err(DecodeError::Kind { found, sequence }),
        };
        close(kind, sequence, request, &body)
    }
}

impl Attach {
    fn put(&self, out: &mut Vec<u8>) {
        put16(out, self.export.0);
        put16(out, self.memory.0);
        put64(out, self.features);
        out.push(self.disk.0);
        let regions = &self.regions[..self.regions.len().min(REGIONS_MAX)];
        out.push(u8::try_from(regions.len()).unwrap_or(0));
        for region in regions {
            put64(out, region.gpa);
            put64(out, region.bytes);
            put64(out, region.offset);
        }
    }

    fn get(at: &mut Reader<'_>) -> Option<Self> {
        let (export, memory) = (get_export(at)?, MemoryId(at.u16()?));
        let (features, disk) = (at.u64()?, DiskIndex(at.u8()?));
        let count = usize::from(at.u8()?);
        if count > REGIONS_MAX {
            return None;
        }
        let regions: Option<_> =
            (0..count).map(|_| Some(Region { gpa: at.u64()?, bytes: at.u64()?, offset: at.u64()? })).collect();
        Some(Self { export, memory, features, disk, regions: regions? })
    }
}

impl Start {
    fn put(&self, out: &mut Vec<u8>) {
        for value in [self.export.0, self.queue.0, self.size, self.base] {
            put16(out, value);
        }
        for value in [self.desc, self.avail, self.used] {
            put64(out, value);
        }
        put_call(out, self.call);
        put16(out, self.kick_vector);
    }

    fn get(at: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            export: get_export(at)?,
            queue: get_queue(at)?,
            size: at.u16()?,
            base: at.u16()?,
            desc: at.u64()?,
            avail: at.u64()?,
            used: at.u64()?,
            call: get_call(at)?,
            kick_vector: at.u16()?,
        })
    }
}

impl Report {
    /// The frame to send; `sequence` is the request's that it answers, or 0. What is beyond the limits of the fields is
    /// cut off.
    #[must_use]
    pub fn encode(&self, sequence: u16) -> Vec<u8> {
        let mut out = begin(self.kind(), sequence);
        match self {
            Self::Hello { boot, disks } => {
                put64(&mut out, *boot);
                out.push(*disks);
            }
            Self::Disk(disk) => disk.put(&mut out),
            Self::DiskGone { disk } => out.push(disk.0),
            Self::Done(outcome) => out.push(*outcome as u8),
            Self::Stopped { base } => put16(&mut out, *base),
            Self::Broken { export, queue, used, reason } => {
                for value in [export.0, queue.0, *used] {
                    put16(&mut out, value);
                }
                put_text(&mut out, reason, REASON_MAX);
            }
        }
        frame::frame(&out)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 0x81,
            Self::Disk(_) => 0x82,
            Self::DiskGone { .. } => 0x83,
            Self::Done(_) => 0x84,
            Self::Stopped { .. } => 0x85,
            Self::Broken { .. } => 0x86,
        }
    }

    /// The report in a payload, and the number of the request that it answers, or 0.
    ///
    /// # Errors
    /// Why it is none; nothing is guessed.
    pub fn decode(payload: &[u8]) -> Result<(u16, Self), DecodeError> {
        let (kind, sequence, mut body) = open(payload)?;
        let at = &mut body;
        let report = match kind {
            0x81 => (|| Some(Self::Hello { boot: at.u64()?, disks: at.u8()? }))(),
            0x82 => Disk::get(at).map(Self::Disk),
            0x83 => at.u8().map(|disk| Self::DiskGone { disk: DiskIndex(disk) }),
            0x84 => at.u8().and_then(|code| Outcome::ALL.get(usize::from(code)).copied()).map(Self::Done),
            0x85 => at.u16().map(|base| Self::Stopped { base }),
            0x86 => (|| {
                Some(Self::Broken {
                    export: get_export(at)?,
                    queue: get_queue(at)?,
                    used: at.u16()?,
                    reason: at.text(REASON_MAX)?,
                })
            })(),
            found => return Err(DecodeError::Kind { found, sequence }),
        };
        close(kind, sequence, report, &body)
    }
}

impl Disk {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.disk.0);
        put16(out, self.queues);
        put16(out, self.queue_size);
        put32(out, self.sector_size);
        put64(out, self.capacity);
        put64(out, self.features);
        out.extend_from_slice(&self.serial);
        put_text(out, &self.name, NAME_MAX);
        put_counted(out, &self.config, CONFIG_MAX);
    }

    fn get(at: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            disk: DiskIndex(at.u8()?),
            queues: at.u16()?,
            queue_size: at.u16()?,
            sector_size: at.u32()?,
            capacity: at.u64()?,
            features: at.u64()?,
            serial: at.array()?,
            name: at.text(NAME_MAX)?,
            config: at.counted(CONFIG_MAX)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Deframer, PAYLOAD_MAX};
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn payload(frame: &[u8]) -> Vec<u8> {
        let mut deframer = Deframer::new();
        frame.iter().find_map(|byte| deframer.push(*byte)).expect("one frame").expect("a sound one")
    }

    fn call() -> impl Strategy<Value = Option<Call>> {
        prop::option::of((0..NO_PEER, any::<u16>()).prop_map(|(peer, vector)| Call { peer, vector }))
    }

    fn request() -> impl Strategy<Value = Request> {
        let export = any::<u16>().prop_map(ExportIndex);
        let queue = any::<u16>().prop_map(QueueIndex);
        let region = any::<[u64; 3]>().prop_map(|[gpa, bytes, offset]| Region { gpa, bytes, offset });
        prop_oneof![
            any::<u64>().prop_map(|session| Request::Hello { session }),
            (any::<u32>(), any::<u64>()).prop_map(|(lease_ms, boot)| Request::Ping { lease_ms, boot }),
            (any::<(u16, u16, u64, u8)>(), prop::collection::vec(region, 0..=REGIONS_MAX)).prop_map(
                |((export, memory, features, disk), regions)| Request::Attach(Attach {
                    export: ExportIndex(export),
                    memory: MemoryId(memory),
                    features,
                    disk: DiskIndex(disk),
                    regions,
                })
            ),
            export.clone().prop_map(|export| Request::Detach { export }),
            (any::<[u16; 5]>(), any::<[u64; 3]>(), call()).prop_map(|(words, [desc, avail, used], call)| {
                Request::Start(Start {
                    export: ExportIndex(words[0]),
                    queue: QueueIndex(words[1]),
                    size: words[2],
                    base: words[3],
                    desc,
                    avail,
                    used,
                    call,
                    kick_vector: words[4],
                })
            }),
            (export.clone(), queue.clone()).prop_map(|(export, queue)| Request::Stop { export, queue }),
            (export.clone(), queue, call()).prop_map(|(export, queue, call)| Request::SetCall { export, queue, call }),
            (export, any::<u8>(), prop::collection::vec(any::<u8>(), 0..=CONFIG_WRITE_MAX))
                .prop_map(|(export, at, bytes)| Request::WriteConfig { export, at, bytes }),
        ]
    }

    fn report() -> impl Strategy<Value = Report> {
        let disk = (any::<(u8, u16, u16, u32, u64, u64, [u8; 20])>(), "[a-zé0-9.]{0,16}", any::<[u8; 32]>()).prop_map(
            |((disk, queues, queue_size, sector_size, capacity, features, serial), name, config)| {
                Report::Disk(Disk {
                    disk: DiskIndex(disk),
                    queues,
                    queue_size,
                    sector_size,
                    capacity,
                    features,
                    serial,
                    name,
                    config: config.repeat(3),
                })
            },
        );
        prop_oneof![
            any::<(u64, u8)>().prop_map(|(boot, disks)| Report::Hello { boot, disks }),
            disk,
            any::<u8>().prop_map(|disk| Report::DiskGone { disk: DiskIndex(disk) }),
            prop::sample::select(Outcome::ALL.to_vec()).prop_map(Report::Done),
            any::<u16>().prop_map(|base| Report::Stopped { base }),
            (any::<[u16; 3]>(), "[a-zé ]{0,48}").prop_map(|([export, queue, used], reason)| Report::Broken {
                export: ExportIndex(export),
                queue: QueueIndex(queue),
                used,
                reason,
            }),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_through(sequence in any::<u16>(), request in request()) {
            let payload = payload(&request.encode(sequence));
            prop_assert!(payload.len() <= PAYLOAD_MAX);
            prop_assert_eq!(Request::decode(&payload), Ok((sequence, request)));
            let refused = matches!(Report::decode(&payload), Err(DecodeError::Kind { .. }));
            prop_assert!(refused);
        }

        #[test]
        fn reports_come_through(sequence in any::<u16>(), report in report()) {
            let payload = payload(&report.encode(sequence));
            prop_assert!(payload.len() <= PAYLOAD_MAX);
            prop_assert_eq!(Report::decode(&payload), Ok((sequence, report)));
            let refused = matches!(Request::decode(&payload), Err(DecodeError::Kind { .. }));
            prop_assert!(refused);
        }

        #[test]
        fn a_body_of_another_length_is_refused(request in request(), more in any::<bool>()) {
            let mut payload = payload(&request.encode(7));
            if more { payload.push(1) } else { payload.pop(); }
            let refused = matches!(Request::decode(&payload), Err(DecodeError::Body { sequence: 7, .. }));
            prop_assert!(refused);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), ours in any::<bool>()) {
            if ours && bytes.len() > 1 {
                bytes[0] = VERSION;
                bytes[1] &= 0x8F;
            }
            let _ = Request::decode(&bytes);
            let _ = Report::decode(&bytes);
        }
    }

    #[test]
    fn the_bytes_of_a_start_stand_where_the_table_says() {
        let start = Start {
            export: ExportIndex(0x0102),
            queue: QueueIndex(0x0304),
            size: 0x0100,
            base: 0x0506,
            desc: 0x1000,
            avail: 0x2000,
            used: 0x3000,
            call: None,
            kick_vector: 1,
        };
        let expected = [
            vec![1, 5, 0x09, 0, 2, 1, 4, 3, 0, 1, 6, 5],
            vec![0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0],
            vec![0xFF, 0xFF, 0, 0, 1, 0],
        ];
        assert_eq!(payload(&Request::Start(start).encode(9)), expected.concat());
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let report =
            Report::Broken { export: ExportIndex(0), queue: QueueIndex(0), used: 0, reason: "é".repeat(60) + "x" };
        let Ok((0, Report::Broken { reason, .. })) = Report::decode(&payload(&report.encode(0))) else { panic!() };
        assert_eq!(reason, "é".repeat(48));
    }

    #[test]
    fn another_version_is_told_by_its_number() {
        assert_eq!(Request::decode(&[2, 1, 3, 0]), Err(DecodeError::Version { found: 2, sequence: 3 }));
    }
}
