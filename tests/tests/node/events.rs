//! `events`: what is told, by whom, and what is found out by looking around.

use std::sync::Arc;

use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, Retained, boot, boot_one};
use serde_json::{Value, json};

/// The events of a kind: severity, where, what.
fn events(node: &mut Booted, kind: &str) -> Vec<(String, String, String)> {
    let reply = node.done(&format!("events --kind {kind}"));
    let text = |event: &Value, key: &str| event[key].as_str().expect("text").to_owned();
    let all = reply["events"].as_array().expect("a list").iter();
    all.map(|event| {
        assert_eq!(event["kind"], kind);
        assert!(event["time"].is_f64() && event["number"].as_u64() > Some(0), "{event}");
        (text(event, "severity"), text(event, "where"), text(event, "what"))
    })
    .collect()
}

fn looked(node: &mut Booted) {
    node.node.machine().hurry();
    // The first look at the clock is not later yet.
    (0..3).for_each(|_| node.node.look_around());
}

#[test]
fn changes_are_told_with_who_made_them_and_without_secrets() {
    let mut node = boot_one(Memory::new(32 * MIB));
    assert_eq!(events(&mut node, "admin"), []);
    node.done("create-namespace -l 512");
    node.done("write pmem0s 0 --fill 1");
    node.done("list");
    node.done("allow any --secret DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:");
    node.refused("destroy-namespace namespace7.0", "not-found");
    let admin = |what: &str| ("info".to_owned(), "program".to_owned(), what.to_owned());
    let told = events(&mut node, "admin");
    assert_eq!(told[0], admin("create-namespace -l 512"));
    assert_eq!(told[1], admin("allow any ..."));
    assert!(told[2].2.starts_with("destroy-namespace namespace7.0: not-found: no namespace"), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    node.done("disable-namespace namespace0.0");
    let states = events(&mut node, "namespace");
    assert_eq!(states.last().expect("an event").2, "disabled");
    assert!(
        states.iter().any(|(_, place, what)| place == "namespace0.0" && what.starts_with("pmem0s, ")),
        "{states:?}"
    );
}

#[test]
fn what_goes_wrong_at_run_time_is_told_once() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    looked(&mut node);
    assert_eq!(events(&mut node, "media"), []);
    node.done("inject-error --media pmem0s 3");
    looked(&mut node);
    looked(&mut node);
    let told = events(&mut node, "media");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("error", "namespace0.0"));
    assert!(told[0].2.contains("lost 4096 bytes"), "{told:?}");
}

#[test]
fn a_loss_is_told_also_if_the_namespace_is_opened_anew_before_it_is_looked_at() {
    let mut node = boot_one(Memory::new(32 * MIB));
    node.done("create-namespace");
    looked(&mut node);
    for line in ["inject-error --media pmem0s 3", "disable-namespace namespace0.0", "enable-namespace namespace0.0"] {
        node.done(line);
    }
    looked(&mut node);
    let told = events(&mut node, "media");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("error", "namespace0.0"));
    assert!(told[0].2.contains("; the medium has lost 4096 bytes: errors shows where; looked at in"), "{told:?}");
}

#[test]
fn what_was_wrong_from_the_start_is_told_at_boot_with_its_severity() {
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    let mut node = boot(&[Dimm { base: BASE, memory, flags: 1 << 3, labels: None }]);
    let told = events(&mut node, "namespace");
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("warning", "namespace0.0"), "{told:?}");
    looked(&mut node);
    assert_eq!(events(&mut node, "media"), [], "it was told");
    let reply = node.done("events --severity warning --after 0");
    assert!(reply["events"].as_array().expect("a list").iter().all(|event| event["severity"] != "info"));
    let newest = &reply["newest"];
    assert_eq!(node.done(&format!("events --after {newest}"))["events"], json!([]));
}

#[test]
fn trace_shows_events_among_the_steps_of_queues() {
    let mut node = boot_one(Memory::new(32 * MIB));
    let traced = node.done("trace")["events"].to_string();
    assert!(traced.contains("namespace0.0: no BTT, blank"), "{traced}");
    assert_eq!(node.done("events --last-boot")["kept"], false);
}

#[test]
fn the_boot_before_is_shown_after_a_reset() {
    let memory = Arc::new(Retained::default());
    let boot = || Hardware { retained: Some(Arc::clone(&memory)), ..Hardware::default() }.boot();
    let mut first = boot();
    assert_eq!(first.done("events --last-boot"), json!({"ok": true, "kept": false, "events": []}));
    first.done("allow nqn.2014-08.org.nvmexpress:a");
    drop(first);
    let mut second = boot();
    let last = second.done("events --last-boot --kind admin");
    assert_eq!((&last["boot"], &last["ended"], &last["kept"]), (&json!(1), &json!("reset"), &json!(true)));
    assert_eq!(last["events"][0]["what"], "allow nqn.2014-08.org.nvmexpress:a");
    second.refused("events --last-boot --follow", "usage");
}

#[test]
fn the_watchdog_is_off_unless_a_sound_key_turns_it_on() {
    let boot = |line: &str| Hardware { command_line: line.into(), ..Hardware::default() }.boot();
    for (line, expected, slips) in
        [("", None, 0), ("watchdog=off", None, 0), ("watchdog=30", Some(30), 0), ("watchdog=1", None, 1)]
    {
        let mut node = boot(line);
        assert_eq!((node.node.machine().watchdog(), node.node.watchdog()), (expected, expected), "{line}");
        assert_eq!(node.done("health")["findings"].as_array().expect("a list").len(), slips, "{line}");
    }
    let mut node = Hardware { command_line: "watchdog=30".into(), cpus: 1, ..Hardware::default() }.boot();
    assert_eq!(node.done("health")["findings"][0]["where"], "watchdog");
    node.node.set_watchdog(None);
    assert_eq!(node.node.machine().watchdog(), None);
    assert_eq!(node.done("health")["state"], "ok");
}
