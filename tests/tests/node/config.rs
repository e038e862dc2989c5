//! The configuration: what is set is in force, what is saved comes back, and what other commands change is kept.

use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, boot, boot_one, labelled, nfit_of};
use serde_json::{Value, json};

/// A node on these DIMMs with this command line, and two interfaces.
fn started(dimms: &[Dimm], command_line: &str) -> Booted {
    let network = (0..2).map(|number| {
        let nic = net::mock::FakeNic::new(net::nic::Mac([0x52, 0x54, 0, 0x75, 0x6e, number]));
        kernel::node::network::NetworkDevice { nic: Box::new(nic), cpu: btt::CpuIndex(0) }
    });
    let hardware = Hardware { nfits: vec![nfit_of(dimms)], ..Hardware::default() };
    let hardware = dimms.iter().fold(hardware, |it, dimm| it.memory(dimm.base, dimm.memory));
    Hardware { network: network.collect(), command_line: command_line.into(), ..hardware }.boot()
}

fn plain(memory: &'static Memory) -> [Dimm; 1] {
    [Dimm { base: BASE, memory, flags: 0, labels: None }]
}

/// A key's value, and where it is from.
fn key(node: &mut Booted, name: &str) -> (String, String) {
    let config = node.done("config");
    let found = config["keys"].as_array().expect("a list").iter().find(|entry| entry["key"] == name);
    let text = |field: &str| found.map_or("", |entry| entry[field].as_str().expect("text")).to_owned();
    (text("value"), text("from"))
}

fn pair(value: &str, from: &str) -> (String, String) {
    (value.into(), from.into())
}

fn findings(node: &mut Booted) -> Vec<String> {
    let health = node.done("health");
    let findings = health["findings"].as_array().expect("a list").iter();
    findings
        .map(|it| format!("{}: {}", it["where"].as_str().unwrap_or(""), it["what"].as_str().unwrap_or("")))
        .collect()
}

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001";
const SECRET: &str = "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:";

/// The controller's.
const OWN_SECRET: &str = "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:";

