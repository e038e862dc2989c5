//! The appliance on a network: QEMU's own with a DHCP server, and links whose other end the test is.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use net::mock::{Host, advertised_by, arp_of, pong_of};
use net::network::link_local_of;
use net::nic::Mac;
use serde_json::{Value, json};
use tests::lan::{Lan, Socket};
use tests::machine::{ApplianceBuilder, Running};
use tests::monitor;

const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The longest wait for an interface to become what is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until an interface is so.
#[track_caller]
fn until(appliance: &mut Running, number: usize, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let interface = appliance.ask("net")["result"][number].take();
        if is_so(&interface) {
            return interface;
        }
        assert!(Instant::now() < end, "it stays {interface}");
        sleep(Duration::from_millis(50));
    }
}

/// Pings our address, as one that learns it first.
#[track_caller]
fn ping(lan: &mut Lan, number: u16, data: &[u8]) {
    let peer = lan.host;
    lan.send(&peer.asks_for(OURS)).expect("it receives");
    let mac = lan.expect(|frame| arp_of(frame).filter(|arp| !arp.is_request && arp.address == OURS).map(|arp| arp.by));
    lan.send(&peer.pings(mac, OURS, number, data)).expect("it receives");
    assert_eq!(lan.expect(pong_of), (number, data.to_vec()));
}

/// Asks for its IPv6 address by a multicast, which the device has to let through.
#[track_caller]
fn ask_by_multicast(lan: &mut Lan, mac: [u8; 6]) {
    let address = link_local_of(Mac(mac));
    lan.send(&lan.host.asks_for_v6(address)).expect("it receives");
    assert_eq!(lan.expect(advertised_by), address);
}

#[test]
fn an_address_comes_by_dhcp_with_one_cpu_and_with_two() {
    for cpus in [1, 2] {
        let mut appliance = ApplianceBuilder::new().cpus(cpus).with(&["--net", "user"]).boot();
        let interface = until(&mut appliance, 0, |it| it["addresses"][0] == "10.0.2.15/24");
        let shown = ["dev", "mac", "link", "mtu", "config", "gateway"].map(|key| interface[key].clone());
        assert_eq!(Value::from(shown.to_vec()), json!(["net0", "52:54:00:75:6e:00", "up", 1500, "dhcp", "10.0.2.2"]));
        assert_eq!(appliance.ask("health")["state"], "ok");
    }
}

#[test]
fn fixed_addresses_are_announced_and_pinged_through_two_devices_and_jumbo_frames() {
    let (first, second) = (Socket::new(), Socket::new());
    let second_net = format!("{},mac=52:54:00:00:00:07", second.netdev());
    let mut appliance = ApplianceBuilder::new()
        .with(&["--net", &first.netdev(), "--net", &second_net])
        .with(&["--append", "net0=10.0.2.15/24,gateway=10.0.2.2 net1=10.0.2.15/24"])
        .qemu(&["-global", "virtio-net-pci.host_mtu=9000"])
        .boot();
    for (number, socket, mac) in [(0, &first, [0x52, 0x54, 0, 0x75, 0x6e, 0]), (1, &second, [0x52, 0x54, 0, 0, 0, 7])] {
        let mut lan = socket.link(PEER);
        let probe = lan.expect(arp_of);
        assert_eq!((probe.is_request, probe.address, probe.target), (true, Ipv4Addr::UNSPECIFIED, OURS));
        let announced = lan.expect(|frame| arp_of(frame).filter(|arp| arp.address == OURS));
        assert_eq!((announced.target, announced.by), (OURS, Mac(mac)));
        for (turn, bytes) in (0..).zip([0, 1, 1000, 1472, 1473, 4096, 8972]) {
            ping(&mut lan, turn, &vec![0x5a; bytes]);
        }
        ask_by_multicast(&mut lan, mac);
        // Another machine with this address is told of.
        lan.send(&PEER.claims(OURS)).expect("it receives");
        let interface = until(&mut appliance, number, |it| it["duplicates"] != json!([]));
        assert_eq!(interface["duplicates"], json!([{ "address": "10.0.2.15", "mac": "52:54:00:12:34:56" }]));
        assert_eq!(interface["mtu"], 9000);
    }
    assert_eq!(appliance.ask("health")["state"], "degraded");
}

