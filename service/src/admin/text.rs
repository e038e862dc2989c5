//! Replies for people: aligned lines; `list` and `create-namespace` in ndctl's pretty JSON.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use super::execute::{Data, Reply};
use super::hexdump::hexdump;
use super::machine::Version;
use super::pretty::pretty;
use super::{help, prometheus};
use crate::error::AdminError;
use crate::reply::{Arena, Arenas, Bench, Check, Errors, FieldValue, Nfit, Stats, Status, Trace, TraceEvent};
use crate::stats::{Counter, Counts, QueueStats};

/// Writes a reply's lines, each with its end.
///
/// # Errors
/// The writer's.
pub fn write(outcome: &Result<Reply, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    match outcome {
        Err(error) => writeln!(out, "error ({}): {error}", error.code),
        Ok(reply) => match reply {
            Reply::Help => help::all(out),
            Reply::HelpOf(spec) => help::of(spec, out),
            Reply::Version => writeln!(out, "{} {}", Version::OURS.name, Version::OURS.version),
            Reply::Status(reply) => status(reply, out),
            Reply::Mode(_) => Ok(()),
            // As ndctl: nothing to list, nothing printed.
            Reply::List(list) if list == "[]" => Ok(()),
            Reply::List(json) | Reply::Namespace(json) => writeln!(out, "{}", pretty(json)),
            Reply::LabelArea(area) => {
                writeln!(out, "{}: labels {}, {} slots", area.dev, area.label_version.as_str(), area.slots)
            }
            Reply::Changed(changed) => writeln!(out, "{}: {}", changed.dev, changed.state),
            Reply::Nfit(reply) => nfit(reply, out),
            Reply::Arenas(reply) => arenas(reply, out),
            Reply::Check(reply) => check(reply, out),
            Reply::Data(reply) => data(reply, out),
            Reply::Done(what, done) => {
                writeln!(out, "{} from LBA {} on: {} {what}", done.dev, done.lba.0, sectors(done.count))
            }
            Reply::Errors(reply) => errors(reply, out),
            Reply::Bench(reply) => bench(reply, out),
            Reply::Stats(reply) => stats(reply, out),
            Reply::Prometheus(stats) => prometheus::write(stats, out),
            Reply::Exported(reply) => {
                writeln!(out, "{} is {}", reply.dev, if reply.exported { "exported" } else { "withdrawn" })
            }
            Reply::Trace(reply) => trace(reply, out),
            Reply::Poweroff => writeln!(out, "powering off"),
            Reply::Reboot => writeln!(out, "rebooting"),
        },
    }
}

/// Writes a reply for a program, in mode text: its lines, then one of RS (0x1E) and the exit status.
///
/// # Errors
/// The writer's.
pub fn write_for_program(outcome: &Result<Reply, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    write(outcome, out)?;
    let exit_code = outcome.as_ref().map_or_else(|error| error.code.exit_code(), Reply::exit_code);
    writeln!(out, "\x1e{exit_code}")
}

/// One aligned line.
fn line(out: &mut dyn fmt::Write, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{name:<28} {value}")
}

fn sectors(count: u64) -> String {
    if count == 1 { "1 sector".into() } else { format!("{count} sectors") }
}

/// A count of bytes with a unit where one fits: `268435456 (256.0 MiB)`.
fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.into_iter().find(|(shift, _)| count >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{count} ({}.{} {unit})", tenths / 10, tenths % 10)
        }
        None => count.to_string(),
    }
}

