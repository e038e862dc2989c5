//! The pages over the network: what they hold, who may see them, and what makes them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use btt::CpuIndex;
use fake_machine::exports::StillClock;
use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, nfit_of};
use kernel::node::export::ExportServices;
use kernel::node::network::NetworkDevice;
use net::mock::{Client, FakeNic, Host, SocketHandle};
use net::nic::Mac;
use serde_json::{Value, json};
use service::mock::exposition::{self, Family};

const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// A node with a disk and an interface, which CPU 1 drives.
struct Site {
    booted: Booted,
    client: Client,
    clock: Arc<StillClock>,
}

impl Site {
    fn new(words: &str) -> Self {
        let memory = Memory::new(32 * MIB);
        let dimm = Dimm { base: BASE, memory, flags: 0, labels: None };
        let nic = FakeNic::new(Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]));
        let clock = Arc::new(StillClock::default());
        *clock.now_ns.lock().expect("no panic") = 60 * SECOND;
        let hardware = Hardware {
            nfits: vec![nfit_of(&[dimm])],
            network: vec![NetworkDevice { nic: Box::new(nic.clone()), cpu: CpuIndex(1) }],
            command_line: format!("net0={OURS}/24 {words}"),
            services: ExportServices {
                clock: Arc::clone(&clock) as _,
                waker: Arc::clone(&clock) as _,
                ..ExportServices::none()
            },
            ..Hardware::default()
        };
        let booted = hardware.memory(BASE, memory).boot();
        let mut site = Self { booted, client: Client::new(PEER, nic), clock };
        (0..500).for_each(|_| site.run(false));
        site
    }

    /// Ten milliseconds pass. CPU 0 has its turn, if it is to.
    fn run(&mut self, with_maker: bool) {
        let now_ns = {
            let mut now_ns = self.clock.now_ns.lock().expect("no panic");
            *now_ns += 10 * MS;
            *now_ns
        };
        while self.booted.node.networks().poll(CpuIndex(1), now_ns) {}
        self.client.poll(now_ns);
        if with_maker {
            self.booted.node.make_pages();
        }
    }

    fn open(&mut self, path: &str) -> SocketHandle {
        let handle = self.client.connect(OURS, 9100);
        (0..5).for_each(|_| self.run(false));
        self.client.send(handle, format!("GET {path} HTTP/1.1\r\nHost: appliance\r\n\r\n").as_bytes());
        handle
    }

    fn take(&mut self, handle: SocketHandle) -> String {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            self.run(true);
            self.client.receive(handle, &mut bytes);
            if !self.client.is_open(handle) {
                break;
            }
        }
        self.client.socket(handle).close();
        String::from_utf8(bytes).expect("text")
    }

    /// The page of a path.
    fn get(&mut self, path: &str) -> String {
        let handle = self.open(path);
        let reply = self.take(handle);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: no reply: {reply:?}"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {reply}");
        body.to_owned()
    }

    fn metrics(&mut self) -> Vec<Family> {
        let page = self.get("/metrics");
        exposition::parse(&page).unwrap_or_else(|why| panic!("{why}"))
    }
}

/// The sum of a family's samples with these labels.
fn sum(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
    let has_all = |it: &&exposition::Sample| labels.iter().all(|(label, value)| it.label(label) == Some(value));
    family.samples.iter().filter(has_all).map(|sample| sample.value).sum()
}

#[test]
fn a_scraper_gets_what_was_done() {
    let mut site = Site::new("metrics=9100");
    site.clock.look_ns.store(0, Ordering::Relaxed);
    site.booted.done("create-namespace -l 512");
    site.booted.done("write pmem0s 0 --fill 7 --count 40");
    site.booted.done("read pmem0s 1 5");
    site.booted.refused("read pmem0s 64707 2", "out-of-range");
    site.booted.done("inject-error pmem0s 60");
    site.booted.refused("read pmem0s 60", "damaged");
    site.booted.done("inject-error pmem0s 70 --media");
    (0..60).for_each(|_| site.run(false));
    let families = site.metrics();
    for (name, labels, value) in [
        ("untorn_up", &[][..], 1.0),
        ("untorn_build_info", &[("version", service::VERSION)], 1.0),
        ("untorn_cpus", &[], 4.0),
        ("untorn_writes_total", &[("dev", "pmem0s"), ("cpu", "0")], 1.0),
        ("untorn_sectors_written_total", &[("dev", "pmem0s")], 40.0),
        ("untorn_written_bytes_total", &[("dev", "pmem0s")], 40.0 * 512.0),
        ("untorn_commits_total", &[("dev", "pmem0s")], 2.0),
        ("untorn_reads_total", &[("dev", "pmem0s")], 1.0),
        ("untorn_read_errors_total", &[("dev", "pmem0s")], 1.0),
        ("untorn_namespace_state", &[("namespace", "namespace0.0"), ("state", "active")], 1.0),
        ("untorn_namespace_state", &[("namespace", "namespace0.0")], 1.0),
        ("untorn_namespace_arenas", &[("namespace", "namespace0.0")], 1.0),
        ("untorn_namespace_read_only_arenas", &[("namespace", "namespace0.0")], 0.0),
        ("untorn_namespace_lost_bytes", &[("namespace", "namespace0.0")], 512.0),
        ("untorn_health_state", &[("state", "failed")], 1.0),
        ("untorn_health_findings", &[("severity", "error")], 1.0),
        ("untorn_network_up", &[("dev", "net0")], 1.0),
        ("untorn_nvme_connections", &[], 0.0),
    ] {
        assert!((sum(&families, name, labels) - value).abs() < f64::EPSILON, "{name} {labels:?}");
    }
    let took = families.iter().find(|family| family.name == "untorn_request_duration_seconds").expect("histograms");
    let count = |op| took.samples.iter().find(|it| it.name.ends_with("_count") && it.label("op") == Some(op));
    assert_eq!([count("read"), count("write")].map(|it| it.map(|it| it.value)), [Some(2.0), Some(1.0)]);
}