#[test]
fn what_commands_and_config_set_comes_back_when_it_was_saved() {
    let memory = Memory::new(32 * MIB);
    let mut node = started(&plain(memory), "");
    assert_eq!(node.done("config")["copies"], json!([]));
    node.done("create-namespace -l 512");
    node.done("config set net0 10.0.0.2/24,gateway=10.0.0.1");
    node.done("export pmem0s --nvme --nqn nqn.2026-01.org.example:disk");
    node.refused(&format!("allow {HOST} --controller-secret {OWN_SECRET}"), "usage");
    let wrong = node.refused(&format!("allow {HOST} --secret {SECRET} --controller-secret DHHC-1:00:ia6z:"), "usage");
    assert!(wrong.starts_with("--controller-secret: ") && !wrong.contains("ia6z"), "{wrong}");
    node.done(&format!("allow {HOST} --secret {SECRET} --controller-secret {OWN_SECRET}"));
    node.done("allow any --nqn nqn.2026-01.org.example:disk");
    node.done("config set console json");
    assert_eq!(node.done("net")["result"][0]["addresses"][0], "10.0.0.2/24", "at once");
    assert_eq!(key(&mut node, "net0"), pair("10.0.0.2/24,gateway=10.0.0.1", "set"));
    assert_eq!(key(&mut node, "nvme.export"), pair("pmem0s=nqn.2026-01.org.example:disk", "set"));
    let config = node.done("config").to_string();
    assert!(config.contains("DHHC-1:hidden") && !config.contains("ia6zGod") && !config.contains("MYrE3v"), "{config}");
    assert_eq!(node.done("config")["unsaved"], true);
    assert_eq!(node.done("config save")["copies"], json!(["namespace0.0"]));
    assert_eq!(node.done("config")["unsaved"], false);
    assert_eq!(key(&mut node, "net0"), pair("10.0.0.2/24,gateway=10.0.0.1", "stored"));
    drop(node);

    let mut node = started(&plain(memory), "net1=off console=person");
    assert_eq!(node.done("net")["result"][0]["config"], "10.0.0.2/24,gateway=10.0.0.1");
    let status = node.done("status");
    assert_eq!(status["nvme"][0]["nqn"], "nqn.2026-01.org.example:disk");
    assert_eq!(status["nvme"][0]["allowed"], json!(["any", HOST]));
    assert_eq!(key(&mut node, "console"), pair("person", "command line"));
    assert_eq!(
        (key(&mut node, "net1"), key(&mut node, "export")),
        (pair("off", "command line"), pair("all", "default"))
    );
    assert_eq!(findings(&mut node), Vec::<String>::new());
    // A secret that is shown hidden can be given back so.
    let shown = key(&mut node, "nvme.allow").0;
    node.done(&format!("config set nvme.allow {shown}"));
    assert_eq!(node.done("config")["unsaved"], false, "it is the same");
    node.refused("config set nvme.allow nqn.2026-01.org.example:x=DHHC-1:hidden", "usage");
    node.done("unexport pmem0s --nvme");
    assert_eq!(key(&mut node, "nvme.export"), pair("none", "set"));
    assert_eq!(
        key(&mut node, "nvme.allow"),
        pair(&format!("{HOST}=DHHC-1:hidden=DHHC-1:hidden"), "set"),
        "the subsystem's rule went with it"
    );
    node.done(&format!("deny {HOST}"));
    assert_eq!(key(&mut node, "nvme.allow"), pair("none", "set"));
    node.done("config reset");
    assert_eq!(node.done("net")["result"][0]["config"], "dhcp");
    assert_eq!(key(&mut node, "console"), pair("person", "set"), "the stored one is taken away");
    node.done("config save");
    drop(node);
    let mut node = started(&plain(memory), "");
    assert_eq!(
        (key(&mut node, "net0"), key(&mut node, "console")),
        (pair("dhcp", "default"), pair("person", "default"))
    );
    assert_eq!(node.done("config")["copies"][0]["saved"], 2);
}

#[test]
fn a_command_line_s_value_is_for_one_boot() {
    let memory = Memory::new(32 * MIB);
    let mut node = started(&plain(memory), "net0=off");
    node.done("create-namespace");
    node.done("config set net1 off");
    node.done("config save");
    drop(node);
    let mut node = started(&plain(memory), "");
    assert_eq!((key(&mut node, "net0"), key(&mut node, "net1")), (pair("dhcp", "default"), pair("off", "stored")));
}

#[test]
fn a_disabled_namespace_stays_disabled_and_is_not_opened() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    node.done("disable-namespace namespace0.0");
    assert_eq!(key(&mut node, "disabled"), pair("namespace0.0", "set"));
    node.done("config save");
    drop(node);
    let mut node = boot_one(memory);
    assert_eq!(node.done("list -N")["result"], json!([]));
    node.done("enable-namespace namespace0.0");
    assert_eq!(key(&mut node, "disabled"), pair("none", "set"));
    node.done("config save");
    drop(node);
    assert_eq!(boot_one(memory).done("list -N")["result"][0]["blockdev"], "pmem0s");
}

