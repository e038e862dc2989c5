//! A request, done: from a checked buffer to a status byte.

use super::request::{HEADER_BYTES, Request, RequestKind};
use super::{
    DATA_BYTES_MAX, Device, Features, RequestError, STATUS_OK, UNIT_BYTES, ZEROES_SEGMENTS_MAX, ZEROES_UNITS_MAX,
};
use crate::backend::{BackendError, BlockBackend, Sector};
use crate::memory::{MemoryOffset, Scatter, SharedMemory};
use crate::virtqueue::Chain;

/// The status is the last byte that the device may write.
const STATUS_BYTES: u64 = 1;
const ID_BYTES: usize = 20;
const RANGE_BYTES: usize = 16;
const UNMAP: u32 = 1;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// What it was; none if its header was not there.
    pub kind: Option<RequestKind>,
    /// How it ended.
    pub result: Result<(), RequestError>,
    /// For the used ring: so many bytes at the beginning of the writable ones were written.
    pub written: u32,
}

/// Does what a buffer asks for and stores the status. A buffer without a byte for it is only given back.
pub fn execute<M: SharedMemory + ?Sized, B: BlockBackend>(
    device: &Device,
    chain: &Chain,
    memory: &M,
    backend: &mut B,
) -> Served {
    let Some(status_at) = chain.last_writable() else {
        return Served { kind: None, result: Err(RequestError::Malformed), written: 0 };
    };
    let (kind, result) = match (chain.fault(), Request::parse(chain.readable(), memory)) {
        (Some(_), _) => (None, Err(RequestError::Memory)),
        (None, None) => (None, Err(RequestError::Malformed)),
        (None, Some(request)) => (Some(request.kind), run(device, request, chain, memory, backend)),
    };
    // Of a buffer with a fault nobody knows where its first writable byte is.
    let room = if chain.fault().is_none() { chain.writable().bytes() } else { 0 };
    store_status(memory, status_at, kind, result, room)
}

/// 2.7.8.2: "The device MUST write at least len bytes to descriptor, beginning at the first device-writable buffer": of
/// a request that failed only the status is known to be written, and it stands last.
fn store_status<M: SharedMemory + ?Sized>(
    memory: &M,
    at: MemoryOffset,
    kind: Option<RequestKind>,
    result: Result<u64, RequestError>,
    room: u64,
) -> Served {
    let status = result.map_or_else(RequestError::virtio_status, |_| STATUS_OK);
    let stored = memory.write(at, &[status]).is_ok();
    let data = result.unwrap_or(0);
    let whole = stored && data.checked_add(STATUS_BYTES) == Some(room);
    let written = u32::try_from(if whole { room } else { data }).unwrap_or(0);
    Served { kind, result: result.map(|_| ()), written }
}

/// Answers how many bytes of data were written to the consumer.
fn run<M: SharedMemory + ?Sized, B: BlockBackend>(
    device: &Device,
    request: Request,
    chain: &Chain,
    memory: &M,
    backend: &mut B,
) -> Result<u64, RequestError> {
    let readable = chain.readable().bytes() - HEADER_BYTES; // the header was there
    let writable = chain.writable().bytes() - STATUS_BYTES; // and so was the status
    let output = chain.readable().window(memory, HEADER_BYTES, readable);
    let input = chain.writable().window(memory, 0, writable);
    let disk = &device.disk;
    match request.kind {
        RequestKind::In => {
            if let Some((first, count)) = sectors(device, request.unit, input.bytes())? {
                backend.read(first, count, &input).map_err(RequestError::Backend)?;
            }
            return Ok(input.bytes());
        }
        // 5.2.6.2: "A device MUST set the status byte to VIRTIO_BLK_S_IOERR for a write request if the
        // VIRTIO_BLK_F_RO feature if offered, and MUST NOT write any data."
        RequestKind::Out | RequestKind::Discard | RequestKind::WriteZeroes if disk.read_only => {
            return Err(RequestError::ReadOnly);
        }
        RequestKind::Out => {
            if let Some((first, count)) = sectors(device, request.unit, output.bytes())? {
                backend.write(first, count, &output).map_err(RequestError::Backend)?;
            }
        }
        // Whether it was negotiated or not: there is never anything that it could fail to do.
        RequestKind::Flush => backend.flush().map_err(RequestError::Backend)?,
        RequestKind::GetId => {
            let id: &[u8; ID_BYTES] = &disk.serial;
            return input.write(0, id).map(|bytes| bytes as u64).map_err(|_| RequestError::Memory);
        }
        RequestKind::Discard if device.features().contains(Features::DISCARD) => {
            for_each_range(device, &output, |first, count, unmap| {
                // 5.2.6.2: "the device MUST set the status byte to VIRTIO_BLK_S_UNSUPP for discard commands if the
                // unmap flag is set"
                if unmap {
                    Err(RequestError::Flags)
                } else {
                    backend.discard(first, count).map_err(RequestError::Backend)
                }
            })?;
        }
        RequestKind::WriteZeroes if device.features().contains(Features::WRITE_ZEROES) => {
            for_each_range(device, &output, |first, count, unmap| {
                backend.write_zeroes(first, count, unmap).map_err(RequestError::Backend)
            })?;
        }
        RequestKind::Discard | RequestKind::WriteZeroes | RequestKind::Unknown(_) => {
            return Err(RequestError::Unsupported);
        }
    }
    Ok(0)
}

/// The sectors that `bytes` bytes from `unit` on are, all on the disk; none for no bytes.
fn sectors(device: &Device, unit: u64, bytes: u64) -> Result<Option<(Sector, u64)>, RequestError> {
    let disk = &device.disk;
    if bytes > DATA_BYTES_MAX {
        return Err(RequestError::TooLarge);
    }
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

/// The ranges of a DISCARD or WRITE_ZEROES, each copied once. All of them are checked before the first is done.
fn for_each_range<M: SharedMemory + ?Sized>(
    device: &Device,
    data: &Scatter<'_, M>,
    mut f: impl FnMut(Sector, u64, bool) -> Result<(), RequestError>,
) -> Result<(), RequestError> {
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
    let disk = &device.disk;
    let sector_units = u64::from(disk.sector_bytes / UNIT_BYTES);
    if !unit.is_multiple_of(sector_units) || !u64::from(units).is_multiple_of(sector_units) {
        return Err(RequestError::OutOfRange);
    }
    let (first, count) = (unit / sector_units, u64::from(units) / sector_units);
    if first.checked_add(count).is_none_or(|end| end > disk.sectors) {
        return Err(RequestError::OutOfRange);
    }
    if count == 0 { Ok(()) } else { f(Sector(first), count, unmap) }
}

impl From<BackendError> for RequestError {
    fn from(why: BackendError) -> Self {
        Self::Backend(why)
    }
}
