//! `stats` for people: tables with headings and units, 80 columns wide.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use crate::latency::{Latencies, Time};
use crate::stats::{Counts, DeviceStats, QueueStats, Stats};

/// Writes all tables.
///
/// # Errors
/// The writer's.
pub(super) fn write(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut is_first = true;
    let mut begin = |out: &mut dyn fmt::Write| if core::mem::take(&mut is_first) { Ok(()) } else { writeln!(out) };
    for it in &stats.devices {
        begin(out)?;
        device(it, out)?;
    }
    if !stats.queues.is_empty() {
        begin(out)?;
        queues(&stats.queues, out)?;
    }
    let nvme = &stats.nvme;
    if !nvme.exports.is_empty() || nvme.connections + nvme.refused_connections + nvme.refused_hosts > 0 {
        begin(out)?;
        writeln!(out, "NVMe/TCP since boot")?;
        let of = format!("{} of {}", nvme.connections, nvme.connections_max);
        writeln!(out, "  connections now    {of}; refused: {}", nvme.refused_connections)?;
        writeln!(out, "  hosts refused      {}", nvme.refused_hosts)?;
        for export in &nvme.exports {
            let hosts = if export.hosts.is_empty() { "no host".into() } else { export.hosts.join(", ") };
            writeln!(out, "  {:<18} {hosts}", export.dev)?;
        }
    }
    if !stats.networks.is_empty() {
        begin(out)?;
        writeln!(out, "network  link       received              sent       dropped (in, out)")?;
        for it in &stats.networks {
            let link = if it.up { "up" } else { "down" };
            let (rx, tx) = (Bytes(it.rx.bytes).to_string(), Bytes(it.tx.bytes).to_string());
            writeln!(out, "{:<8} {link:<6} {rx:>12} {tx:>17} {:>17} {:>7}", it.dev, it.rx.dropped, it.tx.dropped)?;
        }
    }
    if is_first { writeln!(out, "nothing is counted: no disk is open, and there is no network") } else { Ok(()) }
}

fn device(it: &DeviceStats, out: &mut dyn fmt::Write) -> fmt::Result {
    let DeviceStats { dev, total, sector_size, latency, .. } = it;
    let bytes = |sectors: u64| Bytes(sectors.wrapping_mul(u64::from(*sector_size))).to_string();
    writeln!(out, "{dev:<20} {:>16} {:>16}", "reads", "writes")?;
    let mut row = |name: &str, read: String, write: String| writeln!(out, "  {name:<18} {read:>16} {write:>16}");
    row("requests", total.reads.to_string(), total.writes.to_string())?;
    row("failed", total.read_errors.to_string(), total.write_errors.to_string())?;
    row("sectors", total.sectors_read.to_string(), total.sectors_written.to_string())?;
    row("data", bytes(total.sectors_read), bytes(total.sectors_written))?;
    for (name, per_mille) in [("latency, median", 500), ("latency, 99 %", 990)] {
        let time = |of: &Latencies| of.quantile_ns(per_mille).map_or("-".into(), |ns| Time(ns).to_string());
        row(name, time(&latency.read), time(&latency.write))?;
    }
    let mean = |of: &Latencies| of.mean_ns().map_or("-".into(), |ns| Time(ns).to_string());
    row("latency, mean", mean(&latency.read), mean(&latency.write))?;
    row("tried again", total.read_retries.to_string(), total.refusals.to_string())?;
    let tenths = |amount: u64, per: u64| match amount.saturating_mul(10).checked_div(per) {
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
        None => "-".into(),
    };
    for (name, value, per, of) in [
        ("commits", total.commits, tenths(total.sectors_written, total.commits), "sectors a commit"),
        ("fences", total.fences, tenths(total.fences, total.commits), "a commit"),
        ("write-backs", total.write_backs, tenths(total.write_backs, total.sectors_written), "lines a sector"),
    ] {
        writeln!(out, "  {name:<18} {:>16} {value:>16}   {per} {of}", "")?;
    }
    writeln!(out, "  {:<18} {:>16} {:>16}", "collisions", "", total.collisions)?;
    let busy: Vec<(usize, &Counts)> = it.cpus.iter().enumerate().filter(|(_, of)| **of != Counts::default()).collect();
    if busy.len() > 1 {
        writeln!(out, "  CPU         reads      writes     sec read  sec written     fences  collisions")?;
        for (cpu, of) in busy {
            let Counts { reads, writes, sectors_read, sectors_written, fences, collisions, .. } = of;
            writeln!(
                out,
                "  {cpu:<5} {reads:>11} {writes:>11} {sectors_read:>12} {sectors_written:>12} {fences:>10} {collisions:>11}"
            )?;
        }
    }
    Ok(())
}

fn queues(queues: &[QueueStats], out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "consumers' queues export queue  CPU    requests    failed interrupts     rests")?;
    for queue in queues {
        let QueueStats { dev, export, queue: number, cpu, requests, failed, interrupts, rests, broken } = queue;
        let dev = if dev.is_empty() { "(withdrawn)" } else { dev };
        write!(
            out,
            "  {dev:<15} {export:>6} {number:>5} {cpu:>4} {requests:>11} {failed:>9} {interrupts:>10} {rests:>9}"
        )?;
        writeln!(out, "{}", if *broken { "\n    broken by its driver" } else { "" })?;
    }
    Ok(())
}

/// Bytes with the unit that suits them: `268.4 MB` would be ambiguous, `256.0 MiB` is not.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 6] = [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match UNITS.into_iter().find(|(shift, _)| self.0 >> shift > 0) {
            Some((shift, unit)) => {
                let tenths = (u128::from(self.0) * 10) >> shift;
                f.pad(&format!("{}.{} {unit}", tenths / 10, tenths % 10))
            }
            None => f.pad(&format!("{} B", self.0)),
        }
    }
}
