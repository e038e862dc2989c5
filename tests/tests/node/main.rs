//! The node on a host: firmware tables and media in memory, threads for CPUs, commands as a person types them.

mod attention;
mod check;
mod config;
mod events;
mod export;
mod health;
mod jobs;
mod labels;
mod media_dump;
mod metrics;
mod namespaces;
mod network;
mod ranges;
mod sectors;

use fake_machine::Booted;

/// All findings of a check, and whether all of them are repaired.
fn checked(node: &mut Booted, options: &str) -> (usize, bool) {
    let check = node.done(&format!("check-namespace namespace0.0 {options}"));
    let findings = check["findings"].as_array().expect("a list").clone();
    let repaired = findings.iter().all(|finding| finding["repaired"] == true);
    assert_eq!(check["exit"] == 4, !repaired, "{check}");
    (findings.len(), repaired)
}
