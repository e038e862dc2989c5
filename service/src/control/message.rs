//! The messages, and their bytes. The tables that say what is where are in the [module above](super).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize, Serializer};

use super::codec::{self, DecodeError, Sender};

/// The most ranges in a memory table: what a vhost-user front end sends without CONFIGURE_MEM_SLOTS.
pub const REGIONS_MAX: usize = 8;

const NAME_MAX: usize = 32;
const CONFIG_MAX: usize = 96;
const CONFIG_WRITE_MAX: usize = 16;
const REASON_MAX: usize = 96;

/// A front end: a disk given to a consumer. The bridge numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExportIndex(pub u16);

/// A consumer's memory: the IVPosition of the ivshmem device that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemoryId(pub u16);

/// A disk that the appliance offers. It keeps its number as long as the appliance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiskIndex(pub u8);

/// A queue of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueIndex(pub u16);

/// How to interrupt a driver: a write of `peer << 16 | vector` to DOORBELL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// The ivshmem peer, below 65535.
    pub peer: u16,
    /// Its vector.
    pub vector: u16,
}

impl Call {
    /// The value to write to DOORBELL.
    #[must_use]
    pub const fn doorbell(self) -> u32 {
        (self.peer as u32) << 16 | self.vector as u32
    }
}

/// A range of a consumer's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemoryRegion {
    /// Its first guest-physical address.
    pub gpa: u64,
    /// Its length.
    pub bytes: u64,
    /// Where it begins in BAR2.
    pub offset: u64,
}

/// Gives a disk to a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    pub regions: Vec<MemoryRegion>,
}

/// Names the place of a queue, and starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// A request of the bridge to the appliance. The order is that of the kinds on the wire: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Request {
    /// Asks the appliance for its run and its disks.
    Hello {
        /// This run of the bridge.
        session: u64,
    },
    /// Renews the lease.
    Ping {
        /// For how long after this, in milliseconds.
        lease_ms: u32,
        /// The run of the appliance that is meant.
        boot: u64,
    },
    /// Gives a disk to a consumer.
    Attach(Attach),
    /// Stops all queues of a front end, and forgets it.
    Detach {
        /// The front end.
        export: ExportIndex,
    },
    /// Serves a queue.
    Start(Start),
    /// Stops a queue.
    Stop {
        /// The front end.
        export: ExportIndex,
        /// The queue.
        queue: QueueIndex,
    },
    /// Changes how the driver is interrupted.
    SetCall {
        /// The front end.
        export: ExportIndex,
        /// The queue.
        queue: QueueIndex,
        /// The interrupt; `None` while it is masked.
        call: Option<Call>,
    },
    /// The driver wrote to the device configuration space.
    WriteConfig {
        /// The front end.
        export: ExportIndex,
        /// The offset of its first byte.
        at: u8,
        /// The bytes, at most 16.
        bytes: Vec<u8>,
    },
}

/// A disk that can be exported.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskOffer {
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
    /// The identification that GET_ID returns.
    pub serial: [u8; 20],
    /// Its name: `pmem0s`. At most 32 bytes.
    pub name: String,
    /// The device configuration space, at most 96 bytes.
    pub config: Vec<u8>,
}

/// How a request went. The order is that of the codes on the wire: new ones come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Ok,
    /// The appliance does not know this message.
    Unknown,
    /// There is no such disk.
    NoSuchDisk,
    /// No ivshmem device has this IVPosition.
    NoSuchMemory,
    /// Nothing is attached under this number.
    NoSuchExport,
    /// A queue of the export is running.
    Busy,
    /// The memory table overlaps itself, leaves BAR2, or has an empty range.
    BadTable,
    /// The queue's number, size, or places are not possible.
    BadQueue,
    /// The queue was never started.
    NotStarted,
    /// Features that were not offered, or those of a legacy driver.
    BadFeatures,
    /// That part of the configuration space is not writable.
    BadConfig,
    /// The appliance has no room for more.
    TooMany,
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

/// A message of the appliance to the bridge. The order is that of the kinds on the wire: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Report {
    /// The appliance is up.
    Hello {
        /// This run of the appliance.
        boot: u64,
        /// How many [`Report::Disk`] with the same number follow; 0 if the appliance was not asked.
        disks: u16,
    },
    /// A disk that can be exported.
    Disk(DiskOffer),
    /// A disk was withdrawn.
    DiskGone {
        /// Its number.
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
        /// What is wrong with the ring, for people. At most 96 bytes go on the wire.
        #[serde(serialize_with = "cut")]
        reason: String,
    },
}