fn status(status: &Status, out: &mut dyn fmt::Write) -> fmt::Result {
    line(out, "version", &status.version)?;
    line(out, "cpus", status.cpus)?;
    line(out, "memory", bytes(status.memory))?;
    line(out, "tables", status.tables.join(" "))?;
    line(out, "persist", &status.persist)?;
    line(out, "uptime", format_args!("{}.{:03} s", status.uptime / 1000, status.uptime % 1000))?;
    line(out, "unclean_shutdowns_recovered", status.unclean_shutdowns_recovered)?;
    line(out, "exports", if status.exports.is_empty() { "none".into() } else { status.exports.join(" ") })?;
    if status.namespaces.is_empty() {
        line(out, "namespaces", "none")?;
    }
    for namespace in &status.namespaces {
        let blockdev = namespace.blockdev.as_deref().unwrap_or("-");
        let size = bytes(namespace.size);
        writeln!(out, "{:<16} {blockdev:<10} {:<7} {:<9} {size}", namespace.dev, namespace.mode, namespace.state)?;
    }
    Ok(())
}

fn nfit(nfit: &Nfit, out: &mut dyn fmt::Write) -> fmt::Result {
    if nfit.structures.is_empty() && nfit.refused.is_empty() && nfit.remarks.is_empty() {
        return writeln!(out, "no NFIT");
    }
    for structure in &nfit.structures {
        writeln!(out, "table {} at {:#06x}: {}", structure.table, structure.offset, structure.kind)?;
        for (name, value) in &structure.fields.0 {
            writeln!(out, "  {name:<26} {}", field(value))?;
        }
    }
    for refusal in &nfit.refused {
        writeln!(out, "table {} at {:#06x}: refused {}: {}", refusal.table, refusal.offset, refusal.what, refusal.why)?;
    }
    for remark in &nfit.remarks {
        writeln!(out, "table {} at {:#06x}: remark on {}: {}", remark.table, remark.offset, remark.what, remark.why)?;
    }
    Ok(())
}

fn field(value: &FieldValue) -> String {
    match value {
        FieldValue::Number(number) => number.to_string(),
        FieldValue::Hex(number) => format!("{number:#x}"),
        FieldValue::Flag(flag) => flag.to_string(),
        FieldValue::Text(text) => text.clone(),
        FieldValue::List(list) => list.iter().map(field).collect::<alloc::vec::Vec<_>>().join(" "),
    }
}

fn arenas(arenas: &Arenas, out: &mut dyn fmt::Write) -> fmt::Result {
    for (index, arena) in arenas.arenas.iter().enumerate() {
        writeln!(out, "{} arena{index}", arenas.dev)?;
        let Arena { size, external_lba_start, nextoff, infooff, dataoff, mapoff, logoff, info2off, .. } = arena;
        // In debugfs's formats.
        for (name, value) in [("size", size), ("external_lba_start", external_lba_start)] {
            writeln!(out, "  {name:<20} {value:#018x}")?;
        }
        writeln!(out, "  {:<20} {:#010x}", "internal_nlba", arena.internal_nlba)?;
        writeln!(out, "  {:<20} {}", "internal_lbasize", arena.internal_lbasize)?;
        writeln!(out, "  {:<20} {:#010x}", "external_nlba", arena.external_nlba)?;
        writeln!(out, "  {:<20} {}", "external_lbasize", arena.external_lbasize)?;
        writeln!(out, "  {:<20} {}", "nfree", arena.nfree)?;
        writeln!(out, "  {:<20} {}", "version_major", arena.version_major)?;
        writeln!(out, "  {:<20} {}", "version_minor", arena.version_minor)?;
        let offsets = [
            ("nextoff", nextoff),
            ("infooff", infooff),
            ("dataoff", dataoff),
            ("mapoff", mapoff),
            ("logoff", logoff),
            ("info2off", info2off),
        ];
        for (name, value) in offsets {
            writeln!(out, "  {name:<20} {value:#018x}")?;
        }
        writeln!(out, "  {:<20} {:#010x}", "flags", arena.flags)?;
        if let Some(why) = &arena.read_only {
            writeln!(out, "  {:<20} {why}", "read_only")?;
        }
        writeln!(out, "  {:<20} {}", "log_index_0", arena.log_index_0)?;
        writeln!(out, "  {:<20} {}", "log_index_1", arena.log_index_1)?;
    }
    Ok(())
}

