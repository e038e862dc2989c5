//! An independent driver, virtio-drivers' `VirtIOBlk`, on our device, in one process.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use service::blk::{BlkDevice, BlkQueue, Budget, DiskProperties};
use service::control::MemoryRegion;
use service::memory::{MemoryOffset, MemoryTable, OutsideMemory, SharedMemory, check};
use service::mock::RamDisk;
use service::virtqueue::Layout;
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The memory of the machine that the driver runs on. Pages are handed out and never taken back.
struct Ram {
    bytes: Box<[AtomicU64]>,
    taken: AtomicU64,
}

const RAM_BYTES: u64 = 64 << 20;
/// Where the driver believes that it begins.
const RAM_AT: u64 = 0x1_0000_0000;

static RAM: LazyLock<Ram> = LazyLock::new(|| Ram {
    bytes: (0..RAM_BYTES / 8).map(|_| AtomicU64::new(0)).collect(),
    taken: AtomicU64::new(u64::try_from(PAGE_SIZE).unwrap()),
});

impl Ram {
    /// The place of the byte, which the caller keeps within the memory.
    fn at(&self, at: MemoryOffset) -> NonNull<u8> {
        self.pointer(at, 1).unwrap()
    }

    /// So many pages, as an offset.
    fn take(&self, pages: usize) -> MemoryOffset {
        let bytes = u64::try_from(pages * PAGE_SIZE).unwrap();
        MemoryOffset(self.taken.fetch_add(bytes, Ordering::Relaxed))
    }
}

// SAFETY:
// 1. `pointer` returns a place in the boxed words, which live for good; they are accessed by atomics here, and by the
//    driver through the pointers that it was given.
// 2. The box never changes its length.
// 3. The copies are of single atomic bytes.
unsafe impl SharedMemory for Ram {
    fn len_bytes(&self) -> u64 {
        RAM_BYTES
    }

    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory> {
        let from = self.pointer(at, into.len() as u64)?;
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: `pointer` has checked the range; the byte is only accessed atomically here.
            *byte = unsafe { AtomicU8::from_ptr(from.as_ptr().add(index)) }.load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory> {
        let into = self.pointer(at, from.len() as u64)?;
        for (index, byte) in from.iter().enumerate() {
            // SAFETY: As in `read`.
            unsafe { AtomicU8::from_ptr(into.as_ptr().add(index)) }.store(*byte, Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory> {
        assert!(at.0.is_multiple_of(2));
        // SAFETY: `pointer` has checked the range, and the words begin aligned.
        Ok(unsafe { AtomicU16::from_ptr(self.pointer(at, 2)?.as_ptr().cast()) }.load(Ordering::Acquire))
    }

    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory> {
        assert!(at.0.is_multiple_of(2));
        // SAFETY: As in `load_u16`.
        unsafe { AtomicU16::from_ptr(self.pointer(at, 2)?.as_ptr().cast()) }.store(value, Ordering::Release);
        Ok(())
    }

    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        check(RAM_BYTES, at, bytes)?;
        let start: NonNull<u8> = NonNull::from(&*self.bytes).cast();
        // SAFETY: The offset is within the words.
        Ok(unsafe { start.add(usize::try_from(at.0).unwrap()) })
    }
}

struct Machine;

// SAFETY: `dma_alloc` returns pages of the machine's memory, zero, aligned and handed out once; nothing else is given
// to the device.
unsafe impl Hal for Machine {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let at = RAM.take(pages);
        (RAM_AT + at.0, RAM.at(at))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("there is no MMIO")
    }

    /// Copies the buffer to pages of its own: what is not shared properly is then not seen.
    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let at = RAM.take(buffer.len().div_ceil(PAGE_SIZE));
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: The driver promises that the buffer is valid.
            RAM.write(at, unsafe { buffer.as_ref() }).unwrap();
        }
        RAM_AT + at.0
    }

    unsafe fn unshare(paddr: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: The driver promises that the buffer is valid, and that no other code uses it.
            RAM.read(MemoryOffset(paddr - RAM_AT), unsafe { buffer.as_mut() }).unwrap();
        }
    }
}

/// Our device, and what a transport keeps for it.
struct Served {
    disk: DiskProperties,
    device: Option<BlkDevice>,
    queue: Option<BlkQueue>,
    backend: RamDisk,
    table: MemoryTable,
    status: DeviceStatus,
    notified: u32,
    called: u32,
}

impl Served {
    fn serve(&mut self) {
        let (Some(queue), Some(device)) = (&mut self.queue, &self.device) else { return };
        loop {
            let progress = queue.poll(device, &self.table, &*RAM, &mut self.backend, Budget::units(8));
            assert_eq!(progress.broken, None);
            self.called += u32::from(progress.call);
            if !progress.more && queue.rest(&*RAM).unwrap() {
                break;
            }
        }
    }
}

#[derive(Clone)]
struct InProcess(Arc<Mutex<Served>>);

