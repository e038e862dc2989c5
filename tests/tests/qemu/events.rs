//! Events over a reset: what memory keeps on each way in.

use host::session::ReplyForm;
use serde_json::{Value, json};
use tests::dimm::{Dimm, MIB};
use tests::machine::{ApplianceBuilder, Running};
use tests::monitor;

/// The reply to `events --last-boot`: its boot, how it ended, and each event's kind and words.
fn last_boot(appliance: &mut Running) -> (Value, Value, Vec<(String, String)>) {
    let reply = appliance.ask("events --last-boot");
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = reply["events"].as_array().unwrap().iter();
    let events = events.map(|event| (text(event, "kind"), text(event, "what"))).collect();
    (reply["boot"].clone(), reply["ended"].clone(), events)
}

fn has(events: &[(String, String)], kind: &str, what: &str) -> bool {
    events.iter().any(|(of, words)| of == kind && words.starts_with(what))
}

/// Boots by this route, reboots, is reset from outside, and powers off.
fn keeps_events_over_resets(route: &str) {
    let dimm = Dimm::blank(32 * MIB);
    let place = monitor::Socket::new();
    let arguments = place.arguments();
    let builder = ApplianceBuilder::new().dimm(&dimm).with(&["--boot", route]);
    let mut appliance = builder.qemu(&[&arguments[0], &arguments[1]]).boot();
    let mut monitor = place.connect();
    assert_eq!(last_boot(&mut appliance), (Value::Null, Value::Null, vec![]), "the power was off");
    appliance.ask("create-namespace");
    appliance.ask("reboot");
    appliance.enter(ReplyForm::Json);
    let (boot, ended, events) = last_boot(&mut appliance);
    assert_eq!((boot, ended), (json!(1), json!("reboot")), "{route}");
    assert!(has(&events, "admin", "create-namespace") && has(&events, "boot", "ready in "), "{route}: {events:?}");
    assert!(has(&events, "admin", "reboot"), "{route}: {events:?}");
    appliance.ask("disable-namespace namespace0.0");
    monitor.reset();
    appliance.enter(ReplyForm::Json);
    let (boot, ended, events) = last_boot(&mut appliance);
    assert_eq!((boot, ended), (json!(2), json!("reset")), "{route}");
    assert!(has(&events, "admin", "disable-namespace") && has(&events, "namespace", "disabled"), "{events:?}");
    assert!(has(&events, "boot", "boot 1 ended by reboot"), "{route}: {events:?}");
    appliance.power_off();
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).with(&["--boot", route]).boot();
    assert_eq!(appliance.ask("events --last-boot")["kept"], false, "{route}: a power cut leaves nothing");
    appliance.power_off();
}

#[test]
fn events_outlive_resets_by_pvh() {
    keeps_events_over_resets("pvh");
}

#[test]
fn events_outlive_resets_by_a_bios_and_grub() {
    keeps_events_over_resets("bios");
}

#[test]
fn events_outlive_resets_by_uefi() {
    keeps_events_over_resets("uefi");
}