#[test]
fn wrong_settings_change_nothing_and_say_what_is_wrong() {
    let memory = Memory::new(32 * MIB);
    let mut node = started(&plain(memory), "");
    node.done("create-namespace");
    node.done("config set net0 10.0.0.2/24");
    for (line, code) in [
        ("config set net0 10.0.0/8", "usage"),
        ("config set net7 off", "not-found"),
        ("config set netN off", "not-found"),
        ("config unset netN", "not-found"),
        ("config set net00 off", "not-found"),
        ("config set nvme.exprot pmem0s", "not-found"),
        ("config set console loud", "usage"),
        ("config set nvme.export pmem0s,pmem9s", "not-found"),
        ("config set nvme.allow nobody", "usage"),
        ("config set pmem.type12 on", "usage"),
        ("config set export pmem9s", "not-found"),
        ("config set disabled namespace0.0,namespace7.0", "not-found"),
        ("config unset nothing", "not-found"),
        ("config set net0", "usage"),
        ("config save now", "usage"),
        ("config show -f", "usage"),
        ("config destroy", "usage"),
    ] {
        node.refused(line, code);
    }
    for (line, wrong) in [
        ("config set watchdg 5", "no key \"watchdg\": did you mean watchdog? config shows what there is"),
        ("config unset Net0", "no key \"Net0\": did you mean net0? config shows what there is"),
        ("config unset nothing", "no key \"nothing\": config shows what there is"),
    ] {
        assert_eq!(node.refused(line, "not-found"), wrong);
    }
    assert_eq!(key(&mut node, "net0"), pair("10.0.0.2/24", "set"));
    assert_eq!(node.done("net")["result"][0]["config"], "10.0.0.2/24");
    let status = node.done("status");
    assert_eq!((&status["nvme"], &status["namespaces"][0]["state"]), (&Value::Null, &json!("active")));
    assert_eq!(key(&mut node, "nvme.export"), pair("none", "default"));
}

#[test]
fn a_wrong_value_is_told_with_its_key_once_at_the_console_and_at_the_command_line() {
    const VALUES: [(&str, &str, &str); 9] = [
        ("console", "loud", "\"loud\" is none of person, text and json"),
        ("console.color", "red", "\"red\" is not on or off"),
        ("export", "pmem9s", "no block device \"pmem9s\""),
        ("metrics", "abc", "\"abc\" is no TCP port and not off"),
        ("metrics", "4420", "4420 is a port of NVMe/TCP"),
        ("net0", "1.2.3", "'1.2.3'"),
        ("nvme.allow", "bob", "HOSTNQN: \"bob\" is no NQN: these begin with nqn."),
        ("nvme.export", "pmem9s", "no block device \"pmem9s\": list shows what there is"),
        ("watchdog", "1", "\"1\" is neither off nor from 5 to 3600 seconds"),
    ];
    let memory = plain(Memory::new(32 * MIB));
    let mut node = started(&memory, "");
    for (key, value, why) in VALUES {
        let line = format!("config set {key} {value}");
        let wrong = node.ask(&line)["error"]["message"].as_str().expect("an error").to_owned();
        assert!(wrong.starts_with(&format!("{key}: {why}")) && wrong.matches(key).count() == 1, "{line}: {wrong}");
    }
    node.done("config set nvme.allow nqn.a");
    let wrong = node.refused("config set nvme.allow nqn.a,nqn.a", "usage");
    assert_eq!(wrong, "nvme.allow: nqn.a is there twice");
    drop(node);
    // A device that is not there may come, and be offered then; and an interface's wrong setting has a consequence of its own.
    for (key, value, why) in VALUES.into_iter().filter(|(key, ..)| !["export", "net0"].contains(key)) {
        let mut node = started(&memory, &format!("{key}={value}"));
        let health = node.done("health");
        let finding = &health["findings"][0];
        assert_eq!((&finding["where"], &finding["what"]), (&json!("command line"), &json!(format!("{key}: {why}"))));
    }
}

#[test]
fn labelled_media_keep_it_in_a_namespace_of_its_own() {
    let dimm = labelled(64);
    let mut node = boot(&[dimm]);
    node.done("init-labels nmem0");
    node.done("create-namespace -s 32M");
    node.done("config set console text");
    assert_eq!(node.done("config save")["copies"], json!(["namespace0.1"]));
    let namespaces = node.done("list -N")["result"].clone();
    let own = namespaces.as_array().expect("two").iter().find(|it| it["name"] == "untorn-config").expect("its own");
    assert_eq!((&own["mode"], &own["size"]), (&json!("raw"), &json!(16 << 20)), "the least that Linux aligns to");
    assert!(node.done("status").to_string().contains("the configuration of untorn"));
    node.done("config save");
    drop(node);
    let mut node = boot(&[dimm]);
    assert_eq!(key(&mut node, "console"), pair("text", "stored"));
    assert_eq!(node.done("config")["copies"][0]["saved"], 2);
    node.refused("destroy-namespace namespace0.1", "failed");
    drop(node);

    let full = labelled(64);
    let mut node = boot(&[full]);
    node.done("init-labels nmem0");
    node.done("create-namespace");
    let why = node.refused("config save", "failed");
    assert!(why.contains("no place") && why.contains("-s"), "{why}");
}

