//! What an appliance does now: rates and latencies between two readings of its counters (`stats`).
//!
//! The appliance is not trusted: a figure that is missing or is none counts as zero, a name is shown without control characters.

use std::fmt::Write as _;

use serde_json::{Value, json};
use service::latency::{Latencies, Time};

/// A reading of the counters.
#[derive(Clone, Debug)]
pub struct Reading(Value);

/// What an appliance has done between two readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// When the later reading was taken: seconds since the appliance's start.
    pub uptime: f64,
    /// The time between both, in seconds.
    pub seconds: f64,
    /// The appliance's version.
    pub version: String,
    /// Its health, in a word.
    pub health: String,
    /// Its disks.
    pub devices: Vec<DeviceRates>,
    /// Consumers' disks, and hosts.
    pub users: Vec<UserRates>,
    /// Interfaces: name, bytes received and sent a second.
    pub networks: Vec<(String, f64, f64)>,
}

/// What a disk has done.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRates {
    /// Its name.
    pub dev: String,
    /// Reads a second, and writes.
    pub requests: [f64; 2],
    /// Bytes a second, read and written.
    pub bytes: [f64; 2],
    /// Failed requests a second.
    pub failed: f64,
    /// How long requests took, in nanoseconds: median and 99 % of reads, then of writes; `None` without any.
    pub latency_ns: [Option<u64>; 4],
    /// Sectors a commit.
    pub sectors_a_commit: Option<f64>,
}

/// What a consumer does, or a host.
#[derive(Clone, Debug, PartialEq)]
pub struct UserRates {
    /// `export 0`, or a host's NQN.
    pub who: String,
    /// The disk.
    pub dev: String,
    /// Requests a second; `None` for hosts, whose disks have them.
    pub requests: Option<f64>,
    /// Failed ones.
    pub failed: Option<f64>,
}

impl Reading {
    /// Takes a reply to `stats`.
    ///
    /// # Errors
    /// It is none, or an appliance's that counts no latencies.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("the reply is no JSON: {error}"))?;
        if value["machine"]["uptime_ns"].is_u64() {
            Ok(Self(value))
        } else {
            let why = value["error"]["message"].as_str().unwrap_or("the appliance is older than this program");
            Err(why.to_owned())
        }
    }

    fn uptime_ns(&self) -> u64 {
        number(&self.0["machine"]["uptime_ns"])
    }

    /// What was done since an earlier reading. `None`: it is not earlier, as the appliance was started anew.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Rates> {
        let seconds = self.uptime_ns().checked_sub(earlier.uptime_ns()).filter(|ns| *ns > 0)? as f64 / 1e9;
        let of = |key: &str, name: fn(&Value) -> String| -> Vec<(Value, Value)> {
            let before = list(&earlier.0[key]);
            let same = |it: &Value| before.iter().find(|other| name(other) == name(it)).cloned().unwrap_or_default();
            list(&self.0[key]).iter().map(|it| (it.clone(), same(it))).collect()
        };
        let by_dev = |it: &Value| name(&it["dev"]);
        let by_queue = |it: &Value| format!("{} {}", it["export"], it["queue"]);
        let queues = of("queues", by_queue);
        let user = |it: &Value| {
            let own = || queues.iter().filter(|(now, _)| now["export"] == it["export"]);
            // A sum of none would be -0.
            let rate = |key: &str| {
                own().map(|(now, before)| per_second(now, before, key, seconds)).fold(0.0, |sum, it| sum + it)
            };
            UserRates {
                who: format!("export {}", number(&it["export"])),
                dev: name(&it["dev"]),
                requests: Some(rate("requests")),
                failed: Some(rate("failed")),
            }
        };
        let hosts = list(&self.0["nvme"]["exports"]).iter().flat_map(|export| {
            let dev = name(&export["dev"]);
            let host = move |who| UserRates { who: name(who), dev: dev.clone(), requests: None, failed: None };
            list(&export["hosts"]).iter().map(host)
        });
        let network = |(now, before): &(Value, Value)| {
            let rate = |way: &str| per_second(&now[way], &before[way], "bytes", seconds);
            (name(&now["dev"]), rate("rx"), rate("tx"))
        };
        Some(Rates {
            uptime: self.uptime_ns() as f64 / 1e9,
            seconds,
            version: name(&self.0["machine"]["version"]),
            health: name(&self.0["machine"]["health"]),
            devices: of("devices", by_dev).iter().map(|(now, before)| device(now, before, seconds)).collect(),
            users: list(&self.0["consumers"]).iter().map(user).chain(hosts).collect(),
            networks: of("networks", by_dev).iter().map(network).collect(),
        })
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A name without what a terminal takes for something else.
pub(crate) fn name(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|next| !next.is_control()).collect()
}

fn more(now: &Value, before: &Value, key: &str) -> f64 {
    number(&now[key]).saturating_sub(number(&before[key])) as f64
}

fn per_second(now: &Value, before: &Value, key: &str, seconds: f64) -> f64 {
    more(now, before, key) / seconds
}

