//! A strict reader of Prometheus's text format, version 0.0.4: what it accepts, every scraper does.
//!
//! It refuses what the format forbids, what scrapers disagree about (blank lines, comments, timestamps, families in parts), and
//! names that are not as Prometheus's conventions have them.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A family of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its type: `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it is, in a sentence.
    pub help: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name: the family's, or that of a part of a histogram.
    pub name: String,
    /// Its labels, in their order.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// Its labels but for this one.
    fn labels_without(&self, name: &str) -> Vec<(String, String)> {
        self.labels.iter().filter(|(label, _)| label != name).cloned().collect()
    }
}

/// Returns what is wrong with a text that names metrics, such as a dashboard, for one who scrapes these: names that there are
/// not, and labels in braces or behind `by` that none of its metrics has.
#[must_use]
pub fn unknown_in(text: &str, families: &[Family]) -> Vec<String> {
    let samples = || families.iter().flat_map(|family| &family.samples);
    let is_word = |next: char| next.is_ascii_alphanumeric() || next == '_';
    let words = |text: &str| text.split(move |next| !is_word(next)).map(ToOwned::to_owned).collect::<Vec<_>>();
    let names: Vec<String> = words(text).into_iter().filter(|word| word.starts_with("untorn_")).collect();
    let mut unknown: Vec<String> =
        names.iter().filter(|name| !samples().any(|sample| sample.name == **name)).cloned().collect();
    // A scraper adds `instance`.
    let mut check = |labels: Vec<String>| {
        let has = |label: &str| {
            label == "instance"
                || samples().any(|it| names.contains(&it.name) && it.labels.iter().any(|(own, _)| own == label))
        };
        unknown.extend(labels.into_iter().filter(|label| !label.is_empty() && !has(label)));
    };
    for part in text.split("by (").skip(1) {
        check(words(part.split(')').next().unwrap_or_default()));
    }
    for part in text.split('{').skip(1) {
        let inner = part.split('}').next().unwrap_or_default();
        let label = |condition: &str| words(condition.split(['=', '!']).next().unwrap_or_default()).join("");
        check(inner.split(',').filter(|condition| condition.contains('=')).map(label).collect());
    }
    unknown
}

/// Reads a page.
///
/// # Errors
/// The first line that is not as it must be, and why.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut help: Option<(String, String)> = None;
    let mut series = BTreeSet::new();
    let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
    for (number, line) in (1..).zip(body.split('\n')) {
        let wrong = |why: &str| format!("line {number}: {why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or_else(|| wrong("no text"))?;
            if help.is_some() || families.iter().any(|family| family.name == name) {
                return Err(wrong("a family twice, or without its TYPE"));
            }
            if !text.ends_with('.') || text.contains('\\') || text.trim() != text {
                return Err(wrong("the text is no plain sentence"));
            }
            help = Some((name.to_owned(), text.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            let (named, text) = help.take().ok_or_else(|| wrong("no HELP before it"))?;
            if named != name {
                return Err(wrong("the HELP before it is another family's"));
            }
            name_fault(name, kind).map_or(Ok(()), |why| Err(wrong(why)))?;
            families.push(Family { name: name.to_owned(), kind: kind.to_owned(), help: text, samples: Vec::new() });
        } else {
            if help.is_some() {
                return Err(wrong("a HELP without its TYPE"));
            }
            let family = families.last_mut().ok_or_else(|| wrong("no family"))?;
            let sample = sample(line).map_err(|why| wrong(&why))?;
            let part = sample.name.strip_prefix(family.name.as_str());
            match (family.kind.as_str(), part) {
                ("counter" | "gauge", Some("")) | ("histogram", Some("_bucket" | "_sum" | "_count")) => {}
                _ => return Err(wrong("not of the family above")),
            }
            if family.kind != "gauge" && !(sample.value >= 0.0 && sample.value.is_finite()) {
                return Err(wrong("a count that is none"));
            }
            let mut labels = sample.labels.clone();
            labels.sort();
            if !series.insert((sample.name.clone(), labels)) {
                return Err(wrong("a sample twice"));
            }
            family.samples.push(sample);
        }
    }
    if help.is_some() {
        return Err("the last HELP has no TYPE".to_string());
    }
    families.iter().filter(|family| family.kind == "histogram").try_for_each(histogram)?;
    Ok(families)
}

/// What is wrong with the name of a family of this type.
fn name_fault(name: &str, kind: &str) -> Option<&'static str> {
    // What a base unit must be instead of.
    const OTHER_UNITS: [&str; 9] =
        ["milliseconds", "microseconds", "nanoseconds", "ms", "us", "ns", "kilobytes", "kib", "percent"];
    if !is_name(name) {
        return Some("no name of a metric");
    }
    if name.split('_').any(|word| OTHER_UNITS.contains(&word)) {
        return Some("not in a base unit");
    }
    match (kind, name.ends_with("_total")) {
        ("counter", true) | ("gauge" | "histogram", false) => {}
        ("counter", false) => return Some("a counter's name ends in _total"),
        ("gauge" | "histogram", true) => return Some("only a counter's name ends in _total"),
        _ => return Some("no type that is used here"),
    }
    let of_part = ["_bucket", "_sum", "_count"].into_iter().any(|part| name.ends_with(part));
    of_part.then_some("the name of a histogram's part")
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    first && chars.all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '_')
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("no name of a metric".to_string());
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label) || label.starts_with("__") || labels.iter().any(|(other, _)| other == label) {
                return Err(format!("the label {label}"));
            }
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').ok_or("labels without an end")?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let plain = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e' | b'+'));
    let value = value.parse().ok().filter(|_| plain).ok_or("no number")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Reads a label's value up to its closing quote; and what is behind that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, '\\')) => '\\',
                Some((_, '"')) => '"',
                Some((_, 'n')) => '\n',
                _ => return Err("an escape that there is not".to_string()),
            }),
            other => value.push(other),
        }
    }
    Err("a label's value without an end".to_string())
}

