//! `health`: what is known to be wrong, and how bad it is.

use fake_machine::{BASE, Booted, Dimm, MIB, Memory, boot, boot_one};
use serde_json::{Value, json};

/// The state, the exit status, and each finding's place and severity.
fn health(node: &mut Booted) -> (String, u64, Vec<(String, String)>) {
    let health = node.done("health");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let findings = health["findings"].as_array().expect("a list").iter();
    let findings = findings.map(|finding| {
        assert!(!text(&finding["what"]).is_empty());
        (text(&finding["where"]), text(&finding["severity"]))
    });
    (text(&health["state"]), health["exit"].as_u64().unwrap_or(0), findings.collect())
}

fn finding(place: &str, severity: &str) -> (String, String) {
    (place.into(), severity.into())
}

#[test]
fn all_is_well_with_blank_memory_and_with_a_btt() {
    let mut node = boot_one(Memory::new(32 * MIB));
    assert_eq!(health(&mut node), ("ok".into(), 0, vec![]));
    node.done("create-namespace");
    assert_eq!(health(&mut node), ("ok".into(), 0, vec![]));
    node.done("disable-namespace namespace0.0");
    assert_eq!(health(&mut node), ("ok".into(), 0, vec![]), "what an admin asked for is no fault");
}

#[test]
fn a_dimm_that_is_not_armed_degrades_and_its_namespace_is_read_only() {
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    let mut node = boot(&[Dimm { base: BASE, memory, flags: 1 << 3, labels: None }]);
    let findings = vec![finding("nmem0", "warning"), finding("namespace0.0", "warning")];
    assert_eq!(health(&mut node), ("degraded".into(), 1, findings));
    let mut node = boot(&[Dimm { base: BASE, memory: Memory::new(32 * MIB), flags: 1 << 1, labels: None }]);
    assert_eq!(health(&mut node), ("failed".into(), 4, vec![finding("nmem0", "error")]), "its restore failed");
}

#[test]
fn lost_bytes_and_damaged_metadata_are_failures() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    let map = node.done("arenas namespace0.0")["arenas"][0]["mapoff"].as_u64().expect("a number");
    node.done("inject-error --media pmem0s 3");
    let lost = node.done("health");
    assert_eq!((&lost["state"], &lost["exit"]), (&json!("failed"), &json!(4)));
    let what = lost["findings"][0]["what"].as_str().expect("text");
    assert!(what.contains("lost 4096 bytes"), "{what}");
    drop(node);

    memory.put(usize::try_from(map).expect("small") + 4096 + 4 * 7, &u32::MAX.to_le_bytes());
    let mut node = boot_one(memory);
    assert_eq!(health(&mut node), ("ok".into(), 0, vec![]), "it reads no media");
    node.refused("read pmem0s 7", "damaged");
    assert_eq!(health(&mut node), ("failed".into(), 4, vec![finding("namespace0.0", "error")]));
}

#[test]
fn what_the_tables_have_wrong_degrades() {
    let (first, second) = (Memory::new(32 * MIB), Memory::new(32 * MIB));
    // Two ranges over the same addresses: one of them is refused.
    let dimm = |memory| Dimm { base: BASE, memory, flags: 0, labels: None };
    let mut node = boot(&[dimm(first), dimm(second)]);
    let refused = node.done("nfit")["refused"].as_array().expect("a list").len();
    let (state, exit, findings) = health(&mut node);
    assert!(refused > 0 && findings.len() >= refused, "{findings:?}");
    assert!(state != "ok" && exit > 0, "{state}");
}

#[test]
fn a_damaged_btt_has_a_state_in_list_and_a_check_one_verdict() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    let listed = node.done("list")["result"][0].clone();
    assert_eq!((&listed["state"], &listed["reason"]), (&Value::Null, &Value::Null), "as ndctl has it");
    let sound = node.done("check-namespace namespace0.0");
    assert_eq!((&sound["verdict"], &sound["exit"]), (&json!("sound"), &Value::Null));
    drop(node);
    // Both info blocks of its one arena: their major version.
    for at in [4096, 32 * MIB - 4096] {
        memory.put(at + 16 + 16 + 16 + 4, &[0xff]);
    }
    let mut node = boot_one(memory);
    let listed = node.done("list")["result"][0].clone();
    assert_eq!(listed["state"], "damaged", "{listed}");
    assert!(listed["reason"].as_str().is_some_and(|why| !why.is_empty()), "{listed}");
    assert_eq!(health(&mut node).0, "failed");
    let damaged = node.done("check-namespace namespace0.0");
    assert_eq!((&damaged["verdict"], &damaged["exit"]), (&json!("damaged"), &json!(4)), "{damaged}");
}
