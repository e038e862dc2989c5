//! The network: addresses by the command line, who drives which interface, and what is told of it.

use std::net::Ipv4Addr;

use bench::initiator::{self, ANY_CONTROLLER, INIT_BYTES, RESPONSE};
use btt::CpuIndex;
use fake_machine::{BASE, Booted, Hardware, MIB, Memory, nfit_of};
use kernel::node::network::NetworkDevice;
use net::mock::{Client, Echo, FakeNic, Host, SocketHandle, arp_of, pong_of};
use net::nic::{Mac, NicFault};
use net::tcp::Limits;
use serde_json::{Value, json};
use service::admin::commands::events::EventAdmin as _;
use service::events::{Filter, Kind};

const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SECOND: u64 = 1_000_000_000;

fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0x75, 0x6e, number])
}

/// A node whose first interface CPU 1 drives, its second CPU 0, and so on.
struct Wired {
    booted: Booted,
    nics: Vec<FakeNic>,
    now_ns: u64,
    log: Vec<String>,
    /// The number of the last event in it.
    told: u64,
}

impl Wired {
    fn new(interfaces: u8, command_line: &str) -> Self {
        Self::on(Hardware::default(), interfaces, command_line)
    }

    fn on(hardware: Hardware, interfaces: u8, command_line: &str) -> Self {
        let nics: Vec<FakeNic> = (0..interfaces).map(|number| FakeNic::new(mac(number))).collect();
        let device = |(nic, cpu): (&FakeNic, u32)| NetworkDevice { nic: Box::new(nic.clone()), cpu: CpuIndex(cpu % 2) };
        let network = nics.iter().zip(1..).map(device).collect();
        let booted = Hardware { network, command_line: command_line.into(), ..hardware }.boot();
        let told = booted.node.newest_event();
        let mut wired = Self { booted, nics, now_ns: 60 * SECOND, log: Vec::new(), told };
        // What each new address is announced with.
        (0..5).for_each(|_| wired.run());
        wired
    }

    /// Polls as both CPUs do, a second later.
    fn run(&mut self) {
        self.now_ns += SECOND;
        for cpu in 0..2 {
            while self.booted.node.networks().poll(CpuIndex(cpu), self.now_ns) {}
        }
        self.booted.node.look_around();
        let events = self.booted.node.events(&Filter { after: self.told, ..Filter::default() });
        self.told = self.booted.node.newest_event();
        let network = events.into_iter().filter(|event| event.kind == Kind::Network);
        self.log.extend(network.map(|event| event.to_string()));
    }

    /// Hands a frame to an interface; what it sends.
    fn hand(&mut self, number: usize, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.nics[number].ends().from_nic.clear();
        self.nics[number].ends().to_nic.push_back(frame);
        self.run();
        self.nics[number].ends().from_nic.drain(..).collect()
    }

    fn net(&mut self) -> Value {
        self.booted.done("net")["result"].clone()
    }

    fn logged(&self, line: &str) -> usize {
        self.booted.node.machine().logged().iter().chain(&self.log).filter(|logged| *logged == line).count()
    }

    /// What `health` finds, each with its place.
    fn health(&mut self) -> Vec<(String, String)> {
        let health = self.booted.done("health");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let findings = health["findings"].as_array().expect("a list").iter();
        findings.map(|finding| (text(&finding["where"]), text(&finding["what"]))).collect()
    }
}

#[test]
fn a_machine_without_a_network_has_no_interface_and_nothing_to_do() {
    let mut wired = Wired::new(0, "");
    assert_eq!((wired.net(), wired.health()), (json!([]), vec![]));
    let networks = wired.booted.node.networks();
    assert!(!networks.poll(CpuIndex(0), 1) && networks.may_rest(CpuIndex(0), 1));
    assert_eq!(networks.due_ns(CpuIndex(0)), u64::MAX);
}

