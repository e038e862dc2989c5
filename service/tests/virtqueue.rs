//! The queue: order, notifications, and going on after a restart, by the paragraphs of the specification.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use proptest::prelude::*;
use service::blk::{DiskProperties, Features};
use service::memory::Words;
use service::mock::{Consumer, Parts};

const DISK: DiskProperties = DiskProperties {
    sector_bytes: 512,
    sectors: 64,
    read_only: false,
    discard: false,
    write_zeroes: false,
    queues: 1,
    run_sectors: 32,
    serial: [0; 20],
};

fn consumer(size: u16, event_idx: bool) -> Consumer {
    let mut features = DISK.features();
    features.set(Features::EVENT_IDX, event_idx);
    Consumer::with_features(DISK, size, features.bits())
}

/// Makes a write of sector `unit` available in descriptors 2 × `slot` and the one after.
fn offer(consumer: &mut Consumer, slot: u16, unit: u8) {
    let at = consumer.buffers_at() + u64::from(slot) * 0x400;
    let readable = [&1_u64.to_le_bytes()[..], &u64::from(unit).to_le_bytes(), &[unit; 512]].concat();
    consumer.place(slot * 2, at, &readable, 1, &Parts::default());
    consumer.driver.offer(&consumer.memory, slot * 2);
}

fn publish(consumer: &Consumer) {
    consumer.driver.set_available_index(&consumer.memory, consumer.driver.published);
}

fn collected(consumer: &mut Consumer) -> Vec<u32> {
    std::iter::from_fn(|| consumer.driver.collect(&consumer.memory).map(|(head, _)| head)).collect()
}

proptest! {
    /// Completion is in order, and used.idx is the whole truth: wherever the device is killed, the next one goes on
    /// there, and every request is answered once.
    #[test]
    fn a_killed_device_goes_on_where_the_used_ring_says(
        start: u16, budgets in prop::collection::vec(0_u32..4, 1..12), count in 0_u16..8, event_idx: bool,
    ) {
        let mut consumer = consumer(16, event_idx);
        consumer.driver.start_at(&consumer.memory, start);
        consumer.restart_device();
        for slot in 0..count {
            offer(&mut consumer, slot, u8::try_from(slot).unwrap() + 1);
        }
        publish(&consumer);
        for budget in budgets {
            let progress = consumer.poll_with(budget, |_| ());
            prop_assert_eq!(progress.broken, None);
            consumer.restart_device();
            prop_assert_eq!(consumer.queue.base(), consumer.driver.used_index(&consumer.memory));
        }
        consumer.poll();
        prop_assert_eq!(collected(&mut consumer), (0..count).map(|slot| u32::from(slot) * 2).collect::<Vec<_>>());
        let runs: Vec<_> = consumer.disk.runs.iter().map(|(_, unit, sectors)| (*unit, *sectors)).collect();
        prop_assert_eq!(runs, (1..=u64::from(count)).map(|unit| (unit, 1)).collect::<Vec<_>>());
        consumer.is_served();
    }

    /// VirtIO 1.3, 2.7.7.2: "If flags is 1, the device SHOULD NOT send a notification. If flags is 0, the device MUST
    /// send a notification." With event indices: "If the idx field in the used ring (which determined where that
    /// descriptor index was placed) was equal to used_event, the device MUST send a notification. Otherwise the device
    /// SHOULD NOT."
    #[test]
    fn the_driver_is_called_when_it_asked_to_be(
        start: u16, batches in prop::collection::vec((0_u16..5, -3_i16..8, any::<bool>()), 1..8), event_idx: bool,
    ) {
        let mut consumer = consumer(16, event_idx);
        consumer.driver.start_at(&consumer.memory, start);
        consumer.restart_device();
        consumer.poll(); // whatever a device that just started does
        for (count, event, quiet) in batches {
            let old = consumer.driver.published;
            let event = old.wrapping_add_signed(event);
            consumer.driver.set_used_event(&consumer.memory, event);
            consumer.driver.set_flags(&consumer.memory, u16::from(quiet && !event_idx));
            for slot in 0..count {
                offer(&mut consumer, slot, 1);
            }
            publish(&consumer);
            let expected = if event_idx { (0..count).any(|one| old.wrapping_add(one) == event) } else { count > 0 && !quiet };
            let progress = consumer.poll();
            prop_assert_eq!((progress.served, progress.call), (u32::from(count), expected));
            prop_assert_eq!(collected(&mut consumer).len(), usize::from(count));
            prop_assert!(!consumer.poll().call, "once for a batch");
        }
    }
}

/// VirtIO 1.3, 2.7.7.2: with event indices, "The device MUST ignore the lower bit of flags."
#[test]
fn flags_of_the_driver_mean_nothing_with_event_indices() {
    let mut consumer = consumer(16, true);
    consumer.poll();
    consumer.driver.set_flags(&consumer.memory, 1);
    consumer.driver.set_used_event(&consumer.memory, 0);
    offer(&mut consumer, 0, 1);
    publish(&consumer);
    assert!(consumer.poll().call);
}

