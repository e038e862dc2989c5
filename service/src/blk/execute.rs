//! A request, done step by step: from a checked buffer to a status byte. Storing that is a step of its own: those before it
//! may wait for the medium for long.
//!
//! A step moves at most [`STEP_BYTES`], and changes at most [`STEP_SECTORS`]. So a request may be as large as the disk, and
//! some drivers' are: other queues wait for a step only. What a step has done is whole sectors, each old or new; a device that
//! ends between two steps leaves a request that is not answered, and the next one begins it anew.

use super::request::{HEADER_BYTES, Request, RequestKind};
use super::{
    BlkDevice, DiskProperties, Features, RequestError, STATUS_OK, UNIT_BYTES, ZEROES_SEGMENTS_MAX, ZEROES_UNITS_MAX,
};
use crate::backend::{BackendError, BlockBackend, Sector, SectorRun};
use crate::memory::{MemoryOffset, Scatter, SharedMemory};
use crate::virtqueue::Chain;

/// The status is the last byte that the device may write.
const STATUS_BYTES: u64 = 1;
const ID_BYTES: usize = 20;
const RANGE_BYTES: usize = 16;
const UNMAP: u32 = 1;

/// The most bytes that a step reads or writes.
pub const STEP_BYTES: u64 = 128 << 10;

/// The most sectors that a step writes, discards or zeroes: as many as a BTT commits together.
pub const STEP_SECTORS: u64 = 32;

/// The budget of a poll after which the next consumer has its turn: one step of a large request, or a batch of writes, or
/// as many small requests.
pub const STEP_UNITS: u32 = 32;

/// The bytes that are read for one unit of a poll's budget.
const READ_BYTES_A_UNIT: u64 = STEP_BYTES / STEP_UNITS as u64;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its kind; `None` if its header was not there.
    pub kind: Option<RequestKind>,
    /// How it ended.
    pub result: Result<(), RequestError>,
    /// For the used ring: how many bytes were written, from the first writable one on.
    pub written: u32,
}

/// A request that was begun and is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    kind: RequestKind,
    work: Work,
    /// The disk when it was begun: its sectors are this one's.
    disk: DiskProperties,
    first: Sector,
    count: u64,
    done: u64,
}

/// The operation on the sectors.
#[derive(Clone, Copy, Debug)]
enum Work {
    Read,
    Write,
    Discard,
    WriteZeroes { unmap: bool },
}

/// The state of a request after a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    /// There is more to do.
    Pending(Pending),
    /// There is not: it is to be answered.
    Ended(Ended),
}

/// A request that is done, or refused. Its status is not stored yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Its kind; `None` if its header was not there.
    kind: Option<RequestKind>,
    /// The bytes of data that the consumer got, from the first on; or why it is not done.
    result: Result<u64, RequestError>,
}

/// Reads a buffer's request.
///
/// # Errors
/// Why there is none.
pub(super) fn parse<M: SharedMemory + ?Sized>(chain: &Chain, memory: &M) -> Result<Request, RequestError> {
    if let Some(fault) = chain.fault() {
        return Err(RequestError::Buffer(fault));
    }
    let request = Request::parse(chain.readable(), memory).filter(|_| chain.last_writable().is_some());
    request.ok_or(RequestError::Malformed)
}

/// Begins a buffer's request: it is checked, and done if no sectors are to be touched. A buffer without a byte for the status
/// is only given back. A step by itself, and a short one.
pub(super) fn begin<M: SharedMemory + ?Sized, B: BlockBackend>(
    request: Result<Request, RequestError>,
    device: &BlkDevice,
    chain: &Chain,
    memory: &M,
    backend: &mut B,
) -> Progress {
    let request = match request {
        Ok(request) => request,
        Err(why) => return Progress::Ended(Ended { kind: None, result: Err(why) }),
    };
    let ended = |result| Progress::Ended(Ended { kind: Some(request.kind), result });
    match plan(device, request, chain, memory, backend) {
        Ok(Plan::Sectors(work, Some((first, count)))) => {
            Progress::Pending(Pending { kind: request.kind, work, disk: device.disk, first, count, done: 0 })
        }
        Ok(Plan::Sectors(_, None)) => ended(Ok(0)),
        Ok(Plan::Done { written }) => ended(Ok(written)),
        Err(why) => ended(Err(why)),
    }
}

impl Pending {
    /// How many sectors the next step is about.
    fn step_sectors(&self) -> u64 {
        let bytes = STEP_BYTES / u64::from(self.disk.sector_bytes);
        let most = if matches!(self.work, Work::Read) { bytes } else { bytes.min(STEP_SECTORS) };
        (self.count - self.done).min(most)
    }

    /// The cost of the next step in a poll's units: one for each sector that it changes, or for each 4 KiB that it reads.
    pub(super) fn cost(&self) -> u64 {
        match self.work {
            Work::Read => (self.step_sectors() * u64::from(self.disk.sector_bytes)).div_ceil(READ_BYTES_A_UNIT),
            Work::Write | Work::Discard | Work::WriteZeroes { .. } => self.step_sectors(),
        }
    }

