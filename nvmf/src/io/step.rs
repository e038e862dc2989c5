//! Carries out the commands of a queue that are ready, in bounded steps.
//!
//! A step asks the storage once, for at most [`STEP_SECTORS`] sectors and [`STEP_BYTES`] bytes. Writes that are ready one
//! after the other go to it together, so that what makes them durable serves all of them; each ends by itself, when its own
//! sectors are durable. Commands of a queue may be done in any order (Base 2.0, section 3.4.1), so one that is longer than a step
//! goes on after those that wait. Nothing waits for a batch to grow.

use alloc::vec::Vec;

use super::plan::{IoTask, IoWork, RANGE_BYTES};
use crate::command::Completion;
use crate::limits::{STEP_BYTES, STEP_SECTORS};
use crate::namespace::Namespace;
use crate::queue::{Queue, Stage, Tag, Task};
use crate::status::Status;
use crate::storage::{Storage, StorageError, Write};
use crate::subsystem::Counters;
use crate::units::Lba;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    /// There was nothing to do.
    Idle,
    /// Something was done.
    Done,
}

/// Carries out a step. `namespace` is what there is now: a command that was for another one is not begun, nor gone on with.
pub(crate) fn step(
    queue: &mut Queue,
    namespace: Option<&Namespace>,
    storage: &mut impl Storage,
    counters: &Counters,
) -> StepOutcome {
    if batch(queue, namespace, storage, counters) {
        return StepOutcome::Done;
    }
    let Some(tag) = queue.take_ready() else { return StepOutcome::Idle };
    let Task::Io(task) = queue.entry(tag).task else { unreachable!("an I/O queue has only these ready") };
    if namespace != Some(&task.namespace) {
        fail(queue, tag, Status::INVALID_NAMESPACE);
    } else if let Some(first) = queue.entry(tag).partner {
        compare_and_write(queue, first, tag, &task, storage, counters);
    } else {
        let result = single(queue, tag, &task, storage);
        go_on(queue, tag, result, counters);
    }
    StepOutcome::Done
}

/// Ends a command, and the other half of a fused operation with it.
fn fail(queue: &mut Queue, tag: Tag, status: Status) {
    if let Some(partner) = queue.entry(tag).partner {
        queue.end(partner, Completion::of(status));
    }
    queue.end(tag, Completion::of(status));
}

/// The other half of a fused operation will not be done: this one fails, now or when its data are there.
pub(crate) fn fail_fused(queue: &mut Queue, tag: Tag) {
    match queue.entry(tag).stage {
        Stage::Held => queue.end(tag, Completion::of(Status::FAILED_FUSED)),
        _ => drop(queue.entry_mut(tag).fault.get_or_insert(Status::FAILED_FUSED)),
    }
}

/// How much of a command is left, and where: sectors.
const fn rest(first: Lba, count: u64, done: u64) -> (Lba, u64) {
    (Lba(first.0 + done), count - done)
}

/// The sectors of a ready write that go into a batch: the next ones, `room` of them at most.
fn next_of_write(queue: &Queue, tag: Tag, namespace: Option<&Namespace>, room: u64) -> Option<(Lba, u64)> {
    let entry = queue.entry(tag);
    match entry.task {
        Task::Io(IoTask { namespace: own, work: IoWork::Write { first, count } })
            if entry.partner.is_none() && namespace == Some(&own) =>
        {
            let (first, left) = rest(first, count, entry.done);
            Some((first, left.min(room)))
        }
        _ => None,
    }
}

/// Carries out writes that are ready, if the oldest command that is ready is one. Returns whether there was any.
fn batch(queue: &mut Queue, namespace: Option<&Namespace>, storage: &mut impl Storage, counters: &Counters) -> bool {
    let Some(namespace) = namespace else { return false };
    let size = namespace.sector_bytes.in_memory();
    let mut writes = [Write { first: Lba(0), data: &[] }; STEP_SECTORS];
    let mut tags = [None; STEP_SECTORS];
    let (mut count, mut room) = (0, STEP_SECTORS.min(STEP_BYTES / size) as u64);
    for tag in queue.all_ready() {
        if room == 0 {
            break;
        }
        let Some((first, sectors)) = next_of_write(queue, tag, Some(namespace), room) else { break };
        let entry = queue.entry(tag);
        let (skip, bytes) = (in_memory(entry.done) * size, in_memory(sectors) * size);
        writes[count] = Write { first, data: &entry.data[skip..skip + bytes] };
        tags[count] = Some((tag, sectors));
        room -= sectors;
        count += 1;
    }
    if count == 0 {
        return false;
    }
    let mut results = [None; STEP_SECTORS];
    let mut next = results.iter_mut();
    storage.write_all(namespace.disk, &writes[..count], &mut |result| {
        *next.next().expect("a result for each write") = Some(result);
    });
    for (at, result) in results.iter().enumerate().take(count) {
        let (tag, sectors) = tags[at].expect("there is one for each write");
        assert_eq!(queue.take_ready(), Some(tag), "they were taken in order");
        let result = result.expect("a result for each write");
        if let Err(StorageError::Media) = result {
            counters.media_errors.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        }
        let entry = queue.entry_mut(tag);
        entry.done += sectors;
        let bytes = entry.data.len();
        match result {
            Err(why) => queue.end(tag, Completion::of(Status::of_write(why))),
            Ok(()) if in_memory(entry.done) * size < bytes => queue.ready_later(tag),
            Ok(()) => {
                Counters::add(&counters.writes, &counters.written_bytes, bytes);
                queue.end(tag, Completion::SUCCESS);
            }
        }
    }
    true
}

