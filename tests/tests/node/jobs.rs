//! Long commands that go on beside each other: none waits for another's end, but for that of one that has its device in hand.

use std::sync::Arc;

use fake_machine::Booted;
use fake_machine::machine::Console;
use serde_json::Value;
use service::admin::job::{JOBS_MAX, JobAdmin as _};
use service::console::{CANCEL_BESIDE, reply_to_jobs};
use service::link::{Asker, LinkNumber};

use crate::attention::{booted_with, replies, waiting};

/// Asks for lines beside a person, with their places as numbers. They are read when a command is carried out.
fn ask(console: &Console, lines: &[&str]) {
    for (number, line) in lines.iter().enumerate() {
        console.wire.say(format!("\x1b_#{number} {line}\n").as_bytes());
    }
}

/// Lets the job of this number end, as soon as the byte is read.
fn end_of(console: &Console, number: &str) {
    console.wire.say(&[b"\x1b_#", number.as_bytes(), b" ", &[CANCEL_BESIDE]].concat());
}

/// Lets jobs go on to their ends. Returns all replies that have come.
fn to_the_end(node: &Booted, console: &Console) -> Vec<(String, Value)> {
    while node.node.step_jobs() {
        reply_to_jobs(&mut console.wire.clone(), &node.node);
    }
    reply_to_jobs(&mut console.wire.clone(), &node.node);
    replies(console)
}

/// A node with so many disks, on which these jobs are under way.
fn with_jobs(disks: u64, jobs: &[&str]) -> (Booted, Arc<Console>) {
    let (mut node, console) = booted_with(Asker::Person, disks);
    ask(&console, jobs);
    // A command that pauses once, on a disk of its own.
    node.done(&format!("trim pmem{}s 0 1", disks - 1));
    assert_eq!((replies(&console), waiting(&console)), (Vec::new(), Vec::new()), "they are under way");
    (node, console)
}

#[test]
fn long_commands_on_several_devices_go_on_together() {
    for command in ["trim pmem3s 0 150000", "check-namespace namespace3.0 -R", "bench pmem3s -f --seconds 3"] {
        let (mut node, console) = booted_with(Asker::Person, 4);
        let long = [
            "write pmem0s 5 --fill 7 --count 1000",
            "check-namespace namespace1.0",
            "errors pmem2s",
            "read pmem2s 0 100",
        ];
        ask(&console, &long);
        node.done(command);
        let early = replies(&console).len();
        // A check has fewer steps than some of these.
        assert!(early == long.len() || command.starts_with("check"), "{command}: {early} replies before its own");
        let (mut node, console) = booted_with(Asker::Person, 4);
        ask(&console, &long);
        node.done(command);
        let mut replies = to_the_end(&node, &console);
        replies.sort_by(|one, other| one.0.cmp(&other.0));
        let numbers: Vec<_> = replies.iter().map(|(number, _)| number.as_str()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3"], "{command}");
        assert!(replies.iter().all(|(_, reply)| reply["ok"] == true), "{replies:?}");
        assert_eq!(replies[1].1["verdict"], "sound");
        let last = node.done("read pmem0s 1004")["data"].to_string();
        assert!(last.starts_with("\"BwcH"), "{last}");
        node.done("check-namespace namespace0.0");
    }
}

#[test]
fn a_short_one_is_done_before_a_long_one_that_came_first() {
    let (node, console) = with_jobs(3, &["trim pmem0s 0 100000", "trim pmem1s 0 1000"]);
    let numbers: Vec<_> = to_the_end(&node, &console).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, ["1", "0"]);
}

/// Commands that close a namespace.
const CLOSE: [&str; 6] = [
    "check-namespace namespace0.0 -R",
    "check-namespace namespace0.0 --portable",
    "disable-namespace namespace0.0",
    "config set disabled namespace0.0",
    "destroy-namespace namespace0.0 -f",
    "create-namespace -f -r region0",
];

