//! The admin port: requests and replies by a virtio-serial port, beside the console's serial port.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host::deadline::Deadline;
use host::session::{AdminStream, ReplyForm, send_all};
use serde_json::Value;
use tests::dimm::{Dimm, MIB};
use tests::machine::{ApplianceBuilder, Running};
use tests::place::{Place, eventually};
use tests::workspace;

/// How long anything may take that is to happen soon.
const SOON: Duration = Duration::from_secs(60);

const SECTOR: usize = 4096;
const SECTORS: usize = 256;

/// A mebibyte of which no two sectors are alike.
fn mebibyte() -> Vec<u8> {
    let word = |at: usize| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..SECTORS * SECTOR / 8).flat_map(word).collect()
}

/// What writes it, a line's worth at a time.
fn writes(data: &[u8]) -> Vec<String> {
    const SECTORS_A_LINE: usize = 11;
    let parts = data.chunks(SECTORS_A_LINE * SECTOR).enumerate();
    parts.map(|(n, part)| format!("write pmem0s {} --data {}", n * SECTORS_A_LINE, STANDARD.encode(part))).collect()
}

/// The data of a reply to `read`.
fn data(reply: &str) -> Vec<u8> {
    let reply: Value = serde_json::from_str(reply).unwrap();
    STANDARD.decode(reply["data"].as_str().unwrap_or_else(|| panic!("{reply}"))).unwrap()
}

/// An appliance with a port whose other end is here: among several, or the only one.
fn boot(dimm: &Dimm, several: bool) -> (Running, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (builder, fd) = ApplianceBuilder::new().dimm(dimm).hand_over(theirs.into());
    let (ports, port) = match several {
        true => (3, "virtserialport,nr=1,name=org.untorn.admin"),
        false => (1, "virtconsole"),
    };
    let chardev = format!("socket,id=port,fd={fd}");
    let ports = format!("virtio-serial-pci,id=ports,disable-legacy=on,max_ports={ports}");
    let appliance = builder.qemu(&["-chardev", &chardev, "-device", &ports]);
    let appliance = appliance.qemu(&["-device", &format!("{port},bus=ports.0,chardev=port")]);
    // An agent's port beside ours.
    let appliance = match several {
        true => appliance.qemu(&["-device", "virtserialport,bus=ports.0,nr=2,name=org.qemu.guest_agent.0"]),
        false => appliance,
    };
    (appliance.boot(), ours)
}

#[test]
fn a_script_reads_a_mebibyte_by_the_port_as_it_was_written() {
    workspace::build();
    let _turn = workspace::machine_turn();
    let dimm = Dimm::blank(32 * MIB);
    let expected: Vec<u8> = (0..=u8::MAX).flat_map(|byte| [byte; SECTOR]).collect();
    let mut commands = vec!["create-namespace".to_owned()];
    commands.extend((0..SECTORS).map(|lba| format!("write pmem0s {lba} --fill {lba}")));
    // What the first boot wrote is read by the second.
    commands.extend(["reboot", "read pmem0s 0 256"].map(String::from));
    let mut script = workspace::command("./run-qemu.sh");
    script.args(["--no-build", "--timeout", "300", "--admin-port", "--json"]).args(dimm.option());
    let output = script.arg("--exec").arg(commands.join("; ")).stdin(Stdio::null()).output().unwrap();
    let (out, err) = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).into();
    assert!(output.status.success() && err.contains(": an admin port\n"), "{err}");
    assert_eq!(out.lines().count(), commands.len());
    assert!(data(out.lines().last().unwrap()) == expected);
}

#[test]
fn programs_read_a_mebibyte_by_the_admin_socket_also_after_a_reboot() {
    workspace::build();
    let _turn = workspace::machine_turn();
    let (dimm, place) = (Dimm::blank(32 * MIB), Place::new());
    let socket = place.at("admin.sock");
    let mut command = workspace::command("./run-qemu.sh");
    command.args(["--no-build", "--timeout", "300", "--admin-port", "--admin"]).arg(&socket).args(dimm.option());
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let ask = |words: &[&str]| {
        let mut command = Command::new(workspace::target().join("release/untornctl"));
        command.args(words).env("UNTORN_SOCKET", &socket).stdin(Stdio::null()).output().unwrap()
    };
    eventually("it is up", || ask(&["status"]).status.success());
    assert!(ask(&["admin", "create-namespace"]).status.success());
    client.stdin.as_mut().unwrap().write_all(b"half a li").unwrap();
    let expected = mebibyte();
    for line in writes(&expected) {
        let output = ask(&["admin", &line]);
        assert!(output.status.success(), "{output:?}");
    }
    for _ in 0..2 {
        assert!(ask(&["read", "--raw", "pmem0s", "0", "256"]).stdout == expected);
        assert!(ask(&["admin", "reboot"]).status.success());
        eventually("it is up again", || ask(&["status"]).status.success());
    }
    assert!(ask(&["admin", "poweroff"]).status.success());
    let mut seen = String::new();
    client.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(client.wait().unwrap().success());
    assert!(seen.contains("untorn> half a li") && !seen.contains("\"data\""), "{seen}");
}

