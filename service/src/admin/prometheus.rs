//! The counters in Prometheus's text format, version 0.0.4: base units, each family once, under its HELP and TYPE lines.

use alloc::string::String;
use core::fmt;

use crate::latency::{BOUNDS_NS, Latencies, Seconds};
use crate::stats::{Counter, DeviceStats, NamespaceStats, NetworkStats, QueueStats, STATES, Stats};

/// Writes all that is counted and known.
///
/// # Errors
/// The writer's.
pub(crate) fn write(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut page = Page { out, name: String::new() };
    devices(stats, &mut page)?;
    durations(&stats.devices, &mut page)?;
    consumers(stats, &mut page)?;
    nvme(stats, &mut page)?;
    networks(&stats.networks, &mut page)?;
    namespaces(&stats.namespaces, &mut page)?;
    machine(stats, &mut page)
}

/// What is written.
struct Page<'out> {
    out: &'out mut dyn fmt::Write,
    /// The family that is being written.
    name: String,
}

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        self.name = alloc::format!("untorn_{name}");
        writeln!(self.out, "# HELP {} {help}.\n# TYPE {} {kind}", self.name, self.name)
    }

    fn sample(&mut self, labels: fmt::Arguments<'_>, value: impl fmt::Display) -> fmt::Result {
        self.part("", labels, value)
    }

    /// A sample of a histogram: of its buckets, its sum or its count.
    fn part(&mut self, part: &str, labels: fmt::Arguments<'_>, value: impl fmt::Display) -> fmt::Result {
        writeln!(self.out, "{}{part}{{{labels}}} {value}", self.name)
    }

    /// A family of one sample without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) -> fmt::Result {
        self.family(name, kind, help)?;
        writeln!(self.out, "{} {value}", self.name)
    }
}

fn devices(stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    for counter in Counter::ALL {
        page.family(&alloc::format!("{}_total", counter.name()), "counter", counter.help())?;
        for device in &stats.devices {
            for (cpu, counts) in device.cpus.iter().enumerate() {
                page.sample(format_args!("dev=\"{}\",cpu=\"{cpu}\"", Label(&device.dev)), counts.get(counter))?;
            }
        }
    }
    type Of = fn(&DeviceStats) -> u64;
    let bytes: [(&str, &str, Of); 2] = [
        ("read_bytes_total", "Bytes read", |it| it.total.sectors_read.wrapping_mul(it.sector_size.into())),
        ("written_bytes_total", "Bytes written", |it| it.total.sectors_written.wrapping_mul(it.sector_size.into())),
    ];
    for (name, help, of) in bytes {
        page.family(name, "counter", help)?;
        for device in &stats.devices {
            page.sample(format_args!("dev=\"{}\"", Label(&device.dev)), of(device))?;
        }
    }
    Ok(())
}

fn durations(devices: &[DeviceStats], page: &mut Page<'_>) -> fmt::Result {
    let help = "Time from when the appliance begins a request until it is done, failed ones included";
    page.family("request_duration_seconds", "histogram", help)?;
    for device in devices {
        for (op, latencies) in [("read", &device.latency.read), ("write", &device.latency.write)] {
            let Latencies { buckets, sum_ns } = latencies;
            let (dev, mut so_far) = (Label(&device.dev), 0_u64);
            for (of_bucket, bound) in buckets.iter().zip(BOUNDS_NS) {
                so_far += of_bucket;
                page.part("_bucket", format_args!("dev=\"{dev}\",op=\"{op}\",le=\"{}\"", Seconds(bound)), so_far)?;
            }
            let all = latencies.count();
            page.part("_bucket", format_args!("dev=\"{dev}\",op=\"{op}\",le=\"+Inf\""), all)?;
            page.part("_sum", format_args!("dev=\"{dev}\",op=\"{op}\""), Seconds(*sum_ns))?;
            page.part("_count", format_args!("dev=\"{dev}\",op=\"{op}\""), all)?;
        }
    }
    Ok(())
}

fn consumers(stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    type Of = fn(&QueueStats) -> u64;
    let of_queues: [(&str, &str, &str, Of); 5] = [
        ("requests_total", "counter", "Consumers' requests answered", |queue| queue.requests),
        ("failed_total", "counter", "Consumers' requests answered with an error", |queue| queue.failed),
        ("interrupts_total", "counter", "Interrupts sent to drivers", |queue| queue.interrupts),
        ("rests_total", "counter", "Times that a queue ran empty", |queue| queue.rests),
        ("broken", "gauge", "Whether its driver broke a queue", |queue| queue.broken.into()),
    ];
    for (name, kind, help, of) in of_queues {
        page.family(&alloc::format!("queue_{name}"), kind, help)?;
        for queue in &stats.queues {
            let (dev, QueueStats { export, queue: number, cpu, .. }) = (Label(&queue.dev), queue);
            let labels = format_args!("dev=\"{dev}\",export=\"{export}\",queue=\"{number}\",cpu=\"{cpu}\"");
            page.sample(labels, of(queue))?;
        }
    }
    page.family("consumer_queues", "gauge", "Queues that run of each disk that a consumer has")?;
    for consumer in &stats.consumers {
        page.sample(format_args!("dev=\"{}\",export=\"{}\"", Label(&consumer.dev), consumer.export), consumer.queues)?;
    }
    page.single("consumers", "gauge", "Disks that consumers have now", stats.consumers.len())
}

