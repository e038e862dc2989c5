//! The counters in Prometheus's text format, version 0.0.4.

use core::fmt;

use crate::stats::{Counter, QueueStats, Stats};

/// Writes every counter as `untorn_<name>_total{dev="…",cpu="…"}` under its HELP and TYPE lines.
///
/// # Errors
/// The writer's.
pub(super) fn write(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    for counter in Counter::ALL {
        let name = counter.name();
        writeln!(out, "# HELP untorn_{name}_total {}.", counter.help())?;
        writeln!(out, "# TYPE untorn_{name}_total counter")?;
        for device in &stats.devices {
            for (cpu, counts) in device.cpus.iter().enumerate() {
                let count = counts.get(counter);
                writeln!(out, "untorn_{name}_total{{dev=\"{}\",cpu=\"{cpu}\"}} {count}", Label(&device.dev))?;
            }
        }
    }
    type Of = fn(&QueueStats) -> u64;
    let of_queues: [(&str, &str, Of); 4] = [
        ("requests", "Consumers' requests answered", |queue| queue.requests),
        ("failed", "Consumers' requests answered with an error", |queue| queue.failed),
        ("interrupts", "Interrupts sent to drivers", |queue| queue.interrupts),
        ("rests", "Times that a queue ran empty", |queue| queue.rests),
    ];
    for (name, help, of) in of_queues {
        writeln!(out, "# HELP untorn_queue_{name}_total {help}.")?;
        writeln!(out, "# TYPE untorn_queue_{name}_total counter")?;
        for queue in &stats.queues {
            let (dev, QueueStats { export, queue: number, cpu, .. }) = (Label(&queue.dev), queue);
            let labels = format_args!("dev=\"{dev}\",export=\"{export}\",queue=\"{number}\",cpu=\"{cpu}\"");
            writeln!(out, "untorn_queue_{name}_total{{{labels}}} {}", of(queue))?;
        }
    }
    Ok(())
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