#[test]
fn without_a_place_nothing_is_saved() {
    let why = boot_one(Memory::new(32 * MIB)).refused("config save", "failed");
    assert!(why.contains("no place"), "{why}");
    // Not in front of what is no BTT.
    let memory = Memory::new(32 * MIB);
    memory.put(8192, b"somebody's");
    let mut node = boot_one(memory);
    node.refused("config save", "failed");
    assert!(memory.copy()[..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn of_several_places_the_newest_counts_and_disagreement_is_told() {
    let (first, second) = (Memory::new(32 * MIB), Memory::new(32 * MIB));
    let dimm = |base, memory| Dimm { base, memory, flags: 0, labels: None };
    let both = [dimm(BASE, first), dimm(BASE + 64 * MIB as u64, second)];
    let mut node = boot(&both);
    node.done("create-namespace -r region0");
    node.done("create-namespace -r region1");
    node.done("config set console text");
    assert_eq!(node.done("config save")["copies"], json!(["namespace0.0", "namespace1.0"]));
    drop(node);
    // The first one alone is saved again.
    let mut node = boot(&both[..1]);
    node.done("config set console json");
    node.done("config save");
    drop(node);
    let mut node = boot(&both);
    assert_eq!(key(&mut node, "console"), pair("json", "stored"));
    let told = findings(&mut node);
    assert!(told.len() == 1 && told[0].starts_with("namespace1.0: ") && told[0].contains("older"), "{told:?}");
    node.done("config save");
    assert_eq!(findings(&mut node), Vec::<String>::new());
    drop(node);

    // Both were saved as often, each without the other.
    for (own, value) in [(0, "text"), (1, "person")] {
        let mut node = boot(&both[own..=own]);
        node.done(&format!("config set console {value}"));
        node.done("config save");
    }
    let mut node = boot(&both);
    assert_eq!(key(&mut node, "console"), pair("text", "stored"));
    let told = findings(&mut node);
    assert!(told.len() == 1 && told[0].contains("differs"), "{told:?}");
}

#[test]
fn a_damaged_configuration_falls_back_and_a_newer_one_is_kept() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    node.done("config set console text");
    node.done("config save");
    drop(node);
    memory.put(70, b"X");
    let mut node = boot_one(memory);
    assert_eq!(key(&mut node, "console"), pair("text", "stored"), "the other copy");
    assert!(findings(&mut node)[0].contains("one of its two copies"));
    drop(node);
    memory.put(2048 + 70, b"X");
    let mut node = boot_one(memory);
    assert_eq!(key(&mut node, "console"), pair("person", "default"));
    assert!(findings(&mut node)[0].contains("damaged"));
    node.done("config set console text");
    node.done("config save");
    assert_eq!(findings(&mut node), Vec::<String>::new());
    drop(node);
    // Of a version with another form.
    memory.put(16, &[2]);
    memory.put(2048 + 16, &[2]);
    let before = memory.copy()[..4096].to_vec();
    let mut node = boot_one(memory);
    assert_eq!(key(&mut node, "console"), pair("person", "default"));
    assert!(node.refused("config save", "failed").contains("-f"));
    assert!(memory.copy()[..4096] == before && findings(&mut node)[0].contains("newer"));
    node.done("config save -f");
    assert_eq!(findings(&mut node), Vec::<String>::new());
}

#[test]
fn a_namespace_that_is_destroyed_leaves_the_configuration_and_can_be_made_anew() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    node.done("config set console text");
    node.done("config save");
    node.done("destroy-namespace namespace0.0 -f");
    drop(node);
    let mut node = boot_one(memory);
    assert_eq!(key(&mut node, "console"), pair("text", "stored"));
    node.done("create-namespace -f");
    drop(node);
    assert_eq!(key(&mut boot_one(memory), "console"), pair("text", "stored"));
    // The rest is blank: the configuration alone needs no force.
    memory.put(4096, &vec![0; 32 * MIB - 4096]);
    let mut node = boot_one(memory);
    assert!(node.done("status").to_string().contains("blank"));
    node.done("create-namespace");
    drop(node);
    assert_eq!(key(&mut boot_one(memory), "console"), pair("text", "stored"));
}

#[test]
fn hostile_copies_do_no_harm() {
    use service::config::Settings;
    use service::config::record::{Sequence, encode};
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    let text = "console=\u{7f}";
    assert!(Settings::parse(text).is_err());
    let mut settings = Settings::default();
    for (key, value) in [
        ("net0", "a,b"),
        ("export", "-,=,all,-all"),
        ("nvme.export", "=,a="),
        ("nvme.allow", "=,==,any=,x=="),
        ("disabled", "=,none,namespace0.0x"),
        ("unknown", "1"),
        ("netN", "dhcp"),
        ("net00", "off"),
    ] {
        settings.set(key, value).expect("plain");
    }
    let (header, text) = encode(Sequence(u64::MAX), &settings);
    memory.put(0, &header);
    memory.put(64, &text);
    let mut node = started(&plain(memory), "");
    assert!(findings(&mut node).len() >= 6, "{:?}", findings(&mut node));
    assert_eq!(key(&mut node, "unknown"), pair("1", "stored"));
    node.done("config unset unknown");
    node.done("config reset");
    node.done("config save");
    drop(node);
    assert_eq!(key(&mut started(&plain(memory), ""), "unknown"), pair("", ""));
}

#[test]
fn a_namespace_of_the_configuration_s_name_that_is_somebody_s_is_left_alone() {
    let dimm = labelled(64);
    let mut node = boot(&[dimm]);
    node.done("init-labels nmem0");
    node.refused("create-namespace -n untorn-config -s 16M", "usage");
    // Raw, with data in it.
    node.done("create-namespace -m raw -n untorn-config -s 16M");
    drop(node);
    dimm.memory.put(0, b"somebody's data");
    let before = dimm.memory.copy()[..1 << 20].to_vec();
    let mut node = boot(&[dimm]);
    node.done("config set console text");
    assert_eq!(node.done("config save")["copies"], json!(["namespace0.1"]), "in one that it makes");
    assert!(dimm.memory.copy()[..1 << 20] == before);
}

#[test]
fn hosts_keep_their_rules_while_devices_change_and_a_refusal_changes_nothing() {
    let memory = Memory::new(32 * MIB);
    let mut node = started(&plain(memory), "");
    node.done("create-namespace");
    node.done("config set nvme.export pmem0s=nqn.2026.a");
    let allow = format!("{HOST}=nqn.2026.a={SECRET}");
    node.done(&format!("config set nvme.allow {allow}"));
    node.refused("config set nvme.export pmem9s", "not-found");
    node.refused("config set nvme.export pmem0s=nqn.2026.a,pmem9s", "not-found");
    assert_eq!(node.done("status")["nvme"][0]["allowed"], json!([HOST]), "as before");
    assert_eq!(key(&mut node, "nvme.allow").0, format!("{HOST}=nqn.2026.a=DHHC-1:hidden"));
    node.done("config set nvme.export pmem0s=nqn.2026.a");
    node.done("config set nvme.export none");
    assert_eq!(key(&mut node, "nvme.allow").0, "none", "what it was about is gone");
    for twice in [format!("{allow},{HOST}=nqn.2026.a"), "any,any".into()] {
        node.refused(&format!("config set nvme.allow {twice}"), "usage");
    }
    // A secret in the wrong place is nowhere to be read.
    let wrong = node.refused(&format!("config set nvme.allow {HOST},{SECRET}"), "usage");
    let events = node.done("events --kind admin").to_string();
    assert!(!wrong.contains("ia6z") && !events.contains("ia6z"), "{wrong} {events}");
}

#[test]
fn what_was_stored_and_is_gone_is_told() {
    let memory = Memory::new(32 * MIB);
    let mut node = started(&plain(memory), "");
    node.done("create-namespace");
    let secret = format!("config set nvme.allow {HOST}={SECRET}");
    node.done(&secret);
    node.done("config save");
    node.done("config set nvme.allow none");
    node.done("config save");
    let page = memory.copy()[..4096].to_vec();
    assert!(!page.windows(6).any(|part| part == b"DHHC-1"), "a secret that was taken away is gone");
    // Large values one after the other.
    let large = format!("all,-{}", "x".repeat(30 << 10));
    node.refused(&format!("config set export {large}"), "not-found");
    node.done("disable-namespace namespace0.0");
    node.done("config save");
    memory.put(0, &[0; 4096]);
    node.done("enable-namespace namespace0.0");
    node.refused("create-namespace", "failed");
    let config = node.done("config");
    assert_eq!((&config["copies"], &config["unsaved"]), (&json!([]), &json!(true)), "{config}");
}

#[test]
fn a_disk_that_has_got_another_one_s_name_is_not_served_in_its_place() {
    let dimm = labelled(112);
    let node_on = || {
        let nic = net::mock::FakeNic::new(net::nic::Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]));
        let network = vec![kernel::node::network::NetworkDevice { nic: Box::new(nic), cpu: btt::CpuIndex(0) }];
        let areas = vec![(1, dimm.labels.expect("it has labels"))].into_iter().collect();
        let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], areas, network, ..Hardware::default() };
        hardware.memory(dimm.base, dimm.memory).boot()
    };
    let mut node = node_on();
    node.done("init-labels nmem0");
    for _ in 0..3 {
        node.done("create-namespace -s 16M");
    }
    node.done("config set nvme.export pmem0.1s=nqn.b,pmem0.2s=nqn.c");
    node.done("config save");
    drop(node);
    let mut node = node_on();
    assert_eq!(node.done("status")["nvme"].as_array().map(Vec::len), Some(2), "names are as they were");
    node.done("destroy-namespace namespace0.0 -f");
    drop(node);
    // Now the second one is the first.
    let mut node = node_on();
    assert_eq!(node.done("status")["nvme"], Value::Null);
    let told = findings(&mut node);
    assert!(told.len() == 2 && told[0].contains("pmem0.1s is another disk"), "{told:?}");
    // A save of something else does not make it the one that is meant.
    node.done("config set net0 off");
    node.done("config save");
    drop(node);
    let mut node = node_on();
    assert_eq!((node.done("status")["nvme"].clone(), findings(&mut node).len()), (Value::Null, 2));
    node.done("config set net0 dhcp");
    node.done("export pmem0.1s --nvme --nqn nqn.b");
    node.done("config save");
    drop(node);
    let mut node = node_on();
    assert_eq!(node.done("status")["nvme"][0]["nqn"], "nqn.b", "now it is");
    drop(node);

    let mut node = node_on();
    node.done("config set nvme.export none");
    node.done("disable-namespace namespace0.1");
    node.done("config save");
    node.done("destroy-namespace namespace0.0 -f");
    drop(node);
    let mut node = node_on();
    let enabled = node.done("list -N")["result"].clone();
    let enabled: Vec<_> = enabled.as_array().expect("a list").iter().filter(|it| it["mode"] == "sector").collect();
    assert!(enabled.is_empty(), "it stays disabled under its new name: {enabled:?}");
}