#[test]
fn interfaces_have_the_addresses_of_their_keys_and_dhcp_by_default() {
    let line = "pmem.type12=maybe net0=10.0.2.15/24,gateway=10.0.2.2 net2=off net3=10.0.0/8 net4=dhcp \
                net99999999999999999999=off NET2=dhcp pmem.typo=on nvme.x=1 watchdg=5 BOOT_IMAGE=/untorn";
    let mut wired = Wired::new(4, line);
    let shown = wired.net();
    assert_eq!(
        shown[0],
        json!({
            "dev": "net0", "mac": "52:54:00:75:6e:00", "link": "up", "mtu": 1500, "config": "10.0.2.15/24,gateway=10.0.2.2",
            "addresses": ["10.0.2.15/24", "fe80::5054:ff:fe75:6e00/64"], "gateway": "10.0.2.2", "gateway6": null,
            "rx": { "frames": 0, "bytes": 0, "dropped": 0 }, "tx": shown[0]["tx"], "duplicates": [], "failed": null,
        })
    );
    let configs: Vec<&Value> = (0..4).map(|number| &shown[number]["config"]).collect();
    assert_eq!(configs, ["10.0.2.15/24,gateway=10.0.2.2", "dhcp", "off", "off"]);
    assert_eq!((&shown[1]["addresses"], &shown[2]["addresses"]), (&json!(["fe80::5054:ff:fe75:6e01/64"]), &json!([])));
    for line in [
        "net0: 52:54:00:75:6e:00, mtu 1500, 10.0.2.15/24,gateway=10.0.2.2",
        "net0: link up",
        "net0: address 10.0.2.15/24, gateway 10.0.2.2",
        "command line: net3: its setting is wrong, and it stays off: '10.0.0/8' has no address before its /",
        "command line: net4: there is no such interface: net shows those that are there",
        "command line: net99999999999999999999: there is no such interface: net shows those that are there",
        "command line: pmem.typo: there is no such key: it is left alone: did you mean pmem.type12?",
        "command line: nvme.x: there is no such key: it is left alone",
        "command line: watchdg: there is no such key: it is left alone: did you mean watchdog?",
        "command line: NET2: there is no such key: it is left alone: did you mean net2?",
        "command line: pmem.type12: \"maybe\" is not on or off: memory of type 12 is left alone",
    ] {
        assert_eq!(wired.logged(line), 1, "{line}: {:?}", wired.booted.node.machine().logged());
    }
    let places: Vec<_> = wired.health().into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["command line"; 8]);
}

#[test]
fn each_interface_is_driven_by_its_cpu_and_answers_its_own_neighbours() {
    let mut wired = Wired::new(2, "net0=10.0.2.15/24 net1=10.0.3.15/24");
    let replies = wired.hand(0, PEER.asks_for(OURS));
    assert_eq!(replies.iter().find_map(|frame| arp_of(frame)).map(|arp| (arp.by, arp.address)), Some((mac(0), OURS)));
    let replies = wired.hand(0, PEER.pings(mac(0), OURS, 7, b"hello"));
    assert_eq!(replies.iter().find_map(|frame| pong_of(frame)), Some((7, b"hello".to_vec())));
    assert!(wired.hand(1, PEER.asks_for(OURS)).iter().all(|frame| arp_of(frame).is_none()));

    // The other CPU does nothing for it, and its own one does not halt before it has.
    wired.nics[0].ends().to_nic.push_back(PEER.asks_for(OURS));
    let networks = wired.booted.node.networks();
    assert!(!networks.poll(CpuIndex(0), wired.now_ns) && !wired.nics[0].ends().to_nic.is_empty());
    assert!(!networks.may_rest(CpuIndex(1), wired.now_ns));
    assert!(networks.poll(CpuIndex(1), wired.now_ns) && networks.may_rest(CpuIndex(1), wired.now_ns));
    assert!((wired.now_ns + 1..=wired.now_ns + SECOND).contains(&networks.due_ns(CpuIndex(1))), "it looks at its link");
}