    /// The sectors of a write that has not begun and can be done in one step, and their data.
    pub(super) fn whole_write<'a, M: SharedMemory + ?Sized>(
        &self,
        chain: &'a Chain,
        memory: &'a M,
    ) -> Option<(SectorRun, Scatter<'a, M>)> {
        let whole = matches!(self.work, Work::Write) && self.done == 0;
        (whole && self.count == self.step_sectors()).then(|| {
            let run = SectorRun { first: self.first, count: self.count };
            let bytes = self.count * u64::from(self.disk.sector_bytes);
            (run, chain.readable().window(memory, HEADER_BYTES, bytes))
        })
    }

    /// The end of a write that was done as a whole.
    pub(super) fn ended_write(&self, result: Result<(), BackendError>) -> Ended {
        Ended { kind: Some(self.kind), result: result.map(|()| 0).map_err(RequestError::Backend) }
    }

    /// Does the next step.
    pub(super) fn step<M: SharedMemory + ?Sized, B: BlockBackend>(
        mut self,
        device: &BlkDevice,
        chain: &Chain,
        memory: &M,
        backend: &mut B,
    ) -> Progress {
        let ended = |result| Progress::Ended(Ended { kind: Some(self.kind), result });
        if device.disk != self.disk {
            // Withdrawn, or made anew in another shape, since the last step.
            return ended(Err(RequestError::OutOfRange));
        }
        let sector_bytes = u64::from(self.disk.sector_bytes);
        let (first, count) = (Sector(self.first.0 + self.done), self.step_sectors());
        let (skip, bytes) = (self.done * sector_bytes, count * sector_bytes);
        let result = match self.work {
            Work::Read => backend.read(first, count, &chain.writable().window(memory, skip, bytes)),
            Work::Write => backend.write(first, count, &chain.readable().window(memory, HEADER_BYTES + skip, bytes)),
            Work::Discard => backend.discard(first, count),
            Work::WriteZeroes { unmap } => backend.write_zeroes(first, count, unmap),
        };
        if let Err(why) = result {
            return ended(Err(RequestError::Backend(why)));
        }
        self.done += count;
        if self.done < self.count {
            return Progress::Pending(self);
        }
        ended(Ok(if matches!(self.work, Work::Read) { skip + bytes } else { 0 }))
    }
}

impl Ended {
    /// Stores the status.
    pub(super) fn answer<M: SharedMemory + ?Sized>(self, place: StatusPlace, memory: &M) -> Served {
        match self.result {
            Ok(data) => place.answer(memory, self.kind, data),
            Err(why) => place.refuse(memory, self.kind, why),
        }
    }
}

/// Where a buffer's status goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusPlace {
    /// `None`: there is no byte for it, and the buffer is only given back.
    at: Option<MemoryOffset>,
    /// How many bytes the device may write, the status among them; `None` if the buffer has a fault, as that is not known then.
    room: Option<u64>,
}

impl StatusPlace {
    /// That of a buffer.
    pub(super) fn of(chain: &Chain) -> Self {
        let room = chain.fault().is_none().then(|| chain.writable().bytes());
        Self { at: chain.last_writable(), room }
    }

    /// Stores the status of a request that is not done.
    fn refuse<M: SharedMemory + ?Sized>(self, memory: &M, kind: Option<RequestKind>, why: RequestError) -> Served {
        let stored = self.store(memory, why.virtio_status());
        // Only where the status is the first writable byte, too.
        Served { kind, result: Err(why), written: u32::from(stored && self.room == Some(STATUS_BYTES)) }
    }

    /// Stores the status of a request that is done and has written `data` bytes, from the first on.
    fn answer<M: SharedMemory + ?Sized>(self, memory: &M, kind: Option<RequestKind>, data: u64) -> Served {
        let stored = self.store(memory, STATUS_OK);
        let room = self.room.unwrap_or(0);
        // 2.7.8.2: "The device MUST write at least len bytes to descriptor, beginning at the first device-writable buffer":
        // the status counts if nothing between it and the data was left out.
        let whole = stored && data.checked_add(STATUS_BYTES) == Some(room);
        // A buffer may be longer than the ring's u32 can count. 0 then claims nothing, which is allowed.
        let written = u32::try_from(if whole { room } else { data }).unwrap_or(0);
        Served { kind, result: Ok(()), written }
    }

    fn store<M: SharedMemory + ?Sized>(self, memory: &M, status: u8) -> bool {
        self.at.is_some_and(|at| memory.write(at, &[status]).is_ok())
    }
}

/// Stores the status of a request that is not done; one without a byte for it is only to be given back.
pub fn refuse<M: SharedMemory + ?Sized>(
    chain: &Chain,
    memory: &M,
    kind: Option<RequestKind>,
    why: RequestError,
) -> Served {
    StatusPlace::of(chain).refuse(memory, kind, why)
}

/// What a request requires.
enum Plan {
    /// Sectors are to be touched, if any.
    Sectors(Work, Option<(Sector, u64)>),
    /// Nothing more: it was done at once, and wrote `written` bytes of data to the consumer.
    Done { written: u64 },
}

