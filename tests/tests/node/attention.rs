//! What may happen while a long command is carried out: who asked for it ends it, and others look.

use std::sync::Arc;

use fake_machine::machine::Console;
use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, nfit_of};
use serde_json::{Value, json};
use service::console::CANCEL_BESIDE;
use service::link::Asker;

/// A node with a formatted namespace, and the console while a command is carried out.
fn booted(asker: Asker) -> (Booted, Arc<Console>) {
    booted_with(asker, 1)
}

/// A node with as many DIMMs, each with a formatted namespace, and the console while a command is carried out.
pub(crate) fn booted_with(asker: Asker, dimms: u64) -> (Booted, Arc<Console>) {
    let dimms: Vec<Dimm> = (0..dimms)
        .map(|dimm| Dimm {
            base: BASE + dimm * 128 * MIB as u64,
            memory: Memory::new(96 * MIB),
            flags: 0,
            labels: None,
        })
        .collect();
    let console = Arc::new(Console { asker, ..Console::default() });
    let nfits = vec![nfit_of(&dimms)];
    let hardware = Hardware { nfits, console: Some(Arc::clone(&console)), ..Hardware::default() };
    let mut node = dimms.iter().fold(hardware, |hardware, dimm| hardware.memory(dimm.base, dimm.memory)).boot();
    for number in 0..dimms.len() {
        node.done(&format!("create-namespace -r region{number} -l 512"));
    }
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
pub(crate) fn replies(console: &Console) -> Vec<(String, Value)> {
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
        assert_eq!(waiting(&console), [&all[8..], &changing].concat(), "they wait for the session");
    }
}

/// The requests that wait for the session, without their numbers.
pub(crate) fn waiting(console: &Console) -> Vec<String> {
    let ahead = &mut *console.ahead.lock().expect("no panic");
    let kept: Vec<u8> = std::iter::from_fn(|| ahead.receive(&mut console.wire.clone())).collect();
    let kept = String::from_utf8(kept).expect("text");
    kept.lines().map(|line| line.split_once(' ').expect("a number").1.to_owned()).collect()
}

#[test]
fn a_step_on_another_device_is_carried_out_during_a_long_command_and_one_on_its_own_waits() {
    for command in LONG.into_iter().chain(["check-namespace namespace0.0 -R", "create-namespace -f -r region0 -l 512"])
    {
        let (mut node, console) = booted_with(Asker::Person, 2);
        let own = ["write pmem0s 5 --fill 3", "trim pmem0s 0 1"];
        let others =
            ["write pmem1s 5 --fill 3 --count 32", "read pmem1s 36", "trim pmem1s 5 31", "inject-error pmem1s 4"];
        // Of the disk that all of it is looked at: what stands there does not matter to it.
        let none_is_in_hand = command == "errors pmem0s";
        for (number, line) in others.iter().chain(&own).chain(&["read pmem1s 0"]).enumerate() {
            console.wire.say(format!("\x1b_#{number} {line}\n").as_bytes());
        }
        let command = command.replace("1000", "1");
        let reply = node.ask(&command);
        assert_eq!(reply["ok"], true, "{command}: {reply}");
        let replies = replies(&console);
        let numbers: Vec<_> = replies.iter().map(|(number, _)| number.parse::<usize>().expect("a number")).collect();
        if none_is_in_hand {
            assert_eq!(numbers, (0..=6).collect::<Vec<_>>(), "{command}");
            continue;
        }
        assert_eq!(numbers, (0..4).collect::<Vec<_>>(), "{command}");
        assert!(replies.iter().all(|(_, reply)| reply["ok"] == true), "{replies:?}");
        assert_eq!(replies[1].1["data"], node.done("read pmem1s 36")["data"], "it was written");
        assert_eq!(waiting(&console), [&own[..], &["read pmem1s 0"]].concat(), "none passes another one that waits");
        // It was carried out, and is an event as ever.
        node.refused("read pmem1s 4", "damaged");
        let events = node.done("events --kind admin");
        assert!(events.to_string().contains("inject-error pmem1s 4"), "{events}");
    }
}

#[test]
fn what_needs_all_cpus_waits_and_so_does_a_device_that_a_change_may_bring() {
    let (mut node, console) = booted_with(Asker::Person, 2);
    let waits =
        ["bench pmem1s --seconds 0 --verify", "check-namespace namespace1.0 -R", "create-namespace -f -r region1"];
    for line in waits {
        console.wire.say(format!("\x1b_#1 {line}\n").as_bytes());
        node.done("trim pmem0s 0 1000");
        assert_eq!((replies(&console), waiting(&console)), (Vec::new(), vec![line.to_owned()]));
    }
    for (command, is_answered) in [("trim pmem0s 0 1000", true), ("check-namespace namespace0.0 -R", false)] {
        console.wire.say(b"\x1b_#1 read pmem7s 0\n");
        node.done(command);
        let codes: Vec<Value> =
            replies(&console).into_iter().map(|(_, reply)| reply["error"]["code"].clone()).collect();
        assert_eq!(codes, if is_answered { vec![json!("not-found")] } else { Vec::new() }, "{command}");
        assert_eq!(waiting(&console).len(), usize::from(!is_answered), "{command}");
    }
}
