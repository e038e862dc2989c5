//! What may happen while a long command is carried out: who asked for it ends it, and others look.

use std::sync::Arc;

use fake_machine::machine::Console;
use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, nfit_of};
use serde_json::{Value, json};
use service::console::CANCEL_BESIDE;
use service::link::Asker;

/// A node with a formatted namespace, and the console while a command is carried out.
fn booted(asker: Asker) -> (Booted, Arc<Console>) {
    let memory = Memory::new(96 * MIB);
    let dimm = Dimm { base: BASE, memory, flags: 0, labels: None };
    let console = Arc::new(Console { asker, ..Console::default() });
    let nfits = vec![nfit_of(&[dimm])];
    let hardware = Hardware { nfits, console: Some(Arc::clone(&console)), ..Hardware::default() };
    let mut node = hardware.memory(BASE, memory).boot();
    node.done("create-namespace -l 512");
    (node, console)
}

/// The long commands that may be ended, each of which would change or look at the whole disk.
const LONG: [&str; 8] = [
    "bench pmem0s -f --seconds 1000",
    "bench pmem0s -f --seconds 0 --verify",
    "write pmem0s 0 --fill 1 --count 100000",
    "trim pmem0s 0 100000",
    "inject-error pmem0s 0 100000",
    "clear-errors pmem0s 0 100000",
    "errors pmem0s",
    "check-namespace namespace0.0",
];

#[test]
fn a_long_command_ends_when_who_asked_for_it_says_so() {
    for (asker, end) in [
        (Asker::Person, 0x03),
        (Asker::Program, 0x03),
        (Asker::ProgramBeside, CANCEL_BESIDE),
        // The person at the console ends what keeps it.
        (Asker::ProgramBeside, 0x03),
    ] {
        let (mut node, console) = booted(asker);
        for command in LONG {
            console.wire.say(&[end]);
            let reply = node.ask(command);
            let is_bench = command.starts_with("bench");
            if is_bench {
                assert_eq!((&reply["interrupted"], &reply["exit"]), (&json!(true), &json!(1)), "{command}: {reply}");
            } else {
                assert_eq!(reply["error"]["code"], "interrupted", "{command}: {reply}");
                let message = reply["error"]["message"].as_str().expect("text");
                assert!(message.contains("ended"), "{command}: {message}");
            }
        }
        // What is done is said, and is done.
        console.wire.say(&[end]);
        let message = node.refused("write pmem0s 1000 --fill 7 --count 100000", "interrupted");
        let done: u64 = message.split(' ').find_map(|word| word.parse().ok()).expect("a number");
        assert!(message.contains(&format!("after {done} of 100000 sectors from LBA 1000 on")), "{message}");
        let first = |node: &mut Booted, lba: u64| node.done(&format!("read pmem0s {lba}"))["data"].clone();
        let (last, next) = (first(&mut node, 1000 + done - 1), first(&mut node, 1000 + done));
        assert!(last.as_str().is_some_and(|data| data.starts_with("BwcH")), "{last}");
        assert!(next.as_str().is_some_and(|data| !data.starts_with("BwcH")), "{next}");
        // Nothing is left of it: the next one goes through, and the disk is as before.
        node.done("check-namespace namespace0.0");
        node.done("bench pmem0s -f --seconds 0 --verify");
    }
}