#[test]
fn an_address_that_another_machine_has_is_told_of_everywhere() {
    let mut wired = Wired::new(1, "net0=10.0.2.15/24");
    assert!(wired.health().is_empty());
    wired.hand(0, PEER.claims(OURS));
    let line = "net0: 10.0.2.15 is used by another machine, too (52:54:00:12:34:56): give one of them another address";
    assert_eq!(wired.logged(line), 1);
    assert_eq!(wired.net()[0]["duplicates"], json!([{ "address": "10.0.2.15", "mac": "52:54:00:12:34:56" }]));
    let what = "10.0.2.15 is used by another machine, too (52:54:00:12:34:56)";
    assert_eq!(wired.health(), [("net0".into(), what.into())]);
}

#[test]
fn a_link_that_is_down_and_a_device_that_fails_are_told_of_and_the_other_one_serves() {
    let mut wired = Wired::new(2, "net0=10.0.2.15/24 net1=10.0.2.15/24");
    wired.nics[0].ends().link = false;
    wired.run();
    assert_eq!((wired.net()[0]["link"].clone(), wired.logged("net0: link down")), (json!("down"), 1));
    assert_eq!(wired.health(), [("net0".into(), "it has no link: plug it in, or set net0=off".into())]);
    wired.nics[0].ends().link = true;
    wired.run();
    assert_eq!((wired.health(), wired.logged("net0: link up")), (vec![], 2));

    wired.nics[0].ends().fault = Some(NicFault::NotItsBuffer);
    wired.run();
    let failed = "it used a buffer that it was not given";
    assert_eq!(wired.logged(&format!("net0: device failed: {failed}; it is not used any more")), 1);
    assert_eq!(wired.net()[0]["failed"], failed);
    let what = format!("its device failed, and is not used until a reboot: {failed}");
    assert_eq!(wired.health(), [("net0".into(), what)]);
    let replies = wired.hand(1, PEER.asks_for(OURS));
    assert!(replies.iter().any(|frame| arp_of(frame).is_some()));
}

#[test]
fn connections_are_served_by_the_cpu_of_their_interface() {
    let mut wired = Wired::new(2, "net0=10.0.2.15/24 net1=10.0.2.15/24");
    let limits = Limits { connections: 2, receive_bytes: 4096, send_bytes: 4096 };
    let networks = wired.booted.node.networks();
    assert!((0..2).all(|number| networks.serve_by(number, Box::new(Echo::new(7, limits)))));
    assert!(!networks.serve_by(2, Box::new(Echo::new(7, limits))));
    let mut clients = [0, 1].map(|number| Client::new(PEER, wired.nics[number].clone()));
    for (client, cpu) in clients.iter_mut().zip([1, 0]) {
        let handle = client.connect(OURS, 7);
        let mut back = Vec::new();
        for turn in 0..20 {
            wired.now_ns += SECOND / 10;
            while wired.booted.node.networks().poll(CpuIndex(cpu), wired.now_ns) {}
            client.poll(wired.now_ns);
            if turn == 10 {
                assert!(client.is_open(handle));
                client.send(handle, b"hello");
            }
        }
        client.receive(handle, &mut back);
        assert_eq!(back, b"hello");
    }
}

#[test]
fn a_flood_does_not_keep_commands_and_a_long_command_does_not_keep_frames() {
    let memory = Memory::new(32 * MIB);
    let dimm = fake_machine::Dimm { base: BASE, memory, flags: 0, labels: None };
    let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], ..Hardware::default() }.memory(BASE, memory);
    let mut wired = Wired::on(hardware, 2, "net0=10.0.2.15/24 net1=10.0.2.15/24");
    wired.booted.done("create-namespace");
    // A step is all that a poll makes, however much waits.
    let flood = |nic: &FakeNic, frames| nic.ends().to_nic.extend(std::iter::repeat_n(PEER.asks_for(OURS), frames));
    flood(&wired.nics[0], 1000);
    assert!(wired.booted.node.networks().poll(CpuIndex(1), wired.now_ns));
    assert_eq!(wired.nics[0].ends().to_nic.len(), 1000 - 32);
    assert_eq!(wired.booted.done("status")["cpus"], 4);
    // While the CPUs are busy with a command, frames are answered.
    for nic in &wired.nics {
        nic.ends().room = 10_000;
        nic.ends().to_nic.clear();
        nic.ends().from_nic.clear();
        flood(nic, 40);
    }
    wired.booted.done("bench pmem0s --seconds 1");
    for nic in &wired.nics {
        assert!(nic.ends().to_nic.is_empty());
        let replies =
            nic.ends().from_nic.iter().filter(|frame| arp_of(frame).is_some_and(|arp| !arp.is_request)).count();
        assert_eq!(replies, 40);
    }
}