/// Buckets rise, the last one has all, and each series has a sum and a count.
fn histogram(family: &Family) -> Result<(), String> {
    let Family { name, samples, .. } = family;
    let of = |part: &str| samples.iter().filter(move |sample| sample.name[name.len()..] == *part).collect::<Vec<_>>();
    let buckets = of("_bucket");
    for count in of("_count") {
        let wrong = |why: &str| format!("{name}: {why}: {:?}", count.labels);
        let own: Vec<_> = buckets.iter().filter(|bucket| bucket.labels_without("le") == count.labels).collect();
        let (mut last_bound, mut last) = (f64::NEG_INFINITY, 0.0);
        for bucket in &own {
            let bound = match bucket.label("le").ok_or_else(|| wrong("a bucket without le"))? {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().map_err(|_| wrong("a bound that is no number"))?,
            };
            if bound <= last_bound || bucket.value < last {
                return Err(wrong("buckets that do not rise"));
            }
            (last_bound, last) = (bound, bucket.value);
        }
        if last_bound != f64::INFINITY || last.total_cmp(&count.value).is_ne() {
            return Err(wrong("the last bucket has not all"));
        }
        if of("_sum").iter().filter(|sum| sum.labels == count.labels).count() != 1 {
            return Err(wrong("no sum"));
        }
    }
    let series: BTreeSet<_> = buckets.iter().map(|bucket| bucket.labels_without("le")).collect();
    if series.len() != of("_count").len() { Err(format!("{name}: buckets without a count")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_what_scrapers_do() {
        let sound =
            "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 3\na_total{x=\"2\"} 0.5\n";
        let read = parse(sound).expect("sound");
        assert_eq!((read.len(), read[0].samples[0].label("y")), (1, Some("q\"\\\n")));
        for (from, to) in [
            ("3\n", "3"),
            ("3\n", "3\n\n"),
            ("3\n", "3 1700000000\n"),
            ("3\n", "three\n"),
            ("3\n", "-3\n"),
            ("3\n", "NaN\n"),
            ("} 3", "}3"),
            ("x=\"2\"", "x=\"1\",y=\"q\\\"\\\\\\n\""),
            ("x=\"2\"", "x=\"2\","),
            ("x=\"2\"", "x=\"2\",x=\"3\""),
            ("x=\"2\"", "__x=\"2\""),
            ("x=\"2\"", "x=\"\\t\""),
            ("x=\"2\"", "x=2"),
            ("a_total{x=\"2\"}", "b_total{x=\"2\"}"),
            ("a_total", "a_milliseconds_total"),
            ("a_total", "a"),
            ("counter", "gauge"),
            ("counter", "untyped"),
            ("# TYPE a_total counter\n", ""),
            ("# HELP a_total A.\n", ""),
            ("A.", ""),
            ("0.5\n", "0.5\n# HELP a_total A.\n# TYPE a_total counter\n"),
            ("0.5\n", "0.5\n# HELP b_total B.\n"),
            ("0.5\n", "0.5\n# a remark\n"),
        ] {
            let broken = if to == "3" { sound[..sound.len() - 1].to_owned() } else { sound.replace(from, to) };
            assert!(parse(&broken).is_err(), "{from} {to}: {broken}");
        }
    }

    #[test]
    fn it_refuses_histograms_that_are_none() {
        let sound = "# HELP h_seconds H.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 3\nh_seconds_count 2\n";
        assert!(parse(sound).is_ok());
        for (from, to) in [
            ("} 1", "} 3"),
            ("0.1", "+Inf"),
            ("+Inf", "0.2"),
            ("count 2", "count 3"),
            ("h_seconds_sum 3\n", ""),
            ("h_seconds_count 2\n", ""),
            ("le=\"0.1\"", "op=\"x\""),
            ("h_seconds_sum 3", "h_seconds 3"),
        ] {
            assert!(parse(&sound.replace(from, to)).is_err(), "{from} {to}");
        }
    }
}