#[test]
fn what_a_job_has_in_hand_is_not_changed_by_another_command_and_not_closed() {
    for job in ["trim pmem0s 0 20000", "check-namespace namespace0.0", "inject-error pmem0s 0 5000", "errors pmem0s"] {
        let others = [
            "write pmem0s 3 --fill 7",
            "trim pmem0s 0 40",
            "read pmem0s 100000",
            "bench pmem0s -f --seconds 0 --verify",
            "check-namespace namespace0.0",
        ];
        for command in others.into_iter().chain(CLOSE) {
            let (mut node, console) = with_jobs(2, &[job]);
            let reply = node.ask(command);
            let is_bench = command.starts_with("bench");
            assert!(reply["ok"] == true || (is_bench && reply["exit"] == 4), "{job}, {command}: {reply}");
            let closes = CLOSE.contains(&command);
            let is_over = !node.node.step_jobs();
            assert!(is_over || (job == "errors pmem0s" && !closes), "{job}, {command}: it has not waited for the job");
            let replies = to_the_end(&node, &console);
            assert!(matches!(&replies[..], [(_, reply)] if reply["ok"] == true), "{job}, {command}: {replies:?}");
            // What came later is what stands there.
            if command.starts_with("write") {
                let data = node.done("read pmem0s 3")["data"].to_string();
                assert!(data.starts_with("\"BwcH"), "{job}: {data}");
            }
        }
    }
}

#[test]
fn who_waits_for_a_job_need_not() {
    for command in ["trim pmem0s 0 40", "check-namespace namespace0.0", "disable-namespace namespace0.0"] {
        let (mut node, console) = with_jobs(2, &["trim pmem0s 0 100000"]);
        console.wire.say(&[0x03]);
        let why = node.refused(command, "interrupted");
        assert!(why.contains("pmem0s: another command has it in hand: nothing was done"), "{why}");
        assert_eq!(to_the_end(&node, &console)[0].1["ok"], true, "{command}");
        node.done(command);
    }
}

#[test]
fn a_second_one_on_a_device_waits_and_is_not_passed() {
    let (mut node, console) = with_jobs(3, &["trim pmem0s 0 1000"]);
    let lines = ["check-namespace namespace0.0", "trim pmem1s 0 1000", "status"];
    ask(&console, &lines);
    node.done("trim pmem2s 0 1");
    assert_eq!(replies(&console).len(), 1, "only what looks");
    assert_eq!(waiting(&console), lines[..2]);
}

#[test]
fn so_many_go_on_at_once_and_one_more_waits() {
    let jobs: Vec<String> = (0..JOBS_MAX).map(|disk| format!("trim pmem{disk}s 0 10000")).collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let (mut node, console) = with_jobs(JOBS_MAX as u64 + 2, &jobs);
    let another = format!("trim pmem{JOBS_MAX}s 0 100");
    ask(&console, &[&another]);
    let own_disk = format!("trim pmem{}s 0 1", JOBS_MAX + 1);
    node.done(&own_disk);
    assert_eq!(waiting(&console), [another.as_str()]);
    assert_eq!(to_the_end(&node, &console).len(), JOBS_MAX);
    ask(&console, &[&another]);
    node.done(&own_disk);
    assert_eq!(to_the_end(&node, &console).len(), 1);
}

#[test]
fn each_ends_by_its_number_and_says_how_far_it_came() {
    let (mut node, console) = with_jobs(3, &["trim pmem0s 0 100000", "write pmem1s 0 --fill 1 --count 100000"]);
    end_of(&console, "7");
    end_of(&console, "1");
    node.done("trim pmem2s 0 1000");
    let ended = replies(&console);
    assert!(matches!(&ended[..], [(number, _)] if number == "1"), "{ended:?}");
    assert_eq!(ended[0].1["error"]["code"], "interrupted");
    let message = ended[0].1["error"]["message"].as_str().expect("text");
    let done: u64 = message.split(' ').find_map(|word| word.parse().ok()).expect("a number");
    assert!(message.contains(&format!("pmem1s: ended after {done} of 100000 sectors from LBA 0 on")), "{message}");
    let first = |node: &mut Booted, lba: u64| node.done(&format!("read pmem1s {lba}"))["data"].to_string();
    assert!(first(&mut node, done - 1).starts_with("\"AQEB") && !first(&mut node, done).starts_with("\"AQEB"));
    assert_eq!(to_the_end(&node, &console)[0].1["ok"], true, "the other one goes on");

    // A look and a check end, too.
    for job in ["errors", "check-namespace namespace0.0", "read pmem0s 0 2048", "inject-error pmem0s 0 90000"] {
        let (mut node, console) = with_jobs(2, &[job]);
        end_of(&console, "0");
        node.done("trim pmem1s 0 3000");
        let replies = to_the_end(&node, &console);
        assert_eq!(replies[0].1["error"]["code"], "interrupted", "{job}: {replies:?}");
        node.done("disable-namespace namespace0.0");
    }
}