fn errors(errors: &Errors, out: &mut dyn fmt::Write) -> fmt::Result {
    for found in &errors.errors {
        writeln!(out, "{} from LBA {} on: {} in error", found.dev, found.lba.0, sectors(found.count))?;
    }
    if errors.more > 0 {
        writeln!(out, "{} further ranges are not shown", errors.more)?;
    }
    for lost in &errors.media {
        writeln!(out, "{} at {:#x}: the medium has lost {}", lost.dev, lost.offset, bytes(lost.length))?;
    }
    if errors.errors.is_empty() && errors.media.is_empty() {
        writeln!(out, "no errors known")?;
    }
    Ok(())
}

fn check(check: &Check, out: &mut dyn fmt::Write) -> fmt::Result {
    for finding in &check.findings {
        let repaired = if finding.repaired { "repaired" } else { "not repaired" };
        writeln!(out, "{}: {} ({repaired})", finding.place, finding.what)?;
    }
    let arenas = if check.arenas == 1 { "1 arena".into() } else { format!("{} arenas", check.arenas) };
    match check.findings.len() {
        0 => writeln!(out, "{}: {arenas} checked, nothing wrong", check.dev),
        1 => writeln!(out, "{}: {arenas} checked, 1 finding", check.dev),
        findings => writeln!(out, "{}: {arenas} checked, {findings} findings", check.dev),
    }
}

fn data(data: &Data, out: &mut dyn fmt::Write) -> fmt::Result {
    hexdump(&data.bytes, out)
}

fn bench(bench: &Bench, out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(
        out,
        "{}: {:.3} s on {} CPUs, seed {}, {} % writes, runs of {}",
        bench.dev, bench.seconds, bench.cpus, bench.seed, bench.mix, bench.run
    )?;
    line(out, "ops", bench.ops)?;
    line(out, "ops_per_second", format_args!("{:.0}", bench.ops_per_second))?;
    line(out, "sectors_read", bench.sectors_read)?;
    line(out, "sectors_written", bench.sectors_written)?;
    line(out, "errors", bench.errors)?;
    line(out, "fences_per_sector", format_args!("{:.3}", bench.fences_per_sector))?;
    line(out, "write_backs_per_sector", format_args!("{:.3}", bench.write_backs_per_sector))?;
    let Some(verify) = &bench.verify else { return Ok(()) };
    writeln!(out, "verified {}", sectors(verify.sectors))?;
    line(out, "good", verify.good)?;
    line(out, "blank", verify.blank)?;
    line(out, "foreign", verify.foreign)?;
    line(out, "torn", verify.torn)?;
    line(out, "misplaced", verify.misplaced)?;
    line(out, "unreadable", verify.unreadable)?;
    line(out, "version_max", verify.version_max)?;
    for fault in &verify.faults {
        writeln!(out, "  {fault}")?;
    }
    Ok(())
}

fn stats(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    for device in &stats.devices {
        writeln!(out, "{}", device.dev)?;
        for counter in Counter::ALL {
            let by_cpu = |counts: &Counts| format!(" {:>12}", counts.get(counter));
            let cpus: String = device.cpus.iter().map(by_cpu).collect();
            writeln!(out, "  {:<20}{}{cpus}", counter.name(), by_cpu(&device.total))?;
        }
    }
    for queue in &stats.queues {
        let QueueStats { export, queue: number, cpu, requests, failed, interrupts, rests, .. } = queue;
        let (dev, broken) = (queue.dev.as_str(), if queue.broken { ", broken by its driver" } else { "" });
        write!(out, "export {export} ({dev}) queue {number}, CPU {cpu}: {requests} requests, {failed} failed, ")?;
        writeln!(out, "{interrupts} interrupts, {rests} rests{broken}")?;
    }
    Ok(())
}

/// Time in seconds, CPU, event.
fn trace(trace: &Trace, out: &mut dyn fmt::Write) -> fmt::Result {
    for TraceEvent { at, cpu, event } in &trace.events {
        writeln!(out, "{:>6}.{:06} cpu {cpu}: {event}", at / 1_000_000, at % 1_000_000)?;
    }
    Ok(())
}