/// Whether a port of the node's first interface takes a connection.
fn connects(wired: &mut Wired, port: u16) -> bool {
    let mut client = Client::new(PEER, wired.nics[0].clone());
    let handle = client.connect(OURS, port);
    pump(wired, &mut client);
    client.is_open(handle)
}

/// Some time passes.
fn pump(wired: &mut Wired, client: &mut Client) {
    for _ in 0..20 {
        wired.now_ns += SECOND / 10;
        while wired.booted.node.networks().poll(CpuIndex(1), wired.now_ns) {}
        client.poll(wired.now_ns);
    }
}

#[test]
fn a_disk_is_served_over_it_once_it_is_exported_and_no_host_may_use_it_until_it_is_allowed() {
    let memory = Memory::new(32 * MIB);
    let dimm = fake_machine::Dimm { base: BASE, memory, flags: 0, labels: None };
    let hardware = |memory| Hardware { nfits: vec![nfit_of(&[dimm])], ..Hardware::default() }.memory(BASE, memory);
    let mut alone = hardware(memory).boot();
    alone.done("create-namespace -l 512");
    assert!(alone.refused("export pmem0s --nvme", "failed").contains("--net"));
    drop(alone);

    let mut wired = Wired::on(hardware(memory), 1, "net0=10.0.2.15/24");
    assert!(!connects(&mut wired, 4420) && !connects(&mut wired, 8009), "nothing is served");
    let node = &mut wired.booted;
    node.refused("export pmem7s --nvme", "not-found");
    node.refused("export pmem0s --nqn nqn.own", "usage");
    node.refused("export pmem0s --nvme --nqn no-nqn", "usage");
    node.refused("unexport pmem0s --nvme", "not-found");
    let served = node.done("export pmem0s --nvme");
    let uuid = node.done("list")["result"][0]["uuid"].clone();
    let nqn = served["nqn"].as_str().expect("a name").to_owned();
    assert_eq!(format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid.as_str().expect("a uuid")), nqn);
    assert_eq!((&served["addresses"], &served["port"]), (&json!(["10.0.2.15"]), &json!(4420)));
    assert_eq!(node.done("export pmem0s --nvme")["nqn"], *nqn, "again");
    assert!(node.refused("export pmem0s --nvme --nqn nqn.own", "failed").contains(&nqn));
    assert_eq!(node.done("status")["nvme"], json!([{"dev": "pmem0s", "nqn": nqn, "allowed": [], "hosts": []}]));
    assert!(node.refused("destroy-namespace namespace0.0 -f", "failed").contains("unexport pmem0s --nvme"));

    node.done("allow nqn.host");
    node.done(&format!("allow any --nqn {nqn}"));
    assert_eq!(node.done("status")["nvme"][0]["allowed"], json!(["any", "nqn.host"]));
    node.refused("allow no-nqn", "usage");
    node.refused("allow nqn.host --nqn nqn.unknown", "not-found");
    assert!(
        !node.refused("allow nqn.host --secret DHHC-1:00:wrong:", "usage").contains("wrong"),
        "a secret is never shown"
    );
    node.done("deny nqn.host");
    node.refused("deny nqn.host", "not-found");

    // One by which no host connects has its place for 10 s, and then somebody else has it.
    let mut silent = Client::new(PEER, wired.nics[0].clone());
    let handle = silent.connect(OURS, 4420);
    pump(&mut wired, &mut silent);
    assert!(silent.is_open(handle));
    (0..6).for_each(|_| pump(&mut wired, &mut silent));
    assert!(silent.is_closed(handle), "it is reset");
    for port in [4420, 8009] {
        let mut client = Client::new(PEER, wired.nics[0].clone());
        let handle = client.connect(OURS, port);
        pump(&mut wired, &mut client);
        assert!(client.is_open(handle), "it listens");
        // ICReq (NVMe/TCP 1.0, section 3.6.2.2): its reply is as long, and of type 1.
        let mut request = [0; 128];
        request[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
        client.send(handle, &request);
        pump(&mut wired, &mut client);
        let mut reply = Vec::new();
        client.receive(handle, &mut reply);
        assert_eq!((reply.len(), reply.first()), (128, Some(&1)));
        // Other bytes end it, and it alone.
        client.send(handle, &[0xff; 128]);
        pump(&mut wired, &mut client);
        assert!(!client.is_open(handle));
    }
    let node = &mut wired.booted;
    node.done("unexport pmem0s --nvme");
    assert!(node.done("status").get("nvme").is_none());
    node.done("destroy-namespace namespace0.0 -f");
}