impl Request {
    /// The frame to send.
    ///
    /// # Panics
    /// If a list is longer than the protocol allows: its maker has bounded it.
    #[must_use]
    pub fn encode(&self, sequence: u16) -> Vec<u8> {
        assert!(self.is_bounded(), "the bridge bounds the lists of what it sends");
        codec::encode(Sender::Bridge, sequence, self)
    }

    /// The request in a payload, and its number.
    ///
    /// # Errors
    /// Why the payload is no request; nothing is guessed.
    pub fn decode(payload: &[u8]) -> Result<(u16, Self), DecodeError> {
        codec::decode(Sender::Bridge, payload, Self::is_bounded)
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Attach(attach) => attach.regions.len() <= REGIONS_MAX,
            Self::WriteConfig { bytes, .. } => bytes.len() <= CONFIG_WRITE_MAX,
            _ => true,
        }
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
}

impl Report {
    /// The frame to send; `sequence` is the number of the request that it answers, or 0.
    ///
    /// # Panics
    /// If a name or a configuration is longer than the protocol allows: the appliance makes both, and bounds them.
    #[must_use]
    pub fn encode(&self, sequence: u16) -> Vec<u8> {
        assert!(matches!(self, Self::Broken { .. }) || self.is_bounded(), "the appliance bounds what it offers");
        codec::encode(Sender::Appliance, sequence, self)
    }

    /// The report in a payload, and the number of the request that it answers, or 0.
    ///
    /// # Errors
    /// Why the payload is no report; nothing is guessed.
    pub fn decode(payload: &[u8]) -> Result<(u16, Self), DecodeError> {
        codec::decode(Sender::Appliance, payload, Self::is_bounded)
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.name.len() <= NAME_MAX && disk.config.len() <= CONFIG_MAX,
            Self::Broken { reason, .. } => reason.len() <= REASON_MAX,
            _ => true,
        }
    }
}

/// Writes a reason, cut to [`REASON_MAX`] bytes between two characters: it is for people.
fn cut<S: Serializer>(reason: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&reason[..reason.floor_char_boundary(REASON_MAX)])
}

#[cfg(test)]
mod tests {
    use super::super::{Deframer, PAYLOAD_MAX, VERSION};
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const OUTCOMES: [Outcome; 12] = [
        Outcome::Ok,
        Outcome::Unknown,
        Outcome::NoSuchDisk,
        Outcome::NoSuchMemory,
        Outcome::NoSuchExport,
        Outcome::Busy,
        Outcome::BadTable,
        Outcome::BadQueue,
        Outcome::NotStarted,
        Outcome::BadFeatures,
        Outcome::BadConfig,
        Outcome::TooMany,
    ];

    fn payload(frame: &[u8]) -> Vec<u8> {
        let mut deframer = Deframer::new();
        frame.iter().find_map(|byte| deframer.push(*byte)).expect("one frame").expect("a sound one")
    }

    fn call() -> impl Strategy<Value = Option<Call>> {
        prop::option::of(any::<(u16, u16)>().prop_map(|(peer, vector)| Call { peer, vector }))
    }

