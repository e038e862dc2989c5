//! QEMU's NVDIMM mailbox: label areas without an AML interpreter.
//!
//! QEMU's `_DSM` for its NVDIMMs (device `NVDR`) fills a page with a request and writes the page's physical address to
//! an I/O port; QEMU writes its reply to the page before the next instruction. Any page serves, so this driver brings
//! its own.
//!
//! A request in the page: handle, revision, function (u32 each), then the function's arguments. A reply: its length,
//! the length field included; then, except for function 0, a status; then the data.
//!
//! A write is in the DIMM's file when the call returns, or is refused as a whole (invariant 7).

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};

use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};
use x86_64::instructions::port::Port;

use crate::phys::PhysAddr;

/// Bytes of the mailbox's page.
pub const PAGE_BYTES: usize = 4096;

/// The port that takes the page's address.
const PORT: u16 = 0x0a18;
const REVISION: u32 = 1;

/// Where the page's fields lie, in u32 words.
mod request {
    pub(super) const HANDLE: usize = 0;
    pub(super) const REVISION: usize = 1;
    pub(super) const FUNCTION: usize = 2;
    pub(super) const ARGUMENTS: usize = 3;
    /// The bytes of a write: behind the header, its offset and its length.
    pub(super) const DATA: usize = 5;
    /// The bytes before those.
    pub(super) const DATA_HEADER_BYTES: usize = 4 * DATA;
}

mod reply {
    pub(super) const BYTES: usize = 0;
    /// Only function 0 has its data here.
    pub(super) const STATUS: usize = 1;
    pub(super) const ANSWER: usize = 2;
    /// Length and status.
    pub(super) const HEADER_BYTES: usize = 8;
}

/// Device functions of NVDIMM DSM interface revision 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Query = 0,
    LabelSize = 4,
    LabelRead = 5,
    LabelWrite = 6,
}

/// The mailbox, with a page of its own.
#[derive(Debug)]
pub struct LabelMailbox {
    page: NonNull<u32>,
    /// Of the page; QEMU takes 32 bits.
    address: u32,
    /// The sizes that DIMMs have given, which stay as they are.
    sizes: Vec<(DeviceHandle, AreaSize)>,
}

/// The size of a DIMM's label area.
#[derive(Clone, Copy, Debug)]
struct AreaSize {
    bytes: u32,
    /// The most bytes of one read or write.
    transfer_bytes: u32,
}

// SAFETY: the page belongs to the mailbox alone, and QEMU serves the port from any CPU.
unsafe impl Send for LabelMailbox {}

/// A page that cannot be the mailbox's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTooHigh(
    /// Where it lies.
    pub PhysAddr,
);

impl LabelMailbox {
    /// A mailbox over a page of memory.
    ///
    /// # Safety
    /// 1. `page` is a page of 4096 bytes, page-aligned, readable and writable as long as the mailbox lives, for the
    ///    mailbox alone; `at` is its physical address.
    /// 2. Port 0x0a18 is QEMU's NVDIMM mailbox, or nothing.
    ///
    /// # Errors
    /// [`PageTooHigh`] when the page does not lie below 4 GiB.
    pub unsafe fn new(page: NonNull<u8>, at: PhysAddr) -> Result<Self, PageTooHigh> {
        let address = u32::try_from(at.0).map_err(|_| PageTooHigh(at))?;
        Ok(Self { page: page.cast(), address, sizes: Vec::new() })
    }

    /// Returns word `index` of the page.
    fn word(&self, index: usize) -> NonNull<u32> {
        assert!(index < PAGE_BYTES / 4, "a word of the mailbox's page");
        // SAFETY: inside of the page.
        unsafe { self.page.add(index) }
    }

    fn get(&self, index: usize) -> u32 {
        // SAFETY: the page is readable and aligned; QEMU writes it only while `call` waits in `out`.
        u32::from_le(unsafe { self.word(index).read_volatile() })
    }

    fn put(&mut self, index: usize, value: u32) {
        // SAFETY: the page is writable, aligned, and ours.
        unsafe { self.word(index).write_volatile(value.to_le()) };
    }