/// The port that a segment is for, if it accepts a connection (SYN and ACK) that was asked for.
fn accepts(frame: &[u8]) -> Option<u16> {
    const SYN_AND_ACK: u8 = 0x12;
    let is_tcp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 6;
    (is_tcp && frame.get(47)? & 0x3f == SYN_AND_ACK).then(|| u16::from_be_bytes([frame[36], frame[37]]))
}

/// A node that serves a disk to `nqn.host`, and the name of its subsystem.
fn serving() -> (Wired, String) {
    let memory = Memory::new(32 * MIB);
    let dimm = fake_machine::Dimm { base: BASE, memory, flags: 0, labels: None };
    let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], ..Hardware::default() }.memory(BASE, memory);
    let mut wired = Wired::on(hardware, 1, "net0=10.0.2.15/24");
    wired.booted.done("create-namespace");
    let nqn = wired.booted.done("export pmem0s --nvme")["nqn"].as_str().expect("a name").to_owned();
    wired.booted.done("allow nqn.host");
    (wired, nqn)
}

/// Connects a host by name to a subsystem. Panics if it is refused.
fn connect_host(wired: &mut Wired, nqn: &str, name: &str) -> (Client, SocketHandle) {
    let mut host = Client::new(PEER, wired.nics[0].clone());
    let handle = host.connect(OURS, 4420);
    pump(wired, &mut host);
    assert!(host.is_open(handle));
    host.send(handle, &[initiator::init_request(), initiator::connect(nqn, name, 0, ANY_CONTROLLER)].concat());
    pump(wired, &mut host);
    let mut reply = Vec::new();
    host.receive(handle, &mut reply);
    let answer = reply.get(INIT_BYTES..).and_then(initiator::next).expect("a reply to Connect");
    assert_eq!((answer.kind, answer.status), (RESPONSE, 0));
    (host, handle)
}

#[test]
fn a_setting_that_is_refused_or_changes_nothing_of_theirs_leaves_hosts_connected() {
    const SECRET: &str = "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:";
    let (mut wired, nqn) = serving();
    let (mut host, handle) = connect_host(&mut wired, &nqn, "nqn.host");
    for (value, code) in [
        ("nvme.export pmem0s=x", "usage"),
        ("nvme.export nosuch", "not-found"),
        ("nvme.export pmem0s=nqn.a.b:c,pmem0s=x", "usage"),
        ("nvme.export pmem0s,pmem0s", "usage"),
        ("nvme.allow bob", "usage"),
        ("nvme.allow any,bob", "usage"),
        ("nvme.allow nqn.host=nqn.no.such", "not-found"),
        ("nvme.allow nqn.host=DHHC-1:wrong", "usage"),
        ("disabled nosuch", "not-found"),
    ] {
        wired.booted.refused(&format!("config set {value}"), code);
        pump(&mut wired, &mut host);
        assert!(host.is_open(handle), "{value}");
        assert_eq!(wired.booted.done("status")["nvme"][0]["allowed"], json!(["nqn.host"]), "{value}");
    }
    // Other secrets, too, are for the next connection; another host's permission is its own.
    wired.booted.done(&format!("config set nvme.allow nqn.host={SECRET},nqn.other"));
    wired.booted.done("config set nvme.allow nqn.host");
    pump(&mut wired, &mut host);
    assert!(host.is_open(handle));
    assert_eq!(wired.booted.done("status")["nvme"][0]["allowed"], json!(["nqn.host"]));
    // And what takes it away does.
    wired.booted.done("config set nvme.allow none");
    pump(&mut wired, &mut host);
    assert!(!host.is_open(handle));
}

