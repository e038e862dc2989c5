//! What is measured, as tables of `docs/speed.md`: each stands between a line `<!-- NAME: … -->` and a line `<!-- end -->`.

use std::fmt::Write as _;

use crate::beside::{SECTORS, THREADS};
use crate::figure::{Figure, Point, Results};
use crate::image::{Attach, CPUS, Image, MIXES};

/// A ratio that is wanted: what is over what, in which mix, and the least that it may be.
struct Target {
    what: &'static str,
    mix: &'static str,
    over: Who,
    under: Who,
    /// For sectors of each of [`SECTORS`]; `None` is shown, but not judged.
    least: [Option<f64>; 2],
}

/// An engine, and its threads.
type Who = (&'static str, u32);

const ONE: &str = "untorn-run1";
const EIGHT: &str = "untorn-run8";
/// Where the platform writes its caches back when power fails.
const EADR: &str = "untorn-run1-eadr";
const SCATTERED: &str = "untorn-scatter8";
const PEER: &str = "libpmemblk";
/// The bytes of the format with two fences, without locks: a floor for writes; its reads are a look at the map and a copy.
const FLOOR: &str = "btt2f";
/// Eight of those that share three fences.
const SCATTERED_FLOOR: &str = "btt3f_b8";

const READ: &str = "randread";
const WRITE: &str = "randwrite";

const fn target(what: &'static str, mix: &'static str, over: Who, under: Who, least: [Option<f64>; 2]) -> Target {
    Target { what, mix, over, under, least }
}

#[rustfmt::skip] // a table
const TARGETS: [Target; 14] = [
    target("reads over libpmemblk's", READ, (ONE, 1), (PEER, 1), [Some(1.3), Some(1.1)]),
    target("reads over a look at the map and a copy", READ, (ONE, 1), (FLOOR, 1), [Some(0.8), None]),
    target("writes over libpmemblk's", WRITE, (ONE, 1), (PEER, 1), [Some(1.8), Some(1.75)]),
    target("writes over the floor of two fences", WRITE, (ONE, 1), (FLOOR, 1), [Some(0.87), Some(0.87)]),
    target("writes where caches survive over others", WRITE, (EADR, 1), (ONE, 1), [None, None]),
    target("8 scattered a commit over libpmemblk's single writes", WRITE, (SCATTERED, 1), (PEER, 1), [Some(6.0), Some(3.3)]),
    target("8 scattered a commit over their floor", WRITE, (SCATTERED, 1), (SCATTERED_FLOOR, 1), [Some(0.75), Some(0.75)]),
    target("runs of 8 over libpmemblk's single writes", WRITE, (EIGHT, 1), (PEER, 1), [Some(10.5), Some(4.7)]),
    target("70 % reads and 30 % writes over libpmemblk's", "rw7030", (ONE, 1), (PEER, 1), [Some(1.35), Some(1.25)]),
    target("writes of two threads over one's", WRITE, (ONE, 2), (ONE, 1), [Some(1.7), Some(1.7)]),
    target("the same of the floor", WRITE, (FLOOR, 2), (FLOOR, 1), [None, None]),
    target("reads of two threads over one's", READ, (ONE, 2), (ONE, 1), [Some(1.9), Some(1.9)]),
    target("the same of a look at the map and a copy", READ, (FLOOR, 2), (FLOOR, 1), [None, None]),
    target("reads of two threads over libpmemblk's", READ, (ONE, 2), (PEER, 2), [None, None]),
];

/// Each target's ratio, as far as it was measured.
pub(crate) fn ratios(results: &Results) -> Vec<(String, Option<f64>, Figure)> {
    let mut ratios = Vec::new();
    for Target { what, mix, over, under, least } in &TARGETS {
        for (sector, least) in SECTORS.into_iter().zip(least) {
            let point = |(engine, threads): Who| Point::new(engine, mix, sector, threads);
            if let Some(ratio) = results.ratio(&point(*over), &point(*under)) {
                ratios.push((format!("{what}, {sector} B"), *least, ratio));
            }
        }
    }
    ratios
}

/// The table of [`ratios`].
pub(crate) fn targets(results: &Results) -> String {
    let mut text = "| ratio | at least | measured | |\n|---|---|---|---|\n".to_owned();
    for (what, least, ratio) in ratios(results) {
        let (wanted, met) = match least {
            Some(least) => (least.to_string(), if ratio.median >= least { "yes" } else { "no" }),
            None => (String::new(), ""),
        };
        let _ = writeln!(text, "| {what} | {wanted} | {ratio:.2} | {met} |");
    }
    text
}

/// The mixes of the host's table, in its order.
const HOST_MIXES: [&str; 3] = ["randwrite", "randread", "rw7030"];

/// What a row and its bars are of: threads and a mix.
pub(crate) fn host_rows(results: &Results, mix: &str, sector: u32, threads: u32) -> Vec<(String, Figure)> {
    let row = |engine: &str| Some((engine.to_owned(), results.of(&Point::new(engine, mix, sector, threads))?));
    results.engines().into_iter().filter_map(row).collect()
}

/// Thousands of sectors for each second of CPU time.
pub(crate) fn host(results: &Results) -> String {
    let mut text = "| engine | threads |".to_owned();
    let columns = HOST_MIXES.iter().flat_map(|mix| SECTORS.map(|sector| (*mix, sector)));
    for (mix, sector) in columns.clone() {
        let _ = write!(text, " {mix} {sector} B |");
    }
    let _ = writeln!(text, "\n|{}", "---|".repeat(2 + columns.clone().count()));
    for engine in results.engines() {
        for threads in THREADS {
            let _ = write!(text, "| {engine} | {threads} |");
            for (mix, sector) in columns.clone() {
                let figure = results.of(&Point::new(engine, mix, sector, threads));
                let _ = write!(text, " {} |", figure.map(|figure| format!("{figure:.0}")).unwrap_or_default());
            }
            text.push('\n');
        }
    }
    text
}

/// The appliance beside a Linux: microseconds of an operation, and what they are made of.
pub(crate) fn image(image: &Image) -> String {
    let mut text =
        "| | sector | CPUs | untorn, us | of it copy | of it pattern | Linux, us | of it copy | ratio |\n".to_owned();
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for (mix, writes) in MIXES {
        for sector in SECTORS {
            for cpus in CPUS {
                let point = |engine| Point::new(engine, mix, sector, cpus);
                let (ours, theirs) = (point("untorn"), point("Linux nd_btt"));
                // Thousands a second of so many CPUs: an operation takes cpus / thousands ms.
                let us = |point| image.results.of(point).map(|it| f64::from(cpus) * 1e3 / it.median);
                let Some(ratio) = image.results.ratio(&ours, &theirs) else { continue };
                let (Some(ours), Some(theirs)) = (us(&ours), us(&theirs)) else { continue };
                let part = |name: &str| image.parts.get(&(name.to_owned(), sector)).map_or(f64::NAN, |ns| ns / 1e3);
                let [copy, their_copy, pattern] = if writes > 0 {
                    [part(&copy_of(image, "in")), part("word in"), part("pattern made")]
                } else {
                    [part(&copy_of(image, "out")), part("rep movsb"), part("pattern checked")]
                };
                let _ = writeln!(
                    text,
                    "| {} | {sector} | {cpus} | {ours:.2} | {copy:.2} | {pattern:.2} | {theirs:.2} | {their_copy:.2} | {ratio:.2} |",
                    if writes > 0 { "writes" } else { "reads" },
                );
            }
        }
    }
    text + &format!("\nThe appliance's choice, as its log has it: {}.\n", image.copies)
}

/// The part that is the appliance's copy in this direction.
fn copy_of(image: &Image, direction: &str) -> String {
    let name = ["avx", "sse2", "word"].into_iter().find(|name| image.copies.contains(&format!("{name} copies")));
    format!("{} {direction}", name.unwrap_or("no"))
}

/// How long it takes to attach, in the image and on the host (lines of `attach-bench` for one thread).
pub(crate) fn attach(image: &Image, host: &[String]) -> String {
    let mut text = "| | at most, us | measured, us | | memory, bytes |\n|---|---|---|---|---|\n".to_owned();
    for Attach { what, took_us, most_us } in &image.attach {
        let (wanted, met) = match most_us {
            Some(most) => (most.to_string(), if took_us.median <= *most { "yes" } else { "no" }),
            None => (String::new(), ""),
        };
        let _ = writeln!(text, "| in the image, {what} | {wanted} | {took_us:.0} | {met} | |");
    }
    for line in host {
        let fields: Vec<&str> = line.trim().split(',').collect();
        if let [mib, _, threads, arenas, _, median, least, most, memory] = fields[..] {
            let _ = writeln!(
                text,
                "| on the host, {mib} MiB in {arenas} arenas, {threads} thread | | {median} ({least}-{most}) | | {memory} |"
            );
        }
    }
    text
}

/// Puts a text into its place in the page.
///
/// # Errors
/// The page has no such place.
pub(crate) fn put(page: &mut String, name: &str, text: &str) -> Result<(), String> {
    let missing = || format!("docs/speed.md has no place `<!-- {name}: … -->` with an end");
    let from = page.find(&format!("<!-- {name}:")).ok_or_else(missing)?;
    let start = from + page[from..].find('\n').ok_or_else(missing)? + 1;
    let end = start + page[start..].find("<!-- end -->").ok_or_else(missing)?;
    page.replace_range(start..end, &format!("\n{}\n\n", text.trim_end()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_the_page_gets_its_text_and_the_rest_stays() {
        let mut page = "# A\n<!-- one: x -->\nold\n<!-- end -->\nb\n<!-- two: x -->\n<!-- end -->\nc\n".to_owned();
        put(&mut page, "two", "2").expect("it has a place");
        put(&mut page, "one", "1\n").expect("it has a place");
        let wanted = "# A\n<!-- one: x -->\n\n1\n\n<!-- end -->\nb\n<!-- two: x -->\n\n2\n\n<!-- end -->\nc\n";
        assert_eq!(page, wanted);
        assert!(put(&mut page, "three", "3").is_err());
    }

    #[test]
    fn a_target_is_met_by_the_median() {
        let mut results = Results::default();
        for (round, ours) in [150.0, 120.0, 160.0].into_iter().enumerate() {
            results.add(Point::new(ONE, "randread", 512, 1), round, ours);
            results.add(Point::new(PEER, "randread", 512, 1), round, 100.0);
            results.add(Point::new(ONE, "randread", 4096, 1), round, ours);
            results.add(Point::new(PEER, "randread", 4096, 1), round, 140.0);
        }
        let table = targets(&results);
        assert!(table.contains("| reads over libpmemblk's, 512 B | 1.3 | 1.50 (1.20-1.60) | yes |"), "{table}");
        assert!(table.contains("| reads over libpmemblk's, 4096 B | 1.1 | 1.07 (0.86-1.14) | no |"), "{table}");
        assert_eq!(table.lines().count(), 4, "what was not measured is not shown: {table}");
    }
}