#[test]
fn one_that_waits_is_taken_back_by_its_number() {
    let (mut node, console) = booted_with(Asker::Person, 2);
    let before = node.done("read pmem0s 39000")["data"].clone();
    ask(&console, &["write pmem0s 0 --fill 7 --count 40000", "status", "inject-error pmem0s 0 40000"]);
    for number in ["0", "2", "7"] {
        end_of(&console, number);
    }
    node.done("trim pmem0s 0 100");
    let replies = to_the_end(&node, &console);
    let codes: Vec<_> = replies.iter().map(|(number, it)| (number.as_str(), it["error"]["code"].as_str())).collect();
    assert_eq!(codes, [("1", None), ("0", Some("interrupted")), ("2", Some("interrupted"))]);
    assert_eq!(waiting(&console), Vec::<String>::new());
    assert_eq!(node.done("read pmem0s 39000")["data"], before, "nothing was done");
}

#[test]
fn none_begins_with_a_disk_that_another_command_waits_for() {
    for (job, later) in [
        ("errors", &["errors", "errors pmem0s"][..]),
        ("trim pmem0s 0 10000", &["check-namespace namespace0.0"]),
        ("check-namespace namespace0.0", &["trim pmem0s 0 1000"]),
    ] {
        let (mut node, console) = with_jobs(2, &[job]);
        ask(&console, later);
        node.done("disable-namespace namespace0.0");
        assert_eq!(waiting(&console), later, "{job}");
    }
}

#[test]
fn the_end_of_the_machine_ends_them_and_who_has_gone_gets_no_reply() {
    for command in ["poweroff", "reboot"] {
        let (mut node, console) = with_jobs(3, &["trim pmem0s 0 100000", "check-namespace namespace1.0"]);
        node.done(command);
        assert!(!node.node.step_jobs(), "none is under way");
        let replies = to_the_end(&node, &console);
        assert!(
            replies.len() == 2 && replies.iter().all(|(_, reply)| reply["error"]["code"] == "interrupted"),
            "{command}: {replies:?}"
        );
    }
    let (mut node, console) = with_jobs(2, &["trim pmem0s 0 100000"]);
    node.node.forget(LinkNumber(9));
    node.node.forget(LinkNumber::default());
    assert_eq!(to_the_end(&node, &console), Vec::new());
    node.done("disable-namespace namespace0.0");
    assert!(node.node.has_room());
    // Also of one that has just ended.
    let (node, console) = with_jobs(2, &["errors"]);
    while node.node.step_jobs() {}
    node.node.forget(LinkNumber::default());
    assert_eq!(to_the_end(&node, &console), Vec::new());
    assert!(node.node.has_room());
}

#[test]
fn what_cannot_be_begun_is_told_why() {
    let (mut node, console) = booted_with(Asker::Person, 3);
    ask(
        &console,
        &[
            "trim pmem9s 0 1000",
            "check-namespace namespace9.0",
            "errors pmem9s",
            "read pmem0s 0 100000",
            "trim pmem2s 5 99999999",
        ],
    );
    node.done("trim pmem1s 0 1000");
    let codes: Vec<_> = to_the_end(&node, &console)
        .into_iter()
        .map(|(number, reply)| (number, reply["error"]["code"].as_str().expect("an error").to_owned()))
        .collect();
    let codes: Vec<_> = codes.iter().map(|(number, code)| (number.as_str(), code.as_str())).collect();
    let expected =
        [("0", "not-found"), ("1", "not-found"), ("2", "not-found"), ("3", "too-long"), ("4", "out-of-range")];
    assert_eq!(codes, expected);
}
