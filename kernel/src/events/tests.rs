//! The ring, and what memory keeps of it.

use alloc::format;
use alloc::vec;

use service::events::Severity;
use spin::Mutex;

use super::retained::RETAINED_BYTES;
use super::*;

/// Memory of a machine that is reset.
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn new(byte: u8) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![byte; RETAINED_BYTES])))
    }
}

impl RetainedMemory for Memory {
    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.lock()[at..at + into.len()]);
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.0.lock()[at..at + from.len()].copy_from_slice(from);
    }
}

fn journal() -> Journal {
    Journal::new(|| 5_000, || 2)
}

fn tell(journal: &Journal, what: &str) {
    journal.tell(&News { severity: Severity::Info, kind: Kind::Boot, place: &"", what: format_args!("{what}") });
}

#[test]
fn the_ring_keeps_the_newest_events_in_order() {
    let journal = journal();
    assert_eq!(journal.events(&Filter::default()), []);
    for number in 1..=300 {
        tell(&journal, &format!("{number}"));
    }
    let events = journal.events(&Filter::default());
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (300 - EVENTS as u64 + 1..=300).collect::<Vec<_>>());
    assert!(events.iter().all(|event| event.what == format!("{}", event.number)));
    assert_eq!(journal.events(&Filter { after: 298, ..Filter::default() }).len(), 2);
    assert_eq!(journal.events(&Filter { severity: Some(Severity::Warning), ..Filter::default() }), []);
    assert_eq!(journal.events(&Filter { after: u64::MAX - 1, ..Filter::default() }), []);
}

#[test]
fn events_and_lines_outlive_a_reset_with_how_the_boot_ended() {
    let memory = Memory::new(0x5a);
    let first = journal();
    tell(&first, "before memory");
    assert!(first.attach(memory.clone()).last.is_none(), "garbage is nothing");
    tell(&first, "after");
    first.keep_lines(&["list".into(), "status".into()]);
    first.ends(Ended::Panic);

    let second = journal();
    let found = second.attach(memory.clone());
    let last = found.last.expect("the first boot");
    let whats: Vec<&str> = last.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!((last.boot, last.ended, whats), (1, Ended::Panic, vec!["before memory", "after"]));
    assert_eq!(found.lines, ["list", "status"]);
    for number in 0..200 {
        tell(&second, &format!("{number}"));
    }

    let last = journal().attach(memory).last.expect("the second boot");
    assert_eq!((last.boot, last.ended, last.events.len()), (2, Ended::Reset, EVENTS));
    assert_eq!(last.events.last().expect("an event").what, "199");
}

#[test]
fn only_the_newest_lines_are_kept_and_none_that_are_damaged() {
    let memory = Memory::new(0);
    let first = journal();
    first.attach(memory.clone());
    let lines: Vec<String> = (0..100).map(|number| format!("{number:0>60}")).collect();
    first.keep_lines(&lines);
    let kept = journal().attach(memory.clone()).lines;
    assert_eq!(kept, lines[lines.len() - kept.len()..]);
    assert!(kept.len() > 60, "{}", kept.len());
    memory.0.lock()[100] ^= 1;
    assert_eq!(journal().attach(memory).lines, Vec::<String>::new());
}

#[test]
fn no_bytes_make_it_fail_or_make_an_event_up() {
    let memory = Memory::new(0);
    let first = journal();
    first.attach(memory.clone());
    (0..EVENTS).for_each(|number| tell(&first, &format!("{number}")));
    first.keep_lines(&["list".into()]);
    let sound = memory.0.lock().clone();
    // One byte in 13 is changed, one after the other.
    for at in (0..RETAINED_BYTES).step_by(13) {
        for value in [0, 0xff, sound[at] ^ 1] {
            let broken = Memory::new(0);
            broken.0.lock().copy_from_slice(&sound);
            broken.0.lock()[at] = value;
            let found = journal().attach(broken);
            let Some(last) = found.last else { continue };
            assert!(last.events.len() >= EVENTS - 1 || at < 64, "byte {at}");
            assert!(last.events.iter().all(|event| event.what.parse::<usize>().is_ok_and(|it| it < EVENTS)));
        }
    }
    for byte in 0..=u8::MAX {
        assert!(journal().attach(Memory::new(byte)).last.is_none());
    }
}