#[test]
fn the_page_for_people_and_its_data_are_there() {
    let mut site = Site::new("metrics=9100");
    site.booted.done("create-namespace -l 4096");
    let page = site.get("/");
    for part in ["<p class=\"verdict ok\">ok</p>", "namespace0.0", "pmem0s", "net0", "<noscript>", "lang=\"en\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Nothing comes from elsewhere, and nothing that a policy would have to allow stands in it.
    assert!(!page.contains("://") && !page.contains("style=") && !page.contains("onload"), "{page}");
    for path in ["/page.css", "/page.js", "/icon.svg"] {
        let part = site.get(path);
        assert!(
            page.contains(path) && part.len() > 100 && !part.replace("http://www.w3.org/2000/svg", "").contains("://")
        );
    }
    let data: Value = serde_json::from_str(&site.get("/data.json")).expect("JSON");
    assert_eq!((&data["health"]["state"], &data["status"]["ok"]), (&json!("ok"), &json!(true)));
    assert_eq!(data["stats"]["devices"][0]["dev"], "pmem0s");
}

#[test]
fn a_page_is_made_once_for_all_that_ask_and_its_maker_is_woken() {
    let mut site = Site::new("metrics=9100");
    let woken = |site: &Site| site.clock.woken.lock().expect("no panic").iter().filter(|cpu| cpu.0 == 0).count();
    let before = woken(&site);
    let handles = [(); 5].map(|()| site.open("/metrics"));
    (0..5).for_each(|_| site.run(false));
    assert_eq!(woken(&site), before + 1);
    let pages: Vec<String> = handles.into_iter().map(|handle| site.take(handle)).collect();
    assert!(pages.iter().all(|page| page.ends_with(" 0\n") && page == &pages[0]), "{pages:?}");
    // What was read a moment ago is fresh; later it is read anew.
    let uptime =
        |site: &mut Site| site.get("/metrics").lines().find(|it| it.starts_with("untorn_uptime")).map(str::to_owned);
    let first = uptime(&mut site);
    assert_eq!(uptime(&mut site), first);
    (0..100).for_each(|_| site.run(true));
    assert_ne!(uptime(&mut site), first);
}

#[test]
fn a_cpu_that_makes_no_page_costs_its_reader_five_seconds_and_nobody_else_anything() {
    let mut site = Site::new("metrics=9100");
    let handle = site.open("/metrics");
    let mut reply = Vec::new();
    for _ in 0..600 {
        site.run(false);
        site.client.receive(handle, &mut reply);
    }
    assert!(String::from_utf8_lossy(&reply).starts_with("HTTP/1.1 503 "), "{reply:?}");
    assert!(site.get("/page.css").contains("body"), "what needs no making");
}

#[test]
fn a_long_command_makes_pages_between_its_steps() {
    let mut site = Site::new("metrics=9100");
    site.booted.done("create-namespace -l 512");
    let handle = site.open("/metrics");
    (0..5).for_each(|_| site.run(false));
    site.booted.done("check-namespace namespace0.0");
    let mut reply = Vec::new();
    for _ in 0..50 {
        site.run(false);
        site.client.receive(handle, &mut reply);
    }
    assert!(String::from_utf8_lossy(&reply).starts_with("HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&reply));
}

#[test]
fn the_port_is_set_while_it_runs_and_off_by_default() {
    let mut site = Site::new("");
    let connects = |site: &mut Site, port: u16| {
        let handle = site.client.connect(OURS, port);
        (0..60).for_each(|_| site.run(true));
        site.client.is_open(handle)
    };
    assert!(!connects(&mut site, 9100));
    site.booted.done("config set metrics 9100");
    (0..60).for_each(|_| site.run(true));
    assert!(connects(&mut site, 9100) && site.get("/metrics").contains("untorn_up 1\n"));
    for (value, code) in [("4420", "usage"), ("8009", "usage"), ("0", "usage"), ("65536", "usage"), ("x", "usage")] {
        site.booted.refused(&format!("config set metrics {value}"), code);
    }
    site.booted.done("config set metrics off");
    (0..60).for_each(|_| site.run(true));
    assert!(!connects(&mut site, 9100));
    // Without a network there is nowhere to serve it.
    assert!(Hardware::default().boot().refused("config set metrics 9100", "failed").contains("--net"));
}
