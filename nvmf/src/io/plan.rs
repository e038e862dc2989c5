//! Reads and checks a command of the NVM command set.

use crate::command::{Command, Transfer};
use crate::limits::TRANSFER_BYTES;
use crate::namespace::Namespace;
use crate::status::Status;
use crate::units::{Lba, NamespaceId};

/// The opcodes (section 3).
pub(crate) const FLUSH: u8 = 0x00;
pub(crate) const WRITE: u8 = 0x01;
pub(crate) const READ: u8 = 0x02;
pub(crate) const COMPARE: u8 = 0x05;
pub(crate) const WRITE_ZEROES: u8 = 0x08;
/// Dataset Management.
pub(crate) const DEALLOCATE: u8 = 0x09;

/// Dataset Management, dword 11: deallocate.
const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;
/// A range of Dataset Management (section 3.2.3).
pub(crate) const RANGE_BYTES: usize = 16;
/// The most bytes of ranges: 256 of them. Linux sends as many, whatever it means.
const RANGES_BYTES_MAX: u32 = 4096;

/// A command that keeps to its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoTask {
    /// As it was when the command came.
    pub(crate) namespace: Namespace,
    pub(crate) work: IoWork,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoWork {
    /// Nothing: a write is durable when it ends.
    Flush,
    Read {
        first: Lba,
        count: u64,
    },
    Write {
        first: Lba,
        count: u64,
    },
    Compare {
        first: Lba,
        count: u64,
    },
    WriteZeroes {
        first: Lba,
        count: u64,
    },
    /// The ranges are its data; without `deallocate` they are hints that mean nothing here.
    Ranges {
        count: usize,
        deallocate: bool,
    },
}

/// Reads a command for the namespace that there is now.
///
/// # Errors
/// The status that it ends with.
pub(crate) fn plan(command: &Command, namespace: Option<&Namespace>) -> Result<(IoTask, Transfer), Status> {
    let all = command.opcode == FLUSH && command.namespace() == NamespaceId::ALL;
    if command.namespace() != NamespaceId::ONLY && !all {
        return Err(Status::INVALID_NAMESPACE);
    }
    let namespace = *namespace.ok_or(Status::INVALID_NAMESPACE)?;
    let task = |work, transfer| Ok((IoTask { namespace, work }, transfer));
    let first = Lba(command.dwords(10));
    let count = u64::from(command.dword(12) & 0xffff) + 1;
    match command.opcode {
        FLUSH => return task(IoWork::Flush, Transfer::None),
        DEALLOCATE => return ranges(command, namespace),
        READ | WRITE | COMPARE | WRITE_ZEROES => {}
        _ => return Err(Status::INVALID_OPCODE),
    }
    let writes = matches!(command.opcode, WRITE | WRITE_ZEROES);
    if writes && namespace.read_only {
        return Err(Status::NAMESPACE_WRITE_PROTECTED);
    }
    if !namespace.has(first, count) {
        return Err(Status::LBA_OUT_OF_RANGE);
    }
    if command.opcode == WRITE_ZEROES {
        return task(IoWork::WriteZeroes { first, count }, Transfer::None);
    }
    let bytes = count << namespace.sector_bytes.log2();
    let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes <= TRANSFER_BYTES).ok_or(Status::INVALID_FIELD)?;
    match command.opcode {
        READ => task(IoWork::Read { first, count }, Transfer::ToHost(bytes)),
        WRITE => task(IoWork::Write { first, count }, Transfer::FromHost(bytes)),
        _ => task(IoWork::Compare { first, count }, Transfer::FromHost(bytes)),
    }
}

/// Dataset Management. Its ranges are looked at when they are there.
fn ranges(command: &Command, namespace: Namespace) -> Result<(IoTask, Transfer), Status> {
    if namespace.read_only {
        return Err(Status::NAMESPACE_WRITE_PROTECTED);
    }
    let [count, ..] = command.dword(10).to_le_bytes();
    let (count, bytes) = (usize::from(count) + 1, command.sgl.length.get());
    if bytes > RANGES_BYTES_MAX || (bytes as usize) < count * RANGE_BYTES {
        return Err(Status::DATA_SGL_LENGTH_INVALID);
    }
    let deallocate = command.dword(11) & ATTRIBUTE_DEALLOCATE != 0;
    Ok((IoTask { namespace, work: IoWork::Ranges { count, deallocate } }, Transfer::FromHost(bytes)))
}