fn device(now: &Value, before: &Value, seconds: f64) -> DeviceRates {
    let rate = |key| per_second(now, before, key, seconds);
    let sector = number(&now["sector_size"]) as f64;
    let took = |kind: &str| {
        let of = |it: &Value| serde_json::from_value::<Latencies>(it["latency"][kind].clone()).unwrap_or_default();
        of(now).since(&of(before))
    };
    let (read, write) = (took("read"), took("write"));
    let commits = more(now, before, "commits");
    DeviceRates {
        dev: name(&now["dev"]),
        requests: [rate("reads"), rate("writes")],
        bytes: [rate("sectors_read") * sector, rate("sectors_written") * sector],
        failed: rate("read_errors") + rate("write_errors"),
        latency_ns: [read.quantile_ns(500), read.quantile_ns(990), write.quantile_ns(500), write.quantile_ns(990)],
        sectors_a_commit: (commits > 0.0).then(|| more(now, before, "sectors_written") / commits),
    }
}

/// A number in three digits with a unit: `1.23k`, `45.6M`.
fn short(value: f64, step: f64, units: [&str; 5]) -> String {
    let (mut value, mut unit) = (value, 0);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if !(0.005..99.95).contains(&value) {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", units[unit])
}

fn count(value: f64) -> String {
    short(value, 1000.0, ["", "k", "M", "G", "T"])
}

pub(crate) fn bytes(value: f64) -> String {
    short(value, 1024.0, ["", "K", "M", "G", "T"])
}

fn time(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".into(), |ns| Time(ns).to_string())
}

/// The heading of [`Rates::lines`].
pub const HEADING: &str = "   time disk         requests/s       bytes/s  read latency write latency\n\
                           \x20                 reads writes  reads writes   50 %   99 %   50 %   99 %";

impl Rates {
    /// A line for each disk.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for it in &self.devices {
            let ([reads, writes], [read, written]) = (it.requests.map(count), it.bytes.map(bytes));
            let [a, b, c, d] = it.latency_ns.map(time);
            let _ = writeln!(
                out,
                "{:>7.1} {:<9} {reads:>6} {writes:>6} {read:>6} {written:>6} {a:>6} {b:>6} {c:>6} {d:>6}",
                self.uptime, it.dev
            );
        }
        out
    }

    /// All of it, for a terminal.
    #[must_use]
    pub fn screen(&self, colour: bool) -> String {
        let health = match (self.health.as_str(), colour) {
            (health, false) => health.to_owned(),
            ("ok", true) => "\x1b[32mok\x1b[0m".to_owned(),
            (health, true) => format!("\x1b[31m{health}\x1b[0m"),
        };
        let mut out = String::new();
        let _ = writeln!(out, "untorn {}  up {:.0} s  health {health}\n\n{HEADING}", self.version, self.uptime);
        out += &self.lines();
        for it in self.devices.iter().filter(|it| it.failed > 0.0 || it.sectors_a_commit.is_some()) {
            let commit =
                it.sectors_a_commit.map_or_else(String::new, |sectors| format!("{sectors:.1} sectors a commit"));
            let failed = if it.failed > 0.0 {
                format!("  {} requests failed a second", count(it.failed))
            } else {
                String::new()
            };
            let _ = writeln!(out, "        {:<9} {commit}{failed}", it.dev);
        }
        if !self.users.is_empty() {
            let _ = writeln!(out, "\nconsumers and hosts");
        }
        for UserRates { who, dev, requests, failed } in &self.users {
            let dev = if dev.is_empty() { "(withdrawn)" } else { dev };
            let _ = match (requests, failed) {
                (Some(requests), Some(failed)) => {
                    writeln!(
                        out,
                        "        {dev:<9} {who}: {} requests/s, {} failed/s",
                        count(*requests),
                        count(*failed)
                    )
                }
                _ => writeln!(out, "        {dev:<9} {who}"),
            };
        }
        if !self.networks.is_empty() {
            let _ = writeln!(out, "\nnetwork");
        }
        for (dev, received, sent) in &self.networks {
            let _ = writeln!(out, "        {dev:<9} {} B/s received, {} B/s sent", bytes(*received), bytes(*sent));
        }
        out
    }

    /// An object.
    #[must_use]
    pub fn json(&self) -> Value {
        let device = |it: &DeviceRates| {
            json!({
                "dev": it.dev, "reads_per_second": it.requests[0], "writes_per_second": it.requests[1],
                "read_bytes_per_second": it.bytes[0], "written_bytes_per_second": it.bytes[1],
                "failed_per_second": it.failed, "sectors_a_commit": it.sectors_a_commit,
                "read_p50_ns": it.latency_ns[0], "read_p99_ns": it.latency_ns[1],
                "write_p50_ns": it.latency_ns[2], "write_p99_ns": it.latency_ns[3],
            })
        };
        let user = |it: &UserRates| json!({ "who": it.who, "dev": it.dev, "requests_per_second": it.requests, "failed_per_second": it.failed });
        let network = |(dev, received, sent): &(String, f64, f64)| json!({ "dev": dev, "received_bytes_per_second": received, "sent_bytes_per_second": sent });
        json!({
            "uptime": self.uptime, "seconds": self.seconds, "health": self.health,
            "devices": self.devices.iter().map(device).collect::<Vec<_>>(),
            "users": self.users.iter().map(user).collect::<Vec<_>>(),
            "networks": self.networks.iter().map(network).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use super::*;

    fn reading(uptime_ns: u64, reads: u64, bucket: u64) -> Reading {
        let mut buckets = vec![0; 25];
        buckets[3] = bucket;
        let none = json!({ "buckets": [0], "sum_ns": 0 });
        let reply = json!({
            "ok": true,
            "machine": { "uptime_ns": uptime_ns, "version": "1.2", "health": "ok" },
            "devices": [{
                "dev": "pmem0s", "reads": reads, "writes": 0, "sectors_read": reads, "sectors_written": 0,
                "sector_size": 512, "latency": { "read": { "buckets": buckets, "sum_ns": bucket }, "write": none },
            }],
            "consumers": [{ "dev": "pmem0s", "export": 4, "queues": 1 }],
            "queues": [{ "export": 4, "queue": 0, "requests": reads, "failed": 0 }],
            "nvme": { "exports": [{ "dev": "pmem0s", "hosts": ["nqn.\u{1b}[2J"] }] },
            "networks": [{ "dev": "net0", "rx": { "bytes": reads }, "tx": { "bytes": 0 } }],
        });
        Reading::parse(&reply.to_string()).unwrap()
    }

    #[test]
    fn rates_are_of_the_time_between_two_readings() {
        let (first, second) = (reading(10_000_000_000, 100, 100), reading(12_000_000_000, 4100, 4100));
        let rates = second.since(&first).unwrap();
        let device = &rates.devices[0];
        assert_eq!((device.requests, device.bytes), ([2000.0, 0.0], [1_024_000.0, 0.0]));
        assert_eq!((device.latency_ns[0], device.latency_ns[2]), (Some(1500), None), "of what came since");
        assert_eq!(rates.users[0].requests, Some(2000.0));
        assert_eq!((rates.users[1].who.as_str(), rates.users.len()), ("nqn.[2J", 2), "nothing for the terminal");
        assert_eq!(rates.networks, [("net0".to_owned(), 2000.0, 0.0)]);
        assert_eq!(first.since(&second), None, "it was started anew");
        let line = "   12.0 pmem0s     2.00k      0  1000K      0 1.50us 1.99us      -      -\n";
        assert_eq!(rates.lines(), line);
        assert!(HEADING.lines().chain(rates.screen(false).lines()).all(|line| line.len() <= 80));
        assert!(!rates.screen(false).contains('\x1b') && rates.screen(true).contains("\x1b[32mok"));
        assert_eq!(rates.json()["devices"][0]["read_p50_ns"], 1500);
    }

    #[test]
    fn a_consumer_whose_queues_do_not_run_asks_for_nothing() {
        let reading = |ns: u64| {
            let reply =
                json!({ "machine": { "uptime_ns": ns }, "consumers": [{ "dev": "pmem0s", "export": 4, "queues": 0 }] });
            Reading::parse(&reply.to_string()).unwrap()
        };
        let rates = reading(2).since(&reading(1)).unwrap();
        assert!(
            rates.screen(false).contains("pmem0s    export 4: 0 requests/s, 0 failed/s"),
            "{}",
            rates.screen(false)
        );
        assert_eq!(rates.json()["users"][0]["failed_per_second"].to_string(), "0.0");
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, shown) in
            [(0.0, "0"), (1.0, "1.00"), (12.34, "12.3"), (999.4, "999"), (1234.0, "1.23k"), (5e6, "5.00M")]
        {
            assert_eq!(count(value), shown);
        }
    }

    #[test]
    fn what_is_no_reply_to_stats_is_refused() {
        assert!(Reading::parse("no").is_err());
        assert!(Reading::parse("{\"ok\":true,\"devices\":[]}").unwrap_err().contains("older"));
        assert_eq!(Reading::parse("{\"ok\":false,\"error\":{\"message\":\"busy\"}}").unwrap_err(), "busy");
        // Figures that are none.
        let odd =
            Reading::parse(r#"{"machine":{"uptime_ns":5},"devices":[{"dev":7,"reads":-1,"latency":[]}],"queues":3}"#);
        let earlier = Reading::parse(r#"{"machine":{"uptime_ns":4}}"#).unwrap();
        assert_eq!(odd.unwrap().since(&earlier).unwrap().devices[0].requests, [0.0, 0.0]);
        let most = format!(r#"{{"buckets":[{0},{0},7],"sum_ns":{0}}}"#, u64::MAX);
        let odd = format!(r#"{{"machine":{{"uptime_ns":5}},"devices":[{{"dev":"a","latency":{{"read":{most}}}}}]}}"#);
        let device = Reading::parse(&odd).unwrap().since(&earlier).unwrap().devices.remove(0);
        assert_eq!(device.latency_ns[0], Some(100));
    }
}
