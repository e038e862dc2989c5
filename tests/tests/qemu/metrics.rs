//! The pages over a network: what a scraper, a browser and a person at a terminal get of a real appliance, through QEMU's own
//! network.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use service::mock::exposition;
use tests::console::Console;
use tests::dimm::{Dimm, MIB};
use tests::place::{eventually, free_port};
use tests::workspace;

/// An appliance with a disk, and a port of this machine that is its port of metrics.
struct Appliance {
    console: Console,
    port: u16,
}

impl Appliance {
    fn start(dimm: &Dimm) -> Self {
        let port = free_port();
        let console = Console::start(dimm, &["--net", &format!("user,hostfwd=tcp:127.0.0.1:{port}-:9100")]);
        console.waits_for("untorn> ");
        for line in ["create-namespace -l 4096", "write pmem0s 0 --fill 7 --count 40", "config set metrics 9100"] {
            let done = console.ask(line);
            assert!(done.status.success(), "{done:?}");
        }
        let appliance = Self { console, port };
        // QEMU takes connections from the start, and resets them while the appliance does not listen.
        eventually("it serves", || appliance.ask("GET /icon.svg HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
        appliance
    }

    fn top(&self, options: &[&str]) -> Output {
        self.console.untornctl("top", options).output().expect("untornctl runs")
    }

    /// Sends these bytes, and returns what comes until the end.
    fn ask(&self, request: &str) -> String {
        let mut bytes = Vec::new();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("QEMU listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a bound");
        // A reset, or the end of time, is the end.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut bytes).map(drop));
        String::from_utf8(bytes).expect("text")
    }

    #[track_caller]
    fn page(&self, path: &str) -> String {
        let reply = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: no reply: {reply:?}"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {reply}");
        body.to_owned()
    }

    /// Begins a load of so many seconds.
    fn load(&self, seconds: u32) -> Child {
        let line = format!("bench pmem0s -f --seconds {seconds} --mix 50");
        self.console.untornctl("admin", &[&line]).stdout(Stdio::null()).spawn().expect("untornctl runs")
    }
}

#[test]
fn a_scraper_and_a_terminal_get_what_a_load_does() {
    workspace::build();
    let (_turn, dimm) = (workspace::machine_turn(), Dimm::blank(96 * MIB));
    let appliance = Appliance::start(&dimm);
    let text = appliance.page("/metrics");
    let families = exposition::parse(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
    let value = |name: &str, label: (&str, &str)| {
        let all = families.iter().flat_map(|family| &family.samples);
        all.filter(|it| it.name == name && it.label(label.0) == Some(label.1)).map(|it| it.value).sum::<f64>()
    };
    assert!((value("untorn_sectors_written_total", ("dev", "pmem0s")) - 40.0).abs() < 0.5, "{text}");
    assert!(value("untorn_request_duration_seconds_sum", ("op", "write")) > 0.0, "{text}");
    // What the dashboard names is there, but for what only hosts and consumers bring.
    let named: BTreeSet<&str> = include_str!("../../../docs/grafana.json")
        .split(|next: char| !next.is_ascii_alphanumeric() && next != '_')
        .filter(|word| word.starts_with("untorn_"))
        .collect();
    let given: BTreeSet<&str> = families.iter().flat_map(|it| &it.samples).map(|it| it.name.as_str()).collect();
    let missing: Vec<_> = named.difference(&given).collect();
    assert!(missing.iter().all(|name| name.contains("queue") || name.contains("nvme_hosts")), "{missing:?}");

    // During a load the rates are its own, and pages come all the same.
    let mut load = appliance.load(10);
    let rates = appliance.top(&["--seconds", "1", "--count", "2", "--json"]);
    assert!(rates.status.success(), "{rates:?}");
    let lines = String::from_utf8(rates.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let device = &lines[1]["devices"][0];
    assert!(device["writes_per_second"].as_f64().unwrap() > 1.0 && device["write_p99_ns"].is_u64(), "{lines:?}");
    let begun = Instant::now();
    assert!(appliance.page("/data.json").contains("\"status\":{\"ok\":true"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let table = appliance.top(&["--seconds", "0.5", "--count", "1"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().count() == 3 && !table.contains('\x1b') && table.contains("pmem0s"), "{table}");
    assert!(load.try_wait().unwrap().is_none(), "it was one load");
    load.kill().and_then(|()| load.wait()).expect("it ends");

    for (arguments, status) in [(["--count", "0"], 2), (["--seconds", "0"], 2)] {
        assert_eq!(appliance.top(&arguments).status.code(), Some(status), "{arguments:?}");
    }
    let mut nobody = Command::new(workspace::target().join("release/untornctl"));
    let nobody =
        nobody.args(["top", "--count", "1", "--socket"]).arg(appliance.console.place().at("nobody")).output().unwrap();
    assert_eq!(nobody.status.code(), Some(5), "{nobody:?}");
}

#[test]
fn a_browser_shows_the_page_with_plots_and_it_is_whole_without_a_script() {
    workspace::build();
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("there is no chromium here: the page was not looked at in a browser");
        return;
    }
    let (_turn, dimm) = (workspace::machine_turn(), Dimm::blank(96 * MIB));
    let appliance = Appliance::start(&dimm);
    let mut load = appliance.load(100);
    let mut chromium = Command::new("timeout");
    chromium.args(["100", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    chromium.arg(format!("--user-data-dir={}", appliance.console.place().at("profile").display()));
    // Time passes for the page as fast as replies come: some seconds of a real one.
    chromium.args(["--dump-dom", "--virtual-time-budget=100000", "--window-size=400,900"]);
    let shown = chromium.arg(format!("http://127.0.0.1:{}/", appliance.port)).output().unwrap();
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(shown.status.success(), "{said}");
    // Nothing that the page's policy forbids, and no error of its script.
    assert!(!said.contains(":CONSOLE"), "{said}");
    let page = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(page.matches("<figure>").count(), 4, "{page}");
    assert!(page.contains("aria-label=\"pmem0s, requests a second: reads ") && page.contains(" d=\"M"), "{page}");
    assert!(page.contains("<p id=\"silence\" role=\"status\"></p>"), "{page}");
    let plain = appliance.page("/");
    assert!(plain.contains("namespace0.0") && plain.contains("pmem0s") && !plain.contains("<figure>"), "{plain}");
    load.kill().and_then(|()| load.wait()).expect("it ends");
}