#[test]
fn a_peer_of_the_port_can_be_anyone_and_harms_only_itself() {
    let dimm = Dimm::blank(32 * MIB);
    let (mut appliance, stream) = boot(&dimm, true);
    assert!(appliance.boot_log.iter().any(|line| line.contains("an admin port")), "{:?}", appliance.boot_log);
    let soon = || Deadline::after(SOON);
    appliance.ask("create-namespace");
    let mut port = AdminStream::new(stream.try_clone().unwrap());
    port.enter(ReplyForm::Json, soon()).unwrap();

    // A program looks while the console's command runs, and cannot end that.
    let mut program = stream.try_clone().unwrap();
    let looks = spawn(move || {
        sleep(Duration::from_secs(1));
        program.write_all(b"\x03\x18\x1b_#7 status\n").unwrap();
        let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
        while !seen.ends_with(b"\x1b\\") {
            let bytes = program.read(&mut piece).unwrap();
            seen.extend(&piece[..bytes]);
        }
        (Instant::now(), String::from_utf8(seen).unwrap())
    });
    let bench = appliance.ask("bench pmem0s -f --seconds 6");
    let ended = Instant::now();
    let (looked, seen) = looks.join().unwrap();
    assert!(bench["ops"].as_u64() > Some(0) && looked < ended, "{bench}");
    assert!(seen.starts_with("\x1b_#7 {\"ok\":true,"), "{seen}");
    // The keys that end nothing are a line's beginning.
    assert_eq!(port.command("status", soon()).unwrap().exit_code, 2);

    let expected = mebibyte();
    for line in writes(&expected) {
        assert_eq!(port.command(&line, soon()).unwrap().exit_code, 0);
    }
    assert!(data(&port.command("read pmem0s 0 256", soon()).unwrap().text) == expected);

    // Bytes that are no lines, and a line without an end: each has its reply, and the next one is a line again.
    let garbage: Vec<u8> =
        expected.iter().map(|byte| byte ^ 0x5a).filter(|byte| *byte != b'\n').take(200_000).collect();
    assert!(send_all(&stream, &garbage, soon()).unwrap());
    assert!(send_all(&stream, b"\n", soon()).unwrap());
    eventually("what was sent is dropped to its end", || {
        let reply = port.command("version", Deadline::after(Duration::from_millis(500)));
        reply.is_ok_and(|reply| reply.text.contains("\"version\""))
    });
    appliance.ask("status");
    appliance.power_off();
}

#[test]
fn a_peer_that_takes_no_reply_holds_the_console_up_for_seconds_and_loses_that_reply_only() {
    let dimm = Dimm::blank(32 * MIB);
    let (mut appliance, mut stream) = boot(&dimm, true);
    appliance.ask("create-namespace");
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    for _ in 0..2 {
        stream.write_all(b"read pmem0s 0 256\n").unwrap();
        sleep(Duration::from_secs(1));
        // Its patience is 5 s; a command of ours waits for the end of that.
        appliance.ask("status");
        let mut piece = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match stream.read(&mut piece) {
                Ok(0) => panic!("the appliance closed its port"),
                Ok(more) => bytes += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!((1..SECTORS * SECTOR).contains(&bytes), "{bytes} of a broken reply");
        stream.write_all(b"version\n").unwrap();
        let bytes = stream.read(&mut piece).unwrap();
        assert!(piece[..bytes].starts_with(b"{\"ok\":true,") && piece[..bytes].ends_with(b"}\n"));
    }
    appliance.power_off();
}

#[test]
fn the_only_port_of_another_hypervisors_device_serves_too() {
    let dimm = Dimm::blank(32 * MIB);
    let (mut appliance, stream) = boot(&dimm, false);
    let mut port = AdminStream::new(stream);
    let soon = || Deadline::after(SOON);
    port.enter(ReplyForm::Text, soon()).unwrap();
    assert!(port.command("version", soon()).unwrap().text.starts_with("untorn "));
    assert_eq!(port.command("no-such-command", soon()).unwrap().exit_code, 2);
    assert_eq!(appliance.ask("status")["ok"], true);
    // The reply to the last command arrives, too.
    assert_eq!(port.command("poweroff", soon()).unwrap().exit_code, 0);
    port.wait_for_end(soon()).unwrap();
}
