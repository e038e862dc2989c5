//! No wake-up is lost: a driver and a device on two threads, each asleep until the other wakes it. If either side
//! missed one, both would sleep for good.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use service::blk::{Budget, DiskProperties, Features};
use service::memory::Words;
use service::mock::{Consumer, Driver, Parts};

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
const SIZE: u16 = 8;
const ROUNDS: u32 = 5000;
/// Longer than a loaded machine keeps anybody waiting.
const LOST: Duration = Duration::from_secs(60);

/// Sleeps until it is woken. What woke it before it slept counts, too, as an interrupt does.
fn sleep(bell: &Receiver<()>) {
    bell.recv_timeout(LOST).expect("a wake-up was lost");
    while bell.try_recv().is_ok() {}
}

/// Whether the driver must kick after it published up to `new`, where it had published up to `old` (2.7.10.1).
fn must_kick(driver: &Driver, memory: &Words, event_idx: bool, old: u16, new: u16) -> bool {
    fence(Ordering::SeqCst);
    if event_idx {
        driver.avail_event(memory).wrapping_sub(old) < new.wrapping_sub(old)
    } else {
        driver.used_flags(memory) == 0
    }
}

/// Publishes a batch, sleeps until all of it is back, and so on.
fn drive(driver: &mut Driver, memory: &Words, event_idx: bool, kick: &Sender<()>, called: &Receiver<()>) -> u32 {
    let mut done = 0;
    for round in 0..ROUNDS {
        let batch = u16::try_from(round % 3).unwrap() + 1;
        let old = driver.published;
        for head in 0..batch {
            driver.offer(memory, head * 2);
        }
        driver.set_available_index(memory, driver.published);
        if must_kick(driver, memory, event_idx, old, driver.published) {
            kick.send(()).unwrap();
        }
        while driver.seen != driver.published {
            if driver.collect(memory).is_some() {
                done += 1;
                continue;
            }
            driver.set_used_event(memory, driver.seen);
            driver.set_flags(memory, 0);
            fence(Ordering::SeqCst);
            if driver.used_index(memory) == driver.seen {
                sleep(called);
            }
            driver.set_flags(memory, u16::from(!event_idx));
        }
    }
    done
}

fn no_wake_up_is_lost(event_idx: bool) {
    let mut features = DISK.features();
    features.set(Features::EVENT_IDX, event_idx);
    let mut consumer = Consumer::with_features(DISK, SIZE, features.bits());
    for slot in 0..SIZE / 2 {
        let at = consumer.buffers_at() + u64::from(slot) * 0x400;
        consumer.place(slot * 2, at, &[0; 16], 513, &Parts::default());
    }
    let Consumer { memory, table, mut driver, mut queue, device, mut disk } = consumer;
    let (kick, kicked) = channel();
    let (call, called) = channel();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let device_side = scope.spawn(|| {
            let mut served = 0;
            let kicked = kicked;
            while !over.load(Ordering::Acquire) {
                let progress = queue.poll(&device, &table, &memory, &mut disk, Budget::units(2));
                assert_eq!((progress.failed, progress.broken), (0, None));
                served += progress.served;
                if progress.call {
                    let _ = call.send(());
                }
                if !progress.more && queue.rest(&memory).unwrap() {
                    sleep(&kicked);
                }
            }
            served
        });
        let done = drive(&mut driver, &memory, event_idx, &kick, &called);
        over.store(true, Ordering::Release);
        kick.send(()).unwrap();
        assert_eq!(done, (0..ROUNDS).map(|round| round % 3 + 1).sum::<u32>());
        assert_eq!(device_side.join().unwrap(), done);
    });
}

#[test]
fn no_wake_up_is_lost_with_event_indices() {
    no_wake_up_is_lost(true);
}

#[test]
fn no_wake_up_is_lost_with_flags() {
    no_wake_up_is_lost(false);
}