    fn request() -> impl Strategy<Value = Request> {
        let export = any::<u16>().prop_map(ExportIndex);
        let queue = any::<u16>().prop_map(QueueIndex);
        let region = any::<[u64; 3]>().prop_map(|[gpa, bytes, offset]| MemoryRegion { gpa, bytes, offset });
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
                Report::Disk(DiskOffer {
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
            any::<(u64, u16)>().prop_map(|(boot, disks)| Report::Hello { boot, disks }),
            disk,
            any::<u8>().prop_map(|disk| Report::DiskGone { disk: DiskIndex(disk) }),
            prop::sample::select(OUTCOMES.to_vec()).prop_map(Report::Done),
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
            prop_assert_eq!(Report::decode(&payload), Err(DecodeError::Echo));
        }

        #[test]
        fn reports_come_through(sequence in any::<u16>(), report in report()) {
            let payload = payload(&report.encode(sequence));
            prop_assert!(payload.len() <= PAYLOAD_MAX);
            prop_assert_eq!(Report::decode(&payload), Ok((sequence, report)));
            prop_assert_eq!(Request::decode(&payload), Err(DecodeError::Echo));
        }

        #[test]
        fn a_request_of_any_other_length_is_refused_by_its_number(request in request(), sequence in any::<u16>()) {
            let payload = payload(&request.encode(sequence));
            for length in 0..payload.len() {
                let expected = if length < 4 { DecodeError::Short } else { DecodeError::Message { sequence } };
                prop_assert_eq!(Request::decode(&payload[..length]), Err(expected));
            }
            let longer = [&payload[..], &[0]].concat();
            prop_assert_eq!(Request::decode(&longer), Err(DecodeError::Message { sequence }));
        }

        #[test]
        fn a_report_of_any_other_length_is_refused(report in report()) {
            let payload = payload(&report.encode(7));
            for length in 0..payload.len() {
                prop_assert!(Report::decode(&payload[..length]).is_err());
            }
            prop_assert!(Report::decode(&[&payload[..], &[0]].concat()).is_err());
        }

        /// Behind a right checksum, as a bridge at fault sends it: another message, or none, and its number is kept.
        #[test]
        fn a_changed_byte_gives_another_message_or_none(request in request(), report in report(), to in 1..=u8::MAX) {
            let (mut asked, mut told) = (payload(&request.encode(7)), payload(&report.encode(7)));
            for at in 4..asked.len() {
                asked[at] ^= to;
                match Request::decode(&asked) {
                    Ok((7, other)) => prop_assert_eq!(Request::decode(&payload(&other.encode(7))), Ok((7, other))),
                    other => prop_assert_eq!(other, Err(DecodeError::Message { sequence: 7 })),
                }
                asked[at] ^= to;
            }
            for at in 4..told.len() {
                told[at] ^= to;
                match Report::decode(&told) {
                    Ok((7, other)) => prop_assert_eq!(Report::decode(&payload(&other.encode(7))), Ok((7, other))),
                    other => prop_assert_eq!(other, Err(DecodeError::Message { sequence: 7 })),
                }
                told[at] ^= to;
            }
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), ours in any::<bool>()) {
            if ours && bytes.len() > 1 {
                bytes[0] = VERSION;
                bytes[1] &= 1;
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
            // Header; kind; export, queue, size, base; desc, avail, used; no call; kick_vector.
            vec![2, 0, 9, 0],
            vec![4],
            vec![0x82, 0x02, 0x84, 0x06, 0x80, 0x02, 0x86, 0x0A],
            vec![0x80, 0x20, 0x80, 0x40, 0x80, 0x60],
            vec![0, 1],
        ];
        assert_eq!(payload(&Request::Start(start).encode(9)), expected.concat());
    }

    #[test]
    fn lists_and_texts_beyond_their_limits_are_refused() {
        let encoded = |message: &[u8]| [&[VERSION, 0, 7, 0], message].concat();
        let told = |message: &[u8]| [&[VERSION, 1, 7, 0], message].concat();
        let refused = DecodeError::Message { sequence: 7 };
        let attach = |regions: usize| {
            encoded(&[&[2, 0, 0, 0, 0, u8::try_from(regions).expect("few")][..], &vec![1; 3 * regions][..]].concat())
        };
        assert!(Request::decode(&attach(REGIONS_MAX)).is_ok());
        assert_eq!(Request::decode(&attach(REGIONS_MAX + 1)), Err(refused));
        let write = |bytes: u8| encoded(&[&[7, 0, 0, bytes][..], &vec![1; usize::from(bytes)][..]].concat());
        assert!(Request::decode(&write(16)).is_ok());
        assert_eq!(Request::decode(&write(17)), Err(refused));
        let broken = |bytes: u8| told(&[&[5, 0, 0, 0, bytes][..], &vec![b'a'; usize::from(bytes)][..]].concat());
        assert!(Report::decode(&broken(96)).is_ok());
        assert_eq!(Report::decode(&broken(97)), Err(refused));
        // A length of 2^63, of which nothing follows: it is refused without room being made for it.
        let endless = [&[2, 0, 0, 0, 0][..], &[0x80; 9], &[1]].concat();
        assert_eq!(Request::decode(&encoded(&endless)), Err(refused));
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_by_its_number() {
        assert_eq!(Request::decode(&[VERSION, 0, 3, 1, 8, 0, 0]), Err(DecodeError::Message { sequence: 0x0103 }));
        assert_eq!(Report::decode(&[VERSION, 1, 3, 1, 6, 0, 0]), Err(DecodeError::Message { sequence: 0x0103 }));
    }

    #[test]
    fn the_longest_message_fits_a_payload() {
        let region = MemoryRegion { gpa: u64::MAX, bytes: u64::MAX, offset: u64::MAX };
        let attach = Attach {
            export: ExportIndex(u16::MAX),
            memory: MemoryId(u16::MAX),
            features: u64::MAX,
            disk: DiskIndex(u8::MAX),
            regions: vec![region; REGIONS_MAX],
        };
        assert_eq!(payload(&Request::Attach(attach).encode(0)).len(), 263);
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
        assert_eq!(Request::decode(&[1, 1, 3, 0]), Err(DecodeError::Version { found: 1, sequence: 3 }));
    }
}