fn nvme(stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    let nvme = &stats.nvme;
    page.single("nvme_connections", "gauge", "NVMe/TCP connections now", nvme.connections)?;
    page.single("nvme_connections_max", "gauge", "The most NVMe/TCP connections", nvme.connections_max)?;
    page.family("nvme_refused_total", "counter", "Connections beyond the most, and hosts that may not connect")?;
    page.sample(format_args!("what=\"connection\""), nvme.refused_connections)?;
    page.sample(format_args!("what=\"host\""), nvme.refused_hosts)?;
    page.family("nvme_hosts", "gauge", "Hosts that are connected to each disk that is served by NVMe/TCP")?;
    for export in &nvme.exports {
        page.sample(format_args!("dev=\"{}\"", Label(&export.dev)), export.hosts.len())?;
    }
    Ok(())
}

fn networks(networks: &[NetworkStats], page: &mut Page<'_>) -> fmt::Result {
    type Of = fn(&NetworkStats) -> u64;
    let all: [(&str, &str, &str, Of); 7] = [
        ("up", "gauge", "Whether an interface has a link", |it| it.up.into()),
        ("receive_bytes_total", "counter", "Bytes received, headers included", |it| it.rx.bytes),
        ("receive_frames_total", "counter", "Frames received", |it| it.rx.frames),
        ("receive_dropped_total", "counter", "Frames dropped that were received", |it| it.rx.dropped),
        ("transmit_bytes_total", "counter", "Bytes sent, headers included", |it| it.tx.bytes),
        ("transmit_frames_total", "counter", "Frames sent", |it| it.tx.frames),
        ("transmit_dropped_total", "counter", "Frames dropped that were to be sent", |it| it.tx.dropped),
    ];
    for (name, kind, help, of) in all {
        page.family(&alloc::format!("network_{name}"), kind, help)?;
        for network in networks {
            page.sample(format_args!("dev=\"{}\"", Label(&network.dev)), of(network))?;
        }
    }
    Ok(())
}

fn namespaces(namespaces: &[NamespaceStats], page: &mut Page<'_>) -> fmt::Result {
    page.family("namespace_state", "gauge", "1 for the state that a namespace is in")?;
    for namespace in namespaces {
        for state in STATES {
            let labels = format_args!("namespace=\"{}\",state=\"{state}\"", Label(&namespace.dev));
            page.sample(labels, u8::from(namespace.state == state))?;
        }
    }
    page.family("namespace_info", "gauge", "The mode and the block device of a namespace; always 1")?;
    for NamespaceStats { dev, blockdev, mode, .. } in namespaces {
        let blockdev = Label(blockdev.as_deref().unwrap_or_default());
        page.sample(format_args!("namespace=\"{}\",dev=\"{blockdev}\",mode=\"{}\"", Label(dev), Label(mode)), 1)?;
    }
    type Of = fn(&NamespaceStats) -> u64;
    let all: [(&str, &str, Of); 4] = [
        ("size_bytes", "Bytes that a namespace offers", |it| it.size),
        ("arenas", "Arenas of a namespace's BTT", |it| it.arenas),
        ("read_only_arenas", "Arenas that take no writes", |it| it.read_only_arenas),
        ("lost_bytes", "Bytes that the medium is known to have lost", |it| it.lost_bytes),
    ];
    for (name, help, of) in all {
        page.family(&alloc::format!("namespace_{name}"), "gauge", help)?;
        for namespace in namespaces {
            page.sample(format_args!("namespace=\"{}\"", Label(&namespace.dev)), of(namespace))?;
        }
    }
    Ok(())
}

fn machine(stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    let machine = &stats.machine;
    page.single("up", "gauge", "Always 1: the appliance answers", 1)?;
    page.family("build_info", "gauge", "The image's version; always 1")?;
    page.sample(format_args!("version=\"{}\"", Label(&machine.version)), 1)?;
    page.single("uptime_seconds", "gauge", "Time since the image began", Seconds(machine.uptime_ns))?;
    page.single("cpus", "gauge", "CPUs that serve", machine.cpus)?;
    page.single("memory_bytes", "gauge", "RAM of the machine", machine.memory)?;
    let help = "Times that a namespace was opened whose interrupted writes had to be finished";
    page.single("recovered_total", "counter", help, machine.recovered)?;
    page.family("health_state", "gauge", "1 for the state of health")?;
    for state in ["ok", "degraded", "failed"] {
        page.sample(format_args!("state=\"{state}\""), u8::from(machine.health == state))?;
    }
    page.family("health_findings", "gauge", "What health finds, by severity")?;
    page.sample(format_args!("severity=\"warning\""), machine.warnings)?;
    page.sample(format_args!("severity=\"error\""), machine.errors)
}

/// A label's value, escaped.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for next in self.0.chars() {
            match next {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                _ => fmt::Write::write_char(f, next)?,
            }
        }
        Ok(())
    }
}

/// Returns the page.
#[must_use]
pub fn text(stats: &Stats) -> String {
    let mut text = String::new();
    // A string takes all that is written.
    let _ = write(stats, &mut text);
    text
}
