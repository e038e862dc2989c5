//! The page for people, as it is without a script: tables of what is. A script adds plots of what happens.

use alloc::string::{String, ToString as _};
use core::fmt;

use crate::admin::commands::inventory::Health;
use crate::admin::figures::Bytes;
use crate::admin::reply::Reply as _;
use crate::latency::{Latencies, Time};
use crate::stats::{DeviceStats, Stats};

/// Writes the page.
///
/// # Errors
/// The writer's.
pub(super) fn write(stats: &Stats, health: &Health, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut verdict = String::new();
    health.text(&mut verdict)?;
    let mut verdict = verdict.lines();
    let state = verdict.next().unwrap_or_default();
    let title = if state == "ok" { "untorn" } else { "untorn: look at it" };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"/icon.svg\">\n<link rel=\"stylesheet\" href=\"/page.css\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
         <script src=\"/page.js\" defer></script>\n</head>\n<body>\n"
    )?;
    let machine = &stats.machine;
    writeln!(
        out,
        "<header>\n<h1>untorn</h1>\n<p id=\"since\">version {}, up for {}</p>\n<p id=\"silence\" role=\"status\"></p>\n</header>\n<main>",
        Html(&machine.version),
        Duration(machine.uptime_ns / 1_000_000_000)
    )?;
    // What the script replaces when it has changed.
    writeln!(out, "<div id=\"facts\">")?;
    writeln!(
        out,
        "<section aria-labelledby=\"health\">\n<h2 id=\"health\">Health</h2>\n<p class=\"verdict {0}\">{0}</p>",
        Html(state)
    )?;
    let mut findings = verdict.peekable();
    if findings.peek().is_some() {
        writeln!(out, "<ul class=\"findings\">")?;
        for finding in findings {
            writeln!(out, "<li>{}</li>", Html(finding))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</section>")?;
    disks(stats, out)?;
    namespaces(stats, out)?;
    users(stats, out)?;
    networks(stats, out)?;
    write!(
        out,
        "</div>\n</main>\n<footer><p>Read-only. <a href=\"/metrics\">/metrics</a> is for Prometheus, \
         <a href=\"/data.json\">/data.json</a> for programs.</p></footer>\n</body>\n</html>\n"
    )
}

/// Begins a section with a table, whose columns have these headings; a `>` before one: of numbers.
fn begin(out: &mut dyn fmt::Write, id: &str, heading: &str, columns: &[&str]) -> fmt::Result {
    write!(
        out,
        "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n<div class=\"table\" tabindex=\"0\" role=\"region\" \
         aria-labelledby=\"{id}\"><table>\n<thead><tr>"
    )?;
    for column in columns {
        match column.strip_prefix('>') {
            Some(number) => write!(out, "<th scope=\"col\" class=\"n\">{number}</th>")?,
            None => write!(out, "<th scope=\"col\">{column}</th>")?,
        }
    }
    writeln!(out, "</tr></thead>\n<tbody>")
}

fn end(out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

fn cell(out: &mut dyn fmt::Write, text: &str) -> fmt::Result {
    write!(out, "<td>{}</td>", Html(text))
}

fn number(out: &mut dyn fmt::Write, value: impl fmt::Display) -> fmt::Result {
    write!(out, "<td class=\"n\">{value}</td>")
}

fn disks(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    let columns =
        ["disk", "since it was opened", ">requests", ">failed", ">data", ">median", ">99 %", ">commits", ">collisions"];
    begin(out, "disks", "Disks", &columns)?;
    let time = |of: &Latencies, per_mille| {
        of.quantile_ns(per_mille).map_or("–".into(), |ns| Time(ns).to_string().replace("us", "\u{b5}s"))
    };
    for DeviceStats { dev, total, latency, sector_size, .. } in &stats.devices {
        let rows = [
            ("reads", total.reads, total.read_errors, total.sectors_read, &latency.read),
            ("writes", total.writes, total.write_errors, total.sectors_written, &latency.write),
        ];
        for (row, (name, requests, failed, sectors, latency)) in rows.into_iter().enumerate() {
            write!(out, "<tr>")?;
            if row == 0 {
                write!(out, "<th scope=\"rowgroup\" rowspan=\"2\">{}</th>", Html(dev))?;
            }
            cell(out, name)?;
            number(out, Grouped(requests))?;
            number(out, Grouped(failed))?;
            number(out, Bytes(sectors.wrapping_mul(u64::from(*sector_size))))?;
            number(out, time(latency, 500))?;
            number(out, time(latency, 990))?;
            if row == 1 {
                number(out, Grouped(total.commits))?;
                number(out, Grouped(total.collisions))?;
            } else {
                write!(out, "<td></td><td></td>")?;
            }
            writeln!(out, "</tr>")?;
        }
    }
    if stats.devices.is_empty() {
        writeln!(out, "<tr><td colspan=\"9\">no disk is open</td></tr>")?;
    }
    end(out)
}

fn namespaces(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    let columns = ["namespace", "disk", "mode", "state", ">size", ">arenas", ">read-only", ">lost"];
    begin(out, "namespaces", "Namespaces", &columns)?;
    for it in &stats.namespaces {
        write!(out, "<tr><th scope=\"row\">{}</th>", Html(&it.dev))?;
        cell(out, it.blockdev.as_deref().unwrap_or("–"))?;
        cell(out, &it.mode)?;
        write!(out, "<td class=\"state {0}\">{0}</td>", Html(&it.state))?;
        number(out, Bytes(it.size))?;
        number(out, it.arenas)?;
        number(out, it.read_only_arenas)?;
        number(out, Bytes(it.lost_bytes))?;
        writeln!(out, "</tr>")?;
    }
    if stats.namespaces.is_empty() {
        writeln!(out, "<tr><td colspan=\"8\">none</td></tr>")?;
    }
    end(out)
}

fn users(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    begin(out, "users", "Consumers and hosts", &["disk", "who", ">queues", ">requests", ">failed"])?;
    for it in &stats.consumers {
        let own = || stats.queues.iter().filter(|queue| queue.export == it.export);
        write!(out, "<tr><th scope=\"row\">{}</th>", Html(if it.dev.is_empty() { "(withdrawn)" } else { &it.dev }))?;
        write!(out, "<td>consumer, export {}</td>", it.export)?;
        number(out, it.queues)?;
        number(out, Grouped(own().map(|queue| queue.requests).sum()))?;
        number(out, Grouped(own().map(|queue| queue.failed).sum()))?;
        writeln!(out, "</tr>")?;
    }
    for export in &stats.nvme.exports {
        for host in &export.hosts {
            write!(out, "<tr><th scope=\"row\">{}</th>", Html(&export.dev))?;
            writeln!(out, "<td class=\"long\">{}</td><td></td><td></td><td></td></tr>", Html(host))?;
        }
    }
    if stats.consumers.is_empty() && stats.nvme.exports.iter().all(|export| export.hosts.is_empty()) {
        writeln!(out, "<tr><td colspan=\"5\">nobody</td></tr>")?;
    }
    let nvme = &stats.nvme;
    write!(
        out,
        "</tbody>\n</table></div>\n<p>NVMe/TCP: {} of {} connections; refused since boot: {} connections, {} hosts.</p>\n</section>\n",
        nvme.connections, nvme.connections_max, nvme.refused_connections, nvme.refused_hosts
    )
}

fn networks(stats: &Stats, out: &mut dyn fmt::Write) -> fmt::Result {
    begin(out, "network", "Network", &["interface", "link", ">received", ">sent", ">dropped"])?;
    for it in &stats.networks {
        write!(out, "<tr><th scope=\"row\">{}</th>", Html(&it.dev))?;
        let link = if it.up { "up" } else { "down" };
        write!(out, "<td class=\"state {link}\">{link}</td>")?;
        number(out, Bytes(it.rx.bytes))?;
        number(out, Bytes(it.tx.bytes))?;
        number(out, Grouped(it.rx.dropped + it.tx.dropped))?;
        writeln!(out, "</tr>")?;
    }
    end(out)
}

/// Text in a page, in an element or an attribute.
struct Html<'a>(&'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for next in self.0.chars() {
            match next {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => fmt::Write::write_char(f, next)?,
            }
        }
        Ok(())
    }
}

/// A count with a narrow blank between thousands.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str("\u{202f}")?;
            }
            fmt::Write::write_char(f, digit)?;
        }
        Ok(())
    }
}

/// Seconds in words: `3 d 04:05:06`.
struct Duration(u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400, self.0 % 86_400);
        if days > 0 {
            write!(f, "{days} d ")?;
        }
        write!(f, "{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_calls_itself_is_text() {
        let mut stats = Stats::default();
        let hosts = alloc::vec!["<script>alert('x')</script>&\"".to_string()];
        stats.nvme.exports.push(crate::stats::NvmeExportStats { dev: "pmem0s".into(), hosts });
        let mut page = String::new();
        write(&stats, &Health::default(), &mut page).expect("it is written");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn counts_and_times_are_easy_to_read() {
        assert_eq!(Grouped(1_234_567).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!((Grouped(12).to_string().as_str(), Grouped(123).to_string().as_str()), ("12", "123"));
        assert_eq!(
            (Duration(59).to_string().as_str(), Duration(90_061).to_string().as_str()),
            ("00:00:59", "1 d 01:01:01")
        );
    }
}