fn plan<M: SharedMemory + ?Sized, B: BlockBackend>(
    device: &BlkDevice,
    request: Request,
    chain: &Chain,
    memory: &M,
    backend: &mut B,
) -> Result<Plan, RequestError> {
    let readable = chain.readable().bytes() - HEADER_BYTES; // the header was there
    let writable = chain.writable().bytes() - STATUS_BYTES; // and so was the status
    let output = chain.readable().window(memory, HEADER_BYTES, readable);
    let disk = &device.disk;
    match request.kind {
        RequestKind::In => Ok(Plan::Sectors(Work::Read, sectors(device, request.unit, writable)?)),
        // 5.2.6.2: "A device MUST set the status byte to VIRTIO_BLK_S_IOERR for a write request if the
        // VIRTIO_BLK_F_RO feature if offered, and MUST NOT write any data."
        RequestKind::Out | RequestKind::Discard | RequestKind::WriteZeroes if disk.read_only => {
            Err(RequestError::ReadOnly)
        }
        RequestKind::Out => Ok(Plan::Sectors(Work::Write, sectors(device, request.unit, readable)?)),
        // Whether it was negotiated or not: there is never anything that it could fail to do.
        RequestKind::Flush => backend.flush().map(|()| Plan::Done { written: 0 }).map_err(RequestError::Backend),
        RequestKind::GetId => {
            let id: &[u8; ID_BYTES] = &disk.serial;
            let written = chain.writable().window(memory, 0, writable).write(0, id);
            written.map(|bytes| Plan::Done { written: bytes as u64 }).map_err(|_| RequestError::Memory)
        }
        RequestKind::Discard if device.features().contains(Features::DISCARD) => {
            let (sectors, unmap) = range(device, &output)?;
            // 5.2.6.2: "the device MUST set the status byte to VIRTIO_BLK_S_UNSUPP for discard commands if the
            // unmap flag is set"
            if unmap { Err(RequestError::Flags) } else { Ok(Plan::Sectors(Work::Discard, sectors)) }
        }
        RequestKind::WriteZeroes if device.features().contains(Features::WRITE_ZEROES) => {
            let (sectors, unmap) = range(device, &output)?;
            Ok(Plan::Sectors(Work::WriteZeroes { unmap }, sectors))
        }
        RequestKind::Discard | RequestKind::WriteZeroes | RequestKind::Unknown(_) => Err(RequestError::Unsupported),
    }
}

/// The sectors that `bytes` bytes from `unit` on are, all on the disk; `None` for no bytes.
fn sectors(device: &BlkDevice, unit: u64, bytes: u64) -> Result<Option<(Sector, u64)>, RequestError> {
    let disk = &device.disk;
    let sector_units = u64::from(disk.sector_bytes / UNIT_BYTES);
    if !bytes.is_multiple_of(u64::from(disk.sector_bytes)) || !unit.is_multiple_of(sector_units) {
        return Err(RequestError::OutOfRange);
    }
    let count = bytes / u64::from(disk.sector_bytes);
    let first = unit / sector_units;
    match first.checked_add(count) {
        Some(end) if end <= disk.sectors => Ok((count > 0).then_some((Sector(first), count))),
        _ => Err(RequestError::OutOfRange),
    }
}

/// The range of a DISCARD or WRITE_ZEROES, copied once, and whether its unmap flag is set.
fn range<M: SharedMemory + ?Sized>(
    device: &BlkDevice,
    data: &Scatter<'_, M>,
) -> Result<(Option<(Sector, u64)>, bool), RequestError> {
    const _: () = assert!(ZEROES_SEGMENTS_MAX == 1); // one range: checked before it is done
    if data.bytes() != RANGE_BYTES as u64 {
        return Err(RequestError::Malformed);
    }
    let mut range = [0; RANGE_BYTES];
    data.read(0, &mut range).map_err(|_| RequestError::Memory)?;
    let [u0, u1, u2, u3, u4, u5, u6, u7, n0, n1, n2, n3, f0, f1, f2, f3] = range;
    let unit = u64::from_le_bytes([u0, u1, u2, u3, u4, u5, u6, u7]);
    let units = u32::from_le_bytes([n0, n1, n2, n3]);
    let flags = u32::from_le_bytes([f0, f1, f2, f3]);
    // 5.2.6.2: "The device MUST set the status byte to VIRTIO_BLK_S_UNSUPP for discard, secure erase and write zeroes
    // commands if any unknown flag is set."
    if flags & !UNMAP != 0 {
        return Err(RequestError::Flags);
    }
    let unmap = flags & UNMAP != 0;
    if units > ZEROES_UNITS_MAX {
        return Err(RequestError::TooLarge);
    }
    // A range is at most 32 MiB: no overflow.
    Ok((sectors(device, unit, u64::from(units) * u64::from(UNIT_BYTES))?, unmap))
}

impl From<BackendError> for RequestError {
    fn from(why: BackendError) -> Self {
        Self::Backend(why)
    }
}