#[test]
fn a_long_command_tells_how_far_it_is_and_to_its_end() {
    let (mut node, console) = booted(Asker::Person);
    for (command, what, unit) in [
        ("create-namespace -f -r region0 --zero-entries", "namespace0.0: written", "bytes"),
        ("trim pmem0s 0 20000", "pmem0s: done", "sectors"),
        ("write pmem0s 0 -f --fill 1 --count 20000", "pmem0s: written", "sectors"),
        ("errors", "pmem0s: looked at", "sectors"),
        ("check-namespace namespace0.0", "namespace0.0: checked", "blocks"),
        ("bench pmem0s -f --seconds 1", "pmem0s: load", ""),
        ("bench pmem0s -f --seconds 0 --verify", "pmem0s: verified", "sectors"),
    ] {
        console.progress.lock().expect("no panic").clear();
        node.done(command);
        let told = console.progress.lock().expect("no panic").clone();
        let of_it: Vec<_> = told.iter().filter(|told| told.0 == what && told.3 == unit).collect();
        assert!(of_it.len() >= 2, "{command}: {told:?}");
        assert!(
            of_it.is_sorted_by_key(|told| told.1) && of_it.iter().all(|told| told.2 == of_it[0].2),
            "{command}: {told:?}"
        );
        let (_, done, total, _) = of_it[of_it.len() - 1];
        assert!(done <= total && done * 10 >= total * 9, "{command}: {done} of {total}");
    }
}

#[test]
fn what_ends_another_ones_command_does_not_end_this_one() {
    let (mut node, console) = booted(Asker::Person);
    for command in ["trim pmem0s 0 1000", "errors", "check-namespace namespace0.0"] {
        console.wire.say(&[CANCEL_BESIDE]);
        node.done(command);
    }
}

#[test]
fn a_repair_is_gone_through_with() {
    let (mut node, console) = booted(Asker::Person);
    for options in ["-R", "-L", "--portable"] {
        console.wire.say(&[0x03]);
        node.done(&format!("check-namespace namespace0.0 {options}"));
    }
}

/// The replies that came, by their numbers.
fn replies(console: &Console) -> Vec<(String, Value)> {
    let heard = String::from_utf8(console.wire.heard()).expect("text");
    let replies = heard.split_terminator("\x1b\\").map(|reply| {
        let (number, object) = reply.strip_prefix("\x1b_#").expect("a reply").split_once(' ').expect("a number");
        (number.to_owned(), serde_json::from_str(object).expect("JSON"))
    });
    replies.collect()
}

#[test]
fn requests_that_only_look_are_replied_to_during_a_long_command_and_others_wait_for_it() {
    for (asker, command) in [
        (Asker::Person, "check-namespace namespace0.0"),
        (Asker::ProgramBeside, "check-namespace namespace0.0 -R"),
        (Asker::Person, "check-namespace namespace0.0 -R --portable"),
        (Asker::ProgramBeside, "create-namespace -f -r region0"),
        (Asker::Person, "bench pmem0s -f --seconds 1"),
        (Asker::Person, "trim pmem0s 0 10000"),
        (Asker::Person, "errors"),
    ] {
        let (mut node, console) = booted(asker);
        node.done("trim pmem0s 0 10");
        let all = ["status", "list -vvv", "health", "stats", "nfit", "trace", "version", "help", "arenas namespace0.0"];
        let changing = ["write pmem0s 5 --fill 3", "poweroff", "no-such-command", "mode json"];
        for (number, line) in all.iter().chain(&changing).enumerate() {
            console.wire.say(format!("\x1b_#{number} {line}\n").as_bytes());
        }
        let reply = node.ask(command);
        assert_eq!(reply["ok"], true, "{command}: {reply}");
        let replies = replies(&console);
        let numbers: Vec<_> = replies.iter().map(|(number, _)| number.parse::<usize>().expect("a number")).collect();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "{command}");
        assert!(replies.iter().all(|(_, reply)| reply["ok"] == true), "{replies:?}");
        let ahead = &mut *console.ahead.lock().expect("no panic");
        let kept: Vec<u8> = std::iter::from_fn(|| ahead.receive(&mut console.wire.clone())).collect();
        let kept = String::from_utf8(kept).expect("text");
        let lines = kept.lines().map(|line| line.split_once(' ').expect("a number").1);
        assert_eq!(lines.collect::<Vec<_>>(), [&all[8..], &changing].concat(), "they wait for the session");
    }
}