/// A driver that was not called for what the last device gave back would wait for ever.
#[test]
fn after_a_restart_the_first_batch_calls() {
    let mut consumer = consumer(16, true);
    consumer.driver.set_used_event(&consumer.memory, 0);
    offer(&mut consumer, 0, 1);
    offer(&mut consumer, 1, 2);
    publish(&consumer);
    consumer.poll_with(1, |_| ());
    consumer.restart_device();
    assert!(consumer.poll().call, "used_event was passed by the device before");
}

/// VirtIO 1.3, 2.7.10.2: without event indices, "The device MAY set flags to 1 to advise the driver that notifications
/// are not needed"; with them, "The device MUST set flags to 0" and "MAY use avail_event".
#[test]
fn kicks_are_asked_for_only_at_rest() {
    for event_idx in [false, true] {
        let mut consumer = consumer(16, event_idx);
        assert_eq!(consumer.driver.used_flags(&consumer.memory), u16::from(!event_idx), "polled");
        assert_eq!(consumer.queue.rest(&consumer.memory), Ok(true));
        assert_eq!(consumer.driver.used_flags(&consumer.memory), 0, "at rest");
        offer(&mut consumer, 0, 1);
        if event_idx {
            assert_eq!(consumer.driver.avail_event(&consumer.memory), consumer.driver.published - 1, "this one kicks");
        }
        publish(&consumer);
        consumer.poll();
        assert_eq!(consumer.driver.used_flags(&consumer.memory), u16::from(!event_idx), "polled again");
    }
}

/// The wake-up that is not lost: what the driver published before it could see that a kick is wanted is seen.
#[test]
fn a_queue_does_not_rest_over_a_request() {
    for event_idx in [false, true] {
        let mut consumer = consumer(16, event_idx);
        consumer.poll();
        offer(&mut consumer, 0, 1);
        publish(&consumer);
        assert_eq!(consumer.queue.rest(&consumer.memory), Ok(false));
        assert_eq!(consumer.poll().served, 1);
        assert_eq!(consumer.queue.rest(&consumer.memory), Ok(true));
    }
}

#[test]
fn a_stopped_queue_kicks_the_next_device_and_tells_it_where_to_go_on() {
    for event_idx in [false, true] {
        let mut consumer = consumer(16, event_idx);
        offer(&mut consumer, 0, 1);
        offer(&mut consumer, 1, 2);
        publish(&consumer);
        consumer.poll_with(1, |_| ());
        let layout = consumer.driver.layout(Consumer::<Words>::MEMORY_BYTES).unwrap();
        let features = consumer.device.features();
        let next = service::blk::BlkQueue::start(layout, features, &consumer.memory).unwrap();
        let stopped = std::mem::replace(&mut consumer.queue, next);
        assert_eq!(stopped.stop(&consumer.memory), 1);
        assert_eq!(consumer.driver.used_flags(&consumer.memory), 0);
        assert_eq!(consumer.poll().served, 1);
    }
}

#[test]
fn a_full_queue_is_served_over_the_wrap_of_its_indices() {
    let mut consumer = consumer(4, true);
    consumer.driver.start_at(&consumer.memory, 0xFFFE);
    consumer.restart_device();
    for turn in 0..5 {
        offer(&mut consumer, 0, turn);
        offer(&mut consumer, 1, turn);
        publish(&consumer);
        assert_eq!(consumer.poll().served, 2);
        assert_eq!(collected(&mut consumer), [0, 2]);
    }
}

#[test]
fn a_budget_shares_the_cpu_between_queues() {
    let mut consumer = consumer(16, true);
    for slot in 0..5 {
        offer(&mut consumer, slot, 1);
    }
    publish(&consumer);
    let progress = consumer.poll_with(3, |_| ());
    assert_eq!((progress.served, progress.more), (3, true));
    let progress = consumer.poll_with(3, |_| ());
    assert_eq!((progress.served, progress.more), (2, false));
}

#[test]
fn large_requests_leave_the_cpu_to_others_sooner() {
    let write = |sectors: usize| [&1_u64.to_le_bytes()[..], &[0; 8], &vec![7; sectors * 512]].concat();
    let discard = [&11_u64.to_le_bytes()[..], &[0; 16], &256_u64.to_le_bytes()].concat();
    let cases = [("a sector", write(1), 3), ("two", write(2), 2), ("64 KiB", write(128), 0), ("a discard", discard, 0)];
    for (what, first, served) in cases {
        let mut consumer = Consumer::new(DiskProperties { sectors: 256, discard: true, ..DISK }, 16);
        let behind_the_others = consumer.buffers_at() + 0x2000;
        consumer.place(0, behind_the_others, &first, 1, &Parts::default());
        consumer.driver.offer(&consumer.memory, 0);
        for slot in 1..4 {
            offer(&mut consumer, slot, 1);
        }
        publish(&consumer);
        let progress = consumer.poll_with(3, |_| ());
        assert_eq!((progress.served, progress.failed, progress.more), (served, 0, true), "{what}");
        assert_eq!(consumer.poll().served, 4 - served, "{what}");
    }
}