/// A number of sectors whose data are in memory.
fn in_memory(sectors: u64) -> usize {
    usize::try_from(sectors).expect("a command's data are in memory")
}

/// Does the next part of a command that is no write. Returns whether it is done.
fn single(queue: &mut Queue, tag: Tag, task: &IoTask, storage: &mut impl Storage) -> Result<bool, Status> {
    let disk = task.namespace.disk;
    let done = queue.entry(tag).done;
    match task.work {
        IoWork::Flush => Ok(true),
        IoWork::Compare { first, count } => {
            let size = task.namespace.sector_bytes.in_memory();
            let (first, left) = rest(first, count, done);
            let sectors = in_memory(left).min(STEP_SECTORS).min(STEP_BYTES / size);
            let mut found = Vec::new();
            found.try_reserve_exact(sectors * size).map_err(|_| Status::INTERNAL_ERROR)?;
            found.resize(sectors * size, 0);
            storage.read(disk, first, &mut found).map_err(Status::of_read)?;
            let entry = queue.entry_mut(tag);
            if found != entry.data[in_memory(done) * size..][..found.len()] {
                return Err(Status::COMPARE_FAILURE);
            }
            entry.done += sectors as u64;
            Ok(entry.done == count)
        }
        IoWork::WriteZeroes { first, count } => {
            let (first, left) = rest(first, count, done);
            let sectors = left.min(STEP_SECTORS as u64);
            storage.write_zeroes(disk, first, sectors).map_err(Status::of_write)?;
            queue.entry_mut(tag).done += sectors;
            Ok(done + sectors == count)
        }
        IoWork::Ranges { deallocate: false, .. } => Ok(true),
        IoWork::Ranges { count, .. } => {
            // How far it is: the range, and the sectors of it that are done.
            let (range, done) = (in_memory(done >> 32), done & u64::from(u32::MAX));
            let (first, sectors) = range_at(&queue.entry(tag).data, range);
            if !task.namespace.has(first, sectors) {
                return Err(Status::LBA_OUT_OF_RANGE);
            }
            let (first, left) = rest(first, sectors, done);
            let step = left.min(STEP_SECTORS as u64);
            if step > 0 {
                storage.deallocate(disk, first, step).map_err(Status::of_write)?;
            }
            let entry = queue.entry_mut(tag);
            entry.done = if step == left { (range as u64 + 1) << 32 } else { entry.done + step };
            Ok(entry.done >> 32 == count as u64)
        }
        IoWork::Read { .. } | IoWork::Write { .. } => unreachable!("reads are sent, and writes are batched"),
    }
}

/// A range of Dataset Management: context attributes, length, first sector (section 3.2.3).
fn range_at(ranges: &[u8], number: usize) -> (Lba, u64) {
    let [_, _, _, _, l0, l1, l2, l3, first @ ..] =
        *ranges[number * RANGE_BYTES..].first_chunk::<RANGE_BYTES>().expect("checked against its count");
    (Lba(u64::from_le_bytes(first)), u32::from_le_bytes([l0, l1, l2, l3]).into())
}

/// A step of a command was done, or failed.
fn go_on(queue: &mut Queue, tag: Tag, result: Result<bool, Status>, counters: &Counters) {
    match result {
        Ok(false) => queue.ready_later(tag),
        Ok(true) => queue.end(tag, Completion::SUCCESS),
        Err(status) => {
            if matches!(status, Status::UNRECOVERED_READ_ERROR | Status::WRITE_FAULT) {
                counters.media_errors.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            }
            queue.end(tag, Completion::of(status));
        }
    }
}

/// Carries out a fused Compare and Write of one sector (Base 2.0, section 3.4.2).
fn compare_and_write(
    queue: &mut Queue,
    compare: Tag,
    write: Tag,
    task: &IoTask,
    storage: &mut impl Storage,
    counters: &Counters,
) {
    let IoWork::Write { first, .. } = task.work else { unreachable!("the second of two is a write") };
    let (expected, data) = (&queue.entry(compare).data, &queue.entry(write).data);
    let bytes = data.len();
    let result = storage.compare_and_write(task.namespace.disk, first, expected, data);
    let statuses = match result {
        Ok(()) => {
            Counters::add(&counters.writes, &counters.written_bytes, bytes);
            [Status::SUCCESS; 2]
        }
        Err(StorageError::Differs) => [Status::COMPARE_FAILURE, Status::FAILED_FUSED],
        Err(why) => [Status::of_write(why), Status::FAILED_FUSED],
    };
    queue.end(compare, Completion::of(statuses[0]));
    queue.end(write, Completion::of(statuses[1]));
}
