//! Long commands of programs go on beside each other on the real stacks, whichever way they came.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::Value;
use tests::dimm::{Dimm, MIB};
use tests::machine::ApplianceBuilder;
use tests::place::{Place, eventually};
use tests::workspace;

/// What takes a minute and more here if nothing ends it.
const LONG: &str = "trim pmem0s 0 16000000";

#[test]
fn long_commands_go_on_together_by_the_port_and_by_the_console() {
    workspace::build();
    let _turn = workspace::machine_turn();
    for way in [&["--admin-port"][..], &[]] {
        let (dimms, place) = ([8192, 64, 64].map(|mib| Dimm::blank(mib * MIB)), Place::new());
        let socket = place.at("admin.sock");
        let mut command = workspace::command("./run-qemu.sh");
        command.args(["--no-build", "--timeout", "300", "--admin"]).arg(&socket).args(way);
        for dimm in &dimms {
            command.args(dimm.option());
        }
        let mut appliance = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let start = |line: &str| -> Child {
            let mut command = Command::new(workspace::target().join("release/untornctl"));
            command.args(["admin", "--json", line]).env("UNTORN_SOCKET", &socket).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let reply = |output: Output| -> Value { serde_json::from_slice(&output.stdout).unwrap_or_default() };
        let ask = |line: &str| reply(start(line).wait_with_output().unwrap());
        eventually("it is up", || ask("status")["ok"] == true);
        for region in 0..dimms.len() {
            assert_eq!(ask(&format!("create-namespace -r region{region} -l 512"))["ok"], true);
        }

        let writes = || ask("stats")["devices"][0]["writes"].as_u64().expect("a counter");
        assert_eq!(writes(), 0);
        let mut long = start(LONG);
        eventually("it has begun", || writes() > 0);
        let mut others =
            ["check-namespace namespace1.0", "errors", "trim pmem2s 0 50000", "check-namespace namespace1.0"]
                .map(|line| (line, start(line)));
        for (line, other) in &mut others {
            eventually(line, || other.try_wait().unwrap().is_some());
        }
        for (line, other) in others {
            let reply = reply(other.wait_with_output().unwrap());
            assert_eq!(reply["ok"], true, "{line}: {reply}");
        }
        // So do commands that are none, on the stack that all of them leave.
        for line in
            ["create-namespace -f -r region2 -l 512", "check-namespace namespace1.0 -R", "bench pmem1s --seconds 1"]
        {
            let reply = ask(line);
            assert_eq!(reply["ok"], true, "{line}: {reply}");
        }
        assert!(long.try_wait().unwrap().is_none(), "the first one goes on");
        // Its client goes; what waits for the disk has it.
        long.kill().unwrap();
        long.wait().unwrap();
        assert_eq!(ask("disable-namespace namespace0.0")["ok"], true);
        assert_eq!(ask("enable-namespace namespace0.0")["ok"], true);
        assert_eq!(ask("check-namespace namespace0.0")["verdict"], "sound");

        let before = writes();
        let long = start(LONG);
        eventually("it has begun", || writes() > before);
        assert_eq!(ask("poweroff")["ok"], true);
        assert_eq!(reply(long.wait_with_output().unwrap())["error"]["code"], "interrupted");
        let mut seen = String::new();
        appliance.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
        assert!(appliance.wait().unwrap().success(), "{seen}");
    }
}

#[test]
fn a_peer_of_the_port_that_goes_takes_its_jobs_along_and_the_next_one_begins_anew() {
    let (dimms, place) = ([Dimm::blank(64 * MIB), Dimm::blank(1024 * MIB)], Place::new());
    let path = place.at("port");
    let chardev = format!("socket,id=port,path={},server=on,wait=off", path.display());
    let appliance = ApplianceBuilder::new().dimm(&dimms[0]).dimm(&dimms[1]).qemu(&["-chardev", &chardev]);
    let appliance = appliance.qemu(&["-device", "virtio-serial-pci,id=ports,disable-legacy=on"]);
    let port = "virtserialport,bus=ports.0,nr=1,chardev=port,name=org.untorn.admin";
    let mut appliance = appliance.qemu(&["-device", port]).boot();
    for region in 0..dimms.len() {
        appliance.ask(&format!("create-namespace -r region{region} -l 512"));
    }
    let others = spawn(move || {
        sleep(Duration::from_secs(1));
        let mut first = UnixStream::connect(&path).unwrap();
        first.write_all(b"\x1b_#4 write pmem1s 0 --fill 1 --count 1900000\n").unwrap();
        sleep(Duration::from_millis(500));
        drop(first);
        let mut next = UnixStream::connect(&path).unwrap();
        next.write_all(b"\x1b_#6 trim pmem1s 5 100\n").unwrap();
        let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
        while !seen.ends_with(b"\x1b\\") {
            let bytes = next.read(&mut piece).unwrap();
            seen.extend(&piece[..bytes]);
        }
        String::from_utf8(seen).unwrap()
    });
    // A command at the console, in the midst of which one goes and the other one comes.
    appliance.ask("bench pmem0s -f --seconds 5");
    let seen = others.join().unwrap();
    assert!(seen.starts_with("\x1b_#6 {\"ok\":true,"), "{seen}");
    let starts = |appliance: &mut tests::machine::Running, lba: u32, with: &str| {
        let data = appliance.ask(&format!("read pmem1s {lba}"))["data"].to_string();
        assert!(data.trim_start_matches('"').starts_with(with), "{lba}: {data}");
    };
    starts(&mut appliance, 0, "AQEB");
    starts(&mut appliance, 5, "AAAA");
    starts(&mut appliance, 1_899_999, "AAAA");
    appliance.power_off();
}
