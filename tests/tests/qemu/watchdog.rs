//! The watchdog: what is stuck restarts the machine, and what is busy or stands still as a whole does not.

use std::fs;
use std::time::Duration;

use host::deadline::Deadline;
use host::session::ReplyForm;
use object::Object as _;
use serde_json::json;
use tests::dimm::{Dimm, MIB};
use tests::machine::{ApplianceBuilder, Running};
use tests::{gdb, monitor, workspace};

/// How long a restart may take.
const RESTART: Duration = Duration::from_secs(90);

/// Where the image begins: code that no CPU needs once it is up.
fn entry() -> u64 {
    let image = fs::read(workspace::target().join("release/untorn")).unwrap();
    object::File::parse(&*image).unwrap().entry()
}

/// Waits for a panic, and for the prompt after the restart. Returns the panic's line.
fn restarts(appliance: &mut Running) -> String {
    let deadline = Deadline::after(RESTART);
    let words = appliance.appliance().wait_for_prompt(deadline, |_| {}).expect_err("it panics").to_string();
    appliance.enter(ReplyForm::Json);
    words
}

/// The words of the events of this kind of the boot before.
fn told(appliance: &mut Running, kind: &str) -> Vec<String> {
    let reply = appliance.ask(&format!("events --last-boot --kind {kind}"));
    reply["events"].as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_stuck_cpu_restarts_the_machine_whichever_it_is_and_tells_where_it_was() {
    let dimm = Dimm::blank(32 * MIB);
    let stub = gdb::Socket::new();
    let arguments = stub.arguments();
    let builder = ApplianceBuilder::new().dimm(&dimm).with(&["--append", "watchdog=5"]);
    let mut appliance = builder.qemu(&[&arguments[0], &arguments[1]]).boot();
    appliance.ask("create-namespace");
    appliance.write("pmem0s", 3, &[0x42; 4096]);
    for cpu in [1, 0] {
        // So that it does not halt.
        appliance.appliance().type_line("bench pmem0s --seconds 3 --mix 0", Deadline::after(RESTART)).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        stub.sticks(cpu, entry());
        let words = restarts(&mut appliance);
        assert!(words.contains(&format!("cpu {cpu} is stuck: it made no step for 5 s")), "{words}");
        let reply = appliance.ask("events --last-boot");
        assert_eq!((&reply["kept"], &reply["ended"]), (&json!(true), &json!("watchdog")), "{reply}");
        let told = told(&mut appliance, "watchdog");
        assert!(told[0].starts_with(&format!("cpu {cpu} is stuck")), "{told:?}");
        assert_eq!(told[1], format!("it was stopped at rip {:#x}", entry()));
        assert_eq!(appliance.read("pmem0s", 3), [0x42; 4096]);
    }
    appliance.power_off();
}

#[test]
fn a_panic_restarts_the_machine_and_is_told_after_it() {
    let place = monitor::Socket::new();
    let arguments = place.arguments();
    let builder = ApplianceBuilder::new().with(&["--append", "watchdog=5"]);
    let mut appliance = builder.qemu(&[&arguments[0], &arguments[1]]).boot();
    let mut monitor = place.connect();
    monitor.interrupt();
    let words = restarts(&mut appliance);
    assert!(words.contains("non-maskable interrupt"), "{words}");
    assert_eq!(appliance.ask("events --last-boot")["ended"], "panic");
    let told = told(&mut appliance, "panic");
    assert!(told[0].contains("exceptions.rs") && told[0].contains("non-maskable interrupt"), "{told:?}");
    assert!(told[1].starts_with("it served "), "{told:?}");
    let booted = appliance.ask("events --kind boot --severity error");
    assert!(booted["events"][0]["what"].as_str().unwrap().contains("ended by a panic"), "{booted}");
    appliance.power_off();
}

#[test]
fn a_busy_machine_and_one_that_stood_still_are_not_stuck() {
    let dimm = Dimm::blank(32 * MIB);
    let place = monitor::Socket::new();
    let arguments = place.arguments();
    let builder = ApplianceBuilder::new().dimm(&dimm).with(&["--append", "watchdog=5"]);
    let mut appliance = builder.qemu(&[&arguments[0], &arguments[1]]).boot();
    let mut monitor = place.connect();
    appliance.ask("create-namespace");
    appliance.ask("bench pmem0s --seconds 8");
    monitor.stop();
    std::thread::sleep(Duration::from_secs(8));
    monitor.go_on();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(appliance.ask("events --kind watchdog")["events"], json!([]));
    assert_eq!(appliance.ask("events --last-boot")["kept"], false, "it is the first boot");
    appliance.power_off();
}