#[test]
fn a_flood_leaves_the_console_alone_and_a_cable_may_be_pulled() {
    let (socket, qmp) = (Socket::new(), monitor::Socket::new());
    let qmp_words = qmp.arguments();
    let mut appliance = ApplianceBuilder::new()
        .with(&["--net", &socket.netdev(), "--append", "net0=10.0.2.15/24"])
        .qemu(&[&qmp_words[0], &qmp_words[1]])
        .boot();
    let mut lan = socket.link(PEER);
    ping(&mut lan, 1, b"before");

    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (over, answered) = (&over, &answered);
        let (mut sender, mut receiver) = (lan.another(), lan.another());
        let flood = scope.spawn(move || {
            let frame = PEER.asks_for(OURS);
            while !over.load(Ordering::Relaxed) {
                sender.send(&frame).expect("it receives");
            }
            // The last one of all.
            sender.send(&PEER.pings(Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]), OURS, 2, b"last")).expect("it receives");
        });
        let drain = scope.spawn(move || {
            while receiver.receive().map(|frame| pong_of(&frame)).expect("it sends").is_none() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..10 {
            assert_eq!(appliance.ask("status")["cpus"], 2);
        }
        let end = Instant::now() + PATIENCE;
        while answered.load(Ordering::Relaxed) < 1000 && Instant::now() < end {
            appliance.ask("net");
        }
        over.store(true, Ordering::Relaxed);
        flood.join().expect("it sends all");
        drain.join().expect("the last ping is answered");
    });
    assert!(answered.load(Ordering::Relaxed) >= 1000, "{} answers", answered.load(Ordering::Relaxed));

    let mut monitor = qmp.connect();
    monitor.set_link("net0", false);
    until(&mut appliance, 0, |it| it["link"] == "down");
    assert_eq!(appliance.ask("health")["findings"][0]["where"], "net0");
    monitor.set_link("net0", true);
    until(&mut appliance, 0, |it| it["link"] == "up");
    ping(&mut lan, 3, b"after");
    assert_eq!(appliance.ask("health")["state"], "ok");
}

#[test]
fn intels_controllers_are_driven_with_interrupts_and_without() {
    for (device, interrupts) in [("e1000e", true), ("e1000", false), ("e1000-82545em", false)] {
        let (socket, qmp) = (Socket::new(), monitor::Socket::new());
        let (qmp_words, netdev) = (qmp.arguments(), format!("{},id=n", socket.netdev()));
        let words = format!("{device},netdev=n,romfile=,addr=9,mac=52:54:00:75:6e:33");
        let mut appliance = ApplianceBuilder::new()
            .with(&["--append", "net0=10.0.2.15/24"])
            .qemu(&["-netdev", &netdev, "-device", &words, &qmp_words[0], &qmp_words[1]])
            .boot();
        let log = appliance.boot_log.join("\n");
        assert!(log.contains("e1000e 0000:00:09.0: net0"), "{log}");
        assert_eq!(log.contains("it is looked at each millisecond"), !interrupts, "{log}");
        let mut lan = socket.link(PEER);
        for (turn, bytes) in (0..).zip([0, 1, 18, 1000, 1471, 1472]) {
            ping(&mut lan, turn, &vec![0x5a; bytes]);
        }
        ask_by_multicast(&mut lan, [0x52, 0x54, 0, 0x75, 0x6e, 0x33]);
        // More than its rings hold, and a pulled cable.
        for turn in 100..400 {
            ping(&mut lan, turn, &[7; 64]);
        }
        let interface = until(&mut appliance, 0, |it| it["link"] == "up");
        assert_eq!((&interface["mac"], &interface["failed"]), (&json!("52:54:00:75:6e:33"), &Value::Null));
        let mut monitor = qmp.connect();
        monitor.set_link("n", false);
        until(&mut appliance, 0, |it| it["link"] == "down");
        monitor.set_link("n", true);
        until(&mut appliance, 0, |it| it["link"] == "up");
        ping(&mut lan, 500, b"after");
    }
}

#[test]
fn devices_that_cannot_be_used_are_left_out_by_name_and_one_without_interrupts_is_used() {
    let appliance = ApplianceBuilder::new()
        .with(&["--net", "user"])
        .qemu(&["-netdev", "user,id=old", "-device", "virtio-net-pci,netdev=old,romfile=,disable-modern=on,addr=5"])
        .qemu(&[
            "-netdev",
            "user,id=plain",
            "-device",
            "virtio-net-pci,netdev=plain,romfile=,disable-legacy=on,vectors=0,addr=6",
        ])
        .qemu(&[
            "-netdev",
            "user,id=small",
            "-device",
            "virtio-net-pci,netdev=small,romfile=,disable-legacy=on,host_mtu=600,addr=7",
        ]);
    let mut appliance = appliance.boot();
    let log = appliance.boot_log.join("\n");
    assert!(log.contains("virtio-net 0000:00:07.0: left out: its MTU of 600 is less than 1280"), "{log}");
    assert!(log.contains("virtio-net 0000:00:06.0: it has no MSI-X table: it is looked at each millisecond"), "{log}");
    assert_eq!(appliance.ask("net")["result"].as_array().map(Vec::len), Some(2));
    for number in 0..2 {
        until(&mut appliance, number, |it| it["addresses"][0] == "10.0.2.15/24");
    }
}