    /// Sends a request. Returns the length of the reply, which is in the page then.
    fn call(&mut self, dimm: DeviceHandle, function: Function, arguments: &[u32]) -> Result<usize, LabelError> {
        self.put(request::HANDLE, dimm.0);
        self.put(request::REVISION, REVISION);
        self.put(request::FUNCTION, function as u32);
        for (index, &argument) in (request::ARGUMENTS..).zip(arguments) {
            self.put(index, argument);
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the caller of `new` promised that the port is the mailbox or nothing; the page is ours.
        unsafe { Port::new(PORT).write(self.address) };
        compiler_fence(Ordering::SeqCst);
        match usize::try_from(self.get(reply::BYTES)) {
            Ok(bytes @ reply::HEADER_BYTES..=PAGE_BYTES) => Ok(bytes),
            _ => Err(LabelError::BadAnswer),
        }
    }

    /// Calls a function whose reply has a status. Returns the length of the data behind it.
    fn call_with_status(
        &mut self,
        dimm: DeviceHandle,
        function: Function,
        arguments: &[u32],
    ) -> Result<usize, LabelError> {
        let bytes = self.call(dimm, function, arguments)?;
        match self.get(reply::STATUS) {
            0 => Ok(bytes - reply::HEADER_BYTES),
            status => Err(LabelError::Status(status)),
        }
    }

    /// Returns whether a DIMM has a label area. A request without a reply gives false, too: without a device at the
    /// port the page keeps the request.
    fn has_labels(&mut self, dimm: DeviceHandle) -> Result<bool, LabelError> {
        let needed = [Function::LabelSize, Function::LabelRead, Function::LabelWrite];
        let needed = needed.into_iter().fold(0, |bits, function| bits | 1 << function as u32);
        match self.call(dimm, Function::Query, &[]) {
            Ok(reply::HEADER_BYTES) => Ok(self.get(reply::STATUS) & needed == needed),
            // The page still holds the handle, which is no length.
            _ if self.get(request::HANDLE) == dimm.0 && self.get(request::REVISION) == REVISION => Ok(false),
            Ok(_) => Err(LabelError::BadAnswer),
            Err(error) => Err(error),
        }
    }

    /// Returns where an access of `bytes` bytes at `offset` begins, and how many of them one call may move: whole
    /// words, so that they can be copied as such, and no more than fit the page behind `header_bytes`, whatever the
    /// device says.
    fn access(
        &mut self,
        dimm: DeviceHandle,
        offset: u64,
        bytes: usize,
        header_bytes: usize,
    ) -> Result<(u32, usize), LabelError> {
        let AreaSize { bytes: area_bytes, transfer_bytes: most } = self.size(dimm)?;
        let end = offset.checked_add(bytes as u64).ok_or(LabelError::OutOfRange)?;
        let (Ok(at), true) = (u32::try_from(offset), end <= area_bytes.into()) else {
            return Err(LabelError::OutOfRange);
        };
        match (most as usize).min(PAGE_BYTES - header_bytes) / 4 * 4 {
            0 => Err(LabelError::BadAnswer),
            most => Ok((at, most)),
        }
    }

    /// Returns the area's size. It is asked for once: each call leaves the virtual machine.
    fn size(&mut self, dimm: DeviceHandle) -> Result<AreaSize, LabelError> {
        if let Some((_, size)) = self.sizes.iter().find(|(known, _)| *known == dimm) {
            return Ok(*size);
        }
        match self.call_with_status(dimm, Function::LabelSize, &[])? {
            8 => {
                let size = AreaSize { bytes: self.get(reply::ANSWER), transfer_bytes: self.get(reply::ANSWER + 1) };
                self.sizes.push((dimm, size));
                Ok(size)
            }
            _ => Err(LabelError::BadAnswer),
        }
    }
}

impl LabelSource for LabelMailbox {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        if !self.has_labels(dimm)? {
            return Ok(None);
        }
        Ok(Some(self.size(dimm)?.bytes.into()))
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let (mut at, most) = self.access(dimm, offset, into.len(), reply::HEADER_BYTES)?;
        for piece in into.chunks_mut(most) {
            let bytes = u32::try_from(piece.len()).expect("less than a page");
            if self.call_with_status(dimm, Function::LabelRead, &[at, bytes])? != piece.len() {
                return Err(LabelError::BadAnswer);
            }
            for (index, word) in (reply::ANSWER..).zip(piece.chunks_mut(4)) {
                word.copy_from_slice(&self.get(index).to_le_bytes()[..word.len()]);
            }
            at += bytes; // `access` has checked the end
        }
        Ok(())
    }
}

impl LabelStore for LabelMailbox {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let (mut at, most) = self.access(dimm, offset, from.len(), request::DATA_HEADER_BYTES)?;
        for piece in from.chunks(most) {
            let bytes = u32::try_from(piece.len()).expect("less than a page");
            for (index, word) in (request::DATA..).zip(piece.chunks(4)) {
                let mut whole = [0; 4];
                whole[..word.len()].copy_from_slice(word);
                self.put(index, u32::from_le_bytes(whole));
            }
            if self.call_with_status(dimm, Function::LabelWrite, &[at, bytes])? != 0 {
                return Err(LabelError::BadAnswer);
            }
            at += bytes; // `access` has checked the end
        }
        Ok(())
    }
}