#[test]
fn ten_thousand_half_open_connections_take_bounded_memory_and_an_allowed_host_connects_all_the_same() {
    let (mut wired, nqn) = serving();
    wired.run();
    let most = wired.booted.done("stats")["nvme"]["connections_max"].as_u64().expect("a bound");
    wired.nics[0].ends().room = 100_000;

    for number in 0..10_000 {
        for port in [4420, 8009] {
            wired.nics[0].ends().to_nic.push_back(PEER.connects(mac(0), OURS, number, port));
        }
        if number % 10 == 0 {
            wired.booted.node.networks().poll(CpuIndex(1), wired.now_ns);
            wired.nics[0].ends().from_nic.clear();
        }
        if number % 2500 == 0 {
            let (mut host, handle) = connect_host(&mut wired, &nqn, "nqn.host");
            host.socket(handle).close();
            pump(&mut wired, &mut host);
        }
    }
    // Those that it still knows it answers again after a second: no more than have a place, each with its buffers.
    while wired.booted.node.networks().poll(CpuIndex(1), wired.now_ns) {}
    wired.nics[0].ends().from_nic.clear();
    wired.run();
    let known: Vec<u16> = wired.nics[0].ends().from_nic.iter().filter_map(|frame| accepts(frame)).collect();
    let places = most + most.div_ceil(4);
    assert!((1..=places).contains(&(known.len() as u64)), "{} of {places}", known.len());
    (0..5).for_each(|_| wired.run());
    wired.nics[0].ends().from_nic.clear();
    (0..5).for_each(|_| wired.run());
    assert_eq!(
        wired.nics[0].ends().from_nic.iter().filter_map(|frame| accepts(frame)).count(),
        0,
        "they are forgotten"
    );
}

#[test]
fn what_is_served_over_it_from_the_start_is_on_the_command_line() {
    let memory = Memory::new(32 * MIB);
    let dimm = fake_machine::Dimm { base: BASE, memory, flags: 0, labels: None };
    let boot = |words: &str| {
        let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], ..Hardware::default() };
        Wired::on(hardware.memory(BASE, memory), 1, &format!("net0=10.0.2.15/24 {words}"))
    };
    boot("").booted.done("create-namespace");
    let mut wired = boot(
        "nvme.export=pmem0s nvme.export=pmem9s nvme.allow=nqn.host,nonsense nvme.exports=pmem0s names=pmem0s:x \
         export=all,-pmem0s,-pmem8s,pmem7s disabled=none,namespace6.0",
    );
    assert_eq!(wired.booted.done("status")["nvme"][0]["dev"], "pmem0s");
    let logged = wired.booted.node.machine().logged();
    let slips = |wired: &mut Wired| {
        let found = wired.booted.done("health");
        found["findings"].as_array().expect("a list").iter().filter(|it| it["where"] == "command line").count()
    };
    assert_eq!(slips(&mut wired), 7);
    wired.booted.done("deny nqn.host");
    assert_eq!(slips(&mut wired), 6, "the hosts are what a command made them");
    for part in [
        "pmem0s: served by NVMe/TCP as nqn.",
        "command line: nvme.export: no block device \"pmem9s\"",
        "command line: nvme.allow: HOSTNQN",
        "command line: names: only config save sets it",
        "command line: export: there is no \"pmem8s\": list shows what there is",
        "command line: export: there is no \"pmem7s\": list",
        "command line: disabled: there is no \"namespace6.0\": list",
    ] {
        assert!(logged.iter().any(|line| line.contains(part)), "{part}: {logged:?}");
    }
}