impl Transport for InProcess {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.lock().unwrap().disk.features().bits()
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        let mut served = self.0.lock().unwrap();
        served.device = Some(BlkDevice::new(served.disk, driver_features).unwrap());
    }

    fn max_queue_size(&mut self, _: u16) -> u32 {
        128
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, 0);
        let mut served = self.0.lock().unwrap();
        served.notified += 1;
        served.serve();
    }

    fn get_status(&self) -> DeviceStatus {
        self.0.lock().unwrap().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.0.lock().unwrap().status = status;
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, queue: u16, size: u32, desc: PhysAddr, avail: PhysAddr, used: PhysAddr) {
        assert_eq!(queue, 0);
        let mut served = self.0.lock().unwrap();
        let [desc, avail, used] = [desc, avail, used].map(|at| MemoryOffset(at - RAM_AT));
        let layout = Layout::new(u16::try_from(size).unwrap(), desc, avail, used, RAM_BYTES).unwrap();
        let features = served.device.as_ref().unwrap().features();
        served.queue = Some(BlkQueue::start(layout, features, &*RAM).unwrap());
        served.serve();
    }

    fn queue_unset(&mut self, _: u16) {
        self.0.lock().unwrap().queue = None;
    }

    fn queue_used(&mut self, _: u16) -> bool {
        self.0.lock().unwrap().queue.is_some()
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let config = self.0.lock().unwrap().device.as_ref().unwrap().config();
        config
            .get(offset..offset + size_of::<T>())
            .map(|bytes| T::read_from_bytes(bytes).unwrap())
            .ok_or(Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<(), Error> {
        let mut served = self.0.lock().unwrap();
        let device = served.device.as_mut().unwrap();
        device.write_config(u8::try_from(offset).unwrap(), value.as_bytes()).map_err(|_| Error::IoError)
    }
}

const SECTORS: usize = 2048;

fn machine(read_only: bool) -> InProcess {
    let disk = DiskProperties {
        sector_bytes: 512,
        sectors: SECTORS as u64,
        read_only,
        discard: true,
        write_zeroes: true,
        queues: 1,
        run_sectors: 32,
        serial: *b"0123456789abcdef0123",
    };
    let region = MemoryRegion { gpa: RAM_AT, bytes: RAM_BYTES, offset: 0 };
    InProcess(Arc::new(Mutex::new(Served {
        disk,
        device: None,
        queue: None,
        backend: RamDisk::new(512, SECTORS),
        table: MemoryTable::new(&[region], RAM_BYTES).unwrap(),
        status: DeviceStatus::empty(),
        notified: 0,
        called: 0,
    })))
}

fn pattern(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at * 7 + at / 512 + seed * 31) % 251).unwrap()).collect()
}

#[test]
fn virtio_drivers_reads_what_it_wrote() {
    let transport = machine(false);
    let mut disk = VirtIOBlk::<Machine, _>::new(transport.clone()).unwrap();
    assert_eq!(disk.capacity(), SECTORS as u64);
    assert!(!disk.readonly());
    // 300 turns wrap a queue of 16 many times.
    for turn in 0..300 {
        let (first, count) = (turn * 13 % (SECTORS - 16), turn % 15 + 1);
        let data = pattern(turn, count * 512);
        disk.write_blocks(first, &data).unwrap();
        let mut back = vec![0; data.len()];
        disk.read_blocks(first, &mut back).unwrap();
        assert_eq!(back, data, "turn {turn}");
    }
    disk.flush().unwrap();
    let mut id = [0; 20];
    assert_eq!(disk.device_id(&mut id), Ok(20));
    assert_eq!(&id, b"0123456789abcdef0123");
    let served = transport.0.lock().unwrap();
    assert!(served.backend.runs.contains(&("flush", 0, 0)));
    assert!(served.backend.runs.contains(&("write", 13 * 14, 15)), "a request is one run");
    assert!(served.notified >= 602, "at rest, every request is a kick: {}", served.notified);
}

#[test]
fn virtio_drivers_sees_an_error_and_goes_on() {
    let mut disk = VirtIOBlk::<Machine, _>::new(machine(false)).unwrap();
    let data = pattern(1, 1024);
    assert_eq!(disk.write_blocks(SECTORS - 1, &data), Err(Error::IoError), "half of it is past the end");
    assert_eq!(disk.read_blocks(usize::MAX, &mut [0; 512]), Err(Error::IoError));
    disk.write_blocks(SECTORS - 2, &data).unwrap();
    let mut back = [0; 1024];
    disk.read_blocks(SECTORS - 2, &mut back).unwrap();
    assert_eq!(back.as_slice(), data);
}

#[test]
fn virtio_drivers_cannot_write_to_a_read_only_disk() {
    let transport = machine(true);
    let mut disk = VirtIOBlk::<Machine, _>::new(transport.clone()).unwrap();
    assert!(disk.readonly());
    assert_eq!(disk.write_blocks(0, &[7; 512]), Err(Error::IoError));
    disk.read_blocks(0, &mut [1; 512]).unwrap();
    assert!(transport.0.lock().unwrap().backend.data.iter().all(|byte| *byte == 0));
}

#[test]
fn virtio_drivers_keeps_several_requests_in_flight() {
    let transport = machine(false);
    let mut disk = VirtIOBlk::<Machine, _>::new(transport.clone()).unwrap();
    for turn in 0..40 {
        let data: Vec<_> = (0..4).map(|one| pattern(turn * 4 + one, 512)).collect();
        let mut requests: Vec<_> = (0..4).map(|_| (BlkReq::default(), BlkResp::default(), 0)).collect();
        for (one, (request, response, token)) in requests.iter_mut().enumerate() {
            // SAFETY: Request, data and response live until the request is completed below, and no other code touches them.
            *token = unsafe { disk.write_blocks_nb(turn * 4 + one, request, &data[one], response) }.unwrap();
        }
        // In order: the used ring has them as they were made available.
        for (one, (request, response, token)) in requests.iter_mut().enumerate() {
            assert_eq!(disk.peek_used(), Some(*token));
            // SAFETY: They are those of the request with this token.
            unsafe { disk.complete_write_blocks(*token, request, &data[one], response) }.unwrap();
        }
    }
    let served = transport.0.lock().unwrap();
    let expected: Vec<u8> = (0..160).flat_map(|one| pattern(one, 512)).collect();
    assert_eq!(served.backend.data[..expected.len()], expected);
}
